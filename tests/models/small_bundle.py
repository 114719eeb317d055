"""Makers of small examples and of a tiny encoder, for the tests of bundles."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np

from features.encoder import EncoderCard, digest_of
from features.vector import feature_names
from training.fit import Examples, Knobs

KNOBS = Knobs(trees=(10, 25), min_data_in_leaf=20, num_threads=1, min_r2_tokens=0.0)
_PRICED = {f"c{i}": (0.1 * 2**i, 0.5 * 2**i) for i in range(6)}
_PRICED = {f"c{i}": (0.1 * 2**i, 0.5 * 2**i) for i in range(6)}
PRICES = {"free": (0.0, 0.0), **_PRICED, "unpriced": (None, None)}


def make_examples(n=1500, dim=0, seed=0, signal=2.0):
    """Rows of as many features as this samediff has, with successes and tokens that follow some of them."""
    rng = np.random.default_rng(seed)
    width = len(feature_names(dim))
    features = rng.normal(size=(n, width)).astype(np.float32)
    features[rng.random((n, width)) < 0.1] = np.nan
    features[:, 3] = np.round(np.nan_to_num(features[:, 3]))  # thresholds that values meet
    names = list(PRICES)
    candidate, kind = rng.integers(0, len(names), n), rng.integers(0, 3, n)
    first = np.nan_to_num(features[:, 0]) + (candidate % 2) * features[:, 3]
    logit = 0.4 * (candidate - 3) + signal * first
    return Examples(
        features=features,
        candidate=np.array(names)[candidate],
        task_type=np.array(["fix", "add", ""])[kind],
        success=(rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float),
        output_tokens=np.round(np.exp(5 + np.nan_to_num(features[:, 1]) + 0.3 * rng.normal(size=n))),
        group=rng.integers(0, 200, n).astype(str),
        prices=PRICES,
    )


def write_encoder(folder: Path, dim=4):
    """A tiny static encoder."""
    folder.mkdir()
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fix", "the", "bug"]
    rng = np.random.default_rng(0)
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n")
    np.save(folder / "matrix.npy", rng.integers(-127, 127, (len(vocab), dim)).astype(np.int8))
    np.save(folder / "scale.npy", np.full(len(vocab), 1 / 300, dtype=np.float32))
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    digest = digest_of("static", dim, files)
    card = EncoderCard(kind="static", dim=dim, tokenizer="wordpiece-lower", files=files, digest=digest)
    (folder / "encoder.json").write_bytes(msgspec.json.encode(card))
    return folder
