"""Estimates of policies on a log that comes in parts: sums over each part, put together at the end.

Sessions lie whole in their parts, so that all that an interval needs of them are sums of products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.estimators import scores as of
from training.estimators.bandit import Whole
from training.estimators.model import Cells, guessed
from training.estimators.paired import Surprises, paired, surprise
from training.estimators.support import Seen, seen_of
from training.replay.by_session import Led, led_by, outcomes_of
from training.replay.quality import Quality, Told, in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.estimators.bandit import Bandit
    from training.replay.entries import Target
    from training.replay.evidence import Evidence

DR, PAIRED, LOGGED, SIZE = range(4)  # what is summed up by session


class Scored(NamedTuple):
    """Sums over the free decisions of a part, or of all, for one policy."""

    seen: Seen
    sums: np.ndarray  # (4,) of scores: doubly robust, by pairs, of what was logged, and 1
    products: np.ndarray  # (4, 4) of their sums by session
    sessions: int
    same: bool  # the policy is the logged one
    led: Led  # whole sessions

    def plus(self, other: Scored) -> Scored:
        """The sums of both."""
        return Scored(
            self.seen.plus(other.seen),
            self.sums + other.sums,
            self.products + other.products,
            self.sessions + other.sessions,
            self.same and other.same,
            self.led.plus(other.led),
        )


class Judge:
    """Estimates on the free decisions of a log, or of some of its `sessions` (S,) bool.

    What doesn't depend on the policy is summed up once.
    """

    def __init__(self, evidence: Iterable[Evidence], sessions: np.ndarray | None = None) -> None:
        self.evidence = evidence
        self.sessions = sessions
        self.arms: tuple[str, ...] = ()
        self.whole: Whole | None = None
        self.whole, self.guesses = self._model()
        self.told = self._told()

    def of(self, target: Target, call_usd: float | None = None) -> Quality:
        """Quality of one policy."""
        return self.every([target], [call_usd])[0]

    def every(self, targets: Sequence[Target], call_usd: Sequence[float | None]) -> list[Quality]:
        """Quality of policies, by their chances (n, k) or arms (n,) in each part, at so many USD a call."""
        found: list[Scored | None] = [None] * len(targets)
        for part, ((log, kind, keep), one) in enumerate(zip(self._parts(), self.evidence, strict=True)):
            if not log.n:
                continue
            model, sessions = guessed(self.guesses, log, kind), _Sessions.of(one, self.sessions)
            for i, target in enumerate(targets):
                chances = target(part)
                led = sessions.led_by(_chances(chances, sessions.keep, len(log.arms)))
                mine = _scored(log, _chances(chances, keep, len(log.arms)), model, led)
                so_far = found[i]
                found[i] = mine if so_far is None else so_far.plus(mine)
        return [in_words(one, self.told, usd) for one, usd in zip(found, call_usd, strict=True)]

    def _parts(self) -> Iterable[tuple[Bandit, np.ndarray, np.ndarray]]:
        """The free decisions of each part, their kinds, and which of its calls they are."""
        for one in self.evidence:
            log = one.bandit
            keep = ~log.locked if self.sessions is None else ~log.locked & self.sessions[log.cluster]
            mine = log.rows(keep)
            if self.whole is not None and not self.whole.asked.any():
                mine = mine._replace(paired=None, paired_chance=None)
            elif self.whole is not None and mine.paired is None:
                nothing = np.full((mine.n, len(log.arms)), np.nan)
                mine = mine._replace(paired=nothing, paired_chance=nothing)
            yield mine._replace(whole=self.whole), one.kind[keep], keep

    def _model(self) -> tuple[Whole, np.ndarray]:
        """Sums over the whole log, and the guesses of its outcome model."""
        whole: Whole | None = None
        kinds = 1 + max((int(one.kind.max(initial=0)) for one in self.evidence), default=0)
        cells: Cells | None = None
        for log, kind, _ in self._parts():
            self.arms = log.arms
            mine, own = Whole.of(log), Cells.of(log, kind, kinds)
            whole = mine if whole is None else whole.plus(mine)
            cells = own if cells is None else cells.plus(own)
        assert whole is not None
        assert cells is not None
        guesses = cells.guesses()
        if whole.asked.any():
            self.whole = whole
            moved = [
                Surprises.of(log, model, surprise(log, model))
                for log, model in ((log, guessed(guesses, log, kind)) for log, kind, _ in self._parts())
            ]
            total = moved[0]
            for more in moved[1:]:
                total = total.plus(more)
            whole = whole._replace(slopes=total.slopes())
        return whole, guesses

    def _told(self) -> Told:
        """What is known of the logged answers themselves."""
        squares, sessions, weight, square = 0.0, 0, 0.0, 0.0
        for log, _, _ in self._parts():
            known = np.isfinite(log.reward)
            heard = of.heard(log)
            squares += float(np.nansum(log.reward**2))
            sessions += len(np.unique(log.cluster[known]))
            weight, square = weight + float(heard.sum()), square + float((heard * heard).sum())
        assert self.whole is not None
        ess = weight**2 / square if square > 0 else 0.0
        untold = sum(0 if one.untold is None else int(one.untold[0]) for one in self.evidence)
        return Told(self.arms, self.whole, squares, sessions, ess, untold)


class _Sessions(NamedTuple):
    """The sessions of a part and their outcomes; decisions that were sure count in them."""

    log: Bandit
    keep: np.ndarray  # (n,) bool
    outcome: np.ndarray  # (S,)

    @classmethod
    def of(cls, one: Evidence, sessions: np.ndarray | None) -> _Sessions:
        log = one.bandit
        locked = log.locked if one.held is None else log.locked & ~one.held
        keep = np.ones(log.n, dtype=bool) if sessions is None else sessions[log.cluster]
        mine = log._replace(locked=locked).rows(keep)
        kinds, session = np.unique(mine.cluster, return_inverse=True)
        mine = mine._replace(cluster=session)
        return cls(mine, keep, outcomes_of(session, mine.reward, len(kinds)))

    def led_by(self, target: np.ndarray) -> Led:
        return led_by(self.log, target, self.outcome)


def _chances(target: np.ndarray, keep: np.ndarray, k: int) -> np.ndarray:
    if target.ndim == 2:
        chances: np.ndarray = target[keep].astype(np.float64)
        return chances
    certain: np.ndarray = np.eye(k)[target[keep]]
    return certain


def _scored(log: Bandit, target: np.ndarray, model: np.ndarray, led: Led) -> Scored:
    """Sums for one policy over the decisions of a part."""
    seen, whole = seen_of(log, target), log.sums
    each = np.zeros((log.n, 4))
    each[:, SIZE] = 1.0
    each[:, LOGGED] = of.as_logged(log)
    if whole.labelled.any() and seen.told == seen.n:
        each[:, DR] = of.doubly_robust(log, target, model)
    if log.paired is not None:
        each[:, PAIRED] = paired(log, target, model)
    session = log.cluster - log.cluster.min()
    by_session = np.stack([np.bincount(session, column) for column in each.T])
    by_session = by_session[:, by_session[SIZE] > 0]
    same = bool(np.allclose(target[np.arange(log.n), log.action], 1.0))
    return Scored(seen, each.sum(axis=0), by_session @ by_session.T, by_session.shape[1], same, led)
