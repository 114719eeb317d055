"""What a repository's own outcomes say: a log-odds offset of P(success), shrunken, one outcome at a time.

Repositories (and tenants) are offset from what the heads say by N(0, variance), the variance being estimated
over them. An outcome moves the posterior by one step of the extended Kalman filter (Fahrmeir 1992), O(1).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

Level = Literal["repo", "tenant"]

# Of a repository, where the bundle's log knew too few: 0.45 log-odds either way, about 0.1 in probability at
# even odds. A tenant has no offset of its own until a log shows that tenants differ.
DEFAULT_VARIANCES: dict[Level, float] = {"repo": 0.2}
MIN_VARIANCE = 0.02  # what some 200 outcomes leave; kept from there on, so that an old offset can still move
LIMIT = 10_000  # repositories and tenants remembered, the least recently used out first
_EDGE = 1e-9


class State(NamedTuple):
    """Posterior of one offset, in log-odds."""

    mean: float
    variance: float
    outcomes: float  # that it stands on, by weight


class OffsetCard(msgspec.Struct, frozen=True):
    """What a bundle says of offsets: how far apart repositories lie, and where those of its log stand."""

    variances: dict[Level, float]
    states: dict[Level, dict[str, State]] = {}


Key = tuple[Level, str]
Change = tuple[State, State]  # as it was, as it is


class Where(NamedTuple):
    """Whose a request is; None is unknown."""

    repo: str | None = None
    tenant: str | None = None

    def keys(self) -> list[Key]:
        """The offsets that apply; repositories of different tenants are never the same one."""
        found: list[Key] = []
        if self.repo:
            found.append(("repo", f"{self.tenant}\n{self.repo}" if self.tenant else self.repo))
        if self.tenant:
            found.append(("tenant", self.tenant))
        return found


class Offsets:
    """The offsets of all repositories seen lately, and what has changed in them since `taken`."""

    def __init__(self, card: OffsetCard | None = None, limit: int = LIMIT) -> None:
        self.variances: dict[Level, float] = DEFAULT_VARIANCES if card is None else card.variances
        self._limit = limit
        self._states: OrderedDict[Key, State] = OrderedDict()
        self._before: dict[Key, State] = {}  # as it was when what changed was last taken
        if card is not None:
            self.put(card.states)

    def __len__(self) -> int:
        return len(self._states)

    def of(self, where: Where) -> tuple[float, float] | None:
        """Offset in log-odds and the outcomes it stands on; None where there are none."""
        keys = [key for key in where.keys() if key in self._states]  # noqa: SIM118 — no dict
        if not keys:
            return None
        for key in keys:
            self._states.move_to_end(key)
        known = [self._states[key] for key in keys]
        return sum(state.mean for state in known), max(state.outcomes for state in known)

    def learn(self, where: Where, log_odds: float, success: float, weight: float = 1.0) -> None:
        """Take in one outcome in 0..1 of an answer whose P(success) was `log_odds` without any offset."""
        keys = [key for key in where.keys() if self.variances.get(key[0])]  # noqa: SIM118 — no dict
        if not keys:
            return
        states = [(key, self._state(key)) for key in keys]
        p = _sigmoid(log_odds + sum(state.mean for _, state in states))
        information = weight * max(p * (1.0 - p), _EDGE)
        total = 1.0 / information + sum(state.variance for _, state in states)
        step = (success - p) * weight / information / total
        for key, state in states:
            self._before.setdefault(key, state)
            variance = max(state.variance - state.variance**2 / total, MIN_VARIANCE)
            mean = state.mean + state.variance * step
            self._set(key, State(mean, min(variance, state.variance), state.outcomes + weight))

    def put(self, states: Mapping[Level, Mapping[str, State]]) -> None:
        """Set offsets as they are known from elsewhere."""
        for level, named in states.items():
            for name, state in named.items():
                self._set((level, name), state)

    def copy(self) -> dict[Key, State]:
        """All offsets as they are now."""
        return dict(self._states)

    def taken(self) -> dict[Key, Change]:
        """What changed since this was last asked, as it was and as it is."""
        found = {key: (before, self._states[key]) for key, before in self._before.items()}
        self._before = {}
        return found

    def untaken(self, changes: Mapping[Key, Change]) -> None:
        """Go on owing changes that could not be handed over."""
        self._before |= {key: before for key, (before, _) in changes.items() if key in self._states}

    def take_over(self, states: Mapping[Key, State]) -> None:
        """Take over what others know too, and add what changed here meanwhile."""
        for key, there in states.items():
            before = self._before.get(key)
            self._set(key, there if before is None else joined(there, before, self._states[key]))
            if before is not None:
                self._before[key] = there

    def _state(self, key: Key) -> State:
        return self._states.get(key) or State(0.0, self.variances[key[0]], 0.0)

    def _set(self, key: Key, state: State) -> None:
        self._states[key] = state
        self._states.move_to_end(key)
        while len(self._states) > self._limit:
            self._before.pop(self._states.popitem(last=False)[0], None)


def joined(there: State | None, before: State, after: State) -> State:
    """What another process knows, and what changed here since: evidence adds up in precisions."""
    if there is None:
        return after
    gained = max(1.0 / after.variance - 1.0 / before.variance, 0.0)
    precision = 1.0 / there.variance + gained
    pull = there.mean / there.variance + after.mean / after.variance - before.mean / before.variance
    outcomes = there.outcomes + after.outcomes - before.outcomes
    return State(pull / precision, max(1.0 / precision, MIN_VARIANCE), outcomes)


def shifted(p: np.ndarray, log_odds: float | np.ndarray) -> np.ndarray:
    """Probabilities (k,) moved by an offset; (m, k) by as many (m, 1)."""
    p = np.clip(p, _EDGE, 1.0 - _EDGE)
    odds = np.log(p / (1.0 - p)) + log_odds
    moved: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * odds))
    return moved


def log_odds_of(p: float) -> float:
    """Log-odds of a probability, bounded where it is 0 or 1."""
    p = min(max(p, _EDGE), 1.0 - _EDGE)
    return math.log(p / (1.0 - p))


def _sigmoid(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))
