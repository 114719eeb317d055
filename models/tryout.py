"""A loaded bundle tried out before anybody depends on it: its digests may hold and it still can't predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from features.errors import BadInput
from features.vector import feature_names
from models.bundle import CandidateView
from models.folder import RETRAIN

if TYPE_CHECKING:
    from models.bundle import Bundle

# What a graph or a manifest that contradict each other raise inside of a prediction.
_RAISED = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def try_out(bundle: Bundle) -> None:
    """Predict once for every candidate, within what was trained on; BadInput unless that is a probability."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    manifest = bundle.manifest
    at = {name: i for i, name in enumerate(feature_names(manifest.embedding_dim))}
    features = np.full((1, manifest.n_features), np.nan, dtype=np.float32)
    for read in manifest.support:
        features[0, at[read.feature]] = read.low
    views = [CandidateView(name, None, None) for name in bundle.profiles]
    try:
        p = bundle.predict(features, views, next(iter(manifest.success.task_types), None)).p_success
    except (*_RAISED, errors.Fail, errors.InvalidArgument, errors.NotImplemented) as error:
        why = str(error).partition("\n")[0][:200]
        raise BadInput(f"bundle {bundle.digest[:12]} can't predict ({why}); {RETRAIN}") from error
    if not ((p >= 0) & (p <= 1)).all():
        raise BadInput(f"bundle {bundle.digest[:12]} predicts what is no probability; {RETRAIN}")
