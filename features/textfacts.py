"""Counts and flags of the salient text: what kind of task it speaks of."""

from __future__ import annotations

import re
from functools import lru_cache
from operator import add
from typing import TYPE_CHECKING, NamedTuple

from features.prompt import CUT
from features.textwords import Tokens
from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

_STOPS = tuple(".?!;")
_WRAPPING = "`'\"()[]{}<>,.:;!?"  # around a path
# Words that join several things asked at once.
_JOINS = frozenset(
    ("and", "also", "then", "both", "each", "plus", "additionally", "after", "finally", "along", "well")
)
_DIFF_MARKS = ("diff --git ", "\n@@ -", "\n--- a/", "*** Begin Patch")
_TRACEBACK_MARKS = ("Traceback (most recent", "\n    at ", "panicked at", "\nCaused by: ")


class _Language(NamedTuple):
    """Marks of a language: file endings, words, and spellings that others lack."""

    endings: frozenset[str]
    words: frozenset[str]
    spellings: tuple[str, ...]


def _language(endings: str, words: str, *spellings: str) -> _Language:
    return _Language(frozenset(endings.split()), frozenset(words.split()), spellings)


_LANGUAGES: dict[str, _Language] = {
    "lang_python": _language(
        "py pyi ipynb", "python pytest django pip numpy flask", "```py", "\ndef ", "    def "
    ),
    "lang_javascript": _language(
        "js jsx ts tsx mjs cjs vue svelte",
        "javascript typescript npm react node jest",
        "```js",
        "```ts",
        "```javascript",
        "```typescript",
        "\nconst ",
    ),
    "lang_jvm": _language("java kt kts scala", "java kotlin maven gradle junit", "```java", "public class "),
    "lang_c": _language(
        "c cc cpp cxx h hpp cs", "cmake", "```c\n", "```cpp", "```csharp", "#include", "std::"
    ),
    "lang_go_rust": _language(
        "go rs", "golang rust cargo", "```go", "```rust", "\nfunc ", "\nfn ", "pub fn "
    ),
    "lang_sql": _language("sql", "sql postgres postgresql mysql sqlite", "```sql", "SELECT ", "CREATE TABLE"),
    "lang_shell": _language("sh bash zsh", "bash shell zsh", "```sh", "```bash", "#!/"),
}
_OTHER_ENDINGS = "md txt json toml yaml yml html css xml rb php swift lock cfg ini"
_ENDINGS = frozenset().union(_OTHER_ENDINGS.split(), *(language.endings for language in _LANGUAGES.values()))
_VERBS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "verb_fix": "fix fixes fixed bug bugs error errors broken fail fails failing failed crash debug",
        "verb_add": "add adds implement create build support write introduce new feature generate",
        "verb_explain": "explain why what how describe understand review summarize summarise show find",
        "verb_test": "test tests testing coverage spec specs unittest",
        "verb_refactor": "refactor rename move extract simplify clean cleanup migrate upgrade restructure",
    }.items()
}
_VERB_WORDS = 120  # the verbs are looked for where a person says what they want: at the start

_COUNTS = (
    *("text_bytes", "text_lines", "text_code_fences", "text_paths", "text_identifiers", "text_numbers"),
    *("text_questions", "text_urls", "text_joins", "text_commas", "text_sentences", "text_capitals"),
    "text_quotes",
)
_IDENTIFIERS = _COUNTS.index("text_identifiers")
_SEEN = ("text_traceback", "text_diff")
TEXT_NAMES: tuple[str, ...] = (*_COUNTS, *_SEEN, "text_non_ascii_share", *_LANGUAGES, *_VERBS)  # as in Facts
_NOTHING = (0.0,) * len(TEXT_NAMES)

# All flags of a text are one number.
_BITS = {name: 1 << n for n, name in enumerate((*_SEEN, *_LANGUAGES, *_VERBS))}
_MARKS: tuple[tuple[str, int], ...] = (
    *((mark, _BITS["text_traceback"]) for mark in _TRACEBACK_MARKS),
    *((mark, _BITS["text_diff"]) for mark in _DIFF_MARKS),
    *((mark, _BITS[name]) for name, language in _LANGUAGES.items() for mark in language.spellings),
)
_FENCE, _LINE = "```", "\n"  # that many marks begin with


def _beginning(first: str) -> tuple[re.Pattern[str], dict[str, int]]:
    """A pattern that finds the longest of the marks that begin so, and the bits that each stands for."""
    marks = sorted((mark for mark, _ in _MARKS if mark.startswith(first)), key=len, reverse=True)
    tails = "|".join(re.escape(mark.removeprefix(first)) for mark in marks)
    bits = {mark: sum({bit for begins, bit in _MARKS if mark.startswith(begins)}) for mark in marks}
    return re.compile(f"{first}(?:{tails})"), bits


_ANY_FENCED, _FENCED = _beginning(_FENCE)
_ANY_LINED, _LINED = _beginning(_LINE)
_ANYWHERE = tuple((mark, bit) for mark, bit in _MARKS if not mark.startswith((_FENCE, _LINE)))
_LINE_ENDS = tuple((mark[:-1], bit) for mark, bit in _MARKS if mark.endswith(_LINE))
_LINE_STARTS = tuple(mark[1:] for mark in _LINED)
_OF_ENDING = {ending: _BITS[name] for name, language in _LANGUAGES.items() for ending in language.endings}
_OF_WORD = {word: _BITS[name] for name, language in _LANGUAGES.items() for word in language.words}
_VERB = {word: _BITS[name] for name, words in _VERBS.items() for word in words}
_tokens = Tokens(_JOINS.union(_OF_WORD, _VERB))

_CUT = "\0"  # read for it: like it no part of anything, and a result that was cut is mostly ASCII but for it
_KEPT = 1_024  # pieces remembered: a session's task comes again with every turn
_GAP = "\n\n"  # between two pieces


class _Piece(Value, frozen=True):
    """What one piece of a text says on its own; the pieces of a text add up to its facts."""

    counts: tuple[float, ...]  # by _COUNTS, whole numbers; of identifiers 0
    flags: int  # by _BITS, as the next two
    follows: int  # more of them where it follows another piece, whose end is the end of a line
    goes_on: int  # or where another follows, so that it ends a line itself
    identifiers: frozenset[str]
    verbs: tuple[tuple[int, int], ...]  # place of a word among the words, its verb's bit
    asks: int  # flags by these where a text begins with it
    words: int
    foreign: int  # characters that aren't ASCII


def text_facts(*pieces: str) -> dict[str, float]:
    """The text_*, lang_* and verb_* fields of Facts for a text of pieces, by name."""
    return dict(zip(TEXT_NAMES, text_values(pieces), strict=True))


def text_values(pieces: Sequence[str]) -> tuple[float, ...]:
    """TEXT_NAMES' values for a text of pieces, a blank line apart; none: all zero.

    Cut at a blank line in another way, a text has the same facts.
    """
    if not pieces:
        return _NOTHING
    before = _read(pieces[0])
    counts, identifiers = before.counts, before.identifiers
    flags, words, foreign = before.flags | before.asks, before.words, before.foreign
    for piece in map(_read, pieces[1:]):
        flags |= before.goes_on | piece.flags | piece.follows
        if words < _VERB_WORDS:
            for at, verb in piece.verbs:
                if words + at < _VERB_WORDS:
                    flags |= verb
        counts = tuple(map(add, counts, piece.counts))
        identifiers |= piece.identifiers
        words += piece.words
        foreign += piece.foreign
        before = piece
    numbers = [*counts]
    gaps = len(_GAP) * (len(pieces) - 1)
    numbers[0] += gaps
    numbers[1] += gaps + (gaps > 0 or pieces[0] != "")
    numbers[_IDENTIFIERS] = float(len(identifiers))
    share = foreign / (sum(map(len, pieces)) + gaps) if foreign else 0.0
    seen, others = _as_floats(flags)
    return (*numbers, *seen, share, *others)


@lru_cache(maxsize=_KEPT)
def _as_floats(flags: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Flags, each 0 or 1: the values of _SEEN, and those of languages and verbs."""
    values = tuple(float(flags & bit > 0) for bit in _BITS.values())
    return values[: len(_SEEN)], values[len(_SEEN) :]


@lru_cache(maxsize=_KEPT)
def _read(text: str) -> _Piece:
    """Read one piece of a text."""
    size = len(text.encode("utf-8", "surrogatepass"))
    foreign = 0 if size == len(text) else len(text) - len(text.encode("ascii", "ignore"))
    if foreign:
        text = text.replace(CUT, _CUT)
    paths, sentences, flags = _paths(text)
    words = numbers = capitals = joins = asks = 0
    identifiers: set[str] = set()
    verbs: dict[int, int] = {}
    for token in _tokens.of(text):
        if token is None:
            words += 1
            continue
        numbers += token.numbers
        capitals += token.capitals
        identifiers |= token.identifiers
        for at, word in token.telling:
            flags |= _OF_WORD.get(word, 0)
            joins += word in _JOINS
            if (verb := _VERB.get(word, 0)) and verb not in verbs:
                verbs[verb] = words + at
                asks |= verb if words + at < _VERB_WORDS else 0
        words += token.words
    counts = (
        *(size, text.count(_LINE), text.count(_FENCE), paths, 0, numbers, text.count("?"), text.count("://")),
        *(joins, text.count(","), sentences, capitals, text.count("'") + text.count('"')),
    )
    follows, goes_on = _at_edges(text)
    return _Piece(
        counts=tuple(map(float, counts)),
        flags=flags | _marked(text),
        follows=follows,
        goes_on=goes_on,
        identifiers=frozenset(identifiers),
        verbs=tuple([(at, verb) for verb, at in verbs.items()]),
        asks=asks,
        words=words,
        foreign=foreign,
    )


def _paths(text: str) -> tuple[int, int, int]:
    """How many paths and ends of sentences there are, and the languages of what looks like a file's ending.

    A path has a slash inside, as src/app.py, or an ending that files have.
    """
    paths = sentences = flags = 0
    for token in text.split():
        if token.isalpha():
            continue
        sentences += token.endswith(_STOPS)
        if "/" in token or "." in token:
            name = token.strip(_WRAPPING)
            ending = name.rpartition(".")[2] if "." in name else ""
            flags |= _OF_ENDING.get(ending, 0)
            paths += len(name) > 1 and "://" not in name if "/" in name else ending in _ENDINGS
    return paths, sentences, flags


def _marked(text: str) -> int:
    """Flags by the marks in a text."""
    flags = 0
    for mark, bit in _ANYWHERE:
        if mark in text:
            flags |= bit
    for mark in _ANY_FENCED.findall(text):
        flags |= _FENCED[mark]
    for mark in _ANY_LINED.findall(text):
        flags |= _LINED[mark]
    return flags


def _at_edges(text: str) -> tuple[int, int]:
    """Flags by marks that a text has if a line ends before it, and if its last line ends."""
    follows = goes_on = 0
    if text.startswith(_LINE_STARTS):
        follows = next(_LINED[mark] for mark in _LINED if text.startswith(mark[1:]))
    for mark, bit in _LINE_ENDS:
        if text.endswith(mark):
            goes_on |= bit
    return follows, goes_on
