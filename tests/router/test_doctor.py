"""The doctor: a good catalogue and broken ones, one line for each finding, exit codes 0, 1 and 2."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

import samediff
from router import prices
from router.doctor import _python, run
from router.gateway.settings import Settings

KEY = "made-up-key"


class Seller(BaseHTTPRequestHandler):
    """Lists two models to those who have the key, on two addresses; others are broken in their own ways."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        said = self.headers.get("authorization") or self.headers.get("x-api-key") or ""
        if path == "/down/models":
            status, body = 503, b"busy"
        elif path == "/silent/models":
            status, body = 200, b"<html>hello</html>"
        elif not said.endswith(KEY):
            status, body = 401, b"{}"
        else:
            status = 200
            body = json.dumps({"data": [{"id": "gpt-5.4"}, {"id": "claude-opus-5-5-20260901"}]}).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def seller():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Seller)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def diagnose(tmp_path, bundle_folder):
    def look(catalog=None, environ=None, own_prices=None, policy="learned:max_loss=0.02", online=True):
        files = {"catalog": catalog, "prices": own_prices}
        for name, text in files.items():
            if text is not None:
                (tmp_path / f"{name}.toml").write_text(text)
                files[name] = str(tmp_path / f"{name}.toml")
        settings = Settings(bundle=str(bundle_folder), policy=policy, **files)
        return run(settings, online=online, environ=environ or {})

    yield look
    prices.use(None)


def catalog_of(url, candidate="gpt-5.4", model="gpt-5.4", more="", dialect="openai_chat"):
    return (
        f"replace = true\n[endpoints.s]\nprovider = 'openai'\nkey_env = 'S_KEY'\n"
        f"base_urls = {{ {dialect} = '{url}' }}\n"
        f"[candidates.'{candidate}']\nendpoints = {{ s = '{model}' }}\n"
        f"{more}\n[aliases.auto]\ncandidates = ['{candidate}']\nreference = {{ {dialect} = '{candidate}' }}\n"
    )


def findings(diagnosis, verdict):
    """Lines of a verdict, but for what is of this machine's Python."""
    checks = [check for check in diagnosis.checks if check.verdict == verdict and check.name != "python"]
    return [f"{check.name}: {check.detail}" for check in checks]


def test_a_good_catalogue_has_no_findings(diagnose, seller) -> None:
    diagnosis = diagnose(catalog_of(seller), {"S_KEY": KEY})
    assert (diagnosis.ok, diagnosis.exit_code) == (True, 0)
    assert findings(diagnosis, "failed") == findings(diagnosis, "warning") == []
    assert {check.name for check in diagnosis.checks} >= {"bundle", "policy", "prices", "keys", "address"}


def test_what_ships_works_without_a_network_or_keys(diagnose) -> None:
    diagnosis = diagnose(online=False)
    assert diagnosis.ok
    known = ("is not set", "no cache rules are known of")
    assert all(any(mark in line for mark in known) for line in findings(diagnosis, "warning"))


BROKEN = [
    ({"S_KEY": "wrong"}, "", "", "address: endpoints.s: {url}/models refuses the key in S_KEY (401)"),
    ({"S_KEY": KEY}, "/down", "", "address: endpoints.s: {url}/models answers with 503"),
    (
        {"S_KEY": KEY},
        "",
        "until = 2020-01-01",
        "reference: aliases.auto: the reference gpt-5.4 isn't in force",
    ),
]


@pytest.mark.parametrize(("environ", "path", "more", "said"), BROKEN)
def test_what_is_broken_fails_in_one_line(diagnose, seller, environ, path, more, said) -> None:
    diagnosis = diagnose(catalog_of(seller + path, more=more), environ)
    (failed,) = findings(diagnosis, "failed")
    assert failed.startswith(said.format(url=seller + path))
    assert diagnosis.exit_code == 1
    assert not any("wrong" in check.detail or KEY in check.detail for check in diagnosis.checks)


def test_a_model_that_is_not_listed(diagnose, seller) -> None:
    (failed,) = findings(diagnose(catalog_of(seller, model="gpt-5.5"), {"S_KEY": KEY}), "failed")
    assert failed == "listed: candidates.gpt-5.4: endpoints.s doesn't list gpt-5.5 among its 2"
    near = diagnose(
        catalog_of(seller, "o", "claude-opus-5-5", dialect="anthropic_messages").replace(
            "openai", "anthropic"
        ),
        {"S_KEY": KEY},
    )
    assert near.ok
    assert findings(near, "warning") == [
        "listed: candidates.o: endpoints.s doesn't list claude-opus-5-5; it lists claude-opus-5-5-20260901"
    ]


def test_an_address_that_says_nothing_useful_is_a_warning(diagnose, seller) -> None:
    (warning,) = findings(diagnose(catalog_of(f"{seller}/silent"), {"S_KEY": KEY}), "warning")
    assert "answers (200), but lists no models" in warning


def test_nobody_there_fails_only_where_we_hold_a_key(diagnose) -> None:
    nobody = catalog_of("http://127.0.0.1:9")
    assert any("can't be reached" in line for line in findings(diagnose(nobody, {"S_KEY": KEY}), "failed"))
    keyless = diagnose(nobody)
    assert "keys: no endpoint has a key: nothing can be called at all" in findings(keyless, "failed")
    assert any("can't be reached" in line for line in findings(keyless, "warning"))


def test_an_unknown_price_says_which_file_to_put_it_in(diagnose, seller) -> None:
    unpriced = catalog_of(seller, "big", "big-1", more="context_tokens = 1000")
    (failed,) = (line for line in findings(diagnose(unpriced, online=False), "failed") if "price" in line)
    assert "candidates.big: no price is known of big-1 sold by openai: put a [[price]] for it into" in failed
    row = "source = 'x'\nchecked = 2026-01-01\ninput = 1\noutput = 2\n"
    priced = diagnose(unpriced, own_prices=f"[[price]]\nmodels = ['big-*']\n{row}", online=False)
    assert not any("price" in line for line in findings(priced, "failed"))


def test_prices_of_a_seller_that_nobody_knows_are_a_warning(diagnose, seller) -> None:
    row = "models = ['x']\nsource = 'x'\nchecked = 2026-01-01\ninput = 1\n"
    prices_of = "[[price]]\nprovider = '{}'\n".format
    slip = diagnose(own_prices=prices_of("anthropci") + row, online=False)
    assert any("[[price]] for provider 'anthropci'" in line for line in findings(slip, "warning"))
    right = diagnose(own_prices=prices_of("anthropic") + row, online=False)
    assert not any("[[price]]" in line for line in findings(right, "warning"))


def test_unknown_cache_rules_say_which_file_to_put_them_in(diagnose) -> None:
    strange = diagnose(catalog_of("http://127.0.0.1:9", "x", "command-r-plus").replace("openai'", "cohere'"))
    assert any(
        line.startswith("caches: candidates.x: no cache rules") for line in findings(strange, "warning")
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"catalog": "[candidates.x]\nendpoints = 3"}, "candidates.x: Expected `object`"),
        ({"own_prices": "[[price]]\nmodels = ['x']"}, "[[price]] number 1: Object missing required field"),
        ({"policy": "cheapest-please"}, "policy"),
    ],
)
def test_what_is_no_valid_input_exits_2_and_the_rest_is_looked_at(diagnose, settings, said) -> None:
    diagnosis = diagnose(**settings, online=False)
    (failed,) = findings(diagnosis, "failed")
    assert said in failed
    assert diagnosis.exit_code == 2
    assert len(diagnosis.checks) > 2


def test_a_broken_bundle_is_found_and_the_rest_is_said(tmp_path) -> None:
    diagnosis = run(Settings(bundle=str(tmp_path)), environ={})
    verdicts = {check.name: check.verdict for check in diagnosis.checks}
    assert (diagnosis.exit_code, verdicts["bundle"], verdicts["catalogue"]) == (1, "failed", "ok")


def test_the_command_exits_with_the_code_and_writes_json(tmp_path, bundle_folder) -> None:
    config, out = tmp_path / "samediff.toml", tmp_path / "doctor.json"
    config.write_text(f"bundle = '{bundle_folder}'\ncatalog = '{tmp_path / 'nowhere.toml'}'\n")
    command = ["doctor", "--config", str(config), "--offline", "--json", str(out)]
    done = CliRunner().invoke(samediff.app, command)
    assert done.exit_code == 2
    said = json.loads(out.read_text())
    assert said["exit_code"] == 2
    assert any(check["name"] == "catalogue" and check["verdict"] == "failed" for check in said["checks"])


def test_a_slow_build_of_python_is_told() -> None:
    used = "-fprofile-use -fprofile-correction"
    assert _python("'--enable-optimizations' '--with-lto'", used).verdict == "ok"
    assert _python(None, None).verdict == "ok"
    assert _python("'--enable-shared' '--with-computed-gotos'", "").verdict == "ok"  # Debian's
    assert "a tenth more CPU" in (found := _python("'--enable-shared'", used)).detail
    assert found.verdict == "warning"
