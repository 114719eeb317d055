"""Service tiers and speeds as candidates: the field goes out, the price is its own, a client's wish wins."""

import json

import pytest

from features.errors import BadInput
from features.wire import parse_request
from features.wire.head import read_head
from models.bundle import Bundle
from router.catalog import Catalog
from router.decide import Decider
from router.gateway.knobs import asked_for
from router.gateway.splice import with_model
from router.given import CallContext
from router.policy import parse_policy
from router.receipt import recompute

ROWS = """
replace = true
[endpoints.east]
provider = "openai"
base_urls = { openai_chat = "http://x/v1" }
[candidates.big]
endpoints = { east = "gpt-5.4" }
[candidates.big-flex]
endpoints = { east = "gpt-5.4" }
asks = { service_tier = "flex" }
[aliases.auto]
candidates = ["big", "big-flex"]
reference = { openai_chat = "big" }
"""


@pytest.fixture
def decider(tmp_path, bundle_folder):
    (tmp_path / "c.toml").write_text(ROWS)
    return Decider(
        Bundle.load(bundle_folder), Catalog.load(tmp_path / "c.toml"), parse_policy("pin:big-flex")
    )


def decide(decider, **more):
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Fix it"}], **more}).encode()
    receipt = decider.decide(parse_request("openai_chat", body), CallContext("req_1", "s", 1_795_000_000_000))
    assert recompute(receipt, decider) == receipt
    return receipt


def test_a_tier_is_a_candidate_with_its_own_price(decider) -> None:
    receipt = decide(decider)
    assert receipt.chosen == "big-flex"
    big, flex = receipt.arms
    assert float(flex.cost_fresh_usd) == pytest.approx(float(big.cost_fresh_usd) / 2)


def test_a_client_that_names_a_tier_has_its_way(decider) -> None:
    receipt = decide(decider, service_tier="priority")
    assert receipt.chosen == "big"
    assert [arm.excluded_by for arm in receipt.arms] == [None, "service_tier"]
    assert decide(decider, service_tier="flex").chosen == "big-flex"


def test_the_field_is_put_into_the_body_and_nothing_else_changes(decider) -> None:
    flex = decider.catalog.deployments["east/big-flex/openai_chat"]
    raw = b' {"model":"auto", "messages":[]}'
    sent = b"".join(with_model(raw, read_head(raw), flex.model, asked_for(raw, read_head(raw), flex)))
    assert sent == b' {"service_tier":"flex","model":"gpt-5.4", "messages":[]}'
    own = b'{"model":"auto","service_tier":"priority"}'
    assert asked_for(own, read_head(own), flex) == ()
    assert asked_for(raw, read_head(raw), decider.catalog.deployments["east/big/openai_chat"]) == ()


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ('{ temperature = "1" }', "Invalid enum value 'temperature'"),
        ('{ speed = "a", service_tier = "b" }', "not by both"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(tmp_path, asks, said) -> None:
    (tmp_path / "c.toml").write_text(ROWS.replace('{ service_tier = "flex" }', asks))
    with pytest.raises(BadInput, match=said):
        Catalog.load(tmp_path / "c.toml")
