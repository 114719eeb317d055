"""Unified diffs, plain or from git, to edits. What can't be read whole is a problem with a reason."""

from __future__ import annotations

import re
from typing import NamedTuple

from features.diffs.edits import (
    MAX_HUNKS,
    MAX_PATCH_BYTES,
    MINUS,
    PLUS,
    SPACE,
    STRIPPED,
    Edit,
    FileEdit,
    Hunk,
    Hunks,
    Whole,
    as_bytes,
    clean_path,
    join,
)

_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_START = re.compile(rb"^(?:diff --git |--- .*\n\+\+\+ |diff --cc |diff --combined )", re.MULTILINE)
_QUOTED = re.compile(rb'\\([abtnvfr"\\]|[0-7]{1,3})')
_ESCAPES = dict(zip(b"abtnvfr", b"\a\b\t\n\v\f\r", strict=True))
_BODY = b" +-\\"
CONTEXT = 3  # lines of context after a change, as every diff tool writes them


class _Cursor:
    """Lines of a patch and where we are in them."""

    def __init__(self, data: bytes) -> None:
        self.lines = data.split(b"\n")
        self.at = 0
        self.hunks = 0
        if self.lines and self.lines[-1] == b"":
            self.lines.pop()

    def peek(self, ahead: int = 0) -> bytes | None:
        """The line `ahead` of here, or None past the end."""
        at = self.at + ahead
        return self.lines[at] if at < len(self.lines) else None


class _Header(NamedTuple):
    """What the lines before the first hunk of a file say."""

    old: bytes | None
    new: bytes | None
    notes: frozenset[str]
    mode: str | None


def parse_patch(text: str | bytes) -> Edit:
    """The edit of a unified diff; an empty text is the empty edit. Never raises on bad data."""
    data = as_bytes(text)
    if len(data) > MAX_PATCH_BYTES:
        return Edit(problem=f"a patch of {len(data) >> 20} MB; the limit is {MAX_PATCH_BYTES >> 20} MB")
    if not data.strip():
        return Edit()
    start = _START.search(data)
    if start is None:
        return Edit(problem="no diff found in the text")
    cursor, parts = _Cursor(data[start.start() :]), []
    while cursor.peek() is not None:
        if _starts_file(cursor):
            parts.append(_file(cursor))
            if cursor.hunks > MAX_HUNKS:
                return Edit(problem=f"more than {MAX_HUNKS} hunks")
        else:
            cursor.at += 1
    return join(parts)


def _starts_file(cursor: _Cursor) -> bool:
    """Whether a file's change begins on this line."""
    line, following = cursor.peek() or b"", cursor.peek(1) or b""
    return line.startswith(b"diff --") or (line.startswith(b"--- ") and following.startswith(b"+++ "))


def _file(cursor: _Cursor) -> FileEdit:
    """One file's change: header, then hunks."""
    combined = (cursor.peek() or b"").startswith((b"diff --cc", b"diff --combined"))
    header = _header(cursor)
    named = cursor.lines[cursor.at - 1].startswith(b"+++ ")
    hunks, problem, short = _hunks(cursor)
    if named and not hunks:
        problem = problem or "a file header without hunks"
    path, bad_path = clean_path(_text(header.new or header.old or b""))
    old_path = clean_path(_text(header.old))[0] if header.old and header.new else path
    notes, problem = header.notes | ({STRIPPED} if short else set()), bad_path or problem
    if combined:
        problem = "a combined merge diff"
    elif "binary" in notes:
        problem = problem or "a binary change"
    elif "submodule" in notes:
        problem = problem or "a submodule change"
    return FileEdit(
        path=path,
        old_path=old_path if old_path != path else None,
        ops=_ops(hunks, notes),
        notes=notes,
        mode=header.mode,
        problem=problem,
    )


def _ops(hunks: tuple[Hunk, ...], notes: frozenset[str]) -> tuple[Hunks | Whole, ...]:
    """A created file is known whole, a deleted one is gone, all else is hunks."""
    if "created" in notes:
        return (Whole(b"".join(line for hunk in hunks for line in hunk.new)),)
    if "deleted" in notes:
        return (Whole(None),)
    return (Hunks(hunks),) if hunks else ()


_EXTENDED: tuple[tuple[bytes, str], ...] = (
    (b"new file mode ", "created"),
    (b"deleted file mode ", "deleted"),
    (b"rename ", "renamed"),
    (b"copy ", "copied"),
    (b"old mode ", "mode"),
    (b"new mode ", "mode"),
    (b"Binary files ", "binary"),
    (b"GIT binary patch", "binary"),
    (b"Subproject commit ", "submodule"),
)
_MODES = (b"new file mode ", b"new mode ")


def _header(cursor: _Cursor) -> _Header:
    """Everything up to the first hunk: paths from ---/+++, else from rename lines, else from `diff --git`."""
    old = new = None
    notes: set[str] = set()
    mode: str | None = None
    first = cursor.peek() or b""
    if first.startswith(b"diff --"):
        old, new = _git_paths(first)
        cursor.at += 1
    while (line := cursor.peek()) is not None and not line.startswith((b"@@ ", b"diff --")):
        following = cursor.peek(1) or b""
        if line.startswith(b"--- ") and following.startswith(b"+++ "):
            old, new = _name(line[4:]), _name(following[4:])
            notes |= {"created"} if old is None else {"deleted"} if new is None else set()
            cursor.at += 2
            break
        notes.update(note for prefix, note in _EXTENDED if line.startswith(prefix))
        if line.endswith(b" 160000") and line.startswith((b"new file mode", b"deleted file mode", b"index ")):
            notes.add("submodule")
        if line.startswith(_MODES):
            mode = _text(line.rsplit(b" ", 1)[1])
        if line.startswith((b"rename from ", b"copy from ")):
            old = _unquote(line.split(b" from ", 1)[1])
        if line.startswith((b"rename to ", b"copy to ")):
            new = _unquote(line.split(b" to ", 1)[1])
        cursor.at += 1
    return _Header(old, new, frozenset(notes), mode)


def _hunks(cursor: _Cursor) -> tuple[tuple[Hunk, ...], str | None, bool]:
    """The hunks of one file, what is wrong with them, if anything is, and whether the last was filled up."""
    hunks: list[Hunk] = []
    short = False
    while (line := cursor.peek()) is not None and not _starts_file(cursor):
        match = _HUNK.match(line)
        if match is None:
            if line.startswith(b"@@"):
                cursor.at += 1
                return tuple(hunks), "a hunk header that can't be read", short
            if line[:1] in (b"+", b"-") and hunks:
                return tuple(hunks), "a hunk longer than its header says", short
            cursor.at += 1
            continue
        cursor.at += 1
        cursor.hunks += 1
        if cursor.hunks > MAX_HUNKS:
            cursor.at = len(cursor.lines)
            return tuple(hunks), f"more than {MAX_HUNKS} hunks", short
        started = cursor.at
        lines = _body(cursor, int(match[2] or 1), int(match[4] or 1))
        if lines is None:
            return tuple(hunks), "a truncated hunk", short
        short = cursor.peek() is None and len(lines) > _written(cursor, started) and not _whole(lines)
        hunks.append(Hunk(int(match[1]) + (match[2] == b"0"), lines))
    return tuple(hunks), None, short


def _body(cursor: _Cursor, old: int, new: int) -> tuple[tuple[int, bytes], ...] | None:
    """The lines of one hunk by the counts of its header; None when it ends too early."""
    lines: list[tuple[int, bytes]] = []
    while old > 0 or new > 0 or (cursor.peek() or b"").startswith(b"\\"):
        line = cursor.peek()
        if line is None:
            return tuple(lines) + ((SPACE, b"\n"),) * old if _stripped(lines, old, new) else None
        op = line[0] if line.strip(b"\r") else SPACE  # editors strip the blank of an empty context line
        if op not in _BODY:
            return None
        cursor.at += 1
        if op == _BODY[3]:  # "\ No newline at end of file"
            if lines:
                lines[-1] = (lines[-1][0], lines[-1][1].removesuffix(b"\n"))
            continue
        lines.append((op, line[1:] + b"\n" if line[:1] == bytes([op]) else line + b"\n"))
        old -= op in (SPACE, MINUS)
        new -= op in (SPACE, PLUS)
        if old < 0 or new < 0:
            return None
    return tuple(lines)


def _written(cursor: _Cursor, started: int) -> int:
    """How many lines of the old and new file stand between a hunk's first line and here."""
    return sum(not line.startswith(b"\\") for line in cursor.lines[started : cursor.at])


def _whole(lines: tuple[tuple[int, bytes], ...]) -> bool:
    """Whether a hunk that was filled up has as much context after its changes as diffs are written with.

    A hunk cut off among its changes would have to miss just that many lines of both files to look the same.
    """
    changed = [at for at, (op, _) in enumerate(lines) if op != SPACE]
    return len(lines) - 1 - changed[-1] == max(changed[0], CONTEXT)


def _stripped(lines: list[tuple[int, bytes]], old: int, new: int) -> bool:
    """Whether the end may be missing only because somebody stripped its last, blank context lines.

    They are then put back, and the file marked unless the hunk is whole with them: only with a base in which
    they are blank is the edit known.
    """
    changed = [at for at, (op, _) in enumerate(lines) if op != SPACE]
    return bool(changed) and 0 < old == new <= max(changed[0], CONTEXT) - (len(lines) - 1 - changed[-1])


def _name(raw: bytes) -> bytes | None:
    """A path of a ---/+++ line without its prefix and time stamp; None for /dev/null."""
    name = _unquote(raw.split(b"\t", 1)[0].rstrip(b"\r"))
    if name == b"/dev/null":
        return None
    return name[2:] if name[:2] in (b"a/", b"b/", b"i/", b"w/", b"c/", b"o/") else name


def _git_paths(line: bytes) -> tuple[bytes | None, bytes | None]:
    """Both paths of a `diff --git` line; the one split that gives equal names, else the first blank."""
    rest = line.split(b" ", 2)[2].rstrip(b"\r") if line.count(b" ") >= 2 else b""
    if rest.startswith(b'"'):
        names = re.findall(rb'"((?:\\.|[^"\\])*)"', rest)
        return (_name(b'"' + names[0] + b'"'), _name(b'"' + names[-1] + b'"')) if names else (None, None)
    middle = len(rest) // 2
    if rest[middle : middle + 1] == b" " and rest[2:middle] == rest[middle + 3 :]:
        return _name(rest[:middle]), _name(rest[middle + 1 :])
    old, _, new = rest.partition(b" b/")
    return _name(old), _name(b"b/" + new) if new else _name(old)


def _unquote(name: bytes) -> bytes:
    """A path as git quotes it, without quotes and escapes."""
    if not (len(name) > 1 and name.startswith(b'"') and name.endswith(b'"')):
        return name
    return _QUOTED.sub(_escape, name[1:-1])


def _escape(match: re.Match[bytes]) -> bytes:
    """One escape of a quoted path."""
    code = match[1]
    if code[:1].isdigit():
        return bytes([int(code, 8) & 255])
    return bytes([_ESCAPES.get(code[0], code[0])])


def _text(raw: bytes | None) -> str:
    """Bytes of a header as text; what isn't UTF-8 survives as surrogates-free escapes."""
    return (raw or b"").decode("utf-8", "backslashreplace")
