"""Records that are made by place: every value has its own, told by name and no two alike."""

from decimal import Decimal

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from router_servers import NOW_MS

from features.cache import Split, rules_digest
from features.editfacts import kept_of_answer
from features.facts import Facts
from features.records import (
    AttemptRecord,
    DecisionRecord,
    OffsetRecord,
    PlanStep,
    RequestRecord,
    TypeShare,
)
from features.wire import Usage, WireRequest, WireResponse
from features.wire.types import Part
from models.belief import Belief
from models.bundle import Bundle
from models.prior import PRIOR
from router import prices
from router.arms import Judged, Option, Terms, absent_record, arm_records
from router.catalog import Catalog
from router.cost import Cost
from router.decide import PRIOR_NOTICE, Decider
from router.gateway.call import Alike, Call, Tags, Trace
from router.gateway.recording import FALLBACK_FLAG, alike_of, as_written, request_record
from router.gateway.sessions import Answer, Place
from router.given import Given
from router.outlook import Outlook
from router.policy import Choice, parse_policy

MONEY = [Decimal(n) / 1000 for n in range(11, 21)]


def is_told(record, **expected) -> None:
    """A record says this and nothing else, field by field; True isn't 1."""
    assert list(expected) == list(type(record).__struct_fields__)
    said = [repr(value) for value in expected.values() if value is not None]
    assert len(set(said)) == len(said), "two fields alike: nobody would see them swapped"
    assert {name: repr(getattr(record, name)) for name in expected} == {
        name: repr(value) for name, value in expected.items()
    }


@pytest.fixture(scope="module")
def deployment():
    return Catalog.load().deployments["openai/gpt-5.4/openai_responses"]


def test_every_value_of_a_call_has_its_place(deployment) -> None:
    edit = '{"path": "a.py", "old_string": "x = 1", "new_string": "x = 2"}'
    parts = (Part(kind="text", text="Done."), Part(kind="tool_call", name="edit", text=edit, call_id="c"))
    usage = Usage(
        input_tokens_uncached=5001,
        cached_tokens=402,
        cache_write_tokens=303,
        cache_write_1h_tokens=204,
        output_tokens=105,
        reasoning_tokens=56,
    )
    answer = WireResponse(
        response_id="resp",
        model="gpt-served",
        parts=parts,
        finish_reason="length",
        usage=usage,
        service_tier="flex",
    )
    tries = [AttemptRecord(deployment="first"), AttemptRecord(deployment="second")]
    facts = Facts(turn=17.0)
    call = Call(
        request=WireRequest(
            dialect="openai_chat",
            model="asked",
            stream=False,
            effort="high",
            user="user",
            service_tier="auto",
        ),
        body=(b"the ", b"prompt"),
        receipt=DecisionRecord(
            request_id="req",
            session_id="ses",
            ts_ms=NOW_MS,
            policy="policy",
            chosen="another",
            facts=facts,
            embedding=[0.25, 0.75],
            feature_hash="feature-hash",
            encoder_digest="encoder-digest",
        ),
        deployment=deployment,
        place=Place(
            session_id="ses",
            parent_session_id="parent",
            session="named",
            conversation="conversation",
            thread="thread",
            chain=([31, 32], [41, 42]),
            turn=18,
            is_subagent=None,
            after=None,
        ),
        answer=Answer("conversation", "named", "thread", "gpt-5.4", by_client=False, turn=18),
        headers={"user-agent": "codex_cli_rs/0.98.0 (Linux)"},
        tags=Tags(
            task_type="tagged-type", task_id="tagged-id", repo="repo", branch="branch", tenant="tenant"
        ),
        alike=Alike(None, None),
    )
    trace = Trace(
        status="truncated",
        http_status=207,
        error_kind="cut",
        first_byte_ms=71.5,
        first_tool_call_ms=72.5,
        latency_ms=73.5,
        attempts=6,
        answer=answer,
        tries=tries,
    )
    cost = prices.price_usd(deployment.model, deployment.provider, usage, NOW_MS, "flex")
    digests, told = kept_of_answer(parts)
    assert None not in (cost, digests, told)
    is_told(
        request_record(call, trace, "full"),
        request_id="req",
        session_id="ses",
        ts_ms=NOW_MS,
        source="journal",
        schema_version=1,
        source_file=None,
        source_row=None,
        parent_session_id="parent",
        turn=17,
        harness="codex",
        harness_version="0.98.0",
        user="user",
        tenant="tenant",
        repo="repo",
        branch="branch",
        task_id="tagged-id",
        task_type="tagged-type",
        dialect="openai_chat",
        stream=False,
        model_requested="asked",
        model_served="gpt-served",
        candidate="gpt-5.4",
        deployment="openai/gpt-5.4/openai_responses",
        provider="openai",
        effort="high",
        service_tier="flex",
        provider_response_id="resp",
        input_tokens_uncached=5001,
        cached_tokens=402,
        cache_write_tokens=303,
        cache_write_1h_tokens=204,
        output_tokens=105,
        reasoning_tokens=56,
        reasoning_in_output=True,
        cost_usd=cost,
        cost_source="priced",
        price_version=prices.PRICE_VERSION,
        status="truncated",
        http_status=207,
        error_kind="cut",
        finish_reason="length",
        latency_ms=73.5,
        first_byte_ms=71.5,
        first_tool_call_ms=72.5,
        attempts=6,
        tries=tries,
        prefix_hashes=[31, 32],
        prefix_bytes=[41, 42],
        facts=facts,
        embedding=[0.25, 0.75],
        encoder_digest="encoder-digest",
        feature_hash="feature-hash",
        tools_called=["edit"],
        edit_digests=digests,
        answer=told,
        flags=[FALLBACK_FLAG],
        prompt_text="the prompt",
        response_text=f"Done.\n{edit}",
    )
    kept_back = request_record(call, trace, "none")
    texts = ("prefix_hashes", "prefix_bytes", "facts", "embedding", "encoder_digest", "feature_hash")
    texts += ("tools_called", "edit_digests", "answer", "prompt_text", "response_text")
    assert [name for name in RequestRecord.__struct_fields__ if getattr(kept_back, name) is None] == [
        *("source_file", "source_row"),
        *texts,
    ]
    for record in (call.receipt, request_record(call, trace, "full")):  # as the journal writes them
        written = msgspec.json.encode(as_written(record, alike_of(call.receipt, "features")))
        assert written == msgspec.json.encode(record)
        kept_back = msgspec.json.decode(
            msgspec.json.encode(as_written(record, alike_of(call.receipt, "none"))), type=type(record)
        )
        assert (kept_back.facts, kept_back.embedding) == (None, None)


@pytest.mark.parametrize("away", [[], ["no_key"], ["no_key", None, "dialect"]])
def test_arms_that_nobody_can_call_are_written_as_any_other(deployment, away) -> None:
    made = choice()
    absent = [absent_record(f"away-{why}", why) for why in away]
    arms = [*arm_records([judged(deployment)] * 2, made), *absent]
    receipt = DecisionRecord("r", "s", NOW_MS, "pin", "gpt-5.4", arms=arms)
    for said in (receipt, replace(receipt, arms=absent), replace(receipt, arms=[*absent, *arms])):
        written = as_written(said, alike_of(said, "features"))
        assert msgspec.json.encode(written) == msgspec.json.encode(said)


SPLIT = Split(read=3001, write=202, write_1h=103, fresh=54, hit=0.91, sure=0.82, lost=7, why="expired")


def judged(deployment) -> Judged:
    option = Option(
        candidate="gpt-5.4",
        deployment=deployment,
        terms=Terms(rules=None, ladder=(), window=None),
        tokens=3360,
        rates=None,
        split=SPLIT,
        age_ms=81.5,
        retry_rate=0.083,
        broken_calls=0.084,
    )
    return Judged(
        option=option,
        excluded_by=None,
        belief=Belief(
            p_success=0.61,
            p_success_low=0.52,
            p_success_high=0.73,
            output_tokens=640.5,
            reasoning_tokens=650.5,
            turns_left=6.5,
        ),
        cost=Cost(total=MONEY[0], fresh=MONEY[1], cached=MONEY[2], written=MONEY[3], output=MONEY[4]),
        ahead=Outlook(
            later=MONEY[5],
            extra=MONEY[6],
            back=MONEY[7],
            redo=MONEY[8],
            retry=MONEY[9],
            p_back=0.39,
            back_ms=91.5,
        ),
    )


def choice(**more) -> Choice:
    said = {
        "chosen": "gpt-5.4",
        "propensities": {"gpt-5.4": 0.375},
        "excluded": {},
        "plan": (PlanStep(action="call", candidate="gpt-5.4"),),
        "locks": ("lock",),
        "reasons": ("reason",),
        "explored": True,
    }
    return Choice(**{**said, **more})


def test_every_value_of_an_arm_has_its_place(deployment) -> None:
    is_told(
        *arm_records([judged(deployment)], choice(excluded={"gpt-5.4": "tool_loop"})),
        candidate="gpt-5.4",
        deployment="openai/gpt-5.4/openai_responses",
        eligible=False,
        excluded_by="tool_loop",
        p_success=0.61,
        p_success_low=0.52,
        p_success_high=0.73,
        output_tokens=640.5,
        input_tokens_est=3360.0,
        cached_tokens_est=3001.0,
        cache_write_tokens_est=305.0,
        cache_write_1h_tokens_est=103.0,
        cache_hit=0.91,
        cache_sure=0.82,
        cache_why="expired",
        cache_age_ms=81.5,
        reasoning_tokens=650.5,
        turns_left=6.5,
        cost_usd=MONEY[0],
        cost_fresh_usd=MONEY[1],
        cost_cached_usd=MONEY[2],
        cost_write_usd=MONEY[3],
        cost_output_usd=MONEY[4],
        cost_later_usd=MONEY[5],
        cost_extra_usd=MONEY[6],
        cost_return_usd=MONEY[7],
        return_p=0.39,
        return_ms=91.5,
        cost_redo_usd=MONEY[8],
        cost_retry_usd=MONEY[9],
        retry_rate=0.083,
        broken_calls=0.084,
        propensity=0.375,
    )
    assert arm_records([judged(deployment)], choice())[0].eligible


def test_every_value_of_a_receipt_has_its_place(deployment) -> None:
    policy, catalog = parse_policy("learned:max_loss=0.02"), Catalog.load()
    bundle = Bundle.load(PRIOR)
    there = replace(deployment, region="eu", checkpoint="2026-03-05")
    arm = judged(there)
    facts, offset = Facts(turn=17.0), OffsetRecord(log_odds=-0.5, outcomes=12.0)
    given = Given(
        request_id="req",
        session_id="ses",
        ts_ms=NOW_MS,
        model="auto",
        dialect="openai_responses",
        dialect_guessed=False,
        reference="claude-opus-5-5",
        pinned=False,
        last_candidate=None,
        last_by_client=False,
        service_tier=None,
        task_type="tagged-type",
        facts=facts,
        embedding=np.array([0.25, 0.75], dtype=np.float32),
        options=[arm.option],
        absent=[absent_record("away", "no_key")],
        offset=offset,
    )
    types = [TypeShare(task_type="inferred", p=0.875)]
    made = choice()
    receipt = Decider(bundle, catalog, policy)._receipt(given, [arm], made, 1234, types)
    is_told(
        receipt,
        request_id="req",
        session_id="ses",
        ts_ms=NOW_MS,
        policy="learned:max_loss=0.02",
        chosen="gpt-5.4",
        schema_version=1,
        deployment="openai/gpt-5.4/openai_responses",
        provider="openai",
        region="eu",
        checkpoint="2026-03-05",
        reference="claude-opus-5-5",
        task_type="tagged-type",
        inferred_types=types,
        offset=offset,
        plan=list(made.plan),
        arms=[*arm_records([arm], made), absent_record("away", "no_key")],
        locks=["lock"],
        constraints=["model=auto", "dialect=openai_responses"],
        reasons=["reason", PRIOR_NOTICE],
        explored=True,
        seed=1234,
        facts=facts,
        embedding=[0.25, 0.75],
        feature_hash=bundle.feature_hash,
        encoder_digest=bundle.encoder.digest,
        policy_digest=policy.digest,
        bundle_digest=bundle.digest,
        bundle_kind="prior",
        price_version=prices.PRICE_VERSION,
        cache_version=rules_digest(),
        catalog_digest=catalog.digest,
        decide_ms=None,
    )
