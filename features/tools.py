"""What a tool does, told from its name and its arguments: tables of the vocabulary of real coding agents."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from features.shellwriters import runs_writer

ToolKind = Literal["read", "search", "edit", "shell", "web", "plan", "agent", "other"]

# Names as the agents write them, in lower case without "_", "-" and ".".
_NAMES: dict[ToolKind, str] = {
    "read": """read readfile readmanyfiles view viewimage viewfile cat open openfile notebookread ls list
        listdir listdirectory listfiles getfile fsread fileread listcodedefinitionnames readmcpresource
        readmcpresourcetool listmcpresources listmcpresourcestool listmcpresourcetemplates gitdiff""",
    "search": """grep glob search searchfiles codebasesearch filesearch grepsearch find findfile findfiles
        searchfilecontent ripgrep semanticsearch searchdir toolsearch lsp findbyname""",
    "edit": """edit multiedit write writefile create createfile strreplace strreplaceeditor
        strreplacebasededittool applypatch patch notebookedit replace replaceinfile insert writetofile
        applydiff editfile searchreplace inserteditintofile deletefile removefiles savefile
        texteditor fswrite undoedit
        insertcontent replacestringinfile editnotebook multireplacestringinfile""",
    "shell": """bash shell shellcommand execcommand localshell runterminalcmd runinterminal executecommand
        runshellcommand terminal execute containerexec exec unifiedexec writestdin bashoutput killshell
        killbash taskoutput taskstop python executebash executeipythoncell ipython runcommand codeexecution
        powershell
        bashcodeexecution codeinterpreter""",
    "web": """webfetch websearch websearchpreview fetch fetchwebpage googlewebsearch browser browseraction
        browse computer computeruse imagegeneration""",
    "plan": """todowrite todoread updateplan think exitplanmode enterplanmode plan managetodolist taskcreate
        taskupdate tasklist taskget attemptcompletion submit finish askuserquestion question
        askfollowupquestion requestuserinput savememory updatetodolist""",
    "agent": """task agent spawnagent sendinput waitagent closeagent resumeagent subagent runsubagent
        dispatchagent newtask skill useskill delegate""",
}
_EXACT: dict[str, ToolKind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}

# For names nobody has listed: the first word found in the name decides, so the order matters.
_WORDS: tuple[tuple[str, ToolKind], ...] = (
    ("todo", "plan"),
    ("plan", "plan"),
    ("agent", "agent"),
    ("patch", "edit"),
    ("edit", "edit"),
    ("replace", "edit"),
    ("write", "edit"),
    ("createfile", "edit"),
    ("deletefile", "edit"),
    ("browser", "web"),
    ("web", "web"),
    ("fetchurl", "web"),
    ("grep", "search"),
    ("search", "search"),
    ("glob", "search"),
    ("findfile", "search"),
    ("bash", "shell"),
    ("shell", "shell"),
    ("terminal", "shell"),
    ("command", "shell"),
    ("exec", "shell"),
    ("read", "read"),
    ("view", "read"),
    ("listdir", "read"),
    ("listfile", "read"),
    ("openfile", "read"),
)

# What the first word of a shell command does; whatever isn't listed just runs.
_COMMANDS: dict[str, ToolKind] = {
    "cat": "read",
    "head": "read",
    "tail": "read",
    "ls": "read",
    "tree": "read",
    "nl": "read",
    "wc": "read",
    "file": "read",
    "stat": "read",
    "pwd": "read",
    "less": "read",
    "diff": "read",
    "sed": "read",  # in place it edits, which is looked for first
    "awk": "read",
    "jq": "read",
    "which": "read",
    "echo": "read",
    "grep": "search",
    "rg": "search",
    "ag": "search",
    "ack": "search",
    "find": "search",
    "fd": "search",
    "fgrep": "search",
    "egrep": "search",
    "apply_patch": "edit",
    "applypatch": "edit",
    "patch": "edit",
    "tee": "edit",
    "touch": "edit",
    "mv": "edit",
    "cp": "edit",
    "rm": "edit",
    "mkdir": "edit",
}
_GIT: dict[str, ToolKind] = {
    **dict.fromkeys(("status", "diff", "log", "show", "blame", "branch", "rev-parse", "ls-files"), "read"),
    "grep": "search",
    "apply": "edit",
}
_GIT_EDITS = frozenset(
    (
        *("am", "apply", "checkout", "cherry-pick", "clean", "merge", "mv", "pull", "rebase"),
        *("reset", "restore", "revert", "rm", "stash", "switch"),
    )
)
NAME_CHARS = 200  # of a tool's name that are looked at, and remembered
_PARTS = re.compile(r"&&|\|\||[;|\n]")
_GIT_VERB = re.compile(r"\bgit[ \t]+(?:(?:-[cC][ \t]+\S+|-\S+)[ \t]+)*([a-z]\S*)")
_IN_PLACE = re.compile(r"\bsed\s+(?:-\w+\s+)*-\w*i|\bperl\s+-\w*i|\bapply_patch\b|\*\*\* Begin Patch")
_TO_FILE = re.compile(
    r"(?:^|[;&\n]\s*)(?:cat|echo|printf|tee)\b[^|\n]{0,400}?(?<![0-9&<>])>{1,2}\s*(?!/dev/|&|>)"
)
_LEAD = re.compile(
    r"(?:\s*(?:cd\s+[^;&|\n]{1,300}(?:&&|;|\n)|\w+=\S{0,200}\s|(?:sudo|time|nice|env)\s"
    r"|timeout\s+\S+\s|set\s+-\S+\s*;?))*\s*"
)
# A test runner where a command may start: after a separator, behind wrappers and a path.
_TESTS = re.compile(
    r"(?:^|[;&|\n(])[ \t]*"
    r"(?:\w+=\S{0,200}[ \t]+|(?:sudo|time|env)[ \t]+|timeout[ \t]+\S+[ \t]+"
    r"|(?:uv|poetry|pipenv|hatch|pdm|rye)[ \t]+run[ \t]+"
    r"|(?:npx|bunx|pnpm[ \t]+exec|yarn[ \t]+exec|bundle[ \t]+exec)[ \t]+|python[\d.]*[ \t]+-m[ \t]+)*"
    r"(?:\S{0,200}/)?(?:"
    r"py\.?test|unittest|tox|nox|nose2|jest|vitest|mocha|ava|karma|gotestsum|rspec|phpunit|pest|ctest"
    r"|runtests?"
    r"|(?:playwright|dotnet|swift|mix|deno|bun|bazel|flutter|dart|go|rails|rake)[ \t]+(?:test|spec)"
    r"|cargo[ \t]+(?:\+\S+[ \t]+)?(?:test|nextest|t\b)|node[ \t]+--test|npm[ \t]+t\b"
    r"|(?:npm|yarn|pnpm|bun)[ \t]+(?:run[ \t]+)?(?:-\S+[ \t]+)*test"
    r"|make[ \t]+(?:-\S+[ \t]+)*(?:\w+-)?(?:test|check)"
    r"|(?:mvnw?|gradlew?)[ \t][^\n|;&]{0,200}?(?:test|verify|check)"
    r"|(?:python[\d.]*|node|ruby|php|bash|sh|deno[ \t]+run|tsx|ts-node)[ \t]+(?:-\S+[ \t]+)*"
    r"(?:\S{0,200}[/_.-])?tests?[._]\S"
    r"|python[\d.]*[ \t]+\S{0,200}manage\.py[ \t]+test"
    r")",
    re.IGNORECASE,
)
_TARGET = re.compile(r"(?<![0-9&<>])>{1,2}\s*([^\s;&|<>]+)")
_PIPE = re.compile(r"(?<!\|)\|(?!\|)")
_PATCHED = re.compile(r"^\*\*\* (?:Update|Add|Delete) File: (.+?)\s*$|^\+\+\+ b/(\S+)", re.MULTILINE)

_COMMAND_CHARS = 2_000  # of a command; what follows is a heredoc's body
_MAX_PATHS = 64
_SHORT = 400  # characters of a command that comes again, as those do that look around and run the tests
_KEPT = 1_024  # of them remembered


class _Arguments(msgspec.Struct):
    """The arguments by which agents name a command, a file or a patch."""

    command: Any = None
    cmd: Any = None
    commands: Any = None
    script: Any = None
    file_path: Any = None
    path: Any = None
    filePath: Any = None  # noqa: N815 — as OpenCode spells it
    filename: Any = None
    notebook_path: Any = None
    target_file: Any = None
    absolute_path: Any = None
    file: Any = None
    input: Any = None
    patch: Any = None
    patchText: Any = None  # noqa: N815 — as OpenCode spells it
    diff: Any = None


_arguments = msgspec.json.Decoder(_Arguments)


class Action(NamedTuple):
    """One tool call, understood: what it does, to which files, and what its output may hold."""

    kind: ToolKind
    paths: tuple[str, ...] = ()
    runs: bool = False  # it runs something: its output can be a test run's
    tests: bool = False  # its command says that it runs tests
    in_shell: bool = False  # it went through a shell, whose result may tell an exit code
    piped: bool = False  # through a filter, whose exit code hides the runner's


_TOLD_BY_NAME = {kind: Action(kind, runs=kind == "other") for kind in get_args(ToolKind)}


def tool_kind(name: str) -> ToolKind:
    """What a tool of this name does; an MCP prefix is no part of the name."""
    return _kind(name[:NAME_CHARS])


@lru_cache(maxsize=4096)
def _kind(name: str) -> ToolKind:
    plain = mcp_tail(name) if is_mcp(name) else name
    key = re.sub(r"[^a-z0-9]", "", plain.lower())
    return _EXACT.get(key) or _by_word(key)


def _by_word(key: str) -> ToolKind:
    for word, kind in _WORDS:
        if word in key:
            return kind
    return "other"


def is_mcp(name: str) -> bool:
    """Whether the tool comes from an MCP server, by the prefixes that clients give them."""
    return name.startswith(("mcp__", "mcp_", "mcp-")) or name == "mcp"


def mcp_tail(name: str) -> str:
    """The tool's own name without its server's."""
    return name.rsplit("__", 1)[-1] if "__" in name else name.removeprefix("mcp_").removeprefix("mcp-")


def understand(name: str, arguments: str) -> Action:
    """A tool call's name and arguments (JSON, or bare text for freeform tools) -> what it does."""
    kind = tool_kind(name)
    if kind != "shell" and kind != "edit":
        return _TOLD_BY_NAME[kind]
    try:
        given = _arguments.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        given = _Arguments(input=arguments)
    if kind == "shell":
        return understand_command(_command(given))
    if given.command == "view":  # the text editor tools put reading and editing under one name
        return _TOLD_BY_NAME["read"]
    return Action("edit", paths=_paths(given))


def _command(given: _Arguments) -> str:
    """The command as one string; of `["bash", "-lc", "…"]` the script itself."""
    for value in (given.command, given.cmd, given.commands, given.script, given.input):
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value:
            words = [word for word in value if isinstance(word, str)]
            shell = len(words) > 2 and words[0].endswith("sh") and words[1].startswith("-")
            return words[-1] if shell else " ".join(words)
    return ""


def understand_command(command: str) -> Action:
    """A shell command -> what it does: agents that have nothing but a shell read, search and edit with it."""
    return _understood(command) if len(command) <= _SHORT else _understood.__wrapped__(command)


@lru_cache(maxsize=_KEPT)
def _understood(command: str) -> Action:
    head = command[:_COMMAND_CHARS]
    if _TESTS.search(head):
        return Action("shell", runs=True, in_shell=True, tests=True, piped=_PIPE.search(head) is not None)
    if _IN_PLACE.search(head) or (">" in head and _TO_FILE.search(head)):
        return Action("edit", in_shell=True, paths=patched_files(command) or _written_file(head))
    lead = _LEAD.match(head)
    words = head[lead.end() if lead else 0 :].split(None, 1)
    word = words[0].rsplit("/", 1)[-1] if words else ""
    if word == "git":
        verb = _GIT_VERB.search(head)
        kind = _GIT.get(verb[1] if verb else "", "shell")
        return Action(kind, runs=kind == "shell", in_shell=True)
    found = _COMMANDS.get(word, "shell")
    return Action(found, runs=found == "shell", in_shell=True)


def edits_in_shell(command: str) -> bool:
    """Whether any part of a shell command changes files, as far as its words tell."""
    return _edits(command) if len(command) <= _SHORT else _edits.__wrapped__(command)


@lru_cache(maxsize=_KEPT)
def _edits(command: str) -> bool:
    if _IN_PLACE.search(command) or (">" in command and _TO_FILE.search(command)):
        return True
    if runs_writer(command):
        return True
    for part in _PARTS.split(command):
        lead = _LEAD.match(part)
        words = part[lead.end() if lead else 0 :].split(None, 1)
        word = words[0].rsplit("/", 1)[-1] if words else ""
        verb = _GIT_VERB.search(part) if word == "git" else None
        if word != "mkdir" and _COMMANDS.get(word) == "edit":
            return True
        if verb is not None and verb[1] in _GIT_EDITS:
            return True
    return False


def patched_files(patch: str) -> tuple[str, ...]:
    """The files that a patch touches, in Codex's or in unified format; at most _MAX_PATHS."""
    if "*** " not in patch and "+++ " not in patch:
        return ()
    found = dict.fromkeys(m[1] or m[2] for m in _PATCHED.finditer(patch))
    return tuple(found)[:_MAX_PATHS]


def _written_file(command: str) -> tuple[str, ...]:
    """The file that a redirection or an in-place edit names, as well as one line of shell tells."""
    redirected = _TARGET.search(command)
    if redirected:
        return (redirected[1].strip("'\""),)
    last = command.split("\n", 1)[0].split()
    return (last[-1].strip("'\""),) if last else ()


def _paths(given: _Arguments) -> tuple[str, ...]:
    for value in (
        given.file_path,
        given.path,
        given.filePath,
        given.target_file,
        given.notebook_path,
        given.filename,
        given.absolute_path,
        given.file,
    ):
        if isinstance(value, str) and value:
            return (value,)
    for value in (given.input, given.patch, given.patchText, given.diff):
        if isinstance(value, str) and (found := patched_files(value)):
            return found
    return ()
