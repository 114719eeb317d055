"""What a prompt must not tell: its task's id, its group, or, in a heading of its own, what came of it.

Ids in a first line are stripped before features are made (`inputs`). Here the rest is found and said.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from training.evaluate.words import counted
from training.examples import assign_folds
from training.metrics import auc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.evaluate.options import Notes

MIN_ID = 6  # characters of an id that can't be there by chance
MIN_TASKS = 60  # that a probe needs
TELLING = 0.7  # AUC of the first line's words at which it is suspect, if …
FURTHER = 0.1  # … the other lines' words say so much less
_BUCKETS = 512
_RIDGE = 5.0
_FOLDS = 5
_WORD = re.compile(r"[A-Za-z]{2,}")


def probe(prompts: list[str], ids: list[str], groups: list[str], success: np.ndarray, notes: Notes) -> None:
    """Warn of prompts (stripped of a first line that holds the id) that tell too much; success (n, m)."""
    within = sum(_tail(i) in p for p, i in zip(prompts, ids, strict=True) if len(_tail(i)) >= MIN_ID)
    said = counted(within, "prompt holds its", "prompts hold their")
    notes.add("prompt_holds_id", within, f"{said} task id further down: a feature may learn it by heart")
    named = sum(len(g) >= MIN_ID and g != i and g in p for p, g, i in zip(prompts, groups, ids, strict=True))
    said = counted(named, "prompt names its", "prompts name their")
    note = f"{said} group: what is learned from the name is no use for a new group"
    notes.add("prompt_holds_group", named if 2 * named > len(prompts) else 0, note)
    _first_line(prompts, groups, success, notes)


def _tail(task_id: str) -> str:
    return task_id.rsplit("/", 1)[-1]


def _first_line(prompts: list[str], groups: list[str], success: np.ndarray, notes: Notes) -> None:
    """Warn where words of the first line foretell the outcome and those of the other lines don't."""
    split = [p.partition("\n") for p in prompts]
    long = sum(bool(newline and rest.strip()) for _, newline, rest in split)
    if len(prompts) < MIN_TASKS or 2 * long < len(prompts):
        return
    mean = success.mean(axis=1)
    target = (mean > np.median(mean)).astype(np.float64)
    if target.mean() in (0.0, 1.0):
        target = (mean >= np.median(mean)).astype(np.float64)
    fold = assign_folds(np.unique(groups, return_inverse=True)[1], _FOLDS, seed=0)
    first, rest = (_foretold([part[i] for part in split], target, fold) for i in (0, 2))
    if first is None or rest is None or first < TELLING or first < rest + FURTHER:
        return
    note = (
        f"words of the prompts' first line foretell the outcome (AUC {first:.2f}, other lines {rest:.2f}): "
        "a label may have leaked into it; strip it if a client wouldn't send it"
    )
    notes.add("telling_first_line", len(prompts), note)


def _foretold(texts: list[str], target: np.ndarray, fold: np.ndarray) -> float | None:
    """AUC of a ridge regression on hashed words, within folds by group; None where it can't be told."""
    x = np.stack([_words(text) for text in texts])
    found, weight = [], []
    for f in range(int(fold.max()) + 1):
        train, test = fold != f, fold == f
        if not train.any():
            return None
        centre = x[train].mean(axis=0)
        a, y = x[train] - centre, target[train] - target[train].mean()
        slope = np.linalg.solve(a.T @ a + _RIDGE * np.eye(_BUCKETS), a.T @ y)
        value = auc(target[test], (x[test] - centre) @ slope)
        if value is not None:
            found.append(value)
            weight.append(int(test.sum()))
    return float(np.average(found, weights=weight)) if found else None


def _words(text: str) -> np.ndarray:
    """Which hashed words a text has, of unit length; digits and what they stand in don't count."""
    row = np.zeros(_BUCKETS)
    for word in _distinct(text):
        row[xxhash.xxh3_64_intdigest(word.encode()) % _BUCKETS] = 1.0
    length = float(np.sqrt(row.sum()))
    return row / length if length else row


def _distinct(text: str) -> Iterable[str]:
    return {word.lower() for word in _WORD.findall(text[:4000])}
