"""Tokens estimated from bytes, and the ratio learned from usage."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.context import DEFAULT_RATIOS, TokenRatios, estimate_tokens, model_family


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("claude-opus-5.5", "claude"),
        ("anthropic/claude-sonnet-5", "claude"),
        ("gpt-5.2-codex", "gpt"),
        ("openai/o4-mini", "o-series"),
        ("o3", "o-series"),
        ("codestral-2508", "mistral"),
        ("moonshotai/kimi-k2", "kimi"),
        ("opus", "other"),
        ("", "other"),
    ],
)
def test_families(model, family):
    assert model_family(model) == family
    assert family in DEFAULT_RATIOS


def test_usage_moves_the_ratio_of_its_family_only():
    ratios = TokenRatios(rate=0.5)
    for _ in range(30):
        ratios.correct("claude-x", 50_000, 20_000)
    assert ratios.ratio("claude-y") == pytest.approx(2.5, rel=1e-3)
    assert ratios.estimate("claude-y", 25_000) == pytest.approx(10_000, rel=1e-3)
    assert ratios.ratio("gpt-5") == DEFAULT_RATIOS["gpt"]
    assert DEFAULT_RATIOS["claude"] != ratios.ratio("claude")


numbers = st.none() | st.floats() | st.integers(-10, 10**12)


@given(st.floats(), numbers)
def test_no_usage_block_breaks_the_ratio(body_bytes, tokens):
    ratios = TokenRatios()
    ratios.correct("claude", body_bytes, tokens)
    assert 1.0 <= ratios.ratio("claude") <= 12.0


sizes = st.floats(0, 1e9)


@given(sizes, st.none() | sizes, st.none() | sizes, st.floats(1, 12))
def test_estimate_is_a_number_that_grows_with_the_prompt(now, last, tokens, ratio):
    estimate = estimate_tokens(now, last, tokens, ratio)
    assert math.isfinite(estimate)
    assert estimate >= 0
    assert estimate_tokens(now + 1_000, last, tokens, ratio) >= estimate * (1 - 1e-9)


def test_the_last_usage_block_corrects():
    assert estimate_tokens(54_000, 50_000, 20_000, 4.0) == 21_000
    assert estimate_tokens(25_000, 50_000, 20_000, 4.0) == 10_000  # after a compaction
    assert estimate_tokens(40_000, None, None, 4.0) == 10_000
