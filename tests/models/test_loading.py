"""What stands beside a manifest is loaded as it says, or refused in one line with the way out."""

import io

import numpy as np
import pytest
from msgspec.structs import replace
from small_bundle import write_encoder

from features.encoder import load_encoder
from features.errors import BadInput
from models.bundle import Bundle
from models.folder import RETRAIN, Layout, write_bundle
from models.loading import load_encoder_of, load_types_of, session_of
from models.tasktype import BOUNDS, SCALING, WEIGHTS, TypeCard

CARD = TypeCard(
    names=("a", "b"), features=("turn",), base=(0.25, 0.75), reliability=0.8, watched=("turn", "n_tools")
)
ARRAYS = {WEIGHTS: np.ones((2, 2)), SCALING: np.ones((3, 1)), BOUNDS: np.ones((2, 2))}


def refusal(load, *asked):
    with pytest.raises(BadInput) as caught:
        load(*asked)
    line = str(caught.value)
    assert "\n" not in line
    return line


def npy(array):
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


@pytest.fixture
def typed(published, tmp_path):
    """Manifest of a bundle that tells types, and the folder that its arrays lie in."""
    (tmp_path / WEIGHTS).parent.mkdir()
    for name, array in ARRAYS.items():
        (tmp_path / name).write_bytes(npy(array.astype(np.float32)))
    return Layout(tmp_path), replace(published[1].manifest, types=CARD, files=dict.fromkeys(ARRAYS, ""))


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0a"])
def test_a_graph_that_onnxruntime_cannot_read_is_refused(published, tmp_path, content):
    graph = tmp_path / "heads.onnx"
    graph.write_bytes(content)
    line = refusal(session_of, graph)
    assert "can't load" in line
    assert str(graph) in line
    assert RETRAIN in line
    write_bundle(tmp_path / "b", published[1].manifest, content)
    assert "can't load" in refusal(Bundle.load, tmp_path / "b")


def test_a_bundle_that_tells_no_types_has_no_classifier(published):
    assert load_types_of(Layout(published[0]), published[1].manifest) is None


def test_a_classifier_is_loaded_as_it_was_written(typed):
    types = load_types_of(*typed)
    assert types.card == CARD
    assert types.weights.tolist() == ARRAYS[WEIGHTS].tolist()


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_a_classifier_that_lacks_a_file_is_refused(typed, name):
    layout, manifest = typed
    files = {n: d for n, d in manifest.files.items() if n != name}  # so nothing had to verify it
    line = refusal(load_types_of, layout, replace(manifest, files=files))
    assert f"lists no {name}" in line
    assert RETRAIN in line


@pytest.mark.parametrize("name", sorted(ARRAYS))
@pytest.mark.parametrize("content", [None, b"", b"junk", b"PK\x03\x04", npy(np.array([{}], dtype=object))])
def test_a_file_of_a_classifier_that_is_no_array_is_refused(typed, name, content):
    layout, manifest = typed
    (layout.root / name).unlink()
    if content is not None:
        (layout.root / name).write_bytes(content)
    line = refusal(load_types_of, layout, manifest)
    assert f"{layout.root / name}: not an array" in line
    assert RETRAIN in line


def test_arrays_of_another_classifier_are_refused(typed):
    layout, manifest = typed
    (layout.root / WEIGHTS).write_bytes(npy(np.ones((3, 2), np.float32)))
    assert "not the classifier" in refusal(load_types_of, layout, manifest)


def test_the_encoder_is_the_one_that_the_bundle_was_trained_with(published, tmp_path):
    layout, manifest = Layout(tmp_path), published[1].manifest
    assert load_encoder_of(layout, manifest) is None  # it was trained with none
    digest = load_encoder(write_encoder(layout.encoder)).digest
    assert load_encoder_of(layout, replace(manifest, embedding_dim=4, encoder_digest=digest)).dim == 4
    for dim, said in ((4, "0123456789abcdef"), (5, digest), (4, None)):
        line = refusal(load_encoder_of, layout, replace(manifest, embedding_dim=dim, encoder_digest=said))
        assert f"encoder {digest} of 4 dimensions" in line
        assert f"with {said} of {dim}" in line
        assert RETRAIN in line
