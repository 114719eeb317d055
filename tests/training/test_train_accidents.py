"""Kills, full disks, registries that are down: one line, nothing half-registered, nothing runs for ever."""

import resource
import socket
import time
from contextlib import contextmanager

import pytest
from registry_place import command, make_place, registry, runs, start

from features.files import held_alone
from models.bundle import Bundle

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own libraries deprecate each other


@pytest.fixture(scope="module")
def place(tmp_path_factory, mlflow_tables):
    return make_place(tmp_path_factory.mktemp("accidents"), mlflow_tables)


@pytest.fixture
def run(monkeypatch, capsys):
    return command(monkeypatch, capsys)


def scratch(place):
    return [p.name for p in place.iterdir() if p.name.endswith(".samediff-tmp")]


def test_a_killed_training_registers_nothing_and_the_next_one_ends_its_run(place, run):
    dying = start(place, "train", "other", "--out", "killed")
    deadline = time.monotonic() + 120
    while ("fit and calibrate", "RUNNING") not in runs(place) and time.monotonic() < deadline:
        time.sleep(0.01)
    dying.kill()
    dying.communicate()
    assert [status for _, status in runs(place)].count("RUNNING") == 2  # the training, and its step
    assert len(scratch(place)) == 1
    assert (registry(place).version("challenger"), (place / "killed").exists()) == (None, False)
    code, result, _, err = run(place, "train", "other", "--out", "killed")
    assert (code, err, result["recorded"]["version"]) == (0, "", "1")
    assert [status for _, status in runs(place)].count("RUNNING") == 0
    assert [name for name, status in runs(place) if status == "KILLED"] == ["killed", "fit and calibrate"]
    assert scratch(place) == []


def test_a_kill_between_version_and_alias_leaves_the_old_challenger_and_is_made_up_for(place, run):
    before = registry(place).version("challenger")
    kill = (
        "import os, training.registry, mlflow\n"
        "mlflow.MlflowClient.set_registered_model_alias = lambda *_: os.kill(os.getpid(), 9)"
    )
    dying = start(place, "train", "log", "--out", "late", before=kill)
    dying.communicate()
    assert dying.returncode == -9
    digest = Bundle.load(place / "late").digest
    assert registry(place).version("challenger") == before
    orphan = registry(place).of_digest(digest)
    assert Bundle.load(registry(place).bundle(orphan)).digest == digest  # what is registered is whole
    code, result, _, err = run(place, "retrain", "log", "--out", "late")
    assert (code, err) == (0, "")
    assert registry(place).version("challenger").number == result["training"]["recorded"]["version"]
    assert registry(place).version("challenger").digest == digest


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_registry_that_is_down_is_one_line_before_any_work(place, uri, run):
    code, _, _, err = run(place, "train", "log", "--out", "never", MLFLOW_TRACKING_URI=uri)
    assert (code, err.count("\n")) == (2, 1), err
    assert "Traceback" not in err
    assert not (place / "never").exists()


def test_a_registry_that_never_answers_is_waited_for_so_long_and_no_longer(place, run, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code, _, _, err = run(place, "train", "log", "--out", "never", MLFLOW_TRACKING_URI=uri)
    assert (code, err.count("\n")) == (2, 1), err
    assert "or use --no-mlflow" in err


def test_mlflow_is_told_to_wait_a_minute_and_to_leave_stdout_alone(monkeypatch, place):
    for name in ("TIMEOUT", "MAX_RETRIES"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}", raising=False)
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES as TIMES
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT as SECONDS
    from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT as SILENT

    registry(place)
    assert SECONDS.get() * (1 + TIMES.get()) <= 60
    assert SILENT.get()


@contextmanager
def a_disk_of(size):
    """No file gets larger than so many bytes: what a full disk does, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_in_the_middle_is_one_line_and_leaves_what_was_there(place, run):
    run(place, "train", "log", "--out", "kept")
    before = Bundle.load(place / "kept").digest, registry(place).version("challenger")
    files = sorted(p.name for p in place.iterdir() if p.name != "out.json")
    with a_disk_of(3_000_000):
        code, _, _, err = run(place, "train", "other", "--out", "kept")
    assert (code, err.count("\n")) == (2, 1), err
    assert "kept: can't be written" in err
    assert (Bundle.load(place / "kept").digest, registry(place).version("challenger")) == before
    assert sorted(p.name for p in place.iterdir() if p.name != "out.json") == files
    assert runs(place)[-1][1] == "FAILED"


def test_artifacts_that_cannot_be_written_register_nothing(tmp_path, mlflow_tables, run):
    place = make_place(tmp_path / "place", mlflow_tables)
    (place / "mlartifacts").write_text("a file where a folder should be")
    code, _, _, err = run(place, "train", "log", "--out", "bundle")
    assert (code, err.count("\n")) == (2, 1), err
    assert registry(place).version("challenger") is None


def test_of_two_trainings_of_one_bundle_the_second_is_told_so(place, run):
    with held_alone(place / ".one.lock"):
        code, _, _, err = run(place, "train", "log", "--out", "one", "--no-mlflow")
    assert (code, err) == (2, "samediff: one: another training is making this bundle; wait for it to end\n")
    with held_alone(place / "log.retrain.lock"):
        code, _, _, err = run(place, "retrain", "log", "--out", "again")
    assert (code, err.count("\n")) == (2, 1)
    assert "another `samediff retrain` is on this log" in err
