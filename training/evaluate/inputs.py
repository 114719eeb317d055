"""What is known of each task before any model answers, as numbers, through the same code that serves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.errors import BadInput
from features.facts import Facts
from features.vector import feature_names, featurize_one
from training.evaluate.leak import probe
from training.evaluate.words import counted

if TYPE_CHECKING:
    import polars as pl

    from features.encoder import StaticEncoder
    from features.wire.types import WireRequest
    from training.evaluate.matrix import Matrix
    from training.evaluate.options import Notes, Options

MAX_LEVELS = 50  # of a categorical feature
MAX_TOKEN_SPREAD = 1.5  # tokenizers differ by less; beyond it, input_tokens counts a run and not its prompt
_TOOLS = msgspec.json.Decoder(list[dict[str, object]])


class Inputs(NamedTuple):
    """Features of n tasks; `vector` is what the heads are fitted on."""

    vector: np.ndarray  # (n, d) float32, NaN unknown; columns that never vary are left out
    names: tuple[str, ...]
    embedding: str | None  # digest of the encoder, None without one
    told: np.ndarray | None = None  # (n,) str types that are told while fitting and hidden while scoring


def inputs_of(matrix: Matrix, options: Options, notes: Notes) -> Inputs:
    """Facts and embedding of each prompt, then the scalars named by --features."""
    tasks = matrix.tasks
    tokens = _prompt_tokens(tasks, notes)
    texts = _texts(tasks, notes)
    requests = _requests(tasks, texts, notes)
    if texts is not None:
        groups = [str(name) for name in tasks["_group"]]
        probe(texts, tasks["task_id"].to_list(), groups, matrix.success, notes)
    encoder = _encoder(options.encoder, notes) if requests else None
    facts = [
        _facts(request, tokens[i], tasks, i) for i, request in enumerate(requests or [None] * len(tasks))
    ]
    blocks = [np.concatenate([featurize_one(f) for f in facts])]
    names = list(feature_names(0))
    if requests and encoder is not None:
        from features.prompt import salient_text

        blocks.append(encoder.encode_batch([salient_text(r.messages) for r in requests]))
        names += feature_names(encoder.dim)[len(names) :]
    for name in options.features:
        if name != "input_tokens":
            _unknown_values(tasks[name], notes)
            block, labels = _scalar(tasks, name)
            blocks.append(block)
            names += labels
    vector = np.concatenate(blocks, axis=1, dtype=np.float32)
    varies = _varies(vector)
    kept = tuple(n for n, v in zip(names, varies, strict=True) if v)
    return Inputs(vector[:, varies], kept, encoder.digest if encoder else None)


def _varies(vector: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column that is unknown throughout
        spread = np.nanmax(vector, axis=0) - np.nanmin(vector, axis=0)
    some_unknown = np.isnan(vector).any(axis=0) & ~np.isnan(vector).all(axis=0)
    varies: np.ndarray = (np.nan_to_num(spread) > 0) | some_unknown
    return varies


def _prompt_tokens(tasks: pl.DataFrame, notes: Notes) -> list[float | None]:
    """Prompt tokens of each task, the median over models; unknown where they count a run instead."""
    if "prompt_tokens" not in tasks.columns:
        return [None] * len(tasks)
    spread = tasks["token_spread"].median()
    if isinstance(spread, float) and spread > MAX_TOKEN_SPREAD:
        said = f"input_tokens of one task differ {spread:.1f}-fold between models"
        note = f"{said}: they count a run, not the prompt, so they are no feature"
        notes.add("run_tokens", len(tasks), note)
        return [None] * len(tasks)
    return tasks["prompt_tokens"].to_list()


def _texts(tasks: pl.DataFrame, notes: Notes) -> list[str] | None:
    """Each prompt without a first line that holds the task's id; None when the table has no prompts."""
    if "prompt" not in tasks.columns or tasks["prompt"].null_count() == len(tasks):
        notes.add(
            "no_prompts",
            len(tasks),
            "no prompt column: features are the task type, token counts and --features only",
        )
        return None
    missing, of = tasks["prompt"].null_count(), f"of {counted(len(tasks), 'task')}"
    notes.add("missing_prompts", missing, f"{counted(missing, f'{of} has', f'{of} have')} no prompt")
    given = [prompt or "" for prompt in tasks["prompt"]]
    texts = [_without_id(prompt, i) for prompt, i in zip(given, tasks["task_id"], strict=True)]
    leaks = sum(text != prompt for text, prompt in zip(texts, given, strict=True))
    notes.add(
        "prompt_leaks_id",
        leaks,
        f"the first line of {counted(leaks, 'prompt')} holds the task id: "
        "stripped before any feature is made",
    )
    return texts


def _requests(tasks: pl.DataFrame, texts: list[str] | None, notes: Notes) -> list[WireRequest] | None:
    """Each prompt as the request a client would send; None when the table has no prompts."""
    if texts is None:
        return None
    tools = tasks["tools_json"].to_list() if "tools_json" in tasks.columns else [None] * len(tasks)
    requests, broken = [], 0
    for text, offered in zip(texts, tools, strict=True):
        request, unread = _request(text, offered)
        broken += unread
        requests.append(request)
    notes.add(
        "unread_tools",
        broken,
        f"tools_json of {counted(broken, 'task')} isn't a JSON list of tools: taken as no tools",
    )
    return requests


def _without_id(prompt: str, task_id: str) -> str:
    """Strip a first line that names the task."""
    first, newline, rest = prompt.partition("\n")
    tail = task_id.rsplit("/", 1)[-1]
    return rest.lstrip("\n") if newline and len(tail) >= 6 and tail in first else prompt


def _request(prompt: str, tools_json: str | None) -> tuple[WireRequest, bool]:
    """Parse the request as if from the wire; also say whether its tools could not be read."""
    from features.wire import parse_request

    body: dict[str, object] = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
    unread = False
    if tools_json:
        try:
            tools = _TOOLS.decode(tools_json)
        except msgspec.MsgspecError:
            tools, unread = [], True
        if tools:
            body["tools"] = [t if "function" in t else {"type": "function", "function": t} for t in tools]
    return parse_request("openai_chat", msgspec.json.encode(body)), unread


def _facts(request: WireRequest | None, tokens: float | None, tasks: pl.DataFrame, row: int) -> Facts:
    """Facts of one task; the counts given by the table win over those that we estimate."""
    given: dict[str, float] = {}
    if tokens is not None:
        given["context_tokens_est"] = tokens
    if "n_tools" in tasks.columns and (count := tasks["n_tools"][row]) is not None:
        given["n_tools"] = count
    if request is None:
        return Facts(**given)
    from features.assemble import facts_of

    return msgspec.structs.replace(facts_of(request), **given)


def _encoder(folder: Path | None, notes: Notes) -> StaticEncoder | None:
    """Load the encoder asked for, else the prior's; without one the embedding is left out, aloud."""
    shipped = Path(__file__).parents[2] / "models" / "prior" / "encoder"
    if folder is None and not shipped.is_dir():
        notes.add("no_encoder", 1, "no encoder beside the prior: features without an embedding of the prompt")
        return None
    from features.encoder import StaticEncoder

    return StaticEncoder.load(folder or shipped)


def _unknown_values(column: pl.Series, notes: Notes) -> None:
    """Say how many tasks lack a feature that was asked for."""
    bad = int(column.null_count())
    if column.dtype.is_float():
        bad += int((~column.is_finite()).sum())
    of = f"of {counted(len(column), 'task')}"
    note = f"{counted(bad, f'{of} has', f'{of} have')} no number in {column.name}: taken as unknown"
    notes.add(
        "unknown_feature",
        bad,
        note.replace("no number", "nothing") if not column.dtype.is_numeric() else note,
    )


def _scalar(tasks: pl.DataFrame, name: str) -> tuple[np.ndarray, list[str]]:
    """Read a column named by --features: a number as it is, a text as one column per level."""
    column = tasks[name]
    if column.dtype.is_numeric() or column.dtype.is_temporal() or str(column.dtype) == "Boolean":
        import polars as pl

        number = column.cast(pl.Int64) if column.dtype.is_temporal() else column
        values = number.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
        values[np.isinf(values)] = np.nan
        return values[:, None].astype(np.float32), [name]
    levels = column.drop_nulls().unique().sort().to_list()
    if not str(column.dtype).startswith(("String", "Categorical", "Enum")) or len(levels) > MAX_LEVELS:
        raise BadInput(
            f"--features {name}: neither a number nor a text of at most {MAX_LEVELS} values ({len(levels)})"
        )
    values = column.cast(str).to_numpy()
    block = np.stack([values == level for level in levels], axis=1) if levels else np.empty((len(tasks), 0))
    return block.astype(np.float32), [f"{name}={level}" for level in levels]
