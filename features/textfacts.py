"""Counts and flags of the salient text: what kind of task it speaks of, in one pass over at most 4,000 characters."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Za-z_][\w.]*|\d[\d.]*")
_PATH = re.compile(r"(?:[\w.@-]*/)+[\w.@-]+|\b[\w-]+\.[a-z]{1,5}\b")
_HUMP = re.compile(r"[a-z0-9][A-Z]")
_DIFF = re.compile(r"^(?:diff --git |@@ -\d|--- a/|\*\*\* Begin Patch)", re.MULTILINE)

# Marks of a language: file endings, fences and spellings that others lack.
_LANGUAGES: dict[str, re.Pattern[str]] = {
    "lang_python": re.compile(r"\.py\b|```py|\bdef \w+\(|\bpytest\b|\bpython\b|\bdjango\b", re.IGNORECASE),
    "lang_javascript": re.compile(
        r"\.[cm]?[jt]sx?\b|```(?:js|ts|jsx|tsx|javascript|typescript)\b|\bconst \w+ =|\bnpm\b|\breact\b",
        re.IGNORECASE,
    ),
    "lang_jvm": re.compile(
        r"\.(?:java|kt|kts|scala|groovy)\b|```(?:java|kotlin|scala)\b|\bpublic class\b|\bmaven\b|\bgradle\b"
    ),
    "lang_c": re.compile(r"\.(?:c|cc|cpp|cxx|h|hpp|cs)\b|```(?:c|cpp|csharp)\b|#include\b|\bstd::"),
    "lang_go_rust": re.compile(
        r"\.(?:go|rs)\b|```(?:go|rust)\b|\bfunc \w+\(|\bfn \w+\(|\bcargo\b|\bgolang\b"
    ),
    "lang_sql": re.compile(r"\.sql\b|```sql\b|\bSELECT\b[^;]{1,200}\bFROM\b|\bCREATE TABLE\b", re.IGNORECASE),
    "lang_shell": re.compile(r"\.(?:sh|bash|zsh)\b|```(?:sh|bash|shell|zsh)\b|#!/"),
}
_VERBS: dict[str, frozenset[str]] = {
    "verb_fix": frozenset(
        ["fix", "fixes", "fixed", "bug", "bugs", "error", "errors", "broken", "fail", "fails", "failing", "failed", "crash", "issue", "debug"]
    ),
    "verb_add": frozenset(
        ["add", "adds", "implement", "create", "build", "support", "write", "introduce", "new", "feature", "generate"]
    ),
    "verb_explain": frozenset(
        ["explain", "why", "what", "how", "describe", "understand", "review", "summarize", "summarise", "show", "find"]
    ),
    "verb_test": frozenset(["test", "tests", "testing", "coverage", "spec", "specs", "unittest"]),
    "verb_refactor": frozenset(
        ["refactor", "rename", "move", "extract", "simplify", "clean", "cleanup", "migrate", "upgrade", "restructure"]
    ),
}
_VERB_WORDS = 120  # the verbs are looked for where a person says what they want: at the start


def text_facts(text: str) -> dict[str, float]:
    """The text_*, lang_* and verb_* fields of Facts for a salient text; all zero for an empty one."""
    words = _WORD.findall(text)
    size = len(text.encode("utf-8", "surrogatepass"))
    lead = {word.lower() for word in words[:_VERB_WORDS]}
    return {
        "text_bytes": float(size),
        "text_lines": float(text.count("\n") + 1) if text else 0.0,
        "text_code_fences": float(text.count("```")),
        "text_paths": float(len(_PATH.findall(text))),
        "text_identifiers": float(sum(1 for word in words if _is_identifier(word))),
        "text_numbers": float(sum(1 for word in words if word[0].isdigit())),
        "text_questions": float(text.count("?")),
        "text_urls": float(text.count("://")),
        "text_traceback": float(
            "Traceback (most recent" in text or "\n    at " in text or "panicked at" in text
        ),
        "text_diff": float(_DIFF.search(text) is not None),
        "text_non_ascii_share": 0.0 if text.isascii() else sum(c > "\x7f" for c in text) / len(text),
        **{name: float(pattern.search(text) is not None) for name, pattern in _LANGUAGES.items()},
        **{name: float(not verbs.isdisjoint(lead)) for name, verbs in _VERBS.items()},
    }


def _is_identifier(word: str) -> bool:
    """snake_case, camelCase or dotted; a capitalised word or the end of a sentence is neither."""
    return "_" in word or "." in word.rstrip(".") or _HUMP.search(word) is not None
