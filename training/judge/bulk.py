"""A table of pairs judged on all cores, in the order of its rows."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context
from typing import TYPE_CHECKING

import msgspec

from features.diffs.calls import edit_of_text
from features.diffs.judge import judge
from features.diffs.verdicts import Verdict
from features.errors import BadInput, MissingExtra
from training.judge.result import JudgedPairs, collect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from features.diffs.edits import Edit

CHUNK = 64  # pairs handed to a process at a time
INLINE = 200  # fewer pairs aren't worth a second process
_ENDING_S = 5.0  # that a process which has nothing more to do may take to end

Pair = tuple[str | None, str | None, str | None]
Chunk = tuple[list[Pair], bool]  # with whether files are set aside


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


def _judged(chunks: list[Chunk], workers: int) -> Iterator[list[Verdict]]:
    """Verdicts chunk by chunk, in order, also when a process dies."""
    if workers == 1:
        yield from map(_judge_chunk, chunks)
        return
    done = 0
    while done < len(chunks):
        with _pool(workers) as pool, suppress(BrokenProcessPool):
            for found in pool.map(_judge_chunk, chunks[done:]):
                done += 1
                yield found
        if done < len(chunks):  # one of those in work, perhaps this one
            done += 1
            yield _one_by_one(*chunks[done - 1])


def _one_by_one(pairs: list[Pair], set_aside: bool) -> list[Verdict]:
    """Verdicts on pairs of which one may have killed its process (parsers are native): that is *unknown*."""
    found: list[Verdict] = []
    while len(found) < len(pairs):
        with _pool(1) as pool:
            try:
                for pair in pairs[len(found) :]:
                    found += pool.submit(_judge_chunk, ([pair], set_aside)).result()
            except BrokenProcessPool:
                found.append(Verdict(level="unknown", reason="judging it ended the process"))
    return found


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes, which share nothing with this one's threads; none of them outlives it.

    One that is killed while it hands over a result keeps the lock that the others would end by.
    """
    before = set(active_children())
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - before:
            process.join(_ENDING_S)
            if process.is_alive():
                process.kill()


def _judge_chunk(chunk: Chunk) -> list[Verdict]:
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
        except (msgspec.MsgspecError, RecursionError):
            found = None
        if found is not None and not (len(paths) == 1 and paths.isdisjoint(found)):
            return {path: text.encode("utf-8", "surrogatepass") for path, text in found.items()}
    if len(paths) == 1:
        return {paths.pop(): base.encode("utf-8", "surrogatepass")}
    return None


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
