"""Where an alias's candidates can be called: what is found once is what would be found anew."""

from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from router_servers import NOW_MS

from features.cache import CacheRequest, CacheState, after, in_common, read, read_rules
from features.context import TokenRatios
from features.wire import parse_request
from router import prices
from router.arms import Terms, terms_of
from router.catalog import Catalog
from router.cost import Asked, Sending
from router.given import CallContext, Session
from router.options import Asking, Found, Moment, Seat, Seats

DIALECTS = ("anthropic_messages", "openai_chat", "openai_responses")
CATALOG = Catalog.load()
IN_EACH_DIALECT = list({one.dialect: one for one in CATALOG.deployments.values()}.values())
ROWS = read_rules()
ON_DEMAND = [row for row in ROWS if not row.automatic]
SENT_BY = next(row for row in ROWS if row.automatic)
REQUEST = parse_request("openai_chat", b'{"model": "m", "messages": []}')

OWN = """
replace = true
[endpoints.resold]
provider = "openrouter"
base_urls = { anthropic_messages = "http://x" }
[endpoints.eu]
provider = "openai"
base_urls = { openai_chat = "http://x/v1" }
region = "eu"
[candidates.qwen]
endpoints = { resold = "qwen/qwen3.5-plus-02-15" }
[candidates.flex]
endpoints = { eu = "gpt-5.4" }
asks = { service_tier = "flex" }
[aliases.auto]
candidates = ["qwen", "flex"]
reference = { anthropic_messages = "qwen", openai_chat = "flex" }
"""


@pytest.mark.parametrize("keys", [None, {}, {"ANTHROPIC_API_KEY": "made-up"}])
def test_what_is_found_once_is_what_would_be_found_anew(keys) -> None:
    catalog, own = Catalog.load()._replace(dialects="prefer_same"), ("gpt-5.4-mini",)

    def seats():
        return Seats(catalog, keys, TokenRatios(), own)

    moments = [
        Moment(at, tier, Asked(marked, ours, lifetime))
        for at, tier, marked, ours, lifetime in (
            (NOW_MS, None, False, False, None),
            (NOW_MS + 1, None, True, False, "1h"),
            (NOW_MS + 12 * 3_600_000, "flex", False, True, None),
        )
    ]
    asked = list(product(catalog.aliases, DIALECTS, moments, (False, True), (False, True)))
    known = seats()
    for alias, dialect, now, same, all_arms in asked * 2:
        found = known.of(alias, dialect, now, same=same, all_arms=all_arms)
        assert found == seats().of(alias, dialect, now, same=same, all_arms=all_arms)
        for seat in (seat for one in found for seat in one.seats):
            assert seat.terms == terms_of(seat.deployment, now.ts_ms, now.tier, now.asked)
        names = dict.fromkeys((*catalog.aliases[alias].candidates, *own))
        assert [one.candidate for one in found] == list(names)
        assert all(seat.deployment.dialect == dialect for one in found for seat in one.seats if same)
        if all_arms:  # only who has no deployment isn't described
            assert all(one.anyway and (one.absent is None) == bool(one.seats) for one in found)


def test_terms_are_those_of_the_half_hour_and_of_the_price_table_in_force(tmp_path) -> None:
    seats, begins = Seats(Catalog.load(), None, TokenRatios()), NOW_MS - NOW_MS % 1_800_000

    def dearest(ts_ms):
        found = seats.of("auto", DIALECTS[0], Moment(ts_ms, None, Asked()), same=True, all_arms=False)
        return {one.candidate: one.seats[0].terms.ladder[-1][1].output for one in found if one.seats}

    before = dearest(begins)
    file = tmp_path / "prices.toml"
    file.write_text(
        "[[price]]\nprovider = 'anthropic'\nmodels = ['claude-opus-5-5']\noutput = 77\n"
        "source = 'a test'\nchecked = 2026-11-01\n"
    )
    try:
        prices.use(file)
        assert dearest(begins) == before | {"claude-opus-5-5": 77}
    finally:
        prices.use(None)
    assert dearest(begins) == before


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(OWN)
    return Catalog.load(file)


@pytest.fixture
def dearer(tmp_path):
    """A price that changes with the half hour after NOW_MS's."""
    file = tmp_path / "prices.toml"
    changes = datetime.fromtimestamp((NOW_MS // prices.SLOT_MS + 1) * prices.SLOT_MS / 1000, tz=UTC)
    file.write_text(
        "[[price]]\nprovider = 'openrouter'\nmodels = ['qwen/qwen3.5-plus-02-15']\ninput = 7\noutput = 77\n"
        f"source = 'a test'\nchecked = 2026-11-01\nfrom = {changes.isoformat()}\n"
    )
    prices.use(file)
    yield
    prices.use(None)


@pytest.mark.usefixtures("dearer")
@pytest.mark.parametrize(
    "other",
    [
        Moment(NOW_MS + prices.SLOT_MS, None, Asked()),
        Moment(NOW_MS, "flex", Asked()),
        Moment(NOW_MS, None, Asked(marked=True)),
        Moment(NOW_MS, None, Asked(ours=True)),
    ],
    ids=["half hour", "tier", "markers", "our markers"],
)
def test_what_differs_in_one_thing_alone_is_not_taken_for_what_was_found(own, other) -> None:
    def found(seats, now):
        return seats.of("auto", DIALECTS[0], now, same=True, all_arms=False)

    known, first = Seats(own, None, TokenRatios()), Moment(NOW_MS, None, Asked())
    before = found(known, first)
    assert found(known, other) == found(Seats(own, None, TokenRatios()), other) != before
    assert found(known, first) is before


def test_what_was_found_is_forgotten_in_the_end(own) -> None:
    seats = Seats(own, None, TokenRatios())

    def found(tier):
        return seats.of("auto", DIALECTS[0], Moment(NOW_MS, tier, Asked()), same=True, all_arms=False)

    before = found(None)
    assert found(None) is before
    for n in range(256):  # a client says whatever it likes
        found(f"tier {n}")
    assert found(None) is not before


def test_terms_are_of_the_deployment_s_own_tier_and_region(own) -> None:
    deployment = own.deployments["eu/flex/openai_chat"]

    def ladder(tier, region):
        return prices.ladder("gpt-5.4", "openai", NOW_MS, tier, region=region)

    found = terms_of(deployment, NOW_MS, "priority", Asked()).ladder
    assert found == ladder("flex", "eu")
    assert found not in [ladder("priority", "eu"), ladder(None, "eu"), ladder("flex", None)]
    plain = replace(deployment, asks=())
    assert terms_of(plain, NOW_MS, "priority", Asked()).ladder == ladder("priority", "eu")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(IN_EACH_DIALECT),
    st.sampled_from([None, *ROWS]) | st.sampled_from(ON_DEMAND),
    st.builds(Asked, st.booleans(), st.booleans(), st.sampled_from([None, "5m", "1h", "24h", "no such"])),
    st.sampled_from([0, 1, 500, 1_023, 1_024, 1_025, 4_096, 40_000]),
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 2), min_size=1, max_size=5),
    st.sampled_from([0, 7]),
)
def test_a_cache_never_asked_is_read_as_any_other(deployment, rules, how, tokens, sent, path, size) -> None:
    def chain(said):
        upto = range(1, len(said) + 1)
        return [hash(tuple(said[:n])) for n in upto], [size * n for n in upto]

    state = CacheState()
    for at, said in enumerate(sent):
        state = after(SENT_BY, state, CacheRequest("another", 900, *chain(said)), None, at)
    session, sending = Session(cache=state, chain=chain(path)), Sending(chain(path), {}, how)
    seat = Seat(deployment, "m", "asked", free=True, terms=Terms(rules, (), None))
    asking = Asking(REQUEST, CallContext("r", "s", NOW_MS, session), sending, in_common(state, session.chain))
    seats = Seats(CATALOG, None, TokenRatios())
    seats._tokens = lambda *_: tokens
    (option,), _ = seats.options([Found("m", [seat], anyway=True)], asking)
    request = sending.to(deployment, tokens, "asked")
    assert option.split == read(rules, state, request, NOW_MS)
