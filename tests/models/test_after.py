"""Heads after the answer as served: what was fitted is what is served, and damage is refused in a line."""

import msgspec
import numpy as np
import pytest

from features.answerfacts import AFTER_NAMES, AGREEMENT, AnswerFacts, after_vector
from features.errors import BadInput, CheckFailed
from features.facts import Facts
from models.after import AFTER, AfterCard, AfterModel, load_after
from training.after.heads import fit_head
from training.after.rows import AfterRows
from training.after.samediff_heads import MAX_ABS_DP, card_of, fit_rows, proven
from training.calibrate import sigmoid


def made(n=400, seed=0, others=0.5):
    """Answers whose size, and others' agreement, tell whether they are the reference's diff."""
    rng = np.random.default_rng(seed)
    size, agrees = rng.lognormal(3.0, 1.0, n).round(), rng.random(n)
    known = rng.random(n) < others
    facts = [
        AnswerFacts(
            files=1.0,
            added_tokens=float(size[i]),
            added_lines=float(size[i] // 8),
            **({"others": 1.0, "others_alike": float(agrees[i])} if known[i] else {}),
        )
        for i in range(n)
    ]
    p = sigmoid(3.0 - 1.5 * np.log1p(size) + 5.0 * agrees)
    target = (rng.random(n) < p).astype(float)
    reference = (rng.random(n) < 0.5 + 0.3 * target).astype(float)
    reference[::3] = np.nan
    harness = np.array(["a", "b", ""])[rng.integers(0, 3, n)]
    features = after_vector(facts, [None] * n)
    candidate = np.array(["cheap", "small"])[rng.integers(0, 2, n)]
    group = rng.integers(0, 40, n).astype(str)
    return AfterRows(features, AFTER_NAMES, target, reference, candidate, group, harness)


@pytest.fixture(scope="module")
def card():
    rows = made()
    found, said = fit_rows({"same": rows, "success": rows.some(np.zeros(400, dtype=bool))})
    assert said.rows == {"same": 400, "success": 0}
    assert set(said.heads) == {"same", "reference", "same, beside others", "reference, beside others"}
    assert "at least 60" in said.missing["success"]
    return found


def write(folder, card):
    (folder / AFTER).write_bytes(msgspec.json.encode(card))
    return folder / AFTER


def test_a_small_agreed_answer_is_believed_and_a_large_lone_one_is_not(card, tmp_path):
    model = load_after(write(tmp_path, card))
    small, large = AnswerFacts(files=1.0, added_tokens=3.0), AnswerFacts(files=1.0, added_tokens=400.0)
    assert model.judge_answer("cheap", small).p_same > 0.5 > model.judge_answer("cheap", large).p_same
    agreed = msgspec.structs.replace(large, others=1.0, others_alike=1.0)
    disputed = msgspec.structs.replace(large, others=1.0, others_alike=0.0)
    said = model.judge_answer("cheap", agreed, Facts(n_tools=1.0), harness="a")
    assert said.p_same > model.judge_answer("cheap", disputed, Facts(n_tools=1.0), harness="a").p_same
    assert said.p_success is None
    assert 0 < said.p_reference < 1


def test_what_is_served_is_what_was_fitted(card):
    assert card.max_abs_dp <= MAX_ABS_DP
    heads = [*card.alone.values(), *card.beside.values()]
    assert any(head.weights for head in heads)
    for seed in range(3):
        rows = made(seed=seed)
        head = fit_head(rows, seed=seed)
        assert proven(head, card_of(head, rows), rows, seed) <= MAX_ABS_DP


def test_trees_are_served_as_grown():
    """A middle range: no linear part can tell it, so trees speak."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 2)).astype(np.float32)
    features = np.full((600, len(AFTER_NAMES)), np.nan, dtype=np.float32)
    features[:, :2] = x
    target = ((np.abs(x).max(axis=1) < 1.0) & (rng.random(600) < 0.95)).astype(float)
    rows = AfterRows(
        features,
        AFTER_NAMES,
        target,
        np.full(600, np.nan),
        np.full(600, "a"),
        rng.integers(0, 50, 600).astype(str),
    )
    head = fit_head(rows)
    assert head.trees is not None
    card = card_of(head, rows)
    assert card.metrics["auc"] > 0.9
    assert proven(head, card, rows) <= MAX_ABS_DP
    assert card.trees is not None
    off = msgspec.structs.replace(card.trees, threshold=tuple(t + 0.01 for t in card.trees.threshold))
    with pytest.raises(CheckFailed, match="differ by"):
        proven(head, msgspec.structs.replace(card, trees=off), rows)


def test_without_others_in_the_log_a_lone_head_answers_for_all():
    found, _ = fit_rows({"same": made(others=0.0)})
    assert found is not None
    assert set(found.alone) == {"same", "reference"}
    assert found.beside == {}
    assert not set(AGREEMENT) & set(found.alone["same"].names)
    lone = AnswerFacts(files=1.0, added_tokens=3.0)
    model = AfterModel(found)
    agreed = msgspec.structs.replace(lone, others=1.0, others_alike=1.0)
    assert model.judge_answer("cheap", lone) == model.judge_answer("cheap", agreed)


def test_a_log_that_teaches_nothing_makes_no_heads():
    found, said = fit_rows({"same": made(n=20), "success": made(n=20)})
    assert found is None
    assert set(said.missing) == {"same", "success"}


def _changed(card, **changes):
    head = msgspec.structs.replace(card.alone["same"], **changes)
    return msgspec.structs.replace(card, alone={"same": head})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda card: msgspec.structs.replace(card, schema="0"), "made for the answer features 0"),
        (lambda card: _changed(card, names=("nothing",)), "contradicts itself"),
        (lambda card: _changed(card, weights=(1.0,)), "contradicts itself"),
        (lambda card: _changed(card, means={}), "contradicts itself"),
        (
            lambda card: _changed(card, spread={"": (0.0,) * len(card.alone["same"].names)}),
            "contradicts itself",
        ),
    ],
)
def test_heads_that_are_not_this_samediff_s_are_refused(card, tmp_path, damage, said):
    with pytest.raises(BadInput, match=said):
        load_after(write(tmp_path, damage(card)))


def test_a_file_that_is_no_heads_is_refused(tmp_path):
    (tmp_path / AFTER).write_bytes(b"{")
    with pytest.raises(BadInput, match="no heads after the answer"):
        load_after(tmp_path / AFTER)
    with pytest.raises(BadInput, match="no heads after the answer"):
        load_after(tmp_path / "gone")
    assert msgspec.json.schema(AfterCard)
