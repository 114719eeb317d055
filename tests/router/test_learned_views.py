"""How a candidate is shown to the bundle: at the price of this very call."""

from decimal import Decimal

import pytest
from msgspec.structs import replace
from router_servers import NOW_MS

from features.cache import Split
from router import prices
from router.arms import REMEMBERED, Learned, Option, Terms
from router.catalog import Candidate, Catalog


@pytest.fixture(scope="module")
def deployment():
    return Catalog.load().deployments["openai/gpt-5.4/openai_responses"]


def test_a_candidate_is_shown_at_the_price_of_each_call_however_often_it_was_seen(deployment) -> None:
    learned, shown = Learned([], {}), []
    split = Split(read=0, write=0, write_1h=0, fresh=9, hit=0.0, sure=1.0, lost=0, why="no_rules")
    for tier in (None, "flex", None, "unheard of"):
        rates = prices.rates(deployment.model, deployment.provider, NOW_MS, 9, tier)
        option = Option(deployment.candidate, deployment, Terms(None, (), None), 9, rates, split)
        (view,) = learned.views([option], None)
        told = (None, None) if rates is None else (float(rates.input), float(rates.output))
        assert (view.input_usd_per_mtok, view.output_usd_per_mtok) == told
        shown.append(told)
    assert shown[0] == shown[2] != shown[1]
    assert shown[3] == (None, None)


def test_an_unseen_candidate_is_told_of_by_its_catalogues_row(deployment) -> None:
    split, name = Split(0, 0, 0, 9, 0.0, 1.0, 0, "no_rules"), deployment.candidate
    option = Option(name, deployment, Terms(None, (), None), 9, None, split)
    row = Candidate(endpoints={}, context_tokens=7)
    (blank,), (told,) = (Learned([], rows).views([option], None) for rows in ({}, {name: row}))
    assert blank.descriptor is not None
    assert blank.descriptor.context_tokens != 7
    assert told.descriptor == replace(blank.descriptor, context_tokens=7)


def test_a_price_is_never_taken_for_one_that_is_gone(deployment) -> None:
    learned, split = Learned([], {}), Split(0, 0, 0, 9, 0.0, 1.0, 0, "no_rules")
    for dollars in range(2 * REMEMBERED):  # each is let go of at once, and the next may stand in its place
        rates = prices.Rates(*[Decimal(dollars)] * 5)
        option = Option("m", deployment, Terms(None, (), None), 9, rates, split)
        assert learned.views([option], None)[0].input_usd_per_mtok == dollars
        del rates, option
    assert len(learned._views) <= REMEMBERED
