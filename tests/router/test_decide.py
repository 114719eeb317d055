"""A decision: complete, reproducible from its receipt byte for byte, and locked where it has to be."""

import json
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from router_servers import NOW_MS

from features.cache import CacheState, after
from features.errors import BadInput
from features.records import DecisionRecord
from features.wire import parse_request
from models.bundle import Bundle
from router.catalog import Catalog
from router.cost import asked_by, cache_rules, sending
from router.decide import PRIOR_NOTICE, Decider
from router.gateway.sessions import chain_of
from router.given import CallContext, Session, Unavailable, UnknownModel
from router.policy import parse_policy
from router.receipt import recompute


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return Bundle.load(bundle_folder)


@pytest.fixture(scope="module")
def catalog():
    return Catalog.load()


@pytest.fixture(scope="module")
def decider(bundle, catalog):
    return Decider(bundle, catalog, parse_policy("learned:max_loss=0.05,explore=0.2"))


def messages(model="auto", content="Fix the bug in parser.py", **more):
    body = {"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": content}], **more}
    return parse_request("anthropic_messages", json.dumps(body).encode())


def chat(model="auto", turns=(), **more):
    body = {"model": model, "messages": [{"role": "user", "content": "Fix it"}, *turns], **more}
    return parse_request("openai_chat", json.dumps(body).encode())


LOOP = [
    {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "sh", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "ok"},
]


def context(n=0, **session):
    return CallContext(f"req_{n}", "s", NOW_MS, Session(**session))


def warm(request, age_ms, *candidates):
    """What a session knows where these candidates were sent this very prompt so long ago."""
    state, sent = CacheState(), sending(request, chain_of(request), asked_by(request))
    for name in candidates:
        for deployment in Catalog.load().deployments_of(name, request.dialect)[:1]:
            rules = cache_rules(deployment, NOW_MS, sent.asked)
            asked = sent.to(deployment, request.body_bytes // 4)
            state = after(rules, state, asked, None, NOW_MS - age_ms)
    return {"cache": state, "chain": sent.chain}


def arm(receipt, candidate):
    return next(a for a in receipt.arms if a.candidate == candidate)


@given(
    content=st.text(max_size=200),
    n=st.integers(0, 10_000),
    last=st.sampled_from([None, "claude-haiku-5-5", "claude-opus-5-5", "gpt-5.4", "someone-else"]),
    loop=st.booleans(),
    age=st.sampled_from([None, 0, 290_000, 1_000_000, 9_000_000]),
    last_tokens=st.one_of(st.none(), st.integers(1, 10**6)),
    by_client=st.booleans(),
    tier=st.sampled_from([None, "auto", "flex", "a=b"]),
    control=st.booleans(),
    retried=st.one_of(st.none(), st.floats(0, 1)),
    broken=st.one_of(st.just(0.0), st.floats(0, 0.9)),
    ttl=st.sampled_from([None, "5m", "1h", "a=b"]),
)
@settings(max_examples=60, deadline=None)
def test_a_receipt_is_recomputed_byte_for_byte(
    decider, content, n, last, loop, age, last_tokens, by_client, tier, control, retried, broken, ttl
) -> None:
    more = {"service_tier": tier}
    mark = {} if ttl is None else {"cache_control": {"type": "ephemeral", "ttl": ttl}}
    said = [{"type": "text", "text": content, **mark}]
    request = chat(turns=LOOP, **more) if loop else messages(content=said, system="s" * 9000, **more)
    session = {
        "last_candidate": last,
        "last_by_client": by_client,
        "last_tokens": last_tokens,
        "last_bytes": 500,
    }
    session |= (
        {} if age is None else warm(request, age, *([last] if last in decider.catalog.candidates else []))
    )
    session["broken_calls"] = {"claude-haiku-5-5": broken} if broken else {}
    about = replace(context(n, shared=(10, 0.5, 5.0), **session), cache_control=control)
    if retried is not None:
        about = replace(about, retry_rates=dict.fromkeys(decider.catalog.deployments, retried))
    receipt = decider.decide(request, about)
    written = msgspec.json.encode(receipt)
    read = msgspec.json.decode(written, type=DecisionRecord)
    assert msgspec.json.encode(recompute(read, decider)) == written
    assert sum(a.propensity for a in receipt.arms) == pytest.approx(1.0)


@pytest.mark.parametrize("dialects", ["same", "prefer_same", "any"])
@pytest.mark.parametrize("model", ["gpt-5.4", "claude-opus-5-5", "auto"])
def test_a_receipt_is_recomputed_from_whatever_dialects_are_reached(bundle, catalog, dialects, model) -> None:
    decider = Decider(bundle, catalog._replace(dialects=dialects, reached={}), parse_policy("learned"))
    said = {"model": model, "input": "Fix it"}
    asked = (messages(model), chat(model), parse_request("openai_responses", json.dumps(said).encode()))
    made = 0
    for request in asked:
        try:
            receipt = decider.decide(request, context())
        except (UnknownModel, Unavailable):
            continue
        made += 1
        assert msgspec.json.encode(recompute(receipt, decider)) == msgspec.json.encode(receipt)
        own = [d for d in catalog.deployments.values() if d.candidate == receipt.chosen]
        if any(d.dialect == request.dialect for d in own):
            assert receipt.deployment.endswith(request.dialect)
    assert made


def test_a_receipt_is_complete(decider, bundle, catalog) -> None:
    receipt = decider.decide(messages(), context())
    chosen = arm(receipt, receipt.chosen)
    parts = (chosen.cost_fresh_usd, chosen.cost_cached_usd, chosen.cost_write_usd, chosen.cost_output_usd)
    assert sum(parts) == chosen.cost_usd
    assert receipt.bundle_digest == bundle.digest
    assert receipt.catalog_digest == catalog.digest
    assert receipt.price_version.startswith("genai-prices ")
    assert (receipt.provider, receipt.reference) == ("anthropic", "claude-opus-5-5")
    assert len(receipt.embedding) == bundle.encoder.dim
    assert arm(receipt, "gpt-5.4").excluded_by == "dialect"


def test_offline_the_cache_is_not_followed_and_no_money_is_written_as_0(decider) -> None:
    receipt = decider.decide(messages(), context(last_candidate="claude-haiku-5-5"))
    assert arm(receipt, "claude-opus-5-5").cache_why == "not_followed"
    written = msgspec.json.encode(receipt)
    assert b'"0"' in written
    assert b"0E-" not in written
    for old in (
        written.replace(b'_usd":"0"', b'_usd":"0E-12"'),
        written.replace(b"not_followed", b"no_rules"),
    ):
        read = msgspec.json.decode(old, type=DecisionRecord)  # as it was once written
        assert msgspec.json.encode(recompute(read, decider)) == old


def test_a_receipt_of_another_bundle_or_policy_is_refused(decider, bundle, catalog) -> None:
    receipt = decider.decide(messages(), context())
    other = Decider(bundle, catalog, parse_policy("learned"))
    with pytest.raises(BadInput, match="its policy_digest is"):
        recompute(receipt, other)
    bare = msgspec.structs.replace(receipt, facts=None)
    with pytest.raises(BadInput, match="holds no facts"):
        recompute(bare, decider)


def test_a_candidate_that_could_not_be_called_is_made_again_too(decider) -> None:
    receipt = decider.decide(messages(), context())
    absent = arm(receipt, "gpt-5.4")
    assert (absent.deployment, absent.excluded_by) == (None, "dialect")
    forged = replace(absent, eligible=True, p_success=0.99)
    arms = [forged if one is absent else one for one in receipt.arms]
    assert recompute(replace(receipt, arms=arms), decider) == receipt


def test_a_concrete_model_is_a_pin(decider) -> None:
    for model in ("claude-haiku-5-5", "claude-haiku-4-5-20251001"):
        receipt = decider.decide(messages(model), context())
        assert receipt.chosen == model
        assert receipt.policy == f"pin:{model}"
        assert [a.propensity for a in receipt.arms] == [1.0]
        assert msgspec.json.encode(recompute(receipt, decider)) == msgspec.json.encode(receipt)


def test_an_unknown_model_names_the_way_out(decider) -> None:
    with pytest.raises(UnknownModel, match="GET /v1/models"):
        decider.decide(messages("no-such-model"), context())
    for model in ("gpt-5.4", "claude-x\r\nset-cookie: a=b", "claude-\u00e9", "claude-" + "x" * 10_000):
        with pytest.raises(UnknownModel) as refused:
            decider.decide(messages(model), context())
        assert len(str(refused.value)) < 250
        assert "\n" not in str(refused.value)


def test_a_tool_loop_is_locked_to_its_candidate(decider) -> None:
    receipt = decider.decide(chat(turns=LOOP), context(last_candidate="gpt-5.4-mini"))
    assert (receipt.chosen, receipt.locks) == ("gpt-5.4-mini", ["tool_loop"])
    assert arm(receipt, "gpt-5.4").excluded_by == "tool_loop"


def test_signed_thinking_is_locked_to_its_candidate(decider) -> None:
    turns = [
        {"role": "user", "content": "Fix it"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "abc"},
                {"type": "text", "text": "Done"},
            ],
        },
        {"role": "user", "content": "Thanks, now the docs"},
    ]
    receipt = decider.decide(messages(messages=turns), context(last_candidate="claude-sonnet-5-5"))
    assert (receipt.chosen, receipt.locks) == ("claude-sonnet-5-5", ["provider_bound"])


def test_a_prompt_too_long_takes_out_small_windows(bundle, catalog) -> None:
    decider = Decider(bundle, catalog, parse_policy("pin:claude-haiku-4-5"))
    receipt = decider.decide(messages(content="x" * 900_000), context())
    assert arm(receipt, "claude-haiku-4-5").excluded_by == "context_too_long"
    assert receipt.chosen == "claude-opus-5-5"


def test_images_take_out_models_that_cannot_see(decider) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    request = chat(messages=[{"role": "user", "content": [picture]}])
    receipt = decider.decide(request, context())
    assert arm(receipt, "glm-5").excluded_by == "no_images"
    assert arm(receipt, "gpt-5.4").excluded_by is None


def test_without_its_key_a_seller_is_not_called(bundle, catalog) -> None:
    keyless = Decider(bundle, catalog, parse_policy("learned:max_loss=1"), environ={})
    assert arm(keyless.decide(chat(), context()), "glm-5").excluded_by == "no_key"
    with pytest.raises(Unavailable, match="set ZAI_API_KEY"):
        keyless.decide(chat("glm-5"), context())


@pytest.mark.parametrize("all_arms", [False, True])
def test_who_cannot_be_called_is_named_and_described_only_when_asked_for(bundle, catalog, all_arms) -> None:
    keyed = Decider(
        bundle, catalog, parse_policy("learned:max_loss=1"), environ={"OPENAI_API_KEY": "made-up"}
    )
    receipt, other = (
        keyed.decide(chat(), replace(context(), all_arms=shown)) for shown in (all_arms, not all_arms)
    )
    keyless, called = arm(receipt, "glm-5"), arm(receipt, "gpt-5.4")
    assert (keyless.excluded_by, keyless.eligible, keyless.propensity) == ("no_key", False, 0.0)
    unsaid = [keyless.deployment is None, keyless.p_success is None, keyless.cost_usd is None]
    assert unsaid == [not all_arms] * 3
    assert None not in (called.p_success, called.cost_usd)
    assert other.chosen == receipt.chosen
    assert {a.candidate for a in other.arms} == {a.candidate for a in receipt.arms}
    assert msgspec.json.encode(recompute(receipt, keyed)) == msgspec.json.encode(receipt)


def test_expected_costs_are_those_of_the_tier_asked_for(decider) -> None:
    costs = {
        tier: arm(decider.decide(chat(service_tier=tier), context()), "gpt-5.4").cost_usd
        for tier in (None, "auto", "flex", "priority")
    }
    assert costs["flex"] < costs[None] == costs["auto"] < costs["priority"]


def test_a_pin_goes_to_a_deployment_that_can_be_called(bundle, tmp_path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("[candidates.glm-5]\nendpoints = { zai = 'glm-5', openrouter = 'z-ai/glm-5' }\n")
    catalog, policy = Catalog.load(own), parse_policy("learned")
    for key, provider in (("OPENROUTER_API_KEY", "openrouter"), ("ZAI_API_KEY", "zai")):
        decider = Decider(bundle, catalog, policy, environ={key: "made-up"})
        receipt = decider.decide(chat("glm-5"), context())
        assert (receipt.policy, receipt.provider) == ("pin:glm-5", provider)
        assert msgspec.json.encode(recompute(receipt, decider)) == msgspec.json.encode(receipt)


def test_a_warm_cache_makes_an_arm_cheaper(decider) -> None:
    request = messages(
        content=[{"type": "text", "text": "x" * 60_000, "cache_control": {"type": "ephemeral"}}]
    )
    cold = decider.decide(request, context(**warm(request, 0)))
    hot = decider.decide(request, context(**warm(request, 1_000, "claude-opus-5-5")))
    assert arm(hot, "claude-opus-5-5").cost_usd < arm(cold, "claude-opus-5-5").cost_usd / 5
    assert arm(hot, "claude-sonnet-5-5").cost_usd == arm(cold, "claude-sonnet-5-5").cost_usd
    assert arm(hot, "claude-opus-5-5").cache_why == "warm"
    assert arm(hot, "claude-sonnet-5-5").cache_why == "switched"


def test_the_prior_says_that_it_is_the_prior(bundle_folder, catalog) -> None:
    prior = Bundle.load(bundle_folder)
    prior.kind = "prior"
    receipt = Decider(prior, catalog, parse_policy("learned")).decide(messages(), context())
    assert receipt.bundle_kind == "prior"
    assert PRIOR_NOTICE in receipt.reasons


def test_a_policy_must_name_candidates_of_the_catalogue(bundle, catalog) -> None:
    with pytest.raises(BadInput, match="'gpt-99' is no candidate"):
        Decider(bundle, catalog, parse_policy("pin:gpt-99"))


def test_deciding_loads_no_training_library(bundle_folder) -> None:
    code = (
        "import sys; from router.offline import load_decider; from router.gateway.settings import Settings;"
        f"load_decider(Settings(bundle={str(bundle_folder)!r}));"
        "bad = {'lightgbm', 'sklearn', 'polars', 'pandas', 'torch', 'mlflow'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_arms_without_outcomes_are_named_and_are_no_evidence(bundle, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        '[candidates.newcomer]\nreleased = "2026-06-01"\nprobe = { fix = [3, 4] }\n'
        'endpoints = { anthropic = "claude-3-haiku-20240307" }\n'
        '[aliases.auto]\ncandidates = ["claude-opus-4-6", "newcomer"]\n'
        'reference = { anthropic_messages = "claude-opus-4-6" }\n',
        encoding="utf-8",
    )
    decider = Decider(bundle, Catalog.load(own), parse_policy("learned:max_loss=1"))
    receipt = decider.decide(messages(), context())
    assert receipt.chosen == "claude-opus-4-6"
    assert any(r.startswith("no outcome of newcomer in the bundle") for r in receipt.reasons)
    newcomer = next(a for a in receipt.arms if a.candidate == "newcomer")
    assert newcomer.p_success_high - newcomer.p_success_low > 0.25
    own.write_text(
        '[candidates.x]\nprobe = { fix = [5, 4] }\nendpoints = { anthropic = "x" }\n', encoding="utf-8"
    )
    with pytest.raises(BadInput, match=r"candidates\.x.*probe\.fix"):
        Catalog.load(own)


def test_who_only_asks_is_given_the_reasons_of_a_call(bundle, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        '[candidates.newcomer]\nendpoints = { zai = "new" }\n'
        '[candidates.reached]\nendpoints = { anthropic = "claude-3-haiku-20240307" }\n'
        '[aliases.auto]\ncandidates = ["claude-opus-4-6", "newcomer", "reached"]\n'
        'reference = { anthropic_messages = "claude-opus-4-6" }\n',
        encoding="utf-8",
    )
    policy, keys = parse_policy("learned:max_loss=1"), {"ANTHROPIC_API_KEY": "made-up"}
    decider = Decider(bundle, Catalog.load(own), policy, environ=keys)
    asked, called = (
        decider.decide(messages(), replace(context(), all_arms=shown)) for shown in (True, False)
    )
    assert [arm(receipt, "newcomer").excluded_by for receipt in (asked, called)] == ["no_key", "no_key"]
    assert arm(asked, "newcomer").p_success is not None
    assert asked.reasons == called.reasons
    assert any(r.startswith("no outcome of reached in the bundle") for r in asked.reasons)
    assert msgspec.json.encode(recompute(asked, decider)) == msgspec.json.encode(asked)


def test_every_part_of_the_expected_cost_stands_in_the_receipt(decider) -> None:
    request = messages(content="x" * 60_000, tools=[{"name": "sh", "input_schema": {"type": "object"}}])
    known = warm(request, 1_000, "claude-opus-5-5")
    about = replace(
        context(last_candidate="claude-opus-5-5", **known),
        retry_rates=dict.fromkeys(decider.catalog.deployments, 0.05),
    )
    receipt = decider.decide(request, about)
    for name in ("claude-opus-5-5", "claude-haiku-5-5"):
        row = arm(receipt, name)
        assert row.retry_rate == 0.05
        assert row.cost_retry_usd > 0
        assert row.return_p is not None
        assert row.cost_return_usd is not None
        assert row.cost_redo_usd is not None
    assert arm(receipt, "claude-opus-5-5").cost_return_usd == 0


def test_a_candidate_that_breaks_its_clients_tools_is_less_able_in_that_session(decider) -> None:
    plain = decider.decide(messages(), context())
    cheap = plain.chosen
    assert cheap != plain.reference
    for share in (0.01, 0.2, 0.5):
        receipt = decider.decide(messages(), context(broken_calls={cheap: share}))
        assert arm(receipt, cheap).broken_calls == share
        assert arm(receipt, cheap).p_success == pytest.approx(arm(plain, cheap).p_success * (1 - share))
        others = [a for a in plain.arms if a.candidate != cheap]
        assert [a.p_success for a in receipt.arms if a.candidate != cheap] == [a.p_success for a in others]
    assert receipt.chosen != cheap


def test_a_prompt_that_we_mark_is_priced_as_a_marked_one(decider) -> None:
    tool = [{"name": "sh", "input_schema": {"type": "object"}}]
    request = messages(content="x" * 60_000, tools=tool)
    session = {"chain": chain_of(request)}
    plain, ours = (
        decider.decide(request, replace(context(**session), cache_control=on)) for on in (False, True)
    )
    assert arm(plain, "claude-opus-5-5").cache_why == "unmarked"
    assert arm(ours, "claude-opus-5-5").cache_why == "cold_start"
    assert arm(ours, "claude-opus-5-5").cache_write_tokens_est > 10_000
    assert "cache_control=ours" in ours.constraints
    one_shot = decider.decide(messages(content="x" * 60_000), replace(context(**session), cache_control=True))
    assert arm(one_shot, "claude-opus-5-5").cache_why == "unmarked"
