"""Does the logged policy, replayed, reproduce the bill? Asked first; where it doesn't, nothing else is told.

Caches are simulated along the logged route, told by other sessions only. What a session's recorded cost is of
the price table's (another date, writes for an hour, a seller's own factor) is found as `samediff cost` finds
it, and then holds for all policies alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from training.replay.money import bill
from training.replay.world import play
from training.spend.agree import OFF, agreement
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
    status: str  # met, explained, within_noise or failed
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
    scale, excused, reasons = _explained(log, world, listed, told)
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
    )


def _explained(
    log: Path, world: World, listed: np.ndarray, told: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Scale (S,) and excuse (S,) of every session, and how many sessions are off for which reason."""
    book = world.book
    both = told & np.isfinite(listed)
    recorded = book.of_session(np.where(both, book.recorded, 0.0))
    table = book.of_session(np.where(both, listed, 0.0))
    scale, excused = np.ones(book.sessions), np.zeros(book.sessions, dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = (table > 0) & (recorded > 0) & (np.abs(table / recorded - 1) > OFF)
    if not off.any():
        return scale, excused, {}
    names = book.frame["session_id"][book.starts[:-1]]
    place = {names[int(s)]: int(s) for s in np.flatnonzero(off)}
    found = agreement(read_calls(log, frozenset(place)))
    right = table.copy()
    for check in found.off:
        s = place.get(check.session)
        if s is not None:
            right[s] += float(check.explained_usd) - float(check.listed_usd)
            excused[s] |= check.reason in EXCUSED
    scale = np.where(off & (table > 0), right / np.where(table > 0, table, 1.0), 1.0)
    return _by_group(world, (recorded, table, off), scale, excused), excused, found.reasons


def _by_group(
    world: World, sums: tuple[np.ndarray, np.ndarray, np.ndarray], scale: np.ndarray, excused: np.ndarray
) -> np.ndarray:
    """Where most sessions of a harness and model are off for no reason of the table's: the others' factor.

    No session has a say in its own.
    """
    book = world.book
    recorded, table, off = sums
    first = book.starts[:-1]
    harness = np.unique(book.frame["harness"].fill_null("").to_numpy()[first], return_inverse=True)[1]
    kind = harness * len(world.arms.arms) + world.arms.logged[first]
    for group in np.unique(kind[excused]):
        mine = (kind == group) & (table > 0) & (recorded > 0)
        if mine.sum() < MIN_GROUP or 2 * (mine & off).sum() < mine.sum():
            continue
        others = (recorded[mine].sum() - recorded[mine]) / (table[mine].sum() - table[mine])
        scale[mine] = others
        excused[mine] = False
    return scale


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
        status=status,
        says="",
    )
    result.says = _said(result)
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
    few = sessions < FEW and abs(error) <= FEW_WITHIN
    if few and counted is not None and abs(counted) <= WITHIN:
        return "within_noise"
    if ends is not None and ends[0] <= WITHIN and ends[1] >= -WITHIN:
        return "within_noise"
    return "failed"


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


def _said(found: Reproduction) -> str:
    """The check in one sentence."""
    if found.relative_error is None:
        return "nothing was billed that could be reproduced: no price is known of any model in this log"
    sums = (
        f"billed ${found.billed_usd:,.4f}, replayed ${found.replayed_usd:,.4f} ({found.relative_error:+.2%})"
    )
    why = {
        "met": f"the logged policy reproduces the bill within {WITHIN:.0%}",
        "explained": f"within {WITHIN:.0%} ({found.explained_relative_error or 0:+.2%}) save for sessions "
        "whose bill isn't the price table's",
        "within_noise": f"beyond {WITHIN:.0%}, but no further than so few sessions vary by themselves; by "
        f"their own counts {_percent(found.counted_relative_error)}",
        "failed": f"the logged policy does not reproduce the bill within {WITHIN:.0%}, so nothing else is "
        "told; see `samediff cost LOG --check` for where log and price table disagree",
    }
    return f"{sums}: {why[found.status]}"
