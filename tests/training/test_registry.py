"""Train, promote and roll back on a real MLflow store: the record says how a bundle came to be."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from registry_place import command, make_place, registry, start

from features.errors import BadInput
from models.bundle import Bundle
from models.prior import PRIOR
from models.store import Store
from router.gateway.settings import Settings
from training.lifecycle import _promotion
from training.pipeline import STEPS
from training.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own libraries deprecate each other


@pytest.fixture(scope="module")
def place(tmp_path_factory, mlflow_tables):
    return make_place(tmp_path_factory.mktemp("registry"), mlflow_tables)


@pytest.fixture
def run(monkeypatch, capsys):
    return command(monkeypatch, capsys)


def test_the_whole_way(place, run):
    code, first, shown, err = run(place, "train", "log", "--out", "one")
    assert (code, err) == (0, "")
    assert first["recorded"]["version"] == "1"
    assert "version 1 is the challenger; to put it in force:\n    samediff promote --store store\n" in shown
    assert [gate["passed"] for gate in first["gates"]] == [True] * 8
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
    _the_versions_say_when_they_were_in_force()
    _the_model_predicts_what_the_bundle_does(place, one)


def _the_run_says_how_it_came_to_be(place, run_id, report):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
    found = mlflow.get_run(run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "one")
    held, metrics = report["held_out"], found.data.metrics
    assert metrics["learned_ece"] == held["success"]["ece"]
    for score in ("learned_ece", "learned_log_loss", "learned_auc", "table_brier", "log_loss_minus_table"):
        assert metrics[f"{score}_low"] <= metrics[score] <= metrics[f"{score}_high"]
    assert {"log_loss_minus_pin", "ece_by_chance", "parity_max_abs_dp", "gate calibration"} <= metrics.keys()
    params, tags = found.data.params, found.data.tags
    assert (params["folds"], params["seed"], params["held_out_groups"]) == ("5", "0", str(held["groups"]))
    assert (tags["gates"], tags["feature_hash"]) == ("passed", Bundle.load(place / "one").feature_hash)
    assert "- pass calibration: ECE" in tags["mlflow.note.content"]
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("log", tags["data_digest"])
    assert {a.path for a in mlflow.MlflowClient().list_artifacts(run_id)} == {
        "report.json",
        "calibration.html",
    }
    children = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.mlflow.parentRunId = '{run_id}'",
        output_format="list",
    )
    assert {child.info.run_name for child in children} == {*(name for name, _ in STEPS), "register"}
    assert {child.info.status for child in children} == {"FINISHED"}


def _the_versions_say_when_they_were_in_force():
    import mlflow

    one, two = (mlflow.MlflowClient().get_model_version("samediff", number).tags for number in "12")
    assert "in_force_since" in one
    assert "in_force_until" not in one
    assert two["in_force_until"] == one["in_force_since"]


def _the_model_predicts_what_the_bundle_does(place, digest):
    import mlflow

    from models.bundle import CandidateView

    model = mlflow.pyfunc.load_model("models:/samediff@champion")
    bundle = Bundle.load(Store(str(place / "store")).fetch(digest))
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, bundle.manifest.n_features)
    rows = np.random.default_rng(0).normal(size=(3, bundle.manifest.n_features)).astype(np.float32)
    views = [CandidateView(name, None, None) for name in bundle.profiles]
    own = [bundle.predict(row[None, :], views).p_success for row in rows]
    assert model.predict(rows) == pytest.approx(np.stack(own))
    with pytest.raises(Exception, match=r"shape"):
        model.predict(rows[:, 1:])


def test_a_failed_gate_is_a_run_without_a_version(place, run):
    before = registry(place).version("challenger")
    code, result, shown, _ = run(place, "train", "turned", "--out", "failed")
    assert (code, result["digest"], result["recorded"]["version"]) == (1, None, None)
    assert result["recorded"]["run_id"]
    assert "no version, since a gate failed" in shown
    assert not (place / "failed").exists()
    assert registry(place).version("challenger") == before


def test_a_bundle_that_mlflow_does_not_know_is_nobody_s_champion(place, run):
    run(place, "train", "other", "--out", "known")
    run(place, "promote", "--store", "mixed")
    assert registry(place).version("champion") is not None
    code, result, shown, _ = run(place, "promote", "--store", "mixed", "--bundle", PRIOR)
    assert (code, result["version"]) == (0, None)
    assert "no version of MLflow's, so nothing is champion there" in shown
    assert registry(place).version("champion") is None


def test_without_mlflow_a_bundle_is_all_that_is_written(place, tmp_path, run):
    (tmp_path / "log").symlink_to(place / "log")
    code, result, shown, _ = run(tmp_path, "train", "log", "--out", "bundle", "--no-mlflow")
    assert (code, result["recorded"]["run_id"]) == (0, None)
    assert "no run was recorded (--no-mlflow)" in shown
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "log", "out.json"]
    code, result, _, _ = run(tmp_path, "promote", "--store", "s", "--bundle", "bundle", "--no-mlflow")
    assert (code, result["digest"]) == (0, Bundle.load(tmp_path / "bundle").digest)
    code, _, _, err = run(tmp_path, "promote", "--store", "s", "--no-mlflow")
    assert (code, err.count("\n")) == (2, 1)


def test_the_command_that_is_printed_works_where_it_is_typed(place, tmp_path, mlflow_tables, run):
    shutil.copytree(place / "log", tmp_path / "log")
    shutil.copy(mlflow_tables, tmp_path / "of the script.db")
    script = {"MLFLOW_TRACKING_URI": "sqlite:///of the script.db", "COLUMNS": "60"}
    code, trained, shown, _ = run(tmp_path, "train", "log", "--out", "a b/bundle", **script)
    typed = shown.splitlines()[-1]
    assert (code, typed) == (
        0,
        "    MLFLOW_TRACKING_URI='sqlite:///of the script.db' samediff promote --store 'a b/store'",
    )
    variable, program, *words = shlex.split(typed)
    code, result, _, err = run(tmp_path, *words, **dict([variable.split("=", 1)]))
    assert (program, code, err, result["digest"]) == ("samediff", 0, "", trained["digest"])
    assert Store(str(tmp_path / "a b" / "store")).pointer().digest == trained["digest"]
    assert not (tmp_path / "mlflow.db").exists()


def test_the_command_that_is_printed_names_what_the_settings_do_not(monkeypatch):
    def printed(uri, **settings):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        return _promotion(Path("run/bundle"), None, Settings(**settings), None)

    assert printed("") == printed("sqlite:///mlflow.db") == "samediff promote --store run/store"
    assert printed("sqlite:///other.db", mlflow="http://host", store="s3://b") == "samediff promote"
    assert printed("http://me:secret@host", store="s3://b") == "samediff promote"
    assert _promotion(Path("b"), "s", Settings(store="t"), Path("c.toml")).endswith(
        "promote --config c.toml --store s"
    )


def test_a_look_makes_no_database(place, tmp_path, run):
    run(place, "train", "log", "--out", "seen", "--no-mlflow")
    named = {"MLFLOW_TRACKING_URI": "sqlite:///nowhere/other.db"}
    for environ, file in (({}, "mlflow.db"), (named, "nowhere/other.db")):
        code, _, _, err = run(tmp_path, "promote", "--store", "s", **environ)
        assert (code, err.count("\n")) == (2, 1)
        assert f"{file}: no such file" in err
        assert "MLFLOW_TRACKING_URI=" in err
    code, result, _, _ = run(tmp_path, "promote", "--store", "s", "--bundle", place / "seen")
    assert (code, result["version_known"]) == (0, None)
    run(tmp_path, "promote", "--store", "s", "--bundle", PRIOR)
    code, result, _, _ = run(tmp_path, "rollback", "--store", "s")
    assert (code, result["digest"]) == (0, Bundle.load(place / "seen").digest)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "s"]


def test_two_trainings_at_once_both_succeed(tmp_path, mlflow_tables, run):
    place = make_place(tmp_path / "two", mlflow_tables)
    other = start(place, "train", "other", "--out", "b")
    code, _, _, err = run(place, "train", "log", "--out", "a")
    assert (code, err) == (0, "")
    assert (other.communicate(timeout=240)[1], other.returncode) == ("", 0)
    assert registry(place).version("2") is not None
    assert registry(place).version("challenger").number == "2"


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
