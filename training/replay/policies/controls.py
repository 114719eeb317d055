"""The policies that every answer stands beside: pins, mixes, cascades, and the learned one in its manners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from training.replay.cost.route import play
from training.replay.policies.entries import Take, halves, mixed, parts_of, take_of
from training.replay.policies.playing import Play
from training.replay.policies.walk import Manner, constant, walk

if TYPE_CHECKING:
    from router.policy import Policy
    from training.replay.cost.route import Played
    from training.replay.cost.world import World, Worlds
    from training.replay.policies.choices import Certified
    from training.replay.policies.entries import Entry
    from training.replay.quality.judge import Judge
    from training.replay.quality.matrix import MatrixJudge

NEVER = 0.5  # of the calls that a candidate can't serve: pinned to it, the reference would answer most


def pinned(name: str, arm: int, role: str = "pin") -> Play:
    """An arm alone; where it can't serve, the reference."""

    def how(world: World, refused: np.ndarray | None) -> Take:
        return take_of(constant(world, arm, refused), len(world.arms.arms))

    return Play(name, how, role)


def pins(worlds: Worlds, barred: np.ndarray) -> list[Play]:
    """Every arm alone, but for barred ones and those that could hardly ever serve."""
    names = worlds.arms.names
    able = np.flatnonzero(~barred & (worlds.never <= NEVER))
    return [pinned(f"pin:{names[arm]}", int(arm)) for arm in able]


def walked(name: str, policy: Policy, manner: Manner, role: str = "policy", said: str | None = None) -> Play:
    """A served policy through all sessions."""

    def how(world: World, refused: np.ndarray | None) -> Take:
        return take_of(walk(world, policy, manner, refused), len(world.arms.arms))

    return Play(name, how, role, said)


def logged() -> Play:
    """What was done."""

    def how(world: World, refused: np.ndarray | None) -> Take:
        return take_of(play(world, world.arms.logged, refused=refused), len(world.arms.arms))

    return Play("logged", how, "logged", "as it was")


def reference(worlds: Worlds) -> Play:
    """The reference answers everything."""

    def how(world: World, refused: np.ndarray | None) -> Take:
        return take_of(constant(world, world.reference, refused), len(world.arms.arms))

    return Play("reference", how, "control", f"always {worlds.arms.names[worlds.reference]}")


def cheapest(worlds: Worlds, alone: dict[str, Entry], seed: int) -> Play:
    """The pin of least cost, chosen on one half of the sessions and scored on the other, both ways.

    Under a budget it is one of those that refuse fewest: who answers nothing isn't cheap.
    """
    half = halves(worlds.sessions, seed)

    fewest = min(entry.refused for entry in alone.values())
    able = [entry for entry in alone.values() if entry.refused == fewest]

    def of(part: np.ndarray) -> Entry:
        return min(able, key=lambda entry: (float(entry.usd[part].sum()), entry.name))

    return _crossed("cheapest", (of(~half), of(half)), half)


def best_single(
    worlds: Worlds, alone: dict[str, Entry], on: tuple[Judge | MatrixJudge, Judge | MatrixJudge], seed: int
) -> Play | None:
    """The pin of best supported quality, then least cost, chosen on the other half; None where none is known.

    `on` judges the sessions of the half and those of its rest.
    """
    half = halves(worlds.sessions, seed)
    chosen = []
    names = [name for name, entry in alone.items() if entry.target is not None]
    targets = [entry.target for entry in alone.values() if entry.target is not None]
    for judge, part in zip(reversed(on), (~half, half), strict=True):
        judged = judge.every(targets, [None] * len(targets))
        known = [
            (said.quality, -float(alone[name].usd[part].sum()), name)
            for name, said in zip(names, judged, strict=True)
            if said.quality is not None
        ]
        if not known:
            return None
        chosen.append(alone[max(known)[2]])
    return _crossed("best_single", (chosen[0], chosen[1]), half)


def _crossed(name: str, chosen: tuple[Entry, Entry], half: np.ndarray) -> Play:
    """The first on the sessions of `half`, the second on the others, played as one: a budget is of both."""
    first, second = chosen
    assert first.target is not None
    assert second.target is not None
    of_first, of_second = first.target, second.target

    def how(world: World, refused: np.ndarray | None) -> Take:
        mine = half[world.calls.before + world.calls.session]
        route = np.where(mine, of_first(world.part), of_second(world.part))
        return take_of(play(world, route, refused=refused), len(world.arms.arms))

    named = " and ".join(dict.fromkeys(entry.name for entry in chosen))
    return Play(name, how, "control", f"{named}, each chosen on the other half")


def random_mix(worlds: Worlds, ends: tuple[Entry, Entry], cost: float) -> Entry | None:
    """Sessions given at random to the cheap or the dear end, at the cost of the learned policy."""
    cheap, dear = sorted(ends, key=lambda entry: entry.total)
    room = dear.total - cheap.total
    if not room > 0:
        return None
    weight = float(np.clip((cost - cheap.total) / room, 0.0, 1.0))
    said = f"{1 - weight:.0%} of sessions to {cheap.name}, {weight:.0%} to {dear.name}, at random"
    return mixed("random_mix", (cheap, dear), weight, worlds.arms, said)


def learned(policy: Policy, certified: Certified | None) -> list[Play]:
    """The learned policy as served, held to its first choice of a session, and blind to caches.

    Who knows of no cache has no reason to stay: blind weighs every turn anew, by list price. Locks hold.
    """
    served = Manner(certified=certified)
    loose, name = replace(policy, sticky=False), policy.name
    return [
        walked("learned", policy, served, "policy", name),
        walked(
            "sticky_session",
            policy,
            served._replace(by_session=True),
            "control",
            f"{name}, decided once a session",
        ),
        walked(
            "blind",
            loose,
            served._replace(blind=True),
            "control",
            f"{name}, every turn by list price, as if there were no caches",
        ),
    ]


def cascade(worlds: Worlds, pair: tuple[int, int], noise: float, name: str, role: str = "policy") -> Play:
    """Call the first, check its answer, release it or call the second; who answered keeps a tool loop.

    How often the first is right is what the bundle believes; a check is wrong `noise` of the time. Where
    nothing is believed of it, it may be released or not: such calls have no cost, and are counted.
    """
    n, names = worlds.n, worlds.arms.names
    moves = np.zeros(3)

    def how(world: World, refused: np.ndarray | None) -> Take:
        moved, free, unknown = _moved(world, pair, noise, n)
        moves[:] += moved.sum(), len(moved), unknown.sum()
        took = _steps(world, pair, (moved, free), refused)
        if not unknown.any():
            return took
        call_usd = np.where(unknown & (True if refused is None else ~refused), np.nan, took.call_usd)
        return took._replace(call_usd=call_usd, usd=world.calls.of_session(call_usd))

    def said() -> str:
        first, second = (names[arm] for arm in pair)
        head = f"{first}, checked (wrong {noise:.0%} of the time)"
        if moves[2]:
            untold = f"nothing says how often {first} is right on"
            return f"{head}; {untold} {moves[2]:,.0f} of {moves[1]:,.0f} calls, so what it costs isn't known"
        return f"{head}, {moves[0] / max(moves[1], 1):.0%} of calls by {second}"

    return Play(name, how, role, said)


def _moved(
    world: World, pair: tuple[int, int], noise: float, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which calls (n,) the second answers, which no tool loop binds, and of which nobody can tell.

    Chance is of the whole log. Calls that their client pinned are neither moved nor checked.
    """
    calls = world.calls
    free = ~calls.locked
    free[calls.starts[:-1]] = True
    decision = np.maximum.accumulate(np.where(free, np.arange(calls.n), 0))
    right = world.beliefs.p[:, pair[0]].astype(np.float64)
    escalates = right * noise + (1 - right) * (1 - noise)
    rng = np.random.default_rng([n, *pair])
    rng.bit_generator.advance(calls.calls_before)  # type: ignore[attr-defined]  # PCG64's: one step a number
    routed = ~_pinned(world)
    moved = (rng.random(calls.n) < escalates)[decision] & routed
    return moved, free, np.isnan(right)[decision] & routed


def _pinned(world: World) -> np.ndarray:
    """Calls (n,) that stay with the model that their client named."""
    return np.zeros(world.calls.n, dtype=bool) if world.served is None else world.served.pinned


def _steps(
    world: World,
    pair: tuple[int, int],
    about: tuple[np.ndarray, np.ndarray],
    refused: np.ndarray | None,
) -> Take:
    """What both steps of a cascade cost in a part; a call is refused with all its steps."""
    calls, (moved, free), (first, second) = world.calls, about, pair
    pinned, logged = _pinned(world), world.arms.logged
    routes = (((free | ~moved) & ~pinned, first), (moved, second), (pinned, logged[pinned]))
    plays = [
        _some(world, rows, arm, None if refused is None else refused[rows])
        for rows, arm in routes
        if rows.any()
    ]
    call_usd = np.zeros(calls.n)
    for played, rows in zip(plays, (rows for rows, _ in routes if rows.any()), strict=True):
        call_usd[rows] += played.bill.total
    parts = [parts_of(played) for played in plays]
    answering = np.where(pinned, logged, np.where(moved, second, first))
    switches = np.append(False, (answering[1:] != answering[:-1]) & (calls.session[1:] == calls.session[:-1]))
    return Take(
        usd=calls.of_session(call_usd),
        call_usd=call_usd,
        parts={key: sum(part[key] for part in parts) for key in parts[0]},
        calls=sum(
            (np.bincount(played.route, minlength=len(world.arms.arms)) for played in plays),
            np.zeros(len(world.arms.arms), dtype=np.int64),
        ),
        read=sum(played.read for played in plays),
        switches=int(switches.sum()),
        unsafe=int((switches & ~free).sum()),
        refused=0 if refused is None else int(refused.sum()),
        lent=None if world.paid is None else np.sum([p.lent for p in plays if p.lent is not None], axis=0),
    )


def _some(world: World, rows: np.ndarray, arm: np.ndarray | int, refused: np.ndarray | None) -> Played:
    """Play an arm, or arms (m,), on some of the calls only, their caches seeing nothing of the others."""
    part = world._replace(
        known=None if world.known is None else world.known[rows],
        calls=world.calls.rows(rows),
        arms=world.arms._replace(logged=world.arms.logged[rows]),
        tokens=world.tokens[rows],
        output=world.output[rows],
        rates=world.rates._replace(at=world.rates.at[rows]),
        caches=world.caches._replace(
            at=world.caches.at[rows], silent=world.caches.silent[rows], hourly=world.caches.hourly[rows]
        ),
    )
    return play(part, np.broadcast_to(np.asarray(arm), (int(rows.sum()),)), refused=refused)
