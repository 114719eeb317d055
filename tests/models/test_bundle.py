"""A bundle predicts what its heads predict, and refuses in one line whatever isn't as its manifest says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_bundle import KNOBS, PRICES, make_examples, write_encoder

from features.encoder import load_encoder
from features.errors import BadInput
from models.bundle import Bundle, CandidateView, wilson
from models.calibration import calibrated
from models.folder import Layout, sealed, write_bundle
from models.manifest import MANIFEST_VERSION
from training.fit import Examples, fit_amounts, fit_success
from training.publish import Provenance, publish

VIEWS = [CandidateView(name, *prices) for name, prices in PRICES.items()]


@pytest.fixture
def copy(published, tmp_path):
    """A bundle of one's own to spoil."""
    shutil.copytree(published[0], tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(folder, **changes):
    """Change the manifest, seal it again and leave the rest."""
    file = folder / "manifest.json"
    file.write_bytes(sealed(json.dumps(json.loads(file.read_text()) | changes | {"digest": ""}).encode()))


def refusal(folder):
    with pytest.raises(BadInput) as caught:
        Bundle.load(folder)
    line = str(caught.value)
    assert "\n" not in line
    return line


# --- predicting ---


@pytest.mark.parametrize("task_type", ["fix", "", "never seen"])
def test_the_bundle_predicts_what_the_heads_predict(fitted, published, task_type):
    examples, success, tokens = fitted
    bundle = Bundle.load(published[0])
    for row in examples.features[:20]:
        got = bundle.predict(row[None, :], VIEWS, task_type)
        rows = np.repeat(row[None, :], len(VIEWS), axis=0)
        names, kinds = list(PRICES), [task_type] * len(VIEWS)
        assert got.p_success == pytest.approx(success.predict(rows, names, kinds), abs=1e-6)
        assert got.output_tokens == pytest.approx(tokens.predict(rows, names, kinds), rel=1e-4)


def test_every_amount_that_was_learned_is_predicted_and_others_are_unknown(fitted, tmp_path):
    examples, success, tokens = fitted
    calls = np.round(np.exp(1 + np.nan_to_num(examples.features[:, 2])))
    known = examples._replace(calls_left=calls, turns_left=np.round(calls / 2))
    amounts = fit_amounts(known, KNOBS)
    publish(tmp_path / "b", (success, tokens), known, Provenance(kind="trained"), amounts=amounts)
    bundle = Bundle.load(tmp_path / "b")
    row, names = examples.features[3], list(PRICES)
    got = bundle.predict(row[None, :], VIEWS, "fix")
    rows = np.repeat(row[None, :], len(VIEWS), axis=0)
    for name, found in (("calls", got.calls_left), ("turns", got.turns_left)):
        assert found == pytest.approx(amounts[name].predict(rows, names, ["fix"] * len(names)), rel=1e-4)
    assert got.output_tokens == pytest.approx(tokens.predict(rows, names, ["fix"] * len(names)), rel=1e-4)
    assert np.isnan(got.reasoning_tokens).all()
    far = row.copy()
    far[bundle.support.columns] = 1e9
    by_table = bundle.predict(far[None, :], VIEWS, "fix").calls_left
    tables = amounts["calls"].table.values(names, ["fix"] * len(names), PRICES)
    limit = np.clip(tables, 0, amounts["calls"].log_limit)
    assert by_table == pytest.approx(amounts["calls"].ratios(names) * np.expm1(limit), rel=1e-6)


def test_where_trees_always_knew_the_type_a_request_without_one_gets_the_table(tmp_path):
    examples = make_examples()
    typed = examples._replace(task_type=np.where(examples.task_type == "", "fix", examples.task_type))
    success = fit_success(typed, KNOBS)
    assert success.learned.booster is not None
    publish(tmp_path / "b", (success, None), typed, Provenance(kind="trained"))
    bundle, row = Bundle.load(tmp_path / "b"), typed.features[:1]
    assert bundle.outside(row, "fix") == []
    for unknown in (None, "never seen"):
        assert bundle.outside(row, unknown) == ["task_type"]
        raw = success.table.values(list(PRICES), [unknown or ""] * len(PRICES), PRICES)
        table = calibrated(success.calibration, raw)
        for found in (None, ["task_type"]):
            got = bundle.predict(row, VIEWS, unknown, outside=found)
            assert got.p_success == pytest.approx(table, abs=1e-6)


def test_each_arm_is_predicted_alone_and_in_any_order(fitted, published):
    row, bundle = fitted[0].features[:1], Bundle.load(published[0])
    whole = bundle.predict(row, VIEWS)
    backwards = bundle.predict(row, VIEWS[::-1])
    for i, view in enumerate(VIEWS):
        alone = bundle.predict(row, [view])
        for name in whole._fields:
            said = [getattr(alone, name)[0], getattr(whole, name)[i], getattr(backwards, name)[::-1][i]]
            assert np.array_equal(said, said[:1] * 3, equal_nan=True)


def test_predicting_again_gives_the_same_bytes(fitted, published):
    first, second = Bundle.load(published[0]), Bundle.load(published[0])
    for row in fitted[0].features[:5]:
        once, again = first.predict(row[None, :], VIEWS, "fix"), second.predict(row[None, :], VIEWS, "fix")
        assert all(a.tobytes() == b.tobytes() for a, b in zip(once, again, strict=True))


def test_intervals_hold_the_estimate_and_are_wide_for_the_unseen(fitted, published):
    bundle = Bundle.load(published[0])
    views = [*VIEWS, CandidateView("stranger", 0.4, 2.0)]
    got = bundle.predict(fitted[0].features[:1], views)
    assert ((got.p_success_low >= 0) & (got.p_success_low <= got.p_success)).all()
    assert ((got.p_success <= got.p_success_high) & (got.p_success_high <= 1)).all()
    width = got.p_success_high - got.p_success_low
    assert width[-1] > 2 * width[:-1].max()


def test_a_stranger_is_judged_by_its_price(fitted, published):
    bundle = Bundle.load(published[0])
    low, high = (bundle.manifest.success.prior.value(p) for p in ((0.1, 0.5), (3.2, 16.0)))
    assert high > low
    got = bundle.predict(
        fitted[0].features[:1], [CandidateView("new", 0.1, 0.5), CandidateView("x", None, None)]
    )
    assert np.isfinite(got.p_success).all()
    assert np.isfinite(got.output_tokens).all()


def test_a_discount_doesnt_change_what_a_known_candidate_can_do(fitted, published):
    bundle, row = Bundle.load(published[0]), fitted[0].features[:1]
    for name in ("c3", "unpriced"):
        usual, cheaper = (
            bundle.predict(row, [CandidateView(name, *p)]) for p in (PRICES[name], (0.01, 0.01))
        )
        assert usual.p_success[0] == cheaper.p_success[0]


def test_nan_and_infinite_features_give_a_probability(published):
    bundle = Bundle.load(published[0])
    for value in (np.nan, np.inf, -np.inf, 3e38):
        row = np.full((1, bundle.manifest.n_features), value, dtype=np.float32)
        assert np.isfinite(bundle.predict(row, VIEWS).p_success).all()


def test_no_candidates_is_no_rows_and_a_wrong_width_is_refused(fitted, published):
    bundle, row = Bundle.load(published[0]), fitted[0].features[:1]
    assert bundle.predict(row, []).p_success.shape == (0,)
    with pytest.raises(BadInput, match="shape"):
        bundle.predict(row[:, :-1], VIEWS)


def test_wilson_agrees_with_the_textbook():
    low, high = wilson(np.array([0.5, 0.0]), np.array([100.0, 10.0]), z=1.96)
    assert (low[0], high[0]) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert (low[1], high[1]) == (0.0, pytest.approx(0.2775, abs=1e-4))


# --- what is on disk ---


def test_the_manifest_tells_people_what_this_is(published):
    manifest = json.loads((published[0] / "manifest.json").read_text())
    assert manifest["trained_on"][0]["licence"] == "none"
    assert manifest["parity"]["rows_wrong"] == 0
    assert sorted(manifest["files"]) == ["heads.onnx"]
    assert [c["index"] for c in manifest["candidates"]] == list(range(len(PRICES)))
    assert {c["candidate"]: c["output_usd_per_mtok"] for c in manifest["candidates"]}["unpriced"] is None


def test_publishing_the_same_twice_gives_the_same_digest(fitted, published, tmp_path):
    examples, success, tokens = fitted
    provenance = Provenance(
        kind="trained", trained_on=published[1].manifest.trained_on, lineage={"command": "samediff train"}
    )
    assert publish(tmp_path / "b", (success, tokens), examples, provenance).digest == published[1].digest
    assert Bundle.load(tmp_path / "b").digest == published[1].digest


def test_writing_replaces_a_bundle_and_nothing_else(published, copy, tmp_path):
    manifest = published[1].manifest
    digest = write_bundle(copy, manifest, (copy / "heads.onnx").read_bytes())
    assert Bundle.load(copy).digest == digest
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "manifest.json").write_text("{}")
    (precious / "thesis.txt").write_text("years of work")
    for target in (precious, precious / "thesis.txt"):
        with pytest.raises(BadInput, match="would be lost"):
            write_bundle(target, manifest, b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "precious"]


def test_a_bundle_may_be_written_around_the_encoder_it_is_made_with(tmp_path):
    """As models/prior is: a package that holds its encoder before there is a bundle."""
    target = tmp_path / "prior"
    target.mkdir()
    (target / "__init__.py").write_text("")
    encoder = write_encoder(target / "encoder")
    examples = make_examples(n=300, dim=4)
    for _ in range(2):
        publish(target, (fit_success(examples), None), examples, Provenance(kind="prior"), encoder)
    assert sorted(p.name for p in target.iterdir()) == [
        "__init__.py",
        "encoder",
        "heads.onnx",
        "manifest.json",
    ]
    assert "__init__.py" not in Bundle.load(target).manifest.files


def test_a_bundle_with_an_encoder_carries_it(tmp_path):
    encoder = write_encoder(tmp_path / "encoder")
    examples = make_examples(n=300, dim=4)
    head = fit_success(examples)
    publish(tmp_path / "b", (head, None), examples, Provenance(kind="prior"), encoder)
    shutil.rmtree(encoder)
    bundle = Bundle.load(tmp_path / "b")
    assert (bundle.kind, bundle.encoder.dim) == ("prior", 4)
    assert bundle.encoder.digest == load_encoder(tmp_path / "b" / "encoder").digest
    got = bundle.predict(examples.features[:1], VIEWS)
    assert np.isnan(got.output_tokens).all()  # never known, so not zero
    assert np.isfinite(got.p_success).all()
    (tmp_path / "b" / "encoder" / "vocab.txt").write_text("other words")
    assert "vocab.txt" in refusal(tmp_path / "b")


def test_features_of_another_encoder_are_not_published(fitted, tmp_path):
    examples, success, tokens = fitted
    narrow = Examples(examples.features[:, :-1], *examples[1:])
    with pytest.raises(BadInput, match="features"):
        publish(tmp_path / "b", (success, tokens), narrow, Provenance(kind="trained"))


# --- refusals ---


def test_what_is_no_bundle_is_refused(tmp_path):
    assert "not a bundle" in refusal(tmp_path)
    assert "samediff train" in refusal(tmp_path / "nowhere")
    assert not Layout(tmp_path).valid


def test_a_changed_graph_is_refused(copy):
    graph = bytearray((copy / "heads.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / "heads.onnx").write_bytes(graph)
    line = refusal(copy)
    assert "heads.onnx" in line
    assert "digest" in line


def test_a_missing_graph_is_refused(copy):
    (copy / "heads.onnx").unlink()
    assert "missing" in refusal(copy)


@pytest.mark.parametrize("version", [0, MANIFEST_VERSION + 1])
def test_another_manifest_version_is_refused(copy, version):
    edit(copy, manifest_version=version, a_field_of_the_future=1)
    assert f"manifest version {version}" in refusal(copy)


def test_a_manifest_edited_by_hand_is_refused(copy):
    file = copy / "manifest.json"
    file.write_text(file.read_text().replace('"rows": ', '"rows": 1', 1))
    assert "changed since it was written" in refusal(copy)


def test_a_bundle_is_replaced_in_one_step(published, tmp_path, monkeypatch):
    write_bundle(tmp_path / "b", *bundle_parts(published))
    before = Bundle.load(tmp_path / "b").digest
    moved = []
    monkeypatch.setattr(Path, "rename", lambda self, to: moved.append((self, to)))
    write_bundle(tmp_path / "b", *bundle_parts(published))
    assert moved == []  # exchanged: at no moment is there nothing at the target
    assert Bundle.load(tmp_path / "b").digest == before


def bundle_parts(published):
    return published[1].manifest, (published[0] / "heads.onnx").read_bytes()


def test_another_feature_list_is_refused_naming_both(copy, published):
    edit(copy, feature_hash="0123456789abcdef")
    line = refusal(copy)
    assert "0123456789abcdef" in line
    assert published[1].manifest.feature_hash in line
    assert "samediff train" in line


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"manifest_version": 1}', '{"manifest_version": "x"}', "\x00"]
)
def test_a_broken_manifest_is_refused(copy, content):
    (copy / "manifest.json").write_text(content)
    assert "manifest" in refusal(copy)


def test_bytes_that_are_no_text_are_refused(copy):
    (copy / "manifest.json").write_bytes(b"\xff\xfe\x00{")
    assert "manifest" in refusal(copy)


def test_a_manifest_cannot_reach_outside_its_folder(copy, published):
    edit(copy, files=published[1].manifest.files | {"heads.onnx": "0", "../secret": "0"})
    (copy.parent / "secret").write_text("x")
    assert "digest" in refusal(copy) or "outside" in refusal(copy)
    edit(copy, files={"../secret": "0"})
    assert "lists no heads.onnx" in refusal(copy)


def test_a_graph_of_other_outputs_is_refused(published, tmp_path):
    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("X", "Y")]
    node = helper.make_node("Identity", ["X"], ["Y"])
    graph = helper.make_graph([node], "g", numbers[:1], numbers[1:])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    write_bundle(tmp_path / "b", published[1].manifest, model.SerializeToString())
    assert "can't predict: its graph gives Y, the manifest describes" in refusal(tmp_path / "b")


def test_serving_loads_no_training_library(published):
    code = (
        "import sys; from models.bundle import Bundle; Bundle.load(sys.argv[1]); "
        "print(sorted({'lightgbm', 'sklearn', 'onnx', 'polars', 'scipy', 'training'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(published[0])], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
