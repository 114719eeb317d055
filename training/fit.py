"""The heads: P(success) and amounts of a candidate, each a shrunken table plus what learners add to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from features.errors import BadInput
from models.calibration import calibrated
from models.tasktype import TaskTypes, mixed
from training.calibrate import design_effect, fit_calibration, log_loss
from training.examples import DEFAULT_KNOBS, Examples, Knobs, names_of
from training.residual import Learned, fit_recipe, learner_matrix, types_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.calibration import Calibration
    from models.descriptors import Prices
    from models.table import Table


@dataclass(frozen=True)
class SuccessHead:
    """P(success) = the calibrated (table + learners)."""

    table: Table
    learned: Learned
    calibration: Calibration  # with how many rows of a group are worth one independent row
    candidates: tuple[str, ...]
    task_types: tuple[str, ...]
    prices: dict[str, Prices]
    types: TaskTypes | None
    # Calibrated p (n,) of each training row, NaN unlabelled: scores from folds without its group, under the
    # one calibration that is served, whose few numbers have seen the row.
    oof: np.ndarray
    metrics: dict[str, float] = field(default_factory=dict)

    def predict(self, features: np.ndarray, candidate: Iterable[str], task_type: Iterable[str]) -> np.ndarray:
        """P(success) (n,) of each (request features, candidate, task type); works for unseen names too."""
        return calibrated(self.calibration, _raw(self, features, candidate, task_type))

    def by_table(self, features: np.ndarray, candidate: list[str], task_type: list[str]) -> np.ndarray:
        """P(success) (n,) if the learners added nothing."""
        return calibrated(self.calibration, _table_values(self, features, (candidate, task_type)))


@dataclass(frozen=True)
class TokensHead:
    """An amount, as tokens = ratio(candidate) · expm1(table + learners): sums are right, not medians."""

    table: Table
    learned: Learned
    ratio: dict[str, float]
    default_ratio: float
    log_limit: float  # no prediction beyond the longest answer seen, log1p tokens
    candidates: tuple[str, ...]
    task_types: tuple[str, ...]
    prices: dict[str, Prices]
    types: TaskTypes | None
    oof: np.ndarray  # tokens (n,) of each training row from folds without its group; NaN unknown
    metrics: dict[str, float] = field(default_factory=dict)

    def predict(self, features: np.ndarray, candidate: Iterable[str], task_type: Iterable[str]) -> np.ndarray:
        """Tokens (n,) that the answers are expected to have."""
        raw = np.clip(_raw(self, features, candidate, task_type), 0.0, self.log_limit)
        tokens: np.ndarray = self.ratios(candidate) * np.expm1(raw)
        return tokens

    def ratios(self, candidate: Iterable[str]) -> np.ndarray:
        """Ratio (n,) of each row's candidate."""
        return np.array([self.ratio.get(str(c), self.default_ratio) for c in candidate])


def fit_success(examples: Examples, knobs: Knobs = DEFAULT_KNOBS) -> SuccessHead:
    """Fit P(success) on the labelled rows; raises BadInput when there is none."""
    target = np.where((examples.success >= 0) & (examples.success <= 1), examples.success, np.nan)
    if not np.isfinite(target).any():
        raise BadInput("no labelled rows: every success is missing or outside 0..1; label the log first")
    fitted = fit_recipe(examples, target, "logit", knobs)
    known = np.isfinite(target)
    calibration = fit_calibration(fitted.oof[known], target[known], fitted.fold[known])
    p = calibrated(calibration, fitted.oof)
    return SuccessHead(
        table=fitted.table,
        learned=fitted.learned,
        calibration=msgspec.structs.replace(
            calibration, design_effect=design_effect(target - p, examples.group, examples.candidate)
        ),
        candidates=names_of(examples.candidate),
        task_types=types_of(examples),
        prices=dict(examples.prices),
        types=examples.types,
        oof=p,
        metrics={**fitted.metrics, "logloss": float(np.mean(log_loss(p[known], target[known])))},
    )


def fit_tokens(examples: Examples, knobs: Knobs = DEFAULT_KNOBS) -> TokensHead | None:
    """Fit output tokens on the rows that know them; None when no row does."""
    return fit_amount(examples, examples.output_tokens, knobs)


def fit_amounts(examples: Examples, knobs: Knobs = DEFAULT_KNOBS) -> dict[str, TokensHead]:
    """Fit whichever of reasoning tokens, calls left and turns left the examples know, by name of the head."""
    known = {
        "reasoning": examples.reasoning_tokens,
        "calls": examples.calls_left,
        "turns": examples.turns_left,
    }
    fitted = {n: fit_amount(examples, v, knobs) for n, v in known.items() if v is not None}
    return {name: head for name, head in fitted.items() if head is not None}


def fit_amount(examples: Examples, amount: np.ndarray, knobs: Knobs = DEFAULT_KNOBS) -> TokensHead | None:
    """Fit an amount (n,) ≥ 0, NaN unknown, on the rows that know it; None when no row does.

    Learners and types stay only if they explain `min_r2_tokens` of log amounts within candidates, out of
    fold: on agent runs nothing beats the candidate's mean. The metrics say which it was.
    """
    amount = np.where(np.isfinite(amount) & (amount >= 0), amount, np.nan)
    known = np.isfinite(amount)
    if not known.any():
        return None
    target = np.log1p(amount)
    untyped = examples._replace(task_type=np.full(len(target), ""), types=None, posterior=None)
    plain = fit_recipe(untyped, target, "identity", knobs, learners=False)
    fitted = fit_recipe(examples, target, "identity", knobs)
    left = float(np.sum((target - plain.oof)[known] ** 2))
    r2 = 1.0 - float(np.sum((target - fitted.oof)[known] ** 2)) / left if left > 0 else 0.0
    by_mean = r2 < knobs.min_r2_tokens
    if by_mean:
        fitted = plain
    limit = float(target[known].max())
    raw = np.expm1(np.clip(fitted.oof, 0.0, limit))
    # The ratio is of what is served: the whole table, and learners that never saw the row. A candidate of one
    # session has no table out of fold, and its ratio would repair a guess that is no longer made.
    table = fitted.table.values(examples.candidate, examples.task_type, examples.prices)
    served = np.expm1(np.clip(table + fitted.oof - fitted.oof_table, 0.0, limit))
    ratio, default_ratio = _ratios(served[known], amount[known], examples.candidate[known])
    head = TokensHead(
        table=fitted.table,
        learned=fitted.learned,
        ratio=ratio,
        default_ratio=default_ratio,
        log_limit=limit,
        candidates=names_of(examples.candidate),
        task_types=types_of(examples),
        prices=dict(examples.prices),
        types=None if by_mean else examples.types,
        oof=raw,
        metrics={**fitted.metrics, "r2_within_candidate": r2, "by_mean": float(by_mean)},
    )
    return replace(head, oof=raw * head.ratios(examples.candidate))


def _raw(
    head: SuccessHead | TokensHead, features: np.ndarray, candidate: Iterable[str], task_type: Iterable[str]
) -> np.ndarray:
    """Table + learners (n,) on the link scale."""
    pairs = list(candidate), list(task_type)
    total = _table_values(head, features, pairs)
    learned = head.learned
    if learned.booster is None and learned.linear is None:
        return total
    matrix = learner_matrix(features, pairs, (head.candidates, head.task_types), head.prices)
    if learned.booster is not None:
        total = total + learned.tree_weight * np.asarray(learned.booster.predict(matrix, raw_score=True))
    if learned.linear is not None:
        d = features.shape[1]
        total = total + learned.linear.values(matrix[:, :d], matrix[:, d])
    return total


def _table_values(
    head: SuccessHead | TokensHead, features: np.ndarray, pairs: tuple[list[str], list[str]]
) -> np.ndarray:
    """The table's values (n,), mixed over the types' posterior where none is told."""
    total = head.table.values(*pairs, head.prices)
    hidden = np.flatnonzero(np.array([not kind for kind in pairs[1]], dtype=bool))
    if head.types is None or not len(hidden):
        return total
    types = head.types
    names = [pairs[0][row] for row in hidden]
    cells = np.stack([head.table.values(names, [kind] * len(names), head.prices) for kind in types.names], 1)
    total[hidden] = mixed(
        total[hidden],
        cells,
        types.posterior(features[hidden]),
        types.base,
        logit=isinstance(head, SuccessHead),
    )
    return total


def _ratios(raw: np.ndarray, tokens: np.ndarray, candidate: np.ndarray) -> tuple[dict[str, float], float]:
    """Actual over predicted tokens by candidate, drawn to the overall ratio by the weight of one mean row."""
    mean = float(raw.mean())
    overall = float(tokens.sum() / raw.sum()) if raw.sum() > 0 else 1.0
    ratio = {}
    for name in np.unique(candidate):
        mine = candidate == name
        ratio[str(name)] = float((tokens[mine].sum() + overall * mean) / max(raw[mine].sum() + mean, 1e-9))
    return ratio, overall


__all__ = ["Examples", "Knobs", "SuccessHead", "TokensHead", "fit_amounts", "fit_success", "fit_tokens"]
