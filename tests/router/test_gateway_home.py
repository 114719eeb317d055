"""What a provider keeps of an answer is asked for where that answer came from, on that account."""

import httpx2
import pytest
from msgspec.structs import replace
from router_failing import asked, fail, running
from router_servers import start_upstream

from router.catalog import Catalog
from router.doctor import run
from router.gateway.settings import Settings

CALM = "[retry]\nbackoff_s = 0.01\n[breaker]\nopen_s = 0.001\nfailures = 99\n"
OWN = 'passthrough = true\nprovider = "openai"\n'


def catalog(url, accounts=("teamA", "teamB")):
    ends = "".join(
        f'[endpoints.{name}]\nprovider = "openai"\naccount = "{account}"\nkey_env = "KEY_{name}"\n'
        f'base_urls = {{ openai_responses = "{url}/{name}/v1" }}\n'
        for name, account in zip(("o1", "o2"), accounts, strict=True)
    )
    return (
        f"replace = true\n{ends}[candidates.big]\nendpoints = {{ o1 = 'gpt-5.4', o2 = 'gpt-5.4' }}\n"
        "[candidates.small]\nendpoints = { o1 = 'gpt-5.4-mini' }\n"
        "[aliases.auto]\ncandidates = ['big']\nreference = { openai_responses = 'big' }\n"
    )


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    for name in ("o1", "o2"):
        monkeypatch.setenv(f"KEY_{name}", f"key-{name}")
    server = start_upstream({"steps": [{"text": "first"}, {"text": "second"}]}, tmp_path)
    yield server
    server.stop()


def ask(gateway, **more):
    return httpx2.post(
        f"{gateway.url}/v1/responses", json={"model": "auto", "input": "Hi", **more}, timeout=30
    )


def answered_by_o2(gateway, upstream):
    fail(upstream, "o1", {"status": 503, "times": 1})
    first = ask(gateway)
    assert (first.status_code, asked(upstream)) == (200, ["o1", "o2"])
    httpx2.delete(f"{upstream.url}/_requests")
    return first.json()["id"]


def test_an_earlier_answer_is_asked_for_where_it_was_given(tmp_path, bundle_folder, upstream) -> None:
    with running(tmp_path, bundle_folder, upstream, CALM, catalog(upstream.url)) as gateway:
        first = answered_by_o2(gateway, upstream)
        again = ask(gateway, previous_response_id=first)
        assert (again.status_code, asked(upstream)) == (200, ["o2"])
        assert again.headers["x-samediff-deployment"] == "o2/big/openai_responses"
        fail(upstream, "o2", {"status": 503})
        httpx2.delete(f"{upstream.url}/_requests")
        assert ask(gateway, previous_response_id=first).status_code == 503
        assert set(asked(upstream)) == {"o2"}


def test_it_is_refused_where_its_account_cannot_be_called(tmp_path, bundle_folder, upstream) -> None:
    with running(tmp_path, bundle_folder, upstream, CALM, catalog(upstream.url)) as gateway:
        first = answered_by_o2(gateway, upstream)
        answer = ask(gateway, model="small", previous_response_id=first)
        assert (answer.status_code, asked(upstream)) == (503, [])
        assert "o2 gave that answer" in answer.json()["error"]["message"]


def test_one_account_has_it_at_every_address(tmp_path, bundle_folder, upstream) -> None:
    with running(tmp_path, bundle_folder, upstream, CALM, catalog(upstream.url, ("one", "one"))) as gateway:
        first = answered_by_o2(gateway, upstream)
        assert ask(gateway, model="small", previous_response_id=first).status_code == 200
        assert asked(upstream) == ["o1"]


def test_a_credential_of_another_seller_calls_nothing(tmp_path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(
        f'replace = true\n[endpoints.o]\n{OWN}base_urls = {{ openai_chat = "http://127.0.0.1:9/v1" }}\n'
        "[candidates.big]\nendpoints = { o = 'gpt-5.4' }\n"
        "[aliases.auto]\ncandidates = ['big']\nreference = { openai_chat = 'big' }\n"
    )
    (home,) = Catalog.load(str(file)).deployments.values()
    said = [check.detail for check in run(Settings(catalog=str(file)), environ={}).checks]
    assert any(line.startswith("endpoints o: a client's own credential only") for line in said)
    assert home.barred({}, 0, {}) is None
    assert home.abroad().barred({}, 0, {}) == "no_key"
    assert "key_env" in home.abroad().why_barred("no_key")
    assert replace(home, passthrough=False).abroad().barred({}, 0, {}) is None  # it needs no key
    assert replace(home, key_env="K").abroad().barred({}, 0, {"K": "k"}) is None
