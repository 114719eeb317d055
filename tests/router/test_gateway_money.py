"""Money under faults: whatever fails, what was paid is what the journal says, once for each request."""

from decimal import Decimal

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from router_failing import asked, fail, record, running
from router_servers import journal_of, start_upstream, wait_for

from features.records import OutcomeRecord
from router.gateway.ratelimits import retry_after_s

SCHEMA = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
TOOL = {"name": "sh", "input_schema": SCHEMA}
FAST = """
[retry]
attempts = 4
backoff_s = 0.005
wait_s = 0.3
[breaker]
failures = 1000
open_s = 0.01
open_max_s = 0.01
rest_max_s = 0.01
[tools]
check = "retry"
hold = "all"
"""
PLACES = ("east", "west", "south")
FAULTS = (
    {},
    {"status": 429, "retry_after_s": 0.01},
    {"status": 429, "headers": {"retry-after": "99999999"}},
    {"status": 429, "headers": {"retry-after": "-5"}},
    {"status": 503, "headers": {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}},
    {"status": 500},
    {"status": 402},
    {"status": 404},
    {"then": "drop"},
    {"then": "drop", "after_events": 3, "event_delay_ms": 5},
    {"then": "end", "after_events": 3, "event_delay_ms": 5},
    {"then": "error", "after_events": 3, "event_delay_ms": 5},
)


def calling(arguments):
    return [{"text": "Look.", "calls": [{"name": "sh", "arguments": arguments}]}]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    script = {"models": {"gpt-5.4-mini": calling({"cmd": "ls"})}, "steps": calling({"cmd": 5})}
    server = start_upstream(script, tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("money")


@pytest.fixture(scope="module")
def gateway(place, bundle_folder, upstream):
    with pytest.MonkeyPatch.context() as patch:
        for name in PLACES:
            patch.setenv(f"{name.upper()}_KEY", f"key-{name}")
        with running(place, bundle_folder, upstream, FAST) as server:
            yield server


def ask(gateway, model="auto", stream=False, key=None, content="Fix it"):
    body = {"model": model, "max_tokens": 500, "stream": stream, "tools": [TOOL]}
    body["messages"] = [{"role": "user", "content": content}]
    headers = {"idempotency-key": key} if key else {}
    return httpx2.post(f"{gateway.url}/v1/messages", json=body, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def prices(gateway, place, upstream):
    """What one whole answer costs, by candidate."""
    for at in PLACES:
        fail(upstream, at)
    found = {}
    for model in ("big", "small"):
        rows = record(place, ask(gateway, model))
        made = 1 + sum(t.get("error_kind") == "broken_tool_call" for t in rows.get("tries", ())[:-1])
        found[model] = Decimal(rows["cost_usd"]) / made
    return found


faults = st.lists(st.sampled_from(FAULTS), max_size=3)


@settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # shrinking would ask hundreds of times
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(wrong=st.tuples(faults, faults, faults), stream=st.booleans(), keyed=st.booleans(), n=st.integers(0))
def test_what_was_paid_is_what_the_journal_says(
    gateway, upstream, place, prices, wrong, stream, keyed, n
) -> None:
    for at, listed in zip(PLACES, wrong, strict=True):
        fail(upstream, at, *({"times": 1, **fault} for fault in listed))
    key = f"k{n}-{len(journal_of(place))}" if keyed else None
    httpx2.delete(f"{upstream.url}/_requests")
    answer = ask(gateway, stream=stream, key=key)
    calls = len(asked(upstream))
    found = record(place, answer)
    tries = found.get("tries") or [found]
    assert len(tries) == found["attempts"] == calls <= 4
    whole = (None, "broken_tool_call")
    paid = [
        prices["small" if t["deployment"].startswith("south") else "big"]
        for t in tries
        if t.get("http_status") == 200 and t.get("error_kind") in whole
    ]
    cut = [t for t in tries if t.get("http_status") == 200 and t.get("error_kind") not in whole]
    cost = None if found.get("cost_usd") is None else Decimal(found["cost_usd"])
    if not cut and paid:
        assert cost == sum(paid)
    elif cost is not None:  # of what broke off as much as came is paid, as far as it is known
        assert sum(paid) <= cost <= sum(paid) + len(cut) * prices["big"]
    told = answer.status_code == 200 and "error" not in answer.text
    assert told == (found["status"] == "ok")
    if not told:
        assert "error" in answer.text
    if key and told:
        again = ask(gateway, stream=stream, key=key)
        assert (again.content, again.headers["x-samediff-replayed"]) == (answer.content, "1")
        assert len(asked(upstream)) == calls
    assert set(gateway.gateway.health.in_flight().values()) <= {0}


def test_the_sum_of_charges_is_the_sum_of_the_journal(gateway, place) -> None:
    def sums():
        rows = [r for k, r in journal_of(place) if k == "request"]
        priced = [Decimal(r["cost_usd"]) for r in rows if r.get("cost_usd") is not None]
        text = httpx2.get(f"{gateway.url}/metrics").text
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("samediff_cost_")]
        total = sum(float(v) for name, v in lines if name.startswith("samediff_cost_usd_total"))
        unknown = sum(float(v) for name, v in lines if name.startswith("samediff_cost_unknown_total"))
        return float(sum(priced)) == pytest.approx(total, rel=1e-9) and unknown == len(rows) - len(priced)

    assert wait_for(sums)
    kept = journal_of(place)
    decided = [r["request_id"] for k, r in kept if k == "decision"]
    ended = [r["request_id"] for k, r in kept if k == "request"]
    assert sorted(decided) == sorted(ended)
    assert len(set(ended)) == len(ended)


def test_an_outcome_is_of_whoever_answered(gateway, place, upstream) -> None:
    for at in ("east", "west"):
        fail(upstream, at, {"status": 500})
    fail(upstream, "south")
    headers = {"x-samediff-repo": "acme/app"}
    body = {"model": "auto", "max_tokens": 500, "messages": [{"role": "user", "content": "Fix it"}]}
    answer = httpx2.post(f"{gateway.url}/v1/messages", json=body, headers=headers, timeout=30)
    assert answer.headers["x-samediff-candidate"] == "small"
    assert record(place, answer)["flags"] == ["another_candidate_answered"]
    name = answer.headers["x-samediff-request-id"]
    live = gateway.gateway.offsets
    known = live._decisions.get(f"request {name}")
    assert known is None or known.candidate == "small"  # never the one decided on, which answered nothing
    told = OutcomeRecord(outcome_id="o", ts_ms=0, source="api", request_id=name, candidate="big", value=1.0)
    assert live.learn([told]) == 0


@pytest.mark.parametrize("said", ["9" * 400, "1e999", "inf", "nan", "-1", "", "Sat, 99 Nov 2026", "5m" * 9])
def test_a_wish_to_be_left_alone_that_is_none_is_no_number_without_end(said) -> None:
    found = retry_after_s({"retry-after": said}, 0.0)
    assert found is None or 0 <= found < float("inf")
