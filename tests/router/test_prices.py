"""Prices: logged names land on the right published row, and a bill adds up exactly as genai-prices says."""

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.wire.types import Usage
from router import prices

NOV_2026 = 1_795_000_000_000


def _row(model: str, provider: str | None = None) -> str | None:
    found = prices._find(model, provider)
    return f"{found.sold_as[0][0]}:{found.info.id}" if found.info else None


@pytest.mark.parametrize(
    ("logged", "row"),
    [
        ("claude-opus-4-6", "anthropic:claude-opus-4-6"),
        ("anthropic/claude-opus-4.6", "anthropic:claude-opus-4-6"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic:claude-sonnet-4-5"),
        ("vertex_ai/claude-opus-4-6@default", "google:claude-opus-4-6"),
        ("openrouter/anthropic/claude-opus-4.6", "openrouter:anthropic/claude-opus-4.6"),
        ("openai/gpt-5.2-codex", "openai:gpt-5.2"),
        ("gpt-5.4@high", "openai:gpt-5.4"),
        ("GPT-5.2-2025-12-11", "openai:gpt-5.2"),
        ("Qwen3-Max", "openrouter:qwen/qwen3-max"),
        ("GLM-5", "zai:GLM-5"),
        ("moonshotai/Kimi-K2.5", "moonshotai:kimi-k2.5"),
        ("no-such-model", None),
        ("ollama/qwen3-coder:30b", None),
        ("mistral-mediu", None),
    ],
)
def test_logged_names(logged: str, row: str | None) -> None:
    assert _row(logged) == row


def test_a_seller_named_in_the_log_is_the_only_one_asked() -> None:
    assert _row("gpt-5.4", "my-own-rack") is None
    assert _row("claude-opus-4-6", "openai") is None
    assert _row("openai/gpt-5.4", "openai") == "openai:gpt-5.4"


tokens = st.integers(0, 400_000)


@given(
    model=st.sampled_from(["claude-opus-5-5", "claude-haiku-5-5", "gpt-5.4", "gpt-6.1-sol", "kimi-k2.5"]),
    fresh=tokens,
    cached=tokens,
    written=tokens,
    hourly=st.integers(0, 400_000),
    output=tokens,
)
def test_the_bill_is_genai_prices_own(
    model: str, fresh: int, cached: int, written: int, hourly: int, output: int
) -> None:
    hourly = min(hourly, written)
    ours = prices.price_usd(
        model,
        None,
        Usage(
            input_tokens_uncached=fresh,
            cached_tokens=cached,
            cache_write_tokens=written,
            cache_write_1h_tokens=hourly,
            output_tokens=output,
        ),
        NOV_2026,
    )
    usage = genai_prices.Usage(
        input_tokens=fresh + cached + written,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=hourly,
        output_tokens=output,
    )
    theirs = genai_prices.calc_price(
        usage, model, genai_request_timestamp=datetime.fromtimestamp(NOV_2026 / 1000, tz=UTC)
    )
    assert ours == theirs.total_price


def test_unknown_is_none_and_never_zero() -> None:
    full = Usage(input_tokens_uncached=10, output_tokens=5)
    assert prices.price_usd("gpt-5.4", "openai", full, NOV_2026) == Decimal("0.0001")
    assert prices.price_usd("no-such-model", None, full, NOV_2026) is None
    assert prices.price_usd("gpt-5.4", None, Usage(output_tokens=5), NOV_2026) is None
    assert prices.price_usd("gpt-5.4", None, Usage(input_tokens_uncached=5), NOV_2026) is None
    assert (
        prices.price_usd("gpt-5.4", None, Usage(input_tokens_uncached=-1, output_tokens=5), NOV_2026) is None
    )


def test_a_long_prompt_is_dearer_for_every_token() -> None:
    short, long = (prices.rates("gpt-5.4", "openai", NOV_2026, n) for n in (272_000, 272_001))
    assert short is not None
    assert long is not None
    assert (short.input, long.input) == (Decimal("2.5"), Decimal(5))


def test_the_table_is_not_loaded_by_an_import() -> None:
    code = "import router.prices, sys; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_batch_costs_half_where_the_seller_has_one():
    usage = Usage(input_tokens_uncached=1000, cached_tokens=2000, cache_write_tokens=300, output_tokens=40)
    for model, provider in (("claude-haiku-4-5", "anthropic"), ("gpt-5.4-mini", "openai")):
        plain = prices.price_usd(model, provider, usage)
        assert plain
        assert prices.price_usd(model, provider, usage, service_tier="batch") == plain / 2
    assert prices.price_usd("glm-5", "zai", usage, service_tier="batch") is None
