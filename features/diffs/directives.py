"""Comments that a tool, the compiler or the program itself reads: they count as code."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.diffs.languages import Language

# Where the first occurs in a source of a language, comments that the second finds count too.
_IN_COMPANY: dict[str, tuple[tuple[str, str], ...]] = {
    "go": (
        (r'(?m)^\s*(?:import\s+)?"C"\s*$', ""),  # the preamble of cgo is C
        (r"(?mi)^\s*//\s*(?:unordered )?output:", ""),  # lines of what an example prints
    ),
    "rust": (
        (
            r"\b(?:clap|structopt|displaydoc|thiserror|argh|bpaf|gumdrop|schemars|utoipa)\b"
            r"|derive\s*\([^)]*\b(?:Parser|Args|Subcommand|ValueEnum|Display|Error|StructOpt|FromArgs"
            r"|JsonSchema|ToSchema)\b",
            r"^//[/!]|^/\*[*!]",
        ),
        (r"\bmissing_docs\b", r"^//[/!]|^/\*[*!]"),
    ),
    "bash": (
        (r"\b(?:grep|sed|awk|head|tail|cut|perl)\b[^\n]*(?:\$0|\$\{0|BASH_SOURCE)", ""),
    ),  # prints itself
}
_UNICODE_BREAKS = re.compile("[\r\u2028\u2029]")
_PYTHON_LINES = re.compile(
    rb"^[ \t]*#[ \t]*(?:cython|distutils|pythran|nuitka-project|papermill|dependencies)\b[^\n]*"
    rb"|^#(?:SBATCH|PBS|BSUB|COBALT|OAR|MSUB|FLUX|\$)[ \t:][^\n]*"
    rb"|^#[ \t]///[ \t][\w-]+[ \t]*\r?\n(?:#(?:[ \t][^\n]*)?(?:\n|\Z))+",
    re.MULTILINE,
)
_PYTHON_HEAD = re.compile(rb"\A(?:\xef\xbb\xbf)?(#![^\n]*)?")
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_CELLS = re.compile(rb"^# (?:Databricks notebook source|MAGIC\b|COMMAND -{4})", re.MULTILINE)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern, compiled once."""
    return re.compile(pattern)


def directives_of(language: Language, source: bytes) -> tuple[re.Pattern[str], ...]:
    """The patterns of comments that count as code in a source."""
    found = [_compiled(language.directive)] if language.directive is not None else []
    company = _IN_COMPANY.get(language.name, ())
    if company:
        text = source.decode("utf-8", "replace")
        found += [_compiled(also) for sign, also in company if _compiled(sign).search(text)]
    return (*found, _UNICODE_BREAKS)  # which may end a comment sooner than the grammar thinks


def python_directives(source: bytes) -> list[bytes]:
    """What the comments of a Python source tell its loader and other tools, in order."""
    source = source.replace(b"\r\n", b"\n")
    head = _PYTHON_HEAD.match(source)
    shebang = head[1] if head is not None and head[1] else b""
    codings = [m[1].lower() for line in source.split(b"\n", 2)[:2] if (m := _CODING.match(line))]
    codings = [coding for coding in codings if coding not in (b"utf-8", b"utf8")]
    if not (shebang or codings or b"#" in source):
        return []
    lines = [b"\n".join(p.rstrip() for p in m[0].split(b"\n")) for m in _PYTHON_LINES.finditer(source)]
    return [b"\x06" + line.strip() for line in (shebang, *codings, *lines) if line.strip()]


def has_cells(source: bytes) -> bool:
    """Whether a Python source is a notebook whose comments are its cells."""
    return b"# " in source and _CELLS.search(source) is not None
