"""What stands in a bundle beside its manifest, loaded: the graph, the classifier of task types, the encoder.

Each is refused in one line where it isn't what the manifest says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import BadInput
from features.vector import feature_names
from models.folder import RETRAIN

if TYPE_CHECKING:
    from pathlib import Path

    from models.folder import Layout
    from models.manifest import Manifest
    from models.tasktype import TaskTypes


def session_of(heads: Path) -> Any:
    """The graph's session, of one thread: a pool costs more than it brings at a dozen rows. Or BadInput."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(heads.read_bytes(), options, providers=["CPUExecutionProvider"])
    except (
        errors.Fail,
        errors.InvalidProtobuf,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.NotImplemented,
    ) as error:
        raise BadInput(f"{heads}: this onnxruntime can't load it; {RETRAIN}") from error


def load_types_of(layout: Layout, manifest: Manifest) -> TaskTypes | None:
    """The classifier of task types, whose files are verified already; BadInput if it isn't the card's."""
    if manifest.types is None:
        return None
    from models.tasktype import BOUNDS, SCALING, WEIGHTS, load_types

    if lacking := {WEIGHTS, SCALING, BOUNDS} - manifest.files.keys():
        raise BadInput(f"{layout.manifest}: lists no {min(lacking)}; {RETRAIN}")
    arrays = {name: _array(layout.root / name) for name in (WEIGHTS, SCALING, BOUNDS)}
    index = {name: at for at, name in enumerate(feature_names(manifest.embedding_dim))}
    return load_types(manifest.types, arrays, index)


def _array(file: Path) -> np.ndarray:
    try:
        with file.open("rb") as held:
            found: np.ndarray = np.lib.format.read_array(held, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: not an array; {RETRAIN}") from error
    return found


def load_encoder_of(layout: Layout, manifest: Manifest) -> Any:
    """The encoder that the bundle was trained with, None without one; BadInput if it is another."""
    if manifest.embedding_dim == 0:
        return None
    from features.encoder import load_encoder

    encoder = load_encoder(layout.encoder)
    if (encoder.dim, encoder.digest) != (manifest.embedding_dim, manifest.encoder_digest):
        raise BadInput(
            f"{layout.encoder}: encoder {encoder.digest} of {encoder.dim} dimensions, the bundle was trained "
            f"with {manifest.encoder_digest} of {manifest.embedding_dim}; {RETRAIN}"
        )
    return encoder
