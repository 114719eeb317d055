"""Cache control through the gateway: who marks nothing reads its cache, who marks is let be."""

import json
import sys

import httpx2
import pytest
from router_servers import Server, journal_of, start_gateway, wait_for

SCRIPT = {"steps": [{"text": f"Step {n} done, going on."} for n in range(4)]}
TOOL = [{"name": "sh", "description": "Runs a command. " * 40, "input_schema": {"type": "object"}}]
SYSTEM = "You fix bugs in a large code base. " * 800
MARK = {"cache_control": {"type": "ephemeral"}}
OFF = {"SAMEDIFF_CACHE_CONTROL": "false"}


@pytest.fixture(scope="module", params=[None, OFF], ids=["on", "off"])
def served(request, tmp_path_factory, bundle_folder):
    place = tmp_path_factory.mktemp("control")
    (place / "script.json").write_text(json.dumps(SCRIPT))
    told = ["--port", "0", "--script", str(place / "script.json"), "--record", str(place / "seen")]
    upstream = Server([sys.executable, "-m", "router.scripted", *told])
    upstream.ready = "/_requests"
    upstream.wait(upstream.process.stdout.readline().strip())
    gateway = start_gateway(place, bundle_folder, upstream.url, environ=request.param)
    yield place, gateway, request.param is None
    code, _, err = gateway.stop()
    upstream.stop()
    assert (code, err) == (0, "")


def seen(place, n):
    """The last bodies that upstream was sent."""
    return [json.loads(file.read_bytes()) for file in sorted((place / "seen").iterdir())[-n:]]


def talk(gateway, turns=4, **more):
    """Hold a conversation as a client without any cache control does; the ids of its calls."""
    messages = [{"role": "user", "content": "Fix it"}]
    ids = []
    for _ in range(turns):
        body = {
            "model": "claude-opus-4-6",
            "max_tokens": 99,
            "system": SYSTEM,
            "tools": TOOL,
            "messages": messages,
        }
        answer = httpx2.post(f"{gateway.url}/v1/messages", json=body | more, timeout=30)
        assert answer.status_code == 200, answer.text
        ids.append(answer.headers["x-samediff-request-id"])
        messages += [
            {"role": "assistant", "content": answer.json()["content"]},
            {"role": "user", "content": "Go on"},
        ]
    return ids


def records(place, ids):
    def find():
        rows = {record["request_id"]: record for kind, record in journal_of(place) if kind == "request"}
        return [rows[i] for i in ids] if rows.keys() >= set(ids) else None

    return wait_for(find)


def test_a_client_that_marks_nothing_reads_what_it_sent_before(served) -> None:
    place, gateway, on = served
    ids = talk(gateway)
    marks = [json.dumps(body).count('"cache_control"') for body in seen(place, 4)]
    rows = records(place, ids)
    if not on:
        assert marks == [0] * 4
        assert [row["cached_tokens"] for row in rows] == [0] * 4
        return
    assert marks == [2, 3, 4, 4]
    kept = [row["cached_tokens"] + row["cache_write_tokens"] for row in rows]
    assert [row["cached_tokens"] for row in rows] == [0, *kept[:-1]]  # each turn reads all that was kept
    assert kept[0] > 7_000
    counted = httpx2.get(f"{gateway.url}/metrics").text
    assert 'samediff_cache_control_total{kind="breakpoints"} 4' in counted


def test_a_client_that_marks_gets_its_body_through_as_it_came(served) -> None:
    place, gateway, _ = served
    talk(gateway, turns=2, system=[{"type": "text", "text": SYSTEM, **MARK}])
    assert [json.dumps(body).count('"cache_control"') for body in seen(place, 2)] == [1, 1]


def test_users_have_buckets_of_their_own(served) -> None:
    place, gateway, on = served
    for user in ("ann", "ann", "bob"):
        body = {"model": "gpt-5.4", "user": user, "messages": [{"role": "user", "content": SYSTEM}]}
        assert httpx2.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=30).status_code == 200
    keys = [body.get("prompt_cache_key") for body in seen(place, 3)]
    if on:
        assert keys[0] == keys[1] != keys[2]
        assert all(key.startswith("samediff-") for key in keys)
    else:
        assert keys == [None] * 3
