"""Our WordPiece gives the pieces of the Hugging Face tokenizer: on code, prose and any settled text."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from features.wordpiece import MAX_CHARS, WordPiece

ROOT = Path(__file__).parents[2]
VOCAB = (ROOT / "models/prior/encoder/vocab.txt").read_text("utf-8").rstrip("\n").split("\n")

ours = WordPiece(VOCAB)
theirs = Tokenizer(
    models.WordPiece(
        {piece: i for i, piece in enumerate(VOCAB)}, unk_token="[UNK]", max_input_chars_per_word=100
    )
)
theirs.normalizer = normalizers.BertNormalizer(
    clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
)
theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()


def settled(char):
    """Whether both sides' Unicode tables are sure to agree on the character."""
    return unicodedata.category(char) == unicodedata.ucd_3_2_0.category(char)


@pytest.mark.parametrize("folder", ["features", "router", "tests/router"])
def test_equal_on_this_projects_code(folder):
    for file in sorted((ROOT / folder).rglob("*.py")):
        text = file.read_text("utf-8")[:MAX_CHARS]
        assert ours.ids(text) == theirs.encode(text).ids, file


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):\n  File \"a/b.py\", line 3, in f\nKeyError: 'naïve'",
        "snake_case camelCase SCREAMING_CASE dotted.name.here() x->y a::b #include <stdio.h>",
        "Ça marche déjà — “vraiment”… ½ ﬁn İstanbul ΑΣ Straße\u00a0x\u2009y\u200bz",
        "修复这个测试 and 日本語のテスト 한국어",
        "\uf902 \ufa19\U0002f947x",  # compatibility ideographs
        "🤦🏽‍♂️ ok ✓ → × ≤ ∑ € £",
        "tab\tnul\x00bell\x07form\x0cfeed\x0bvertical\x1fend\x7f\u0085\u2028\ufffd!",
        "a" * 100 + " " + "b" * 101,
        "",
        "   \n\t ",
        "[CLS",
    ],
)
def test_equal_on_prose_and_odd_characters(text):
    assert ours.ids(text) == theirs.encode(text).ids


@given(st.text(st.characters(exclude_categories=("Cs", "Co", "Cn")).filter(settled), max_size=60))
def test_equal_on_any_text_of_settled_characters(text):
    assert ours.ids(text) == theirs.encode(text).ids


@given(st.text(max_size=200))
def test_the_cache_changes_nothing(text):
    fresh = WordPiece(["[UNK]", *(v for v in VOCAB if len(v) < 4)])
    cold = fresh.ids(text)
    assert fresh.ids(text) == cold
    fresh.forget()
    assert fresh.ids(text) == cold


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("features.wordpiece._WORDS_KEPT", 10)
    small = WordPiece(["[UNK]", "a", "##a"])
    for n in range(1, 60):
        assert small.ids("a" * n) == [1] + [2] * (n - 1)
    assert len(small._cache) <= 10


def test_more_than_the_limit_is_cut_off():
    assert len(ours.ids("a " * MAX_CHARS)) == MAX_CHARS // 2
