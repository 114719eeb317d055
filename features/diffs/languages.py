"""The languages we have grammars for, as data: what counts as a comment, what is exact, what is optional."""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from tree_sitter import Parser


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. Node types are those of the tree-sitter grammar.

    `exact`: the text counts to the byte. `spaced`: whether there is white space between two tokens counts
    ("*" = everywhere). `commas`: a comma before the closing bracket is optional. `semicolon`: a last
    child ";" or "," of these is optional. `imports`: neighbours of these types may change places.
    """

    name: str
    module: str
    factory: str = "language"
    extra: bool = False  # its wheel is in the extra `languages`, being large
    comments: frozenset[str] = frozenset({"comment"})
    directive: str | None = None  # comments that a tool or the compiler reads count as code
    exact: frozenset[str] = frozenset()
    spaced: frozenset[str] = frozenset()
    tight: frozenset[bytes] = frozenset()  # around these tokens white space never counts
    commas: frozenset[str] = frozenset()
    semicolon: frozenset[str] = frozenset()
    separated: frozenset[str] = frozenset()  # nodes whose ";" and "," a line end can stand for
    imports: frozenset[str] = frozenset()
    import_lists: frozenset[str] = frozenset()  # nodes whose comma-separated or line-separated items may too
    parens: bool = False
    local_lexing: bool = False  # what is a comment can be told from a few lines of a file
    tokens: bool = False  # `c_tokens` says what it means where the grammar doesn't
    ascii_scanner: bool = False  # its C code looks other characters up outside of its tables, and crashes
    resilient: bool = False  # strings and comments are lexed alike wherever they stand, so errors stay local
    quotes: dict[str, str] = {}  # node type -> rule of `normal.unquote`


def _set(text: str) -> frozenset[str]:
    """A set from words."""
    return frozenset(text.split())


_JS = Language(
    name="javascript",
    module="tree_sitter_javascript",
    comments=_set("comment html_comment"),
    directive=r"^/\*\s*[@#]__|webpack|turbopack|@vite|@jsx|@license|@ts-|eslint|^#!|^///\s*<|@flow"
    r"|sourceMappingURL|@jest-|@vitest-|@cc_on|@babel|@swc|(c8|istanbul|v8) ignore",
    exact=_set("string_fragment regex hash_bang_line string template_literal_type"),
    commas=_set(
        "arguments array object formal_parameters named_imports export_clause object_pattern array_pattern"
        " enum_body type_parameters type_arguments tuple_type object_type interface_body"
    ),
    semicolon=_set(
        "expression_statement lexical_declaration variable_declaration return_statement throw_statement"
        " break_statement continue_statement import_statement export_statement do_statement"
        " debugger_statement"
        " type_alias_declaration import_alias ambient_declaration function_signature"
    ),
    separated=_set("class_body interface_body object_type"),
    imports=_set("import_statement"),
    import_lists=_set("named_imports"),
    parens=True,
    quotes={"string": "js"},
    local_lexing=True,
)
_C = Language(
    name="c",
    module="tree_sitter_c",
    directive=r"^/[/*]@|^//\s*(RUN|CHECK[\w-]*|XFAIL|expected-\w+)\b|\{\s*dg-|\\[ \t]*$",
    exact=_set(
        "string_literal char_literal raw_string_literal system_lib_string preproc_arg concatenated_string"
    ),
    commas=_set("initializer_list enumerator_list"),
    local_lexing=True,
    resilient=True,
    tokens=True,
)

LANGUAGES: tuple[Language, ...] = (
    Language(
        name="python",
        module="tree_sitter_python",
        directive=r"^#!|^#.*coding[:=]|^#\s*cython:|^#\s*distutils:|^# ///|^# MAGIC|^#SBATCH|^#PBS",
        exact=_set("string"),
        imports=_set("import_statement import_from_statement"),
        quotes={},
    ),
    _JS,
    msgspec.structs.replace(
        _JS,
        name="typescript",
        module="tree_sitter_typescript",
        factory="language_typescript",
    ),
    msgspec.structs.replace(_JS, name="tsx", module="tree_sitter_typescript", factory="language_tsx"),
    Language(
        name="go",
        module="tree_sitter_go",
        directive=r"^//[a-z0-9]+:[a-z0-9]|^//line|^/\*line|^//export|^//extern|^//\s*\+\w|^//nolint"
        r"|#cgo|#include|#define|^//\s*swagger:|^//\s*@\w",
        exact=_set("interpreted_string_literal raw_string_literal rune_literal"),
        commas=_set("argument_list literal_value parameter_list type_parameter_list type_arguments"),
        separated=_set("source_file statement_list field_declaration_list interface_type import_spec_list"),
        import_lists=_set("import_spec_list"),
        local_lexing=True,
    ),
    Language(
        name="rust",
        module="tree_sitter_rust",
        directive=r"^//@|^//\s*~|^//\[.*\]~",
        comments=_set("line_comment block_comment"),
        exact=_set("string_literal raw_string_literal char_literal"),
        commas=_set(
            "arguments parameters field_declaration_list field_initializer_list enum_variant_list use_list"
            " type_arguments type_parameters array_expression struct_pattern where_clause"
            " ordered_field_declaration_list tuple_struct_pattern closure_parameters"
        ),
        semicolon=_set("match_arm"),
        imports=_set("use_declaration"),
        import_lists=_set("use_list"),
        local_lexing=True,
    ),
    Language(
        name="java",
        module="tree_sitter_java",
        directive=r"\\u+[0-9a-fA-F]{4}|@deprecated|^/[/*]@",
        comments=_set("line_comment block_comment"),
        exact=_set("string_literal character_literal"),
        commas=_set("array_initializer element_value_array_initializer"),
        local_lexing=True,
        resilient=True,
        imports=_set("import_declaration"),
    ),
    _C,
    msgspec.structs.replace(_C, name="cpp", module="tree_sitter_cpp"),
    Language(
        name="csharp",
        module="tree_sitter_c_sharp",
        directive=r"<auto-?generated",
        exact=_set(
            "string_literal verbatim_string_literal raw_string_literal character_literal"
            " interpolated_string_expression preproc_region preproc_endregion preproc_arg"
        ),
        commas=_set("initializer_expression enum_member_declaration_list"),
        local_lexing=True,
        resilient=True,
        imports=_set("using_directive"),
    ),
    Language(
        name="ruby",
        module="tree_sitter_ruby",
        directive=r"(?i)^#!|coding[:=]|frozen[_-]string[_-]literal|warn[_-]indent"
        r"|shareable[_-]constant[_-]value|^#\s*typed:",
        exact=_set(
            "string heredoc_body regex subshell symbol_array string_array delimited_symbol uninterpreted"
            " character chained_string heredoc_beginning"
        ),
        commas=_set("array hash argument_list"),
        quotes={"string": "plain"},
    ),
    Language(
        name="php",
        module="tree_sitter_php",
        factory="language_php",
        directive=r"@[A-Z\\]|^#!|(?:^|[\s*/])@(?!(?:param|returns?|throws?|var|see|link|since|author|copyright"
        r"|license|package|subpackage|category|version|todo|inherit[dD]oc|phpstan|psalm|phpcs|property|method|mixin"
        r"|template|extends|implements|example|noinspection)\b)\w|(?m:^[\s/*#]*(?:(?:Template|Plugin|Theme|Block)"
        r" Name|Template Post Type|Slug|Title|Categories|Inserter|Text Domain|Network|Requires \w+)\s*:)",
        exact=_set("string encapsed_string heredoc nowdoc shell_command_expression text heredoc_body"),
        commas=_set("arguments array_creation_expression formal_parameters"),
        imports=_set("namespace_use_declaration"),
        quotes={"string": "plain", "encapsed_string": "plain"},
    ),
    Language(
        name="bash",
        ascii_scanner=True,
        module="tree_sitter_bash",
        directive=r"^#!|^#(?:SBATCH|PBS|BSUB|COBALT|OAR|MSUB|FLUX|PJM|DW|\$)[ \t:]|^#(?:compdef|autoload)\b"
        r"|^#\s*(?:chkconfig|processname|config|pidfile|Provides|(?:Required|Should|Default)-St\w+|X-[\w-]+)\s*:"
        r"|^### (?:BEGIN|END) INIT|^#\s*description:|^#\s*@(?:cmd|arg|option|flag|env|meta|alias|describe)\b",
        exact=_set("string raw_string ansi_c_string heredoc_body heredoc_redirect regex translated_string"),
        spaced=_set("*"),
        tight=frozenset((b";", b"\n", b";;")),
    ),
    Language(
        name="json",
        module="tree_sitter_json",
        directive=r"",  # strict readers refuse any comment
        exact=_set("string"),
    ),
    Language(
        name="yaml",
        module="tree_sitter_yaml",
        directive=r"^#!|^#(?:cloud-|include|part-handler|upstart-job)|^##?\s*template:|\{\{|\{%|renovate:",
        exact=_set("block_scalar double_quote_scalar single_quote_scalar plain_scalar string_scalar"),
        quotes={"double_quote_scalar": "yaml", "single_quote_scalar": "yaml", "block_scalar": "block"},
        commas=_set("flow_sequence flow_mapping"),
    ),
    Language(
        name="toml",
        module="tree_sitter_toml",
        exact=_set("string"),
        quotes={"string": "plain"},
    ),
    Language(
        name="html",
        module="tree_sitter_html",
        directive=r"^<!--\s*(\[|<!\[|ko\b|/ko\b|#|esi|/?wp:|build:|endbuild|inject:|endinject)|\{\{|\{%|<%|<\?",
        exact=_set("raw_text quoted_attribute_value attribute_value"),
        spaced=_set("*"),
    ),
    Language(
        name="css",
        module="tree_sitter_css",
        comments=_set("comment js_comment"),
        directive=r"autoprefixer|rtl:|purgecss|noflip|sourceMappingURL|@preserve",
        exact=_set("string_value"),
        spaced=_set("*"),
        tight=frozenset((b"{", b"}", b";", b":", b",", b">", b"~", b"!important")),
        semicolon=_set("declaration"),
        quotes={"string_value": "js"},
    ),
    Language(
        name="sql",
        module="tree_sitter_sql",
        extra=True,
        comments=_set("comment marginalia"),
        directive=r"^/\*[!+]|^--[^\s-]"  # MySQL: 5--3 is 8; changesets of liquibase
        r"|^(?:--|/\*)\s*(?:\+\s*\w|!?:?name\s*:|:name\b|record_class:|@|migrate:|changeset|rollback|precondition|liquibase)"
        r"|\{\{|\{%",
        exact=_set("literal identifier"),
    ),
    Language(
        name="julia",
        module="tree_sitter_julia",
        directive=r"^#!|^# [╔╟╠]",
        extra=True,
        comments=_set("line_comment block_comment"),
        exact=_set(
            "string_literal command_literal prefixed_string_literal prefixed_command_literal"
            " character_literal"
        ),
        spaced=_set(
            "vector_expression matrix_expression matrix_row macrocall_expression macro_argument_list"
            " comprehension_expression curly_expression"
        ),
    ),
)
BY_NAME = {language.name: language for language in LANGUAGES}
_JSON_WITH_COMMENTS = msgspec.structs.replace(BY_NAME["json"], directive=None)
_COMMENTED = re.compile(
    r"\.(?:jsonc|json5|code-workspace)\Z|(?:^|/)(?:[tj]sconfig[^/]*|tslint|biome|deno|devcontainer|turbo|angular|nx"
    r"|api-extractor|\.eslintrc|\.swcrc|\.babelrc|\.jshintrc)\.json\Z|(?:^|/)\.vscode/[^/]*\.json\Z"
    r"|(?:^|/)\.(?:eslintrc|swcrc|babelrc|jshintrc)\Z"
)

_SUFFIXES: dict[str, str] = {
    "python": "py pyi pyw",
    "javascript": "js jsx mjs cjs",
    "typescript": "ts mts cts",
    "tsx": "tsx",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "c": "c",
    "cpp": "cc cpp cxx hpp hh hxx h ipp c++ h++",
    "csharp": "cs",
    "ruby": "rb rake gemspec ru",
    "php": "php phtml",
    "bash": "sh bash",
    "json": "json",
    "yaml": "yml yaml",
    "toml": "toml",
    "html": "html htm",
    "css": "css",
    "sql": "sql",
    "julia": "jl",
}
_BY_SUFFIX = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_BY_FILE = {"Rakefile": "ruby", "Gemfile": "ruby", ".bashrc": "bash", ".profile": "bash"}
_SHEBANG = re.compile(rb"^#!.*?\b(python|node|ruby|php|bash|sh)\d*(?:\.\d+)*\b")
_BY_SHEBANG = {
    b"python": "python",
    b"node": "javascript",
    b"ruby": "ruby",
    b"php": "php",
    b"bash": "bash",
    b"sh": "bash",
}


def language_of(path: str, content: bytes = b"") -> Language | None:
    """The language of a file by its name, else by its first line; None if we have no grammar for it."""
    if _COMMENTED.search(path):
        return _JSON_WITH_COMMENTS
    name = path.rsplit("/", 1)[-1]
    found = _BY_FILE.get(name) or (_BY_SUFFIX.get(name.rsplit(".", 1)[-1].lower()) if "." in name else None)
    if found is None and "." not in name and content.startswith(b"#!"):
        match = _SHEBANG.match(content[:200].split(b"\n", 1)[0])
        found = _BY_SHEBANG[match[1]] if match else None
    return BY_NAME[found] if found else None


@lru_cache(maxsize=64)
def parser_of(name: str) -> Parser | None:
    """The parser of a language, made once; None when its wheel isn't installed."""
    language = BY_NAME[name]
    try:
        from tree_sitter import Language as Grammar
        from tree_sitter import Parser

        module = importlib.import_module(language.module)
    except ImportError:
        return None
    return Parser(Grammar(getattr(module, language.factory)()))
