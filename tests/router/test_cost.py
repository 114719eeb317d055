"""Expected cost: the prompt is divided by what its cache holds, misses cost, unknown stays unknown."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from router_servers import NOW_MS

from features.cache import CacheState, Split, after
from features.wire.types import Message, Part, Usage, WireRequest
from router.catalog import Catalog
from router.cost import asked_by, cache_rules, expected_cost, sending, split_prompt
from router.gateway.sessions import chain_of
from router.prices import price_usd, rates

counts = st.integers(0, 500_000)


def split_of(read, write, fresh, hit=1.0, write_1h=0):
    return Split(read, write, write_1h, fresh, hit, 1.0, 0, "warm")


@given(counts, counts, counts, counts, st.integers(0, 100_000))
def test_an_expected_cost_is_the_price_of_that_usage(fresh, cached, written, hourly, output) -> None:
    prompt = fresh + cached + written + hourly
    cost = expected_cost(
        rates("claude-haiku-5-5", "anthropic", NOW_MS, prompt),
        split_of(cached, written, fresh, write_1h=hourly),
        output,
    )
    usage = Usage(
        input_tokens_uncached=fresh,
        cached_tokens=cached,
        cache_write_tokens=written + hourly,
        cache_write_1h_tokens=hourly,
        output_tokens=output,
    )
    assert cost is not None
    assert cost.total == price_usd("claude-haiku-5-5", "anthropic", usage, NOW_MS)
    assert cost.total == cost.fresh + cost.cached + cost.written + cost.output


@given(counts, counts, st.floats(0, 1), st.booleans())
def test_a_hit_that_may_fail_costs_between_warm_and_cold(read, rest, hit, writes) -> None:
    found = rates("claude-opus-4-6", "anthropic", NOW_MS, read + rest)

    def total(hit, read=read):
        rest_of_it = rest + (0 if read else held)
        split = split_of(read, rest_of_it if writes else 0, 0 if writes else rest_of_it, hit)
        return expected_cost(found, split, 100).total

    held = read
    warm, between, cold = total(1.0), total(hit), total(0.0, read=0)
    assert warm <= between <= cold or not rest  # with nothing else to send, what fails is billed as fresh
    assert total(1.0) <= total(hit) <= total(0.0)


def prompt(n_bytes, *, marked=True):
    words = Message(role="user", parts=(Part(kind="text", text="x" * n_bytes),))
    return WireRequest(
        dialect="anthropic_messages", model="auto", messages=(words,), cache_markers=int(marked)
    )


def split_at(name, request, state=None, now=NOW_MS, tokens=10_000):
    deployment = Catalog.load().deployments_of(name, request.dialect)[0]
    sent = sending(request, chain_of(request), asked_by(request))
    if state == "warm":
        rules = cache_rules(deployment, NOW_MS, sent.asked)
        state = after(rules, CacheState(), sent.to(deployment, tokens), None, NOW_MS)
    return split_prompt(deployment, tokens, sent, state or CacheState(), now)


def test_a_warm_prefix_is_read_a_cold_one_written() -> None:
    warm = split_at("claude-opus-4-6", prompt(40_000), "warm", NOW_MS + 299_000)
    cold = split_at("claude-opus-4-6", prompt(40_000), "warm", NOW_MS + 301_000)
    assert (warm.read, warm.write, warm.why) == (10_000, 0, "warm")
    assert (cold.read, cold.write, cold.why) == (0, 10_000, "ttl_expired")


def test_nothing_is_cached_unmarked_in_messages_or_below_the_floor() -> None:
    assert split_at("claude-opus-4-6", prompt(40_000, marked=False), "warm").why == "unmarked"
    assert split_at("claude-opus-4-6", prompt(4_000), "warm", tokens=4_095).why == "below_floor"


def test_without_a_chain_or_rules_all_is_fresh_and_nothing_is_sure() -> None:
    deployment = Catalog.load().deployments_of("claude-opus-4-6", "anthropic_messages")[0]
    split = split_prompt(deployment, 9_000.4, None, CacheState(), NOW_MS)
    assert (split.fresh, split.sure, split.why) == (9_000, 0.0, "not_followed")
    unheard = replace(deployment, model="no-such-model", provider="nobody")
    sent = sending(prompt(9_000), chain_of(prompt(9_000)), asked_by(prompt(9_000)))
    for asked in (sent, None):
        assert split_prompt(unheard, 9_000, asked, CacheState(), NOW_MS).why == "no_rules"


def test_unknown_stays_unknown() -> None:
    assert expected_cost(rates("no-such-model"), split_of(0, 0, 1), 5.0) is None
    assert expected_cost(rates("gpt-5.4"), split_of(0, 0, 1), None) is None
    known = expected_cost(rates("gpt-5.4", "openai", NOW_MS, 10**6), split_of(0, 0, 10**6), 0.0)
    assert known is not None
    assert known.total == Decimal(5)  # the long-prompt tier
