"""The judge: are two edits the same diff? Pure; compares what stands there afterwards, never the hunks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from features.diffs.edits import STRIPPED, Edit, FileEdit, Whole, creates
from features.diffs.fragments import lines_form, piece_form
from features.diffs.grammars import Unparsable
from features.diffs.languages import Language, language_of
from features.diffs.normal import equal_level, plain_lines
from features.diffs.postimage import CannotApply, Window, after
from features.diffs.roles import Role, role_of
from features.diffs.shown import first_difference
from features.diffs.similarity import Change, ratio, symbols
from features.diffs.verdicts import FileVerdict, Verdict, VerdictLevel, overall
from features.diffs.windows import NEEDS_BASE, windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tree_sitter import Node

_WORD = re.compile(rb"[A-Za-z_]\w*")
_DELICATE = frozenset(("created", "deleted", "renamed", "copied", "mode", "binary", "submodule"))


class Sides(NamedTuple):
    """One file as both edits treat it."""

    path: str
    a: FileEdit | None
    b: FileEdit | None
    role: Role


def judge(a: Edit, b: Edit, base: Mapping[str, bytes] | None = None, *, set_aside: bool = True) -> Verdict:
    """The graded verdict on two edits of one tree. Never raises: bad edits are *unknown* with a reason.

    `base` holds the files as they were, by path; without it the verdict rests on context lines and is weak.
    Tests, documents, lock and scratch files count only if `set_aside` is False or nothing else is edited.
    """
    for side, edit in (("A", a), ("B", b)):
        if edit.problem:
            return Verdict(level="unknown", reason=f"{side}: {edit.problem}")
    by_a, by_b = a.by_path(), b.by_path()
    if (strange := _other_root(by_a, by_b)) is not None:
        return Verdict(level="unknown", reason=strange)
    sides = [_sides(path, by_a.get(path), by_b.get(path), base) for path in {**by_a, **by_b}]
    aside = {side.path for side in sides if set_aside and side.role != "code"}
    if len(aside) == len(sides):
        aside = set()  # nothing but tests or documents: then they are what is compared
    files = [_file(side, base) for side in sorted(sides, key=lambda side: side.path)]
    files = [_aside(file) if file.path in aside else file for file in files]
    if not sides:
        return overall([])
    empty = next((name for name, paths in (("A", by_a), ("B", by_b)) if not set(paths) - aside), None)
    verdict = overall(files)
    if empty is not None and verdict.level in ("different", "L3"):
        what = "is empty" if not (by_a if empty == "A" else by_b) else "has only set-aside files"
        return Verdict(
            level="different", similarity=0.0, reason=f"{empty} {what}", weak=verdict.weak, files=files
        )
    return verdict


def _other_root(a: Mapping[str, FileEdit], b: Mapping[str, FileEdit]) -> str | None:
    """Why paths can't be matched: one side's are absolute and may be the other's."""
    for mine, theirs in ((a, b), (b, a)):
        for path in mine:
            if path.startswith("/") and any(path.endswith("/" + other) for other in theirs):
                return f"{path} may be the other side's file: say with --root what paths are relative to"
    return None


def _sides(path: str, a: FileEdit | None, b: FileEdit | None, base: Mapping[str, bytes] | None) -> Sides:
    """One path with its role."""
    new = all(side is None or creates(side, base) for side in (a, b))
    return Sides(path, a, b, role_of(path, created=new))


def _creates(file: FileEdit) -> bool:
    """Whether the edit writes the whole file."""
    return "created" in file.notes or (len(file.ops) == 1 and isinstance(file.ops[0], Whole))


def _aside(file: FileVerdict) -> FileVerdict:
    """A file that is reported but doesn't count."""
    return msgspec.structs.replace(file, set_aside=True)


def _file(sides: Sides, base: Mapping[str, bytes] | None) -> FileVerdict:
    """The verdict on one file; what can't be decided is *unknown*, never *different*."""
    try:
        verdict = _compare(sides, base)
    except CannotApply as reason:
        return FileVerdict(path=sides.path, level="unknown", reason=str(reason), role=sides.role)
    if verdict.level in ("different", "L3") and (note := _one_sided(sides)):
        return FileVerdict(path=sides.path, level="unknown", reason=note, role=sides.role, weak=verdict.weak)
    return verdict


def _one_sided(sides: Sides) -> str | None:
    """What only one side does to the file besides editing its text; then texts alone don't settle it."""
    notes_a = sides.a.notes if sides.a else frozenset()
    notes_b = sides.b.notes if sides.b else frozenset()
    only = (notes_a ^ notes_b) & _DELICATE
    if only == {"created"} and sides.a is not None and sides.b is not None:
        only = frozenset()  # one writes the file whole, the other names it new: both contents are known
    if only == {"created"}:
        return None  # a file that only one side adds is a difference like any other
    return f"{', '.join(sorted(only))} on one side only" if only else None


def _compare(sides: Sides, base: Mapping[str, bytes] | None) -> FileVerdict:
    """Compare after-images: whole where they are known, else in windows. Raises CannotApply."""
    a, b = sides.a, sides.b
    for name, side in (("A", a), ("B", b)):
        if side is not None and side.problem:
            raise CannotApply(f"{name}: {side.problem}")
    if a is not None and b is not None and (a.old_path or a.path) == (b.old_path or b.path):
        same_ops = a.ops == b.ops and a.mode == b.mode and STRIPPED not in a.notes
        if same_ops and base is None:
            return _verdict(sides, "L0", 1.0)
    if base is not None:
        return _whole(sides, base)
    if (a is None or b is None) and "deleted" in (a or b or FileEdit(path="")).notes:
        return _verdict(sides, "different", 0.0, "only one side deletes it")
    if all(side is None or _creates(side) or "deleted" in side.notes for side in (a, b)):
        return _whole(sides, {})
    if any(side is not None and (_creates(side) or "deleted" in side.notes) for side in (a, b)):
        raise CannotApply(_one_sided(sides) or NEEDS_BASE)
    if (a.old_path if a else None) != (b.old_path if b else None) or (a and b and a.mode != b.mode):
        raise CannotApply(_one_sided(sides) or "renamed from different files, or to different modes")
    return _pieces(sides, windows(a, b))


def _whole(sides: Sides, base: Mapping[str, bytes]) -> FileVerdict:
    """Compare whole files. Raises CannotApply."""
    before = base.get(sides.path)
    contents: list[bytes | None] = []
    for name, side in (("A", sides.a), ("B", sides.b)):
        try:
            contents.append(after(side, base) if side is not None else before)
        except CannotApply as why:
            raise CannotApply(f"{name}: {why}") from None
    a, b = contents
    modes = {_mode(side) for side in (sides.a, sides.b) if side is not None}
    if len(modes) > 1:
        raise CannotApply("mode on one side only")
    if a == b:
        return _verdict(sides, "L0", 1.0)
    if a is None or b is None:
        return _verdict(sides, "different", 0.0, "the file exists on one side only")
    if b"\0" in a or b"\0" in b:
        raise CannotApply("binary files that differ")
    language = language_of(sides.path, a)
    known: dict[bytes, Node] = {}
    level, reason = _level(a, b, language, known)
    if level is not None:
        return _verdict(sides, level, 1.0, reason)
    window = Window(1, before or b"", a, b)
    return _graded(sides, [window], language, reason, known=known)


def _mode(file: FileEdit) -> str | None:
    """The mode that an edit sets; a new file is a plain one unless something else is said."""
    return None if _creates(file) and file.mode == "100644" else file.mode


def _level(
    a: bytes, b: bytes, language: Language | None, known: dict[bytes, Node]
) -> tuple[VerdictLevel | None, str | None]:
    """The level at which two whole texts are equal, and why a level may have been out of reach."""
    if plain_lines(a) == plain_lines(b):
        return "L1", None
    if language is None:
        return None, None
    try:
        return equal_level(a, b, language, known), None
    except Unparsable as why:
        return None, str(why)
    except ValueError:  # Python reads no number of thousands of digits
        return None, "a literal that can't be read"


def _pieces(sides: Sides, found: list[Window]) -> FileVerdict:
    """Compare windows; the verdict is weak beyond L0, and at L0 too where lines lack their numbers."""
    if all(window.a == window.b for window in found):
        return _verdict(sides, "L0", 1.0, weak=any(window.start == 0 for window in found))
    if any(b"\0" in text for window in found for text in (window.a, window.b)):
        raise CannotApply("binary files that differ")
    language = language_of(sides.path)
    if all(plain_lines(w.a) == plain_lines(w.b) for w in found):
        return _verdict(sides, "L1", 1.0, weak=True)
    before = b"\n".join(window.before for window in found)
    fresh_a, fresh_b = (_fresh(before, found, side) for side in (0, 1))
    reason: str | None = None
    try:
        if all(piece_form(w.a, language, 2, fresh_a) == piece_form(w.b, language, 2, fresh_b) for w in found):
            first = all(piece_form(w.a, language, 1) == piece_form(w.b, language, 1) for w in found)
            return _verdict(sides, "L1" if first else "L2", 1.0, weak=True)
    except Unparsable as why:
        reason = str(why)
    except ValueError:
        reason = "a literal that can't be read"
    return _graded(sides, found, language, reason, weak=True)


def _fresh(before: bytes, found: list[Window], side: int) -> frozenset[str]:
    """Names that one side brings in: they occur nowhere in what is known of the base."""
    known = set(_WORD.findall(before))
    came = {word for window in found for word in _WORD.findall(window.b if side else window.a)}
    return frozenset(word.decode() for word in came - known)


def _graded(
    sides: Sides,
    found: list[Window],
    language: Language | None,
    reason: str | None,
    *,
    weak: bool = False,
    known: dict[bytes, Node] | None = None,
) -> FileVerdict:
    """L3 or different: the similarity of the two changes and whether they edit the same symbols."""
    changes = [(Change(w.before, w.a), Change(w.before, w.b)) for w in found]
    tokens_a = [token for change, _ in changes for token in change.tokens()]
    tokens_b = [token for _, change in changes for token in change.tokens()]
    alike = ratio(tokens_a, tokens_b)
    known = {} if known is None else known
    edited_a = _symbols_of(
        [(w.before, w.a, change) for w, (change, _) in zip(found, changes, strict=True)], language, known
    )
    edited_b = _symbols_of(
        [(w.before, w.b, change) for w, (_, change) in zip(found, changes, strict=True)], language, known
    )
    level: VerdictLevel = "L3" if tokens_a and tokens_b and edited_a == edited_b else "different"
    if level == "different":
        reason = reason or (
            "only one side edits it" if not (tokens_a and tokens_b) else "other symbols are edited"
        )
    differing = next((w for w in found if lines_form(w.a) != lines_form(w.b)), found[0])
    return FileVerdict(
        path=sides.path,
        level=level,
        similarity=alike,
        reason=reason,
        role=sides.role,
        weak=weak,
        first_difference=first_difference(differing, language),
        weight=max(1, len(tokens_a) + len(tokens_b)),
    )


def _symbols_of(
    parts: list[tuple[bytes, bytes, Change]], language: Language | None, known: dict[bytes, Node]
) -> frozenset[str]:
    """Names of what one side's change touches, before and after."""
    found: frozenset[str] = frozenset()
    for before, now, change in parts:
        found |= symbols(now, change.came_at, language, known)
        found |= symbols(before, change.went_at, language, known)
    return found


def _verdict(
    sides: Sides, level: VerdictLevel, similarity: float, reason: str | None = None, *, weak: bool = False
) -> FileVerdict:
    """A verdict on one file without more to say."""
    return FileVerdict(
        path=sides.path, level=level, similarity=similarity, reason=reason, role=sides.role, weak=weak
    )
