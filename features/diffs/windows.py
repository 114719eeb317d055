"""Two edits of a file whose base isn't known: the stretches of it that their own context lines give away."""

from __future__ import annotations

from features.diffs.edits import MINUS, PLUS, STRIPPED, FileEdit, Hunk, Hunks, Locate, Replace
from features.diffs.postimage import CannotApply, Window

NEEDS_BASE = "the base file is needed"


def windows(a: FileEdit | None, b: FileEdit | None) -> list[Window]:
    """The known stretches of a file before and after each edit. Raises CannotApply with the reason."""
    for side in (a, b):
        if side is not None and side.problem:
            raise CannotApply(side.problem)
        if side is not None and STRIPPED in side.notes:
            raise CannotApply("a hunk shorter than its header says, and no base to check it with")
    hunks_a, hunks_b = _only_hunks(a), _only_hunks(b)
    if hunks_a is not None and hunks_b is not None:
        return _by_number(hunks_a, hunks_b)
    found = _by_text(_replacements(a), _replacements(b))
    _check_anchors(a, b, b"".join(window.before for window in found))
    return found


def anchors(file: FileEdit | None) -> list[tuple[tuple[bytes, ...], bool]]:
    """Where a file's chunks are looked for, beyond their own lines: anchors, and whether at the end."""
    ops = file.ops if file is not None else ()
    return [(op.anchors, op.at_end) for op in ops if isinstance(op, Locate)]


def _check_anchors(a: FileEdit | None, b: FileEdit | None, shown: bytes) -> None:
    """Raise CannotApply where anchors may lead to other lines than the other side changes.

    An anchor that the known lines show says no more than they do; and a text that must occur once is where it
    is, whatever anchors the other side found it by.
    """
    if a is None or b is None:
        return
    lines = {line.strip() for line in shown.split(b"\n")}
    left_a, left_b = (
        [(tuple(anchor for anchor in found if anchor not in lines), end) for found, end in anchors(side)]
        for side in (a, b)
    )
    if left_a == left_b:
        return
    for anchored, other in ((left_a, b), (left_b, a)):
        unique = all(isinstance(op, Replace) and not op.every for op in other.ops)
        if any(found or end for found, end in anchored) and not unique:
            raise CannotApply(f"anchors that only the base can settle: {NEEDS_BASE}")


def _only_hunks(file: FileEdit | None) -> list[Hunk] | None:
    """The hunks of a file that has nothing but one set of them; [] for a side that doesn't touch it."""
    if file is None or not file.ops:
        return []
    op = file.ops[0]
    return sorted(op.hunks, key=lambda h: h.start) if len(file.ops) == 1 and isinstance(op, Hunks) else None


def _by_number(a: list[Hunk], b: list[Hunk]) -> list[Window]:
    """Windows by line number: both sides' old lines are pieces of one base, and agree where they meet."""
    base: dict[int, bytes] = {}
    for hunk in (*a, *b):
        for number, line in enumerate(hunk.old, hunk.start):
            if base.setdefault(number, line).rstrip() != line.rstrip():
                raise CannotApply("the two patches don't fit one base file")
    marks = set(base) | {hunk.start for hunk in (*a, *b) if not hunk.old}
    result = []
    for start, end in _runs(sorted(marks)):
        before = b"".join(base[number] for number in range(start, end + 1) if number in base)
        result.append(Window(start, before, _rewrite(a, base, start, end), _rewrite(b, base, start, end)))
    return result


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _rewrite(hunks: list[Hunk], base: dict[int, bytes], start: int, end: int) -> bytes:
    """One window after one side's hunks."""
    out: list[bytes] = []
    at = start
    for hunk in hunks:
        if not start <= hunk.start <= end:
            continue
        if hunk.start < at:
            raise CannotApply("overlapping hunks")
        out += [base[number] for number in range(at, hunk.start) if number in base]
        at = hunk.start
        for op, line in hunk.lines:
            if op == PLUS:
                out.append(line)
            else:
                if op != MINUS:
                    out.append(base[at])
                at += 1
    return b"".join(out + [base[number] for number in range(at, end + 1) if number in base])


def _replacements(file: FileEdit | None) -> list[Replace]:
    """A file's operations as replaced texts. Raises CannotApply for those that need the base."""
    result: list[Replace] = []
    for op in file.ops if file is not None else ():
        if isinstance(op, Replace):
            result.append(op)
        elif isinstance(op, Hunks):
            result += [Replace(b"".join(hunk.old), b"".join(hunk.new)) for hunk in op.hunks]
        elif isinstance(op, Locate):
            result.append(Replace(b"".join(op.old), b"".join(op.new)))
        else:
            raise CannotApply(NEEDS_BASE)
    if any(not op.old for op in result):
        raise CannotApply(NEEDS_BASE)
    return result


def _by_text(a: list[Replace], b: list[Replace]) -> list[Window]:
    """Windows by text: the largest of the replaced texts, each side's replacements played on all of them."""
    if len(a) == 1 and not b:  # as of most calls
        return [Window(0, a[0].old, a[0].new, a[0].old)]
    pieces = _own_pieces(a) + _own_pieces(b)
    largest: list[bytes] = []
    for piece in sorted(set(pieces), key=lambda piece: (len(piece), piece), reverse=True):
        if not any(piece in other for other in largest):
            largest.append(piece)
    after_a, after_b = _play(a, largest), _play(b, largest)
    return [Window(0, before, x, y) for before, x, y in zip(largest, after_a, after_b, strict=True)]


def _own_pieces(ops: list[Replace]) -> list[bytes]:
    """The texts of the base that one side's replacements show, without those it has written itself."""
    before: list[bytes] = []
    now: list[bytes] = []
    for op in ops:
        holders = [number for number, text in enumerate(now) if op.old in text]
        if holders:
            now = [text.replace(op.old, op.new, -1 if op.every else 1) for text in now]
        else:
            before.append(op.old)
            now.append(op.new)
    return before


def _play(ops: list[Replace], texts: list[bytes]) -> list[bytes]:
    """Texts after the replacements in order."""
    now = list(texts)
    for op in ops:
        count = sum(text.count(op.old) for text in now)
        if count == 0 or (count > 1 and not op.every):
            raise CannotApply(NEEDS_BASE)
        now = [text.replace(op.old, op.new) for text in now]
    return now
