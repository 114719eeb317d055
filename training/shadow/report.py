"""What a shadow run found, for people and for machines."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.diffs.verdicts import ORDER
from training.shadow.ledger import call_name
from training.shadow.sampling import Share, weighted_share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from training.shadow.labels import Judged, Pair
    from training.shadow.ledger import CallRole, Ledger, Settled

_ENDS = {
    "budget": "stopped at the cap",
    "exhausted": "every request of the plan was asked",
    "failing": "stopped: a provider fails again and again; the same command goes on from here",
    "finish": "finished on request",
    "closed": "was over before; --seed N draws another sample",
}


class Spending(NamedTuple):
    """The money of a run, why it ended, and the labels it added to the log."""

    cap: Decimal
    spent: Decimal
    stop: str
    labels: int


class ShadowArm(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate, or the reference against itself: its calls, verdicts, agreement and dollars."""

    candidate: str
    role: str  # "candidate", "self" or "reference"
    planned: int
    called: int
    answered: int
    failed: int  # with those that were cut, refused, cancelled or never came back
    levels: dict[str, int]
    same: float | None  # share of the traffic, weighted by inverse chance
    same_ci: tuple[float, float] | None
    effective_rows: float
    usd: Decimal
    usd_reserved: Decimal  # the part of `usd` that is a reservation, the true cost being unknown


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """The machine-readable result."""

    run: str
    reference: str
    ended: str
    budget_usd: Decimal
    spent_usd: Decimal
    left_usd: Decimal
    requests: int
    frame: int  # requests that can be asked again, repeats merged
    repeats: int  # more requests with one of their bodies, which count as its traffic
    asked: int
    not_replayable: dict[str, int]
    labels_added: int
    pairs: int  # compared with a reference answer, whatever came of it
    same_labels: int
    unsettled: int  # calls that a kill or ^C left open: paid for at their worst, their answer unknown
    without_chance: int  # pairs that belong to no estimate: their chance isn't known
    arms: list[ShadowArm]

    @property
    def ok(self) -> bool:
        """Whether the run came to its own end with something to show for it."""
        return self.ended != "failing" and any(arm.answered for arm in self.arms)


def report(ledger: Ledger, judged: Judged, spending: Spending) -> ShadowReport:
    """Count and estimate."""
    plan = ledger.plan
    assert plan is not None
    keys: list[tuple[CallRole, str]] = [("reference", plan.reference), ("self", plan.reference)]
    keys += [("candidate", name) for name in plan.candidates]
    arms = [_arm(ledger, judged, role, name) for role, name in keys]
    return ShadowReport(
        run=plan.run,
        reference=plan.reference,
        ended=spending.stop,
        budget_usd=spending.cap,
        spent_usd=spending.spent,
        left_usd=spending.cap - spending.spent,
        requests=plan.requests,
        frame=plan.frame,
        repeats=plan.requests - plan.frame - sum(plan.not_replayable.values()),
        asked=len({sent.request_id for sent in ledger.sent.values()}),
        not_replayable=plan.not_replayable,
        labels_added=spending.labels,
        pairs=len(judged.pairs),
        unsettled=ledger.unsettled,
        same_labels=sum(pair.verdict.same for pair in judged.pairs),
        without_chance=sum(pair.chance is None for pair in judged.pairs),
        arms=[arm for arm in arms if arm.planned],
    )


def _arm(ledger: Ledger, judged: Judged, role: CallRole, name: str) -> ShadowArm:
    assert ledger.plan is not None
    planned = [
        call_name(ledger.plan.run, item, call)
        for item in ledger.items
        for call in item.calls
        if (call.role, call.candidate) == (role, name)
    ]
    mine = set(planned)
    called = [call for call in planned if call in ledger.attempts]
    results = [ledger.result(call) for call in called]
    answered = sum(result is not None and result.status == "ok" for result in results)
    pairs = [p for p in judged.pairs if (p.planned.role, p.planned.candidate) == (role, name)]
    found = Counter(pair.verdict.level for pair in pairs)
    share = share_of(pairs)
    spent = [(sent, ledger.settled.get(key)) for key, sent in ledger.sent.items() if sent.call in mine]
    paid = [(settled.usd if settled else sent.reserved_usd, _guessed(settled)) for sent, settled in spent]
    return ShadowArm(
        candidate=name,
        role=role,
        planned=len(planned),
        called=len(called),
        answered=answered,
        failed=len(called) - answered,
        levels={level: found[level] for level in ORDER},
        same=share.mean,
        same_ci=None if share.low is None or share.high is None else (share.low, share.high),
        effective_rows=share.effective_rows,
        usd=sum((usd for usd, _ in paid), Decimal(0)),
        usd_reserved=sum((usd for usd, guessed in paid if guessed), Decimal(0)),
    )


def _guessed(settled: Settled | None) -> bool:
    return settled is None or settled.counted == "reservation"


def share_of(pairs: list[Pair]) -> Share:
    """The share of *same* among pairs that could be judged and whose chance is known."""
    rows = [
        (float(pair.verdict.same), pair.chance, float(pair.item.traffic), pair.item.session_id)
        for pair in pairs
        if pair.chance is not None and pair.verdict.level != "unknown"
    ]
    columns = np.array([row[:3] for row in rows], dtype=np.float64).reshape(-1, 3)
    sessions = np.array([row[3] for row in rows], dtype=object)
    return weighted_share(columns[:, 0], columns[:, 1], columns[:, 2], sessions)


def render(result: ShadowReport) -> Iterable[RenderableType]:
    """The closing table, the money, and what couldn't be asked again."""
    from rich.table import Table

    yield (
        f"[bold]${result.spent_usd:.4f}[/bold] of ${result.budget_usd:.2f} spent, "
        f"${result.left_usd:.4f} left: {_ENDS.get(result.ended, result.ended)}"
    )
    yield (
        f"{result.asked:,} of {result.frame:,} requests asked again; {result.labels_added:,} labels added "
        f"to the log, {result.same_labels:,} of {result.pairs:,} pairs are the same diff"
    )
    table, levels = Table(), Table()  # two, since one of twelve columns fits no terminal
    table.add_column("Against the reference", min_width=16, overflow="fold")
    levels.add_column("Pairs by level", min_width=16, overflow="fold")
    for title in ("Calls", "Failed", "Same", "95 %", "USD"):
        table.add_column(title, no_wrap=True, justify="right")
    for title in ORDER:
        levels.add_column(title, no_wrap=True, justify="right")
    for arm in result.arms:
        table.add_row(_about(arm), *_row(arm))
        if arm.role != "reference":
            levels.add_row(_about(arm), *(f"{arm.levels[level]:,}" for level in ORDER))
    yield table
    if levels.row_count:
        yield levels
    guessed = sum((arm.usd_reserved for arm in result.arms), Decimal(0))
    if guessed:
        yield f"${guessed:.4f} of it are reservations: calls whose true cost the provider didn't tell"
    if result.unsettled:
        yield (
            f"! {result.unsettled:,} calls were left open by a kill or ^C and count at their worst; "
            "--retry-unsettled asks, and pays, them again"
        )
    if not any(arm.role == "self" for arm in result.arms):
        yield (
            "! no ceiling measured: the reference was asked nothing twice (too dear within --per-request, or "
            "--self-share drew none)"
        )
    if result.without_chance:
        yield f"{result.without_chance:,} pairs belong to no estimate: they have no known chance"
    if result.repeats:
        yield f"[dim]{result.repeats:,} more requests repeat the body of one of them: its traffic[/dim]"
    for reason, count in result.not_replayable.items():
        yield f"[dim]not asked again: {count:,} × {reason}[/dim]"


def _about(arm: ShadowArm) -> str:
    about = {"self": f"{arm.candidate} again (ceiling)", "reference": f"{arm.candidate} (asked anew)"}
    return about.get(arm.role, arm.candidate)


def _row(arm: ShadowArm) -> list[str]:
    judged = arm.role != "reference"
    interval = "" if arm.same_ci is None else f"{arm.same_ci[0]:.0%}-{arm.same_ci[1]:.0%}"
    return [
        f"{arm.called:,}",
        f"{arm.failed:,}",
        "" if not judged else "unknown" if arm.same is None else f"{arm.same:.1%}",
        interval,
        f"{arm.usd:.4f}",
    ]
