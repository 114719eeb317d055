"""Hedging: a late call is asked of another deployment, the loser is cancelled, its money is counted."""

import time

import httpx2
import pytest
from router_failing import ask, asked, fail, record, running
from router_servers import start_upstream, wait_for

from router.gateway.hedge import Hedges, HedgeSettings

ON = "[hedge]\nusd_per_hour = 1.0\nmin_s = 0.05\n"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    server = start_upstream({"steps": [{"text": "first " * 40}]}, tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


@pytest.fixture
def hedging(tmp_path, bundle_folder, upstream, monkeypatch):
    """Start a gateway that knows how fast its deployments are."""
    for name in ("EAST", "WEST", "SOUTH"):
        monkeypatch.setenv(f"{name}_KEY", f"key-{name}")
        fail(upstream, name.lower())
    httpx2.delete(f"{upstream.url}/_requests")

    def start(settings=ON):
        context = running(tmp_path, bundle_folder, upstream, settings)
        server = context.__enter__()
        contexts.append(context)
        for _ in range(20):
            server.gateway.hedges.note("east/big/openai_chat", 0.01)
        return server

    contexts = []
    yield start
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.mark.parametrize("stream", [False, True])
def test_who_is_late_is_overtaken_and_cancelled(hedging, upstream, tmp_path, stream) -> None:
    gateway = hedging()
    fail(upstream, "east", {"delay_ms": 20_000})
    began = time.monotonic()
    answer = ask(gateway, "big", stream=stream)
    assert time.monotonic() - began < 10
    assert answer.headers["x-samediff-deployment"].startswith("west/")
    assert answer.text.count("[DONE]") == int(stream)
    found = record(tmp_path, answer)
    assert [(t["deployment"].split("/")[0], t.get("error_kind")) for t in found["tries"]] == [
        ("east", "hedge_lost"),
        ("west", None),
    ]
    assert (found["attempts"], found["status"], found["deployment"][:5]) == (2, "ok", "west/")
    assert set(gateway.gateway.health.in_flight().values()) == {0}
    assert "samediff_hedged_total 1" in httpx2.get(f"{gateway.url}/metrics").text


def test_who_answers_first_answers_though_another_was_asked(hedging, upstream, tmp_path) -> None:
    gateway = hedging()
    fail(upstream, "east", {"delay_ms": 400})
    fail(upstream, "west", {"delay_ms": 20_000})
    answer = ask(gateway, "big", stream=True)
    assert answer.headers["x-samediff-deployment"].startswith("east/")
    assert [t.get("error_kind") for t in record(tmp_path, answer)["tries"]] == [None, "hedge_lost"]


def test_if_both_fail_the_client_is_told_once(hedging, upstream, tmp_path) -> None:
    gateway = hedging("[retry]\nattempts = 1\n" + ON)
    fail(upstream, "east", {"delay_ms": 300, "then": "drop"})
    fail(upstream, "west", {"then": "drop"})
    answer = ask(gateway, "big")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
    assert record(tmp_path, answer)["attempts"] == 2


def test_if_the_late_one_fails_the_other_goes_on(hedging, upstream) -> None:
    gateway = hedging("[retry]\nattempts = 1\n" + ON)
    fail(upstream, "east", {"delay_ms": 300, "then": "drop"})
    fail(upstream, "west", {"delay_ms": 600})
    answer = ask(gateway, "big")
    assert (answer.status_code, answer.headers["x-samediff-deployment"][:5]) == (200, "west/")


LOOP = [
    {"role": "user", "content": "Fix it"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "sh", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "ok"},
]


def test_nothing_is_asked_twice_in_a_tool_loop_without_money_or_unless_told(hedging, upstream) -> None:
    fail(upstream, "east", {"delay_ms": 300})
    ask(hedging(), "big", messages=LOOP)
    ask(hedging(ON.replace("1.0", "0.0000001")), "big")
    ask(hedging(""), "big")
    assert asked(upstream) == ["east"] * 3


def test_a_client_that_leaves_cancels_both(hedging, upstream) -> None:
    gateway = hedging()
    for at in ("east", "west"):
        fail(upstream, at, {"delay_ms": 20_000})
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "big", "messages": [{"role": "user", "content": "Fix it"}]},
            timeout=1.5,
        )
    assert wait_for(lambda: set(gateway.gateway.health.in_flight().values()) == {0})
    assert asked(upstream) == ["east", "west"]


def test_the_budget_is_by_the_hour_and_what_is_late_is_known_by_each_deployments_own_times() -> None:
    hedges = Hedges(HedgeSettings(usd_per_hour=1.0, min_s=0.0))
    assert [hedges.spend(usd, 0.0) for usd in (0.6, 0.6, None, 0.4)] == [True, False, False, True]
    assert hedges.spend(0.6, 3600.0)
    for n in range(1, 20):
        hedges.note("a", n / 10)
    assert hedges.late_s("a") is None
    hedges.note("a", 2.0)
    assert hedges.late_s("a") == 2.0
    assert hedges.late_s("b") is None
    assert not Hedges(HedgeSettings()).on
    for wrong in ({"usd_per_hour": -1.0}, {"quantile": 1.0}, {"min_s": float("inf")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            HedgeSettings(**wrong)
