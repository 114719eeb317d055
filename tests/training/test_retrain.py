"""`samediff retrain` for cron: nothing new, nothing done; a rollback stands, a lost log is noticed."""

import shutil

import pytest
from registry_place import command, make_place, runs
from test_dataset import fill
from test_pipeline import two_models

from models.bundle import Bundle
from models.store import Store
from training.log import LogStore

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own libraries deprecate each other


@pytest.fixture(scope="module")
def place(tmp_path_factory, mlflow_tables):
    return make_place(tmp_path_factory.mktemp("retrain"), mlflow_tables)


@pytest.fixture
def run(monkeypatch, capsys):
    return command(monkeypatch, capsys)


def test_nothing_is_done_twice(place, run):
    words = ("retrain", "log", "--out", "again", "--store", "nightly", "--promote")
    code, first, _, err = run(place, *words)
    assert (code, err) == (0, "")
    assert first["promoted"] == Bundle.load(place / "again").digest
    before = runs(place)
    code, second, shown, _ = run(place, *words)
    assert (code, second["training"], second["promoted"], second["failed_gates"]) == (0, None, None, [])
    assert "nothing new" in shown
    assert second["data_digest"] == first["data_digest"]
    assert runs(place) == before
    pointer = Store(str(place / "nightly")).pointer()
    assert (pointer.digest, pointer.before) == (first["promoted"], [])


def test_nothing_is_done_twice_after_a_failed_gate_either(place, run):
    code, first, _, _ = run(place, "retrain", "turned", "--out", "failing", "--store", "s", "--promote")
    assert (code, first["training"]["report"]["digest"], first["promoted"]) == (1, None, None)
    before = runs(place)
    code, second, shown, _ = run(place, "retrain", "turned", "--out", "failing", "--store", "s", "--promote")
    assert (code, second["training"], second["failed_gates"]) == (1, None, ["calibration"])
    assert "nothing new since the last training, which wrote no bundle (failed: calibration)" in shown
    assert runs(place) == before
    assert not (place / "s").exists()


def test_new_rows_are_learned_from_and_a_rollback_stands(place, tmp_path, run):
    shutil.copytree(place / "log", tmp_path / "log")
    words = ("retrain", "log", "--out", "b", "--no-mlflow", "--store", "s")
    assert run(tmp_path, *words)[1]["promoted"] is None
    code, made_up, _, _ = run(tmp_path, *words, "--promote")  # as after a kill before the promotion
    assert (code, made_up["training"]) == (0, None)
    one = made_up["promoted"]
    assert one == Bundle.load(tmp_path / "b").digest
    shutil.rmtree(tmp_path / "log")
    shutil.copytree(place / "other", tmp_path / "log")
    two = run(tmp_path, *words, "--promote")[1]["promoted"]
    assert two not in (None, one)
    assert run(tmp_path, "rollback", "--store", "s", "--no-mlflow")[1]["digest"] == one
    code, after, _, _ = run(tmp_path, *words, "--promote")
    assert (code, after["promoted"]) == (0, None)
    assert Store(str(tmp_path / "s")).pointer().digest == one
    assert run(tmp_path, "promote", "--store", "s", "--bundle", "b", "--no-mlflow")[1]["digest"] == two


def test_a_lost_log_takes_nobody_s_place(place, tmp_path, run):
    shutil.copytree(place / "log", tmp_path / "log")
    words = ("retrain", "log", "--out", "b", "--no-mlflow")
    assert run(tmp_path, *words)[0] == 0
    digest = Bundle.load(tmp_path / "b").digest
    shutil.rmtree(tmp_path / "log")
    code, _, _, err = run(tmp_path, *words)
    assert (code, err) == (2, "samediff: log: no such log; name its sources with --from\n")
    fill(LogStore(tmp_path / "log"), two_models(40))
    code, _, _, err = run(tmp_path, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert "log: 40 requests, and the bundle at b learned from 120: was the log lost?" in err
    code, _, _, err = run(tmp_path, *words, "--from", "vanished.jsonl")
    assert (code, err.count("\n")) == (2, 1)
    assert "vanished.jsonl" in err
    assert Bundle.load(tmp_path / "b").digest == digest
