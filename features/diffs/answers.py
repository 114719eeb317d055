"""Digests of what one answer edits, cheap and safe enough for every served answer.

No grammar is asked, because its parsers are native code and an answer may be hostile; so the levels are L0
and L1. Digests and marks stand in one list, as "name:digest", and hold no text:

- "L0", "L1", "~L0", "~L1": as `features.diffs.fingerprint` makes them, "~" where the base isn't known;
- "call": of the edit calls word for word; equal under one prompt, the edits are equal wherever they land;
- "undo": what "~L0" of the edit that takes this one back would be;
- "revert:git": a shell call takes back what the work tree held.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import xxhash

from features.diffs.calls import edit_of_calls, edit_of_text
from features.diffs.edits import Edit, FileEdit, Op, Replace, Whole
from features.diffs.fingerprint import (
    beside,
    changed_lines,
    counted_files,
    digest_of,
    place_mark,
    place_of,
    writes_whole,
)
from features.diffs.normal import plain_lines
from features.diffs.postimage import CannotApply
from features.diffs.windows import windows
from features.tools import tool_kind
from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.diffs.postimage import Window
    from features.wire.types import Part

MAX_BYTES = 256 << 10  # of calls in one answer; a larger one gets no digests
MAX_OPS = 64  # replacements in one answer; finding their places is quadratic
GIT_REVERT = "revert:git"

_REVERT = re.compile(
    r"\bgit[ \t]+(?:-[cC][ \t]+\S{1,200}[ \t]+)?"
    r"(?:revert\b|restore\b|reset[ \t]+--hard\b|checkout[ \t]+(?:HEAD\S{0,20}[ \t]+)?(?:--[ \t]|\.(?:\s|$))"
    r"|stash(?:[ \t]+push)?[ \t]*(?:$|[;&|\n]))"
)
_COMMAND_CHARS = 4_000
_SURROGATE = re.compile("[\ud800-\udfff]")


class OpenEdit(Value, frozen=True):
    """An edit, its files that count, and the stretches of them that it changes."""

    edit: Edit
    counted: list[FileEdit]
    stretches: list[list[Window]] | None  # of each; [] for one written as a whole. None: they need the base


def open_edit(edit: Edit) -> OpenEdit:
    """Look once at what digests and facts of an edit are both made of."""
    counted = counted_files(edit)
    try:
        return OpenEdit(edit, counted, [[] if writes_whole(one) else windows(one, None) for one in counted])
    except CannotApply:
        return OpenEdit(edit, counted, None)


def edit_of_answer(parts: Sequence[Part]) -> Edit | None:
    """The edit an answer's parts make; None when it edits nothing or can't be read cheaply."""
    editing = _editing(parts)
    return _edit(parts, editing) if _readable(editing) else None


def open_and_digests(parts: Sequence[Part]) -> tuple[OpenEdit | None, list[str]]:
    """The same edit opened, and digests of it; None where there is no such edit, [] where nothing is told."""
    editing = _editing(parts)
    if not (editing or _searching(parts)) or not _readable(editing):
        return None, []
    edit = _edit(parts, editing)
    opened = None if edit is None else open_edit(edit)
    digests = [] if opened is None else _digests(opened)
    if any(map(_reverts, editing)):
        digests.append(GIT_REVERT)
    return opened, digests


def _edit(parts: Sequence[Part], editing: Sequence[Part]) -> Edit | None:
    """The edit that these calls make, or else the text of all parts."""
    if editing:
        edit = edit_of_calls((call.name or "", call.text) for call in editing)
    else:
        said = "\n".join(_searching(parts))
        fits = 0 < len(said) <= MAX_BYTES and said.count("SEARCH") <= MAX_OPS
        edit = edit_of_text(said) if fits else Edit()
    ops = sum(len(file.ops) for file in edit.files)
    if edit.problem or not 0 < ops <= MAX_OPS or any(file.problem for file in edit.files):
        return None
    return edit


def _editing(parts: Sequence[Part]) -> list[Part]:
    """The calls that may edit."""
    calls = [part for part in parts if part.kind == "tool_call" and part.name]
    return [call for call in calls if tool_kind(call.name or "") in ("edit", "shell")]


def _searching(parts: Sequence[Part]) -> list[str]:
    """The texts that hold an edit in blocks."""
    return [part.text for part in parts if part.kind == "text" and "<<<<<<< SEARCH" in part.text]


def _readable(editing: Sequence[Part]) -> bool:
    """Whether the calls are small enough, and text; bytes that were none are no JSON either."""
    if sum([len(call.text) for call in editing]) > MAX_BYTES:
        return False
    text = "\n".join([call.text for call in editing])
    return not _crowded(text) and (text.isascii() or _SURROGATE.search(text) is None)


def _crowded(text: str) -> bool:
    """Whether patches hold so many pieces that reading them would take long."""
    return max(text.count("@@"), text.count("SEARCH"), text.count("*** ")) > 4 * MAX_OPS


def _reverts(call: Part) -> bool:
    """Whether a shell call takes changes back with git."""
    if tool_kind(call.name or "") != "shell" or "git" not in call.text:
        return False
    return _REVERT.search(call.text[:_COMMAND_CHARS].replace('"', "\n").replace("\\n", "\n")) is not None


def _digests(opened: OpenEdit) -> list[str]:
    counted, stretches = opened.counted, opened.stretches
    call = "call:" + digest_of(f"{file.path}\0{_words(file)}" for file in counted)
    whole = sum([writes_whole(file) for file in counted])
    if whole == len(counted):
        return [*_joined(("L0", "L1"), [_whole_forms(file) for file in counted]), call]
    if whole or stretches is None:
        return [call]
    changed = list(zip(counted, stretches, strict=True))
    weak = [_weak_forms(file, found) for file, found in changed]
    return [*_joined(("~L0", "~L1", "undo"), weak), *place_mark(changed), call]


def _joined(names: Sequence[str], forms: Sequence[Sequence[str]]) -> list[str]:
    """The files' forms (files, names) as one digest for each name."""
    return [f"{name}:{digest_of(form[n] for form in forms)}" for n, name in enumerate(names)]


def _whole_forms(file: FileEdit) -> tuple[str, str]:
    """L0 and L1 of a file written as a whole."""
    last = file.ops[-1]
    assert isinstance(last, Whole)
    if last.content is None:
        return (f"{file.path}\0gone",) * 2
    exact = xxhash.xxh3_128_hexdigest(last.content)
    plain = xxhash.xxh3_128_hexdigest(b"\0".join(plain_lines(last.content)))
    head = f"{file.path}\0{file.mode or ''}\0"
    return head + exact, head + plain


def _weak_forms(file: FileEdit, found: Sequence[Window]) -> tuple[str, str, str]:
    """L0, L1 and the way back of a file's changed lines."""
    place, head = place_of(file), f"{file.path}\0"
    exact, plain, back = xxhash.xxh3_128(place), xxhash.xxh3_128(place), xxhash.xxh3_128(place)
    for window in found:
        went, came = changed_lines(window.b, window.a)
        near = beside(window, went, came)
        old, new = b"%d\0%b" % (len(went), went), b"%d\0%b" % (len(came), came)
        exact.update(near + old + new)
        back.update(near + new + old)
        plain.update(near)
        for text in (went, came):
            plain.update(b"\0".join((*plain_lines(text), b"\1")))
    return head + exact.hexdigest(), head + plain.hexdigest(), head + back.hexdigest()


def _words(file: FileEdit) -> str:
    """Digest of a file's operations word for word."""
    state = xxhash.xxh3_128(f"{file.old_path or ''}\0{file.mode or ''}".encode("utf-8", "backslashreplace"))
    for op in file.ops:
        for text in _texts(op):
            state.update(b"%d\0" % len(text))
            state.update(text)
    return state.hexdigest()


def _texts(op: Op) -> list[bytes]:
    """What an operation is made of, its kind and numbers first."""
    if isinstance(op, Replace):
        return [b"replace%d" % op.every, op.old, op.new]
    return [type(op).__name__.encode(), repr(tuple(op)).encode("utf-8", "backslashreplace")]
