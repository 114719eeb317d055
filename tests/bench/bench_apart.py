"""Differences of policies on the same sessions: do they cover, how narrow are they, and what is advised?

python tests/bench/bench_apart.py [--runs 1000]: bandit logs of known truth, easy and hard sessions.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.estimators.bandit import Bandit
from training.replay.options import Options
from training.replay.policies.entries import Entry
from training.replay.policies.playing import judged
from training.replay.quality.clusters import Clusters
from training.replay.quality.evidence import Evidence
from training.replay.quality.judge import Judge
from training.replay.report.advise import advise
from training.replay.report.rows import Over, pairs_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.replay.quality.differences import Blend, Pairs
    from training.replay.report.result import Row

ARMS = ("good", "twin", "cheap")
USD = np.array([1.0, 1.0, 0.3])
ROUTERS = 10
PIN, MIX = [(1.0, "pin:good")], [(0.5, "pin:cheap"), (0.5, "pin:good")]


class World(NamedTuple):
    """Sessions of a log: of each decision its session, kind, chance of success by arm, and price."""

    session: np.ndarray  # (n,)
    kind: np.ndarray  # (n,) 0 or 1
    success: np.ndarray  # (n, 3)
    usd: np.ndarray  # (n, 3)


def world(rng: np.random.Generator, sessions: int, edge: float) -> World:
    """Hard and easy sessions; cheap is poor at kind 0, and at kind 1 better than the others by `edge`."""
    size = rng.geometric(0.2, sessions)
    session = np.repeat(np.arange(sessions), size)
    kind = rng.integers(0, 2, len(session))
    ease = rng.normal(0.8, 1.2, sessions)[session]
    good = 1 / (1 + np.exp(-ease))
    cheap = np.where(kind == 1, np.clip(good + edge, 0, 1), np.clip(good - 0.3, 0, 1))
    usd = rng.lognormal(0.0, 1.0, (len(session), 1)) * USD
    return World(session, kind, np.stack([good, good, cheap], axis=1), usd)


def bandit(rng: np.random.Generator, of: World, epsilon: float) -> Bandit:
    """What a logger saw that asks good, but with `epsilon` any of the three."""
    n, k = of.success.shape
    chance = np.full((n, k), epsilon / k)
    chance[:, 0] += 1 - epsilon
    action = (rng.random((n, 1)) > chance.cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(n) < of.success[np.arange(n), action]).astype(float)
    return Bandit(ARMS, action, reward, chance, of.session, np.zeros(n, dtype=bool))


def routes(rng: np.random.Generator, of: World, *, equal: bool) -> dict[str, np.ndarray]:
    """A router that knows the kinds; or ten that ask good or its twin by chance, as good as the pin."""
    n = len(of.session)
    if not equal:
        return {"learned": np.where(of.kind == 1, 2, 0)}
    return {f"learned:{i}": rng.integers(0, 2, n) for i in range(ROUTERS)}


def answered(seed: int, *, sessions: int, edge: float, equal: bool) -> tuple[list[Row], Pairs, World]:
    """Rows and pairs of a log; today's is a policy that costs twice as much."""
    rng = np.random.default_rng(seed)
    of = world(rng, sessions, edge)
    log = bandit(rng, of, 0.5)
    n = len(of.session)
    evidence = Evidence(log, np.zeros(n, dtype=int) if equal else of.kind, n, 0, np.zeros((2, 3)))
    asked = {"logged": log.action, **{f"pin:{arm}": np.full(n, i) for i, arm in enumerate(ARMS) if i != 1}}
    asked |= routes(rng, of, equal=equal)
    entries = [_entry(name, route, of) for name, route in asked.items()]
    cheap, best = (_entry(name, np.full(n, arm), of) for name, arm in (("cheapest", 2), ("best_single", 0)))
    entries += [cheap, best]
    for entry, said in zip(entries, judged(Judge([evidence]), entries, n), strict=True):
        entry.quality = said
    over = Over(Clusters("session", None, sessions), None, Options())
    return rows_of(entries, "logged", over, n), pairs_of(entries, over), of


def _entry(name: str, route: np.ndarray, of: World) -> Entry:
    roles = {"logged": "logged", "cheapest": "control", "best_single": "control"}
    usd = of.usd[np.arange(len(route)), route] * (2 if name == "logged" else 1)
    share = {arm: float((route == i).mean()) for i, arm in enumerate(ARMS)}
    return Entry(
        name=name,
        usd=np.bincount(of.session, usd),
        parts={},
        share={"today": 1.0} if name == "logged" else share,
        target=lambda _: route,
        role="pin" if name.startswith("pin:") else roles.get(name, "policy"),
    )


def coverage(runs: int, sessions: int) -> None:
    """How often the interval of router less pin, and less mix, holds the truth; its width beside others."""
    print(f"{runs:,} logs of {sessions:,} sessions (5 decisions on average)")
    big = world(np.random.default_rng(10**6), 400_000, 0.04)
    truth = {"cheap": big.success[:, 2].mean(), "good": big.success[:, 0].mean()}
    route = np.where(big.kind == 1, 2, 0)
    router = big.success[np.arange(len(route)), route].mean()
    for label, blend in (("pin", PIN), ("mix", MIX)):
        true = router - sum(share * truth[name.removeprefix("pin:")] for share, name in blend)
        hit, width, apart, usd_hit = 0, 0.0, 0.0, 0
        usd_true = float((big.usd[np.arange(len(route)), route] - _of(big.usd, blend)).sum()) / 400_000
        for seed in range(runs):
            rows, pairs, _ = answered(seed, sessions=sessions, edge=0.04, equal=False)
            gap, money = pairs.success("learned", blend), pairs.money("learned", blend)
            if gap is None or gap.ends is None or money is None or money.ends is None:
                raise SystemExit("a log without an interval: ask for more sessions")
            hit += gap.ends[0] <= true <= gap.ends[1]
            usd_hit += money.ends[0] <= usd_true * sessions <= money.ends[1]
            width += (gap.ends[1] - gap.ends[0]) / 2 / runs
            apart += _unpaired(rows, ["learned", *(name for _, name in blend)], blend) / runs
        print(
            f"  router less {label}: {true * 100:+.1f} points; covered {hit / runs:.1%}, "
            f"±{width * 100:.2f} points, told apart ±{apart * 100:.2f}; USD covered {usd_hit / runs:.1%}"
        )


def _of(values: np.ndarray, blend: Blend) -> np.ndarray:
    columns = {"pin:good": 0, "pin:cheap": 2}
    found: np.ndarray = sum((share * values[:, columns[name]] for share, name in blend), np.zeros(1))
    return found


def _unpaired(rows: Sequence[Row], names: list[str], blend: Blend) -> float:
    """Half the width of a difference of intervals that are told apart."""
    reach = {r.name: (r.quality_ci[1] - r.quality_ci[0]) / 2 for r in rows if r.quality_ci is not None}
    of_mix = sum(share * reach[name] for share, name in blend)
    return float(np.hypot(reach[names[0]], of_mix))


def advice(runs: int, sessions: int) -> None:
    """How often a router is advised beside a pin that is as good, and where it is better."""
    for label, edge, equal in (
        (f"{ROUTERS} as good as the pin", 0.0, True),
        ("one, cheaper and as good", 0.0, False),
        ("one, cheaper and 2 points better", 0.04, False),
        ("one, cheaper and 4 points better", 0.08, False),
    ):
        found = np.zeros(2)
        for seed in range(runs):
            rows, pairs, _ = answered(seed, sessions=sessions, edge=edge, equal=equal)
            for i, known in enumerate((pairs, None)):
                found[i] += (advise(rows, pairs=known).policy or "").startswith("learned")
        both = found / runs
        print(f"  {label}: advised in {both[0]:.2%} of logs; told apart {both[1]:.2%}")


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--sessions", type=int, default=1_500)
    given = parser.parse_args()
    coverage(given.runs, given.sessions)
    advice(given.runs, given.sessions)


if __name__ == "__main__":
    main()
