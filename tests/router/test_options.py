"""Where an alias's candidates can be called: what is found once is what would be found anew."""

from itertools import product

import pytest

from features.context import TokenRatios
from router.catalog import Catalog
from router.options import Seats

DIALECTS = ("anthropic_messages", "openai_chat", "openai_responses")


@pytest.mark.parametrize("keys", [None, {}, {"ANTHROPIC_API_KEY": "made-up"}])
def test_what_is_found_once_is_what_would_be_found_anew(keys) -> None:
    catalog, own = Catalog.load()._replace(dialects="prefer_same"), ("gpt-5.4-mini",)

    def seats():
        return Seats(catalog, keys, TokenRatios(), own)

    asked = list(product(catalog.aliases, DIALECTS, (False, True), (False, True)))
    known = seats()
    for alias, dialect, same, all_arms in asked * 2:
        found = known.of(alias, dialect, same=same, all_arms=all_arms)
        assert found == seats().of(alias, dialect, same=same, all_arms=all_arms)
        names = dict.fromkeys((*catalog.aliases[alias].candidates, *own))
        assert [one.candidate for one in found] == list(names)
        assert all(seat.deployment.dialect == dialect for one in found for seat in one.seats if same)
        if all_arms:  # only who has no deployment isn't described
            assert all(one.anyway and (one.absent is None) == bool(one.seats) for one in found)
