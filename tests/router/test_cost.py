"""Expected cost: the prompt is divided exactly, cache state counts, unknown stays unknown."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from router_servers import NOW_MS

from features.wire.types import Usage
from router.cost import CACHE_TTL_MS, Split, expected_cost, split_prompt
from router.prices import price_usd, rates


@given(
    st.floats(0, 2e6),
    st.floats(-1, 2),
    st.one_of(st.none(), st.floats(0, 1e7)),
    st.sampled_from(["openai_chat", "anthropic_messages"]),
    st.booleans(),
)
def test_the_parts_add_up_to_the_prompt(tokens, share, age, dialect, marked) -> None:
    split = split_prompt(tokens, share, age, dialect=dialect, marked=marked)
    assert split.total == round(tokens)
    assert min(split) >= 0


@given(st.integers(0, 500_000), st.integers(0, 500_000), st.integers(0, 500_000), st.integers(0, 100_000))
def test_an_expected_cost_is_the_price_of_that_usage(fresh, cached, written, output) -> None:
    cost = expected_cost(
        rates("claude-haiku-5-5", "anthropic", NOW_MS, fresh + cached + written),
        Split(fresh, cached, written),
        output,
    )
    usage = Usage(
        input_tokens_uncached=fresh,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
    )
    assert cost is not None
    assert cost.total == price_usd("claude-haiku-5-5", "anthropic", usage, NOW_MS)
    assert cost.total == cost.fresh + cost.cached + cost.written + cost.output


def test_a_warm_prefix_is_read_a_cold_one_written() -> None:
    warm = split_prompt(10_000, 0.9, 1_000.0, dialect="anthropic_messages", marked=True)
    cold = split_prompt(10_000, 0.9, CACHE_TTL_MS + 1.0, dialect="anthropic_messages", marked=True)
    assert warm == Split(0, 9_000, 1_000)
    assert cold == Split(0, 0, 10_000)


def test_nothing_is_cached_unmarked_in_messages_or_below_the_floor() -> None:
    assert split_prompt(10_000, 0.9, 0.0, dialect="anthropic_messages", marked=False) == Split(10_000, 0, 0)
    assert split_prompt(500, 0.9, 0.0, dialect="openai_chat", marked=False) == Split(500, 0, 0)


def test_unknown_stays_unknown() -> None:
    assert expected_cost(rates("no-such-model"), Split(1, 0, 0), 5.0) is None
    assert expected_cost(rates("gpt-5.4"), Split(1, 0, 0), None) is None
    known = expected_cost(rates("gpt-5.4", "openai", NOW_MS, 10**6), Split(10**6, 0, 0), 0.0)
    assert known is not None
    assert known.total == Decimal(5)  # the long-prompt tier
