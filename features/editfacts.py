"""What an answer's edit looks like, as numbers: its size, its shape, and who agrees.

No base file is needed, nothing is run and no grammar is asked, since its parsers are native code and an
answer may be hostile: the lines that come and go are the edit's own. Sizes are those of product code unless
the name says otherwise; an edit of nothing but tests or documents is measured by these. What of the edit the
prompt names, and which words of the language it brings, told nothing more: docs/FINDINGS.md.
"""

from __future__ import annotations

import string
from collections import Counter
from posixpath import dirname
from typing import TYPE_CHECKING, NamedTuple

from features.answerfacts import AnswerFacts
from features.bytewords import IN_WORDS, blanked, tokens_of
from features.diffs.answers import edit_of_answer, open_and_digests, open_edit
from features.diffs.edits import Edit, FileEdit, Whole
from features.diffs.fingerprint import writes_whole
from features.diffs.postimage import Window
from features.diffs.roles import role_of
from features.diffs.similarity import Change, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from features.diffs.answers import OpenEdit
    from features.wire.types import Part

Numbers = dict[str, float | None]

MAX_EDIT_BYTES = 1 << 20  # of lines that come and go; what is larger is only counted
MAX_FILES = 200
MAX_OTHERS = 8
MAX_ALIGNED = 2_000  # tokens; of longer changes only bags are compared
_DIGITS = string.digits.encode()
_WORDS = blanked(IN_WORDS)
_COMMENT = (b"#", b"//", b"/*", b"*", b'"""', b"'''", b"--")


class _FileLines(NamedTuple):
    """One file's change, taken apart."""

    path: str
    parts: list[Window]
    came: list[bytes]
    went: list[bytes]
    tokens_came: list[bytes]
    tokens_went: list[bytes]


def facts_of_edit(edit: Edit, others: Sequence[Edit] = ()) -> AnswerFacts:
    """Facts of an edit, beside other candidates' edits for the same request."""
    return _facts(open_edit(edit), others)


def _facts(opened: OpenEdit, others: Sequence[Edit] = ()) -> AnswerFacts:
    lines = _lines_of(opened)
    facts = _edit_facts(opened, lines)
    if lines is not None and others:
        known = [found for one in others[:MAX_OTHERS] if (found := _lines_of(open_edit(one))) is not None]
        facts |= _agreement_facts(lines, known)
    return AnswerFacts(**facts)


def facts_of_answer(parts: Sequence[Part], others: Sequence[Sequence[Part]] = ()) -> AnswerFacts | None:
    """Facts of the edit in an answer's parts; None where it edits nothing or can't be read cheaply."""
    edit = edit_of_answer(parts)
    if edit is None:
        return None
    return facts_of_edit(edit, [found for other in others if (found := edit_of_answer(other)) is not None])


def kept_of_answer(parts: Sequence[Part]) -> tuple[list[str] | None, AnswerFacts | None]:
    """What a log keeps of the edit in an answer's parts: digests and facts, None where there are none."""
    opened, digests = open_and_digests(parts)
    return digests or None, None if opened is None else _facts(opened)


def _lines_of(opened: OpenEdit) -> list[_FileLines] | None:
    """The files that count, taken apart; None for an edit that can't be read, is empty or too large."""
    edit, stretches = opened.edit, opened.stretches
    if edit.problem or not 0 < len(edit.files) <= MAX_FILES or stretches is None:
        return None
    lines = [_lines(file, found) for file, found in zip(opened.counted, stretches, strict=True)]
    total = sum([len(line) for one in lines for line in (*one.came, *one.went)])
    return lines if total <= MAX_EDIT_BYTES else None


def _edit_facts(opened: OpenEdit, lines: list[_FileLines] | None) -> Numbers:
    """Numbers of one edit, given with its lines; what isn't known is left out."""
    edit = opened.edit
    if edit.problem or not 0 < len(edit.files) <= MAX_FILES:
        return {"files": None if edit.problem else float(len(edit.files))}
    roles = [role_of(file.path, created=writes_whole(file)) for file in edit.files]
    paths = [file.path for file in opened.counted]
    facts: Numbers = {
        "files": float(len(edit.files)),
        "code_files": float(roles.count("code")),
        "test_files": float(roles.count("test")),
        "doc_files": float(roles.count("doc")),
        "scratch_files": float(roles.count("scratch")),
        "new_files": float(sum(map(_is_new, edit.files))),
        "gone_files": float(sum(["deleted" in file.notes for file in edit.files])),
        "folders": float(len(set(map(dirname, paths)))),
        "languages": float(len(set(map(_ending, paths)))),
    }
    return facts if lines is None else facts | _sizes(lines) | _shape(lines)


def _agreement_facts(lines: list[_FileLines], others: Sequence[list[_FileLines]]) -> Numbers:
    """How the edits of other candidates for the same request stand to this one; {} where there are none."""
    if not others:
        return {}
    others, n = others[:MAX_OTHERS], min(len(others), MAX_OTHERS)
    paths = {one.path for one in lines}
    theirs = [{one.path for one in other} for other in others]
    alike = [_alike(lines, other) for other in others]
    sizes = [_size(other) for other in others]
    return {
        "others": float(n),
        "others_same": sum(_same_changes(lines, other) for other in others) / n,
        "others_alike": sum(alike) / n,
        "others_alike_best": max(alike),
        "others_touch": sum(len(paths & each) for each in theirs) / (n * max(len(paths), 1)),
        "others_overlap": sum(_jaccard(paths, each) for each in theirs) / n,
        "others_place": sum(_jaccard(_around(lines), _around(other)) for other in others) / n,
        "others_files": sum(map(len, others)) / n,
        "others_added_tokens": sum(came for came, _ in sizes) / n,
        "others_removed_tokens": sum(went for _, went in sizes) / n,
    }


def _same_changes(lines: list[_FileLines], other: list[_FileLines]) -> bool:
    """Whether the same tokens, and any, come and go in the same files, comment lines apart."""
    return _code(lines) == _code(other) and any(one.tokens_came or one.tokens_went for one in lines)


def _code(lines: list[_FileLines]) -> dict[str, tuple[list[bytes], list[bytes]]]:
    return {one.path: (one.tokens_went, one.tokens_came) for one in lines}


def _alike(lines: list[_FileLines], other: list[_FileLines]) -> float:
    """Similarity 0..1 of two edits: that of each file's tokens, weighted by their number."""
    mine, theirs = _code(lines), _code(other)
    common = total = 0.0
    nothing: tuple[list[bytes], list[bytes]] = ([], [])
    for path in {**mine, **theirs}:
        for a, b in zip(mine.get(path, nothing), theirs.get(path, nothing), strict=True):
            total += len(a) + len(b)
            common += (len(a) + len(b)) * _ratio(a, b)
    return common / total if total else float(mine.keys() == theirs.keys())


def _ratio(a: list[bytes], b: list[bytes]) -> float:
    """Similarity 0..1 of two token sequences, of long ones as bags."""
    if max(len(a), len(b)) <= MAX_ALIGNED:
        return ratio(a, b)
    return 2 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))


def _around(lines: list[_FileLines]) -> set[tuple[str, bytes]]:
    """Lines as they stood around and under the change: where it is, whatever the edit's form."""
    return {
        (one.path, line.strip())
        for one in lines
        for part in one.parts
        for line in part.before.split(b"\n")
        if line.strip()
    }


def _jaccard(a: AbstractSet[object], b: AbstractSet[object]) -> float:
    return len(a & b) / max(len(a | b), 1)


def _size(lines: list[_FileLines]) -> tuple[int, int]:
    """Tokens that come, tokens that go."""
    return sum([len(one.tokens_came) for one in lines]), sum([len(one.tokens_went) for one in lines])


def _is_new(file: FileEdit) -> bool:
    return "created" in file.notes or (writes_whole(file) and "deleted" not in file.notes)


def _ending(path: str) -> str:
    """What follows the last dot of a file's name, with that; "" for none, and for a dot at either end."""
    name = path.rpartition("/")[2]
    begins, dot, ends = name.rpartition(".")
    return dot + ends if begins and ends else ""


def _lines(file: FileEdit, parts: list[Window]) -> _FileLines:
    """The lines of a file that come and go in its stretches, with the tokens of all but comments."""
    if file.ops and isinstance(last := file.ops[-1], Whole):
        parts = [Window(1, b"", last.content or b"", b"")]
    changes = [Change(part.before, part.a) for part in parts]
    came = [line for change in changes for line in change.came]
    went = [line for change in changes for line in change.went]
    return _FileLines(file.path, parts, came, went, _tokens(came), _tokens(went))


def _tokens(lines: list[bytes]) -> list[bytes]:
    """Tokens of all lines but comments."""
    return tokens_of(b"\n".join([line for line in lines if not line.startswith(_COMMENT)]))


def _sizes(lines: list[_FileLines]) -> Numbers:
    came, went = sum([len(one.came) for one in lines]), sum([len(one.went) for one in lines])
    tokens_came, tokens_went = _size(lines)
    largest = max([len(one.tokens_came) + len(one.tokens_went) for one in lines], default=0)
    return {
        "hunks": float(sum([len(one.parts) for one in lines])),
        "added_lines": float(came),
        "removed_lines": float(went),
        "added_tokens": float(tokens_came),
        "removed_tokens": float(tokens_went),
        "net_lines": float(came - went),
        "only_adds": float(went == 0),
        "only_removes": float(came == 0),
        "largest_share": largest / max(tokens_came + tokens_went, 1),
    }


def _shape(lines: list[_FileLines]) -> Numbers:
    """What kind of change it is: a small rewriting or a new piece."""
    came = [line for one in lines for line in one.came]
    tokens_came = [token for one in lines for token in one.tokens_came]
    tokens_went = [token for one in lines for token in one.tokens_went]
    words_came, words_went = _names(tokens_came), _names(tokens_went)
    before = b"\n".join([part.before for one in lines for part in one.parts])
    known = {word.lstrip(_DIGITS) for word in set(before.translate(_WORDS).split())}
    return {
        "comment_share": sum([line.startswith(_COMMENT) for line in came]) / max(len(came), 1),
        "kept_share": _ratio(tokens_went, tokens_came) if tokens_went and tokens_came else None,
        "fresh_names": float(len(words_came - known)),
        "changed_names": float(len(words_came ^ words_went)),
        "longest_line": float(max(map(len, came), default=0)),
    }


def _names(tokens: Iterable[bytes]) -> set[bytes]:
    """Words of three letters or more that begin with no digit."""
    return {token for token in set(tokens) if len(token) > 2 and token[0] not in _DIGITS}
