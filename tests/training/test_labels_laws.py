"""Laws of combining: order is nothing, agreement never hurts, silence is no failure, EM finds the truth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.records import OutcomeRecord, RequestRecord
from training.frames import to_frame
from training.labels import resolve, shadowed
from training.labels.coverage import clean_needed, upper_limit
from training.labels.kinds import KINDS
from training.labels.noise import rerun_noise
from training.labels.reliability import NAMES, Reliability, combine, estimate
from training.labels.resolve import gather

TWO_SIDED = [name for name, kind in KINDS.items() if kind.bad < 0.5 < kind.good]


def lines(*told: tuple[int, str, float]) -> pl.DataFrame:
    rows = [
        {
            "row": row,
            "kind": kind,
            "source": f"{kind}{n}",
            "level": "signal",
            "v": v,
            "ts_ms": n,
            "outcome_id": str(n),
        }
        for n, (row, kind, v) in enumerate(told)
    ]
    schema = {"row": pl.Int64, "v": pl.Float64, "kind": pl.String, "source": pl.String, "level": pl.String}
    return pl.DataFrame(rows, schema=schema | {"ts_ms": pl.Int64, "outcome_id": pl.String})


def label(*told: tuple[str, float]) -> dict[str, object]:
    return combine(lines(*((0, kind, v) for kind, v in told)), Reliability()).row(0, named=True)


WORDS = st.lists(st.tuples(st.sampled_from(list(KINDS)), st.floats(0, 1)), min_size=1, max_size=6)


@given(WORDS, st.randoms())
def test_the_order_of_evidence_does_not_matter(told: list[tuple[str, float]], random: object) -> None:
    frame = lines(*((0, kind, v) for kind, v in told))
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=random.randrange(1000))  # type: ignore[attr-defined]
    assert combine(frame, Reliability()).equals(combine(mixed, Reliability()))


@given(WORDS, st.sampled_from(list(KINDS)), st.booleans())
def test_more_agreeing_evidence_never_lowers_confidence(
    told: list[tuple[str, float]], kind: str, good: bool
) -> None:
    before, after = label(*told), label(*told, (kind, float(good)))
    if any(name == "score" for name, _ in told) or kind == "score":
        return  # a score stands as it is
    if good:
        assert after["value"] >= before["value"] - 1e-12  # type: ignore[operator]
    else:
        assert after["value"] <= before["value"] + 1e-12  # type: ignore[operator]


@given(st.sampled_from([name for name, kind in KINDS.items() if kind.bad == 0.5]), st.floats(0, 1))
def test_what_is_heard_only_when_it_went_well_never_says_that_it_went_badly(kind: str, v: float) -> None:
    assert label((kind, v))["value"] >= 0.5 - 1e-12  # type: ignore[operator]


def test_every_kind_is_a_probability_with_a_reason_and_on_its_side_of_even_odds() -> None:
    for name, kind in KINDS.items():
        assert 0 <= kind.bad <= 0.5 <= kind.good <= 1, name
        assert kind.bad < kind.good, name
        assert kind.reason, name


def requests(*rows: dict[str, object]) -> pl.DataFrame:
    blank = {"session_id": "s", "ts_ms": 0, "source": "test", "candidate": "cheap"}
    return to_frame(RequestRecord, [RequestRecord(**{**blank, **row}) for row in rows])


def outcomes(*rows: dict[str, object]) -> pl.DataFrame:
    blank = {"ts_ms": 0, "source": "api"}
    return to_frame(
        OutcomeRecord, [OutcomeRecord(**{**blank, "outcome_id": str(i), **row}) for i, row in enumerate(rows)]
    )


PAIR = {"request_id": "a", "session_id": "s", "candidate": "cheap", "reference": "dear", "source": "shadow"}


@pytest.mark.parametrize("level", ["different", "unknown"])
@pytest.mark.parametrize("value", [None, 0.0])
def test_a_diff_that_is_not_the_same_is_missing_and_never_negative(level: str, value: float | None) -> None:
    told = outcomes({**PAIR, "level": level, "value": value})
    assert resolve(requests({"request_id": "a"}), told)["value"].to_list() == [None]


def test_the_same_diff_as_the_reference_counts_for_the_candidate_that_made_it() -> None:
    told = outcomes({**PAIR, "level": "L1", "value": 1.0})
    mine = resolve(requests({"request_id": "a"}), told).row(0, named=True)
    assert (mine["value"], mine["level"], mine["verdict"]) == (pytest.approx(0.985), "L1", False)
    other = requests({"request_id": "a", "candidate": "dear"}, {"request_id": "b"})
    assert resolve(other, told)["value"].to_list() == [None, None]  # nor for others of its session
    assert shadowed(other, told).select("request_id", "candidate", "value").row(0) == (
        "a", "cheap", pytest.approx(0.985),
    )  # fmt: skip


def test_the_reference_against_itself_is_a_ceiling_and_no_label() -> None:
    told = outcomes({**PAIR, "candidate": "dear", "level": "L0", "value": 1.0})
    asked = requests({"request_id": "a", "candidate": "dear"}, {"request_id": "b"})
    assert resolve(asked, told)["value"].null_count() == 2
    assert shadowed(asked, told).is_empty()


def test_a_likeness_is_worth_its_similarity_and_changed_lines_less_than_files() -> None:
    similar = {**PAIR, "level": "L3", "value": None, "detail": '{"similarity":0.5,"weak":false}'}
    weak = {**PAIR, "level": "L0", "value": 1.0, "detail": '{"weak":true}'}
    alone = {**PAIR, "level": "L0", "value": 1.0, "source": "diff", "reference": None}
    values = [
        resolve(requests({"request_id": "a"}), outcomes(row))["value"][0] for row in (similar, weak, alone)
    ]
    assert values == pytest.approx([0.5 + 0.5 * 0.15, 0.90, 0.71])


def test_of_contradictory_feedback_from_one_source_the_latest_counts_and_two_sources_are_a_disagreement() -> (
    None
):
    yes, no = {"request_id": "a", "value": 1.0, "ts_ms": 1}, {"request_id": "a", "value": 0.0, "ts_ms": 2}
    one = resolve(requests({"request_id": "a"}), outcomes(yes, no)).row(0, named=True)
    assert (one["value"], one["disagree"]) == (pytest.approx(0.1), False)
    two = resolve(requests({"request_id": "a"}), outcomes(yes, {**no, "source": "lead"})).row(0, named=True)
    assert (two["value"], two["disagree"]) == (pytest.approx(0.5), True)


# Kind -> how often it speaks of a good answer and of a bad one, and how often it then says good.
Witnesses = dict[str, tuple[tuple[float, float], tuple[float, float]]]
WITNESSES: Witnesses = {
    "tests": ((0.8, 0.8), (0.95, 0.15)),
    "feedback": ((0.8, 0.8), (0.75, 0.20)),
    "correction": ((0.1, 0.6), (0.0, 0.0)),
}


def synthetic(rng: np.random.Generator, n: int, witnesses: Witnesses) -> tuple[np.ndarray, pl.DataFrame]:
    """A hidden truth, 65 % good, and what the witnesses say of it."""
    truth = rng.random(n) < 0.65
    parts = []
    for kind, (speaks, says_good) in witnesses.items():
        rows = np.flatnonzero(rng.random(n) < np.where(truth, *speaks))
        good = rng.random(len(rows)) < np.where(truth[rows], *says_good)
        parts.append(lines(*((int(row), kind, float(said)) for row, said in zip(rows, good, strict=True))))
    return truth, pl.concat(parts)


def test_em_recovers_the_reliabilities_beside_some_scores() -> None:
    rng = np.random.default_rng(3)
    truth, evidence = synthetic(rng, 6000, WITNESSES)
    scored = lines(*((int(row), "score", float(truth[row])) for row in rng.choice(6000, 2000, replace=False)))
    found = estimate(pl.concat([evidence, scored]))
    assert found.overlap > 1500
    assert set(found.learned) == set(WITNESSES)
    expected = {"tests": (0.05 / 0.90, 0.95 / 1.10), "feedback": (0.25 / 1.05, 0.75 / 0.95)}
    for kind, rates in expected.items():
        assert found.rates[NAMES.index(kind)] == pytest.approx(rates, abs=0.04), kind
    assert found.rates[NAMES.index("correction")][0] == pytest.approx(1 / 7, abs=0.04)


def test_without_scores_tests_and_persons_keep_their_stated_rates_and_teach_the_others_theirs() -> None:
    _, evidence = synthetic(np.random.default_rng(5), 8000, WITNESSES)
    found = estimate(evidence)
    assert found.learned == ("correction",)
    for kind in ("tests", "feedback"):
        assert found.rates[NAMES.index(kind)] == (KINDS[kind].bad, KINDS[kind].good)
    assert found.rates[NAMES.index("correction")][0] == pytest.approx(1 / 7, abs=0.1)


def test_a_silent_kind_is_not_held_against_an_answer_when_rates_are_learned() -> None:
    _, evidence = synthetic(np.random.default_rng(5), 4000, WITNESSES)
    learned = estimate(evidence)
    alone = combine(lines((0, "tests", 1.0)), learned)["value"][0]
    assert alone > learned.base


def test_training_gets_verdicts_scores_as_they_are_and_nothing_at_even_odds() -> None:
    told = lines(
        (0, "score", 0.4), (1, "tests", 1.0), (2, "tests", 0.0), (3, "correction", 0.0), (4, "feedback", 0.5)
    )
    targets = combine(told, Reliability())["target"].to_list()
    assert targets == [0.4, 1.0, 0.0, None, None]


def test_candidates_are_one_whatever_their_spelling() -> None:
    asked = requests({"request_id": "a", "candidate": "gpt-5.4"})
    told = {
        **PAIR,
        "candidate": "openai/gpt-5.4-2026-03-05",
        "reference": "dear",
        "level": "L0",
        "value": 1.0,
    }
    assert resolve(asked, outcomes(told))["value"].to_list() == [pytest.approx(0.985)]
    assert shadowed(asked, outcomes(told)).is_empty()


def test_with_little_overlap_the_stated_rates_stand() -> None:
    _, evidence = synthetic(np.random.default_rng(1), 60, WITNESSES)
    assert estimate(evidence) == Reliability()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(TWO_SIDED), st.booleans()), max_size=30))
def test_learned_rates_never_turn_a_kind_around(told: list[tuple[str, str, bool]]) -> None:
    numbered = [(n // 3, kind, float(good)) for n, (_, kind, good) in enumerate(told)]
    for bad, good in estimate(lines(*numbered), min_overlap=1).rates if told else ():
        assert bad <= 0.5 <= good


def test_no_outcome_leaves_every_label_unknown() -> None:
    asked = requests({"request_id": "a"})
    labels = resolve(asked, outcomes())
    assert labels["value"].to_list() == [None]
    assert gather(asked.with_row_index("row"), outcomes()).is_empty()


def test_rerun_noise_is_the_share_of_run_pairs_that_differ() -> None:
    runs = pl.DataFrame(
        {"task_id": ["t"] * 4 + ["u"] * 2 + ["v"], "candidate": "c", "success": [1.0, 1, 0, 0, 1, 1, 0]}
    )
    noise = rerun_noise(runs)
    assert noise is not None
    assert (noise.tasks, noise.runs) == (2, 6)
    assert noise.flip_rate == pytest.approx((4 / 6 + 0) / 2)
    assert noise.brier_floor == noise.flip_rate / 2
    assert rerun_noise(runs.unique("task_id")) is None


def test_the_arithmetic_of_certificates() -> None:
    assert clean_needed(0.05) == 59
    assert upper_limit(0, 59) == pytest.approx(0.05, abs=0.001)
    assert upper_limit(12, 400) == pytest.approx(0.048, abs=0.001)
    assert upper_limit(0, 0) is None
    assert upper_limit(3, 3) == 1.0
