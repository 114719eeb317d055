"""Dated, timed, tiered and regional prices: every boundary on both sides; the user's own file."""

from datetime import UTC, datetime, time
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TimeOfDateConstraint
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from features.errors import BadInput
from features.wire.types import Usage
from router import prices


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)


def per_mtok(model, key, ts_ms, provider="deepseek", **how):
    return getattr(prices.rates(model, provider, ts_ms, **how), key)


@pytest.fixture
def own(tmp_path):
    def write(text):
        file = tmp_path / "my-prices.toml"
        file.write_text(text)
        prices.use(file)
        return file

    yield write
    prices.use(None)


ROW = "source = 'our contract'\nchecked = 2026-11-01\n"

NO_NUMBERS = ("nan", "inf", "'NaN'", "'sNaN'")

# Wednesday 2026-11-18; windows begin with their first instant and end before their last.
HOURS = [
    ((2026, 11, 18, 0, 59, 59), "0.66"),
    ((2026, 11, 18, 1, 0), "1.32"),
    ((2026, 11, 18, 3, 59, 59), "1.32"),
    ((2026, 11, 18, 4, 0), "0.66"),
    ((2026, 11, 18, 5, 59, 59), "0.66"),
    ((2026, 11, 18, 6, 0), "1.32"),
    ((2026, 11, 18, 9, 59, 59), "1.32"),
    ((2026, 11, 18, 10, 0), "0.66"),
]


@pytest.mark.parametrize(("when", "usd"), HOURS)
def test_deepseek_doubles_by_the_hour(when, usd) -> None:
    assert per_mtok("deepseek-v4-pro", "input", ms(*when)) == Decimal(usd)


@pytest.mark.parametrize(
    ("model", "when", "key", "usd"),
    [
        ("deepseek-v4-pro", (2026, 11, 20, 9, 0), "output", "3.96"),  # Friday
        ("deepseek-v4-pro", (2026, 11, 21, 9, 0), "output", "1.98"),  # Saturday
        ("deepseek-flash", (2026, 11, 22, 9, 0), "cached", "0.003"),  # Sunday
        ("deepseek-flash", (2026, 11, 23, 9, 0), "cached", "0.006"),  # Monday
        ("deepseek-v4-pro", (2026, 8, 22, 9, 0), "input", "1.32"),  # a Saturday before weekends were off-peak
        ("deepseek-v4-pro", (2026, 8, 23, 9, 0), "input", "0.66"),
        ("deepseek-v4-pro", (2026, 10, 7, 9, 0), "input", "0.66"),  # the last day of a holiday
        ("deepseek-v4-pro", (2026, 10, 8, 9, 0), "input", "1.32"),
        ("deepseek-v4-pro", (2026, 5, 6, 9, 0), "input", "0.435"),  # hours didn't matter then
        ("deepseek-v4-pro", (2026, 8, 16, 15, 59), "input", "0.435"),
        ("deepseek-v4-pro", (2026, 8, 16, 16, 0), "input", "0.66"),
        ("deepseek-v4-pro", (2026, 8, 17, 0, 0), "input", "0.66"),
        ("deepseek-v4-flash", (2026, 5, 6, 9, 0), "cached", "0.0028"),
        ("deepseek-v4-flash", (2026, 9, 9, 9, 59), "output", "1.32"),
        ("deepseek-v4-flash", (2026, 9, 9, 10, 0), "output", "0.66"),
        ("deepseek-v4-flash", (2026, 9, 10, 9, 0), "output", "1.2"),
    ],
)
def test_deepseek_by_date_and_weekday(model, when, key, usd) -> None:
    assert per_mtok(model, key, ms(*when)) == Decimal(usd)


def test_sonnet_reads_are_halved_on_a_day() -> None:
    before, after = ms(2026, 10, 6, 23, 59, 59), ms(2026, 10, 7)
    assert per_mtok("claude-sonnet-5-5", "cached", before, "anthropic") == Decimal("0.2")
    assert per_mtok("claude-sonnet-5-5", "cached", after, "anthropic") == Decimal("0.1")
    assert per_mtok("claude-opus-5-5", "cached", after, "anthropic") == Decimal("0.2")


@pytest.mark.parametrize(
    ("model", "read", "write", "write_1h"),
    [  # the cache prices of FACTS.md §1 as multiples of the input price
        ("claude-opus-5-5", "0.05", "1.25", "2"),
        ("claude-opus-4-6", "0.1", "1.25", "2"),
        ("gpt-5.6-sol", "0.1", "1.25", "1.25"),
        ("gpt-5.4", "0.1", "1", "1"),
        ("gpt-4o", "0.5", "1", "1"),
        ("kimi-k3", "0.1", "1", "2"),
        ("gemini-3.1-pro-preview", "0.1", "1", "1"),
    ],
)
def test_cache_prices_are_the_published_multiples(model, read, write, write_1h) -> None:
    found = prices.rates(model, None, ms(2026, 11, 21))
    ratios = [price / found.input for price in (found.cached, found.write, found.write_1h)]
    assert ratios == [Decimal(read), Decimal(write), Decimal(write_1h)]


@pytest.mark.parametrize(
    ("model", "start", "key", "short", "long"),
    [
        ("claude-haiku-5-5", 100_000, "input", "0.1", "0.5"),
        ("claude-haiku-5-5", 100_000, "cached", "0.01", "0.05"),
        ("claude-haiku-5-5", 100_000, "write_1h", "0.2", "1"),
        ("gpt-6-luna", 272_000, "output", "0.5", "0.75"),
        ("gpt-6.1-sol", 272_000, "input", "2", "4"),
    ],
)
def test_a_length_tier_begins_after_its_start(model, start, key, short, long) -> None:
    now = ms(2026, 11, 21)
    for tokens, usd in ((0, short), (start, short), (start + 1, long)):
        assert per_mtok(model, key, now, None, prompt_tokens=tokens) == Decimal(usd)


def test_every_token_of_a_long_prompt_is_dearer_also_the_cached_ones() -> None:
    usage = Usage(input_tokens_uncached=1, cached_tokens=100_000, cache_write_tokens=0, output_tokens=0)
    assert prices.price_usd("claude-haiku-5-5", None, usage, ms(2026, 11, 21)) == Decimal("0.0050005")


def test_service_tiers_are_priced_or_unknown() -> None:
    now = ms(2026, 11, 18, 12)

    def rate(model, tier, at=now):
        found = prices.rates(model, None, at, service_tier=tier)
        return found and (found.input, found.cached)

    plain = rate("gpt-5.4-mini", None)
    assert rate("gpt-5.4-mini", "default") == rate("gpt-5.4-mini", "auto") == plain
    assert rate("gpt-5.4-mini", "flex") == rate("gpt-5.4-mini", "batch") == tuple(p / 2 for p in plain)
    assert rate("gpt-5.4-mini", "priority") == tuple(p * 2 for p in plain)
    assert rate("claude-opus-5-5", "fast") == tuple(p * 2 for p in rate("claude-opus-5-5", "standard"))
    assert rate("claude-opus-5-5", "priority") is None  # a contract of the customer's own
    assert rate("gpt-5.4-mini", "priority", ms(2026, 10, 11, 23, 59)) is None  # not published for then
    assert rate("gpt-5.4-mini", "priority", ms(2026, 10, 12)) is not None
    assert rate("glm-5", "batch") is None


def test_a_batch_of_a_long_prompt_is_half_too() -> None:
    long, half = (
        prices.rates("claude-haiku-5-5", None, ms(2026, 11, 1), 100_001, tier) for tier in (None, "batch")
    )
    assert tuple(2 * price for price in astuple(half)) == astuple(long)


def test_a_region_that_inference_must_stay_in_costs_a_tenth_more() -> None:
    now = ms(2026, 11, 21)
    for model, region, factor in (
        ("claude-opus-4-6", "us", "1.1"),
        ("claude-opus-4-5", "us", "1"),
        ("claude-opus-5-5", "eu", "1"),
        ("gpt-5.4", "eu", "1.1"),
        ("gpt-5.2", "eu", "1"),
    ):
        here, there = prices.rates(model, None, now), prices.rates(model, None, now, region=region)
        assert astuple(there) == tuple(price * Decimal(factor) for price in astuple(here))


def test_times_that_cannot_be_have_no_price() -> None:
    assert prices.rates("gpt-5.4", None, -1) is None
    assert prices.rates("gpt-5.4", None, ms(2099, 12, 31)) is not None
    assert prices.rates("gpt-5.4", None, ms(2100, 1, 1)) is None


def test_published_windows_begin_on_half_hours() -> None:
    rows = (price for p in get_snapshot().providers for m in p.models for price in _conditional(m.prices))
    for row in rows:
        if isinstance(row.constraint, TimeOfDateConstraint):
            for clock in (row.constraint.start_time, row.constraint.end_time):
                assert clock.replace(tzinfo=None) in {time(h, m) for h in range(24) for m in (0, 30)}


def _conditional(listed):
    return listed if isinstance(listed, list) else []


counts = st.integers(0, 10**12)


@given(
    model=st.sampled_from(["claude-opus-5-5", "claude-haiku-5-5", "gpt-6.1-sol", "deepseek-v4-pro"]),
    parts=st.lists(counts, min_size=5, max_size=5),
    ts_ms=st.integers(ms(2026, 1, 1), ms(2027, 1, 1)),
)
def test_the_parts_of_a_bill_add_up_exactly(model, parts, ts_ms) -> None:
    fresh, cached, written, hourly, output = parts
    usage = Usage(
        input_tokens_uncached=fresh,
        cached_tokens=cached,
        cache_write_tokens=written + hourly,
        cache_write_1h_tokens=hourly,
        output_tokens=output,
    )
    found = prices.rates(model, None, ts_ms, fresh + cached + written + hourly)
    exact = (
        fresh * found.input
        + cached * found.cached
        + written * found.write
        + hourly * found.write_1h
        + output * found.output
    )
    assert (
        prices.bill(found, usage).total == exact / prices.MTOK == prices.price_usd(model, None, usage, ts_ms)
    )


def test_a_file_of_ones_own_prices_what_nobody_publishes(own) -> None:
    said = prices.why_unknown("qwen3-coder", "our-rack")
    assert "qwen3-coder sold by our-rack" in said
    assert prices.OWN_FILE in said
    version = prices.PRICE_VERSION
    file = own(
        "[[price]]\nprovider = 'our-rack'\nmodels = ['qwen3-*']\ninput = 0.1\noutput = 0.4\n"
        f"context_tokens = 64000\n{ROW}"
        "[[price]]\nprovider = 'our-rack'\nmodels = ['qwen3-*']\nabove_tokens = 1000\ninput = 0.2\n" + ROW
    )
    for tokens, usd in ((1000, "0.1"), (1001, "0.2")):
        found = prices.rates("qwen3-coder", "our-rack", None, tokens)
        assert found == prices.Rates(Decimal(usd), Decimal("0.4"), *[Decimal(usd)] * 3)
    assert prices.rates("our-rack/qwen3-coder") == prices.rates("qwen3-coder", "our-rack")
    assert prices.rates("qwen3-coder", "another") is None
    assert prices.context_window("qwen3-coder", "our-rack") == 64_000
    assert version != prices.PRICE_VERSION
    assert str(file) in prices.why_unknown("llama", "our-rack")


def test_a_discount_and_a_tier_of_ones_own(own) -> None:
    now = ms(2026, 11, 18, 12)
    list_price = prices.rates("claude-opus-5-5", None, now).input
    own(
        f"[[price]]\nprovider = 'anthropic'\nmodels = ['claude-*']\ntimes = 0.8\nfrom = 2026-11-01\n{ROW}"
        "[[price]]\nprovider = 'anthropic'\nmodels = ['claude-opus-5-5']\nservice_tiers = ['priority']\n"
        "input = 9\noutput = 40\n" + ROW
    )
    assert prices.rates("claude-opus-5-5", None, now).input == list_price * Decimal("0.8")
    assert prices.rates("claude-opus-5-5", None, ms(2026, 10, 31, 23, 59)).input == list_price
    assert prices.rates("claude-opus-5-5", None, now, 0, "priority").input == 9


def test_names_of_ones_own(own) -> None:
    own("[names]\n'Team-Fast' = 'anthropic/claude-haiku-4-5'\n")
    assert prices.rates("team-fast", "my-proxy") == prices.rates("claude-haiku-4-5", "anthropic")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[[price]]\nmodels = ['x']\ninput = -1\n" + ROW,
            "number 1: a price or factor is negative",
        ),
        ("[[price]]\nmodels = ['x']\n" + ROW, "says no price: give input, output"),
        ("[[price]]\nmodels = ['x']\ninput = 1\n", "missing required field `source`"),
        ("[[price]]\nmodels = ['x']\nhours = [['1:00', '04:00']]\ninput = 1\n" + ROW, "'1:00' is no full"),
        ("[[price]]\nmodels = ['x']\ntimes = 2\ninput = 1\n" + ROW, "give prices or `times`, not both"),
        (
            "[[price]]\nmodels = ['x']\nuntil = 2026-02-01\nfrom = 2026-02-01\ninput = 1\n" + ROW,
            "isn't before",
        ),
        ("[[price]]\nmodels = ['x']\nweekdays = ['sun', 'holiday']\ninput = 1\n" + ROW, "'holiday'"),
        *((f"[[price]]\nmodels = ['x']\ninput = {x}\n" + ROW, "negative or no number") for x in NO_NUMBERS),
        ("[[price]]\nmodels = ['x']\ntimes = nan\n" + ROW, "negative or no number"),
        ("[[price]]\nmodels = ['x']\ninput = 1e30\n" + ROW, "a price is beyond 1,000,000"),
        ("[[price]]\nmodels = ['x']\ninput = 1e400\n" + ROW, "a price is beyond 1,000,000"),
        ("[[price]]\nmodels = ['x']\ntimes = 1001\n" + ROW, "`times` is beyond 1,000"),
        ("[[price]]\nmodels = []\ninput = 1\n" + ROW, "models: names no model"),
        (
            "[[price]]\nmodels = ['x']\nhours = [['04:00', '04:00']]\ninput = 1\n" + ROW,
            "nothing is between 04:00 and 04:00",
        ),
        ("[[price]]\nmodels = ['x']\ninput = 1\nabove_tokens = -7\n" + ROW, "numbers of tokens"),
        ("[[price]]\nmodels = ['x']\ncontext_tokens = -5\n" + ROW, "numbers of tokens"),
        ("price = ['a']\n", "write rows as [[price]]"),
        ("[[prices]]\n", "unknown key 'prices'"),
        ("[price]\nx = 1\n", "write rows as [[price]]"),
        ("[names]\na = 'b'\n", "names.a: say"),
        ("[[price]\n", "not valid TOML"),
    ],
)
def test_mistakes_are_one_line_with_file_and_row(own, text, said) -> None:
    with pytest.raises(BadInput) as refused:
        own(text)
    assert said in str(refused.value)
    assert "my-prices.toml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_variable_names_the_file_where_no_settings_do(monkeypatch, tmp_path) -> None:
    file = tmp_path / "elsewhere.toml"
    file.write_text("[[price]]\nmodels = ['moon-1']\ninput = 1\noutput = 2\n" + ROW)
    monkeypatch.setenv(prices.OWN_FILE, str(file))
    prices.use(None)
    assert prices.rates("moon-1").output == 2
    monkeypatch.delenv(prices.OWN_FILE)
    prices.use(None)
    assert prices.rates("moon-1") is None


def test_a_price_from_the_future_is_none_yet(own) -> None:
    row = (
        "[[price]]\nprovider = 'our-rack'\nmodels = ['newcomer']\ninput = 1\noutput = 2\nfrom = 2099-01-01\n"
    )
    file = own(row + ROW)
    assert prices.rates("newcomer", "our-rack", ms(2026, 11, 18, 12)) is None
    assert prices.rates("newcomer", "our-rack", ms(2099, 1, 1, 0)) is not None
    assert str(file) in prices.why_unknown("newcomer", "our-rack")


@pytest.mark.parametrize(
    ("clock", "usd"), [((21, 59), 3), ((22, 0), 1), ((0, 0), 1), ((3, 59), 1), ((4, 0), 3)]
)
def test_hours_go_past_midnight(own, clock, usd) -> None:
    row = "[[price]]\nmodels = ['claude-sonnet-4-5']\ninput = 1\nhours = [['22:00', '04:00']]\n"
    own(row + ROW)
    assert prices.rates("claude-sonnet-4-5", "anthropic", ms(2026, 11, 18, *clock)).input == usd


def test_a_seller_goes_by_any_of_its_names_in_a_row(own) -> None:
    own("[[price]]\nprovider = 'Azure_AI'\nmodels = ['gpt-x-test']\ninput = 1\noutput = 2\n" + ROW)
    assert prices.rates("gpt-x-test", "azure").output == 2
    assert prices.strangers([]) == []
