"""Evidence in the session so far: tool calls and errors, test outcomes, edits, repeats, corrections.

An accumulator: each message is looked at once and in bounded parts, so n messages cost O(n).
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from features import prompt, testruns
from features.corrections import corrects
from features.sessionkind import Marks
from features.tools import Action, understand
from features.writtenactions import mark_of, written_actions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from features.wire.types import Message

TRAJECTORY_NAMES: tuple[str, ...] = (  # in the order of Facts
    *("in_tool_loop", "calls_read", "calls_search", "calls_edit", "calls_shell", "calls_other"),
    *("n_tool_errors", "last_tool_error", "consecutive_tool_errors", "n_edit_failures", "n_files_edited"),
    *("n_test_runs", "last_tests_passed", "last_tests_failed_count", "repeated_actions"),
    *("turns_since_progress", "user_corrections", "last_result_bytes"),
)


class Trajectory:
    """The session so far: `add` its messages in order, ask `values` and `salient_text` at any point."""

    __slots__ = (
        *("_answers_tool", "_calls", "_corrections", "_edit_failures", "_edited", "_error_run", "_errors"),
        *("_last_result_bytes", "_only_task", "_open", "_progress_at", "_repeats", "_results", "_salient"),
        *("_seen", "_task_mark", "_test_runs", "_tests_failed", "_tests_passed", "_told", "last_user"),
        *("last_user_bytes", "marks", "n_assistant_messages", "n_images", "n_messages", "n_system_messages"),
        *("n_user_messages", "new_bytes", "signed", "system_bytes", "task"),
    )

    def __init__(self) -> None:
        self.n_messages = 0
        self.n_user_messages = 0  # that a person wrote
        self.n_assistant_messages = 0
        self.n_system_messages = 0
        self.system_bytes = 0
        self.new_bytes = 0  # of results and of what a person typed, since the assistant spoke
        self.n_images = 0
        self.marks = Marks()  # of the client and of what the call is for
        self.signed = False  # something that is bound to its provider has been seen
        self.task = ""  # what a person said first, and
        self.last_user = ""  # last; of both what the salient text shows, without the client's own blocks
        self.last_user_bytes = 0  # of all of it
        self._task_mark = 0
        self._only_task = True  # the last turn says what the first one says
        self._results: deque[str] = deque(maxlen=prompt.MAX_RESULTS)  # since the assistant spoke
        self._salient: tuple[str, ...] | None = ()  # pieces of the salient text; None: to be put together
        self._answers_tool = False
        self._open: dict[str, Action] = {}  # calls that wait for their result
        self._told: list[tuple[Action, int]] = []  # actions written as text, with their marks
        self._seen: set[int] = set()
        self._edited: set[int] = set()
        self._calls = dict.fromkeys(("read", "search", "edit", "shell", "other"), 0)
        self._errors = 0
        self._error_run = 0
        self._edit_failures = 0
        self._test_runs = 0
        self._tests_passed: bool | None = None
        self._tests_failed: int | None = None
        self._repeats = 0
        self._progress_at = 0
        self._corrections = 0
        self._last_result_bytes: int | None = None

    def add(self, message: Message) -> None:
        """Take the next message of the conversation."""
        self.n_messages += 1
        if message.role == "system":
            self.n_system_messages += 1
            for part in message.parts:
                self.system_bytes += part.bytes
                self.marks.told(part.text)
            return
        self._salient = None
        self._answers_tool = False
        spoken = message.role == "assistant"
        if spoken:
            self._assistant(message)
        for part in message.parts:
            if part.kind == "tool_result":
                text = prompt.without_reminders(part.text)
                self._result(text, self._open.pop(part.call_id or "", None), part.is_error)
            elif part.kind == "image":
                self.n_images += 1
            if part.signed:
                self.signed = True
        if spoken:  # it has seen all results so far, those of the provider's own tools too
            if self._results:
                self._results.clear()
            self.new_bytes = 0
            self._answers_tool = False
        elif message.role == "user":
            self._user(message)

    def _assistant(self, message: Message) -> None:
        self.n_assistant_messages += 1
        self._told = []
        calls = False
        for part in message.parts:
            if part.kind == "tool_call":
                calls = True
                name = part.name or ""
                action = understand(name, part.text)
                self._count(action, mark_of(f"{name}\0{part.text}"))
                self._open[part.call_id or ""] = action
        if not calls:
            self._told = written_actions(message)

    def _count(self, action: Action, mark: int) -> None:
        self._calls[action.kind if action.kind in self._calls else "other"] += 1
        self._repeats += mark in self._seen
        self._seen.add(mark)

    def _user(self, message: Message) -> None:
        """A user turn: what a person said, or how a harness without tool calling hands back a result."""
        texts = [part.text for part in message.parts if part.kind == "text"]
        self.marks.ask(texts[-1] if texts else None)
        told, self._told = self._told, []
        if observed := prompt.observation(message):
            for action, mark in told:
                self._count(action, mark)
            self._result(observed, told[0][0] if told else _UNTOLD, None)
            return
        typed = prompt.typed_text(texts)
        for action, mark in told:
            if action.kind == "edit":  # such an edit is applied without a reply, unless it fails
                self._count(action, mark)
                self._outcome(action, failed=testruns.edit_failed(typed))
        if not typed:
            return
        self.n_user_messages += 1
        whole = typed.encode("utf-8", "surrogatepass")
        mark, size = xxh3_64_intdigest(whole), len(whole)
        self._task_mark = self._task_mark or mark
        self._only_task = mark == self._task_mark
        self.task = self.task or prompt.squeeze(typed, prompt.TASK_CHARS)
        self.last_user = prompt.squeeze(typed, prompt.LAST_USER_CHARS)
        self.last_user_bytes = size
        self.new_bytes += size
        if self.n_assistant_messages and corrects(typed):
            self._corrections += 1

    def _result(self, text: str, action: Action | None, flagged: bool | None) -> None:
        self._answers_tool = True
        self._results.append(prompt.squeeze_result(text))
        self._last_result_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        self.new_bytes += self._last_result_bytes
        action = action or _UNKNOWN_CALL
        if flagged is not False and text.startswith(testruns.REJECTIONS):
            self._corrections += 1
            return
        result = testruns.open_result(text, shell=action.in_shell)
        failed = _failed(result, action, flagged)
        if action.runs or action.tests:
            chars = testruns.TAIL_CHARS if action.tests else testruns.GLANCE_CHARS
            tests = testruns.read_tests(result.text, chars)
            if tests or (action.tests and not testruns.did_not_run(result.text)):
                self._tested(tests, failed=failed, piped=action.piped)
                return
        self._outcome(action, failed=failed)

    def _tested(self, tests: testruns.RunOutcome | None, *, failed: bool, piped: bool) -> None:
        """A test run is evidence of its own: failing tests are no tool error."""
        self._test_runs += 1
        self._error_run = 0
        self._tests_failed = tests.failed if tests else None
        if tests and tests.failed is not None:
            self._tests_passed = tests.failed == 0
        else:  # no summary to be read: the exit status speaks, unless a filter at the end has hidden it
            self._tests_passed = False if failed else None if piped else True
        if self._tests_passed:
            self._progress_at = self.n_assistant_messages

    def _outcome(self, action: Action, *, failed: bool) -> None:
        self._errors += failed
        self._error_run = self._error_run + 1 if failed else 0
        if action.kind != "edit":
            return
        if failed:
            self._edit_failures += 1
            return
        self._progress_at = self.n_assistant_messages
        self._edited.update(map(mark_of, action.paths))

    def salient_text(self) -> str:
        """The salient text of the session so far; equals prompt.salient_text of the same messages."""
        return prompt.compose(self.salient_pieces())

    def salient_pieces(self) -> tuple[str, ...]:
        """The pieces of the salient text, of which a session's task comes again with every turn."""
        if self._salient is None:
            same = self._only_task or self.last_user == self.task
            found = (self.task, "" if same else self.last_user, *self._results)  # each of the right size
            self._salient = tuple([piece for piece in found if piece])
        return self._salient

    def values(self) -> tuple[float | None, ...]:
        """TRAJECTORY_NAMES' values; None where nothing is known."""
        passed, failed, result_bytes = self._tests_passed, self._tests_failed, self._last_result_bytes
        return (
            float(self._answers_tool),
            *map(float, self._calls.values()),
            float(self._errors),
            None if result_bytes is None else float(self._error_run > 0),
            float(self._error_run),
            float(self._edit_failures),
            float(len(self._edited)),
            float(self._test_runs),
            None if passed is None else float(passed),
            None if failed is None else float(failed),
            float(self._repeats),
            float(self.n_assistant_messages - self._progress_at),
            float(self._corrections),
            None if result_bytes is None else float(result_bytes),
        )


class SessionTrajectories:
    """Session -> its trajectory, so that a served request costs only its new messages; a bounded LRU.

    Purely a saving of time: what `follow` returns equals a trajectory built from all the messages. Bounded by
    sessions and by the messages in them, since a trajectory grows with its session.
    """

    def __init__(self, max_sessions: int = 2_000, max_messages: int = 1_000_000) -> None:
        self.max_sessions = max_sessions
        self.max_messages = max_messages
        self.n_messages = 0
        self._sessions: OrderedDict[str, tuple[int, int, Trajectory]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def follow(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        hashes: Sequence[int],
        aside: Sequence[int] | None = None,
    ) -> Trajectory:
        """The trajectory of these messages, whose prefix chain is `hashes`; valid until the next call.

        `aside` is `beside(messages)` where that is known.
        """
        aside = beside(messages) if aside is None else aside
        found = self._sessions.pop(session_id or "", None)
        last, last_aside, trajectory = (0, 0, Trajectory()) if found is None else found
        known = trajectory.n_messages
        self.n_messages -= known
        same = 0 < known <= len(hashes) and (hashes[known - 1], aside[known - 1]) == (last, last_aside)
        if not same:
            known, trajectory = 0, Trajectory()  # another thread of the session, or an edited history
        for message in messages[known:]:
            trajectory.add(message)
        if session_id and hashes:
            self._sessions[session_id] = (hashes[-1], aside[-1], trajectory)
            self.n_messages += trajectory.n_messages
            if self.n_messages > self.max_messages or len(self._sessions) > self.max_sessions:
                self._let_go()
        return trajectory

    def _let_go(self) -> None:
        """Forget the least recently used, but for the one in use."""
        while len(self._sessions) > 1 and (
            len(self._sessions) > self.max_sessions or self.n_messages > self.max_messages
        ):
            _, (_, _, dropped) = self._sessions.popitem(last=False)
            self.n_messages -= dropped.n_messages


_UNTOLD = Action("shell", runs=True, in_shell=True)  # a result without a command that we could read
_UNKNOWN_CALL = Action("other", runs=True)  # its call was cut off, as after a compaction


def beside(messages: Iterable[Message], before: Sequence[int] = ()) -> array[int]:
    """Hashes of what trajectories go by and a prefix chain leaves out: joined calls, flags, signatures.

    One after each message, of all up to it; `before` are those of the messages before these.
    """
    last, found = before[-1] if before else 0, array("q")
    for message in messages:
        for part in message.parts:
            last = hash((last, part.call_id, part.is_error, part.signed))
        found.append(last)
    return found


def _failed(result: testruns.Result, action: Action, flagged: bool | None) -> bool:
    """Whether a result means failure: the harness's flag first, then the exit code, then how it reads."""
    if action.kind == "search" and result.exit_code == 1:  # grep found nothing
        return False
    if flagged is not None:
        return flagged
    if action.kind == "edit" and testruns.edit_failed(result.text):
        return True
    if result.exit_code is not None:
        return result.exit_code != 0
    return testruns.looks_failed(result.text, shell=action.runs)
