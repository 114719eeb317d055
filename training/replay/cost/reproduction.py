"""Does the logged policy, replayed, reproduce the bill? Asked first; where it doesn't, nothing else is told.

Caches are simulated along the logged route, told by other sessions only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from training.replay.cost.bills import CALL_WITHIN, billed_calls
from training.replay.cost.route import play

if TYPE_CHECKING:
    from training.replay.cost.bills import Bills
    from training.replay.cost.world import Worlds

WITHIN = 0.02
FEW, FEW_WITHIN = 10, 0.25  # sessions that can't tell each other how caches fare, and how far off they may be


class Reproduction(msgspec.Struct, kw_only=True):
    """The bill and the replay of the policy that was billed; errors are shares of the bill."""

    billed_usd: float
    recorded_usd: float  # of it, as the log tells; the rest is by the price table
    replayed_usd: float
    relative_error: float | None
    relative_error_ci: tuple[float, float] | None  # 95 %, over sessions
    session_median_error: float | None
    cached_tokens_billed: float
    cached_tokens_replayed: float
    counted_relative_error: float | None  # by the counts of the log, no cache simulated: the prices alone
    sessions: int
    calls: int
    whole_runs: int  # rows that sum up runs: their own counts stand
    explained_relative_error: float | None  # without the sessions whose bill isn't the price table's
    reasons: dict[str, int]  # sessions whose recorded cost is off the table's, by why
    left_out: dict[str, int]  # rows that can't be played
    status: str  # met, explained, within_noise, priced (nothing is recorded) or failed
    says: str
    calls_apart: int  # whose recorded cost their own counts don't meet, each by itself
    calls_apart_recorded_usd: float
    calls_apart_listed_usd: float

    @property
    def ok(self) -> bool:
        """Whether anything else may be told."""
        return self.status != "failed"


def reproduce(worlds: Worlds, bills: Bills, left_out: dict[str, int], *, known: bool = False) -> Reproduction:
    """Replay the logged route against the bill; `known`: what each answer cost is all that there is."""
    replayed, billed = _replayed(worlds, known=known), bills.usd
    error, ends = _error(replayed.usd, billed)
    held = ~bills.excused
    explained = _error(replayed.usd[held], billed[held])[0] if held.any() else None
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.abs(replayed.usd[billed > 0] / billed[billed > 0] - 1)
    counted = _error(bills.counted, billed)[0]
    status = status_of((error, explained, counted), ends, worlds.sessions)
    by_factor = 0 if known or status != "met" else _needed_factors(replayed.usd, billed, bills)
    if status in ("met", "explained") and not bills.recorded:
        status = "priced"
    result = Reproduction(
        billed_usd=float(billed.sum()),
        recorded_usd=bills.recorded,
        replayed_usd=float(replayed.usd.sum()),
        relative_error=error,
        relative_error_ci=ends,
        session_median_error=float(np.median(each)) if len(each) else None,
        cached_tokens_billed=replayed.billed,
        cached_tokens_replayed=replayed.read,
        counted_relative_error=counted,
        sessions=worlds.sessions,
        calls=worlds.n,
        whole_runs=replayed.runs,
        explained_relative_error=explained,
        reasons=bills.reasons,
        left_out=left_out,
        status="explained" if by_factor and status == "met" else status,
        says="",
        calls_apart=bills.apart.calls,
        calls_apart_recorded_usd=bills.apart.recorded_usd,
        calls_apart_listed_usd=bills.apart.listed_usd,
    )
    result.says = _said(result, by_factor)
    if known:
        result.says += "; an outcome matrix, whose answers cost what the log says"
    return result


class _Replayed(NamedTuple):
    """The logged route, replayed."""

    usd: np.ndarray  # (S,)
    read: float  # tokens, of calls whose cache counts are logged
    billed: float  # the same as logged
    runs: int


def _replayed(worlds: Worlds, *, known: bool) -> _Replayed:
    usd, read, billed, runs = [], 0.0, 0.0, 0
    for world in worlds.each():
        calls = world.calls
        told = np.isfinite(calls.cached)
        if known:
            every = np.repeat(billed_calls(world)[:, None], len(world.arms.arms), axis=1)
            world = world._replace(known=every)
        played = play(world, world.arms.logged)
        usd.append(played.usd)
        read += float(played.split.read[told].sum())
        billed += float(calls.cached[told].sum())
        runs += int(calls.run.sum())
    return _Replayed(np.concatenate(usd), read, billed, runs)


def status_of(
    errors: tuple[float | None, float | None, float | None], ends: tuple[float, float] | None, sessions: int
) -> str:
    """What the errors (of all, without the excused, by counts alone) come to."""
    error, explained, counted = errors
    if error is None:
        return "failed"
    if abs(error) <= WITHIN:
        return "met"
    if explained is not None and abs(explained) <= WITHIN:
        return "explained"
    if counted is None or abs(counted) > WITHIN:
        return "failed"  # not even by the log's own counts: that is no noise of caches
    if sessions < FEW and abs(error) <= FEW_WITHIN:
        return "within_noise"
    if ends is not None and ends[0] <= WITHIN and ends[1] >= -WITHIN:
        return "within_noise"
    return "failed"


def _needed_factors(replayed: np.ndarray, billed: np.ndarray, bills: Bills) -> int:
    """Sessions scaled by a mere factor, if the bill isn't met without it: then the log vouches for itself."""
    taken = bills.factor & (bills.scale > 0)
    error = _error(np.where(taken, replayed / np.where(taken, bills.scale, 1.0), replayed), billed)[0]
    return int(taken.sum()) if error is None or abs(error) > WITHIN else 0


def _error(said: np.ndarray, billed: np.ndarray) -> tuple[float | None, tuple[float, float] | None]:
    """Relative error of a sum over sessions, and its 95 % interval by the linearised ratio."""
    total = float(billed.sum())
    if not total > 0:
        return None, None
    error = float(said.sum()) / total - 1
    n = len(billed)
    if n < 2:
        return error, None
    off = said - (1 + error) * billed
    reach = 1.96 * float(np.sqrt(n / (n - 1) * (off @ off))) / total
    return error, (error - reach, error + reach)


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:+.2%}"


def _said(found: Reproduction, by_factor: int) -> str:
    """The check in one sentence; `by_factor` sessions meet their bill by a factor alone."""
    if found.relative_error is None:
        return "nothing was billed that could be reproduced: no price is known of any model in this log"
    sums = (
        f"billed ${found.billed_usd:,.4f}, replayed ${found.replayed_usd:,.4f} ({found.relative_error:+.2%})"
    )
    if not found.recorded_usd:
        sums = f"no recorded bill: priced by the table, ${found.billed_usd:,.4f}, replayed " + (
            f"${found.replayed_usd:,.4f} ({found.relative_error:+.2%})"
        )
    elif found.recorded_usd < (1 - WITHIN) * found.billed_usd:
        sums += f", of which ${found.recorded_usd:,.4f} are recorded and the rest is priced by the table"
    if by_factor:
        return (
            f"{sums}: within {WITHIN:.0%} only as {by_factor:,} sessions are taken at a factor of the price "
            f"table, which nothing but the log's own costs vouches for{_apart(found)}"
        )
    why = {
        "priced": "caches are reproduced; prices can't be checked",
        "met": f"the logged policy reproduces the bill within {WITHIN:.0%}",
        "explained": f"within {WITHIN:.0%} ({found.explained_relative_error or 0:+.2%}) save for sessions "
        "whose bill isn't the price table's",
        "within_noise": f"beyond {WITHIN:.0%}, but no further than so few sessions vary by themselves; by "
        f"their own counts {_percent(found.counted_relative_error)}",
        "failed": f"the logged policy does not reproduce the bill within {WITHIN:.0%}, so nothing else is "
        "told; see `samediff cost LOG --check` for where log and price table disagree",
    }
    return f"{sums}: {why[found.status]}{_apart(found)}"


def _apart(found: Reproduction) -> str:
    """Calls that aren't met one by one: within the sum, somebody may have been billed what nobody used."""
    if not found.calls_apart:
        return ""
    return (
        f"; {found.calls_apart:,} of {found.calls:,} calls, recorded at "
        f"${found.calls_apart_recorded_usd:,.4f}, come to ${found.calls_apart_listed_usd:,.4f} by their own "
        f"counts, each more than {CALL_WITHIN:.0%} off"
    )
