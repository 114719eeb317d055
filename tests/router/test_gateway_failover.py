"""Failover for real: one scripted upstream plays three deployments, each failing in its own way."""

import json
import socket
import threading
import time
from contextlib import ExitStack

import httpx2
import pytest
from router_failing import LONG, ask, asked, fail, record, running
from router_servers import journal_of, start_upstream, wait_for

from features.errors import BadInput
from router.catalog import Catalog
from router.gateway.settings import Settings

SETTINGS = """
[retry]
backoff_s = 0.05
wait_s = 1.0
stay_s = 0.0
first_byte_s = 0.4
[breaker]
failures = 2
open_s = 0.8
"""


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    script = {"steps": [{"text": "first " * 100}, {"text": "second"}]}
    server = start_upstream(script, tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


@pytest.fixture
def place(tmp_path):
    return tmp_path


@pytest.fixture
def start(place, bundle_folder, upstream, monkeypatch):
    """Start a gateway in this process: a new one each time, as deployments' health outlives a request."""
    for name in ("EAST", "WEST", "SOUTH"):
        monkeypatch.setenv(f"{name}_KEY", f"key-{name}")
    for name in ("east", "west", "south", "theirs"):
        fail(upstream, name)
    httpx2.delete(f"{upstream.url}/_requests")
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(running(place, bundle_folder, upstream, settings))


@pytest.fixture
def gateway(start):
    return start(SETTINGS)


FAILS = {
    "429": {"status": 429, "retry_after_s": 30},
    "500": {"status": 500},
    "529": {"status": 529},
    "402": {"status": 402},
    "404": {"status": 404},
    "401": {"status": 401},
    "reset": {"then": "drop"},
    "half a body": {"then": "drop", "after_events": 0},
    "nothing": {"then": "end", "after_events": 0},
    "an error at once": {"then": "error", "after_events": 0, "error_type": "overloaded_error"},
    "silence": {"delay_ms": 30_000},
}


STREAMS = ("silence", "an error at once", "nothing")  # which only streams have
NO_MEMORY = """
[retry]
backoff_s = 0.01
first_byte_s = 0.3
[breaker]
failures = 1000
open_s = 0.001
open_max_s = 0.001
rest_max_s = 0.001
"""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_another_deployment_answers_what_one_fails(start, upstream, path) -> None:
    gateway = start(NO_MEMORY)
    for name, fault in FAILS.items():
        fail(upstream, "east", fault)
        for stream in (True,) if name in STREAMS else (True, False):
            httpx2.delete(f"{upstream.url}/_requests")
            answer = ask(gateway, path=path, stream=stream)
            assert (answer.status_code, asked(upstream)) == (200, ["east", "west"]), name
            assert answer.headers["x-samediff-deployment"].startswith("west/big/")
            assert "first" in answer.text
            assert "scripted failure" not in answer.text
        time.sleep(0.01)


def test_every_attempt_is_written_down(gateway, upstream, place) -> None:
    fail(upstream, "east", {"status": 503, "times": 1})
    answer = ask(gateway)
    assert answer.headers["x-samediff-attempts"] == "2"
    found = record(place, answer)
    assert (found["deployment"], found["attempts"], found["status"]) == ("west/big/openai_chat", 2, "ok")
    assert [(t["deployment"].split("/")[0], t["http_status"]) for t in found["tries"]] == [
        ("east", 503),
        ("west", 200),
    ]
    assert found["cost_usd"] is not None
    text = httpx2.get(f"{gateway.url}/metrics").text
    assert 'samediff_attempts_total{deployment="east/big/openai_chat",result="http_503"} 1' in text
    assert 'samediff_failovers_total{to="deployment"} 1' in text
    once = ask(gateway)
    assert "x-samediff-attempts" not in once.headers
    assert "tries" not in record(place, once)


def test_nothing_switches_after_the_first_byte(gateway, upstream, place) -> None:
    fail(upstream, "east", {"then": "drop", "after_events": 3})
    answer = ask(gateway, stream=True)
    assert "broke off" in answer.text
    assert asked(upstream) == ["east"]
    assert record(place, answer)["status"] == "truncated"


def test_where_there_is_only_one_it_is_asked_again_and_its_last_word_is_passed_on(
    gateway, upstream, place
) -> None:
    fail(upstream, "south", {"status": 500, "times": 1}, {"then": "drop", "times": 1})
    answer = ask(gateway, "small")
    assert (answer.status_code, answer.headers["x-samediff-attempts"]) == (200, "3")
    fail(upstream, "south", {"status": 500, "times": 2}, {"status": 503, "message": "the last word"})
    answer = ask(gateway, "small")
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the last word")
    assert record(place, answer)["attempts"] == 3


def test_a_wish_to_be_left_alone_is_kept_and_passed_on(gateway, upstream, place) -> None:
    fail(upstream, "south", {"status": 429, "retry_after_s": 20})
    first, second = ask(gateway, "small"), ask(gateway, "small")
    assert (first.status_code, first.headers["retry-after"]) == (429, "20")
    assert second.status_code == 429
    assert 15 <= int(second.headers["retry-after"]) <= 20
    assert "at its limit" in second.json()["error"]["message"]
    assert asked(upstream) == ["south"]
    kept = record(place, second)
    assert (kept["status"], kept["attempts"], kept["error_kind"]) == ("error", 0, "at_limit")


def test_a_short_wait_is_waited(gateway, upstream) -> None:
    fail(upstream, "south", {"status": 429, "retry_after_s": 0.3, "times": 1})
    began = time.monotonic()
    assert ask(gateway, "small").status_code == 200
    assert time.monotonic() - began >= 0.3
    assert asked(upstream) == ["south", "south"]


def test_what_a_clients_own_account_is_told_holds_for_nobody_else(gateway, upstream) -> None:
    fail(upstream, "theirs", {"status": 429, "retry_after_s": 20, "times": 1})
    assert ask(gateway, "own").status_code == 429
    assert ask(gateway, "own").status_code == 200


def test_a_failing_deployment_is_left_alone_then_tried_and_used_again(start, upstream) -> None:
    gateway = start("[breaker]\nfailures = 2\nopen_s = 60.0\n")
    fail(upstream, "east", {"status": 500})
    for _ in range(6):
        assert ask(gateway).status_code == 200
    assert asked(upstream).count("east") == 2  # and no more
    assert 'samediff_deployments_out{state="open"} 1' in httpx2.get(f"{gateway.url}/metrics").text
    fail(upstream, "east")
    assert ask(gateway).headers["x-samediff-deployment"].startswith("west/")
    gateway.gateway.health._lines["east/big/openai_chat"].open_until = 0.0  # a minute later
    assert ask(gateway).headers["x-samediff-deployment"].startswith("east/")
    assert 'samediff_deployments_out{state="open"} 0' in httpx2.get(f"{gateway.url}/metrics").text


def test_with_nowhere_else_to_go_an_open_breaker_is_passed_once(gateway, upstream) -> None:
    fail(upstream, "south", {"status": 500})
    for _ in range(2):
        ask(gateway, "small")
    httpx2.delete(f"{upstream.url}/_requests")
    assert ask(gateway, "small").status_code == 500
    assert asked(upstream) == ["south"]
    fail(upstream, "south")
    assert ask(gateway, "small").status_code == 200


def test_a_conversation_stays_where_its_prefix_is_warm(gateway, upstream) -> None:
    fail(upstream, "east", {"status": 500, "times": 1})
    first = [{"role": "user", "content": LONG}]
    answer = ask(gateway, messages=first)
    assert answer.headers["x-samediff-deployment"].startswith("west/")
    more = [*first, answer.json()["choices"][0]["message"], {"role": "user", "content": "go on"}]
    again = ask(gateway, messages=more)
    assert again.headers["x-samediff-deployment"].startswith("west/")
    assert again.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 1000
    assert ask(gateway).headers["x-samediff-deployment"].startswith("east/")


def test_a_fallback_answers_where_the_catalogue_names_it_and_no_client_pinned(
    gateway, upstream, place
) -> None:
    for at in ("east", "west"):
        fail(upstream, at, {"status": 500})
    answer = ask(gateway)
    assert (answer.status_code, answer.headers["x-samediff-candidate"]) == (200, "small")
    assert answer.json()["model"] == "gpt-5.4-mini"
    found = record(place, answer)
    assert (found["candidate"], found["model_served"]) == ("small", "gpt-5.4-mini")
    assert "another_candidate_answered" in found["flags"]
    assert ask(gateway, "big").status_code == 500
    assert 'samediff_failovers_total{to="candidate"} 1' in httpx2.get(f"{gateway.url}/metrics").text


def test_state_bound_to_a_provider_goes_to_nobody_else(gateway, upstream) -> None:
    fail(upstream, "east", {"status": 500})
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}
    messages = [
        {"role": "user", "content": "Fix it"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Look."}]},
        {"role": "user", "content": "go on"},
    ]
    answer = ask(gateway, path="/v1/messages", messages=messages)
    assert answer.status_code == 500
    assert set(asked(upstream)) == {"east"}


def test_what_has_room_answers_while_another_is_full(gateway, upstream) -> None:
    fail(upstream, "east", {"status": 503, "retry_after_s": 20})
    fail(upstream, "west", {"delay_ms": 500})
    answers = []
    asking = [threading.Thread(target=lambda: answers.append(ask(gateway, "big"))) for _ in range(2)]
    began = time.monotonic()
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert {answer.status_code for answer in answers} == {200}
    assert time.monotonic() - began >= 1.0  # west takes one at a time
    assert asked(upstream).count("west") == 2


def test_a_client_that_leaves_between_two_attempts_ends_them(gateway, upstream, place) -> None:
    fail(upstream, "south", {"status": 429, "retry_after_s": 0.9})
    raw = json.dumps({"model": "small", "messages": [{"role": "user", "content": "Fix it"}]}).encode()
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw
        )
        assert wait_for(lambda: asked(upstream) == ["south"])
        time.sleep(0.1)
    found = wait_for(lambda: [r for k, r in journal_of(place) if k == "request"])
    assert (found[0]["status"], found[0]["attempts"]) == ("cancelled", 1)
    assert asked(upstream) == ["south"]
    assert 'samediff_in_flight{endpoint="south"} 0' in httpx2.get(f"{gateway.url}/metrics").text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[retry]\nattempts = 0", "attempts: 0 must be 1 or more"),
        ("[retry]\nwait_s = -1.0", "wait_s: -1 must be a finite number, 0 or more"),
        ("[breaker]\nopen_s = 0.0", "open_s: 0 must be a finite number over 0"),
        ("[breaker]\nopens = 1", "unknown field `opens`"),
    ],
)
def test_settings_that_cannot_be_are_one_line(tmp_path, text, said) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(BadInput, match=said):
        Settings.load(tmp_path / "s.toml", {})


def test_a_fallback_that_is_none_is_refused(tmp_path) -> None:
    for name, said in (("nowhere", "has no"), ("glm-5", "is the candidate itself")):
        (tmp_path / "c.toml").write_text(f'[candidates.glm-5]\nfallbacks = ["{name}"]')
        with pytest.raises(BadInput, match=f"candidates.glm-5.fallbacks: '{name}' {said}"):
            Catalog.load(tmp_path / "c.toml")


def test_who_cannot_count_tokens_can_answer_all_the_same(gateway, upstream) -> None:
    body = {"model": "big", "messages": [{"role": "user", "content": "Fix it"}]}
    for _ in range(4):  # no place of the upstream counts: its paths are without a route
        assert httpx2.post(f"{gateway.url}/v1/messages/count_tokens", json=body).status_code == 404
    assert gateway.gateway.health.down(0.0) == frozenset()
    assert ask(gateway, path="/v1/messages").headers["x-samediff-deployment"].startswith("east/")


def test_a_state_that_is_gone_is_no_fault_of_its_deployment(gateway, upstream) -> None:
    fail(upstream, "east", {"status": 404})
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}
    for _ in range(3):
        messages = [
            {"role": "user", "content": "Fix it"},
            {"role": "assistant", "content": [thought, {"type": "text", "text": "Look."}]},
            {"role": "user", "content": "go on"},
        ]
        assert ask(gateway, "big", path="/v1/messages", messages=messages).status_code == 404
    assert gateway.gateway.health.down(0.0) == frozenset()
