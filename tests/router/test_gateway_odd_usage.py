"""Answers whose figures can't be true: passed on, kept, flagged, counted; nothing is billed below nothing."""

import httpx2
import pytest
from router_servers import journal_of, start_gateway, start_upstream, wait_for

CONTRADICTIONS = {
    "cache_over_prompt": {"uncached": -5_000, "cached": 9_000, "cache_write": 0},
    "reasoning_over_output": {"output": 3, "reasoning": 900},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def gateway(place, bundle_folder):
    steps = [{"text": "Done.", "usage": usage} for usage in CONTRADICTIONS.values()]
    upstream = start_upstream({"steps": steps}, place)
    server = start_gateway(place, bundle_folder, upstream.url)
    yield server
    code, _, err = server.stop()
    upstream.stop()
    assert (code, err) == (0, "")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_contradicting_counts_are_kept_flagged_and_counted(gateway, place, path) -> None:
    talk = [{"role": "user", "content": f"Fix it at {path}"}]
    for flag in CONTRADICTIONS:
        said = {"input": talk} if path.endswith("responses") else {"messages": talk}
        answer = httpx2.post(f"{gateway.url}{path}", json={"model": "gpt-5.4", **said}, timeout=30)
        assert answer.status_code == 200, answer.text
        request_id = answer.headers["x-samediff-request-id"]
        record = wait_for(lambda wanted=request_id: recorded(place, wanted))
        assert flag in record["flags"]
        assert float(record["cost_usd"]) > 0
        assert record["input_tokens_uncached"] >= 0
        talk += [{"role": "assistant", "content": "Done."}, {"role": "user", "content": "And now?"}]
    metrics = httpx2.get(f"{gateway.url}/metrics").text
    for flag in CONTRADICTIONS:
        assert f'samediff_usage_contradictions_total{{candidate="gpt-5.4",kind="{flag}"}}' in metrics


def recorded(place, request_id):
    found = (r for kind, r in journal_of(place) if kind == "request" and r["request_id"] == request_id)
    return next(found, None)
