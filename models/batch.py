"""A bundle's beliefs about many requests at once: the same as `Bundle.predict` one by one, in one graph run.

Replay asks a million times; a session's look-ups and ONNX's own overhead are paid once for a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from features.errors import BadInput
from models.bundle import Predictions, wilson
from models.calibration import calibrated
from models.heads import BASES
from models.table import model_matrix
from models.tasktype import mixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle import Bundle, CandidateView

BATCH_ROWS = 16_384  # rows of the graph's input at a time


def predict_many(
    bundle: Bundle,
    features: np.ndarray,
    candidates: Sequence[CandidateView],
    task_types: Sequence[str | None],
) -> Predictions:
    """Beliefs (m, k) about k candidates for m requests: features (m, n_features) float32, a type each.

    Raises BadInput when the features have another width than the bundle was trained on.
    """
    m, k = len(features), len(candidates)
    if features.shape[1] != bundle.manifest.n_features:
        raise BadInput(
            f"features of width {features.shape[1]}, the bundle takes {bundle.manifest.n_features}"
        )
    found = Predictions(*(np.full((m, k), np.nan) for _ in Predictions._fields))
    kinds: dict[str, list[int]] = {}
    for row, kind in enumerate(task_types):
        kinds.setdefault(kind or "", []).append(row)
    for kind, listed in kinds.items():
        rows = np.array(listed)
        step = max(1, BATCH_ROWS // max(k, 1))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            said = _of_one_type(bundle, features[some], tuple(candidates), kind)
            for whole, part in zip(found, said, strict=True):
                whole[some] = part
    return found


def _of_one_type(
    bundle: Bundle, features: np.ndarray, candidates: tuple[CandidateView, ...], kind: str
) -> Predictions:
    """Beliefs (m, k) about requests of one task type; an empty one is unknown."""
    arms = bundle._look_up(candidates, kind)
    m, k = len(features), len(candidates)
    extra = np.broadcast_to(arms.extra, (m, k, arms.extra.shape[1])).copy()
    behind = np.broadcast_to(arms.effective_rows, (m, k))
    if bundle.types is not None and not kind:
        posterior = bundle.types.posterior(features)
        base = bundle.types.base
        for name, cells in arms.cells.items():
            column = bundle._columns[BASES[name][0]]
            overall, each = arms.extra[:, column], posterior[:, None, :]
            extra[:, :, column] = mixed(overall, cells, each, base, logit=name == "success")
        assert arms.cell_rows is not None
        near = np.minimum(posterior, base).sum(axis=1)[:, None]
        spread = np.einsum("mt,kt->mk", posterior, 1.0 / arms.cell_rows)
        behind = 1.0 / (near / arms.effective_rows + (1.0 - near) * spread)
    out = _answers(bundle, features, extra, outside_many(bundle, features, kind))
    p = out["p_success"].astype(np.float64)
    low, high = wilson(p.ravel(), behind.reshape(-1))
    amounts = []
    for name in ("tokens", "reasoning", "calls", "turns"):
        ratio = arms.ratio.get(name)
        amount = np.full((m, k), np.nan)
        if ratio is not None:
            amount = ratio * np.expm1(out[BASES[name][1]].astype(np.float64))
        amounts.append(amount)
    return Predictions(p, low.reshape(m, k), high.reshape(m, k), *amounts)


def outside_many(bundle: Bundle, features: np.ndarray, kind: str) -> np.ndarray:
    """Whether (m,) requests lie outside what the learners were trained on, as `Bundle.outside`."""
    values = features[:, bundle._support_at].astype(np.float64)
    low, high, unknown = bundle._support.T
    with np.errstate(invalid="ignore"):
        bad = (values < low) | (values > high)
    bad |= np.isnan(values) & (unknown == 0)
    strange = bundle.manifest.types_known and kind not in bundle._types
    outside: np.ndarray = np.logical_or(bad.any(axis=1), strange)
    return outside


def _answers(
    bundle: Bundle, features: np.ndarray, extra: np.ndarray, outside: np.ndarray
) -> dict[str, np.ndarray]:
    """The graph's answers (m, k), the tables' alone where a request is outside."""
    m, k, width = extra.shape
    found = {output: np.zeros((m, k)) for output in bundle._outputs}
    inside = np.flatnonzero(~outside)
    if len(inside):
        matrix = model_matrix(np.repeat(features[inside], k, axis=0), extra[inside].reshape(-1, width))
        said = bundle._session.run(None, {"X": matrix})
        for name, values in zip(bundle._outputs, said, strict=True):
            found[name][inside] = np.reshape(values, (len(inside), k))
    if outside.any():
        column = bundle._columns["table_logit"]
        found["p_success"][outside] = calibrated(bundle.manifest.calibration, extra[outside][:, :, column])
        for name, (_, scale) in bundle._tables.items():
            base, output = BASES[name]
            found[output][outside] = np.clip(
                extra[outside][:, :, bundle._columns[base]], 0.0, scale.log_limit
            )
    return found
