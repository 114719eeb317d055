"""From a real shadow run to an answer: asked under a cap, judged, its answers tested, then `what-if`.

Wrong answers are all alike here, so that many are the same diff as a reference's wrong one: the same diff
mustn't outvote failing tests.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import pytest
from shadow_place import FAR, NEAR, REFERENCE, Provider, command, edit, finished, record

from features.records import ArmRecord, DecisionRecord, OutcomeRecord
from router.gateway.outcomes import read_outcomes
from router.gateway.settings import Settings
from training.log import LogStore
from training.replay.options import Options
from training.replay.run import run as what_if

if TYPE_CHECKING:
    from pathlib import Path

    from training.replay.report.result import Result, Row

N = 1_000
RIGHT, OTHERWISE, WRONG = "a + b", "b + a", "a - b"
RATES = {REFERENCE: 0.9, NEAR: 0.6, FAR: 0.75}  # of tasks that each does
DIFFER = 0.7  # of the right answers, from the reference's


class Task(NamedTuple):
    """What each candidate writes, and who answered."""

    writes: dict[str, str]
    by: str


def tasks() -> list[Task]:
    """The logger chose the reference or the cheap candidate, each by half; the third it never asked."""
    rng = np.random.default_rng(8)
    made = []
    for _ in range(N):
        hard = rng.random() - 0.5  # for all alike
        writes = {}
        for name, rate in RATES.items():
            right = rng.random() < rate - 0.3 * hard
            differs = name != REFERENCE and rng.random() < DIFFER
            writes[name] = WRONG if not right else OTHERWISE if differs else RIGHT
        made.append(Task(writes, (REFERENCE, NEAR)[int(rng.integers(2))]))
    return made


def works(new: str) -> bool:
    """The project's test."""
    return bool(eval(new, {}, {"a": 5, "b": 3}) == 8)


def logged(folder: Path, every: list[Task]) -> LogStore:
    """The log of a gateway with log.prompts = "full", its decisions, and what tests said of its answers."""
    store = LogStore(folder / "log")
    requests, decisions, outcomes = [], [], []
    for n, task in enumerate(every):
        mark = " ".join(f"{name}:{new}" for name, new in task.writes.items())
        answer = "I fix it.\n" + json.dumps(edit(task.writes[task.by]))
        one = record(n, mark=mark, candidate=task.by, model_served=task.by, response_text=answer)
        requests.append(one)
        arms = [ArmRecord(candidate=name, propensity=0.5) for name in (REFERENCE, NEAR)]
        decisions.append(
            DecisionRecord(
                request_id=one.request_id,
                session_id=one.session_id,
                ts_ms=one.ts_ms,
                policy="learned",
                chosen=task.by,
                reference=REFERENCE,
                arms=arms,
                decide_ms=1.0,
            )
        )
        outcomes.append(
            OutcomeRecord(
                outcome_id=f"tests{n}",
                ts_ms=one.ts_ms + 1,
                source="ci",
                request_id=one.request_id,
                candidate=task.by,
                level="tests",
                value=float(works(task.writes[task.by])),
            )
        )
    store.append("request", requests)
    store.append("decision", decisions)
    store.append("outcome", outcomes)
    return store


def script() -> dict[str, object]:
    """Every candidate writes what its task's text says it does."""
    rules = []
    for name in RATES:
        for new in (RIGHT, OTHERWISE, WRONG):
            steps = [{"text": "ok", "calls": [{"name": "Edit", "arguments": edit(new)}]}]
            rules.append({"when": {"model": f"{name}*", "contains": f"{name}:{new}"}, "steps": steps})
    return {"rules": rules, "steps": [{"text": "no"}]}


def answers(store: LogStore) -> dict[tuple[str, str], str]:
    """What was answered in the run, by request and candidate: its file keeps the calls."""
    (ledger,) = (store.path / "shadow").glob("*.jsonl")
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    sent = {line["call"]: (line["request_id"], line["candidate"]) for line in lines if line["type"] == "sent"}
    return {
        sent[line["call"]]: json.loads(line["calls"][0][1])["new_string"]
        for line in lines
        if line["type"] == "settled" and line["status"] == "ok"
    }


def reported(store: LogStore) -> None:
    """Tests of the shadow answers, as whoever runs them reports them to `POST /v1/outcomes`."""
    pairs = store.scan("outcome").filter(pl.col("source") == "shadow", pl.col("request_id").is_not_null())
    wrote = answers(store)
    body = [
        {
            "source": "shadow",
            **{name: row[name] for name in ("request_id", "candidate", "reference")},
            "level": "tests",
            "success": works(wrote[row["request_id"], row["candidate"]]),
        }
        for row in pairs.collect().iter_rows(named=True)
        if row["candidate"] != row["reference"]
    ]
    store.append("outcome", read_outcomes(json.dumps(body).encode(), 1_795_100_000_000))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], list[Result]]:
    """The shadow run's own report, and what `what-if` says before it, after it, and after the tests."""
    folder = tmp_path_factory.mktemp("shadowed")
    store = logged(folder, tasks())
    asked = Options(policies=tuple(f"pin:{name}" for name in RATES), frontier=False)
    said = [what_if(store.path, asked, Settings())]
    provider = Provider(script(), folder)
    words = ("--budget", "0.5", "--per-request", "0.1", "--self-share", "0.01", "--concurrency", "8")
    candidates = ("--candidates", f"{NEAR},{FAR}", "--reference", REFERENCE)
    try:
        code, _, err = finished(
            command(folder, provider.url, *candidates, *words, "--json", folder / "out.json")
        )
        assert (code, err) == (0, "")
    finally:
        provider.stop()
    said.append(what_if(store.path, asked, Settings()))
    reported(store)
    said.append(what_if(store.path, asked, Settings()))
    return json.loads((folder / "out.json").read_text()), said


def rows(said: list[Result], name: str) -> list[Row]:
    found = [one.row(f"pin:{name}") for one in said]
    assert all(found)
    return [one for one in found if one is not None]


def half(row: Row) -> float:
    assert row.quality_ci is not None
    return (row.quality_ci[1] - row.quality_ci[0]) / 2


def test_the_run_held_its_cap(told: tuple[dict[str, object], list[Result]]) -> None:
    report, _ = told
    assert report["ended"] == "budget"
    assert float(str(report["spent_usd"])) <= 0.5
    assert 500 < int(str(report["asked"])) < N


def test_diffs_alone_are_refused_and_change_nothing(told: tuple[dict[str, object], list[Result]]) -> None:
    report, said = told
    before, after, _ = rows(said, FAR)
    assert before.quality is None
    assert after.quality is None
    assert "no shadow pair of it has a known outcome" in (after.why or "")
    honest = [
        line for line in said[1].caveats if "a diff alone tells no quality, as most right ones differ" in line
    ]
    assert len(honest) == 1
    assert not any("a diff alone" in line for result in (said[0], said[2]) for line in result.caveats)
    assert int(str(report["same_labels"])) > 100
    near, beside, _ = rows(said, NEAR)
    assert near.quality_how == beside.quality_how == "dr"
    assert (beside.quality, beside.quality_ci, beside.ess) == (near.quality, near.quality_ci, near.ess)


def test_tests_of_those_answers_tell_of_whom_nobody_had_asked(
    told: tuple[dict[str, object], list[Result]],
) -> None:
    row = rows(told[1], FAR)[2]
    true = np.mean([works(task.writes[FAR]) for task in tasks()])
    assert row.quality_how == "paired"
    assert row.ess > 400
    assert row.quality_ci is not None
    assert row.quality_ci[0] < true < row.quality_ci[1]
    assert half(row) == pytest.approx(1.96 * np.sqrt(true * (1 - true) / row.ess), rel=0.15)


@pytest.mark.parametrize("name", [NEAR, REFERENCE])
def test_the_interval_narrows_as_the_effective_decisions_grow(
    told: tuple[dict[str, object], list[Result]], name: str
) -> None:
    before, _, after = rows(told[1], name)
    true = np.mean([works(task.writes[name]) for task in tasks()])
    assert (before.quality_how, after.quality_how) == ("dr", "combined")
    assert after.ess > 1.2 * before.ess
    for row in (before, after):
        assert row.quality_ci is not None
        assert row.quality_ci[0] < true < row.quality_ci[1]
    assert half(after) / half(before) == pytest.approx(np.sqrt(before.ess / after.ess), rel=0.12)
