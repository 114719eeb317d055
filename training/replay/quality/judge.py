"""Estimates of policies on a log that comes in parts: sums over each part, put together at the end.

Sessions lie whole in their parts, so that all that an interval needs of them are sums of products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.estimators import scores as of
from training.estimators.bandit import Whole
from training.estimators.intervals import effective_size
from training.estimators.model import Cells, guessed
from training.estimators.paired import Surprises, paired, surprise
from training.estimators.support import Seen, seen_of
from training.replay.quality.by_session import Led, led_by, outcomes_of
from training.replay.quality.quoted import Quality, Told, in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.estimators.bandit import Bandit
    from training.replay.quality.evidence import Evidence

Target = Callable[[int], np.ndarray]  # in a part: the chances (n, k) or arms (n,) that a policy has


class Scored(NamedTuple):
    """What the free decisions come to for one policy."""

    seen: Seen
    scores: np.ndarray  # (4, C) sums by cluster: doubly robust, by pairs, of what was logged, and 1
    products: np.ndarray  # (4, 4) of these sums
    same: bool  # the policy is the logged one
    led: Led  # whole sessions
    whole: np.ndarray | None = None  # (2, C) sums of weights and of weighted outcomes; None: a session is one

    @property
    def clusters(self) -> int:
        """Sessions, or groups of them, with a free decision."""
        return int(self.scores.shape[1])


class _Sums:
    """A policy's sums so far, and those of each session."""

    def __init__(self) -> None:
        self.seen: Seen | None = None
        self.led: Led | None = None
        self.same = True
        self.own: list[np.ndarray] = []  # (2, s) by session of a part
        self.whole: np.ndarray | None = None  # (2, C) of whole sessions by cluster

    def add(self, seen: Seen, own: np.ndarray, led: Led, *, same: bool) -> None:
        self.seen = seen if self.seen is None else self.seen.plus(seen)
        self.led = led if self.led is None else self.led.plus(led)
        self.same = self.same and same
        self.own.append(own)

    def add_whole(self, sums: np.ndarray) -> None:
        """Add what a part's whole sessions weigh, and their weighted outcomes, by cluster (2, C)."""
        self.whole = sums if self.whole is None else self.whole + sums

    def scored(self, shared: np.ndarray, code: np.ndarray | None, plain: np.ndarray | None) -> Scored | None:
        """All of it, `shared` (2, s) being of every policy; `code` (s,) are the clusters of sessions.

        `plain` (2, C) is what whole sessions come to as they were logged.
        """
        if self.seen is None or self.led is None:
            return None
        scores = np.concatenate([np.concatenate(self.own, axis=1), shared])
        if code is not None:
            scores = np.stack([np.bincount(code, column) for column in scores])
        whole = plain if self.same else self.whole
        return Scored(self.seen, scores, scores @ scores.T, self.same, self.led, whole)


class Judge:
    """Estimates on the free decisions of a log, or of some of its `sessions` (S,) bool.

    What doesn't depend on the policy is summed up once. Intervals are over sessions, or over what they belong
    to: `groups` (S,) int.
    """

    def __init__(
        self,
        evidence: Iterable[Evidence],
        sessions: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        self.evidence = evidence
        self.sessions = sessions
        self.groups = groups
        self.arms: tuple[str, ...] = ()
        self.whole: Whole | None = None
        self.whole, self.guesses = self._model()
        self.told = self._told()

    def of(self, target: Target, call_usd: float | None = None) -> Quality:
        """Quality of one policy."""
        return self.every([target], [call_usd])[0]

    def every(self, targets: Sequence[Target], call_usd: Sequence[float | None]) -> list[Quality]:
        """Quality of policies, by their chances (n, k) or arms (n,) in each part, at so many USD a call."""
        found = [_Sums() for _ in targets]
        shared, ids = [np.zeros((2, 0))], [np.zeros(0, dtype=np.int64)]
        plain: np.ndarray | None = None
        for part, ((log, kind, keep), one) in enumerate(zip(self._parts(), self.evidence, strict=True)):
            if not log.n:
                continue
            model, sessions = guessed(self.guesses, log, kind), _Sessions.of(one, self.sessions)
            mine, place = np.unique(log.cluster, return_inverse=True)
            ids.append(mine)
            shared.append(_by_session(place, of.as_logged(log), np.ones(log.n)))
            if self.groups is not None:
                logged = sessions.weighed(None, self.groups)
                plain = logged if plain is None else plain + logged
            for sums, target in zip(found, targets, strict=True):
                chances = target(part)
                whole = _chances(chances, sessions.keep, len(log.arms))
                led = sessions.led_by(whole)
                free = _chances(chances, keep, len(log.arms))
                same = bool(np.allclose(free[np.arange(log.n), log.action], 1.0))
                seen = seen_of(log, free)
                sums.add(seen, _by_session(place, *_scores(log, free, model, seen)), led, same=same)
                if self.groups is not None:
                    sums.add_whole(sessions.weighed(whole, self.groups))
        code = None if self.groups is None else self.groups[np.concatenate(ids)]
        code = None if code is None else np.unique(code, return_inverse=True)[1]
        of_all = np.concatenate(shared, axis=1)
        scored = (sums.scored(of_all, code, plain) for sums in found)
        return [in_words(one, self.told, usd) for one, usd in zip(scored, call_usd, strict=True)]

    def played(self, targets: Sequence[Target]) -> Iterable[tuple[Bandit, np.ndarray, Iterable[np.ndarray]]]:
        """The free decisions of each part with their kinds, and the chances (n, k) of each target in it."""
        for part, (log, kind, keep) in enumerate(self._parts()):
            if log.n:
                yield log, kind, (_chances(target(part), keep, len(log.arms)) for target in targets)

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
        ess = effective_size(weight, square)
        untold = sum(0 if one.untold is None else int(one.untold[0]) for one in self.evidence)
        return Told(self.arms, self.whole, squares, sessions, ess, untold)


class _Sessions(NamedTuple):
    """The sessions of a part and their outcomes; decisions that were sure count in them."""

    log: Bandit
    keep: np.ndarray  # (n,) bool
    outcome: np.ndarray  # (S,)
    ids: np.ndarray  # (S,) in the whole log

    @classmethod
    def of(cls, one: Evidence, sessions: np.ndarray | None) -> _Sessions:
        log = one.bandit
        locked = log.locked if one.held is None else log.locked & ~one.held
        keep = np.ones(log.n, dtype=bool) if sessions is None else sessions[log.cluster]
        mine = log._replace(locked=locked).rows(keep)
        kinds, session = np.unique(mine.cluster, return_inverse=True)
        mine = mine._replace(cluster=session)
        return cls(mine, keep, outcomes_of(session, mine.reward, len(kinds)), kinds)

    def led_by(self, target: np.ndarray) -> Led:
        return led_by(self.log, target, self.outcome)

    def weighed(self, target: np.ndarray | None, groups: np.ndarray) -> np.ndarray:
        """Sums (2, C) by cluster of weights and of weighted outcomes; no `target` is what was logged."""
        code, many = groups[self.ids], int(groups.max()) + 1
        known = np.isfinite(self.outcome)
        weight = known.astype(float) if target is None else of.by_session(self.log, target, self.outcome)[0]
        weight = np.where(known & np.isfinite(weight), weight, 0.0)
        columns = weight, weight * np.nan_to_num(self.outcome)
        return np.stack([np.bincount(code, column, many) for column in columns])


def _chances(target: np.ndarray, keep: np.ndarray, k: int) -> np.ndarray:
    if target.ndim == 2:
        chances: np.ndarray = target[keep].astype(np.float64)
        return chances
    certain: np.ndarray = np.eye(k)[target[keep]]
    return certain


def _scores(log: Bandit, target: np.ndarray, model: np.ndarray, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n,) of one policy in a part, doubly robust and by pairs; 0 where the log hasn't the columns."""
    nothing = np.zeros(log.n)
    robust = log.sums.labelled.any() and seen.told == seen.n
    return (
        of.doubly_robust(log, target, model) if robust else nothing,
        nothing if log.paired is None else paired(log, target, model),
    )


def _by_session(place: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Sums (m, s) of columns (n,) over the sessions that decisions are in."""
    return np.stack([np.bincount(place, column) for column in columns])
