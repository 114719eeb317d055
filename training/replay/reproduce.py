"""Does the logged policy, replayed, reproduce the bill? Asked first; where it doesn't, nothing else is told.

Caches are simulated along the logged route, told by other sessions only. What a session's recorded cost is of
the price table's (another date, writes for an hour, a seller's own factor) is found as `samediff cost` finds
it, and then holds for all policies alike.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from training.replay.money import bill
from training.replay.world import play
from training.spend.agree import NEARLY_ALL, OFF, UNEXPLAINED, agreement
from training.spend.calls import read_calls

if TYPE_CHECKING:
    from pathlib import Path

    from training.replay.world import World

WITHIN = 0.02
FEW, FEW_WITHIN = 10, 0.25  # sessions that can't tell each other how caches fare, and how far off they may be
MIN_GROUP = 5  # sessions of a harness and model whose factor is believed
# What the price table can't be held to: what others sold, or what the log counts in part only.
EXCUSED = ("aggregator", "mixed_models", "sub_agents", "output_missing", "rounded")


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

    @property
    def ok(self) -> bool:
        """Whether anything else may be told."""
        return self.status != "failed"


class Bills(msgspec.Struct, kw_only=True):
    """What was billed, (n,) and (S,), and how it relates to the price table."""

    usd: np.ndarray  # (n,)
    counted: np.ndarray  # (n,) by the table, as it was counted, scaled
    recorded: float
    scale: np.ndarray  # (S,)
    excused: np.ndarray  # (S,) bool
    reasons: dict[str, int]
    factor: np.ndarray  # (S,) bool: the scale is the log's own, a factor that no price table tells


def bills_of(log: Path, world: World) -> Bills:
    """What each call was billed, and what each session's bill is of the price table's."""
    book = world.book
    rows = np.arange(book.n)
    read, written = np.nan_to_num(book.cached), np.nan_to_num(book.written)
    hourly = np.minimum(np.nan_to_num(book.written_1h), written)
    split = (book.prompt - read - written, read, written, hourly)
    listed = bill(world.rates.of(rows, world.arms.logged), split, book.output).total
    told = np.isfinite(book.recorded)
    free = told & (book.of_session(np.nan_to_num(book.recorded)) <= 0)[book.session]
    told &= ~free  # recorded as free: a subscription, or nobody wrote it down
    usd = np.where(told, book.recorded, listed)
    scale, excused, factor, reasons = _explained(log, world, listed, told)
    if free.any():
        reasons["recorded_zero"] = len(np.unique(book.session[free]))
    counted = listed * scale[book.session]
    return Bills(
        usd=np.where(told, usd, counted),
        counted=counted,
        recorded=float(book.recorded[told].sum()),
        scale=scale,
        excused=excused,
        reasons=reasons,
        factor=factor,
    )


def _explained(
    log: Path, world: World, listed: np.ndarray, told: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    """Scale, excuse and whether a mere factor (S,) of all sessions, and how many are off for which reason."""
    book = world.book
    both = told & np.isfinite(listed)
    recorded = book.of_session(np.where(both, book.recorded, 0.0))
    table = book.of_session(np.where(both, listed, 0.0))
    scale = np.ones(book.sessions)
    excused, factor = (np.zeros(book.sessions, dtype=bool) for _ in range(2))
    with np.errstate(divide="ignore", invalid="ignore"):
        off = (table > 0) & (recorded > 0) & (np.abs(table / recorded - 1) > OFF)
    if not off.any():
        return scale, excused, factor, {}
    names = book.frame["session_id"][book.starts[:-1]]
    place = {names[int(s)]: int(s) for s in np.flatnonzero(off)}
    played = frozenset(book.frame["request_id"].filter(off[book.session]))
    calls = read_calls(log, frozenset(place))
    found = agreement(one for one in calls if one.call.request_id in played)
    right = table.copy()
    for check in found.off:
        s = place.get(check.session)
        if s is not None:
            right[s] += float(check.explained_usd) - float(check.listed_usd)
            excused[s] |= check.reason in EXCUSED
            factor[s] |= check.reason == "factor"
    lone = factor & ~_of_nearly_all(_kinds(world), off, (table > 0) & (recorded > 0))
    if lone.any():  # others of their kind are met: whatever it is, it is no price of the seller's
        right[lone], factor[lone] = table[lone], False
        for check in found.off:
            if check.reason == "factor" and lone[place[check.session]]:
                check.reason = UNEXPLAINED
    once = {(check.session, check.reason) for check in found.off}  # one of two models is one session
    reasons = dict(Counter(reason for _, reason in once).most_common())
    scale = np.where(off & (table > 0), right / np.where(table > 0, table, 1.0), 1.0)
    _by_group(world, (recorded, table, off), scale, (excused, factor))
    return scale, excused, factor, reasons


def _kinds(world: World) -> np.ndarray:
    """Harness and model (S,) of every session, as one number."""
    first = world.book.starts[:-1]
    harness = np.unique(world.book.frame["harness"].fill_null("").to_numpy()[first], return_inverse=True)[1]
    kind: np.ndarray = harness * len(world.arms.arms) + world.arms.logged[first]
    return kind


def _of_nearly_all(kind: np.ndarray, off: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Whether (S,) nearly all sessions of its kind are off; agreement has read those alone that are."""
    wrong = np.bincount(kind, weights=off & there)
    nearly: np.ndarray = wrong >= NEARLY_ALL * np.bincount(kind, weights=there)
    found: np.ndarray = nearly[kind]
    return found


def _by_group(
    world: World,
    sums: tuple[np.ndarray, np.ndarray, np.ndarray],
    scale: np.ndarray,
    said: tuple[np.ndarray, np.ndarray],
) -> None:
    """Where most sessions of a harness and model are off for no reason of the table's: the others' factor.

    No session has a say in its own. Writes into the scale and what is `said` of sessions (excused, factor).
    """
    excused, factor = said
    recorded, table, off = sums
    kind = _kinds(world)
    for group in np.unique(kind[excused]):
        mine = (kind == group) & (table > 0) & (recorded > 0)
        if mine.sum() < MIN_GROUP or 2 * (mine & off).sum() < mine.sum():
            continue
        others = (recorded[mine].sum() - recorded[mine]) / (table[mine].sum() - table[mine])
        scale[mine] = others
        excused[mine], factor[mine] = False, True


def reproduce(world: World, bills: Bills, *, known: bool = False) -> Reproduction:
    """Replay the logged route against the bill; `known`: what each answer cost is all that there is."""
    book = world.book
    if known:
        world = world._replace(known=np.repeat(bills.usd[:, None], len(world.arms.arms), axis=1))
    played = play(world, world.arms.logged)
    told = np.isfinite(book.cached)
    billed = book.of_session(np.nan_to_num(bills.usd))
    error, ends = _error(played.usd, billed)
    held = ~bills.excused
    explained = _error(played.usd[held], billed[held])[0] if held.any() else None
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.abs(played.usd[billed > 0] / billed[billed > 0] - 1)
    counted = _error(book.of_session(np.nan_to_num(bills.counted)), billed)[0]
    status = status_of((error, explained, counted), ends, book.sessions)
    by_factor = 0 if known or status != "met" else _needed_factors(played.usd, billed, bills)
    if status in ("met", "explained") and not bills.recorded:
        status = "priced"
    result = Reproduction(
        billed_usd=float(billed.sum()),
        recorded_usd=bills.recorded,
        replayed_usd=played.total,
        relative_error=error,
        relative_error_ci=ends,
        session_median_error=float(np.median(each)) if len(each) else None,
        cached_tokens_billed=float(book.cached[told].sum()),
        cached_tokens_replayed=float(played.split.read[told].sum()),
        counted_relative_error=counted,
        sessions=book.sessions,
        calls=book.n,
        whole_runs=int(book.run.sum()),
        explained_relative_error=explained,
        reasons=bills.reasons,
        left_out=book.left_out,
        status="explained" if by_factor and status == "met" else status,
        says="",
    )
    result.says = _said(result, by_factor)
    if known:
        result.says += "; an outcome matrix, whose answers cost what the log says"
    return result


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
            "table, which nothing but the log's own costs vouches for"
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
    return f"{sums}: {why[found.status]}"
