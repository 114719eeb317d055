"""A part of a log as columns, session by session in the order of time: what was asked, used and paid.

Texts and vectors stay on disk.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.errors import BadInput
from training.dataset import candidates_of
from training.labels import resolve
from training.labels.resolve import SHADOW, compares
from training.sources.checks import AHEAD_MS
from training.sources.values import EARLIEST_MS, LATEST_MS

if TYPE_CHECKING:
    from training.replay.logged.plan import Slice

_COLUMNS = (
    *("request_id", "session_id", "ts_ms", "turn", "harness", "user", "repo", "task_id", "task_type"),
    *("dialect", "model_served", "model_requested", "candidate", "provider", "effort", "service_tier"),
    *("input_tokens_uncached", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "reasoning_tokens", "reasoning_in_output", "cost_usd", "cost_source", "flags"),
    *("tools_called", "finish_reason", "source"),
)
FACTS = (
    *("max_output_tokens", "n_tools", "n_images", "json_schema", "thinking"),
    *("body_bytes", "effort", "in_tool_loop", "provider_bound", "cache_markers"),
)
SUMS_OF_CALLS = ("run_totals", "over_window")  # flags of rows that tell of no single call
_SPENT = (
    *("input_tokens_uncached", "output_tokens", "reasoning_tokens", "reasoning_in_output", "cost_usd"),
    *("cost_source", "flags", "tools_called", "finish_reason", "whole"),
)
NAMES = (  # that a replay reads as such
    *("request_id", "session_id", "harness", "user", "repo", "task_id", "task_type", "dialect"),
    *("model_served", "model_requested", "candidate", "provider", "service_tier"),
)
REPEATED = "their request id was read before"  # rows that were written twice
AHEAD = "future_timestamp"  # flag of rows that were ahead when they were ingested
MOST_OUTPUT = 2_000_000  # tokens of one answer; no model of the catalog gives as many
MOST_PROMPT = 20_000_000
MOST_CALLS = 10_000  # that a row sums up
_NO_BILL = ("response_cache_hit", "no_tokens")
_CALLS_TOOLS = ("tool", "tool_use", "tool_calls", "tool-calls", "function_call")
GROUPS = {"repo": "repo", "user": "user", "client": "harness", "task": "task_id"}
_COLUMNS_OF_CALLS = (
    *("ts_ms", "prompt", "cached", "written", "written_1h", "output", "run", "recorded"),
    *("facts", "locked", "reward"),
)


class Calls(NamedTuple):
    """n calls of S sessions, each session's in one piece and in the order of time. NaN is unknown.

    `before` sessions and `calls_before` calls are in earlier parts.
    """

    frame: pl.DataFrame  # ids, names and groups of the calls
    session: np.ndarray  # (n,) int64 codes, rising
    starts: np.ndarray  # (S + 1,) rows where sessions begin
    ts_ms: np.ndarray  # (n,) int64
    prompt: np.ndarray  # (n,) tokens of the whole prompt
    cached: np.ndarray  # (n,) read from the cache, as logged
    written: np.ndarray  # (n,)
    written_1h: np.ndarray  # (n,) of those, for an hour
    output: np.ndarray  # (n,) tokens as they are billed
    run: np.ndarray  # (n,) bool: a row that sums up a whole run of calls
    recorded: np.ndarray  # (n,) USD as the log tells
    facts: np.ndarray  # (n, len(FACTS))
    locked: np.ndarray  # (n,) bool: a tool loop or provider-bound state
    reward: np.ndarray  # (n,) success in 0..1
    left_out: dict[str, int]  # rows that can't be played, by the reason
    doubts: dict[str, int]  # rows that are played though they tell what can hardly be, by what
    before: int = 0
    calls_before: int = 0

    @property
    def n(self) -> int:
        """Number of calls."""
        return len(self.session)

    @property
    def sessions(self) -> int:
        """Number of sessions."""
        return len(self.starts) - 1

    def fact(self, name: str) -> np.ndarray:
        """One of FACTS (n,)."""
        found: np.ndarray = self.facts[:, FACTS.index(name)]
        return found

    def rows(self, which: np.ndarray) -> Calls:
        """Some of the calls (n,) bool, in the sessions that there were."""
        session = self.session[which]
        columns = {name: getattr(self, name)[which] for name in _COLUMNS_OF_CALLS}
        starts = np.searchsorted(session, np.arange(self.sessions + 1))
        return self._replace(
            frame=self.frame.filter(pl.Series(which)), session=session, starts=starts, **columns
        )

    def without(self, which: np.ndarray, why: str) -> Calls:
        """The calls but these (n,) bool, which are counted, and the sessions that are left."""
        kept = self.rows(~which)
        sizes = np.diff(kept.starts)
        session = np.repeat(np.arange(int((sizes > 0).sum())), sizes[sizes > 0])
        return kept._replace(
            session=session,
            starts=np.append(0, np.cumsum(sizes[sizes > 0])),
            left_out={**self.left_out, why: int(which.sum())},
        )

    def of_session(self, values: np.ndarray) -> np.ndarray:
        """Sums (S,) of the values (n,) of each session's calls."""
        return np.bincount(self.session, weights=values, minlength=self.sessions)


def read_calls(part: Slice) -> Calls:
    """Read a part of a log; BadInput, where it is the whole log, if nothing of it can be played."""
    frame = played_rows(part.requests, counted=True).collect()
    written = len(frame)
    frame = frame.unique("request_id", keep="first", maintain_order=True)
    repeated = written - len(frame)
    frame = frame.with_columns(candidate=candidates_of(frame))
    # What is said of a shadow call is of its own answer, even where the same candidate had answered before.
    said = part.outcomes(frame).filter(~compares(), pl.col("source") != SHADOW)
    labels = resolve(frame, said, part.reliability)
    frame = frame.with_columns(reward=labels["target"])
    frame, left_out = playable(frame)
    if repeated:
        left_out[REPEATED] = repeated
    if part.whole and frame.is_empty():
        raise BadInput(nothing_left(part.log, left_out))
    frame = frame.sort(pl.col("ts_ms").min().over("session_id"), "session_id", "ts_ms", "turn", "request_id")
    return _columns(_loops(frame), left_out if part.whole else {})  # of parts it is counted beforehand


def played_rows(requests: pl.LazyFrame, *, counted: bool) -> pl.LazyFrame:
    """Requests as a replay reads them; facts only where they are `counted`."""
    fact = pl.col("facts").struct
    facts = [fact.field(name).cast(pl.Float32).alias(f"fact_{name}") for name in FACTS] if counted else []
    return _counted(requests.select(*_COLUMNS, *facts, whole=fact.field("context_tokens_est")))


def nothing_left(log: object, left_out: dict[str, int]) -> str:
    """Say why none of a log's rows can be played."""
    said = "; ".join(f"{n:,} because {why}" for why, n in left_out.items())
    return f"{log}: none of its rows can be played again: {said}"


def _counted(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Columns of a replay: the whole prompt, the output as it is billed, what a row sums up, what it cost."""
    parts = pl.col("cached_tokens").fill_null(0) + pl.col("cache_write_tokens").fill_null(0)
    told = pl.col("input_tokens_uncached") + parts
    apart = pl.col("reasoning_in_output").eq_missing(other=False)
    unsaid = (pl.col("reasoning_tokens").fill_null(0) > 0) & pl.col("reasoning_in_output").is_null()
    output = pl.col("output_tokens") + pl.when(apart).then(pl.col("reasoning_tokens").fill_null(0)).otherwise(
        0
    )
    flags = pl.col("flags").fill_null([])
    whole = pl.when(pl.col("cached_tokens").is_null()).then(pl.col("whole").cast(pl.Int64))
    calls = pl.col("tools_called").list.len().fill_null(0) > 0
    return frame.with_columns(
        prompt=pl.coalesce(told, whole),
        output=pl.when(~unsaid).then(output),
        paid=pl.when(pl.col("cost_source").is_in(["log", "provider"])).then(
            pl.col("cost_usd").cast(pl.Float64)
        ),
        run=_any_of(flags, SUMS_OF_CALLS),
        no_bill=_any_of(flags, _NO_BILL),
        ahead=_any_of(flags, (AHEAD,)),
        calls_tools=calls | pl.col("finish_reason").is_in(list(_CALLS_TOOLS)).fill_null(value=False),
    ).drop(_SPENT)


def _any_of(flags: pl.Expr, wanted: tuple[str, ...]) -> pl.Expr:
    return pl.any_horizontal(flags.list.contains(name) for name in wanted).fill_null(value=False)


def playable(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows that can be played, and how many can't for which reason."""
    reasons = {
        "they are shadow calls, nobody's traffic": pl.col("source") == SHADOW,
        "their time is impossible": ~pl.col("ts_ms").is_between(EARLIEST_MS, LATEST_MS),
        "no model is named": pl.col("candidate").is_null(),
        "no model was called, or no tokens are counted": pl.col("no_bill"),
        "their input isn't known": pl.col("prompt").is_null() | (pl.col("prompt") < 0),
        "their output isn't known": pl.col("output").is_null() | (pl.col("output") < 0),
        "they tell of more tokens than any model takes or gives": _beyond_any(),
    }
    left_out = {}
    for why, which in reasons.items():
        before = len(frame)
        frame = frame.filter(~which.fill_null(value=False))
        if len(frame) < before:
            left_out[why] = before - len(frame)
    return frame, left_out


def _loops(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill in tool loops where no facts tell: the turn before called tools, so this one answers them."""
    before = pl.col("calls_tools").shift(1).over("session_id").fill_null(value=False) & ~pl.col("run")
    return frame.with_columns(
        fact_in_tool_loop=pl.col("fact_in_tool_loop").fill_null(before.cast(pl.Float32))
    )


def _columns(frame: pl.DataFrame, left_out: dict[str, int]) -> Calls:
    ids = frame["session_id"]
    new = (ids != ids.shift(1)).fill_null(value=True).to_numpy()
    session = np.cumsum(new) - 1
    facts = frame.select(f"fact_{name}" for name in FACTS)
    matrix = facts.fill_null(float("nan")).to_numpy()
    loop, bound = (matrix[:, FACTS.index(name)] == 1 for name in ("in_tool_loop", "provider_bound"))
    return Calls(
        frame=frame.select(NAMES),
        session=session,
        starts=np.append(np.flatnonzero(new), len(frame)),
        ts_ms=frame["ts_ms"].to_numpy(),
        prompt=_floats(frame["prompt"]),
        cached=_floats(frame["cached_tokens"]),
        written=_floats(frame["cache_write_tokens"]),
        written_1h=_floats(frame["cache_write_1h_tokens"]),
        output=_floats(frame["output"]),
        run=frame["run"].to_numpy(),
        recorded=_floats(frame["paid"]),
        facts=matrix,
        locked=loop | bound,
        reward=_floats(frame["reward"]),
        left_out=left_out,
        doubts=_doubts_of(frame),
    )


def _floats(column: pl.Series) -> np.ndarray:
    """A numeric column as float64 (n,), NaN unknown."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _doubts_of(frame: pl.DataFrame) -> dict[str, int]:
    """Count the rows in doubt that are played by what they tell; `frame` has ts_ms and ahead."""
    by = round(time.time() * 1000) + AHEAD_MS
    found = {"a time more than a day ahead": pl.col("ahead") | (pl.col("ts_ms") > by)}
    counts = frame.select(which.fill_null(value=False).sum().alias(what) for what, which in found.items())
    return {what: int(count) for what, count in counts.row(0, named=True).items() if count}


def _beyond_any() -> pl.Expr:
    """Which rows tell of more tokens than any model takes or gives: no bill is told from these."""
    calls = pl.when(pl.col("run")).then(float(MOST_CALLS)).otherwise(1.0)
    return (pl.col("output") > MOST_OUTPUT * calls) | (pl.col("prompt") > MOST_PROMPT * calls)
