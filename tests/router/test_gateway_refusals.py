"""Errors of providers: of the client's own account as they came, of ours nothing that tells whose it is."""

import http.server
import json
import threading

import anthropic
import httpx2
import openai
import pytest
from router_failing import record, rows, running

KEY = "sk-proj-ours-0123456789abcdef"
SURFACES = ("/v1/chat/completions", "/v1/messages", "/v1/responses")  # the last one is translated
SAID = {  # what the prompt asks for -> status, type, body
    "401": (
        401,
        "application/json",
        f"Incorrect API key provided: sk-proj-****cdef. {KEY} key ending in 9X7q",
    ),
    "402": (402, "application/json", "Acme Inc. has no credits left (key ending in 9X7q)"),
    "403": (403, "application/json", f"org-9X7q123 of ann@acme.example may not use this ({KEY}, ******9X7q)"),
    "400": (400, "application/json", "messages.0.content: must not be empty"),
    "page": (403, "text/html; charset=utf-8", "<html>Acme 9X7q firewall</html>"),
    "html": (200, "text/html", "<html>Sign in, Acme 9X7q</html>"),
    "text": (200, "text/plain", "busy"),
}
ID = ("x-request-id", "request-id")  # where OpenAI's clients look, and Anthropic's
OF_OURS = (KEY, "9X7q", "Acme", "acme", "cdef")


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        status, kind, said = next(value for name, value in SAID.items() if f"SAY-{name}" in asked)
        error = {"type": "error", "error": {"type": "made_up_error", "message": said}}
        body = json.dumps(error).encode() if "json" in kind else said.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if "SAY-400 THEIRS" in asked:
            self.send_header(ID[self.path.rsplit("/", 1)[1] == "messages"], "req_theirs")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("refusals")


@pytest.fixture(scope="module")
def gateway(place, bundle_folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("EAST_KEY", "WEST_KEY", "SOUTH_KEY"):
            patch.setenv(name, KEY)
        catalog = rows(f"http://127.0.0.1:{server.server_port}")
        with running(place, bundle_folder, None, "[retry]\nattempts = 1\n", catalog) as started:
            yield started
    server.shutdown()
    server.server_close()


def ask(gateway, path, what, model, **more):
    said = [{"role": "user", "content": f"SAY-{what}"}]
    body = {"model": model, "input": said} if "resp" in path else {"model": model, "messages": said}
    body |= {"max_tokens": 9, **more}
    headers = {"authorization": "Bearer the clients own", "x-api-key": "the clients own"}
    return httpx2.post(f"{gateway.url}{path}", json=body, headers=headers, timeout=30)


def message(answer, path):
    told = answer.json()
    assert (told.get("type") == "error") == (path == "/v1/messages")
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    return told["error"]["message"]


@pytest.mark.parametrize("path", SURFACES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", ["401", "402", "403", "page"])
def test_of_an_account_of_ours_nothing_is_told(gateway, place, path, stream, what) -> None:
    answer = ask(gateway, path, what, "big", stream=stream)
    assert answer.status_code == SAID[what][0]
    assert all(word not in answer.text for word in OF_OURS)
    if what in ("401", "402"):
        at = answer.headers["x-samediff-deployment"]
        said = f"the provider refuses the gateway's own account at {at} (status {what})"
        assert message(answer, path) == said
    kept = record(place, answer)  # by which its operator finds out
    assert kept["http_status"] == SAID[what][0]
    assert what == "page" or kept["error_kind"] in ("made_up_error", f"http_{what}")


@pytest.mark.parametrize("path", SURFACES[:2])  # to another dialect no client's own key goes
@pytest.mark.parametrize("what", ["401", "402", "403", "400"])
def test_of_the_clients_own_it_goes_on_as_it_came(gateway, path, what) -> None:
    answer = ask(gateway, path, what, "own")
    assert (answer.status_code, answer.json()["error"]["message"]) == (SAID[what][0], SAID[what][2])


def test_what_is_wrong_with_a_request_is_told_word_for_word(gateway) -> None:
    answer = ask(gateway, "/v1/messages", "400", "big")
    assert (answer.status_code, message(answer, "/v1/messages")) == (400, SAID["400"][2])


@pytest.mark.parametrize("path", SURFACES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("what", "kind", "said"), [("html", "html", "with HTML"), ("text", "not_json", "not JSON")]
)
def test_a_page_is_called_a_page(gateway, place, path, stream, what, kind, said) -> None:
    answer = ask(gateway, path, what, "big", stream=stream)
    assert answer.status_code == 502
    assert said in message(answer, path)
    assert record(place, answer)["error_kind"] == kind
    counted = httpx2.get(f"{gateway.url}/metrics").text
    assert f'samediff_upstream_failures_total{{kind="{kind}"}}' in counted
    assert f'result="{kind}"}}' in counted


@pytest.mark.parametrize("said", ["SAY-400", "SAY-400 THEIRS", "SAY-html", "SAY-page", "model"])
def test_both_sdks_find_the_id_of_a_request_that_failed(gateway, said) -> None:
    """Ours, of an error of the gateway's own and of one that came without any; else the provider's."""
    openais = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="theirs", max_retries=0)
    anthropics = anthropic.Anthropic(base_url=gateway.url, api_key="theirs", max_retries=0)
    asked = {"model": "unknown" if said == "model" else "big"}
    messages = [{"role": "user", "content": said}]
    errors = []
    for ask in (
        lambda: openais.chat.completions.create(messages=messages, **asked),
        lambda: openais.responses.create(input=said, **asked),
        lambda: anthropics.messages.create(messages=messages, max_tokens=9, **asked),
    ):
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
            ask()
        errors.append(caught.value)
    for error in errors:
        headers = error.response.headers
        theirs = said == "SAY-400 THEIRS"
        assert error.request_id == ("req_theirs" if theirs else headers["x-samediff-request-id"])
        names = [name for name, _ in headers.multi_items() if name in ID]
        assert names == [ID[isinstance(error, anthropic.APIStatusError)]] or theirs
        assert len(names) == len(set(names))
