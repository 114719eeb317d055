"""How well the task type is told without being told, what tells it, and whether the classifier abstains.

    python tests/bench/bench_tasktype.py TASKS [--type COLUMN] [--group COLUMN] [--texts] [--foreign FILE]...

The type (--type: the column of it, else category) is known in TASKS and hidden; other columns than its
prompts and tools are not looked at. Out of fold by group throughout (--group: of repositories, say): the
classifier with and without each block of features, log-loss and accuracy beside the shipped one, paired; its
calibration error (of the likeliest type) and its trust in itself. Intervals 95 %, 2,000 draws over groups.
With --texts also hashed TF-IDF of the text (signed, sublinear, normalised, words in lower case; "marks" are
single punctuation marks) as further columns of its vector. --foreign: another set, of which it has seen
nothing; how often it answers the base rates there, and how sure it is otherwise. What the types are worth:
bench_hidden_type.py.
"""

from __future__ import annotations

import argparse
import re
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xxhash
from bench_heads import matrix_of

from features.prompt import salient_text
from features.wire.types import Message, Part
from training.evaluate.options import Options
from training.examples import Examples
from training.metrics import calibration_error
from training.tasktype import fit_types

if TYPE_CHECKING:
    from training.evaluate.matrix import Matrix
    from training.tasktype import TypeFit

WORDS, MARKS = re.compile(r"[a-z]+|\d+"), re.compile(r"[a-z_]+|[0-9]+|[^\sa-z0-9_]")
# Facts that came with the classifier; without them it stands on what the features were before.
STRUCTURE = ("schema_", "tools_named_", "client_", "kind_")
CLAUSES = ("text_joins", "text_commas", "text_sentences", "text_capitals", "text_quotes")
DRAWS = 2000


def hashed(texts: list[str], buckets: int, pattern: re.Pattern[str], *, pairs: bool = False) -> np.ndarray:
    """Signed hashed TF-IDF (n, buckets), rows of length 1; bucket weights from all texts, without labels."""
    matrix = np.zeros((len(texts), buckets))
    for row, text in zip(matrix, texts, strict=True):
        words = pattern.findall(text.lower())
        terms = words + [f"{a} {b}" for a, b in pairwise(words)] if pairs else words
        counts: dict[str, int] = {}
        for term in terms:
            counts[term] = counts.get(term, 0) + 1
        for term, count in counts.items():
            mark = xxhash.xxh3_64_intdigest(term.encode("utf-8", "surrogatepass"))
            row[mark % buckets] += (1 if mark >> 63 else -1) * (1 + np.log(count))
    matrix *= np.log((1 + len(texts)) / (1 + (matrix != 0).sum(axis=0))) + 1
    unit: np.ndarray = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    return unit


def interval(values: np.ndarray, group: np.ndarray) -> str:
    """Mean of values (n,) with its 95 % interval over groups."""
    where = np.unique(group, return_inverse=True)[1]
    total, size = np.bincount(where, weights=values), np.bincount(where)
    weights = np.random.default_rng(0).multinomial(len(size), np.full(len(size), 1 / len(size)), DRAWS)
    low, high = np.quantile((weights @ total) / (weights @ size), [0.025, 0.975])
    return f"{values.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def fitted_on(matrix: Matrix, features: np.ndarray, names: tuple[str, ...]) -> TypeFit:
    """The classifier of the matrix's types."""
    n = len(features)
    fitted = fit_types(
        Examples(
            features=features.astype(np.float32),
            candidate=np.full(n, "any"),
            task_type=matrix.category,
            success=np.zeros(n),
            output_tokens=np.full(n, np.nan),
            group=matrix.group.astype(str),
        ),
        names=names,
    )
    if fitted is None:
        raise SystemExit("no types to tell, or too few features that tell anything: it isn't fitted at all")
    return fitted


def told(fitted: TypeFit, matrix: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Loss (n,) and hits (n,) of the types, out of fold."""
    right = np.array([fitted.types.names.index(kind) for kind in matrix.category])
    loss = -np.log(np.maximum(fitted.oof[np.arange(len(right)), right], 1e-12))
    return loss, (fitted.oof.argmax(axis=1) == right).astype(float)


def calibration(fitted: TypeFit, hits: np.ndarray, group: np.ndarray) -> str:
    """Calibration error of the likeliest type with its interval, and what chance alone shows."""
    sure, rng = fitted.oof.max(axis=1), np.random.default_rng(0)
    where = np.unique(group, return_inverse=True)[1]
    rows = [np.flatnonzero(where == g) for g in range(int(where.max()) + 1)]
    drawn = [np.concatenate([rows[g] for g in rng.integers(0, len(rows), len(rows))]) for _ in range(200)]
    low, high = np.quantile([calibration_error(hits[d], sure[d]) for d in drawn], [0.025, 0.975])
    chance = np.mean(
        [calibration_error((rng.random(len(sure)) < sure).astype(float), sure) for _ in range(50)]
    )
    error = calibration_error(hits, sure)
    return (
        f"said {sure.mean():.1%} sure, right {hits.mean():.1%}; calibration error {error:.3f} "
        f"(draws {low:.3f} to {high:.3f}; a perfect one shows {chance:.3f}); "
        f"trust {fitted.types.card.reliability:.2f}, base rates {fitted.scored.log_loss_of_base:.4f} nats"
    )


def abroad(fitted: TypeFit, features: np.ndarray, name: str) -> str:
    """What the classifier says of requests (n, d) of a set that it has nothing to do with."""
    p = fitted.types.posterior(features.astype(np.float32))
    silent = np.abs(p - fitted.types.base).max(axis=1) < 1e-9
    said = f"{name}: base rates for {silent.mean():.1%} of {len(p)} requests"
    if silent.all():
        return said
    kinds, count = np.unique(p[~silent].argmax(axis=1), return_counts=True)
    most = f"{count.max()} of them {fitted.types.names[kinds[count.argmax()]]}"
    return f"{said}; the others on average {p[~silent].max(axis=1).mean():.1%} sure, {most}"


def tasks_of(path: Path, kind: str, group: str | None, place: int) -> pl.DataFrame:
    """A row per task of a file, its id and group marked by the file's place."""
    frame = pl.read_parquet(path).unique("task_id", keep="first", maintain_order=True)
    wanted = [c for c in ("prompt", "tools_json", "n_tools") if c in frame.columns]
    mark = pl.lit(f"{place}/")
    return frame.select(
        *wanted,
        task_id=mark + pl.col("task_id").cast(pl.String),
        group=mark + pl.col(group or "task_id").cast(pl.String),
        category=pl.col(kind).cast(pl.String) if kind in frame.columns else pl.lit("", pl.String),
    )


def classifiers(matrix: Matrix, inputs: Any, texts: list[str]) -> TypeFit:
    """Print the classifier with and without each block; the shipped one."""
    names, vector = inputs.names, inputs.vector
    embedded = np.array([name.startswith("emb_") for name in names], bool)
    structure = np.array([name.startswith(STRUCTURE) for name in names], bool)
    clauses = np.array([name in CLAUSES for name in names], bool)
    blocks = {
        "as shipped": np.ones(len(names), bool),
        "without the text's vector": ~embedded,
        "without tool structure": ~structure,
        "without joins, commas, quotes": ~clauses,
        "without both": ~structure & ~clauses,
        "without all three": ~structure & ~clauses & ~embedded,
        "the text's vector alone": embedded,
    }
    sets = {name: (vector[:, kept], tuple(np.array(names)[kept])) for name, kept in blocks.items()}
    for label, block in texts_blocks(texts).items():
        sets[f"with TF-IDF, {label}"] = (np.concatenate([vector, block], 1), names + _named(block))
    shipped = fitted_on(matrix, *sets["as shipped"])
    base = told(shipped, matrix)
    commonest = np.unique(matrix.category, return_counts=True)[1].max() / len(base[0])
    size = f"{len(base[0])} requests in {len(np.unique(matrix.group))} groups"
    print(f"{size}, {len(shipped.types.names)} types, commonest {commonest:.1%}")
    print(calibration(shipped, base[1], matrix.group), flush=True)
    for label, (features, kept) in sets.items():
        try:
            loss, hits = told(fitted_on(matrix, features, kept), matrix)
        except SystemExit as nothing:
            print(f"{label:32s} {nothing}")
            continue
        off = interval(loss - base[0], matrix.group), interval(hits - base[1], matrix.group)
        line = f"{label:32s} log-loss {loss.mean():.4f}  right {hits.mean():.1%}"
        print(f"{line}  log-loss {off[0]}  right {off[1]}", flush=True)
    return shipped


def texts_blocks(texts: list[str]) -> dict[str, np.ndarray]:
    """TF-IDF of the texts in the ways that were tried."""
    if not texts:
        return {}
    return {
        "128 words": hashed(texts, 128, WORDS),
        "256 words": hashed(texts, 256, WORDS),
        "256 words and marks": hashed(texts, 256, MARKS),
        "128 words and pairs": hashed(texts, 128, WORDS, pairs=True),
        "256 words and pairs": hashed(texts, 256, WORDS, pairs=True),
    }


def _named(block: np.ndarray) -> tuple[str, ...]:
    return tuple(f"emb_t{i}" for i in range(block.shape[1]))


def prompts_of(matrix: Matrix) -> list[str]:
    """Salient text of each task's prompt; empty where the matrix has none."""
    if "prompt" not in matrix.tasks.columns:
        return []
    prompts = [prompt or "" for prompt in matrix.tasks["prompt"]]
    said = [Message(role="user", parts=(Part(kind="text", text=prompt),)) for prompt in prompts]
    return [salient_text((message,)) for message in said]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--type", default="category")
    parser.add_argument("--group")
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--foreign", type=Path, action="append", default=[])
    chosen = parser.parse_args()
    frames = [tasks_of(chosen.tasks, chosen.type, chosen.group, 0)]
    frames += [tasks_of(path, "", None, i) for i, path in enumerate(chosen.foreign, 1)]
    tasks = pl.concat(frames, how="diagonal_relaxed")
    # Two made-up models: `evaluate` reads tasks as parts of a matrix.
    rows = [tasks.with_columns(model=pl.lit(m), success=pl.lit(s)) for m, s in (("a", 0.0), ("b", 1.0))]
    with TemporaryDirectory() as scratch:
        pl.concat(rows).write_parquet(Path(scratch) / "matrix.parquet")
        matrix, inputs = matrix_of(Path(scratch) / "matrix.parquet", Options(group="group"))
    place = np.array([int(name.partition("/")[0]) for name in matrix.tasks["task_id"]])
    home = some_tasks(matrix, place == 0)
    own = inputs._replace(vector=inputs.vector[place == 0])
    fitted = classifiers(home, own, prompts_of(home) if chosen.texts else [])
    for i, path in enumerate(chosen.foreign, 1):
        print(abroad(fitted, inputs.vector[place == i], path.stem), flush=True)


def some_tasks(matrix: Matrix, which: np.ndarray) -> Matrix:
    """The tasks (n,) bool of a matrix that tell a type."""
    return matrix._replace(
        tasks=matrix.tasks.filter(pl.Series(which)),
        group=matrix.group[which],
        category=matrix.category[which],
    )


if __name__ == "__main__":
    main()
