"""Heads after the answer for a bundle: fitted on a log, written as numbers, and held to what was fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from features.answerfacts import AFTER_NAMES, AGREEMENT, after_hash
from features.errors import BadInput, CheckFailed
from models.after import AfterCard, HeadCard, ServedHead, Trees
from training.after.heads import fit_after
from training.after.samediff import rows_of_log
from training.calibrate import log_loss, sigmoid
from training.metrics import auc

if TYPE_CHECKING:
    from training.after.heads import Head
    from training.after.rows import AfterRows
    from training.log import LogStore

MAX_ABS_DP = 1e-6
_ODDITIES = (float("nan"), float("inf"), float("-inf"), 3.4e38, 0.0, -0.0, 1e-45)
_PROOF_ROWS = 512


class AfterSaid(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the heads after the answer, for the report."""

    rows: dict[str, int]  # judged answers by question
    heads: dict[str, dict[str, float]] = {}  # metrics out of fold, by question
    missing: dict[str, str] = {}  # question -> why it has no head


class AfterFit(NamedTuple):
    """The heads' numbers, None where the log taught none, and what to say of it."""

    card: AfterCard | None
    said: AfterSaid


def fit_log(log: LogStore, *, seed: int = 0) -> AfterFit:
    """Fit what a log teaches; a question that it can't teach has no head, and the reason is told."""
    return fit_rows(rows_of_log(log), seed=seed)


def fit_rows(rows: dict[str, AfterRows], *, seed: int = 0) -> AfterFit:
    """Fit "same" and "success" on judged answers (features AFTER_NAMES), "reference" beside "same".

    Each is fitted twice: without others' answers on all rows, and with them on the rows that have any.
    """
    alone: dict[str, HeadCard] = {}
    beside: dict[str, HeadCard] = {}
    missing: dict[str, str] = {}
    worst = 0.0
    for question, judged in rows.items():
        agreed = np.isfinite(judged.features[:, AFTER_NAMES.index("others")])
        plain = tuple(name for name in AFTER_NAMES if name not in AGREEMENT)
        parts = ((alone, judged, plain), (beside, judged.some(agreed), AFTER_NAMES))
        for cards, part, names in parts:
            try:
                found = _cards(question, part, names, seed)
            except BadInput as why:  # too few of them; what can't be learned isn't served
                if cards is alone:
                    missing[question] = str(why)
                continue
            cards |= {name: card for name, (card, _) in found.items()}
            worst = max(worst, *(difference for _, difference in found.values()))
    heads = {name: card.metrics for name, card in alone.items()}
    heads |= {f"{name}, beside others": card.metrics for name, card in beside.items()}
    said = AfterSaid(rows={q: len(r.target) for q, r in rows.items()}, heads=heads, missing=missing)
    if not alone:
        return AfterFit(None, said)
    card = AfterCard(schema=after_hash(), alone=alone, beside=beside, max_abs_dp=worst)
    return AfterFit(card, said)


def _cards(
    question: str, rows: AfterRows, names: tuple[str, ...], seed: int
) -> dict[str, tuple[HeadCard, float]]:
    """The head of a question, and of the reference's success beside "same", each with its proof."""
    at = [AFTER_NAMES.index(name) for name in names]
    rows = rows.some(np.isfinite(rows.target))
    shown = rows._replace(features=rows.features[:, at], names=names)
    fitted = fit_after(shown, seed=seed)
    found = {question: (fitted.target, shown)}
    if fitted.reference is not None:
        known = np.isfinite(rows.reference)
        found["reference"] = (fitted.reference, shown.some(known)._replace(target=rows.reference[known]))
    cards = {}
    for name, (head, of) in found.items():
        card = card_of(head, of)
        cards[name] = (card, proven(head, card, of, seed))
    return cards


def card_of(head: Head, rows: AfterRows) -> HeadCard:
    """A fitted head as plain numbers; `rows` are those it was fitted on."""
    weights, offset = ((), 0.0) if head.linear is None else head.linear
    p = head.oof
    scores = {"log_loss": float(log_loss(p, rows.target).mean())}
    base = np.full(len(p), rows.target.mean())
    scores["log_loss_of_base"] = float(log_loss(base, rows.target).mean())
    area = auc(rows.target, p) if set(np.unique(rows.target)) <= {0.0, 1.0} else None
    return HeadCard(
        names=rows.names,
        means=head.means,
        centre={name: tuple(map(float, values)) for name, values in head.scale.mean.items()},
        spread={name: tuple(map(float, values)) for name, values in head.scale.spread.items()},
        weights=tuple(map(float, weights)),
        offset=float(offset),
        trees=None if head.trees is None else _nodes(head.trees.dump_model()),
        tree_weight=float(head.tree_weight),
        calibration=head.calibration,
        rows=len(p),
        groups=len(np.unique(rows.group)),
        base_rate=float(rows.target.mean()),
        metrics=scores if area is None else {**scores, "auc": area},
    )


def _nodes(model: dict[str, Any]) -> Trees:
    """LightGBM's trees as one list of nodes. No value is NaN here, so its default directions don't matter."""
    feature: list[int] = []
    threshold: list[float] = []
    ways: list[tuple[int, int]] = []
    value: list[float] = []

    def add(node: dict[str, Any], depth: int) -> tuple[int, int]:
        here = len(value)
        leaf = "leaf_value" in node
        feature.append(0 if leaf else int(node["split_feature"]))
        threshold.append(0.0 if leaf else float(node["threshold"]))
        value.append(float(node["leaf_value"]) if leaf else 0.0)
        ways.append((here, here))
        if leaf:
            return here, depth
        left, deep = add(node["left_child"], depth + 1)
        right, deeper = add(node["right_child"], depth + 1)
        ways[here] = (left, right)
        return here, max(deep, deeper)

    added = [add(tree["tree_structure"], 0) for tree in model["tree_info"]]
    return Trees(
        roots=tuple(root for root, _ in added),
        feature=tuple(feature),
        threshold=tuple(threshold),
        left=tuple(left for left, _ in ways),
        right=tuple(right for _, right in ways),
        value=tuple(value),
        depth=max((deep for _, deep in added), default=0),
    )


def proven(head: Head, card: HeadCard, rows: AfterRows, seed: int = 0) -> float:
    """Largest |Δp| of the numbers and the fitted head on adversarial rows; CheckFailed beyond MAX_ABS_DP."""
    trial = adversarial(card, rows, seed)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = sigmoid(head.log_odds(trial))
        whole = np.full((len(trial.target), len(AFTER_NAMES)), np.nan, dtype=np.float32)
        whole[:, [AFTER_NAMES.index(name) for name in card.names]] = trial.features
        harness = [""] * len(whole) if trial.harness is None else list(trial.harness)
        found = ServedHead(card).predict(whole, list(trial.candidate), harness)
    worst = float(np.abs(found - expected).max())
    if not worst <= MAX_ABS_DP:  # also where it is NaN
        raise CheckFailed(f"heads after the answer: their numbers differ by {worst:.1e} from what was fitted")
    return worst


def adversarial(card: HeadCard, rows: AfterRows, seed: int) -> AfterRows:
    """Rows that were fitted on, and others at and beside every threshold, unknown, or absurd."""
    rng = np.random.default_rng(seed)
    names = list(card.centre)
    chosen = [(d, v, name) for d in range(len(card.names)) for v in _ODDITIES for name in names]
    if card.trees is not None:
        inner = [n for n, way in enumerate(card.trees.left) if way != n]
        for node in inner:
            d = card.trees.feature[node]
            for name in names:
                raw = card.trees.threshold[node] * card.spread[name][d] + card.centre[name][d]
                near = np.float32(raw)
                beside = [np.nextafter(near, np.float32(to)) for to in (-np.inf, near, np.inf)]
                chosen += [(d, float(value), name) for value in beside]
    n = len(rows.target)
    picked = rng.integers(0, n, _PROOF_ROWS + len(chosen))
    trial = rows.some(picked)
    features = trial.features.copy()
    harness = np.array([*names, "another"], dtype=object)[rng.integers(0, len(names) + 1, len(picked))]
    for row, (column, value, name) in enumerate(chosen, _PROOF_ROWS):
        features[row, column], harness[row] = value, name
    candidate = np.where(rng.random(len(picked)) < 0.1, "another", trial.candidate.astype(str))
    return trial._replace(features=features, harness=harness, candidate=candidate)
