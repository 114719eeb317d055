"""Paths that are not served: told in the dialect, and never sent on to where the request's Host says."""

import json

import httpx2
import pytest
from router_servers import start_gateway, start_upstream

BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}).encode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, bundle_folder):
    place = tmp_path_factory.mktemp("connections")
    upstream = start_upstream({"steps": [{"text": "Done."}]}, place)
    server = start_gateway(place, bundle_folder, upstream.url)
    yield server
    code, _, err = server.stop()
    upstream.stop()
    assert (code, err) == (0, "")


@pytest.mark.parametrize("path", ["/v1/messages/", "/v1/chat/completions/", "/v1/none"])
def test_a_path_that_is_not_served_is_no_unknown_model_and_no_redirect(gateway, path) -> None:
    answer = httpx2.post(f"{gateway.url}{path}", content=BODY, headers={"host": "evil.example"})
    assert (answer.status_code, "location" in answer.headers) == (404, False)
    assert "model_not_found" not in answer.text
    assert "nothing is served" in answer.json()["error"]["message"]
