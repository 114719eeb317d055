"""Edit tool calls to edits: Claude Code, Codex, OpenCode, Cline, Gemini, aider's blocks, str_replace."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from features.diffs.edits import (
    MAX_PATCH_BYTES,
    Edit,
    FileEdit,
    Insert,
    Locate,
    Op,
    Replace,
    Whole,
    as_bytes,
    clean_path,
    join,
)
from features.diffs.patches import parse_patch
from features.tools import edits_in_shell, tool_kind

Arguments = Mapping[str, Any]

_PATH = ("file_path", "filePath", "path", "filename", "file", "target_file", "notebook_path")
_OLD = ("old_string", "oldString", "old_str", "old_text", "search")
_NEW = ("new_string", "newString", "new_str", "new_text", "replace", "replacement", "insert_text")
_CONTENT = ("content", "contents", "file_text", "text", "code")
_YES_OR_NO = {"true": True, "false": False, "none": False}
_PATCH = ("input", "patch", "patchText", "diff", "cmd", "command")
_BYTES = re.compile("[\udc80-\udcff]")
_MARK = re.compile(rb"^[ \t]*(?:(<{5,9}) ?SEARCH>?|(={5,9})|(>{5,9}) ?REPLACE)[ \t]*\r?\n?\Z")
_DIFF = re.compile(rb"^(?:diff --git |--- .*\n\+\+\+ .*\n@@ -)", re.MULTILINE)
_BLOCK = re.compile(rb"^[ \t]*<{5,9} ?SEARCH>?[ \t]*\r?$", re.MULTILINE)
_OUTSIDE = re.compile(rb"^(?:<{5,9} ?SEARCH>?[ \t]*\r?$|\*\*\* Begin Patch)", re.MULTILINE)
_ENVELOPE = re.compile(
    rb"\*\*\* Begin Patch[^\n]*\n(.*?)(?:^[ \t]*\*\*\* End Patch|\Z)", re.DOTALL | re.MULTILINE
)


def edit_of_calls(calls: Iterable[tuple[str, str | bytes | Arguments]], root: str | None = None) -> Edit:
    """The edit made by tool calls in order: pairs of tool name and arguments (decoded, or their JSON).

    Calls of tools that don't edit are passed over; of one that does in a way that can't be read, the whole
    edit is a problem. `root` is the folder which absolute paths are relative to.
    """
    parts: list[FileEdit] = []
    for name, raw in calls:
        reader = _READERS.get(_plain(name))
        if reader is None:
            if tool_kind(name) == "edit":
                return Edit(problem=f"what the tool {name[:60]} edits can't be read")
            continue
        arguments = _decode(raw)
        if arguments is None:
            return Edit(problem=f"the arguments of {name} aren't a JSON object")
        part = reader(arguments, root)
        if part.problem and not part.files:
            return part
        parts += part.files
    return join(parts)


def edit_of_text(text: str | bytes, root: str | None = None) -> Edit:
    """The edit written in plain text: a Codex envelope, SEARCH/REPLACE blocks, else a unified diff."""
    data = as_bytes(text)
    if len(data) > MAX_PATCH_BYTES:
        return parse_patch(data)
    diff, envelope = _DIFF.search(data), data.find(b"*** Begin Patch")
    block = _BLOCK.search(data) if b"SEARCH" in data else None
    others = [at for at in (envelope, block.start() if block else -1) if at >= 0]
    if diff is not None and all(diff.start() < at for at in others):
        if _OUTSIDE.search(data, diff.start()):  # a line of a diff's hunk never begins like that
            return Edit(problem="a diff and an edit in another format in one text")
        return parse_patch(data)
    if envelope >= 0 and (block is None or envelope < block.start()):
        return _envelope(data, root)
    if block is not None and (blocks := _search_replace(data)):
        return _blocks(blocks, None, root)
    return _envelope(data, root) if envelope >= 0 else parse_patch(data)


def edit_of_tree(files: Mapping[str, bytes | None]) -> Edit:
    """The edit which leaves these contents (None = no such file)."""
    parts = []
    for name, content in files.items():
        path, problem = clean_path(name)
        parts.append(FileEdit(path=path, ops=(Whole(content),), problem=problem))
    return join(parts)


def _decode(raw: str | bytes | Arguments) -> Arguments | None:
    """Arguments as a mapping; None when they aren't one. A bare string is a patch (Codex's custom tool)."""
    if isinstance(raw, Mapping):
        return raw
    data = as_bytes(raw)
    if b"*** Begin Patch" in data and not data.lstrip().startswith(b"{"):
        return {"input": data.decode("utf-8", "surrogateescape")}
    try:
        decoded = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _plain(name: str) -> str:
    """A tool's name without its server and its spelling: `mcp__x__Edit_File` and `edit_file` are one."""
    return name.rsplit("__", 1)[-1].rsplit(".", 1)[-1].replace("_", "").replace("-", "").lower()


def _first(arguments: Arguments, keys: tuple[str, ...]) -> bytes | None:
    """The first of the keys that holds text."""
    for key in keys:
        value = arguments.get(key)
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape" if _escaped(value) else "surrogatepass")
    return None


def _escaped(text: str) -> bool:
    """Whether the text carries undecodable bytes as low surrogates."""
    return not text.isascii() and _BYTES.search(text) is not None


def _of(arguments: Arguments, root: str | None, *ops: Op, problem: str | None = None) -> Edit:
    """An edit of the one file that the arguments name."""
    path, bad = clean_path((_first(arguments, _PATH) or b"").decode("utf-8", "backslashreplace"), root)
    return Edit(files=(FileEdit(path=path, ops=ops, problem=bad or problem),))


def _replace(arguments: Arguments, root: str | None) -> Edit:
    """One text replaced by another."""
    if isinstance(arguments.get("edits"), list):
        return _many(arguments, root)
    for key in ("diff", "patch"):
        if isinstance(arguments.get(key), str):
            return _diff_argument(arguments, root)
    op = _replacement(arguments)
    if op is None:
        return _of(arguments, root, problem="an edit call without its old and new text, or odd arguments")
    return _of(arguments, root, op)


def _replacement(arguments: Arguments) -> Replace | None:
    """Old and new text of one replacement; None when one is missing or `replace_all` is odd."""
    old, new = _first(arguments, _OLD), _first(arguments, _NEW)
    every = _YES_OR_NO.get(str(arguments.get("replace_all", arguments.get("replaceAll"))).lower())
    if old is None or new is None or every is None:
        return None
    return Replace(old, new, every)


def _many(arguments: Arguments, root: str | None) -> Edit:
    """Several replacements in one file, in order."""
    ops = [_replacement(item) if isinstance(item, Mapping) else None for item in arguments["edits"]]
    found = [op for op in ops if op is not None]
    if not found or len(found) != len(ops):
        return _of(arguments, root, problem="a list of edits with an entry that can't be read")
    return _of(arguments, root, *found)


def _write(arguments: Arguments, root: str | None) -> Edit:
    """A whole file."""
    content = _first(arguments, _CONTENT)
    if content is None:
        return _of(arguments, root, problem="a write call without content")
    return _of(arguments, root, Whole(content))


def _editor(arguments: Arguments, root: str | None) -> Edit:
    """The str_replace editor, whose `command` says what is done."""
    command = arguments.get("command")
    if command == "create":
        return _write(arguments, root)
    if command == "str_replace":
        new = arguments.get("new_str")  # leaving it out deletes
        return _replace({**arguments, "new_str": "" if new is None else new}, root)
    if command == "insert":
        line, text = arguments.get("insert_line"), _first(arguments, _NEW)
        if not isinstance(line, int) or isinstance(line, bool) or text is None:
            return _of(arguments, root, problem="an insert call without its line or text")
        return _of(arguments, root, Insert(line, text))
    if command in ("view", "open", None):
        return Edit()
    return _of(arguments, root, problem=f"an editor command that can't be replayed: {str(command)[:40]}")


def _patch_call(arguments: Arguments, root: str | None) -> Edit:
    """A patch as an argument."""
    data = _first(arguments, _PATCH)
    return Edit(problem="a patch call without a patch") if data is None else edit_of_text(data, root)


def _shell(arguments: Arguments, root: str | None) -> Edit:
    """A shell call is read where it runs apply_patch with the patch inside it; other edits are a problem."""
    command = arguments.get("command", arguments.get("cmd"))
    words = [str(word) for word in command] if isinstance(command, list) else [str(command or "")]
    text = "\n".join(words)
    if ("apply_patch" in text or "applypatch" in text) and "*** Begin Patch" in text:
        return _envelope(text.encode("utf-8", "surrogatepass"), root)
    if edits_in_shell(text):
        return Edit(problem="a shell command that edits files, which can't be read")
    return Edit()


def _delete(arguments: Arguments, root: str | None) -> Edit:
    """A file taken away."""
    found = _of(arguments, root, Whole(None))
    gone = msgspec.structs.replace(found.files[0], notes=frozenset({"deleted"}))
    return Edit(files=(gone,))


def _diff_argument(arguments: Arguments, root: str | None) -> Edit:
    """SEARCH/REPLACE blocks or a diff in an argument, for the file the call names."""
    data = _first(arguments, ("diff", "patch")) or b""
    if blocks := _search_replace(data):
        path = (_first(arguments, _PATH) or b"").decode("utf-8", "backslashreplace")
        return _blocks(blocks, path, root)
    return edit_of_text(data, root)


def _search_replace(data: bytes) -> list[tuple[list[bytes], Replace]]:
    """Aider's SEARCH/REPLACE blocks, each with the lines above it since the last one; in one pass."""
    found: list[tuple[list[bytes], Replace]] = []
    parts: list[list[bytes]] = [[]]  # lines above, searched, put in their place
    for line in data.splitlines(keepends=True):
        mark = _MARK.match(line) if line.lstrip()[:1] in (b"<", b"=", b">") else None
        if (mark is not None and mark[1] and len(parts) == 1) or (
            mark is not None and mark[2] and len(parts) == 2
        ):
            parts.append([])
        elif mark is not None and mark[3] and len(parts) == 3:
            found.append((parts[0], Replace(b"".join(parts[1]), b"".join(parts[2]))))
            parts = [[]]
        else:
            parts[-1].append(line)
    return found


def _blocks(blocks: list[tuple[list[bytes], Replace]], path: str | None, root: str | None) -> Edit:
    """Blocks as an edit: the file's name stands on a line above each (or in the call)."""
    parts: list[FileEdit] = []
    name = path
    for above, op in blocks:
        if path is None:
            name = _name_above(above) or name
        clean, bad = clean_path(name or "", root)
        parts.append(FileEdit(path=clean, ops=(op,), problem=bad))
    return join(parts)


def _name_above(lines: list[bytes]) -> str | None:
    """The file name in the lines above a block: the last line that isn't a fence."""
    for line in (raw.decode("utf-8", "backslashreplace") for raw in reversed(lines[-4:])):
        bare = line.strip().lstrip("#").strip().strip("`*:").strip()
        if bare and not line.strip().startswith("```") and " " not in bare:
            return bare
    return None


def _envelope(data: bytes, root: str | None) -> Edit:
    """Codex's `*** Begin Patch` envelope."""
    match = _ENVELOPE.search(data)
    if match is None:
        return Edit(problem="an apply_patch envelope that can't be read")
    if b"*** End Patch" not in data:
        return Edit(problem="a truncated apply_patch envelope")
    parts: list[FileEdit] = []
    sections = re.split(rb"^\*\*\* (Add|Update|Delete) File: (.*)$", match[1], flags=re.MULTILINE)
    for action, raw, body in zip(sections[1::3], sections[2::3], sections[3::3], strict=True):
        path, bad = clean_path(raw.decode("utf-8", "backslashreplace"), root)
        parts.append(_section(action, path, body.removeprefix(b"\n"), root, bad))
    return join(parts) if parts else Edit(problem="an apply_patch envelope without files")


def _section(action: bytes, path: str, body: bytes, root: str | None, bad: str | None) -> FileEdit:
    """One file of the envelope."""
    if action == b"Delete":
        return FileEdit(path=path, ops=(Whole(None),), notes=frozenset({"deleted"}), problem=bad)
    if action == b"Add":
        content = b"".join(line[1:] for line in body.splitlines(keepends=True) if line.startswith(b"+"))
        return FileEdit(path=path, ops=(Whole(content),), notes=frozenset({"created"}), problem=bad)
    lines = body.splitlines(keepends=True)
    old_path: str | None = None
    if lines and lines[0].startswith(b"*** Move to: "):
        old_path, raw = path, lines.pop(0)[len(b"*** Move to: ") :]
        path, moved_bad = clean_path(raw.decode("utf-8", "backslashreplace"), root)
        bad = bad or moved_bad
    ops = _locates(lines)
    return FileEdit(
        path=path,
        old_path=old_path,
        ops=tuple(ops or ()),
        notes=frozenset({"renamed"} if old_path else ()),
        problem=bad or (None if ops is not None else "an apply_patch hunk that can't be read"),
    )


def _locates(lines: list[bytes]) -> list[Locate] | None:
    """The chunks of an update section; None if a line is neither context, removal nor addition."""
    chunks: list[tuple[list[bytes], list[tuple[bytes, bytes]], bool]] = []
    for line in lines:
        if line.startswith(b"@@"):
            anchor = line[2:].strip()
            if not chunks or chunks[-1][1]:
                chunks.append(([], [], False))
            chunks[-1][0].extend([anchor] if anchor else [])
        elif line.startswith(b"*** End of File"):
            if chunks:
                chunks[-1] = (chunks[-1][0], chunks[-1][1], True)
        elif line[:1] in (b" ", b"+", b"-") or not line.strip():
            chunks = chunks or [([], [], False)]
            chunks[-1][1].append((line[:1], line[1:]) if line.strip() else (b" ", line))
        else:
            return None
    return [
        Locate(
            tuple(anchors),
            tuple(text for op, text in body if op != b"+"),
            tuple(text for op, text in body if op != b"-"),
            at_end,
        )
        for anchors, body, at_end in chunks
        if body
    ]


_Reader = Callable[[Arguments, str | None], Edit]
_READERS: dict[str, _Reader] = {
    **dict.fromkeys(
        (
            *("edit", "multiedit", "editfile", "replace", "strreplace", "replaceinfile", "searchreplace"),
            "replacestringinfile",
        ),
        _replace,
    ),
    **dict.fromkeys(("write", "writefile", "writetofile", "createfile", "createnewfile"), _write),
    **dict.fromkeys(("deletefile", "removefile"), _delete),
    **dict.fromkeys(("strreplaceeditor", "strreplacebasededittool", "texteditor"), _editor),
    **dict.fromkeys(("applypatch", "patch", "applydiff"), _patch_call),
    **dict.fromkeys(
        (
            *("shell", "bash", "exec", "execcommand", "localshell", "shellcommand", "runshellcommand"),
            *("runterminalcmd", "runinterminal", "executecommand", "runcommand", "terminal"),
        ),
        _shell,
    ),
    "notebookedit": lambda arguments, root: _of(arguments, root, problem="a notebook edit"),
}
