"""Heads judged on the newest groups, which they haven't seen, beside their controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from training.calibrate import log_loss
from training.fit import fit_success, fit_tokens
from training.metrics import ProbabilityMetrics, chance_error, paired_error, probability_metrics
from training.routed import RouteScore
from training.served import Served, served
from training.slices import error_interval
from training.tasktype import with_types

if TYPE_CHECKING:
    from training.examples import Examples, Knobs
    from training.fit import SuccessHead, TokensHead

Z_95 = 1.96
CURVE_BINS = 10
RESAMPLED = 400  # of groups, for an interval


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Scores on the newest groups, by heads fitted on the others; the table alone stands beside."""

    rows: int
    groups: int
    success: ProbabilityMetrics
    table: ProbabilityMetrics
    ece_ci: tuple[float, float] | None  # 95 % over groups; null with one group
    ece_by_chance: float  # which true probabilities would show on as many rows, 95 of 100 times less
    log_loss_minus_table: float
    log_loss_minus_table_ci: tuple[float, float]
    log_loss_minus_pin: float  # a pin believes each candidate's own rate, whatever the request
    log_loss_minus_pin_ci: tuple[float, float]
    tokens_sum_ratio: float | None  # predicted over actual output tokens
    success_ci: dict[str, tuple[float, float]] = {}  # 95 % over groups of log_loss, brier and auc
    table_ci: dict[str, tuple[float, float]] = {}
    curve: list[tuple[float, float]] = []  # (mean prediction, share of successes) of ten bins of equal count
    table_curve: list[tuple[float, float]] = []
    route: RouteScore | None = None  # what routing by these beliefs comes to


class Fitted(NamedTuple):
    """Heads of the older groups."""

    success: SuccessHead
    table: SuccessHead  # the table alone: the control
    tokens: TokensHead | None
    rates: dict[str, float]  # each candidate's own
    served: Served  # success with the table alone where its bundle will serve that


class Believed(NamedTuple):
    """What they believe of the newest rows, all (n,)."""

    p: np.ndarray
    table: np.ndarray
    pin: np.ndarray  # each candidate's own rate


def fit_both(older: Examples, knobs: Knobs) -> Fitted:
    """The heads, and the table alone beside them."""
    alone = msgspec.structs.replace(knobs, trees=(), ridges=())
    older = with_types(older, seed=knobs.seed)
    success, table = fit_success(older, knobs), fit_success(older, alone)
    tokens = fit_tokens(older, knobs)
    return Fitted(success, table, tokens, own_rates(older), served(success, tokens, older))


def believed(heads: Fitted, newest: Examples) -> Believed:
    """Probabilities of success that heads and controls give the newest rows."""
    of = newest.features, newest.candidate
    return Believed(
        heads.served.predict(*of, newest.task_type),
        heads.table.predict(*of, newest.task_type),
        np.array([heads.rates.get(name, heads.rates[""]) for name in newest.candidate.tolist()]),
    )


def own_rates(older: Examples) -> dict[str, float]:
    """Each candidate's own rate, drawn to all rows' (under "") by the weight of one row.

    A table's effects are of candidates on equal types, which is no rate of theirs.
    """
    labelled = older.some(np.isfinite(older.success))
    overall = float(labelled.success.mean())
    mine = {str(name): labelled.success[labelled.candidate == name] for name in np.unique(labelled.candidate)}
    return {"": overall} | {name: float((y.sum() + overall) / (len(y) + 1)) for name, y in mine.items()}


def scored(heads: Fitted, newest: Examples, said: Believed, seed: int) -> HeldOut:
    """Scores with intervals over groups, beside the controls on the same rows."""
    loss = log_loss(said.p, newest.success)
    over_table, table_ci = _over(loss, said.table, newest)
    over_pin, pin_ci = _over(loss, said.pin, newest)
    several = len(np.unique(newest.group)) > 1
    return HeldOut(
        rows=len(newest.success),
        groups=len(np.unique(newest.group)),
        success=probability_metrics(newest.success, said.p),
        table=probability_metrics(newest.success, said.table),
        ece_ci=error_interval(newest.success, said.p, newest.group) if several else None,
        ece_by_chance=chance_error(said.p, seed),
        log_loss_minus_table=over_table,
        log_loss_minus_table_ci=table_ci,
        log_loss_minus_pin=over_pin,
        log_loss_minus_pin_ci=pin_ci,
        tokens_sum_ratio=_tokens_ratio(heads.tokens, newest),
        success_ci=score_intervals(newest.success, said.p, newest.group),
        table_ci=score_intervals(newest.success, said.table, newest.group),
        curve=_curve(newest.success, said.p),
        table_curve=_curve(newest.success, said.table),
    )


def score_intervals(y: np.ndarray, p: np.ndarray, group: np.ndarray) -> dict[str, tuple[float, float]]:
    """95 % intervals of log_loss, brier and auc of p (n,) against y (n,), by the bootstrap over groups (n,).

    The percentile bootstrap. A score that the labels, or a single group, don't allow is left out.
    """
    names, where = np.unique(group, return_inverse=True)
    if len(names) < 2:
        return {}
    values, tie = np.unique(p, return_inverse=True)
    positive, loss, square = y >= 0.5, log_loss(p, y), (p - y) ** 2
    drawn: dict[str, list[float]] = {"log_loss": [], "brier": [], "auc": []}
    rng = np.random.default_rng(0)
    for counts in rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLED):
        weight = counts[where].astype(np.float64)
        drawn["log_loss"].append(float(weight @ loss / weight.sum()))
        drawn["brier"].append(float(weight @ square / weight.sum()))
        good, bad = (np.bincount(tie, weight * which, len(values)) for which in (positive, ~positive))
        if good.any() and bad.any():
            below = np.cumsum(bad) - bad / 2
            drawn["auc"].append(float(good @ below / (good.sum() * bad.sum())))
    ends = {name: np.quantile(found, [0.025, 0.975]) for name, found in drawn.items() if found}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _over(loss: np.ndarray, control: np.ndarray, newest: Examples) -> tuple[float, tuple[float, float]]:
    """Mean log-loss above a control's, and its 95 % interval over groups."""
    mean, error = paired_error(loss - log_loss(control, newest.success), newest.group)
    return mean, (mean - Z_95 * error, mean + Z_95 * error)


def _tokens_ratio(tokens: TokensHead | None, newest: Examples) -> float | None:
    known = np.isfinite(newest.output_tokens)
    if tokens is None or not known.any():
        return None
    said = tokens.predict(newest.features[known], newest.candidate[known], newest.task_type[known])
    return float(said.sum() / max(newest.output_tokens[known].sum(), 1.0))


def _curve(y: np.ndarray, p: np.ndarray) -> list[tuple[float, float]]:
    parts = np.array_split(np.argsort(p, kind="stable"), min(CURVE_BINS, len(p)))
    return [(float(p[part].mean()), float(y[part].mean())) for part in parts]
