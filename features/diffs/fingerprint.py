"""Digests of an edit's normal forms: two edits can be called the same later without their text being kept.

With the base each digest is of the files as they are afterwards; two digests that are equal at a level mean
what the judge's verdict at that level means. Without the base they are of the changed lines alone, and weak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import xxhash

from features.diffs.edits import Edit, FileEdit, Whole, creates
from features.diffs.fragments import comments_of, piece_form
from features.diffs.grammars import Unparsable
from features.diffs.languages import Language, language_of
from features.diffs.normal import level_forms, plain_lines
from features.diffs.postimage import CannotApply, after
from features.diffs.roles import role_of
from features.diffs.verdicts import SAME_LEVELS, VerdictLevel
from features.diffs.windows import anchors, windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from features.diffs.postimage import Window

PLACE = "~at:"  # before the digest of the line numbers of weak digests that know them
WEAK = "~"  # before the level of a digest of changed lines alone


class Agreement(NamedTuple):
    """The best level at which two lists of digests agree, or None; `weak`: on changed lines alone."""

    level: VerdictLevel | None
    weak: bool = False


def fingerprint(edit: Edit, base: Mapping[str, bytes] | None = None) -> list[str]:
    """Digests as "level:digest" ("~" before the level: weak), best first; [] if the edit can't be read.

    Test, document, lock and scratch files are left out unless there is nothing else.
    """
    if edit.problem or any(file.problem for file in edit.files):
        return []
    counted = counted_files(edit, base)
    weak = base is None and not all(writes_whole(file) for file in counted)
    try:
        changed = [(file, windows(file, None)) for file in counted] if weak else []
        every = [_weak_forms(*one) for one in changed] if weak else [_forms(file, base) for file in counted]
    except CannotApply:
        return []
    forms = [entry for entry in every if entry is not None]
    mark = WEAK if weak else ""
    return [
        f"{mark}{level}:{digest_of(entry[number] for entry in forms)}"
        for number, level in enumerate(SAME_LEVELS)
    ] + (place_mark(changed) if weak else [])


def agreement(a: Iterable[str], b: Iterable[str]) -> Agreement:
    """How two fingerprints, or the digests of two answers, agree; calls equal word for word are L0.

    Equal digests say *same*; different ones say nothing.
    """
    a, b = set(a), set(b)
    common = {entry.split(":", 1)[0] for entry in a & b}
    if "call" in common:
        return Agreement("L0")
    at_a, at_b = ({entry for entry in side if entry.startswith(PLACE)} for side in (a, b))
    elsewhere = bool(at_a and at_b) and at_a != at_b
    for level in SAME_LEVELS:
        for mark in ("",) if elsewhere else ("", WEAK):
            if mark + level in common:
                return Agreement(level, weak=bool(mark))
    return Agreement(None)


def counted_files(edit: Edit, base: Mapping[str, bytes] | None = None) -> list[FileEdit]:
    """The files that count: code, unless the edit touches nothing else than tests, documents and the like."""
    code = [file for file in edit.files if role_of(file.path, created=creates(file, base)) == "code"]
    return code or list(edit.files)


def writes_whole(file: FileEdit) -> bool:
    """Whether the content after the edit is known without the base."""
    return bool(file.ops) and isinstance(file.ops[-1], Whole)


def _forms(file: FileEdit, base: Mapping[str, bytes] | None) -> list[str] | None:
    """The digest of one file's content at each level; None when the edit leaves it as the base has it."""
    content = after(file, base or {})
    kept = base is not None and content == base.get(file.path)
    if kept and file.old_path is None and file.mode is None:
        return None
    if content is None:
        return [f"{file.path}\0gone"] * len(SAME_LEVELS)
    exact = xxhash.xxh3_128_hexdigest(content)
    found = {"L0": exact}
    for level, make in level_forms(content, language_of(file.path, content)):
        try:
            found[level] = _digest_bytes(make())
        except (Unparsable, ValueError):  # ValueError: a number of thousands of digits
            continue
    digests, last = [], exact
    for level in SAME_LEVELS:
        last = found.get(level, last)
        digests.append(f"{file.path}\0{file.mode or ''}\0{last}")
    return digests


def _weak_forms(file: FileEdit, found: Sequence[Window]) -> list[str]:
    """The digest of one file's changed lines at each level."""
    language = language_of(file.path)
    exact, plain, normal = (xxhash.xxh3_128(place_of(file)) for _ in range(3))
    for window in found:
        went, came = changed_lines(window.b, window.a)
        for digest in (exact, plain, normal):
            digest.update(beside(window, went, came))
        for text in (went, came):
            exact.update(b"\0".join((b"%d" % len(text), text)))
            plain.update(b"\0".join((*plain_lines(text), b"\1")))
            normal.update(b"\0".join((*_weak_normal(text, language), b"\1")))
    return [f"{file.path}\0{digest.hexdigest()}" for digest in (exact, plain, normal)]


def _weak_normal(text: bytes, language: Language | None) -> list[bytes]:
    """Level 2 of changed lines: for Python their form, with comments, since they may be lines of a string."""
    if language is None or language.name != "python":
        return plain_lines(text)
    try:
        return [_indentation(text), *comments_of(text), *piece_form(text, language, 2)]
    except (Unparsable, ValueError):
        return plain_lines(text)


def _indentation(text: bytes) -> bytes:
    """Indentation of the first line with something on it: a form doesn't know the block it stands in."""
    first = next((line for line in text.split(b"\n") if line.strip()), b"")
    return b"%d\2" % (len(first) - len(first.lstrip()))


def changed_lines(before: bytes, now: bytes) -> tuple[bytes, bytes]:
    """What differs between two texts, in whole lines, without the lines they begin and end with alike."""
    old, new = before.splitlines(keepends=True), now.splitlines(keepends=True)
    start, end = _start_of(old, new), 0
    most = min(len(old), len(new)) - start
    while end < most and old[-1 - end] == new[-1 - end]:
        end += 1
    return b"".join(old[start : len(old) - end]), b"".join(new[start : len(new) - end])


def place_of(file: FileEdit) -> bytes:
    """The anchors by which a file's chunks are found, b"" where none has any."""
    found = [entry for entry in anchors(file) if entry[0] or entry[1]]
    return repr(found).encode() if found else b""


def beside(window: Window, went: bytes, came: bytes) -> bytes:
    """The line next to lines that only come or only go, without which they could stand anywhere."""
    if went and came:
        return b""
    whole = window.a if came else window.b
    at = _changes_at(window)
    lines = whole.splitlines()
    above = next((line.strip() for line in reversed(lines[:at]) if line.strip()), None)
    if above is not None:
        return b"\3" + above + b"\3"
    count = len((came or went).splitlines())
    return b"\4" + next((line.strip() for line in lines[at + count :] if line.strip()), b"") + b"\4"


def lines_of(file: FileEdit, found: Sequence[Window]) -> str | None:
    """The numbers of the base's lines where a file's changes begin, None if the edit doesn't tell them."""
    if any(window.start == 0 for window in found):
        return None
    return f"{file.path}\0{[window.start + _changes_at(window) for window in found]}"


def place_mark(changed: Iterable[tuple[FileEdit, Sequence[Window]]]) -> list[str]:
    """The mark of the places where changes begin; [] unless every file tells its line numbers."""
    places = [lines_of(file, found) for file, found in changed]
    known = [place for place in places if place is not None]
    return [PLACE + digest_of(known)] if len(known) == len(places) else []


def _changes_at(window: Window) -> int:
    """How many lines of a stretch stand before the first that changes."""
    return _start_of(window.b.splitlines(keepends=True), window.a.splitlines(keepends=True))


def _start_of(old: list[bytes], new: list[bytes]) -> int:
    """How many lines two texts begin with alike."""
    start, most = 0, min(len(old), len(new))
    while start < most and old[start] == new[start]:
        start += 1
    return start


def digest_of(parts: Iterable[str]) -> str:
    """One digest of the files' digests, whatever their order."""
    return xxhash.xxh3_128_hexdigest("\1".join(sorted(parts)).encode("utf-8", "backslashreplace"))


def _digest_bytes(tokens: list[bytes]) -> str:
    """The digest of a normal form."""
    return xxhash.xxh3_128_hexdigest(b"\0".join(tokens))
