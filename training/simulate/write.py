"""A made-up log, written as it is made: requests, decisions, outcomes and shadow pairs, and the truth."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from features.errors import BadInput
from router import prices
from training.log import BATCH_ROWS, LogStore
from training.progress import Progress
from training.simulate.outcomes import outcome
from training.simulate.play import Team, play, recorded
from training.simulate.shadows import shadow_calls
from training.simulate.team import new_team
from training.simulate.traffic import STARTS_MS, Script, Traffic, scripts
from training.simulate.truth import Truth, Witness
from training.simulate.world import World, cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from features.records import RecordKind
    from router.gateway.settings import Settings

_PART_ROWS = 50_000  # of the matrix in memory


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to make and where to put it."""

    to: Path
    turns: int
    truth: Path | None = None  # default: LOG.truth.json beside the log
    matrix: Path | None = None  # outcome matrix of all arms, as `samediff evaluate` reads it
    policy: str
    targets: tuple[str, ...] = ()  # more policies whose truth is wanted

    @property
    def truth_file(self) -> Path:
        """Where the truth goes."""
        return self.truth or self.to.with_name(f"{self.to.name}.truth.json")


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What was made; the truth file holds the same."""

    log: str
    policy: str  # that served it
    world: World
    traffic: Traffic
    success: dict[str, dict[str, float]]  # by arm and kind: of a typical request in a typical repository
    policies: list[Truth]
    records: dict[str, int]
    sessions: int


def make(world: World, traffic: Traffic, wanted: Wanted, settings: Settings) -> Made:
    """Make a log and its truth; BadInput where the place is taken or a name isn't known."""
    if wanted.turns < 1:
        raise BadInput(f"--turns {wanted.turns}: one turn at least")
    if wanted.to.exists() and any(wanted.to.iterdir()):
        raise BadInput(f"{wanted.to}: holds something already; a made-up log wants a new folder")
    for file in filter(None, (wanted.truth, wanted.matrix)):  # before the work, not after it
        if not file.parent.is_dir() or file.is_dir():
            raise BadInput(f"{file}: can't be written: no such folder, or a folder itself")
    team = new_team(world, traffic, settings, wanted.policy)
    _check_prices(team)
    witness = Witness(team, team.deployments(), world.seed)
    for spec in wanted.targets:
        witness.add_policy(spec, new_team(world, traffic, settings, spec))
    store, counts = LogStore(wanted.to), dict.fromkeys(("request", "decision", "outcome"), 0)
    sessions = 0
    with store.writing(), _Matrix(wanted.matrix) as matrix, Progress("turns", wanted.turns) as progress:
        for script in scripts(world, traffic, wanted.turns):
            served = list(play(team, script))
            for kind, record in _records(team, script, served):
                counts[kind] += store.admit(kind, record)
            matrix.add(witness.see(script, served))
            sessions += 1
            progress.advance(len(served))
            if store.pending >= BATCH_ROWS:
                store.flush()
        store.flush()
    store.merge_days()
    made = Made(
        log=wanted.to.name,
        policy=team.decider.policy.name,
        world=world,
        traffic=traffic,
        success=_typical(world),
        policies=witness.truths(),
        records=counts,
        sessions=sessions,
    )
    try:
        wanted.truth_file.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    except OSError as error:
        raise BadInput(f"{wanted.truth_file}: can't be written ({error.strerror})") from error
    return made


def _check_prices(team: Team) -> None:
    """Refuse pairs of an arm that has no price: `samediff shadow` doesn't ask it, as no cap could hold it."""
    for name, place in team.deployments().items() if team.traffic.pairs else ():
        if prices.rates(place.model, place.provider, STARTS_MS, region=place.region) is None:
            raise BadInput(f"arm {name} has no published price, so no shadow call asks it: use --pairs 0")


def _typical(world: World) -> dict[str, dict[str, float]]:
    from training.calibrate import sigmoid

    p = sigmoid(cells(world)).tolist()
    return {arm: dict(zip(world.kinds, row, strict=True)) for arm, row in zip(world.arms, p, strict=True)}


def _records(team: Team, script: Script, served: list[Any]) -> Iterator[tuple[RecordKind, msgspec.Struct]]:
    """What a session leaves in the log."""
    for turn in served:
        yield "decision", turn.call.receipt
        yield "request", recorded(turn)
    for number, ask in enumerate(script.asks):
        mine = [turn for turn in served if turn.ask == number]
        heard = outcome(team, script, ask, mine)
        if heard is not None:
            yield "outcome", heard
        yield from shadow_calls(team, script, ask, mine[0])


class _Matrix:
    """Rows of an outcome matrix, written in parts and put together at the end; None: nowhere."""

    def __init__(self, to: Path | None) -> None:
        self._to = to
        self._rows: list[dict[str, Any]] = []
        self._open = contextlib.ExitStack()
        self._parts: list[Path] = []

    def __enter__(self) -> _Matrix:
        if self._to is not None:
            self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if self._to is None or kind is not None:
                return
            self._flush()
            try:
                pl.scan_parquet(self._parts).sink_parquet(self._to)
            except OSError as error:
                raise BadInput(f"{self._to}: can't be written ({error.strerror})") from error

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Take rows; a full part goes to disk."""
        if self._to is None:
            return
        self._rows += rows
        if len(self._rows) >= _PART_ROWS:
            self._flush()

    def _flush(self) -> None:
        file = self._folder / f"{len(self._parts):06d}.parquet"
        pl.DataFrame(self._rows, schema=_SCHEMA).write_parquet(file)
        self._parts.append(file)
        self._rows.clear()


_SCHEMA = {
    **dict.fromkeys(("task_id", "request_id", "session_id", "group", "category", "model"), pl.String()),
    **dict.fromkeys(("success", "p_success"), pl.Float64()),
    "told": pl.Boolean(),
    **dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens"), pl.Int64()),
    "cost_usd": pl.Float64(),
}
