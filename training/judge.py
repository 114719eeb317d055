"""`samediff diff`: one pair of patches, files or folders, or a table of pairs on all cores; shown.

The judging itself is pure and lives in features.diffs; here files are read and results shown.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from features.diffs.calls import edit_of_calls, edit_of_text, edit_of_tree
from features.diffs.edits import MAX_PATCH_BYTES, Edit
from features.diffs.judge import judge
from features.diffs.postimage import MAX_FILE_BYTES
from features.diffs.verdicts import ORDER, FileVerdict, Verdict
from features.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rich.console import RenderableType

CHUNK = 64  # pairs handed to a process at a time
INLINE = 200  # fewer pairs aren't worth a second process
_SKIPPED_FOLDERS = frozenset((".git", ".hg", "node_modules", "__pycache__", ".venv"))

Pair = tuple[str | None, str | None, str | None]


class JudgedPairs(msgspec.Struct, frozen=True, kw_only=True):
    """The machine-readable result: a verdict per pair in the order of the rows, and the counts."""

    pairs: list[Verdict]
    summary: dict[str, Any]


def run(
    a: Path, b: Path, base: Path | None = None, *, set_aside: bool = True, root: str | None = None
) -> JudgedPairs:
    """The verdict on two patches, two lists of tool calls (JSON), two files or two folders.

    `root` is the folder that absolute paths in patches and calls are relative to.
    """
    for path in (a, b, *([base] if base else [])):
        if not path.exists():
            raise BadInput(f"{path}: no such file or folder")
    if a.is_dir() != b.is_dir():
        raise BadInput(f"{a} and {b}: compare two folders or two files, not one of each")
    if a.is_dir():
        edit_a, edit_b = _trees(a, b)
    else:
        edit_a, edit_b = _files(a, b, root)
    files = _base_files(base, edit_a, edit_b) if base is not None else None
    return collect([judge(edit_a, edit_b, files, set_aside=set_aside)])


def run_pairs(table: Path, *, set_aside: bool = True, processes: int | None = None) -> JudgedPairs:
    """Verdicts on the rows of a Parquet or CSV table with `patch_a`, `patch_b` and optionally `base`.

    `base` is a JSON object of path to content, or the content of the only file that the patches touch.
    """
    from training.progress import Progress

    pairs = _read_pairs(table)
    workers = processes or os.cpu_count() or 1
    chunks = [(pairs[at : at + CHUNK], set_aside) for at in range(0, len(pairs), CHUNK)]
    verdicts: list[Verdict] = []
    with Progress("judging", total=len(pairs)) as progress:
        for done in _judged(chunks, workers if len(pairs) > INLINE else 1):
            verdicts += done
            progress.advance(len(done))
    return collect(verdicts)


def _judged(chunks: list[tuple[list[Pair], bool]], workers: int) -> Iterator[list[Verdict]]:
    """Verdicts chunk by chunk, in order."""
    if workers == 1:
        yield from map(_judge_chunk, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_judge_chunk, chunks)


def _judge_chunk(chunk: tuple[list[Pair], bool]) -> list[Verdict]:
    """Verdicts on some pairs, in order."""
    pairs, set_aside = chunk
    return [judge_pair(*pair, set_aside=set_aside) for pair in pairs]


def judge_pair(a: str | None, b: str | None, base: str | None = None, *, set_aside: bool = True) -> Verdict:
    """The verdict on two patches as text; a missing one is *unknown*."""
    if a is None or b is None:
        return Verdict(level="unknown", reason=f"{'A' if a is None else 'B'}: no patch in this row")
    edit_a, edit_b = edit_of_text(a), edit_of_text(b)
    return judge(edit_a, edit_b, _base_of_row(base, edit_a, edit_b), set_aside=set_aside)


def _base_of_row(base: str | None, a: Edit, b: Edit) -> dict[str, bytes] | None:
    """The base files of one row, by path; None when they aren't known."""
    if base is None:
        return None
    paths = {file.old_path or file.path for edit in (a, b) for file in edit.files}
    if base.lstrip().startswith("{"):
        try:
            found = msgspec.json.decode(base, type=dict[str, str])
        except msgspec.MsgspecError:
            found = None
        if found is not None and not (len(paths) == 1 and paths.isdisjoint(found)):
            return {path: text.encode("utf-8", "surrogatepass") for path, text in found.items()}
    if len(paths) == 1:
        return {paths.pop(): base.encode("utf-8", "surrogatepass")}
    return None


def collect(verdicts: list[Verdict]) -> JudgedPairs:
    """Verdicts with their counts."""
    levels = Counter(verdict.level for verdict in verdicts)
    reasons = Counter(_bare(verdict.reason) for verdict in verdicts if verdict.level == "unknown")
    same = sum(verdict.same for verdict in verdicts)
    return JudgedPairs(
        pairs=verdicts,
        summary={
            "pairs": len(verdicts),
            "levels": {level: levels[level] for level in ORDER},
            "same": same,
            "same_share": same / len(verdicts) if verdicts else None,
            "weak": sum(verdict.weak for verdict in verdicts),
            "files_set_aside": sum(file.set_aside for verdict in verdicts for file in verdict.files),
            "unknown_reasons": dict(reasons.most_common(10)),
        },
    )


def _bare(reason: str | None) -> str:
    """A reason without the file it is about."""
    return (reason or "").split(": ")[-1]


def _read_pairs(table: Path) -> list[Pair]:
    """The rows of a table of pairs. Raises BadInput naming the file and the missing column."""
    try:
        import polars as pl
    except ImportError:
        raise MissingExtra("polars", "train") from None
    if not table.exists():
        raise BadInput(f"{table}: no such file")
    try:
        frame = pl.read_csv(table, infer_schema=False) if table.suffix == ".csv" else pl.read_parquet(table)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{table}: not a table that can be read ({str(error).splitlines()[0]})") from None
    for column in ("patch_a", "patch_b"):
        if column not in frame.columns:
            raise BadInput(f"{table}: no column {column}; it has {', '.join(frame.columns[:8])}")
    base = pl.col("base") if "base" in frame.columns else pl.lit(None, dtype=pl.String).alias("base")
    try:
        rows = frame.select(
            pl.col("patch_a").cast(pl.String), pl.col("patch_b").cast(pl.String), base.cast(pl.String)
        )
    except pl.exceptions.PolarsError:
        raise BadInput(f"{table}: patch_a, patch_b and base must be text") from None
    return rows.rows()


def _read(path: Path) -> bytes:
    """A file's or an open pipe's bytes, if there aren't too many."""
    if path.is_fifo():
        return _read_pipe(path)
    if not path.is_file():
        raise BadInput(f"{path}: not a file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BadInput(
            f"{path}: larger than {MAX_FILE_BYTES >> 20} MB; nothing that size is a diff to review"
        )
    return path.read_bytes()


def _read_pipe(path: Path) -> bytes:
    """What comes through a pipe that the shell opened; a named one might wait for ever."""
    if not str(path).startswith(("/dev/fd/", "/proc/")):
        raise BadInput(f"{path}: a named pipe; give a file, or <(COMMAND)")
    with path.open("rb") as pipe:
        data = pipe.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise BadInput(f"{path}: more than {MAX_FILE_BYTES >> 20} MB")
    return data


def _files(a: Path, b: Path, root: str | None) -> tuple[Edit, Edit]:
    """Two files as edits: as patches if both are, else as contents of one file. Each is read once."""
    data_a, data_b = _read(a), _read(b)
    patch_a, patch_b = _edit_of_file(a, data_a, root), _edit_of_file(b, data_b, root)
    if patch_a is not None and patch_b is not None:
        return patch_a, patch_b
    for path, patch in ((a, patch_a), (b, patch_b)):
        if patch is not None and path.suffix in (".diff", ".patch"):
            raise BadInput(f"{path} is a patch and the other isn't: give two patches, or two files")
    name = a.name if not a.is_fifo() else b.name if not b.is_fifo() else "file"
    return edit_of_tree({name: data_a}), edit_of_tree({name: data_b})


def _edit_of_file(path: Path, data: bytes, root: str | None) -> Edit | None:
    """The edit a file describes, as a patch or as tool calls; None if it is just a file."""
    if len(data) > MAX_PATCH_BYTES:
        return Edit(problem=f"a file over the limit of {MAX_PATCH_BYTES >> 20} MB")
    if path.suffix in (".json", ".jsonl") and (calls := _tool_calls(data)) is not None:
        return edit_of_calls(calls, root)
    if not data.strip() and path.suffix in (".diff", ".patch", ""):
        return Edit()
    edit = edit_of_text(data, root)
    return None if edit.problem == "no diff found in the text" or not data.strip() else edit


def _tool_calls(data: bytes) -> list[tuple[str, str | Mapping[str, Any]]] | None:
    """Tool calls of a JSON list or of JSON lines: objects with `name` and `input` or `arguments`.

    Those of Chat Completions have both within `function`. Anything else is data.
    """
    try:
        whole = data.lstrip().startswith(b"[")
        items = msgspec.json.decode(data) if whole else msgspec.json.Decoder().decode_lines(data)
    except msgspec.DecodeError:
        return None
    calls: list[tuple[str, str | Mapping[str, Any]]] = []
    for item in items if isinstance(items, list) else []:
        call = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return None
        arguments = call.get("input", call.get("arguments"))
        if not isinstance(arguments, dict | str):
            return None
        calls.append((call["name"], arguments))
    return calls or None


def _trees(a: Path, b: Path) -> tuple[Edit, Edit]:
    """The files in which two folders differ, as two edits."""
    names = sorted({*_files_below(a), *_files_below(b)})
    left: dict[str, bytes | None] = {}
    right: dict[str, bytes | None] = {}
    for name in names:
        one, other = (_read(root / name) if (root / name).is_file() else None for root in (a, b))
        if one != other:
            left[name], right[name] = one, other
    return edit_of_tree(left), edit_of_tree(right)


def _files_below(root: Path) -> Iterator[str]:
    """Relative paths of the files of a folder, without version control and installed packages."""
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in _SKIPPED_FOLDERS]
        for name in files:
            yield (Path(folder) / name).relative_to(root).as_posix()


def _base_files(base: Path, a: Edit, b: Edit) -> dict[str, bytes]:
    """The files of the base folder (or the one base file) which the edits touch."""
    paths = {file.old_path or file.path for edit in (a, b) for file in edit.files}
    if base.is_file():
        if len(paths) > 1:
            raise BadInput(f"{base}: one base file, but the patches touch {len(paths)}; give the folder")
        return {path: _read(base) for path in paths}
    root = base.resolve()
    found = {path: (root / path).resolve() for path in paths}
    return {path: _read(at) for path, at in found.items() if at.is_relative_to(root) and at.is_file()}


_WORDS = {
    "L0": ("same", "green", "byte for byte"),
    "L1": ("same", "green", "but for white space, line ends and the order of imports"),
    "L2": ("same", "green", "but for comments, docstrings, layout, quotes and names of locals"),
    "L3": ("similar", "yellow", "the same symbols are edited, differently"),
    "different": ("different", "red", "other changes"),
    "unknown": ("unknown", "magenta", "can't be judged"),
}


def render(result: JudgedPairs) -> Iterable[RenderableType]:
    """One pair the way a reviewer reads it, or the table of a bulk run."""
    if len(result.pairs) != 1:
        yield _summary_table(result.summary)
        return
    verdict = result.pairs[0]
    word, colour, meaning = _WORDS[verdict.level]
    from rich.markup import escape

    similar = "" if verdict.similarity is None or verdict.same else f" · similarity {verdict.similarity:.2f}"
    if not any(not file.set_aside for file in verdict.files):
        meaning = ""
    level = "" if word == verdict.level else f" ({verdict.level})"
    yield f"[bold {colour}]{word}[/]{level}{': ' if meaning else ''}{meaning}{similar}"
    if verdict.reason:
        yield f"because {escape(verdict.reason)}"
    if verdict.weak:
        yield "[dim]weaker: without --base FOLDER only the lines in the patches were compared[/]"
    yield _file_table(verdict.files)
    for file in verdict.files:
        if file.first_difference is not None and not file.set_aside:
            yield _side_by_side(file)
            return


def _file_table(files: list[FileVerdict]) -> RenderableType:
    """A row per file."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("file", "level", "similarity", "note")
    for file in files:
        notes = [f"{file.role}, set aside"] if file.set_aside else []
        notes += [file.reason] if file.reason else []
        colour = "dim" if file.set_aside else _WORDS[file.level][1]
        shown = "" if file.similarity is None else f"{file.similarity:.2f}"
        table.add_row(escape(file.path), f"[{colour}]{file.level}[/]", shown, escape("; ".join(notes)))
    return table


def _side_by_side(file: FileVerdict) -> RenderableType:
    """The first real difference of a file, A beside B."""
    from rich.table import Table
    from rich.text import Text

    first = file.first_difference
    assert first is not None
    table = Table(title=Text(f"first difference in {file.path}"), title_justify="left", expand=True)
    table.add_column(f"A, line {first.line_a}", ratio=1)
    table.add_column(f"B, line {first.line_b}", ratio=1)
    table.add_row(*(_marked(text or "(nothing more)") for text in (first.text_a, first.text_b)))
    return table


def _marked(text: str) -> RenderableType:
    """Lines of which the first is the one that differs."""
    from rich.text import Text

    first, newline, rest = text.partition("\n")
    return Text.assemble((first, "bold"), newline + rest)


def _summary_table(summary: dict[str, Any]) -> RenderableType:
    """Counts of a bulk run."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("level", "pairs", "share", title=f"{summary['pairs']:,} pairs")
    for level, count in summary["levels"].items():
        share = f"{count / summary['pairs']:.1%}" if summary["pairs"] else ""
        table.add_row(f"[{_WORDS[level][1]}]{level}[/]", f"{count:,}", share)
    for reason, count in summary["unknown_reasons"].items():
        table.add_row(f"[dim]unknown: {escape(reason)}[/]", f"[dim]{count:,}[/]", "")
    return table
