"""Twins of real code: the same behaviour written differently, by formatters where there are any, else by hand.

The generators here share nothing with the judge but the list of grammars: renames go by the standard library's
symbol table and tokenizer, comments and docstrings by tokens.
"""

# ruff: noqa: E501 - tables of patches, calls and node types read best one to a line
from __future__ import annotations

import ast
import io
import keyword
import re
import shutil
import subprocess
import symtable
import tokenize
from typing import TYPE_CHECKING, NamedTuple

from features.diffs.languages import BY_NAME, parser_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator


class Twin(NamedTuple):
    """One rewriting and the lowest level at which the judge should call the two the same."""

    kind: str
    level: str
    source: bytes


_PRETTIER = {
    "javascript": "babel",
    "typescript": "typescript",
    "tsx": "typescript",
    "css": "css",
    "json": "json",
    "yaml": "yaml",
    "html": "html",
}
_CLANG = {"c": "a.c", "cpp": "a.cc", "java": "a.java", "csharp": "a.cs"}


def formatters(language: str, tools: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Commands that rewrite stdin in a formatter's style, for the tools at hand (name -> command)."""
    if language == "python" and "black" in tools:
        yield "black", [tools["black"], "-q", "-"]
        yield "black -l 60", [tools["black"], "-q", "-l", "60", "-"]
    if language in _PRETTIER and "prettier" in tools:
        base = [tools["prettier"], "--parser", _PRETTIER[language]]
        yield "prettier", base
        yield (
            "prettier narrow",
            [
                *base,
                "--single-quote",
                "--no-semi",
                *([] if language == "yaml" else ["--tab-width", "8"]),
                "--print-width",
                "60",
            ],
        )
    if language in _CLANG and "clang-format" in tools:
        for style in ("Google", "WebKit"):
            yield (
                f"clang-format {style}",
                [
                    tools["clang-format"],
                    f"--assume-filename={_CLANG[language]}",
                    f"--style={{BasedOnStyle: {style}, SortIncludes: Never, SortUsingDeclarations: Never, FixNamespaceComments: false, ReflowComments: false, BreakStringLiterals: false}}",
                ],
            )
    if language == "rust" and "rustfmt" in tools:
        yield "rustfmt", [tools["rustfmt"], "--edition", "2021", "--config", "max_width=70"]


def find_tools() -> dict[str, str]:
    """Formatters on the path."""
    names = ("black", "prettier", "clang-format", "rustfmt")
    return {name: path for name in names if (path := shutil.which(name))}


def formatted(source: bytes, language: str, tools: dict[str, str]) -> Iterator[Twin]:
    """The source in the style of each formatter that can read it."""
    for name, command in formatters(language, tools):
        done = subprocess.run(command, input=source, capture_output=True, check=False)
        if done.returncode == 0 and done.stdout and done.stdout != source:
            yield Twin(name, "L2", done.stdout)


def rewritten(source: bytes, language: str, rng: random.Random) -> Iterator[Twin]:
    """Rewritings made here: line ends, comments, blank lines; for Python also docstrings, imports, renames."""
    if source.count(b"\r\n") == 0:
        yield Twin("line ends", "L1", source.replace(b"\n", b"\r\n"))
    yield Twin("final newline", "L1", source.rstrip(b"\n") if source.endswith(b"\n") else source + b"\n")
    commented = _comments_removed(source, language)
    if commented is not None and commented != source:
        yield Twin("comments removed", "L2", commented)
    if language == "python":
        yield from _python(source, rng)


def _comments_removed(source: bytes, language: str) -> bytes | None:
    """The source without its plain comments; None if the grammar finds errors in it before or after."""
    parser, row = parser_of(language), BY_NAME[language]
    assert parser is not None
    root = parser.parse(source).root_node
    if root.has_error or language in ("html", "go", "php"):  # there, comments can be code
        return None
    spans, stack = [], [root]
    while stack:
        node = stack.pop()
        if node.type in row.comments:
            spans.append((node.start_byte, node.end_byte))
        stack.extend(node.children)
    out = source
    for start, end in sorted(spans, reverse=True):
        text = source[start:end]
        if (
            re.search(
                rb"^#!|coding|@|eslint|webpack|frozen|global|<reference|sourceMapping|\+|!|flow|cloud-config|__|cython",
                text,
            )
            or b"\n" in text.strip()
        ):
            continue
        out = out[:start] + (b"" if text.endswith(b"\n") is False else b"\n") + out[end:]
    return out if not parser.parse(out).root_node.has_error else None


def _python(source: bytes, rng: random.Random) -> Iterator[Twin]:
    """What only Python has here: comments added, docstrings, import order, quotes, local names."""
    try:
        tree = ast.parse(source)
        text = source.decode()
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, ValueError, tokenize.TokenError):
        return
    lines = text.split("\n")
    ends = [
        t.start[0] - 1
        for t in tokens
        if t.type == tokenize.NEWLINE and t.line.rstrip() and "\\" not in t.line
    ]
    added = list(lines)
    for row in rng.sample(ends, min(5, len(ends))):
        added[row] = added[row].rstrip() + "  # noted" if "#" not in added[row] else added[row]
    yield Twin("comments added", "L2", "\n".join(added).encode())
    if "__doc__" not in text and "getdoc" not in text and "yacc" not in text:
        yield from _docstrings(tree, lines)
    yield from _imports(tree, lines, rng)
    yield from _quotes(text, tokens)
    yield from _renames(text, tokens, rng)


def _docstrings(tree: ast.Module, lines: list[str]) -> Iterator[Twin]:
    """Each docstring in other words, or a new one where there was none."""
    out = list(lines)
    for node in sorted(ast.walk(tree), key=lambda n: -getattr(n, "lineno", 0)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = node.body[0]
            if first.lineno == node.lineno:
                continue
            indent = " " * first.col_offset
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                if ";" in lines[(first.end_lineno or 1) - 1]:
                    continue
                out[first.lineno - 1 : first.end_lineno] = [f'{indent}"""Other words."""']
            elif not getattr(first, "decorator_list", None):
                out.insert(first.lineno - 1, f'{indent}"""New words."""')
    changed = "\n".join(out)
    try:
        ast.parse(changed)
    except SyntaxError:  # a shape of body this simple editing can't handle
        return
    yield Twin("docstrings", "L2", changed.encode())


def _imports(tree: ast.Module, lines: list[str], rng: random.Random) -> Iterator[Twin]:
    """One contiguous block of one-line imports shuffled, if no name is bound twice in it."""
    block: list[ast.stmt] = []
    for node in [*tree.body, ast.Pass()]:
        plain = (
            isinstance(node, (ast.Import, ast.ImportFrom))
            and node.lineno == node.end_lineno
            and getattr(node, "module", "") != "__future__"
        )
        if plain and (not block or node.lineno == block[-1].lineno + 1):
            block.append(node)
            continue
        if len(block) > 1:
            break
        block = [node] if plain else []
    names = [a.asname or a.name.split(".")[0] for node in block for a in getattr(node, "names", [])]
    if len(block) > 1 and len(set(names)) == len(names) and "*" not in names:
        rows = [node.lineno - 1 for node in block]
        if any(";" in lines[row] or "#" in lines[row] for row in rows):
            return
        moved = [lines[row] for row in rows]
        rng.shuffle(moved)
        out = list(lines)
        for row, line in zip(rows, moved, strict=True):
            out[row] = line
        if out != lines:
            yield Twin("import order", "L1", "\n".join(out).encode())


def _quotes(text: str, tokens: list[tokenize.TokenInfo]) -> Iterator[Twin]:
    """Simple strings with the other quotes."""
    lines = text.split("\n")
    for token in sorted(tokens, key=lambda t: t.start, reverse=True):
        if token.type == tokenize.STRING and re.fullmatch(r"[rb]?'[^'\"\\\n{}]+'", token.string):
            row, start, end = token.start[0] - 1, token.start[1], token.end[1]
            lines[row] = lines[row][:start] + token.string.replace("'", '"') + lines[row][end:]
    changed = "\n".join(lines)
    if changed != text:
        yield Twin("quotes", "L2", changed.encode())


def _renames(text: str, tokens: list[tokenize.TokenInfo], rng: random.Random) -> Iterator[Twin]:
    """Up to five local variables renamed, one at a time; functions with inner scopes or frame readers left out."""
    if re.search(
        r"\b(locals|vars|eval|exec|dir|globals|_getframe|currentframe|query|evaluate|inspect|set_trace)\b",
        text,
    ):
        return
    found: list[tuple[int, int, str]] = []
    stack = [symtable.symtable(text, "x", "exec")]
    tree_ends = {
        n.lineno: n
        for n in ast.walk(ast.parse(text))
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    while stack:
        table = stack.pop()
        stack.extend(table.get_children())
        if table.get_type() != "function" or table.get_children() or table.get_lineno() not in tree_ends:
            continue
        node = tree_ends[table.get_lineno()]
        found += [
            (node.body[0].lineno, node.end_lineno or 0, symbol.get_name())
            for symbol in table.get_symbols()
            if symbol.is_local() and symbol.is_assigned() and not symbol.get_name().startswith("__")
            if not (symbol.is_parameter() or symbol.is_imported() or symbol.is_namespace())
        ]
    rng.shuffle(found)
    for first, last, name in found[:5]:
        changed = _renamed(text, tokens, range(first, last + 1), name)
        if changed is not None:
            yield Twin("local rename", "L2", changed.encode())


def _renamed(text: str, tokens: list[tokenize.TokenInfo], rows: range, name: str) -> str | None:
    """One name changed in some rows; None if a string there mentions it or the new name is taken."""
    new = "renamed_" + name
    if new in text or keyword.iskeyword(name):
        return None
    lines, depth, spots = text.split("\n"), 0, []
    for n, token in enumerate(tokens):
        depth += token.string in "([{" and token.type == tokenize.OP
        depth -= token.string in ")]}" and token.type == tokenize.OP
        if token.start[0] not in rows:
            continue
        if (
            token.type == tokenize.STRING
            and re.search(rf"\b{name}\b", token.string)
            and (token.string[0] in "fF" or token.string[:2].lower() in ("rf", "fr") or "@" in token.string)
        ):
            return None
        if token.type == tokenize.NAME and token.string == name and tokens[n - 1].string != ".":
            if depth and tokens[n + 1].string == "=":
                continue
            spots.append(token)
        if token.string in ("match", "case"):
            return None
    for token in reversed(spots):
        row, column = token.start[0] - 1, token.start[1]
        lines[row] = lines[row][:column] + new + lines[row][column + len(name) :]
    return "\n".join(lines)
