"""Edits to what stands there afterwards, on a known base."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from features.diffs.edits import FileEdit, Hunks, Insert, Locate, Op, Replace, Whole

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE_BYTES = 32 << 20


class CannotApply(Exception):
    """An operation that doesn't fit the file; the message is the reason of an *unknown*."""


class Window(NamedTuple):
    """A stretch of one file as it was and as each edit leaves it; `start` is its first line, 0 = unknown."""

    start: int
    before: bytes
    a: bytes
    b: bytes


def after(file: FileEdit, base: Mapping[str, bytes]) -> bytes | None:
    """Content of a file after its operations, None when it is gone. Raises CannotApply with the reason."""
    if file.problem:
        raise CannotApply(file.problem)
    content: bytes | None = base.get(file.old_path or file.path)
    for op in file.ops:
        content = _apply(op, content)
        if content is not None and len(content) > MAX_FILE_BYTES:
            raise CannotApply(f"the file grows over {MAX_FILE_BYTES >> 20} MB")
    return content


def _apply(op: Op, content: bytes | None) -> bytes | None:
    """One operation on one content."""
    if isinstance(op, Whole):
        return op.content
    if content is None:
        if isinstance(op, Replace) and op.old == b"":
            return op.new  # Claude Code and others create a file by replacing nothing
        raise CannotApply("the file isn't in the base")
    if isinstance(op, Replace):
        return _replace(op, content)
    if isinstance(op, Insert):
        lines = content.splitlines(keepends=True)
        if not 0 <= op.after <= len(lines):
            raise CannotApply("a line number outside the file")
        text = op.text if op.text.endswith(b"\n") or op.after == len(lines) else op.text + b"\n"
        return b"".join(lines[: op.after]) + text + b"".join(lines[op.after :])
    if isinstance(op, Locate):
        return _locate(op, content)
    return _patch(op, content)


def _replace(op: Replace, content: bytes) -> bytes:
    """A replaced text; CRLF files are edited through LF strings by every client, so we do the same."""
    old, new = op.old, op.new
    if old not in content and b"\r\n" in content and b"\r\n" not in old:
        old, new = old.replace(b"\n", b"\r\n"), new.replace(b"\n", b"\r\n")
    if not old:
        if content.strip():
            raise CannotApply("old_string is empty but the file isn't")
        return new
    count = content.count(old)
    if count == 0:
        raise CannotApply("old_string isn't found")
    if count > 1 and not op.every:
        raise CannotApply(f"old_string isn't unique ({count} places)")
    return content.replace(old, new)


def _locate(op: Locate, content: bytes) -> bytes:
    """Lines found by their text after their anchors, the way Codex's apply_patch looks for them."""
    lines = _lines(content)
    at = 0
    for anchor in op.anchors:
        at = _find(lines, (anchor,), at) + 1
    if not op.old:
        at = at if op.anchors else len(lines)
    elif op.at_end and _equal(lines[len(lines) - len(op.old) :], op.old):
        at = len(lines) - len(op.old)
    else:
        at = _find(lines, op.old, at)
    return b"".join(lines[:at]) + b"".join(op.new) + b"".join(lines[at + len(op.old) :])


def _find(lines: list[bytes], wanted: tuple[bytes, ...], start: int) -> int:
    """First place of the wanted lines from `start` on: exactly, else without blanks around the lines."""
    for clean in (_end, bytes.rstrip, bytes.strip):
        have, want = [clean(line) for line in lines], [clean(line) for line in wanted]
        for at in range(start, len(have) - len(want) + 1):
            if have[at] == want[0] and have[at : at + len(want)] == want:
                return at
    raise CannotApply("the lines to change aren't found")


def _end(line: bytes) -> bytes:
    """A line without its terminator; a line of blanks is an empty one."""
    return line.rstrip(b"\r\n") if line.strip() else b""


def _equal(have: list[bytes], want: tuple[bytes, ...] | list[bytes]) -> bool:
    """Equal lines, whatever their terminators."""
    return len(have) == len(want) and all(_end(x) == _end(y) for x, y in zip(have, want, strict=True))


def _lines(content: bytes) -> list[bytes]:
    """Lines with terminators, split at LF only as diff does."""
    lines = content.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _patch(op: Hunks, content: bytes) -> bytes:
    """Hunks applied in order: at their line, else at the only place where their old lines stand."""
    lines = _lines(content)
    crlf = sum(line.endswith(b"\r\n") for line in lines[:50]) * 2 > min(len(lines), 50)
    out: list[bytes] = []
    done = offset = 0
    for hunk in sorted(op.hunks, key=lambda h: h.start):
        old = hunk.old
        at = _place(lines, old, hunk.start - 1 + offset, done)
        offset = at - (hunk.start - 1)
        out += lines[done:at]
        position = at
        for kind, line in hunk.lines:
            if kind != PLUS:
                if kind == SPACE:
                    out.append(lines[position])
                position += 1
            else:
                out.append(line[:-1] + b"\r\n" if crlf and _bare(line) else line)
        done = at + len(old)
    return b"".join(out + lines[done:])


def _bare(line: bytes) -> bool:
    """A line that ends in LF alone."""
    return line.endswith(b"\n") and not line.endswith(b"\r\n")


SPACE, PLUS = b" +"


def _place(lines: list[bytes], old: list[bytes], expected: int, floor: int) -> int:
    """Index where a hunk's old lines stand, not before `floor`."""
    if not old:
        if floor <= expected <= len(lines):
            return expected
        raise CannotApply("a hunk outside the file")
    if expected >= floor and _equal(lines[expected : expected + len(old)], old):
        return expected
    first = _end(old[0])
    found = [
        at
        for at in range(floor, len(lines) - len(old) + 1)
        if _end(lines[at]) == first and _equal(lines[at : at + len(old)], old)
    ][:2]
    if len(found) != 1:
        raise CannotApply("a hunk doesn't apply" if not found else "a hunk applies in several places")
    return found[0]
