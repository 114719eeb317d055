"""The static encoder: exact batches, unit vectors, and a one-line refusal of anything changed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.encoder import OnnxEncoder, StaticEncoder, load_encoder
from features.errors import BadInput

PRIOR = Path(__file__).parents[2] / "models/prior/encoder"
encoder = StaticEncoder.load(PRIOR)


@given(st.lists(st.text(max_size=80), max_size=6))
def test_a_batch_is_bit_for_bit_its_rows(texts):
    batch = encoder.encode_batch(texts)
    assert batch.shape == (len(texts), encoder.dim)
    assert batch.dtype == np.float32
    for text, row in zip(texts, batch, strict=True):
        np.testing.assert_array_equal(row, encoder.encode(text))


@given(st.text(max_size=200))
def test_a_vector_has_length_one_or_is_zero(text):
    length = float(np.linalg.norm(encoder.encode(text)))
    assert length == pytest.approx(1.0, abs=1e-6) or length == 0.0


@given(
    st.lists(
        st.sampled_from(["fix", "the", "failing", "test", "in", "parser", "lexer", "def", "return"]),
        min_size=1,
    )
)
def test_order_does_not_matter_to_the_last_bit(words):
    one, other = " ".join(words), " ".join(reversed(words))
    np.testing.assert_array_equal(encoder.encode(one), encoder.encode(other))


def test_nothing_known_is_zero():
    for text in ("", "  \n", "\x00"):
        assert not encoder.encode(text).any()


def test_like_is_near_and_unlike_is_far():
    bug, other, recipe = encoder.encode_batch(
        ["fix the bug in the SQL parser", "the database query parser has an error", "bake a chocolate cake"]
    )
    assert bug @ other > 0.3 > bug @ recipe


def test_a_long_text_neither_overflows_nor_takes_all():
    once, often = encoder.encode("compile error"), encoder.encode("compile error " * 5000)
    assert once @ often == pytest.approx(1.0, abs=1e-5)


@given(st.lists(st.text() | st.sampled_from(["Fix it.", "ΑΣ", "[…]", "\x1f", "İ"]), max_size=4))
def test_the_pieces_of_a_text_add_up_to_its_vector(pieces):
    whole = encoder.encode("\n\n".join(pieces))
    np.testing.assert_array_equal(encoder.encode_pieces(pieces), whole)
    np.testing.assert_array_equal(encoder.encode_pieces(pieces), whole)  # and again, remembered


def test_the_published_encoder_is_frozen():
    """A new digest means new features: every bundle trained with the old one has to be trained anew."""
    assert encoder.digest == "a1ad49e0afb0d81115fe64ac001e2fc6978781f6bfd8d8d34465abf58a319366"
    assert sum(f.stat().st_size for f in PRIOR.iterdir()) < 5_000_000
    assert encoder.card.licence == "apache-2.0"
    assert encoder.card.source_sha256 is not None


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(PRIOR, tmp_path / "encoder"))


@pytest.mark.parametrize("part", ["vocab.txt", "matrix.npy", "scale.npy"])
def test_a_changed_or_missing_part_is_refused_in_one_line(copy, part):
    data = bytearray((copy / part).read_bytes())
    data[-1] ^= 1
    (copy / part).write_bytes(data)
    with pytest.raises(BadInput, match=part) as caught:
        StaticEncoder.load(copy)
    assert "\n" not in str(caught.value)
    (copy / part).unlink()
    with pytest.raises(BadInput, match=part):
        load_encoder(copy)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"dim": 128', '"dim": 64', "digest"),
        ('"format": 1', '"format": 2', "format 2"),
        ('"kind": "static"', '"kind": "onnx"', "onnx"),
        ('"kind": "static"', '"kind": "magic"', "magic"),
        ('"digest": "', '"digest": "0', "digest"),
        ('"scale.npy"', '"../scale.npy"', "files must name"),
        ("{", "", "card"),
    ],
)
def test_a_changed_card_is_refused_in_one_line(copy, old, new, says):
    card = copy / "encoder.json"
    card.write_text(card.read_text().replace(old, new, 1))
    with pytest.raises(BadInput, match=says) as caught:
        StaticEncoder.load(copy)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_and_the_wrong_kind_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no encoder here"):
        load_encoder(tmp_path)
    with pytest.raises(BadInput, match="not onnx"):
        OnnxEncoder.load(PRIOR)
