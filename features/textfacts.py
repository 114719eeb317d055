"""Counts and flags of the salient text: what kind of task it speaks of."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_WORD = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*|\d[\d.]*")
_SENTENCE = re.compile(r"[.?!;](?:\s|$)")
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


class _Piece(NamedTuple):
    """What one piece of a text says on its own; the pieces of a text add up to its facts."""

    counts: tuple[float, ...]  # by _COUNTS
    flags: tuple[float, ...]  # by _FLAGS
    identifiers: frozenset[str]
    verbs: tuple[int, ...]  # by _VERBS: place of the first word that is one, or _VERB_WORDS
    words: int
    foreign: int  # characters that aren't ASCII


_COUNTS = (
    *("text_bytes", "text_lines", "text_code_fences", "text_paths", "text_numbers", "text_questions"),
    *("text_urls", "text_joins", "text_commas", "text_sentences", "text_capitals", "text_quotes"),
)
_FLAGS = ("text_traceback", "text_diff", *_LANGUAGES)
_NOTHING = dict.fromkeys((*_COUNTS, *_FLAGS, *_VERBS, "text_identifiers", "text_non_ascii_share"), 0.0)
_KEPT = 1_024  # pieces remembered: a session's task comes again with every turn
_GAP = "\n\n"  # between two pieces


def text_facts(*pieces: str) -> dict[str, float]:
    """The text_*, lang_* and verb_* fields of Facts for a text of pieces, a blank line apart; none: all zero.

    Cut at a blank line in another way, a text has the same facts.
    """
    if not pieces:
        return _NOTHING.copy()
    last = len(pieces) - 1
    read = [_read(piece, n > 0, n < last) for n, piece in enumerate(pieces)]
    counts = zip(*[piece.counts for piece in read], strict=True)
    flags = zip(*[piece.flags for piece in read], strict=True)
    facts: dict[str, float] = dict(zip(_COUNTS, map(sum, counts), strict=True))
    facts.update(zip(_FLAGS, map(max, flags), strict=True))
    said = [0.0] * len(_VERBS)
    before = foreign = 0
    for piece in read:
        for n, at in enumerate(piece.verbs):
            if before + at < _VERB_WORDS:
                said[n] = 1.0
        before += piece.words
        foreign += piece.foreign
    facts.update(zip(_VERBS, said, strict=True))
    facts["text_identifiers"] = float(len(frozenset().union(*[piece.identifiers for piece in read])))
    chars = sum(map(len, pieces)) + len(_GAP) * last
    facts["text_non_ascii_share"] = foreign / chars if foreign else 0.0
    return facts


@lru_cache(maxsize=_KEPT)
def _read(text: str, follows: bool, goes_on: bool) -> _Piece:
    """Read one piece of a text, which may follow another or be followed by one."""
    words = _WORD.findall(text)
    lowered = [word.lower() for word in words]
    distinct = set(lowered)
    tokens = [token.strip("`'\"()[]{}<>,.:;!?") for token in text.split()]
    endings = {token.rpartition(".")[2] for token in tokens if "." in token}
    # Some marks are known by the end of the line before or by their own.
    inside = f"{_GAP if follows else ''}{text}{_GAP if goes_on else ''}"
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    counts = (
        size + len(_GAP) * goes_on,
        text.count("\n") + (len(_GAP) if goes_on else bool(inside)),
        text.count("```"),
        sum(1 for token in tokens if _is_path(token)),
        sum(1 for word in words if word[0] <= "9"),
        text.count("?"),
        text.count("://"),
        sum(1 for word in lowered if word in _JOINS),
        text.count(","),
        len(_SENTENCE.findall(text)),
        sum(1 for word in words if "A" <= word[0] <= "Z"),
        text.count("'") + text.count('"'),
    )
    flags = (
        any(mark in inside for mark in _TRACEBACK_MARKS),
        any(mark in inside for mark in _DIFF_MARKS),
        *(_speaks(language, inside, distinct, endings) for language in _LANGUAGES.values()),
    )
    identifiers = frozenset(word for word in set(words) if _is_identifier(word))
    foreign = 0 if text.isascii() else sum(c > "\x7f" for c in text)
    lead = {word: at for at, word in reversed(list(enumerate(lowered[:_VERB_WORDS])))}
    return _Piece(
        counts=tuple(map(float, counts)),
        flags=tuple(map(float, flags)),
        identifiers=identifiers,
        verbs=tuple(_first_of(verbs, lead) for verbs in _VERBS.values()),
        words=len(words),
        foreign=foreign,
    )


def _first_of(verbs: frozenset[str], lead: dict[str, int]) -> int:
    """Place of the first word that is one of these verbs; _VERB_WORDS if none is."""
    return min((lead[word] for word in verbs & lead.keys()), default=_VERB_WORDS)


def _speaks(language: _Language, text: str, words: set[str], endings: set[str]) -> bool:
    """Whether a text speaks of a language: by a file's ending, by a word, or by a spelling."""
    if not (language.endings.isdisjoint(endings) and language.words.isdisjoint(words)):
        return True
    return any(spelling in text for spelling in language.spellings)


def _is_path(token: str) -> bool:
    """A slash inside, as in src/app.py, or an ending that files have."""
    if "/" in token:
        return "://" not in token and len(token) > 1
    return "." in token and token.rpartition(".")[2] in _ENDINGS


def _is_identifier(word: str) -> bool:
    """snake_case, camelCase or dotted; a capitalised word is none of them."""
    if "_" in word or "." in word:
        return not word[0] <= "9"
    return not (word.islower() or word.isupper() or word.istitle() or word[0] <= "9")
