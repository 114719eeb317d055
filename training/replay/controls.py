"""The policies that every answer stands beside: pins, mixes, cascades, and the learned one in its manners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from training.replay.entries import Entry, entry_of, halves, mixed, parts_of
from training.replay.money import Bill
from training.replay.walk import Manner, constant, walk
from training.replay.world import play

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.policy import Policy
    from training.replay.choices import Certified
    from training.replay.matrix import MatrixJudge
    from training.replay.quality import Judge
    from training.replay.world import Played, World

NEVER = 0.5  # of the calls that a candidate can't serve: pinned to it, the reference would answer most


def pins(world: World, barred: np.ndarray, told: Callable[[], None]) -> dict[str, Entry]:
    """Every arm alone; barred ones, those without a price and those that could never serve have no entry."""
    found = {}
    for i, arm in enumerate(world.arms.arms):
        told()
        if barred[i] or world.excluded[:, i].mean() > NEVER:
            continue
        played = constant(world, i)
        if np.isfinite(played.usd).all():
            found[arm.name] = entry_of(f"pin:{arm.name}", played, world.arms, "pin")
    return found


def reference(world: World) -> Entry:
    """The reference answers everything."""
    names = world.arms.names
    most = names[int(np.bincount(world.reference).argmax())]
    return entry_of("reference", constant(world, world.reference), world.arms, "control", f"always {most}")


def cheapest(world: World, alone: dict[str, Entry], seed: int) -> Entry:
    """The pin of least cost, chosen on one half of the sessions and scored on the other, both ways.

    Under a budget it is one of those that refuse fewest: who answers nothing isn't cheap.
    """
    half = halves(world.book.sessions, seed)

    fewest = min(entry.refused for entry in alone.values())
    able = [entry for entry in alone.values() if entry.refused == fewest]

    def of(part: np.ndarray) -> Entry:
        return min(able, key=lambda entry: (float(entry.usd[part].sum()), entry.name))

    return _crossed("cheapest", (of(~half), of(half)), half, world)


def best_single(
    world: World, alone: dict[str, Entry], on: tuple[Judge | MatrixJudge, Judge | MatrixJudge], seed: int
) -> Entry | None:
    """The pin of best supported quality, then least cost, chosen on the other half; None where none is known.

    `on` judges the sessions of the half and those of its rest.
    """
    half = halves(world.book.sessions, seed)
    chosen = []
    for judge, part in zip(reversed(on), (~half, half), strict=True):
        known = [
            (said.quality, -float(entry.usd[part].sum()), name)
            for name, entry in alone.items()
            if entry.target is not None and (said := judge.of(entry.target)).quality is not None
        ]
        if not known:
            return None
        chosen.append(alone[max(known)[2]])
    return _crossed("best_single", (chosen[0], chosen[1]), half, world)


def _crossed(name: str, chosen: tuple[Entry, Entry], half: np.ndarray, world: World) -> Entry:
    """The first on the sessions of `half`, the second on the others, played as one: a budget is of both."""
    first, second = chosen
    assert first.target is not None
    assert second.target is not None
    route = np.where(half[world.book.session], first.target, second.target)
    named = " and ".join(dict.fromkeys(entry.name for entry in chosen))
    said = f"{named}, each chosen on the other half"
    return entry_of(name, play(world, route), world.arms, "control", said)


def random_mix(world: World, ends: tuple[Entry, Entry], cost: float) -> Entry | None:
    """Sessions given at random to the cheap or the dear end, at the cost of the learned policy."""
    cheap, dear = sorted(ends, key=lambda entry: entry.total)
    room = dear.total - cheap.total
    if not room > 0:
        return None
    weight = float(np.clip((cost - cheap.total) / room, 0.0, 1.0))
    said = f"{1 - weight:.0%} of sessions to {cheap.name}, {weight:.0%} to {dear.name}, at random"
    return mixed("random_mix", cheap, dear, weight, world.arms, said)


def learned(
    world: World, policy: Policy, certified: Certified | None, name: str = "learned"
) -> dict[str, Entry]:
    """The learned policy as served, held to its first choice of a session, and blind to caches.

    Who knows of no cache has no reason to stay: blind weighs every turn anew, by list price. Locks hold.
    """
    served = Manner(certified=certified)
    manners = {
        name: (policy, served),
        "sticky_session": (policy, served._replace(by_session=True)),
        "blind": (replace(policy, sticky=False), served._replace(blind=True)),
    }
    roles = {name: "policy"}
    said = {
        name: policy.name,
        "sticky_session": f"{policy.name}, decided once a session",
        "blind": f"{policy.name}, every turn by list price, as if there were no caches",
    }
    return {
        key: entry_of(key, walk(world, *played), world.arms, roles.get(key, "control"), said[key])
        for key, played in manners.items()
    }


def cascade(world: World, pair: tuple[int, int], noise: float, name: str) -> Entry:
    """Call the first, check its answer, release it or call the second; who answered keeps a tool loop.

    How often the first is right is what the bundle believes; a check is wrong `noise` of the time.
    """
    book = world.book
    first, second = pair
    free = ~book.locked
    free[book.starts[:-1]] = True
    decision = np.maximum.accumulate(np.where(free, np.arange(book.n), 0))
    right = np.nan_to_num(world.beliefs.p[:, first].astype(np.float64), nan=0.5)
    escalates = right * noise + (1 - right) * (1 - noise)
    draw = np.random.default_rng([book.n, first, second]).random(book.n)
    moved = (draw < escalates)[decision]
    routes = ((free | ~moved, first), (moved, second))
    plays, refused = _paid(world, [(rows, _some(world, rows, arm)) for rows, arm in routes if rows.any()])
    parts = [parts_of(played) for played in plays]
    answering = np.where(moved, second, first)
    calls = sum(len(played.route) for played in plays)
    names = world.arms.names
    switches = np.append(False, (answering[1:] != answering[:-1]) & (book.session[1:] == book.session[:-1]))
    return Entry(
        name=name,
        usd=np.sum([played.usd for played in plays], axis=0),
        parts={key: sum(part[key] for part in parts) for key in parts[0]},
        read=sum(played.read for played in plays),
        switches=int(switches.sum()),
        unsafe=int((switches & ~free).sum()),
        share={names[int(p.route[0])]: len(p.route) / calls for p in plays},
        refused=refused,
        said=f"{names[first]}, checked (wrong {noise:.0%} of the time), "
        f"{float(moved.mean()):.0%} of calls by {names[second]}",
    )


def _paid(world: World, plays: list[tuple[np.ndarray, Played]]) -> tuple[list[Played], int]:
    """The steps of a cascade as the budget lets them be; a call is refused with all its steps."""
    if world.budget is None:
        return [played for _, played in plays], 0
    usd = np.zeros(world.book.n)
    for rows, played in plays:
        usd[rows] += played.bill.total
    refused = world.budget.refused(usd)
    found = []
    for rows, played in plays:
        bill = Bill(*(np.where(refused[rows], 0.0, part) for part in played.bill))
        total = np.zeros(world.book.n)
        total[rows] = bill.total
        found.append(played._replace(bill=bill, usd=world.book.of_session(total)))
    return found, int(refused.sum())


def _some(world: World, rows: np.ndarray, arm: int) -> Played:
    """Play an arm on some of the calls only, its cache seeing nothing of the others."""
    part = world._replace(
        budget=None,
        known=None if world.known is None else world.known[rows],
        book=world.book.rows(rows),
        arms=world.arms._replace(logged=world.arms.logged[rows]),
        tokens=world.tokens[rows],
        output=world.output[rows],
        rates=world.rates._replace(at=world.rates.at[rows]),
        caches=world.caches._replace(
            at=world.caches.at[rows], silent=world.caches.silent[rows], hourly=world.caches.hourly[rows]
        ),
    )
    return play(part, np.full(int(rows.sum()), arm))
