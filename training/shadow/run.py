"""`samediff shadow`: plan, ask, judge, write the labels; or go on with a run that was interrupted."""

from __future__ import annotations

import asyncio
import math
import os
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput, CheckFailed
from models.bundle import Bundle
from router.catalog import Catalog
from router.offline import bundle_folder
from training.log import LogStore
from training.progress import Progress
from training.shadow.asking import Asker, Limits
from training.shadow.batches import BatchAsker
from training.shadow.exchange import now_ms
from training.shadow.frame import TOO_DEAR, Aim, Frame, Surveyor, check_candidate, most_served
from training.shadow.labels import judge_pairs, outcomes, request_records
from training.shadow.ledger import Closed, Item, Ledger, Plan, Settled, xxh128
from training.shadow.money import Purse
from training.shadow.report import ShadowReport, Spending, report
from training.shadow.sampling import sizes, uniform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from router.gateway.settings import Settings

MAX_ITEMS = 5_000  # of a plan; more requests than one run is likely to pay for
PER_REQUEST_SHARE = 20  # without --per-request, one request may cost a twentieth of the budget at worst


class Options(NamedTuple):
    """What `samediff shadow` is asked."""

    budget: str
    candidates: tuple[str, ...]
    reference: str | None = None
    per_request: str | None = None
    seed: int = 0
    self_share: float = 0.5
    max_output_tokens: int = 16_000
    finish: bool = False
    batch: bool = False
    limits: Limits = Limits()


def run(
    folder: Path, options: Options, settings: Settings, environ: Mapping[str, str] = os.environ
) -> ShadowReport:
    """Run or resume; raises BadInput for what can't be used, CheckFailed when nothing can be asked."""
    budget = usd(options.budget, "--budget")
    if not options.finish and budget == 0:
        raise CheckFailed("a budget of 0 pays for nothing; give one with --budget")
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such log; make one with `samediff ingest SOURCE --to {folder}`")
    log, catalog = LogStore(folder), Catalog.load(settings.catalog)
    aim = _aim(options, budget, log, catalog, environ)
    with Ledger(log.path / "shadow" / f"{_run_name(options, aim)}.jsonl") as ledger:
        if ledger.plan is None:
            if options.finish:
                raise BadInput(f"{folder}: no run to finish with these options; start one without --finish")
            bundle = Bundle.load(bundle_folder(settings))
            _plan(ledger, Surveyor(catalog, bundle, aim, environ).survey(log), aim, _run_name(options, aim))
        purse = Purse(budget, ledger.spent_usd)
        stop = "closed" if ledger.closed else "finish"
        again = options.limits.retry_unsettled and ledger.unsettled > 0
        if (not ledger.closed or again) and not options.finish:
            stop = _ask(ledger, purse, log, options, (catalog, settings, environ))
        return _close(ledger, purse, log, catalog, stop)


def usd(text: str, option: str) -> Decimal:
    """An amount of money from the command line; BadInput unless it is a number from 0 up."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise BadInput(f"{option} {text!r} is not a number; give USD such as 5.00") from None
    if not amount.is_finite() or amount < 0:
        raise BadInput(f"{option} {text!r} must be an amount of USD from 0 up")
    return amount


def _aim(
    options: Options, budget: Decimal, log: LogStore, catalog: Catalog, environ: Mapping[str, str]
) -> Aim:
    """What to compare with what; every name checked before a cent is spent."""
    if not options.candidates:
        raise BadInput("give the candidates to ask, such as --candidates claude-sonnet-5-5,claude-haiku-5-5")
    if not 0 < options.self_share <= 1:
        raise BadInput(f"--self-share {options.self_share} must be above 0 and at most 1")
    waits = 0 < options.limits.timeout_s < math.inf  # NaN isn't
    if options.max_output_tokens < 1 or options.limits.concurrency < 1 or not waits:
        raise BadInput("--max-output-tokens, --concurrency and --timeout must be positive")
    reference = options.reference or most_served(log, catalog)
    for name in (reference, *options.candidates):
        check_candidate(catalog, name, environ, asks=not options.finish)
    if reference in options.candidates:
        raise BadInput(f"{reference} is the reference; its agreement with itself is measured anyway")
    given = None if options.per_request is None else usd(options.per_request, "--per-request")
    return Aim(
        candidates=tuple(dict.fromkeys(options.candidates)),
        reference=reference,
        seed=options.seed,
        self_share=options.self_share,
        max_output_tokens=options.max_output_tokens,
        per_request_usd=budget / PER_REQUEST_SHARE if given is None else min(given, budget),
        now_ms=now_ms(),
    )


def _run_name(options: Options, aim: Aim) -> str:
    """The same for the same question, so that a repeated command goes on where the last one stopped."""
    asked = [
        *sorted(aim.candidates),
        aim.reference,
        aim.self_share,
        aim.max_output_tokens,
        options.per_request,
    ]
    return f"{aim.seed}-{xxh128(repr(asked))[:12]}"


def _plan(ledger: Ledger, frame: Frame, aim: Aim, run_name: str) -> None:
    """Order the requests and write the plan; CheckFailed with the reasons if none can be asked."""
    if not frame.requests:
        raise BadInput("the log holds no requests; ingest some first")
    if not frame.found:
        why = "; ".join(f"{count:,} × {reason}" for reason, count in frame.reasons.items())
        advice = "; raise --per-request or lower --max-output-tokens" if TOO_DEAR in frame.reasons else ""
        raise CheckFailed(f"none of {frame.requests:,} logged requests can be asked again: {why}{advice}")
    size = sizes(
        np.array([f.uncertainty for f in frame.found]),
        np.array(frame.traffic, dtype=np.float64),
        np.array([f.expected_usd for f in frame.found]),
    ).tolist()
    items = [
        Item(
            request_id=found.request_id,
            session_id=found.session_id,
            dialect=found.dialect,
            rank=uniform(aim.seed, found.request_id) / size[n],
            size=size[n],
            traffic=frame.traffic[n],
            calls=found.calls,
            logged=found.logged,
            answered_by=found.answered_by,
            logged_model=found.logged_model,
            logged_tokens=found.logged_tokens,
        )
        for n, found in enumerate(frame.found)
    ]
    items.sort(key=lambda item: item.rank)
    plan = Plan(
        run=run_name,
        created_ms=aim.now_ms,
        reference=aim.reference,
        candidates=list(aim.candidates),
        seed=aim.seed,
        self_share=aim.self_share,
        max_output_tokens=aim.max_output_tokens,
        requests=frame.requests,
        not_replayable=frame.reasons,
        frame=len(items),
        biggest_usd=max(found.worst_usd for found in frame.found),
        beyond=items[MAX_ITEMS].rank if len(items) > MAX_ITEMS else None,
    )
    ledger.start(plan, items[:MAX_ITEMS])


def _ask(
    ledger: Ledger,
    purse: Purse,
    log: LogStore,
    options: Options,
    place: tuple[Catalog, Settings, Mapping[str, str]],
) -> str:
    """Ask with a bar that tells dollars and answers."""
    catalog, settings, environ = place
    answers = 0
    with Progress("asking") as progress:

        def told(settled: Settled) -> None:
            nonlocal answers
            answers += settled.status == "ok"
            progress.advance(about=f"${purse.spent:.2f} of ${purse.cap:.2f}, {answers:,} answers")

        handed_in = any(ledger.open_calls(batch) for batch in ledger.batches)
        kind = BatchAsker if options.batch or handed_in else Asker
        asker = kind(ledger, purse, catalog, environ, limits=options.limits, told=told)
        if isinstance(asker, BatchAsker):
            asker.more = options.batch
        return asyncio.run(asker.ask(log, settings.upstream))


def _close(ledger: Ledger, purse: Purse, log: LogStore, catalog: Catalog, stop: str) -> ShadowReport:
    """Judge, write money and, unless the run can go on, labels; appending twice adds nothing."""
    judged = judge_pairs(ledger, log)
    log.append("request", request_records(ledger, catalog))
    labels = 0
    if stop != "failing":
        labels = log.append("outcome", outcomes(ledger, judged, now_ms())).added
        if ledger.closed is None:
            threshold = None if np.isinf(judged.threshold) else judged.threshold
            ledger.write(Closed(ts_ms=now_ms(), threshold=threshold))
    return report(ledger, judged, Spending(purse.cap, purse.spent, stop, labels))
