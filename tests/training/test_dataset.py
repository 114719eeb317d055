"""The dataset: one name for a candidate however it is written, nothing torn apart or imputed."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadInput
from features.facts import Facts
from features.records import OutcomeRecord, RequestRecord
from training.dataset import MIN_LABELLED, holdout_mask, load_dataset
from training.log import LogStore


def fill(log: LogStore, rows: list[dict[str, object]]) -> LogStore:
    requests, outcomes = [], []
    for i, row in enumerate(rows):
        label = row.pop("success", None)
        plain = {
            "session_id": f"s{i}",
            "ts_ms": 1_700_000_000_000 + i,
            "source": "test",
            "facts": Facts(turn=1.0),
        }
        requests.append(RequestRecord(**{**plain, "request_id": f"r{i}", **row}))
        if label is not None:
            said = {"request_id": f"r{i}", "ts_ms": 1_700_000_000_000 + i, "source": "test", "level": "score"}
            outcomes.append(OutcomeRecord(outcome_id=f"o{i}", value=float(label), **said))
    log.append("request", requests)
    log.append("outcome", outcomes)
    return log


def many(**row: object) -> list[dict[str, object]]:
    return [{**row, "success": i % 2} for i in range(MIN_LABELLED)]


def test_one_candidate_under_all_names_and_an_effort_makes_another(tmp_path) -> None:
    rows = [
        *many(model_requested="gpt-5.4", model_served="gpt-5.4-2026-03-05"),
        *many(model_served="openai/GPT-5.4"),
        *many(candidate="gpt-5.4", model_requested="auto"),
        *many(model_requested="auto", model_served="claude-haiku-4-5-20251001"),
        *many(model_served="gpt-5.4", effort="high"),
    ]
    found = load_dataset(fill(LogStore(tmp_path), rows), None, 0)
    assert set(found.examples.candidate) == {"gpt-5.4", "claude-haiku-4-5", "gpt-5.4@high"}


def test_an_alias_alone_names_no_candidate(tmp_path) -> None:
    rows = [*many(model_served="gpt-5.4"), {"model_requested": "auto", "success": 1}]
    assert load_dataset(fill(LogStore(tmp_path), rows), None, 0).counts.no_candidate == 1


def test_prices_reach_the_examples(tmp_path) -> None:
    found = load_dataset(fill(LogStore(tmp_path), many(model_served="claude-opus-4-6")), None, 0)
    assert found.examples.prices["claude-opus-4-6"] == (5.0, 25.0)


def test_reasoning_that_is_counted_apart_is_output_too(tmp_path) -> None:
    def rows(model, **more):
        return [row | {"output_tokens": 100 + i} for i, row in enumerate(many(model_served=model, **more))]

    log = fill(
        LogStore(tmp_path),
        [
            *rows("gpt-5.4", reasoning_tokens=40, reasoning_in_output=False),
            *rows("gpt-5.4-mini", reasoning_tokens=40, reasoning_in_output=True),
            *rows("glm-5"),
        ],
    )
    found = load_dataset(log, None, 0).examples
    least = {name: found.output_tokens[found.candidate == name].min() for name in set(found.candidate)}
    assert least == {"gpt-5.4": 140.0, "gpt-5.4-mini": 100.0, "glm-5": 100.0}


def test_a_sub_agent_stays_with_its_session(tmp_path) -> None:
    rows = [
        row
        | {
            "session_id": f"p{i}/agent" if i % 2 else f"p{i}",
            "parent_session_id": f"p{i - 1}" if i % 2 else None,
        }
        for i, row in enumerate(many(model_served="gpt-5.4"))
    ]
    found = load_dataset(fill(LogStore(tmp_path), rows), None, 0)
    assert found.counts.groups == MIN_LABELLED // 2


def test_imputed_token_counts_are_unknown_and_named(tmp_path) -> None:
    measured = [{**row, "output_tokens": 10 * i} for i, row in enumerate(many(model_served="gpt-5.4"))]
    constant = [{**row, "output_tokens": 7} for row in many(model_served="glm-5")]
    found = load_dataset(fill(LogStore(tmp_path), measured + constant), None, 0)
    assert found.counts.imputed_output_tokens == ["glm-5"]
    known = np.isfinite(found.examples.output_tokens)
    assert set(found.examples.candidate[known]) == {"gpt-5.4"}


def test_the_tokens_of_a_whole_run_are_not_those_of_a_call(tmp_path) -> None:
    calls = [{**row, "output_tokens": 10 * i} for i, row in enumerate(many(model_served="gpt-5.4"))]
    runs = [{**row, "flags": ["run_totals"]} for row in calls]
    found = load_dataset(fill(LogStore(tmp_path), [dict(row) for row in calls] + runs), None, 0)
    assert np.isfinite(found.examples.output_tokens).sum() == MIN_LABELLED


def test_a_log_with_too_few_labels_is_refused_with_the_count(tmp_path) -> None:
    log = fill(LogStore(tmp_path), [{"model_served": "gpt-5.4", "cost_usd": Decimal(1)}] * 60)
    with pytest.raises(BadInput, match="0 labelled requests of 60"):
        load_dataset(log, None, 0)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 100)), min_size=1, max_size=60))
def test_the_holdout_takes_whole_groups_the_newest_first(rows: list[tuple[int, int]]) -> None:
    group = np.array([f"g{g}" for g, _ in rows])
    ts_ms = np.array([t for _, t in rows])
    held = holdout_mask(group, ts_ms)
    inside, outside = set(group[held]), set(group[~held])
    assert not inside & outside
    assert outside
    if inside:
        newest = {g: ts_ms[group == g].max() for g in inside | outside}
        assert min(newest[g] for g in inside) >= max(newest[g] for g in outside)
