"""What is believed of a cheap run once it is over: P(it succeeded), and P(the reference succeeds) beside it.

The reference's chance is learned given whether the cheap run truly succeeded, and put together with what the
evidence and a check's verdict say of that: the two often fail on the same tasks, so an escalation is worth
P(reference) - P(cheap), which this keeps apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput
from training.after.heads import fit_head
from training.after.rows import AfterRows
from training.calibrate import sigmoid
from training.evaluate.chains import frontier_pairs
from training.evaluate.choose import book
from training.evaluate.menus import pareto

if TYPE_CHECKING:
    from training.evaluate.matrix import Matrix
    from training.evaluate.options import Options
    from training.evaluate.predict import Split

MAX_PAIRS = 8  # of cheap model and reference; more are more to choose wrongly from


class Belief(NamedTuple):
    """Of one pair: chances (rows,) of the run, and of the reference if the run failed or succeeded."""

    p: np.ndarray
    if_failed: np.ndarray
    if_succeeded: np.ndarray

    def gain(self, noise: float) -> np.ndarray:
        """What escalating adds to success (2, rows), after a check that errs so often said no, and yes."""
        lot = np.array([[noise], [1 - noise]])  # of the verdict, were the run good
        good = self.p * lot
        posterior = good / np.maximum(good + (1 - self.p) * (1 - lot), 1e-12)
        worth: np.ndarray = (1 - posterior) * self.if_failed - posterior * (1 - self.if_succeeded)
        return worth


class Beliefs(NamedTuple):
    """Of one fold: pairs (cheap model, reference) and what is believed of each."""

    pairs: list[tuple[int, int]]
    train: list[Belief]  # each row without its group
    test: list[Belief]
    parts: dict[str, str]  # what each head stands on


def beliefs(matrix: Matrix, split: Split, options: Options) -> Beliefs:
    """Fit the heads on the training part of one fold; pairs are chosen there too."""
    pairs = pairs_of(matrix, split.train, options)
    cheap = sorted({c for c, _ in pairs})
    sides = [_Side(matrix, which, cheap) for which in (split.train, split.test)]
    parts: dict[str, str] = {}
    found: dict[tuple[int, int], list[Belief]] = {}
    if pairs:
        head = fit_head(sides[0].rows())
        parts["cheap run"] = head.parts
        p = head.oof, sigmoid(head.log_odds(sides[1].rows()))
        for r in sorted({r for _, r in pairs}):
            given, parts[f"reference {matrix.models[r]}"] = _given(sides, r)
            columns = [(p[k], *given[k]) for k in (0, 1)]
            for c in (c for c, reference in pairs if reference == r):
                i = cheap.index(c)
                found[c, r] = [
                    Belief(*(side.of(i, v) for v in column))
                    for side, column in zip(sides, columns, strict=True)
                ]
    return Beliefs(pairs, [found[pair][0] for pair in pairs], [found[pair][1] for pair in pairs], parts)


class _Side:
    """Runs of the cheap models on some of the tasks, model by model."""

    def __init__(self, matrix: Matrix, which: np.ndarray, cheap: list[int]) -> None:
        self.matrix, self.at, self.cheap = matrix, np.flatnonzero(which), cheap

    def rows(self, reference: int | None = None, outcome: float | None = None) -> AfterRows:
        """As rows to be judged; with a reference, its success is the target and the run's a feature.

        `outcome` puts another success in the run's place.
        """
        matrix, at, k = self.matrix, self.at, len(self.cheap)
        assert matrix.evidence is not None
        features = np.concatenate([matrix.evidence.values[at, c] for c in self.cheap])
        target = np.concatenate([matrix.success[at, c] for c in self.cheap])
        names = matrix.evidence.names
        beside = np.full(len(target), np.nan)
        if reference is not None:
            own = target if outcome is None else np.full(len(target), outcome)
            features, names = np.column_stack([features, own]), (*names, "run succeeded")
            target = beside = np.tile(matrix.success[at, reference], k)
        candidate = np.repeat([matrix.models[c] for c in self.cheap], len(at))
        group = matrix.group[at] if len(np.unique(matrix.group[at])) > 1 else np.arange(len(at))
        group = np.tile(group.astype(str), k)
        features = features.astype(np.float32)
        return AfterRows(features, names, target, beside, candidate, group, candidate)

    def of(self, i: int, values: np.ndarray) -> np.ndarray:
        """The values (rows,) of the i-th cheap model."""
        return values[i * len(self.at) : (i + 1) * len(self.at)]


def _given(sides: list[_Side], r: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """P(reference r succeeds) if the run failed and if it succeeded, of each side, and what it stands on."""
    train, test = sides
    head = fit_head(train.rows(r), instead=[train.rows(r, outcome) for outcome in (0.0, 1.0)])
    held = [sigmoid(head.log_odds(test.rows(r, outcome))) for outcome in (0.0, 1.0)]
    return [(head.oof_of[0], head.oof_of[1]), (held[0], held[1])], head.parts


def pairs_of(matrix: Matrix, train: np.ndarray, options: Options) -> list[tuple[int, int]]:
    """Pairs (cheaper model, reference): the cascades on the frontier, and cheap pins before the best one.

    With --reference that one alone is escalated to.
    """
    known = book(matrix, train)
    success = matrix.success[train]
    cost = np.where(np.isfinite(matrix.cost[train]), matrix.cost[train], known.cost)
    fixed = reference_of(matrix, options)
    r = known.pin if fixed is None else fixed
    found = frontier_pairs(success, cost, options.check_noise[0], options.check_usd, fixed)
    found += [(int(c), r) for c in pareto(known.quality, known.cost)]
    found = [(c, r) for c, r in dict.fromkeys(found) if known.cost[c] < known.cost[r]]
    found.sort(key=lambda pair: (known.cost[pair[0]], known.cost[pair[1]]))
    if len(found) <= MAX_PAIRS:
        return found
    return [found[k] for k in np.linspace(0, len(found) - 1, MAX_PAIRS).round().astype(int)]


def reference_of(matrix: Matrix, options: Options) -> int | None:
    """Number of the model that --reference names; None without one."""
    if options.reference is None:
        return None
    if options.reference not in matrix.models:
        raise BadInput(
            f"--reference {options.reference}: no such model; there are: {', '.join(matrix.models)}"
        )
    return matrix.models.index(options.reference)
