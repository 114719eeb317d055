"""How well the task type is told without being told, what tells it, and what that is worth to the heads.

    python tests/bench/bench_tasktype.py MATRIX [--map ours=theirs] [--models FILE] [--texts] [--worth]

The type is known in MATRIX and hidden. Out of fold by group throughout. First the classifier with and without
each block of features: log-loss and accuracy beside the shipped one, paired, 95 % of 2,000 draws over groups.
With --texts also hashed TF-IDF of the text (signed, sublinear, normalised, words in lower case; "marks" are
single punctuation marks) as further columns of its vector. With --worth the heads: log-loss of success with
the type known, hidden from a head that can tell it, hidden with TF-IDF, and ignored (structure and text's
vector in trees and linear part alone); then the height of their curves of success over cost, where costs are
known. --models: a file of model names to keep, a line each, "#" before a remark.
"""

from __future__ import annotations

import argparse
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from bench_heads import curve_of, difference, examples_of, matrix_of

from features.prompt import salient_text
from features.wire.types import Message, Part
from training.calibrate import log_loss
from training.evaluate.choose import book
from training.evaluate.options import Options
from training.examples import Examples, Knobs, assign_folds
from training.fit import fit_success
from training.tasktype import fit_types, with_types

if TYPE_CHECKING:
    from training.evaluate.matrix import Matrix

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


def told(matrix: Matrix, features: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Loss (n,) and hits (n,) of the types, out of fold."""
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
        raise SystemExit("no types to tell, or too few features that tell anything")
    right = np.array([fitted.types.names.index(kind) for kind in matrix.category])
    loss = -np.log(np.maximum(fitted.oof[np.arange(n), right], 1e-12))
    return loss, (fitted.oof.argmax(axis=1) == right).astype(float)


def classifiers(matrix: Matrix, inputs: Any, texts: list[str]) -> None:
    """Print the classifier with and without each block."""
    names, vector = inputs.names, inputs.vector
    embedded = np.array([name.startswith("emb_") for name in names])
    structure = np.array([name.startswith(STRUCTURE) for name in names])
    clauses = np.array([name in CLAUSES for name in names])
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
    base = None
    for label, (features, kept) in sets.items():
        loss, hits = told(matrix, features, kept)
        line = f"{label:32s} log-loss {loss.mean():.4f}  right {hits.mean():.1%}"
        if base is None:
            base = loss, hits
            commonest = np.unique(matrix.category, return_counts=True)[1].max() / len(loss)
            print(f"{line}  (the commonest type {commonest:.1%}; {len(loss)} requests)", flush=True)
            continue
        off = interval(loss - base[0], matrix.group), interval(hits - base[1], matrix.group)
        print(f"{line}  log-loss {off[0]}  right {off[1]}", flush=True)


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


def head_losses(matrix: Matrix, inputs: Any, how: str, knobs: Knobs) -> np.ndarray:
    """P (n, m) of heads that never saw the task's group, its type "known", "hidden" or "ignored"."""
    n, m = matrix.success.shape
    fold, p = assign_folds(matrix.group, 5, 0), np.empty((n, m))
    for f in range(5):
        rows = examples_of(matrix, inputs, np.flatnonzero(fold != f))
        held = examples_of(matrix, inputs, np.flatnonzero(fold == f))
        blank = np.full(len(held.group), "")
        if how == "hidden":
            rows = with_types(rows, hide=True, names=inputs.names)
        elif how == "ignored":
            rows = rows._replace(task_type=np.full(len(rows.group), ""))
        kind = held.task_type if how == "known" else blank
        head = fit_success(rows, knobs)
        p[fold == f] = head.predict(held.features, held.candidate, kind).reshape(-1, m)
    return p


def worth(matrix: Matrix, inputs: Any, texts: list[str]) -> None:
    """Print what telling the type is worth to the heads."""
    alone = Knobs(trees=(), ridges=(), num_threads=1)
    blocks = texts_blocks(texts)
    ways = {"known": (inputs, "known"), "hidden": (inputs, "hidden"), "ignored": (inputs, "ignored")}
    if blocks:
        block = blocks["256 words and marks"].astype(np.float32)
        more = inputs._replace(
            vector=np.concatenate([inputs.vector, block], 1), names=inputs.names + _named(block)
        )
        ways |= {"hidden, TF-IDF": (more, "hidden")}
    for title, knobs in (("table", alone), ("table and learners", Knobs(num_threads=1))):
        p = {label: head_losses(matrix, given, how, knobs) for label, (given, how) in ways.items()}
        loss = {label: log_loss(found, matrix.success).mean(axis=1) for label, found in p.items()}
        gap = loss["ignored"].mean() - loss["known"].mean()
        for label, values in loss.items():
            closed = (loss["ignored"].mean() - values.mean()) / gap
            beside = interval(values - loss["hidden"], matrix.group)
            said = f"log-loss {values.mean():.4f}, {closed:.0%} of the gap closed, over hidden {beside}"
            print(f"{title:18s} {label:14s} {said}", flush=True)
        if matrix.priced:
            money(matrix, p, title)


def money(matrix: Matrix, p: dict[str, np.ndarray], title: str) -> None:
    """Print heights of the curves over cost above `ignored`; costs are the model's mean for all of them."""
    blind = matrix._replace(category=np.full(len(matrix.group), ""))
    everything = book(blind, np.ones(len(matrix.group), bool))
    expected = everything.expected
    ends = float(np.nanmin(everything.cost)), float(everything.cost[everything.pin])
    curves = {label: curve_of(found, expected, matrix) for label, found in p.items()}
    for label, curve in curves.items():
        high, low, up = difference(curve, curves["ignored"], matrix, ends)
        quality, cost = curve.quality.mean(axis=1), curve.cost.mean(axis=1)
        good = quality >= matrix.success.mean(axis=0)[everything.pin] - 0.01
        saved = 1 - cost[good].min() / everything.cost[everything.pin] if good.any() else 0.0
        print(
            f"{title:18s} {label:14s} {100 * high:+.2f} points of height over ignored "
            f"({100 * low:+.2f} to {100 * up:+.2f}); at -1 point in hindsight {saved:.0%} saved",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("matrix", type=Path)
    parser.add_argument("--map", dest="maps", action="append", default=[])
    parser.add_argument("--models", type=Path)
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--worth", action="store_true")
    chosen = parser.parse_args()
    models: tuple[str, ...] = ()
    if chosen.models:
        lines = chosen.models.read_text().splitlines()
        models = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    matrix, inputs = matrix_of(chosen.matrix, Options(maps=tuple(chosen.maps), models=models))
    texts = []
    if chosen.texts:
        prompts = [prompt or "" for prompt in matrix.tasks["prompt"]]
        said = [Message(role="user", parts=(Part(kind="text", text=prompt),)) for prompt in prompts]
        texts = [salient_text((message,)) for message in said]
    classifiers(matrix, inputs, texts)
    if chosen.worth:
        worth(matrix, inputs, texts)


if __name__ == "__main__":
    main()
