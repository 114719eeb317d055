"""Task types without being told: the posterior, its mixture, and what a bundle does with them."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadInput
from features.facts import Facts
from features.vector import feature_names, featurize
from models.bundle import Bundle, CandidateView
from models.tasktype import SCALING, WEIGHTS, TaskTypes, TypeCard, load_types, mixed
from training.examples import Examples, Knobs
from training.fit import fit_success, fit_tokens
from training.publish import Provenance, publish
from training.tasktype import with_types

COLUMNS = feature_names(0)
HARD, EASY = "hard", "easy"


def card(**changes):
    plain = {
        "names": ("a", "b"),
        "features": ("turn",),
        "base": (0.25, 0.75),
        "reliability": 0.8,
        "watched": ("turn",),
    }
    return TypeCard(**plain | changes)


def classifier(**changes):
    one = np.ones(1, np.float32)
    weights = np.array([[2.0, -2.0], [0.0, 0.0]], np.float32)
    bounds = np.array([[-4.0], [4.0]], np.float32)
    return TaskTypes(card(**changes), np.array([0]), 0 * one, one, one, weights, np.array([0]), bounds)


def test_a_posterior_is_drawn_to_the_base_rates_and_silent_outside():
    types = classifier()
    rows = np.array([[1.0], [-1.0], [50.0], [np.nan]], np.float32)
    p = types.posterior(rows)
    assert p.sum(axis=1) == pytest.approx(1.0)
    assert p[0, 0] == pytest.approx(0.8 / (1 + np.exp(-4.0)) + 0.2 * 0.25)
    assert p[2].tolist() == p[3].tolist() == [0.25, 0.75]


def test_one_odd_feature_is_chance_and_two_are_another_kind():
    two = np.array([[-4.0, 1.0], [4.0, 1.0]], np.float32)
    types = replace(classifier(watched=("turn", "n_tools")), watched=np.array([0, 1]), bounds=two)
    rows = np.array([[1.0, 1.0], [1.0, 3.0], [9.0, 3.0], [1.0, np.nan]], np.float32)
    p = types.posterior(rows)
    assert (
        p[0].tolist() == p[1].tolist() == p[3].tolist() != [0.25, 0.75]
    )  # n_tools never varied, here it does
    assert p[2].tolist() == [0.25, 0.75]


def test_the_arrays_come_back_from_their_files():
    import io

    types = classifier()
    arrays = {name: np.load(io.BytesIO(raw), allow_pickle=False) for name, raw in types.files().items()}
    again = load_types(types.card, arrays, {"turn": 0})
    rows = np.array([[0.3]], np.float32)
    assert again.posterior(rows).tobytes() == types.posterior(rows).tobytes()
    with pytest.raises(BadInput, match="not the classifier"):
        load_types(types.card, arrays | {WEIGHTS: np.ones((3, 2))}, {"turn": 0})
    with pytest.raises(BadInput, match="doesn't have"):
        load_types(types.card, arrays, {"other": 0})


logits = st.floats(-6, 6)
shares = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(lambda s: np.array(s) / sum(s))


@given(st.lists(logits, min_size=3, max_size=3), logits, shares, shares)
def test_laws_of_the_mixture(cells, overall, posterior, base):
    cells, whole = np.array([cells]), np.array([overall])
    for logit in (True, False):
        at_base = mixed(whole, cells, base, base, logit=logit)
        assert at_base == pytest.approx(whole)  # nothing is known: the candidate's overall effect
        alike = mixed(whole, np.full((1, 3), cells[0, 0]), posterior, base, logit=logit)
        assert alike == pytest.approx(whole)  # types that don't differ say nothing
    best = np.eye(3)[cells[0].argmax()]
    assert mixed(whole, cells, best, base, logit=True) >= whole - 1e-9
    per_row = mixed(whole, cells, posterior[None], base, logit=True)
    assert per_row == pytest.approx(mixed(whole, cells, posterior, base, logit=True))


def examples(n=240, *, told=True):
    """Model "one" is good at hard tasks and "two" at easy ones; long prompts with questions are hard."""
    rng = np.random.default_rng(4)
    hard = rng.random(n) < 0.4
    facts = [
        Facts(
            body_bytes=900.0 + 8_000 * h + rng.integers(500),
            n_messages=float(1 + rng.integers(4)),
            text_lines=float(1 + 30 * h + rng.integers(5)),
            text_questions=float(h),
            text_commas=float(rng.integers(9)),
            text_capitals=float(rng.integers(9)),
            text_numbers=float(5 * h + rng.integers(5)),
            text_bytes=float(100 + 900 * h + rng.integers(90)),
            text_sentences=float(1 + rng.integers(3)),
        )
        for h in hard
    ]
    features = np.concatenate([featurize(f) for f in facts])
    p = np.where(hard[:, None], [0.9, 0.2], [0.3, 0.9])
    kinds = np.where(hard, HARD, EASY) if told else np.full(n, "")
    return Examples(
        features=np.repeat(features, 2, axis=0),
        candidate=np.tile(["one", "two"], n),
        task_type=np.repeat(kinds, 2),
        success=(rng.random((n, 2)) < p).astype(float).ravel(),
        output_tokens=np.tile([100.0, 300.0], n) * np.repeat(np.where(hard, 4.0, 1.0), 2),
        group=np.repeat([f"g{i % 60}" for i in range(n)], 2),
        prices={"one": (1.0, 2.0), "two": (1.0, 2.0)},
    )


KNOBS = Knobs(trees=(), ridges=())
VIEWS = [CandidateView("one", 1.0, 2.0), CandidateView("two", 1.0, 2.0), CandidateView("new", 1.0, 2.0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = with_types(examples())
    place = tmp_path_factory.mktemp("typed") / "bundle"
    heads = fit_success(rows, KNOBS), fit_tokens(rows, KNOBS)
    publish(place, heads, rows, Provenance(kind="trained"))
    return place


def test_a_bundle_tells_the_type_and_a_told_one_wins(folder):
    bundle, rows = Bundle.load(folder), examples()
    hard = rows.features[rows.task_type == HARD][:1]
    posterior = bundle.posterior(hard)
    ((name, p), *_) = bundle.likeliest(posterior)
    assert (name, p > 0.9) == (HARD, True)
    assert bundle.posterior(hard, EASY) is None
    hidden, told = bundle.predict(hard, VIEWS), bundle.predict(hard, VIEWS, HARD)
    easy = bundle.predict(hard, VIEWS, EASY)
    assert hidden.p_success[:2] == pytest.approx(told.p_success[:2], abs=0.1)
    assert hidden.p_success[0] > hidden.p_success[1]
    assert easy.p_success[1] > easy.p_success[0]
    assert hidden.output_tokens[0] == pytest.approx(told.output_tokens[0], rel=0.3)
    again = bundle.predict(hard, VIEWS, None, posterior)
    assert again.p_success.tobytes() == hidden.p_success.tobytes()


def test_a_bundle_without_trees_that_tells_the_type_still_reads_every_request(folder):
    bundle = Bundle.load(folder)
    assert not bundle.support
    shown = {"n_messages": 2.0, "text_commas": 4.0, "text_capitals": 4.0, "text_sentences": 2.0}
    easy = Facts(body_bytes=1_100.0, text_lines=3.0, text_questions=0.0, text_numbers=2.0, text_bytes=150.0)
    hard = Facts(body_bytes=9_100.0, text_lines=33.0, text_questions=1.0, text_numbers=7.0, text_bytes=1050.0)
    for kind, facts in ((EASY, easy), (HARD, hard), (EASY, easy)):
        said = bundle.believe(msgspec.structs.replace(facts, **shown), None, VIEWS)
        assert said.types[0][0] == kind
        one, two, _ = (arm.p_success for arm in said.arms)
        assert (one > two) == (kind == HARD)


def test_what_is_served_is_what_was_fitted(folder):
    bundle, rows = Bundle.load(folder), with_types(examples())
    head = fit_success(rows, KNOBS)
    some = rows.features[::40][:6]
    for row in some:
        served = bundle.predict(row[None], VIEWS[:2]).p_success
        fitted = head.predict(np.stack([row, row]), ["one", "two"], ["", ""])
        assert served == pytest.approx(fitted, abs=1e-6)


def test_at_the_base_rates_a_candidate_is_judged_overall(folder):
    """Far from anything in training the classifier says nothing, and the candidates' own rates speak."""
    bundle, rows = Bundle.load(folder), examples()
    strange = rows.features[:1].copy()
    strange[:, [COLUMNS.index(n) for n in ("body_bytes", "text_lines", "text_bytes", "text_numbers")]] = 60.0
    posterior = bundle.posterior(strange)
    assert posterior == pytest.approx(bundle.types.base)
    p = bundle.predict(strange, VIEWS).p_success
    manifest = bundle.manifest
    overall = np.array([manifest.success.value(v.candidate, "", (1.0, 2.0)) for v in VIEWS])
    a, b = manifest.calibration.a, manifest.calibration.b
    assert p == pytest.approx(1 / (1 + np.exp(-(a * overall + b))), abs=1e-6)


def test_a_changed_classifier_is_refused(folder, tmp_path):
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(folder, copy)
    (copy / SCALING).write_bytes(b"something else")
    with pytest.raises(BadInput, match=r"scaling\.npy"):
        Bundle.load(copy)


def test_a_manifest_without_a_classifier_still_loads(folder, tmp_path):
    """Bundles made before there was one, and logs that tell no types."""
    rows = examples(told=False)
    place = tmp_path / "bundle"
    publish(place, (fit_success(rows, KNOBS), None), rows, Provenance(kind="trained"))
    bundle = Bundle.load(place)
    assert bundle.types is None
    assert bundle.posterior(rows.features[:1]) is None
    assert bundle.likeliest(None) == []
    assert "types" not in {
        name.split("/")[0] for name in json.loads((place / "manifest.json").read_text())["files"]
    }
    replaced = fit_success(with_types(examples()), KNOBS), None
    publish(place, replaced, with_types(examples()), Provenance(kind="trained"))  # over a bundle without
    publish(place, (fit_success(rows, KNOBS), None), rows, Provenance(kind="trained"))  # and back
    assert Bundle.load(place).types is None
    assert msgspec.json.encode(card()).startswith(b'{"names"')
