"""Who may call a deployment, where and when; which checkpoint runs there, and whether it still does."""

import json

import pytest

from features.errors import BadInput
from features.wire import parse_request
from models.bundle import Bundle
from router import prices
from router.catalog import Catalog
from router.catalogrows import BARRED
from router.decide import Decider
from router.drift import drift
from router.gateway.settings import Settings
from router.given import CallContext
from router.offline import load_decider
from router.policy import parse_policy
from router.receipt import recompute

DAY = 86_400_000
NOV_10 = 1_794_268_800_000  # 2026-11-10 00:00 UTC

OWN = """
replace = true
[endpoints.eu]
provider = "openai"
base_urls = { openai_chat = "https://eu.example/v1" }
key_env = "EU_KEY"
region = "eu"
account = "platform"
residency = ["eu", "ch"]
tenants = ["payments", "search"]
from = 2026-11-01
limits = { requests_per_minute = 500, tokens_per_minute = 2_000_000, concurrent = 64 }
[endpoints.rack]
provider = "our-rack"
base_urls = { openai_chat = "http://rack/v1" }
[endpoints.cloud]
provider = "aws"
base_urls = { openai_chat = "http://cloud/v1" }
tenants = ["nobody"]
[candidates.big]
endpoints = { eu = "gpt-5.4", rack = "big", cloud = "us.anthropic.claude-sonnet-4-5-20250929-v1:0" }
until = 2026-11-11
bytes_per_token = 3.9
pins = { rack = { checkpoint = "rev-7f3a", evidence = "digest of the weights", checked = 2026-11-01 } }
[candidates.dated]
endpoints = { eu = "gpt-5.4-2026-03-05" }
[aliases.auto]
candidates = ["big"]
reference = { openai_chat = "big" }
"""


@pytest.fixture
def catalog(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(OWN)
    return Catalog.load(file)


def test_what_a_deployment_carries(catalog) -> None:
    eu = catalog.deployments["eu/big/openai_chat"]
    assert (eu.region, eu.account, eu.limits.concurrent, eu.floating) == ("eu", "platform", 64, True)
    rack = catalog.deployments["rack/big/openai_chat"]
    assert (rack.checkpoint, rack.evidence, rack.floating) == ("rev-7f3a", "digest of the weights", False)
    dated = catalog.deployments["eu/dated/openai_chat"]
    assert (dated.checkpoint, dated.evidence) == ("2026-03-05", "the date in its name")
    assert catalog.deployments["cloud/big/openai_chat"].checkpoint == "20250929"


@pytest.mark.parametrize(
    ("headers", "day", "environ", "why"),
    [
        ({"x-samediff-tenant": "payments"}, 0, {"EU_KEY": "made-up"}, None),
        ({"x-samediff-tenant": "payments", "x-samediff-residency": "EU"}, 0, None, None),
        ({}, 0, None, "tenant"),
        ({"x-samediff-tenant": "sales"}, 0, None, "tenant"),
        ({"x-samediff-tenant": "search", "x-samediff-residency": "us"}, 0, None, "residency"),
        ({"x-samediff-tenant": "search"}, 1, None, "not_in_force"),
        ({"x-samediff-tenant": "search"}, -10, None, "not_in_force"),
        ({"x-samediff-tenant": "search"}, -9, None, None),
        ({"x-samediff-tenant": "search"}, 0, {}, "no_key"),
    ],
)
def test_who_may_call_where_and_when(catalog, headers, day, environ, why) -> None:
    eu = catalog.deployments["eu/big/openai_chat"]
    assert eu.barred(headers, NOV_10 + day * DAY, environ) == why
    assert bool(eu.why_barred(why)) == (why in BARRED)


def test_a_place_that_is_not_known_is_not_good_enough(catalog) -> None:
    rack = catalog.deployments["rack/big/openai_chat"]
    assert rack.barred({}, NOV_10, {}) is None
    assert rack.barred({"x-samediff-residency": "eu"}, NOV_10, {}) == "residency"


def test_the_first_deployment_that_may_be_called_is_taken(catalog, bundle_folder) -> None:
    decider = Decider(Bundle.load(bundle_folder), catalog, parse_policy("pin:big"))

    def decide(model, headers, ts_ms):
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Fix it"}]}).encode()
        context = CallContext("req_1", "s", ts_ms, headers=headers)
        return decider.decide(parse_request("openai_chat", body), context)

    for headers, endpoint in (({}, "rack"), ({"x-samediff-tenant": "search"}, "eu")):
        receipt = decide("auto", headers, NOV_10)
        assert receipt.deployment == f"{endpoint}/big/openai_chat"
        assert recompute(receipt, decider) == receipt
    with pytest.raises(BadInput, match=r"can't be called .* keep data where x-samediff-residency asks"):
        decide("big", {"x-samediff-residency": "mars", "x-samediff-tenant": "search"}, NOV_10)
    with pytest.raises(BadInput, match="certain tenants only"):
        decide("auto", {}, NOV_10 + DAY)


@pytest.mark.parametrize(
    ("name", "served", "before", "kind"),
    [
        ("eu/big/openai_chat", None, None, None),
        ("eu/big/openai_chat", "gpt-5.4-2026-03-05", None, None),
        ("eu/big/openai_chat", "openai/gpt-5.4", "gpt-5.4-2026-03-05", None),
        ("eu/big/openai_chat", "gpt-5.4-2026-09-01", "gpt-5.4-2026-03-05", "moved"),
        ("eu/big/openai_chat", "gpt-5.4-mini", None, "model"),
        ("eu/dated/openai_chat", "gpt-5.4-2026-03-05", None, None),
        ("eu/dated/openai_chat", "gpt-5.4-20260901", None, "checkpoint"),
        ("eu/dated/openai_chat", "gpt-5.4", None, None),
        ("rack/big/openai_chat", "big", None, None),
        ("rack/big/openai_chat", "small", None, "model"),
        ("eu/big/openai_chat", "GPT-5.4", None, None),
        ("cloud/big/openai_chat", "claude-sonnet-4-5-20250929", None, None),
        ("cloud/big/openai_chat", "claude-sonnet-4-5-20260101", None, "checkpoint"),
        ("cloud/big/openai_chat", "claude-sonnet-4-6", None, "model"),
    ],
)
def test_what_was_served_is_compared(catalog, name, served, before, kind) -> None:
    found = drift(catalog.deployments[name], served, before)
    assert (found and found.kind) == kind


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[candidates.glm-5]\npins = { openai = { checkpoint = 'x' } }", "missing required field `evidence`"),
        (
            "[candidates.glm-5]\npins = { openai = { checkpoint = 'x', evidence='y', checked = 2026-01-01}}",
            "candidates.glm-5.pins: no openai in its endpoints",
        ),
        ("[candidates.glm-5]\ncapabilities = ['tool']", "Invalid enum value 'tool'"),
        ("[candidates.glm-5]\nmax_output_tokens = 0", "max_output_tokens: 0 must be a finite number over 0"),
        ("[endpoints.zai]\nfrom = 2026-02-01\nuntil = 2026-01-01", "`from` isn't before `until`"),
        ("[endpoints.zai]\nlimits = { rpm = 3 }", "unknown field `rpm`"),
    ],
)
def test_mistakes_name_the_row(tmp_path, text, said) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(BadInput) as refused:
        Catalog.load(file)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
            "no_json_schema",
        ),
        ({"reasoning_effort": "high"}, "no_thinking"),
        ({"temperature": 0}, None),
    ],
)
def test_a_capability_that_a_row_does_not_list_is_missing(tmp_path, bundle_folder, body, why) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[candidates.glm-5]\ncapabilities = ['tools']\n")
    decider = Decider(Bundle.load(bundle_folder), Catalog.load(file), parse_policy("pin:glm-5"))
    asked = {"model": "auto", "messages": [{"role": "user", "content": "Fix it"}], **body}
    request = parse_request("openai_chat", json.dumps(asked).encode())
    receipt = decider.decide(request, CallContext("req_1", "s", NOV_10))
    (arm,) = (a for a in receipt.arms if a.candidate == "glm-5")
    assert arm.excluded_by == why


def test_a_price_file_in_the_settings_is_in_force_and_in_the_receipt(tmp_path, bundle_folder) -> None:
    own = tmp_path / "prices.toml"
    own.write_text("[[price]]\nmodels = ['glm-5']\ntimes = 2\nsource = 'us'\nchecked = 2026-01-01\n")
    body = {"model": "auto", "messages": [{"role": "user", "content": "Fix it"}]}
    request = parse_request("openai_chat", json.dumps(body).encode())
    cost = []
    for file in (None, str(own)):
        decider = load_decider(Settings(bundle=str(bundle_folder), prices=file))
        receipt = decider.decide(request, CallContext("req_1", "s", NOV_10, all_arms=True))
        assert receipt.price_version == prices.PRICE_VERSION
        cost.append(next(a.cost_usd for a in receipt.arms if a.candidate == "glm-5"))
    prices.use(None)
    assert cost[1] == 2 * cost[0]
    with pytest.raises(BadInput, match="its price_version is"):
        recompute(receipt, decider)


RANGES = """
[endpoints.openai.base_urls]
openai_chat = "http://x/v1"
[candidates."gpt-5.4".versions]
from = 2026-03-01
until = 2026-06-01
accept = ["house/*"]
mismatch = "leave"
"""


@pytest.mark.parametrize(
    ("served", "kind"),
    [
        ("gpt-5.4", None),  # it doesn't say
        ("gpt-5.4-2026-03-05", None),
        ("gpt-5.4-2026-06-01", "checkpoint"),
        ("gpt-5.4-2026-99-99", "model"),  # no date
        ("gpt-5.4-mini-2026-03-05", "model"),
        ("house/gpt", None),
    ],
)
def test_versions_of_a_range_will_do(tmp_path, served, kind) -> None:
    (tmp_path / "own.toml").write_text(RANGES)
    deployment = Catalog.load(tmp_path / "own.toml").deployments["openai/gpt-5.4/openai_chat"]
    found = drift(deployment, served)
    assert (found and found.kind) == kind
    assert kind != "checkpoint" or found.expected == "from 2026-03-01 until 2026-06-01"


def test_versions_that_cannot_be_are_refused(tmp_path) -> None:
    for text, said in (
        ("from = 2026-02-01\nuntil = 2026-01-01", "`from` isn't before `until`"),
        ("mismatch = 'panic'", "Invalid enum value 'panic'"),
    ):
        (tmp_path / "own.toml").write_text(f'[candidates."gpt-5.4".versions]\n{text}')
        with pytest.raises(BadInput, match=said):
            Catalog.load(tmp_path / "own.toml")
