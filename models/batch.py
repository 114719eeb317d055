"""A bundle's beliefs about many requests at once: the same as `Bundle.predict` one by one, in one graph run.

Replay asks a million times; a session's look-ups and ONNX's own overhead are paid once for a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from features.errors import BadInput
from models.bundle import Predictions, wilson

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
    lineup, m = bundle.lineups.of(candidates, kind), len(features)
    values, behind = None, lineup.effective_rows
    if bundle.types is not None and lineup.by_type is not None:
        posterior, by_type = bundle.types.posterior(features), lineup.by_type
        values = by_type.values(posterior)
        near = np.minimum(posterior, by_type.base).sum(axis=1)[:, None]
        spread = np.einsum("mt,kt->mk", posterior, 1.0 / by_type.rows)
        behind = 1.0 / (near / behind + (1.0 - near) * spread)
    said = np.empty((m, *lineup.values.shape))
    outside = outside_many(bundle, features, kind)
    inside = ~outside
    if inside.any():
        given = lineup.inputs(features[inside], None if values is None else values[inside])
        said[inside] = bundle.run(given).reshape(said.shape[1], -1, said.shape[2]).swapaxes(0, 1)
    if outside.any():
        said[outside] = bundle.by_table(lineup.values if values is None else values[outside])
    low, high = wilson(said[:, 0], behind)
    return Predictions(said[:, 0], low, high, *bundle.amounts(lineup, said).swapaxes(0, 1))


def outside_many(bundle: Bundle, features: np.ndarray, kind: str) -> np.ndarray:
    """Whether (m,) requests lie outside what the learners were trained on, as `Bundle.outside`."""
    if not bundle.knows(kind):
        return np.ones(len(features), dtype=bool)
    outside: np.ndarray = np.logical_or.reduce(bundle.support.beyond(features), axis=1)
    return outside
