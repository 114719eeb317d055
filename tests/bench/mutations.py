"""Makes mutants: copies of a source in which one thing that the program sees is changed.

That is an operator, a constant, a branch, an argument, the order of operands, a call, a string it reads, a
variable, indentation or a line end that counts. The grammar finds the sites; a mutant has no more faults than
its source.
"""

# ruff: noqa: E501 - tables of patches, calls and node types read best one to a line
from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from features.diffs.languages import parser_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator


class Changed(NamedTuple):
    """One changed source and what was changed."""

    kind: str
    source: bytes


class Site(NamedTuple):
    """Bytes to replace."""

    kind: str
    start: int
    end: int
    text: bytes


_OPERATORS: dict[bytes, tuple[bytes, ...]] = {
    b"+": (b"-",), b"-": (b"+",), b"*": (b"+",), b"/": (b"*",), b"%": (b"*",),
    b"<": (b"<=", b">"), b"<=": (b"<",), b">": (b">=", b"<"), b">=": (b">",),
    b"==": (b"!=",), b"!=": (b"==",), b"===": (b"!==",), b"!==": (b"===",),
    b"&&": (b"||",), b"||": (b"&&",), b"and": (b"or",), b"or": (b"and",),
    b"+=": (b"-=",), b"-=": (b"+=",), b"<<": (b">>",), b">>": (b"<<",), b"&": (b"|",),
    b"++": (b"--",), b"--": (b"++",), b"??": (b"||",), b"?.": (b".",), b":=": (b"=",),
    b"is": (b"is not",), b"in": (b"not in",), b"..": (b"...",), b"..=": (b"..",),
}  # fmt: skip
_EXPRESSION = re.compile(
    r"expression|binary|comparison|boolean|operator|assignment|update|unary|range|conditional|navigation|logical|equality|relational|additive|multiplicative|infix"
)
_NUMBER = re.compile(rb"\d+\Z")
_STRING = re.compile(
    r"string_content|string_fragment|string_literal_content|interpreted_string_literal_content|^string$|raw_string|heredoc_content|heredoc_body|nowdoc|string_value|attribute_value|_scalar$|^literal$|string_literal|character_literal|template_string|plain_value|jsx_text|^text$|^word$|regex_pattern"
)
_IDENTIFIER = re.compile(
    r"^(identifier|simple_identifier|variable_name|field_identifier|property_identifier|constant|name|property_name|bare_key|tag_name|attribute_name|class_name)$"
)
_BINDING = re.compile(
    r"parameter|pattern|as_pattern_target|for_in_clause|import|alias|keyword_argument|declarator|annotation|type|label"
)
_WORDS = {b"true": b"false", b"false": b"true", b"True": b"False", b"False": b"True", b"TRUE": b"FALSE"}
_DROPPED = frozenset((b"await", b"static", b"!", b"not", b"unsigned", b"&mut", b"mut", b"async", b"new"))


def mutants(
    source: bytes, language: str, rng: random.Random, rows: range | set[int] | None = None, limit: int = 20
) -> list[Changed]:
    """Up to `limit` mutants of a source, on the given rows (0-based) if any; no two alike, all of them parse."""
    sites = [
        site
        for site in _sites(source, language)
        if rows is None or source.count(b"\n", 0, site.start) in rows
    ]
    rng.shuffle(sites)
    by_kind: dict[str, list[Site]] = {}
    for site in sites:
        by_kind.setdefault(site.kind, []).append(site)
    found: dict[bytes, Changed] = {}
    allowed = faults(source, language)
    while by_kind and len(found) < limit:
        for kind in list(by_kind):
            site = by_kind[kind].pop()
            if not by_kind[kind]:
                del by_kind[kind]
            changed = source[: site.start] + site.text + source[site.end :]
            if changed != source and len(found) < limit and faults(changed, language) == allowed:
                found.setdefault(changed, Changed(site.kind, changed))
    return list(found.values())


def faults(source: bytes, language: str) -> int:
    """How many places the grammar can't make sense of."""
    parser = parser_of(language)
    assert parser is not None
    count, stack = 0, [parser.parse(source).root_node]
    while stack:
        node = stack.pop()
        count += node.is_error or node.is_missing
        stack.extend(child for child in node.children if child.has_error)
    return count


def _leaves(node, parents=()) -> Iterator[tuple]:
    """Leaves with their chain of parents, innermost last; comments, docstrings and local annotations left out."""
    stack = [(node, parents)]
    while stack:
        at, above = stack.pop()
        if "comment" in at.type or _invisible(at, above):
            continue
        children = at.children
        yield at, above
        stack.extend((child, (*above, at)) for child in reversed(children))


def _invisible(node, above) -> bool:
    """Parts of a program that it can't see: docstrings, bare constants, annotations of locals, Julia's docs."""
    if node.type == "expression_statement" and len(node.named_children) == 1:
        only = node.named_children[0].type
        return only in (
            "string",
            "concatenated_string",
            "ellipsis",
            "integer",
            "float",
            "true",
            "false",
            "none",
        )
    if node.type == "type" and above and above[-1].type == "assignment":
        return True
    return (
        node.type == "string_literal"
        and bool(above)
        and above[-1].type in ("source_file", "module_definition", "block", "doc")
    )


def _sites(source: bytes, language: str) -> Iterator[Site]:
    """Every place where one small change alters what the program does."""
    parser = parser_of(language)
    assert parser is not None
    names: dict[str, list[bytes]] = {}
    nodes = list(_leaves(parser.parse(source).root_node))
    for node, _ in nodes:
        if not node.children and _IDENTIFIER.match(node.type):
            names.setdefault(node.type, []).append(source[node.start_byte : node.end_byte])
    for node, above in nodes:
        text = source[node.start_byte : node.end_byte]
        if not node.children:
            yield from _leaf_sites(node, above, text, names)
        elif "string" in node.type or node.type.endswith("scalar"):
            yield from _string_sites(node, above, text)
        else:
            yield from _node_sites(node, source, language)
    yield from _layout_sites(source, language, nodes)


def _leaf_sites(node, above, text: bytes, names: dict[str, list[bytes]]) -> Iterator[Site]:
    """Changes of one token."""
    parent = above[-1].type if above else ""
    start, end = node.start_byte, node.end_byte
    if (text in _OPERATORS and not node.is_named) or (node.type == "operator" and text in _OPERATORS):
        if _EXPRESSION.search(parent):
            for other in _OPERATORS[text]:
                yield Site("operator", start, end, other)
    elif text in _WORDS:
        yield Site("constant", start, end, _WORDS[text])
    elif _NUMBER.match(text) and len(text) < 9:
        yield Site("off-by-one", start, end, b"%d" % (int(text) + 1))
    elif text in _DROPPED:
        yield Site("keyword", start, end, b"")
    elif _STRING.search(node.type):
        yield from _string_sites(node, above, text)
    elif _IDENTIFIER.match(node.type) and not any(_BINDING.search(p.type) for p in above[-2:]):
        if _is_target(node, above):
            return
        others = [name for name in dict.fromkeys(names[node.type]) if name != text]
        if others and names[node.type].count(text) > 1:
            yield Site("variable", start, end, others[len(text) * 7 % len(others)])
        elif others:
            yield Site("name", start, end, text + b"x")


def _is_target(node, above) -> bool:
    """Whether a name is bound here: a lone rename of a binding may be no change at all."""
    for outer in reversed(above[-3:]):
        left = (
            outer.child_by_field_name("left")
            or outer.child_by_field_name("name")
            or outer.child_by_field_name("alias")
        )
        if left is not None and left.start_byte <= node.start_byte < left.end_byte:
            return True
    return False


def _string_sites(node, above, text: bytes) -> Iterator[Site]:
    """Changes inside a string that the program reads."""
    if node.type == "template_string":
        return  # its pieces of text come one by one; blanks in ${ } don't count
    if any(_invisible(outer, above[:n]) for n, outer in enumerate(above)) or len(text.strip()) < 4:
        return
    middle = node.start_byte + len(text) // 2
    if (
        text[len(text) // 2 : len(text) // 2 + 1].isalnum()
        and text[len(text) // 2 - 1 : len(text) // 2] != b"\\"
    ):
        yield Site(
            "string", middle, middle + 1, b"Q" if text[len(text) // 2 : len(text) // 2 + 1] != b"Q" else b"R"
        )
    space = text.find(b" ", 1, -2)
    markup = node.type in ("text", "jsx_text")  # there, two blanks are shown as one
    if space > 0 and not markup and (node.children or "string" in node.type):
        yield Site("string blank", node.start_byte + space, node.start_byte + space + 1, b"  ")


_CONDITION = re.compile(r"^(if|while|elif|elsif|if_let|unless)(_statement|_expression|_clause|_modifier)?$")


def _node_sites(node, source: bytes, language: str) -> Iterator[Site]:
    """Changes of a whole construct: negated branch, swapped operands, argument lists, deleted calls."""
    kind = node.type
    condition = node.child_by_field_name("condition")
    if _CONDITION.match(kind) and condition is not None and language not in ("bash", "julia"):
        text = source[condition.start_byte : condition.end_byte]
        if language == "python":
            yield Site("branch", condition.start_byte, condition.end_byte, b"not (" + text + b")")
        elif language in ("go", "rust", "ruby"):
            yield Site("branch", condition.start_byte, condition.end_byte, b"!(" + text + b")")
        elif text.startswith(b"("):
            yield Site("branch", condition.start_byte, condition.end_byte, b"(!" + text + b")")
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    if left is not None and right is not None and _EXPRESSION.search(kind) and "assign" not in kind:
        between = source[left.end_byte : right.start_byte]
        if between.strip() in (b"-", b"/", b"<", b">", b"<=", b">=", b"%", b"<<", b"//"):
            a, b = source[left.start_byte : left.end_byte], source[right.start_byte : right.end_byte]
            if a != b:
                yield Site("swapped operands", left.start_byte, right.end_byte, b + between + a)
    if kind in ("argument_list", "arguments", "token_tree"):
        yield from _argument_sites(node, source)
    if kind in ("expression_statement", "return_statement", "raise_statement", "throw_statement"):
        empty = (
            b"pass"
            if language == "python"
            else b";"
            if language in ("javascript", "typescript", "tsx", "c", "cpp", "java", "csharp", "php")
            else b""
        )
        text = source[node.start_byte : node.end_byte]
        gone = text.rstrip(b";").strip()
        if (
            gone not in (b"return", b"return None", b"pass", b"", b"...") and kind != "return_statement"
        ) or gone[6:].strip() not in (b"", b"None"):
            yield Site(
                "deleted call" if kind == "expression_statement" else "deleted jump",
                node.start_byte,
                node.end_byte,
                empty,
            )


# White space that counts: (pattern, kind, replacement of its group), by language.
_LAYOUT = {
    "yaml": (rb"(?m)^(  )(?= *[\w-]+:)", "indentation", b""),
    "javascript": (rb"(?m)^\s+return( )(?=[\w\[])", "line end", b"\n"),
    "css": (rb"(?m)^[.#\w]+( )[.#]\w", "selector", b""),
    "bash": (rb"(?m)^\s*\w+=()\"", "blank", b" "),
    "html": (rb"</(?:b|i|a|em|strong|span|code)>( )<", "blank", b""),
}
_LAYOUT["typescript"] = _LAYOUT["tsx"] = _LAYOUT["javascript"]
_HEADS = ("if_statement", "for_statement", "while_statement", "with_statement")
_JUMPS = ("return_statement", "raise_statement", "continue_statement", "break_statement", "pass_statement")


def _layout_sites(source: bytes, language: str, nodes) -> Iterator[Site]:
    """White space that counts: indentation, JavaScript's line end after return, blanks of selectors."""
    if language in _LAYOUT:
        pattern, kind, text = _LAYOUT[language]
        for match in re.finditer(pattern, source):
            yield Site(kind, match.start(1), match.end(1), text)
    elif language == "python":
        for node, above in nodes:
            if node.type == "block" and len(node.named_children) > 1 and above[-1].type in _HEADS:
                yield from _dedented(node, above)


def _dedented(block, above) -> Iterator[Site]:
    """The last statement of a Python block moved out of it, where that changes when it runs."""
    last = block.named_children[-1]
    jumps = any(child.type in _JUMPS for child in block.named_children)
    one_line = last.start_point[0] == last.end_point[0]
    seen = one_line and "comment" not in last.type and not _invisible(last, above)
    if seen and not jumps and above[-1].next_named_sibling is not None:
        indent = last.start_point[1] - above[-1].start_point[1]
        yield Site("indentation", last.start_byte - indent, last.start_byte, b"")


def _argument_sites(node, source: bytes) -> Iterator[Site]:
    """Arguments swapped and dropped."""
    named = [child for child in node.named_children if "comment" not in child.type]
    texts = [source[child.start_byte : child.end_byte] for child in named]
    for n in range(len(named) - 1):
        gap = source[named[n].end_byte : named[n + 1].start_byte]
        if gap.strip() != b"," or texts[n] == texts[n + 1]:
            continue
        if not any(b"=" in text[:40] for text in texts[n : n + 2]):  # the order of keywords may not matter
            yield Site(
                "swapped arguments",
                named[n].start_byte,
                named[n + 1].end_byte,
                texts[n + 1] + gap + texts[n],
            )
        yield Site("dropped argument", named[n].end_byte, named[n + 1].end_byte, b"")
