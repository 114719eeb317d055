"""GET /v1/models/{name}, as the official SDKs ask for it."""

import anthropic
import httpx2
import openai
import pytest
from router_failing import rows, running


@pytest.fixture(scope="module")
def url(tmp_path_factory, bundle_folder):
    place = tmp_path_factory.mktemp("models")
    named = rows("http://127.0.0.1:9")
    with running(place, bundle_folder, None, "", named) as gateway:
        yield gateway.url


def test_both_sdks_find_a_model_and_are_told_of_an_unknown_one(url) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        assert client.models.retrieve("auto").id == "auto"
        with pytest.raises(openai.NotFoundError) as refused:
            client.models.retrieve("no/such")
        assert refused.value.code == "model_not_found"
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as messages:
        assert (messages.models.retrieve("auto").id, messages.models.retrieve("auto").type) == (
            "auto",
            "model",
        )
        with pytest.raises(anthropic.NotFoundError) as missing:
            messages.models.retrieve("no-such")
        assert missing.value.body["error"]["type"] == "not_found_error"


def test_an_unserved_path_is_told_in_the_callers_dialect(url) -> None:
    answer = httpx2.get(f"{url}/v1/files", headers={"anthropic-version": "2023-06-01"})
    assert (answer.status_code, answer.json()["type"]) == (404, "error")
    assert httpx2.get(f"{url}/v1/files").json()["error"]["code"] is None
