"""What an answer's edit looks like, as numbers: its size, its shape, what of it the prompt names, who agrees.

No base file is needed and nothing is run: the lines that come and go are the edit's own. Sizes are those of
product code unless the name says otherwise; an edit of nothing but tests or documents is measured by these.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from features.diffs.edits import Edit, FileEdit, Whole
from features.diffs.fingerprint import counted_files, writes_whole
from features.diffs.fragments import piece_form
from features.diffs.judge import judge
from features.diffs.languages import language_of
from features.diffs.postimage import CannotApply, Window
from features.diffs.roles import role_of
from features.diffs.similarity import Change, ratio, symbols
from features.diffs.trees import Unparsable
from features.diffs.verdicts import SAME
from features.diffs.windows import windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Numbers = dict[str, float | None]

MAX_EDIT_BYTES = 1 << 20  # of lines that come and go; what is larger is only counted
MAX_FILES = 200
MAX_OTHERS = 8
_NAME = re.compile(rb"[A-Za-z_]\w{2,}")
_COMMENT = (b"#", b"//", b"/*", b"*", b'"""', b"'''", b"--")
_SAID_LINE = 12  # characters, below which a line of code stands in any text by chance
_KINDS = {
    "branches": frozenset(b"if elif else case switch match when unless".split()),
    "guards": frozenset(b"try except catch finally rescue isinstance hasattr instanceof".split()),
    "raises": frozenset(b"raise throw panic assert".split()),
    "returns": frozenset(b"return yield".split()),
    "definitions": frozenset(b"def class func function fn interface struct impl".split()),
    "imports": frozenset(b"import from require include using use".split()),
    "loops": frozenset(b"for while loop".split()),
}


class _Lines(NamedTuple):
    """One file's change, taken apart."""

    file: FileEdit
    parts: list[Window]  # empty for a file that is written whole or can't be read without its base
    came: list[bytes]
    went: list[bytes]
    tokens_came: list[bytes]
    tokens_went: list[bytes]


def edit_facts(edit: Edit, text: str = "", *, grammar: bool = True) -> Numbers:
    """Numbers of one edit beside the salient text it answers; of one that can't be read nothing is known.

    Without `grammar` no native parser sees it, and what needs one is left out.
    """
    if edit.problem or len(edit.files) > MAX_FILES or not edit.files:
        return {"files": None if edit.problem else float(len(edit.files))}
    roles = [role_of(file.path, created=writes_whole(file)) for file in edit.files]
    counted = counted_files(edit)
    facts: Numbers = {
        "files": float(len(edit.files)),
        "code_files": float(roles.count("code")),
        "test_files": float(roles.count("test")),
        "doc_files": float(roles.count("doc")),
        "scratch_files": float(roles.count("scratch")),
        "new_files": float(sum(_is_new(file) for file in edit.files)),
        "gone_files": float(sum("deleted" in file.notes for file in edit.files)),
        "folders": float(len({PurePosixPath(file.path).parent for file in counted})),
        "languages": float(len({PurePosixPath(file.path).suffix for file in counted})),
    }
    lines = [_lines(file) for file in counted]
    if sum(len(line) for one in lines for line in (*one.came, *one.went)) > MAX_EDIT_BYTES:
        return facts
    edited = [_symbols(one) for one in lines] if grammar else []
    facts |= _sizes(lines) | _shape(lines) | _named(lines, text, edited)
    if not grammar:
        return facts
    read = [_reads(one) for one in lines if one.parts]
    named = {(one.file.path, name) for one, names in zip(lines, edited, strict=True) for name in names}
    return facts | {"symbols": float(len(named)), "parses": _share(read)}


def agreement_facts(edit: Edit, others: Sequence[Edit]) -> Numbers:
    """How the edits of other candidates for the same request stand to this one; {} where there are none."""
    if not others:
        return {}
    verdicts = [judge(edit, other) for other in others[:MAX_OTHERS]]
    alike = [v.similarity for v in verdicts if v.similarity is not None]
    same = [v.level in SAME for v in verdicts]
    paths = _paths(edit)
    theirs = [_paths(other) for other in others[:MAX_OTHERS]]
    touched = [sum(path in each for each in theirs) / len(theirs) for path in paths]
    overlap = [len(paths & each) / max(len(paths | each), 1) for each in theirs]
    sizes = [edit_sizes(other) for other in others[:MAX_OTHERS]]
    return {
        "others": float(len(verdicts)),
        "others_same": float(sum(same)) / len(same),
        "others_close": float(sum(v.level in SAME or v.level == "L3" for v in verdicts)) / len(verdicts),
        "others_alike": sum(alike) / len(alike) if alike else None,
        "others_alike_best": max(alike, default=None),
        "others_alike_worst": min(alike, default=None),
        "others_touch": sum(touched) / len(touched) if touched else None,
        "others_touch_least": min(touched, default=None),
        "others_overlap": sum(overlap) / len(overlap),
        "others_files": sum(size[0] for size in sizes) / len(sizes),
        "others_added_tokens": sum(size[1] for size in sizes) / len(sizes),
        "others_removed_tokens": sum(size[2] for size in sizes) / len(sizes),
    }


def edit_sizes(edit: Edit) -> tuple[int, int, int]:
    """Counted files, tokens that come, tokens that go."""
    lines = [_lines(file) for file in counted_files(edit)[:MAX_FILES]]
    return (
        len(lines),
        sum(len(one.tokens_came) for one in lines),
        sum(len(one.tokens_went) for one in lines),
    )


def _paths(edit: Edit) -> frozenset[str]:
    return frozenset(file.path for file in counted_files(edit))


def _is_new(file: FileEdit) -> bool:
    return "created" in file.notes or (writes_whole(file) and "deleted" not in file.notes)


def _lines(file: FileEdit) -> _Lines:
    """The lines of a file that come and go; of a file written whole, all of them come."""
    if file.ops and isinstance(last := file.ops[-1], Whole):
        parts = [Window(1, b"", last.content or b"", b"")]
    else:
        try:
            parts = windows(file, None)
        except CannotApply:
            parts = []
    changes = [Change(part.before, part.a) for part in parts]
    came = [line for change in changes for line in change.came]
    went = [line for change in changes for line in change.went]
    tokens = [token for change in changes for token in change.tokens()]
    gone = sum(token.startswith(b"-") and len(token) > 1 for token in tokens)
    split = [token[1:] for token in tokens[:gone]], tokens[gone:]
    return _Lines(file, parts, came, went, split[1], split[0])


def _sizes(lines: list[_Lines]) -> Numbers:
    came, went = sum(len(one.came) for one in lines), sum(len(one.went) for one in lines)
    tokens_came = sum(len(one.tokens_came) for one in lines)
    tokens_went = sum(len(one.tokens_went) for one in lines)
    largest = max((len(one.tokens_came) + len(one.tokens_went) for one in lines), default=0)
    return {
        "hunks": float(sum(len(one.parts) for one in lines)),
        "added_lines": float(came),
        "removed_lines": float(went),
        "added_tokens": float(tokens_came),
        "removed_tokens": float(tokens_went),
        "net_lines": float(came - went),
        "only_adds": float(went == 0),
        "only_removes": float(came == 0),
        "largest_share": largest / max(tokens_came + tokens_went, 1),
    }


def _shape(lines: list[_Lines]) -> Numbers:
    """What kind of change it is: a small rewriting or a new piece, with branches, guards, comments."""
    came = [line for one in lines for line in one.came]
    tokens_came = [token for one in lines for token in one.tokens_came]
    tokens_went = [token for one in lines for token in one.tokens_went]
    words_came, words_went = set(_names(tokens_came)), set(_names(tokens_went))
    before = {word for one in lines for part in one.parts for word in _NAME.findall(part.before)}
    counts: Numbers = {
        f"added_{kind}": float(sum(token in words for token in tokens_came)) for kind, words in _KINDS.items()
    }
    return {
        **counts,
        "added_calls": float(tokens_came.count(b"(")),
        "comment_share": sum(line.startswith(_COMMENT) for line in came) / max(len(came), 1),
        "kept_share": ratio(tokens_went, tokens_came) if tokens_went and tokens_came else None,
        "fresh_names": float(len(words_came - before)),
        "changed_names": float(len(words_came ^ words_went)),
        "longest_line": float(max(map(len, came), default=0)),
    }


def _named(lines: list[_Lines], text: str, edited: list[frozenset[str]]) -> Numbers:
    """What of the edit, and of the declarations edited, the text names; unknown without a text."""
    if not text:
        return {}
    said = set(_NAME.findall(text.encode("utf-8", "replace")))
    paths = [one.file.path for one in lines]
    touched = {name.split(".")[-1].encode("utf-8", "replace") for names in edited for name in names if name}
    came = set(_names(token for one in lines for token in one.tokens_came))
    went = set(_names(token for one in lines for token in one.tokens_went))
    fresh = came - went
    whole = [line.decode("utf-8", "replace") for one in lines for line in one.came if len(line) > _SAID_LINE]
    return {
        "paths_named": _share(path in text for path in paths),
        "modules_named": _share(_module_in(path, text, said) for path in paths),
        "symbols_named": _share(name in said for name in touched),
        "added_named": _share(name in said for name in came),
        "removed_named": _share(name in said for name in went),
        "fresh_named": _share(name in said for name in fresh),
        "lines_said": _share(line in text for line in whole),
        "fixes_in_text": float("diff --git" in text or "```diff" in text or "\n+ " in text),
    }


def _module_in(path: str, text: str, said: set[bytes]) -> bool:
    """Whether the text names a file by its last part, or as a dotted module."""
    plain = PurePosixPath(path)
    dotted = ".".join((*plain.parent.parts[-1:], plain.stem))
    return plain.name in text or plain.stem.encode("utf-8", "replace") in said or dotted in text


def _share(hits: Iterable[bool]) -> float | None:
    found = list(hits)
    return sum(found) / len(found) if found else None


def _names(tokens: Iterable[bytes]) -> Iterable[bytes]:
    return (token for token in tokens if _NAME.fullmatch(token))


def _symbols(one: _Lines) -> frozenset[str]:
    """Declarations around the lines that change, as far as the edit's own context shows them."""
    language, found = language_of(one.file.path), frozenset[str]()
    for part in one.parts:
        change = Change(part.before, part.a)
        found |= symbols(part.a, change.came_at, language) | symbols(part.before, change.went_at, language)
    return found


def _reads(one: _Lines) -> bool:
    """Whether what stands there afterwards can be read as the file's language."""
    language = language_of(one.file.path)
    if language is None:
        return True
    try:
        for part in one.parts:
            piece_form(part.a, language, 2)
    except Unparsable:
        return False
    return True
