"""Logs of made-up sessions whose truth is known: who answered with which chance, at what cost, how well."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from msgspec.structs import replace

from features.facts import Facts
from features.records import ArmRecord, DecisionRecord, OutcomeRecord, RequestRecord
from router import prices
from training.log import LogStore

START_MS = 1_779_868_800_000  # 2026-05-27 08:00 UTC
STRONG, CHEAP = "claude-opus-4-6", "claude-haiku-4-5"
TRUTH = {STRONG: 0.9, CHEAP: 0.9}


def write_log(
    folder,
    *,
    sessions=60,
    turns=4,
    epsilon=0.3,
    truth=None,
    decided=True,
    labelled=True,
    arms=(STRONG, CHEAP),
    seed=0,
    pairs=0.0,
    tested=1.0,
    pace_ms=3_600_000,
    keeps=False,
    dearer=None,
    fallen=0.0,
    first=0,
    **fields,
):
    """A log of sessions: the first of `arms` answers, any with `epsilon`; caches do as they should.

    Where a session `keeps` what its first turn drew, later turns have chance 1. `dearer` is the factor of
    what every so-many-th session was billed: (factor, every). `fallen` is the share of what was decided for
    others that the first of `arms` answers, since they couldn't be reached. `tested` is the share of shadow
    answers whose outcome is known; of the others we have what `samediff shadow` writes, how like the diff is.
    `first` is the number of the first session.
    """
    rng = np.random.default_rng(seed)
    truth = truth or TRUTH
    requests, decisions, outcomes = [], [], []
    for s in range(first, first + sessions):
        sent, prompt, arm = {}, 6_000, arms[0]
        for t in range(turns):
            free = rng.random() < epsilon
            held = keeps and t > 0
            arm = arm if held else arms[int(rng.integers(len(arms)))] if free else arms[0]
            now = START_MS + s * pace_ms + t * 20_000
            prompt += int(rng.integers(500, 3_000))
            gave = arms[0] if fallen and arm != arms[0] and rng.random() < fallen else arm
            one = _request(f"s{s}", t, now, gave, (prompt, sent.get(gave, 0)), fields)
            sent[gave] = prompt
            if dearer is not None and s % dearer[1] == 0:
                usd = (one.cost_usd * Decimal(str(dearer[0]))).quantize(Decimal("1e-12"))
                one = replace(one, cost_usd=usd)
            requests.append(one)
            if decided:
                chances = {a: epsilon / len(arms) + (1 - epsilon) * (a == arms[0]) for a in arms}
                chances = {a: float(a == arm) for a in arms} if held else chances
                decisions.append(_decision(one, arm, arms[0], chances))
            if labelled:
                outcomes.append(_outcome(one, gave, float(rng.random() < truth[gave])))
            if rng.random() < pairs:
                others = [(a, rng.random() < truth[a]) for a in arms if a != arm]
                known = [tested == 1 or rng.random() < tested for _ in others]
                for (a, right), told in zip(others, known, strict=True):
                    outcomes.append((_pair if told else judged)(one, a, arms[0], right, pairs))
    store = LogStore(folder)
    store.append("request", requests)
    store.append("decision", decisions)
    store.append("outcome", outcomes)
    return folder


def _request(session, turn, now, arm, sizes, fields):
    prompt, sent = sizes
    read = sent if sent >= 4_096 else 0
    rates = prices.rates(arm, "anthropic", now, prompt)
    output = 400
    written = prompt - read
    cost = (read * rates.cached + written * rates.write + output * rates.output) / prices.MTOK
    given = {
        "request_id": f"{session}/{turn}",
        "session_id": session,
        "ts_ms": now,
        "source": "table",
        "turn": turn,
        "model_served": arm,
        "provider": "anthropic",
        "repo": f"repo{hash_of(session) % 3}",
        "user": "ann" if hash_of(session) % 2 else "bob",
        "task_type": "fix",
        "input_tokens_uncached": 0,
        "cached_tokens": read,
        "cache_write_tokens": written,
        "output_tokens": output,
        "cost_usd": Decimal(cost).quantize(Decimal("1e-12")),
        "cost_source": "log",
        "facts": Facts(
            turn=float(turn), in_tool_loop=0.0, provider_bound=0.0, context_tokens_est=float(prompt)
        ),
    }
    return RequestRecord(**(given | fields))


def hash_of(session):
    return int(session[1:])


def _decision(one, chosen, reference, chances):
    records = [ArmRecord(candidate=name, propensity=p) for name, p in chances.items()]
    return DecisionRecord(
        request_id=one.request_id,
        session_id=one.session_id,
        ts_ms=one.ts_ms,
        policy="learned",
        chosen=chosen,
        reference=reference,
        arms=records,
        decide_ms=1.0,
    )


def _outcome(one, arm, value):
    return OutcomeRecord(
        outcome_id=f"{one.request_id}/tests",
        ts_ms=one.ts_ms + 1,
        source="tests",
        request_id=one.request_id,
        candidate=arm,
        level="score",
        value=value,
    )


def _pair(one, arm, reference, right, share):
    return OutcomeRecord(
        outcome_id=f"{one.request_id}/shadow/{arm}",
        ts_ms=one.ts_ms + 2,
        source="shadow",
        request_id=one.request_id,
        candidate=arm,
        reference=reference,
        level="tests",
        value=float(right),
        sampling_probability=share,
    )


def judged(one, arm, reference, right, share):
    """A pair as `samediff shadow` writes it: the diff is the same for a half of the right answers."""
    same = right and int(one.request_id.split("/")[0][1:]) % 2 == 0
    return replace(
        _pair(one, arm, reference, right, share),
        session_id=one.session_id,
        level="L1" if same else "different",
        value=1.0 if same else None,
    )


def write_matrix(folder, tasks=40, arms=(STRONG, CHEAP, "gpt-5.4"), seed=0):
    """A log in which every candidate answered every task; its costs and outcomes beside it, (tasks, arms)."""
    rng = np.random.default_rng(seed)
    usd = rng.uniform(0.01, 0.2, (tasks, len(arms))).round(6)
    reward = (rng.random((tasks, len(arms))) < 0.6).astype(float)
    requests, outcomes = [], []
    for i in range(tasks):
        for j, arm in enumerate(arms):
            one = RequestRecord(
                request_id=f"t{i}/{arm}",
                session_id=f"t{i}/{arm}",
                task_id=f"t{i}",
                ts_ms=START_MS + i * 60_000,
                source="table",
                model_served=arm,
                input_tokens_uncached=1_000 + i,
                output_tokens=100 + 10 * j,
                cost_usd=Decimal(str(usd[i, j])),
                cost_source="log",
                facts=Facts(turn=0.0),
            )
            requests.append(one)
            outcomes.append(_outcome(one, arm, reward[i, j]))
    store = LogStore(folder)
    store.append("request", requests)
    store.append("outcome", outcomes)
    return folder, usd, reward
