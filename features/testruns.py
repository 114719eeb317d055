"""Test outcomes and failures read out of tool results: the summary lines of test runners as a table.

Only bounded parts of a result are looked at: runners print their summary at the end, errors open or close.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

TAIL_CHARS = 6_000  # of a test command's output: some runners list the failures after the summary
GLANCE_CHARS = 800  # of any other command's output, in case it was a script that runs tests
HEAD_CHARS = 600


class RunOutcome(NamedTuple):
    """What a test run said: how many failed (errors included) and passed; None where it didn't say."""

    failed: int | None
    passed: int | None

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return self.failed == 0


class _Runner(NamedTuple):
    """How one family of runners sums up: groups named f… count failures, p… passes, t… the total."""

    needle: str  # a cheap test before the pattern
    pattern: re.Pattern[str]
    sums: bool = False  # prints one line per package or binary: add them up


def _row(needle: str, pattern: str, *, sums: bool = False) -> _Runner:
    return _Runner(needle, re.compile(pattern, re.MULTILINE), sums)


_COUNTS = r"\d{1,7} [a-z]+(?:(?:, | \| )\d{1,7} [a-z]+)*"  # such as "1 failed, 2 passed"
_COUNT = re.compile(r"(\d+) (failed|error|passed)")  # also of "errors"
_RUNNERS: tuple[_Runner, ...] = (
    # pytest, with and without its rulers: 1 failed, 2 passed, 1 warning, 1 error in 0.12s
    _row(" in ", rf"^(?:=+ )?(?P<counts>{_COUNTS}) in \d[\d.]*s"),
    # cargo test, one line per binary
    _row("test result: ", r"^test result: \w+\. (?P<p>\d+) passed; (?P<f>\d+) failed", sums=True),
    # cargo nextest: Summary [ 0.1s] 5 tests run: 4 passed, 1 failed
    _row("tests run: ", r"tests run: (?P<p>\d+) passed(?:[^\n]*?(?P<f>\d+) failed)?"),
    # jest: Tests:       1 failed, 1 skipped, 2 passed, 4 total
    _row("Tests:  ", rf"^Tests: +(?P<counts>{_COUNTS}), \d+ total"),
    # vitest:  Tests  1 failed | 2 passed (3)
    _row("Tests  ", rf"^ *Tests  +(?P<counts>{_COUNTS}) \(\d+\)"),
    # phpunit: Tests: 5, Assertions: 7, Errors: 1, Failures: 1.
    _row(
        "Assertions: ",
        r"^Tests: (?P<t>\d+), Assertions: \d+(?:, Errors: (?P<f1>\d+))?(?:, Failures: (?P<f2>\d+))?",
    ),
    _row(" assertions)", r"^OK \((?P<p>\d+) tests?, \d+ assertions?\)"),
    # maven surefire; the last line is the total of the module
    _row("Tests run: ", r"Tests run: (?P<t>\d+), +Failures: (?P<f1>\d+), +Errors: (?P<f2>\d+)"),
    # dotnet test
    _row("Skipped: ", r"(?:Passed|Failed)! +- Failed: +(?P<f>\d+), Passed: +(?P<p>\d+)", sums=True),
    # gradle
    _row(" tests completed", r"^(?P<t>\d+) tests completed(?:, (?P<f>\d+) failed)?"),
    # rspec
    _row(" example", r"^(?P<t>\d+) examples?, (?P<f>\d+) failures?"),
    # minitest
    _row(
        " assertions, ",
        r"^(?P<t>\d+) (?:runs|tests), \d+ assertions, (?P<f1>\d+) failures, (?P<f2>\d+) errors",
    ),
    # ExUnit: 5 tests, 1 failure
    _row(" failure", r"^(?:\d+ doctests?, )?(?P<t>\d+) tests?, (?P<f>\d+) failures?"),
    # XCTest
    _row("Executed ", r"Executed (?P<t>\d+) tests?, with (?P<f>\d+) failures?"),
    # ctest
    _row("% tests passed", r"\d+% tests passed, (?P<f>\d+) tests? failed out of (?P<t>\d+)"),
    # TAP, node --test
    _row("# pass ", r"^# pass (?P<p>\d+)\n# fail (?P<f>\d+)"),
    _row("\u2139 pass ", r"^\u2139 pass (?P<p>\d+)\n\u2139 fail (?P<f>\d+)"),
    # mocha and Cypress: 3 passing (10ms), then 1 failing
    _row(" passing", r"^ +(?P<p>\d+) passing\b[^\n]*(?:\n\s*\d+ pending)?(?:\n\s*(?P<f>\d+) failing)?"),
    # bun:  5 pass, then 1 fail
    _row(" pass\n", r"^ *(?P<p>\d+) pass\n(?:.*\n)?? *(?P<f>\d+) fail$"),
    # unittest
    _row(
        "Ran ",
        r"^Ran (?P<t>\d+) tests? in [^\n]*\n+"
        r"(?:OK|FAILED \((?:failures=(?P<f1>\d+))?(?:, )?(?:errors=(?P<f2>\d+))?)",
    ),
)
_GO_PACKAGE = re.compile(r"^(?:(ok) +\t?\S+|(FAIL)\t\S+|(--- FAIL): |(PASS)$)", re.MULTILINE)

_EXIT = re.compile(
    r"(?:exit(?:ed)?(?: with)?(?: code| status)|returncode|exit_code)[\"'>:= ]{0,4}(-?\d{1,6})", re.IGNORECASE
)

# Openings of a result that mean the tool failed, whatever the harness says.
_ERROR_OPENINGS = (
    "Error:",
    "error:",
    "ERROR:",
    "<tool_use_error>",
    "Error ",
    "fatal:",
    "Traceback (most recent",
    "failed to parse",
    "execution error",
)
# In the output of a command that doesn't tell its exit code, these mean that it failed.
_SHELL_ERRORS = (
    "Traceback (most recent call last)",
    "command not found",
    "No such file or directory",
    "Permission denied",
    "ModuleNotFoundError",
    "SyntaxError:",
    "not recognized as an internal or external command",
)
_NOT_RUN = ("command not found", "No module named pytest", "not recognized as an internal")
_EDIT_FAILURES = (
    "String to replace not found",
    "old_string not found",
    "oldString not found",
    "old_str not found",
    "No replacement was performed",
    "did not appear verbatim",
    "matches of the string to replace",
    "multiple matches",
    "File has not been read yet",
    "has been modified since",
    "patch does not apply",
    "patch failed",
    "apply_patch verification failed",
    "Invalid context",
    "Failed to find expected lines",
    "Failed to find context",
    "invalid patch",
    "Invalid patch",
    "Hunk #",
    "failed to match",
    "failed to apply",
    "No changes to make",
    "are identical",
)
_EDIT_HINTS = ("not ", "fail", "match", "nvalid", "Hunk", "No ", "identical", "modified")
REJECTIONS = (
    "The user doesn't want to proceed with this tool use",
    "The user rejected",
    "rejected by user",
    "User rejected",
    "user rejected permission",
    "The user has specified a rule which prevents",
)


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TRIES = 4


class _CodexOutput(msgspec.Struct):
    """Codex's older form of a shell result, JSON in a string."""

    class Metadata(msgspec.Struct):
        """Beside the output."""

        exit_code: int | None = None

    output: str
    metadata: Metadata | None = None


_codex = msgspec.json.Decoder(_CodexOutput)


class Result(Value, frozen=True):
    """A tool result, reduced: its own text and, where it says so, the exit code."""

    text: str
    exit_code: int | None


def open_result(text: str, *, shell: bool) -> Result:
    """Unwrap a tool result; a shell's exit code is looked for near its head and its end."""
    if text.startswith('{"output"'):
        try:
            inner = _codex.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
        else:
            return Result(inner.output, inner.metadata.exit_code if inner.metadata else None)
    if not shell:  # what a file says about exit codes is not the tool's
        return Result(text, None)
    head, tail = text[:300], text[-200:] if len(text) > 300 else ""
    for end in (head, tail):
        if ("xit" in end or "returncode" in end) and (match := _EXIT.search(end)):
            return Result(text, int(match[1]))
    return Result(text, None)


def read_tests(text: str, chars: int = TAIL_CHARS) -> RunOutcome | None:
    """The outcome of the test run that this output ends with; None if it isn't one. O(chars)."""
    tests, partial = _search(text[-GLANCE_CHARS:])
    if chars > GLANCE_CHARS and len(text) > GLANCE_CHARS and (tests is None or partial):
        tests, _ = _search(text[-chars:])
    return tests


def _search(tail: str) -> tuple[RunOutcome | None, bool]:
    """(outcome, whether more text could add to it) of the end of an output."""
    if "\x1b[" in tail:
        tail = _COLOUR.sub("", tail)
    if "\r\n" in tail:
        tail = tail.replace("\r\n", "\n")
    for runner in _RUNNERS:
        if runner.needle in tail and (tests := _read(runner, tail)):
            return tests, runner.sums
    return _read_go(tail), True


def _read(runner: _Runner, tail: str) -> RunOutcome | None:
    if runner.sums:
        lines = [m.groupdict() for m in runner.pattern.finditer(tail)]
    else:
        lines = _last_summary(runner, tail)
    numbers = _numbers(lines)
    if not numbers:
        return None
    failed = passed = 0
    totals: list[int] = []
    told_passed = False
    for name, value in numbers:
        if name.startswith("f"):
            failed += value
        elif name == "p":
            passed, told_passed = passed + value, True
        else:
            totals.append(value)
    if not told_passed and totals:
        return RunOutcome(failed, max(0, sum(totals) - failed))
    return RunOutcome(failed, passed if told_passed else None)


def _numbers(lines: list[dict[str, str | None]]) -> list[tuple[str, int]]:
    """The named counts of some summary lines; a `counts` group is a list of them in words."""
    numbers: list[tuple[str, int]] = []
    for groups in lines:
        for name, value in groups.items():
            if value and name == "counts":
                words = {"passed": "p", "failed": "f", "error": "f"}
                numbers.extend((words[word], int(n)) for n, word in _COUNT.findall(value))
            elif value:
                numbers.append((name, int(value)))
    return numbers


def _last_summary(runner: _Runner, tail: str) -> list[dict[str, str | None]]:
    """The last line that both holds the needle and fits the pattern; a few lines are tried, from the end."""
    at = len(tail)
    for _ in range(_TRIES):
        at = tail.rfind(runner.needle, 0, at)
        if at < 0:
            break
        start = tail.rfind("\n", 0, at) + 1
        if (match := runner.pattern.search(tail, start)) and any(match.groups()):
            return [match.groupdict()]
    return []


def _read_go(tail: str) -> RunOutcome | None:
    """`go test` prints a line per failing test and per package."""
    if "ok  \t" not in tail and "FAIL" not in tail and "PASS" not in tail:
        return None
    marks = [m.lastindex for m in _GO_PACKAGE.finditer(tail)]
    tests, packages = marks.count(3), marks.count(2)
    if tests or packages:
        return RunOutcome(tests or packages, None)
    return RunOutcome(0, None) if marks else None


def did_not_run(text: str) -> bool:
    """Whether the runner itself was missing, so that nothing was tested."""
    return _holds(text[:HEAD_CHARS], _NOT_RUN)


def looks_failed(text: str, *, shell: bool) -> bool:
    """Whether a result that carries no flag and no exit code reads like a failure."""
    if text.startswith(_ERROR_OPENINGS):
        return True
    if not shell:
        return False
    ends = text if len(text) <= 2 * HEAD_CHARS else text[:HEAD_CHARS] + text[-HEAD_CHARS:]
    return _holds(ends, _SHELL_ERRORS)


def edit_failed(text: str) -> bool:
    """Whether the result of an edit says that the edit was not made."""
    head = text[:HEAD_CHARS]
    return _holds(head, _EDIT_HINTS) and _holds(head, _EDIT_FAILURES)  # nearly every edit succeeds


def _holds(text: str, needles: Iterable[str]) -> bool:
    for needle in needles:  # noqa: SIM110 — a generator takes twice as long
        if needle in text:
            return True
    return False
