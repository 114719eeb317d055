"""A usage table: any Parquet, CSV or JSON Lines with one call a row, its columns renamed with --map.

A `success` column (0..1) is the call's outcome, which makes an outcome matrix with sessions and times a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.errors import BadInput
from features.facts import Facts
from features.names import EFFORTS
from features.records import OutcomeRecord, RequestRecord
from training.ids import own_id
from training.sources.base import NO_SESSION, Item, Labelled, ReadOptions, Refusal, Row, SourceFile, quiet
from training.sources.describe import prompt_facts, salient_fields
from training.sources.reasoning import conventions_of
from training.sources.rows import columns_of, read_rows
from training.sources.values import basename, count, identity, listing, minus, ms, number, parsed, text, usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUIRED = ("session", "ts_ms", "model", "input_tokens_uncached", "output_tokens")
FROM_FILE = "@file"  # --map ts_ms=@file: take the file's own time

# Our column -> (field of the record, how its value is read).
COLUMNS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "session": ("session_id", identity),
    "ts_ms": ("ts_ms", ms),
    "turn": ("turn", count),
    "model": ("model_served", text),
    "input_tokens_uncached": ("input_tokens_uncached", count),
    "cached_tokens": ("cached_tokens", count),
    "cache_write_tokens": ("cache_write_tokens", count),
    "cache_write_1h_tokens": ("cache_write_1h_tokens", count),
    "output_tokens": ("output_tokens", count),
    "reasoning_tokens": ("reasoning_tokens", count),
    "cost_usd": ("cost_usd", usd),
    "request_id": ("request_id", identity),
    "parent_session": ("parent_session_id", identity),
    "model_requested": ("model_requested", text),
    "candidate": ("candidate", text),
    "deployment": ("deployment", text),
    "provider": ("provider", text),
    "effort": ("effort", text),
    "harness": ("harness", text),
    "harness_version": ("harness_version", text),
    "user": ("user", text),
    "tenant": ("tenant", text),
    "repo": ("repo", basename),
    "branch": ("branch", text),
    "task_id": ("task_id", identity),
    "task_type": ("task_type", text),
    "service_tier": ("service_tier", text),
    "stop_reason": ("finish_reason", text),
    "latency_ms": ("latency_ms", number),
    "first_byte_ms": ("first_byte_ms", number),
}
EXTRA = ("tools", "input_tokens", "prompt", "success", "category")
# Columns in which a row says of how many calls its figures are the sum.
CALLS = ("n_calls", "api_calls", "n_turns", "num_turns")
TOKENS_ALONE = {"input_tokens_uncached": "input_tokens"}  # the whole prompt will do where the parts are known
OURS_AT_LEAST = 3  # so many of our names are no accident
USAGE = tuple(name for name in COLUMNS if name.endswith("_tokens") or name == "input_tokens_uncached")


class _Last(NamedTuple):
    """The turn before in a session; its prompt's tokens are unknown where the row was a whole run."""

    turns: int
    prompt_tokens: int | None


def looks_like(names: frozenset[str], options: ReadOptions) -> bool:
    """Tell whether a table with these columns looks like one call a row."""
    have = _mapped(names, options)
    return ("model" in have and bool({"session", "output_tokens"} & have)) or bool(options.column_map)


def lacks_something(names: frozenset[str]) -> bool:
    """Tell whether a table without the marks of one is still meant as one: three columns are named as ours.

    Its reader refuses it, and names the column that it lacks; to skip it would lose its rows without a word.
    """
    ours = names.intersection((*COLUMNS, *TOKENS_ALONE.values()))
    return len(ours) >= OURS_AT_LEAST and not ours.isdisjoint((*REQUIRED, *USAGE, *TOKENS_ALONE.values()))


class _Table(NamedTuple):
    """One table being read."""

    file: SourceFile
    options: ReadOptions
    theirs: dict[str, str]  # our column -> theirs
    inside: dict[tuple[Any, Any], bool]  # (harness, model) -> reasoning tokens are inside the output
    modified_ms: int
    sessions: dict[str, _Last]


def read(file: SourceFile, options: ReadOptions) -> Iterator[Item]:
    """Read a usage table; raises BadInput naming a required column that is missing and the way to map it."""
    _require_columns(file, options)
    theirs = _theirs(options)
    table = _Table(
        file,
        options,
        theirs,
        conventions_of(_priced_rows(file, options, theirs)) if options.reasoning is None else {},
        file.path.stat().st_mtime_ns // 1_000_000,
        {},
    )
    for row in read_rows(file, options, frozenset(theirs.values())):
        yield row if isinstance(row, Refusal) else _record(table, row)


def _priced_rows(file: SourceFile, options: ReadOptions, theirs: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Rows that can tell the convention of their reasoning tokens: with a cost and such tokens."""
    needed = {theirs["reasoning_tokens"], theirs["cost_usd"]}
    found = columns_of(file)
    if found is not None and not needed <= set(found):
        return
    for row in read_rows(file._replace(on_bytes=quiet), options, frozenset(theirs.values())):
        if not isinstance(row, Refusal) and row[1].get(theirs["reasoning_tokens"]):
            yield _values(row[1], theirs)


def _values(row: dict[str, Any], theirs: dict[str, str]) -> dict[str, Any]:
    return {field: read_value(row.get(theirs[ours])) for ours, (field, read_value) in COLUMNS.items()}


def _record(table: _Table, row: Row) -> Item:
    number_, raw = row
    values = _values(raw, table.theirs)
    session = values["session_id"]
    if session is None:
        return Refusal(table.file.name, number_, NO_SESSION)
    calls = next((n for name in CALLS if (n := count(raw.get(table.theirs[name]))) and n > 0), None)
    run = calls is not None and calls > 1
    facts = _facts(table, raw, values, run=run)
    flags = ["run_totals"] if run else []
    if values["ts_ms"] is None:
        flags.append("time_from_file")
    if values["cost_usd"] is None and _says(raw.get(table.theirs["cost_usd"])):
        flags.append("cost_no_number")
    values["request_id"] = own_id(values["request_id"], *_content(values))
    if values["task_type"] is None:
        values["task_type"] = text(raw.get(table.theirs["category"]))
    success, told = _success(raw.get(table.theirs["success"]))
    if told and success is None:
        flags.append("success_not_a_share")
    if values["ts_ms"] is None:
        values["ts_ms"] = table.modified_ms
    request = RequestRecord(
        **values,
        **_prompt(table.options, raw.get(table.theirs["prompt"]), facts),
        source="table",
        source_file=table.file.name,
        source_row=number_,
        cost_source="log" if values["cost_usd"] is not None else "unknown",
        reasoning_in_output=_inside(table, values),
        attempts=calls,
        tools_called=_tools(raw.get(table.theirs["tools"])),
        flags=flags or None,
    )
    return request if success is None else Labelled(request, _outcome(request, success))


def _facts(table: _Table, raw: dict[str, Any], values: dict[str, Any], *, run: bool) -> Facts:
    """Facts of a row in its session, the turn filled in; the sums of a run tell nothing of a context."""
    session = values["session_id"]
    before = table.sessions.get(session, _Last(0, None))
    if values["turn"] is None:
        values["turn"] = before.turns
    whole = _whole_prompt(values, raw.get(table.theirs["input_tokens"]))
    table.sessions[session] = _Last(before.turns + 1, None if run else whole)
    effort = EFFORTS.get((values["effort"] or "").lower())
    if run:
        return Facts(effort=effort)
    return Facts(
        turn=values["turn"],
        effort=effort,
        context_tokens_est=whole,
        context_tokens_last=before.prompt_tokens,
    )


def _success(value: Any) -> tuple[float | None, bool]:
    """A success in 0..1, None where there is none, and whether the row said anything at all."""
    share = number(float(value) if isinstance(value, bool) else value)
    told = value is not None and value == value  # NaN is how a table says nothing
    return (share if share is not None and 0 <= share <= 1 else None), told


def _says(value: Any) -> bool:
    """Whether a cell of money says anything; blank and NaN are how a table says nothing."""
    blank = isinstance(value, str) and value.strip().lower() in ("", "nan", "null", "none")
    return value is not None and value == value and not blank


def _outcome(request: RequestRecord, success: float) -> OutcomeRecord:
    """The score that came with the row."""
    return OutcomeRecord(
        outcome_id=f"{request.request_id}/success",
        ts_ms=request.ts_ms,
        source="table",
        request_id=request.request_id,
        session_id=request.session_id,
        task_id=request.task_id,
        candidate=request.candidate or request.model_served,
        level="score",
        value=success,
    )


def _whole_prompt(values: dict[str, Any], said: Any) -> int | None:
    """Tokens of the whole prompt; fills in the uncached ones where the table gives the whole instead."""
    whole = count(said)
    cached = (values["cached_tokens"], values["cache_write_tokens"])
    if values["input_tokens_uncached"] is not None:
        return int(values["input_tokens_uncached"]) + sum(part or 0 for part in cached)
    if whole is not None and cached[0] is not None:
        values["input_tokens_uncached"] = minus(whole, *cached)
    return whole


def _content(values: dict[str, Any]) -> list[Any]:
    """What tells a row from others: the same row in another export is the same request."""
    return [values[name] for name in ("session_id", "turn", "ts_ms", "model_served", *USAGE)]


def _inside(table: _Table, values: dict[str, Any]) -> bool | None:
    if table.options.reasoning is not None:
        return table.options.reasoning == "inside"
    if not values["reasoning_tokens"]:
        return None
    return table.inside.get((values["harness"], values["model_served"]))


def _tools(value: Any) -> list[str] | None:
    """Tool names from a list, a JSON list, a JSON object of counts, or names with commas."""
    if value is None:
        return None
    if isinstance(value, str) and value[:1] == "{":
        value = parsed(value)
    if isinstance(value, dict):
        return [str(name)[:512] for name in value]
    if isinstance(value, str) and value[:1] != "[":
        value = value.split(",")
    return [name for item in listing(value) if (name := text(item))]


def _prompt(options: ReadOptions, prompt: Any, facts: Facts) -> dict[str, Any]:
    """Fields that come of a prompt column, where there is one and it may be looked at."""
    if options.prompts == "none":
        return {}
    if text(prompt) is None:
        return {"facts": facts}
    salient, of_text = prompt_facts(prompt)
    return {"facts": msgspec.structs.replace(facts, **of_text), **salient_fields(salient, options)}


def _mapped(names: frozenset[str], options: ReadOptions) -> set[str]:
    """Our names for the columns that are there."""
    theirs = _theirs(options)
    return {ours for ours, name in theirs.items() if name in names or name == FROM_FILE}


def _theirs(options: ReadOptions) -> dict[str, str]:
    known = {name: name for name in (*COLUMNS, *EXTRA, *CALLS)}
    unknown = [name for name in options.column_map if name not in known]
    if unknown:
        raise BadInput(f"--map {unknown[0]}=…: no such column of ours; ours are {', '.join(known)}")
    return {**known, **options.column_map}


def _require_columns(file: SourceFile, options: ReadOptions) -> None:
    found = columns_of(file)
    if found is None:  # JSON Lines: the first object stands for all
        first = next((row for row in read_rows(file._replace(on_bytes=quiet), options, frozenset())), None)
        found = tuple(first[1]) if isinstance(first, tuple) and not isinstance(first, Refusal) else ()
    names = frozenset(found)
    have = _mapped(names, options)
    for theirs in options.column_map.values():
        if theirs not in names and theirs != FROM_FILE:
            raise BadInput(
                f"{file.name}: --map names the column {theirs}, but there are only {', '.join(found)}"
            )
    missing = [name for name in REQUIRED if name not in have and TOKENS_ALONE.get(name) not in have]
    if missing:
        columns = "column" if len(missing) == 1 else "columns"
        maps = " ".join(f"--map {name}=THEIRS" for name in missing)
        hint = ", or ts_ms=@file for the file's own time" if "ts_ms" in missing else ""
        there = ", ".join(found[:12])
        raise BadInput(
            f"{file.name}: lacks the {columns} {', '.join(missing)}; say {maps}{hint} (it has {there})"
        )
