"""The route that a served policy takes: every session's first turn, then every second one, and so on.

A turn's decision needs the route so far (who holds the session, whose cache holds what), so sessions go side
by side; each step decides all sessions that have such a turn, with the decision's own arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.replay.cost.route import Played, play
from training.replay.policies.choices import Certified, Seen, choose_many, held_many
from training.replay.policies.foresight import Facing, Held, Rulebook, blind, expected

if TYPE_CHECKING:
    from router.policy import Policy
    from training.replay.cost.world import World


class Manner(NamedTuple):
    """How a policy is played beside its own knobs."""

    blind: bool = False  # as if there were no caches
    by_session: bool = False  # what the first turn chose stays
    certified: Certified | None = None  # what its certificate leaves it


AS_SERVED = Manner()


def constant(world: World, arm: np.ndarray | int, refused: np.ndarray | None = None) -> Played:
    """A pin: one arm for all calls, or one for each (n,); where it can't serve, the reference, as served."""
    wanted = np.broadcast_to(np.asarray(arm), (world.calls.n,))
    rows = np.arange(world.calls.n)
    route = np.where(world.excluded[rows, wanted], world.reference, wanted)
    return play(world, route, refused=refused)


def walk(
    world: World, policy: Policy, manner: Manner = AS_SERVED, refused: np.ndarray | None = None
) -> Played:
    """Play a policy through all sessions; what a budget `refused` (n,) still holds its session."""
    calls, k = world.calls, len(world.arms.arms)
    rulebook = Rulebook.of(world.caches.rules)
    state = _State.of(calls.sessions, k)
    route = np.zeros(calls.n, dtype=np.int64)
    drawn = policy.kind == "mix" or bool(policy.explore)
    chances = np.zeros((calls.n, k), dtype=np.float32) if drawn else None
    clients = None if world.served is None else world.served.pinned
    length = np.diff(calls.starts)
    order = np.argsort(-length, kind="stable")  # the longest sessions first: those left are a prefix
    left = np.searchsorted(-length[order], -np.arange(1, length.max() + 1), side="right")
    for turn, count in enumerate(left):
        sessions = order[:count]
        rows = calls.starts[sessions] + turn
        facing, held = _faced(world, rulebook, (rows, sessions), state)
        cost = blind(facing) if manner.blind else expected(rulebook, facing, held)
        if world.paid is not None:  # who has no price isn't chosen, as served
            cost = np.where(np.isnan(world.paid), np.nan, cost)
        seen = Seen(
            world.excluded[rows],
            facing.p,
            cost,
            world.beliefs.spread[rows].astype(np.float64) * _unbroken(world, rows),
            facing.reference,
            facing.last,
            calls.locked[rows],
            world.draw[rows],
            None if clients is None or not turn else clients[rows - 1],
        )
        if manner.certified is not None:
            seen = held_many(manner.certified, seen)
        chosen = choose_many(policy, seen, world.arms.names)
        arm = chosen.arm
        if manner.by_session and turn:
            arm = np.where(world.excluded[rows, state.last[sessions]], arm, state.last[sessions])
        route[rows] = arm
        if chances is not None:
            chances[rows] = np.eye(k)[arm] if manner.by_session and turn else chosen.chances
        state.note(world, rulebook, (rows, sessions), arm)
    return play(world, route, chances, refused)


class _State(NamedTuple):
    """Who holds each session, and what each arm's cache was last sent: (S,) and (S, k)."""

    last: np.ndarray
    prompt: np.ndarray
    answer: np.ndarray
    ts_ms: np.ndarray

    @classmethod
    def of(cls, sessions: int, k: int) -> _State:
        return cls(np.full(sessions, -1), *(np.full((sessions, k), np.nan) for _ in range(3)))

    def note(
        self, world: World, rulebook: Rulebook, at: tuple[np.ndarray, np.ndarray], arm: np.ndarray
    ) -> None:
        """Remember what was sent where; prompts that no cache keeps are nobody's."""
        rows, sessions = at
        self.last[sessions] = arm
        rules = world.caches.at[rows, arm]
        tokens = np.round(world.tokens[rows, arm])
        kept = rulebook.known[rules] & (tokens >= rulebook.floor[rules]) & ~world.calls.run[rows]
        s, a = sessions[kept], arm[kept]
        self.prompt[s, a] = tokens[kept]
        self.answer[s, a] = np.round(world.output[rows[kept], a])
        self.ts_ms[s, a] = world.calls.ts_ms[rows[kept]]


def _faced(
    world: World, rulebook: Rulebook, at: tuple[np.ndarray, np.ndarray], state: _State
) -> tuple[Facing, Held]:
    """What the decisions at these rows of these sessions know."""
    rows, sessions = at
    k = len(world.arms.arms)
    beliefs, served = world.beliefs, world.served
    facing = Facing(
        ts_ms=world.calls.ts_ms[rows].astype(np.float64),
        tokens=np.round(world.tokens[rows]),
        output=beliefs.output[rows].astype(np.float64),
        p=beliefs.p[rows].astype(np.float64) * _unbroken(world, rows),
        turns=beliefs.turns[rows].astype(np.float64),
        rates=world.rates.of(rows[:, None], np.arange(k)[None, :]),
        ahead=world.ahead.of(rows[:, None], np.arange(k)[None, :]),
        retry=np.full((len(rows), k), np.nan) if served is None else served.retry[rows].astype(np.float64),
        rules=rulebook.asked(world.caches.at[rows], world.caches.hourly[rows]),
        reference=world.reference[rows],
        last=state.last[sessions],
    )
    return facing, Held(state.prompt[sessions], state.answer[sessions], state.ts_ms[sessions])


def _unbroken(world: World, rows: np.ndarray) -> np.ndarray:
    """What broken tool calls in the session leave of each success (m, k), as `router.arms.judged`."""
    if world.served is None:
        return np.ones((len(rows), len(world.arms.arms)))
    found: np.ndarray = 1.0 - np.nan_to_num(world.served.broken[rows].astype(np.float64))
    return found
