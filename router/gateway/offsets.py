"""Offsets of repositories, learned from the outcomes that clients report, kept in a file beside the journal.

An outcome is worth something here while the decision it is about is remembered; the log has all of them.
Processes that share a journal share the file: each adds to it what it has learned since it last did.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.files import held_alone, replace_file
from features.names import candidate_name
from features.records import OffsetRecord
from models.offset import LIMIT, Change, Key, Level, Offsets, State, Where, joined, log_odds_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from features.records import OutcomeRecord
    from models.bundle import Bundle
    from router.gateway.call import Call, Tags

_LOG = logging.getLogger("samediff")
KEEP_S = 5.0  # between two writes of what changed
REMEMBERED = 50_000  # decisions that an outcome may still come for, and their sessions and tasks
_LOCKED_S = 2.0  # how long another process may hold the file
# What is only ever heard when an answer went one way teaches that all do; neither is it a verdict.
_ONE_SIDED = ("L0", "L1", "L2", "L3", "different", "signal")


class _Kept(msgspec.Struct):
    """The file: offsets, and the bundle whose predictions they are offsets of."""

    bundle: str
    states: dict[Level, dict[str, State]]


class _Decision(msgspec.Struct):
    """A decision that an outcome may come for."""

    where: Where
    candidate: str
    log_odds: float  # of its success, without any offset
    session: str
    heard: bool = False  # its first outcome was counted


class LiveOffsets:
    """The offsets of one process; only its event loop may call it."""

    def __init__(self, file: Path, bundle: Bundle) -> None:
        self._file = file
        self._offsets = Offsets(bundle.manifest.offsets)
        self._bundle = bundle.digest
        self._decisions: OrderedDict[str, _Decision] = OrderedDict()  # by request, session and task
        self._heard: OrderedDict[str, int] = OrderedDict()  # outcomes counted of a session
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._seen = 0  # the file's time when it was last read
        kept = _read(file)
        if kept is not None and kept.bundle == self._bundle:
            self._offsets.put(kept.states)

    def __len__(self) -> int:
        return len(self._offsets)

    def of(self, tags: Tags) -> OffsetRecord | None:
        """The offset of whose request it is, by its client's tags."""
        if tags.repo is None and tags.tenant is None:
            return None
        found = self._offsets.of(Where(tags.repo, tags.tenant))
        return None if found is None else OffsetRecord(log_odds=found[0], outcomes=round(found[1], 3))

    def decided(self, call: Call) -> None:
        """Remember a decision until its outcome comes: of the candidate that answers, if another has to."""
        receipt, tags, candidate = call.receipt, call.tags, call.deployment.candidate
        if tags.repo is None and tags.tenant is None:
            return
        arm = next((a for a in receipt.arms if a.candidate == candidate), None)
        names = [f"request {receipt.request_id}", f"session {receipt.session_id}"]
        names += [f"session {call.place.session}"] if call.place.session else []
        names += [f"task {tags.task_id}"] if tags.task_id else []
        if arm is None or arm.p_success is None:
            for name in names:
                self._decisions.pop(name, None)
            return
        shift = 0.0 if receipt.offset is None else receipt.offset.log_odds
        where = Where(tags.repo, tags.tenant)
        found = _Decision(where, candidate, log_odds_of(arm.p_success) - shift, receipt.session_id)
        for name in names:
            _put(self._decisions, name, found)

    def learn(self, outcomes: Sequence[OutcomeRecord]) -> int:
        """Take in outcomes; how many of them counted.

        The first verdict on a request counts, and the n-th of one session for 1/n: they hang together.
        """
        return sum(self._learned(outcome) for outcome in outcomes)

    def _learned(self, outcome: OutcomeRecord) -> bool:
        named = {"request": outcome.request_id, "session": outcome.session_id, "task": outcome.task_id}
        name = next((f"{kind} {said}" for kind, said in named.items() if said), "")
        found = self._decisions.get(name)
        if found is None or found.heard or outcome.value is None or outcome.level in _ONE_SIDED:
            return False
        if outcome.candidate and candidate_name(outcome.candidate) != candidate_name(found.candidate):
            return False
        found.heard = True
        n = self._heard.get(found.session, 0) + 1
        _put(self._heard, found.session, n)
        self._offsets.learn(found.where, found.log_odds, outcome.value, 1.0 / n)
        return True

    def swapped(self, bundle: Bundle) -> None:
        """Go on with another bundle: what it says of its log's repositories, and of others what is known."""
        before, self._offsets = self._offsets.copy(), Offsets(bundle.manifest.offsets)
        said = self._offsets.copy()
        self._offsets.take_over({key: state for key, state in before.items() if key not in said})
        self._bundle, self._seen = bundle.digest, -1  # the file is of the other one
        self._decisions.clear()  # their log-odds are the other bundle's

    def start(self) -> None:
        """Begin to keep what changes; the loop must be running."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Write what is left and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.sync()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_S)
            await self.sync()

    async def sync(self) -> None:
        """Add what changed to the file, aside of the loop, and take over what others added to it."""
        offsets, known = self._offsets, self._offsets.copy()
        changes = offsets.taken()
        asked = _Asked(self._file, self._bundle, known, changes, self._seen)
        try:
            others, self._seen = await asyncio.to_thread(_exchange, asked)
        except OSError as error:
            offsets.untaken(changes)
            if not self._failed:
                _LOG.error("offsets can't be kept in %s: %s", self._file, error.strerror or error)
            self._failed = True
            return
        self._failed = False
        if self._offsets is offsets:
            offsets.take_over(others)


class _Asked(NamedTuple):
    """What one exchange with the file is made of."""

    file: Path
    bundle: str
    known: dict[Key, State]
    changes: dict[Key, Change]
    seen: int  # the file's time when it was last read


def _exchange(asked: _Asked) -> tuple[dict[Key, State], int]:
    """Add changes to the file; what it knows otherwise than we do, and its time."""
    file, known = asked.file, asked.known
    if not asked.changes and _time_of(file) == asked.seen:
        return {}, asked.seen
    with _alone(file):
        kept = _read(file)
        ours = kept is not None and kept.bundle == asked.bundle
        there = _flat(kept.states) if kept is not None and ours else dict(known)
        if ours:
            there |= {key: joined(there.get(key), *change) for key, change in asked.changes.items()}
        if len(there) > LIMIT:
            there = dict(sorted(there.items(), key=lambda item: -item[1].outcomes)[:LIMIT])
        if asked.changes or (there and not ours):
            replace_file(file, msgspec.json.encode(_Kept(asked.bundle, _by_level(there))))
        return {key: state for key, state in there.items() if known.get(key) != state}, _time_of(file)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the file's lock, waiting a little for another process; BlockingIOError after that."""
    until = time.monotonic() + _LOCKED_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held_alone(file.with_name(f".{file.name}.lock")))
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        yield


def _read(file: Path) -> _Kept | None:
    """What the file holds; None where it isn't there or is none of ours, which is said."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        _LOG.error("%s holds no offsets: begun anew", file)
        return None


def _time_of(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _flat(states: Mapping[Level, Mapping[str, State]]) -> dict[Key, State]:
    return {(level, name): state for level, named in states.items() for name, state in named.items()}


def _by_level(states: Mapping[Key, State]) -> dict[Level, dict[str, State]]:
    found: dict[Level, dict[str, State]] = {}
    for (level, name), state in states.items():
        found.setdefault(level, {})[name] = state
    return found


def _put(table: OrderedDict[str, Any], key: str, value: Any) -> None:
    """Set a key as the newest, and let go of the oldest."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > REMEMBERED:
        table.popitem(last=False)
