"""What a tool does, told from its name and its arguments: tables of the vocabulary of real coding agents."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

ToolKind = Literal["read", "search", "edit", "shell", "web", "plan", "agent", "other"]

# Names as the agents write them, in lower case without "_", "-" and ".".
_NAMES: dict[ToolKind, str] = {
    "read": """read readfile readmanyfiles view viewimage viewfile cat open openfile notebookread ls list listdir
        listdirectory listfiles getfile fsread fileread listcodedefinitionnames readmcpresource
        readmcpresourcetool listmcpresources listmcpresourcestool listmcpresourcetemplates gitdiff""",
    "search": """grep glob search searchfiles codebasesearch filesearch grepsearch find findfile findfiles
        searchfilecontent ripgrep semanticsearch searchdir toolsearch lsp findbyname""",
    "edit": """edit multiedit write writefile create createfile strreplace strreplaceeditor
        strreplacebasededittool applypatch patch notebookedit replace replaceinfile insert writetofile applydiff
        editfile searchreplace inserteditintofile deletefile removefiles savefile texteditor fswrite undoedit
        insertcontent replacestringinfile editnotebook multireplacestringinfile""",
    "shell": """bash shell shellcommand execcommand localshell runterminalcmd runinterminal executecommand
        runshellcommand terminal execute containerexec exec unifiedexec writestdin bashoutput killshell killbash
        taskoutput taskstop python executebash executeipythoncell ipython runcommand codeexecution powershell
        bashcodeexecution codeinterpreter""",
    "web": """webfetch websearch websearchpreview fetch fetchwebpage googlewebsearch browser browseraction
        browse computer computeruse imagegeneration""",
    "plan": """todowrite todoread updateplan think exitplanmode enterplanmode plan managetodolist taskcreate
        taskupdate tasklist taskget attemptcompletion submit finish askuserquestion question askfollowupquestion
        requestuserinput savememory updatetodolist""",
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
    **dict.fromkeys(
        ["cat", "head", "tail", "ls", "tree", "nl", "wc", "file", "stat", "pwd", "less", "more", "bat", "diff", "du", "which", "echo"], "read"
    ),
    **dict.fromkeys(["grep", "rg", "ag", "ack", "find", "fd", "fgrep", "egrep", "zgrep", "locate"], "search"),
    **dict.fromkeys(["apply_patch", "applypatch", "patch", "tee", "touch", "mv", "cp", "rm", "mkdir", "ed"], "edit"),
}
_IN_PLACE = re.compile(
    r"\bsed\s+(?:-\w+\s+)*-i|\bperl\s+-\w*i|\bgit\s+apply\b|\bapply_patch\b|\*\*\* Begin Patch"
)
_HEREDOC_TO_FILE = re.compile(r"\b(?:cat|tee)\b[^|\n]{0,200}?(?:>|<<)[^|\n]{0,200}?(?:<<|>)")
_GIT_READ = re.compile(r"^git\s+(?:-\S+\s+)*(?:status|diff|log|show|blame|branch|rev-parse|ls-files)\b")
_GIT_SEARCH = re.compile(r"^git\s+(?:-\S+\s+)*grep\b")
_LEAD = re.compile(
    r"^(?:\s*(?:cd\s+[^;&|\n]+\s*(?:&&|;)|\w+=\S*\s|sudo\s|time\s|timeout\s+\S+\s|set\s+-\S+\s*;?))*\s*"
)
_TESTS = re.compile(
    r"\b(?:py\.?test|unittest|tox|nox|jest|vitest|mocha|ava|playwright test|cypress run|karma|go test|gotestsum"
    r"|cargo (?:\+\S+ )?(?:test|nextest)|rspec|phpunit|pest|ctest|(?:dotnet|swift|mix|deno|bun|bazel|flutter|dart) test"
    r"|(?:npm|yarn|pnpm|bun)(?: run)? (?:-\S+ )*test\S*|npm t|node --test|runtests?|manage\.py test"
    r"|(?:rake|rails) (?:test|spec)|make (?:-\S+ )*(?:\w+-)?(?:test|check)s?"
    r"|(?:mvnw?|gradlew?)\b[^\n|;&]*?\b\w*(?:test|verify|check)\w*)\b",
    re.IGNORECASE,
)
_PATCHED = re.compile(r"^\*\*\* (?:Update|Add|Delete) File: (.+?)\s*$|^\+\+\+ b/(\S+)", re.MULTILINE)

_COMMAND_CHARS = 2_000  # of a command; what follows is a heredoc's body
_MAX_PATHS = 64


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
    """One tool call, understood: what it does, to which files, and whether its output may hold test results."""

    kind: ToolKind
    paths: tuple[str, ...] = ()
    runs: bool = False  # it runs something: its output can be a test run's
    tests: bool = False  # its command says that it runs tests


@lru_cache(maxsize=4096)
def tool_kind(name: str) -> ToolKind:
    """What a tool of this name does; an MCP prefix is no part of the name."""
    plain = mcp_tail(name) if is_mcp(name) else name
    key = re.sub(r"[^a-z0-9]", "", plain[:200].lower())
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
    if kind not in ("edit", "shell", "read", "other"):
        return Action(kind)
    try:
        given = _arguments.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        given = _Arguments(input=arguments)
    if kind == "shell":
        return understand_command(_command(given))
    if kind == "edit":
        if given.command == "view":  # the text editor tools put reading and editing under one name
            return Action("read")
        return Action("edit", paths=_paths(given))
    return Action(kind, runs=kind == "other")


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
    head = command[:_COMMAND_CHARS]
    if _IN_PLACE.search(head) or (">" in head and "<<" in head and _HEREDOC_TO_FILE.search(head)):
        return Action(
            "edit", paths=patched_files(command) or _written_file(head), tests=bool(_TESTS.search(head))
        )
    if _TESTS.search(head):
        return Action("shell", runs=True, tests=True)
    first = _LEAD.sub("", head, count=1)
    if first.startswith("git "):
        kind: ToolKind = (
            "read" if _GIT_READ.match(first) else "search" if _GIT_SEARCH.match(first) else "shell"
        )
        return Action(kind, runs=False)
    words = first.split(None, 2)
    word = words[0].rsplit("/", 1)[-1] if words else ""
    if word == "sed":
        return Action("read")
    found = _COMMANDS.get(word, "shell")
    return Action(found, runs=found == "shell")


def patched_files(patch: str) -> tuple[str, ...]:
    """The files that a patch touches, in Codex's or in unified format; at most _MAX_PATHS."""
    if "*** " not in patch and "+++ " not in patch:
        return ()
    found = dict.fromkeys(m[1] or m[2] for m in _PATCHED.finditer(patch))
    return tuple(found)[:_MAX_PATHS]


def _written_file(command: str) -> tuple[str, ...]:
    """The file that a redirection or an in-place edit names, as well as one line of shell tells."""
    redirected = re.search(r">{1,2}\s*([^\s;&|<>]+)", command)
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
