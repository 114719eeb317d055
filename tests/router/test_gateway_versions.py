"""What a provider says it served, held against what was to be served, through a running gateway."""

import httpx2
import pytest
from router_failing import ask, record, rows, running
from router_servers import start_upstream

VERSIONS = """
[candidates.big.versions]
from = 2026-03-01
until = 2026-06-01
mismatch = "leave"
[candidates.small.versions]
until = 2026-06-01
train = true
"""
SERVES = {"gpt-5.4": "gpt-5.4-2026-07-01", "gpt-5.4-mini": "gpt-5.4-mini-2026-07-01"}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    server = start_upstream({"steps": [{"text": "Done."}], "serves": SERVES}, tmp_path_factory.mktemp("up"))
    yield server
    server.stop()


def test_another_version_is_an_event_and_its_deployment_is_left(
    tmp_path, bundle_folder, upstream, monkeypatch, caplog
) -> None:
    for name in ("EAST", "WEST", "SOUTH"):
        monkeypatch.setenv(f"{name}_KEY", "k")
    with running(tmp_path, bundle_folder, upstream, "", catalog=rows(upstream.url) + VERSIONS) as server:
        where = []
        for _ in range(3):
            answer = ask(server, "big")
            where.append(answer.headers["x-samediff-deployment"].split("/")[0])
            assert "served_another_model" in record(tmp_path, answer)["flags"]
        assert where == ["east", "west", "east"]  # neither serves what it should, and there is no third
        assert record(tmp_path, ask(server, "small"))["flags"] == ["served_another_model_allowed"]
        text = httpx2.get(f"{server.url}/metrics").text
    assert 'samediff_drift_total{candidate="big",kind="checkpoint"} 3' in text
    assert caplog.text.count("east/big/openai_chat serves gpt-5.4-2026-07-01 instead of from 2026-03-01") == 1
