"""Train, promote, roll back, retrain on a real MLflow store; nothing is ever half-registered."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_dataset import fill
from test_pipeline import two_models

import samediff
from features.errors import BadInput
from features.files import held_alone
from models.bundle import Bundle
from models.store import Store
from training.log import LogStore
from training.pipeline import STEPS
from training.registry import Registry

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own libraries deprecate each other


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a log and an MLflow store whose tables exist: making them takes seconds."""
    folder = tmp_path_factory.mktemp("registry")
    fill(LogStore(folder / "log"), two_models(300))
    fill(LogStore(folder / "other"), two_models(300, seed=3))
    rows = two_models(400, seed=1, best=0.95) + two_models(300, seed=2, best=0.05)
    fill(LogStore(folder / "turned"), [{**row, "task_id": f"t{i}"} for i, row in enumerate(rows)])
    return folder


def start(place, *words, **environ):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "SAMEDIFF"))}
    return subprocess.Popen(
        [sys.executable, ROOT / "samediff.py", *map(str, words)],
        cwd=place,
        env={**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def run(monkeypatch, capsys):
    """A command in this process, which has MLflow imported: its exit code, JSON, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(place, *words, **environ):
        for name in [name for name in os.environ if name.startswith(("MLFLOW_TRACKING", "SAMEDIFF"))]:
            monkeypatch.delenv(name)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        file = place / "out.json"
        file.unlink(missing_ok=True)
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["samediff", *map(str, words), "--json", "out.json"])
        code = 0
        try:
            samediff.main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return code, json.loads(file.read_text()) if file.exists() else None, out, err

    return command


def registry(place):
    return Registry(f"sqlite:///{place}/mlflow.db")


def test_the_whole_way(place, run):
    code, first, shown, err = run(place, "train", "log", "--out", "one")
    assert (code, err) == (0, "")
    assert first["recorded"]["version"] == "1"
    assert "version 1 is the challenger" in shown
    assert [gate["passed"] for gate in first["gates"]] == [True] * 7
    assert run(place, "train", "other", "--out", "two")[1]["recorded"]["version"] == "2"
    one, two = (Bundle.load(place / name).digest for name in ("one", "two"))

    code, result, _, err = run(place, "promote", "--store", "store", "--version", "1")
    assert (code, err, result["digest"], result["version"]) == (0, "", one, "1")
    assert run(place, "promote", "--store", "store")[1]["digest"] == two
    assert registry(place).version("champion").digest == two
    assert Store(str(place / "store")).pointer().digest == two
    code, result, _, _ = run(place, "rollback", "--store", "store")
    assert (code, result["digest"], result["before"], result["version"]) == (0, one, None, "1")
    assert registry(place).version("champion").number == "1"
    code, _, _, err = run(place, "rollback", "--store", "store")
    assert (code, err.count("\n")) == (2, 1)
    assert "nowhere to roll back to" in err
    _the_run_says_how_it_came_to_be(place, first["recorded"]["run_id"], first)
    _the_model_predicts_what_the_bundle_does(place, one)


def _the_run_says_how_it_came_to_be(place, run_id, report):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
    found = mlflow.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["data_digest"]
    assert found.data.metrics["learned_ece"] == report["held_out"]["success"]["ece"]
    assert found.data.metrics["log_loss_minus_table_high"] >= found.data.metrics["log_loss_minus_table"]
    assert found.data.params["folds"] == "5"
    children = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.mlflow.parentRunId = '{run_id}'",
        output_format="list",
    )
    assert {child.info.run_name for child in children} == {*(name for name, _ in STEPS), "register"}
    assert {child.info.status for child in children} == {"FINISHED"}


def _the_model_predicts_what_the_bundle_does(place, digest):
    import mlflow

    from models.bundle import CandidateView

    model = mlflow.pyfunc.load_model("models:/samediff@champion")
    bundle = Bundle.load(Store(str(place / "store")).fetch(digest))
    rows = np.random.default_rng(0).normal(size=(3, bundle.manifest.n_features)).astype(np.float32)
    views = [CandidateView(name, None, None) for name in bundle.profiles]
    own = [bundle.predict(row[None, :], views).p_success for row in rows]
    assert model.predict(rows) == pytest.approx(np.stack(own))


def test_a_failed_gate_is_a_run_without_a_version(place, run):
    before = registry(place).version("challenger")
    code, result, shown, _ = run(place, "train", "turned", "--out", "failed")
    assert (code, result["digest"], result["recorded"]["version"]) == (1, None, None)
    assert result["recorded"]["run_id"]
    assert "no version, since a gate failed" in shown
    assert not (place / "failed").exists()
    assert registry(place).version("challenger") == before


def test_retrain_does_nothing_twice(place, run):
    words = ("retrain", "log", "--out", "again", "--store", "nightly", "--promote")
    code, first, _, err = run(place, *words)
    assert (code, err) == (0, "")
    assert first["promoted"] == Bundle.load(place / "again").digest
    code, second, shown, _ = run(place, *words)
    assert (code, second["training"], second["promoted"]) == (0, None, None)
    assert "nothing new" in shown
    assert second["data_digest"] == first["data_digest"]
    pointer = Store(str(place / "nightly")).pointer()
    assert (pointer.digest, pointer.before) == (first["promoted"], [])


def test_without_mlflow_a_bundle_is_all_that_is_written(place, tmp_path, run):
    fill(LogStore(tmp_path / "log"), two_models(300))
    code, result, shown, _ = run(tmp_path, "train", "log", "--out", "bundle", "--no-mlflow")
    assert (code, result["recorded"]["run_id"]) == (0, None)
    assert "no run was recorded (--no-mlflow)" in shown
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "log", "out.json"]
    code, result, _, _ = run(tmp_path, "promote", "--store", "s", "--bundle", "bundle", "--no-mlflow")
    assert (code, result["digest"]) == (0, Bundle.load(tmp_path / "bundle").digest)
    code, _, _, err = run(tmp_path, "promote", "--store", "s", "--no-mlflow")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_registry_that_is_down_is_one_line_before_any_work(place, uri, run):
    code, _, _, err = run(place, "train", "log", "--out", "never", MLFLOW_TRACKING_URI=uri)
    assert (code, err.count("\n")) == (2, 1), err
    assert "Traceback" not in err
    assert not (place / "never").exists()


def test_two_trainings_at_once_both_succeed(tmp_path):
    fill(LogStore(tmp_path / "log"), two_models(200))
    both = [start(tmp_path, "train", "log", "--out", name) for name in ("a", "b")]
    ends = [(p.communicate(timeout=240)[1], p.returncode) for p in both]
    assert ends == [("", 0)] * 2
    assert registry(tmp_path).version("2") is not None
    assert registry(tmp_path).version("challenger").number == "2"


def test_a_kill_in_the_middle_registers_nothing(place):
    before = registry(place).version("challenger")
    running = start(place, "train", "other", "--out", "killed")
    time.sleep(2.5)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    after = registry(place).version("challenger")
    assert after == before or (place / "killed").exists()  # either nothing or all of it
    assert [p.name for p in place.iterdir() if p.name.startswith("killed") and p.name != "killed"] == []


def test_of_two_trainings_of_one_bundle_the_second_is_told_so(place, run):
    with held_alone(place / ".one.lock"):
        code, _, _, err = run(place, "train", "log", "--out", "one", "--no-mlflow")
    assert (code, err) == (2, "samediff: one: another training is making this bundle; wait for it to end\n")
    with held_alone(place / "log.retrain.lock"):
        code, _, _, err = run(place, "retrain", "log", "--out", "again")
    assert (code, err.count("\n")) == (2, 1)
    assert "another `samediff retrain` is on this log" in err


def test_a_full_disk_in_the_middle_is_one_line_and_leaves_what_was_there(place, run):
    run(place, "train", "log", "--out", "kept")
    before = Bundle.load(place / "kept").digest, registry(place).version("challenger")
    files = sorted(p.name for p in place.iterdir())
    full = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000));"
        "sys.argv = ['samediff', 'train', 'other', '--out', 'kept']; import samediff; samediff.main()"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", full], cwd=place, env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "can't be written" in done.stderr
    assert (Bundle.load(place / "kept").digest, registry(place).version("challenger")) == before
    assert sorted(p.name for p in place.iterdir()) == files


def test_artifacts_that_cannot_be_written_register_nothing(tmp_path, run):
    fill(LogStore(tmp_path / "log"), two_models(200))
    (tmp_path / "mlartifacts").write_text("a file where a folder should be")
    code, _, _, err = run(tmp_path, "train", "log", "--out", "bundle")
    assert (code, err.count("\n")) == (2, 1), err
    assert registry(tmp_path).version("challenger") is None


def test_a_store_must_be_named(place, run):
    code, _, _, err = run(place, "promote")
    assert (code, err.count("\n")) == (2, 1)
    assert "--store" in err


def test_a_password_is_never_shown():
    from training.registry import _shown

    assert "secret" not in _shown("postgresql://user:secret@host/db")
    with pytest.raises(BadInput) as caught:
        Registry("postgresql://user:secret@127.0.0.1:9/db")
    assert "secret" not in str(caught.value)
