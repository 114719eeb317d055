"""What became of an answer, read out of the turns that follow it: tests, corrections, refusals, reverts.

A turn follows another when its prompt begins with the other's, told by the prefix hashes: sub-agents, side
calls, forks and rewinds fall into place by themselves, and a compaction ends what can be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from features.diffs.answers import GIT_REVERT
from features.records import OutcomeRecord
from router.gateway.toolcheck import FAULT_FLAG
from training.labels.kinds import DERIVED, stated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SETTLED_MS = 24 * 3_600_000  # a session silent for this long, by the log's newest call, has ended
_HELD = 32  # edits that wait for a test run
FACTS = (
    "calls_edit", "n_edit_failures", "n_test_runs", "last_tests_passed", "last_tests_failed_count",
    "n_user_messages", "user_corrections",
)  # fmt: skip


class Turn(NamedTuple):
    """One logged call, as far as its signals need it."""

    request_id: str
    session_id: str
    ts_ms: int
    turn: int | None
    status: str
    candidate: str | None
    tools_called: list[str] | None
    digests: list[str] | None
    hashes: list[int] | None  # the newest of its prompt's chain
    facts: dict[str, float | None]  # of the prompt, hence of what happened before the answer
    broken: bool = False  # a tool call of the answer is none that its client can carry out


class _State(NamedTuple):
    """What a thread remembers after a turn, by the turns' places in the list."""

    untested: tuple[int, ...] = ()  # edits since the last test run
    edit: int | None = None  # the last edit since the person spoke
    back: tuple[int, str] | None = None  # the last edit, and the digest of the edit that would undo it


class _Change(NamedTuple):
    """What an answer brought, by the facts before and after it."""

    edited: bool
    edit_failed: bool
    ran_tests: bool
    spoken: bool  # a person wrote
    corrected: bool
    rejected: bool


def read_signals(turns: Iterable[Turn]) -> Iterator[OutcomeRecord]:
    """Evidence about the turns, each with an id that the same log gives again; order doesn't matter."""
    ordered = sorted(turns, key=lambda t: (t.ts_ms, t.turn or 0, t.request_id))
    before = _predecessors(ordered)
    states: dict[int, _State] = {}
    for i, turn in enumerate(ordered):
        if turn.broken:
            yield _outcome(turn, "tool_call_broken", False, turn.ts_ms)
        j = before[i]
        if j is None:
            continue
        change = _change(ordered[j], turn)
        if change is None:  # the facts went backwards: another conversation after all
            continue
        seen = states.setdefault(j, _State())
        told, states[i] = _follow(ordered, j, turn, change, seen)
        for at, kind, good in told:
            yield _outcome(ordered[at], kind, good, turn.ts_ms)
    yield from _abandoned(ordered, before)


def _predecessors(turns: Sequence[Turn]) -> list[int | None]:
    """For each turn the one whose prompt is its longest beginning; None where nobody's is, or several are."""
    asked: dict[int, list[int]] = {}
    for i, turn in enumerate(turns):
        if turn.hashes:
            asked.setdefault(turn.hashes[-1], []).append(i)
    found: list[int | None] = []
    for i, turn in enumerate(turns):
        nearest = next((asked[h] for h in reversed((turn.hashes or ())[:-1]) if h in asked), [])
        earlier = [j for j in nearest if j < i and turns[j].status != "error"]
        own = [j for j in earlier if turns[j].session_id == turn.session_id]
        found.append(own[-1] if own else earlier[0] if len(earlier) == 1 else None)
    return found


def _change(asked: Turn, after: Turn) -> _Change | None:
    gained = {}
    for name in FACTS:
        now, then = after.facts.get(name), asked.facts.get(name)
        gained[name] = (now or 0.0) - (then or 0.0)
    if any(gained[name] < 0 for name in FACTS if not name.startswith("last_")):
        return None
    spoken, against = gained["n_user_messages"], gained["user_corrections"]
    return _Change(
        edited=gained["calls_edit"] > gained["n_edit_failures"],
        edit_failed=gained["n_edit_failures"] > 0,
        ran_tests=gained["n_test_runs"] > 0,
        spoken=spoken > 0,
        corrected=spoken > 0 and against > 0,
        rejected=against > spoken,
    )


_Told = list[tuple[int, str, bool | None]]


def _follow(
    turns: Sequence[Turn], j: int, after: Turn, change: _Change, seen: _State
) -> tuple[_Told, _State]:
    """What the step from turn `j` to `after` tells of `j` and of earlier turns, and what is remembered."""
    told: _Told = []
    digests = turns[j].digests or []
    if change.edit_failed and not change.edited:
        told.append((j, "edit_failed", False))
    if change.rejected:
        told.append((j, "rejection", False))
    if GIT_REVERT in digests and seen.edit is not None:
        told.append((seen.edit, "reverted", False))
    forward = next((entry[4:] for entry in digests if entry.startswith("~L0:")), None)
    if change.edited and seen.back is not None and seen.back[1] == forward:
        told.append((seen.back[0], "undone", False))
    untested = (*seen.untested, j)[-_HELD:] if change.edited else seen.untested
    if change.ran_tests and after.facts.get("last_tests_passed") is not None:
        told += _tested(turns[j], after, untested, together=change.edited)
        untested = ()
    edit = j if change.edited else seen.edit
    if change.spoken:
        kind, good = ("correction", False) if change.corrected else ("accepted", True)
        told += [(at, kind, good) for at in dict.fromkeys((j, edit)) if at is not None]
        edit = None
    back = seen.back
    if change.edited:
        undo = next((entry[5:] for entry in digests if entry.startswith("undo:")), None)
        back = (j, undo) if undo else None
    return told, _State(untested, edit, back)


def _tested(asked: Turn, after: Turn, untested: tuple[int, ...], *, together: bool) -> _Told:
    """A test run's word on the edits before it: strong on the last one, if the run surely came after it."""
    passed = after.facts["last_tests_passed"] == 1.0
    now, then = after.facts.get("last_tests_failed_count"), asked.facts.get("last_tests_failed_count")
    fewer = not passed and now is not None and then is not None and 0 < now < then
    good = None if fewer else passed  # it mended something and something is left: no verdict
    *earlier, last = untested or (None,)
    told: _Told = [(at, "tests_later", good) for at in earlier if at is not None]
    if last is not None:
        told.append((last, "tests_later" if together else "tests_after_edit", good))
    return told


def _abandoned(turns: Sequence[Turn], before: Sequence[int | None]) -> Iterator[OutcomeRecord]:
    """Sessions that ended on a cancelled answer, or on tool calls whose results never came."""
    continued = {j for j in before if j is not None}
    last = {turn.session_id: i for i, turn in enumerate(turns)}
    newest = turns[-1].ts_ms if turns else 0
    for i in last.values():
        turn = turns[i]
        open_end = turn.status == "cancelled" or (turn.status == "ok" and bool(turn.tools_called))
        if turn.hashes and open_end and i not in continued and newest - turn.ts_ms > SETTLED_MS:
            yield _outcome(turn, "abandoned", False, turn.ts_ms)


def _outcome(turn: Turn, kind: str, good: bool | None, ts_ms: int) -> OutcomeRecord:
    value = None if good is None else stated(kind, good=good)
    return OutcomeRecord(
        outcome_id=f"label/{kind}/{turn.request_id}",
        ts_ms=ts_ms,
        source=kind,
        request_id=turn.request_id,
        session_id=turn.session_id,
        candidate=turn.candidate,
        level=DERIVED[kind],
        value=value,
        weight=None if value is None else abs(2 * value - 1),
        detail="fewer failures than before, not none" if good is None else None,
    )


def turn_of(row: dict[str, Any]) -> Turn:
    """A row of the log as a turn; `facts` as a plain mapping."""
    facts = row.get("facts") or {}
    return Turn(
        request_id=row["request_id"],
        session_id=row["session_id"],
        ts_ms=row["ts_ms"],
        turn=row["turn"],
        status=row["status"] or "unknown",
        candidate=row["candidate"],
        tools_called=row["tools_called"],
        digests=row["edit_digests"],
        hashes=row["prefix_hashes"],
        facts={name: facts.get(name) for name in FACTS},
        broken=FAULT_FLAG in (row.get("flags") or ()),
    )
