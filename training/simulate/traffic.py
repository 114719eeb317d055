"""Who asks what, when: the scripts of made-up sessions, the same whoever answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.errors import BadInput
from training.simulate.world import Asks, World, success

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS_MS = 1_790_841_600_000  # 2026-10-01, a fixed day: the same seed gives the same log, whenever
DAY_MS = 86_400_000
_TURN_S = (9.0, 0.6)  # between two calls of a tool loop: median, and spread of its logarithm
_PAUSE_S = (150.0, 1.3)  # before a person asks again: a third outlives a cache of five minutes
_SIZE_BYTES = (420.0, 0.7)  # of what a person asks
_RESULT_BYTES = (2_600.0, 0.9)  # of what a tool answers
_ANSWER_BYTES = (420.0, 0.5)  # of an edit or a last word
_THOUGHT_TOKENS = (160.0, 0.8)  # that an arm of ordinary verbosity thinks before it answers
_MOST_DAYS = 3_650
_MOST_ASKS = 1_000  # of a session
_MOST_TURNS = 24  # of one ask: agents have a limit, and so stays every prompt within every window


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """How a made-up team works, and what is heard of the outcomes."""

    asks: float = 3.0  # of a session, on average
    turns: float = 5.0  # of an ask, on average: calls until the agent says it is done
    days: float = 14.0  # that the log spans
    users: int = 12
    labelled: float = 0.8  # share of the asks whose outcome is told
    silent_failures: float = 0.0  # share of the failures among them that isn't told after all: a bias
    noise: float = 0.05  # share of what is told that says the opposite
    pairs: float = 0.02  # share of the asks that all other arms are asked, too
    pairs_tested: float = 1.0  # share of these answers that are tested; diffs are told of all

    def __post_init__(self) -> None:
        """Refuse traffic that can't be."""
        if not (1 <= self.asks <= _MOST_ASKS and 1 <= self.turns <= _MOST_TURNS / 2 and self.users >= 1):
            most = f"asks at most {_MOST_ASKS:,}, turns of an ask {_MOST_TURNS // 2}"
            raise BadInput(f"asks, turns of an ask and users must be 1 or more, {most}")
        if not 0 < self.days <= _MOST_DAYS:
            raise BadInput(f"a log must span more than 0 days, and {_MOST_DAYS:,} at most")
        for name in ("labelled", "silent_failures", "noise", "pairs", "pairs_tested"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name.replace('_', '-')} is a share, from 0 to 1")

    @property
    def session_turns(self) -> float:
        """Turns of a session, on average."""
        return self.asks * self.turns


class Step(NamedTuple):
    """One call of an agent, whoever answers it."""

    after_ms: int  # since the call before
    answer_bytes: int
    result_bytes: int  # of the tool that the answer calls
    thought: float  # tokens that an ordinary arm thinks
    luck: float  # of best-effort caches


class Ask(NamedTuple):
    """What a person asks, and what comes of it with each arm: success where its `luck` < its `p`."""

    kind: str
    p: np.ndarray  # (k,)
    size_bytes: int
    pause_ms: int
    steps: tuple[Step, ...]
    luck: np.ndarray  # (k,): what arms have in common lies in p
    told: float  # < labelled: its outcome is told
    hushed: float  # < silent_failures: unless it failed
    wrong: np.ndarray  # (k,) < noise: what is told is the opposite
    asked_again: float  # < pairs: of all other arms


class Script(NamedTuple):
    """One session."""

    number: int
    session_id: str
    user: str
    repo: str
    start_ms: int
    asks: tuple[Ask, ...]

    @property
    def turns(self) -> int:
        """Calls of the whole session."""
        return sum(len(ask.steps) for ask in self.asks)


def scripts(world: World, traffic: Traffic, turns: int) -> Iterator[Script]:
    """Sessions by the time they start, until `turns` calls are made; the last one is cut there."""
    done, number = 0, 0
    while done < turns:
        made = _script(world, traffic, number, done / turns)
        made = _cut(made, turns - done)
        yield made
        done += made.turns
        number += 1


def _cut(script: Script, turns: int) -> Script:
    kept = []
    for ask in script.asks:
        if turns <= 0:
            break
        kept.append(ask._replace(steps=ask.steps[:turns]))
        turns -= len(ask.steps)
    return script._replace(asks=tuple(kept))


def _script(world: World, traffic: Traffic, number: int, age: float) -> Script:
    rng = np.random.default_rng([world.seed, 10, number])
    n = int(rng.geometric(1 / traffic.asks))
    kind = rng.integers(0, len(world.kinds), n)
    repo = int(rng.integers(0, world.repos))
    size = rng.normal(size=n)
    p = success(world, Asks(kind, np.full(n, repo), np.full(n, age), size), number)
    jitter = rng.random() / 48  # of half an hour
    asks = tuple(_ask(world.kinds[kind[i]], p[i], float(size[i]), traffic, rng) for i in range(n))
    return Script(
        number=number,
        session_id=f"sim-{world.seed}-{number:07d}",
        user=f"user-{rng.integers(0, traffic.users):02d}",
        repo=f"team/repo-{repo}",
        start_ms=STARTS_MS + round((age * traffic.days + jitter) * DAY_MS),
        asks=asks,
    )


def _ask(kind: str, p: np.ndarray, size: float, traffic: Traffic, rng: np.random.Generator) -> Ask:
    n = min(_MOST_TURNS, int(rng.geometric(1 / traffic.turns)))
    columns = (
        _spread(rng, _TURN_S, n) * 1000,
        _spread(rng, _ANSWER_BYTES, n),
        _spread(rng, _RESULT_BYTES, n),
        _spread(rng, _THOUGHT_TOKENS, n),
        rng.random(n),
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    steps = tuple(Step(round(a), round(b), round(c), d, e) for a, b, c, d, e in rows)
    told, hushed, again = rng.random(3).tolist()
    luck, wrong = rng.random((2, len(p)))
    asked = round(_SIZE_BYTES[0] * np.exp(_SIZE_BYTES[1] * size))
    pause = round(float(_spread(rng, _PAUSE_S, 1)[0]) * 1000)
    return Ask(kind, p, asked, pause, steps, luck, told, hushed, wrong, again)


def _spread(rng: np.random.Generator, of: tuple[float, float], n: int) -> np.ndarray:
    drawn: np.ndarray = of[0] * np.exp(of[1] * rng.normal(size=n))
    return drawn
