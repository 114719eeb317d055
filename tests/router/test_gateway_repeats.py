"""Requests that are sent twice: by key or by an SDK's count, one upstream call and one charge."""

import json
import socket
import threading
import time

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_failing import asked, fail, running
from router_servers import journal_of, start_upstream, wait_for

from features.errors import BadInput
from router.gateway.idempotency import IdempotencySettings
from router.gateway.sealed import SealedAnswers, seal, unseal

ONCE = "[retry]\nattempts = 1\n"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    server = start_upstream({"steps": [{"text": "secret words " * 50}]}, tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def keys(monkeypatch, upstream):
    for name in ("EAST", "WEST", "SOUTH"):
        monkeypatch.setenv(f"{name}_KEY", f"key-{name}")
    fail(upstream, "south")
    httpx2.delete(f"{upstream.url}/_requests")


@pytest.fixture
def gateway(tmp_path, bundle_folder, upstream):
    with running(tmp_path, bundle_folder, upstream, ONCE) as server:
        yield server


def ask(gateway, content="Fix it", stream=False, **headers):
    body = {"model": "small", "messages": [{"role": "user", "content": content}], "stream": stream}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.post(f"{gateway.url}/v1/chat/completions", json=body, headers=named, timeout=30)


def said(answer):
    return answer.status_code, answer.content, answer.headers["x-samediff-request-id"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_comes_again_gets_the_same_answer_and_is_charged_once(
    gateway, upstream, tmp_path, stream
) -> None:
    first, second = (ask(gateway, stream=stream, idempotency_key="k") for _ in range(2))
    assert first.status_code == 200
    assert said(second) == said(first)
    assert (first.headers.get("x-samediff-replayed"), second.headers["x-samediff-replayed"]) == (None, "1")
    assert len(asked(upstream)) == 1
    other = ask(gateway, stream=stream, idempotency_key="l")
    assert said(other)[2] != said(first)[2]
    wait_for(lambda: [k for k, _ in journal_of(tmp_path)].count("request") == 2)
    assert [k for k, _ in journal_of(tmp_path)].count("request") == 2
    assert 'samediff_repeated_total{how="over"} 1' in httpx2.get(f"{gateway.url}/metrics").text


def test_whoever_asks_while_it_is_answered_joins(gateway, upstream) -> None:
    fail(upstream, "south", {"delay_ms": 200, "event_delay_ms": 5})
    answers = []
    asking = [
        threading.Thread(target=lambda: answers.append(ask(gateway, stream=True, idempotency_key="k")))
        for _ in range(4)
    ]
    for thread in asking:
        thread.start()
        time.sleep(0.06)
    for thread in asking:
        thread.join()
    assert len({said(answer) for answer in answers}) == 1
    assert "[DONE]" in answers[0].text
    assert asked(upstream) == ["south"]


def test_one_who_joined_gets_it_all_though_the_first_leaves(gateway, upstream, tmp_path) -> None:
    fail(upstream, "south", {"event_delay_ms": 20})
    body = {"model": "small", "messages": [{"role": "user", "content": "Fix it"}], "stream": True}
    raw = json.dumps(body, separators=(",", ":")).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\ncontent-length: %d\r\n\r\n"
    )
    answers = []
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.sendall(head % len(raw) + raw)
        client.recv(2000)
        url = f"{gateway.url}/v1/chat/completions"
        second = threading.Thread(
            target=lambda: answers.append(
                httpx2.post(url, content=raw, headers={"idempotency-key": "k"}, timeout=30)
            )
        )
        second.start()
        wait_for(lambda: 'how="joined"' in httpx2.get(f"{gateway.url}/metrics").text)
    second.join()
    assert "[DONE]" in answers[0].text
    assert asked(upstream) == ["south"]
    records = wait_for(lambda: [r for k, r in journal_of(tmp_path) if k == "request"])
    assert [r["status"] for r in records] == ["ok"]


def test_an_answer_outlives_the_process_and_cannot_be_read_without_its_request(
    tmp_path, bundle_folder, upstream
) -> None:
    with running(tmp_path, bundle_folder, upstream, ONCE) as server:
        first = ask(server, idempotency_key="k")
    with running(tmp_path, bundle_folder, upstream, ONCE) as server:
        again = ask(server, idempotency_key="k")
        assert ask(server, "Another", idempotency_key="k").status_code == 422
        assert said(ask(server, idempotency_key="k")) == said(again) == said(first)
    assert asked(upstream) == ["south"]
    kept = [file.read_bytes() for file in tmp_path.glob("journal.answers*")]
    assert kept
    assert not any(b"secret" in data or b"Fix it" in data for data in kept)


def test_nothing_is_kept_where_no_word_may_be(tmp_path, bundle_folder, upstream) -> None:
    for text in ("[idempotency]\ndisk = false", "[idempotency]\nenabled = false"):
        with running(tmp_path, bundle_folder, upstream, text) as server:
            for _ in range(2):
                ask(server, idempotency_key=text[-5:])
    assert len(asked(upstream)) == 3
    assert not list(tmp_path.glob("*answers*"))


def test_a_failure_is_asked_anew(gateway, upstream) -> None:
    fail(upstream, "south", {"status": 500, "times": 1}, {"then": "drop", "after_events": 3, "times": 1})
    answers = [ask(gateway, stream=True, idempotency_key="k") for _ in range(4)]
    assert [a.status_code for a in answers] == [500, 200, 200, 200]
    assert "broke off" in answers[1].text
    assert "[DONE]" in answers[2].text
    assert said(answers[3]) == said(answers[2])
    assert len(asked(upstream)) == 3


def test_a_key_belongs_to_one_request_and_one_client(gateway, upstream) -> None:
    assert ask(gateway, idempotency_key="k", authorization="Bearer a").status_code == 200
    other = ask(gateway, "Another", idempotency_key="k", authorization="Bearer a")
    assert (other.status_code, "another request" in other.json()["error"]["message"]) == (422, True)
    assert ask(gateway, "Another", idempotency_key="k", authorization="Bearer b").status_code == 200
    assert ask(gateway, idempotency_key="k" * 300).status_code == 400
    assert len(asked(upstream)) == 2


def test_an_sdks_second_try_of_what_came_through_is_given_it_again(gateway, upstream) -> None:
    tries = [ask(gateway, x_stainless_retry_count=str(n)) for n in (0, 1, 1)]
    assert said(tries[1]) == said(tries[0])
    assert said(tries[2]) != said(tries[0])  # the first try was repeated already: this is somebody else's
    assert len(asked(upstream)) == 2


def test_an_sdks_second_try_of_what_failed_is_a_call_of_its_own(gateway, upstream) -> None:
    ask(gateway, x_stainless_retry_count="0")  # another one with the same words, which came through
    fail(upstream, "south", {"status": 500, "times": 1})
    assert ask(gateway, x_stainless_retry_count="0").status_code == 500
    again = ask(gateway, x_stainless_retry_count="1")
    assert "x-samediff-replayed" not in again.headers
    assert len(asked(upstream)) == 3


def test_where_it_cannot_be_told_what_a_second_try_repeats_it_is_a_call_of_its_own(gateway, upstream) -> None:
    for _ in range(2):
        ask(gateway, x_stainless_retry_count="0")
    assert "x-samediff-replayed" not in ask(gateway, x_stainless_retry_count="1").headers
    for _ in range(2):
        ask(gateway)
    assert len(asked(upstream)) == 5


def test_what_is_too_long_to_be_kept_is_not_paid_for_twice(tmp_path, bundle_folder, upstream) -> None:
    with running(tmp_path, bundle_folder, upstream, "[idempotency]\nmax_mib = 0.001") as server:
        assert ask(server, idempotency_key="k").status_code == 200
        again = ask(server, idempotency_key="k")
    assert (again.status_code, "too great a length" in again.text) == (409, True)


@given(st.binary(max_size=300), st.binary(max_size=40), st.binary(max_size=40))
def test_what_is_sealed_opens_for_its_own_secret_only(plain, secret, other) -> None:
    sealed = seal(secret, plain)
    assert unseal(secret, sealed) == plain
    assert (unseal(other, sealed) is None) == (other != secret)
    assert unseal(secret, sealed[:-1] + bytes([sealed[-1] ^ 1])) is None
    assert seal(secret, plain) != sealed


def test_kept_answers_have_an_end_and_a_file_that_is_none_is_refused(tmp_path) -> None:
    answers = SealedAnswers(tmp_path / "a.sqlite", 10.0)
    answers.put(b"n", b"asked", b"sealed", 100.0)
    assert answers.get(b"n", 110.0) == (b"asked", b"sealed")
    assert answers.get(b"n", 111.0) is None
    answers.close()
    (tmp_path / "b.sqlite").write_text("no database at all, " * 20)
    with pytest.raises(BadInput, match=r"b.sqlite: .*disk = false"):
        SealedAnswers(tmp_path / "b.sqlite", 1.0)
    with pytest.raises(ValueError, match="keep_s: 0 must be a finite number over 0"):
        IdempotencySettings(keep_s=0.0)
