"""Counts and flags of the salient text: what kind of task it speaks of."""

from __future__ import annotations

import re
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


def text_facts(text: str) -> dict[str, float]:
    """The text_*, lang_* and verb_* fields of Facts for a salient text; all zero for an empty one."""
    words = _WORD.findall(text)
    lowered = [word.lower() for word in words]
    distinct, lead = set(lowered), set(lowered[:_VERB_WORDS])
    tokens = [token.strip("`'\"()[]{}<>,.:;!?") for token in text.split()]
    endings = {token.rpartition(".")[2] for token in tokens if "." in token}
    return {
        "text_bytes": float(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))),
        "text_lines": float(text.count("\n") + 1) if text else 0.0,
        "text_code_fences": float(text.count("```")),
        "text_paths": float(sum(1 for token in tokens if _is_path(token))),
        "text_identifiers": float(sum(1 for word in set(words) if _is_identifier(word))),
        "text_numbers": float(sum(1 for word in words if word[0] <= "9")),
        "text_questions": float(text.count("?")),
        "text_urls": float(text.count("://")),
        "text_joins": float(sum(1 for word in lowered if word in _JOINS)),
        "text_commas": float(text.count(",")),
        "text_sentences": float(len(_SENTENCE.findall(text))),
        "text_capitals": float(sum(1 for word in words if "A" <= word[0] <= "Z")),
        "text_quotes": float(text.count("'") + text.count('"')),
        "text_traceback": float(any(mark in text for mark in _TRACEBACK_MARKS)),
        "text_diff": float(any(mark in text for mark in _DIFF_MARKS)),
        "text_non_ascii_share": 0.0 if text.isascii() else sum(c > "\x7f" for c in text) / len(text),
        **{name: float(_speaks(language, text, distinct, endings)) for name, language in _LANGUAGES.items()},
        **{name: float(not verbs.isdisjoint(lead)) for name, verbs in _VERBS.items()},
    }


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
