"""Paths that are not served: told in the dialect, and never sent on to where the request's Host says."""

import json

import httpx2
import pytest

BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}).encode()


@pytest.mark.parametrize("path", ["/v1/messages/", "/v1/chat/completions/", "/v1/none"])
def test_a_path_that_is_not_served_is_no_unknown_model_and_no_redirect(gateway, path) -> None:
    answer = httpx2.post(f"{gateway.url}{path}", content=BODY, headers={"host": "evil.example"})
    assert (answer.status_code, "location" in answer.headers) == (404, False)
    assert "model_not_found" not in answer.text
    assert "nothing is served" in answer.json()["error"]["message"]
