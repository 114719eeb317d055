"""Shell commands that write files: tables of editors, formatters and fixers, and of calls in given programs.

What merely reads, builds or tests isn't here, and a script of an unknown name counts as something that runs.
"""

from __future__ import annotations

import re

# Programs that write files, where a command may start.
_WRITERS = re.compile(
    r"(?:^|[;&|\n(`]|[ \t]-\w*c[ \t]+['\"])[ \t]*"
    r"(?:\w+=\S{0,200}[ \t]+|(?:sudo|time|env|xargs|nice)[ \t]+(?:-\S+[ \t]+)*|timeout[ \t]+\S+[ \t]+"
    r"|(?:uv|poetry|pipenv|hatch|pdm|rye)[ \t]+run[ \t]+|uvx[ \t]+|pipx[ \t]+run[ \t]+"
    r"|(?:npx|bunx|pnpm[ \t]+exec|yarn[ \t]+exec|bundle[ \t]+exec)[ \t]+(?:--?\w+[ \t]+)*"
    r"|python[\d.]*[ \t]+-m[ \t]+)*"
    r"(?:\S{0,200}/)?(?:"
    r"(?:ed|ex)[ \t]+(?:-\S+[ \t]+)*[\w./~$-]|truncate[ \t]|dd[ \t][^\n;|&]{0,300}?\bof=(?!/dev/)"
    r"|(?:ruby|perl)[ \t]+(?:-\S+[ \t]+)*-\w*i|g?awk[ \t][^\n;|&]{0,100}?-i[ \t]*inplace|sponge\b"
    r"|(?:ln|install|rsync|unlink|shred)[ \t]|vim?[ \t]+(?:-\S+[ \t]+)*-(?:c|es)"
    r"|(?:black|isort)\b(?![^\n;|&]{0,300}?--(?:check|diff|version|help))"
    r"|(?:autopep8|yapf|autoflake|clang-format|shfmt|gofmt|goimports|nbstripout)\b"
    r"(?=[^\n;|&]{0,300}?[ \t](?:-[a-z]*[iw]\b|--in-?place))"
    r"|(?:pyupgrade|2to3|futurize|codemod|jscodeshift|comby|ast-grep)[ \t]"
    r"|ruff[ \t]+format\b(?![^\n;|&]{0,300}?--(?:check|diff))"
    r"|(?:ruff|eslint|biome|rubocop|stylelint|clippy|php-cs-fixer|pre-commit|standard|rome|oxlint"
    r"|(?:npm|yarn|pnpm|bun)[ \t]+(?:run[ \t]+)?[\w:-]+|cargo[ \t]+clippy)"
    r"(?=[^\n;|&]{0,300}?[ \t](?:--fix|--write|--apply|-[aA]\b|--auto-?correct))"
    r"|php-cs-fixer[ \t]+fix|pre-commit[ \t]+run|rustfmt\b(?![^\n;|&]{0,300}?--check)"
    r"|(?:cargo|mix|dart|deno|terraform|zig|swift|dotnet)[ \t]+(?:fmt|format)\b"
    r"(?![^\n;|&]{0,300}?-(?:-check|-verify|check))|cargo[ \t]+fix\b|go[ \t]+(?:fmt|generate)\b"
    r"|go[ \t]+fix\b|go[ \t]+mod[ \t]+tidy"
    r"|prettier\b(?=[^\n;|&]{0,300}?[ \t](?:-w\b|--write))"
    r"|(?:npm|yarn|pnpm|bun)[ \t]+(?:run[ \t]+)?(?:format|fmt|lint:fix|fix)(?![\w:-])"
    r"|make[ \t]+(?:fmt|format|fix)\b"
    r"|(?:python[\d.]*|node|ruby|perl|bash|sh|tsx)[ \t]+(?!\S{0,200}test)(?:\S{0,200}[/_.-])?"
    r"(?:fix|patch|format|edit|rewrite|replace|migrate|codemod|refactor)[\w-]*\.(?:py|js|mjs|cjs|ts|rb|pl|sh)\b"
    r")"
)
# An interpreter that is handed its program, and calls in it that write.
_PROGRAM = re.compile(
    r"\b(?:python[\d.]*|node|ruby|perl|php|deno|bun|tsx)\b[^\n]{0,200}?"
    r"(?:<<|[ \t]-\w*[ceEr]\b|[ \t]-[ \t\n]|[ \t]-$|eval)"
)
_WRITING = re.compile(
    r"\bopen\([^\n]{0,300}?,\s*(?:mode\s*=\s*)?[rbf]?['\"][rbt]*[wax+]|\.open\(\s*(?:mode\s*=\s*)?['\"][rbt]*[wax+]"
    r"|write_(?:text|bytes)\(|[wW]riteFile(?:Sync)?\b|appendFile|createWriteStream|writeTextFile|File\.write|IO\.write"
    r"|File\.open\([^\n]{0,200}?['\"][wa]|file_put_contents|fileinput\.|inplace\s*="
    r"|(?:os|fs|shutil|FileUtils|File)\.(?:rename|replace|remove|unlink|rmtree|move|copy\w*|symlink|link|truncate|rm|cp|mv)"
    r"|\.(?:unlink|rename|touch|symlink_to|rmdir)\(|Bun\.write"
)


def runs_writer(command: str) -> bool:
    """Whether a command starts a program that writes files, or hands an interpreter one that does."""
    if _WRITERS.search(command):
        return True
    return _PROGRAM.search(command) is not None and _WRITING.search(command) is not None
