"""A gateway in this process that routes between candidates: whatever begins anew is the next one's."""

import json
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx2
import uvicorn
from router_servers import ROOT, journal_of, start_upstream

from router.catalog import Catalog
from router.decide import Decider
from router.gateway.serve import prepare
from router.gateway.settings import Settings
from router.policy import parse_policy

KEYS = {f"{seller}_API_KEY": "ours" for seller in ("ANTHROPIC", "OPENAI", "ZAI", "OPENROUTER", "MOONSHOT")}
FIXED = 'def add(a, b):\n    """Add two numbers."""\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n'
PROMPTS = ("Fix the failing test in this repository", "Now give add a docstring", "And write sub, too")


def shell(text, command):
    """A step that calls whichever shell a client has."""
    command = f"cd {{{{cwd}}}} && {command}"
    listed = [
        {"name": "Bash", "arguments": {"command": command, "description": text}},
        {"name": "bash", "arguments": {"command": command, "description": text}},
        {"name": "exec_command", "arguments": {"cmd": command}},
        {"name": "shell_command", "arguments": {"command": command}},
        {"name": "shell", "arguments": {"command": ["bash", "-lc", command]}},
    ]
    return {"text": text, "calls": [{**listed[0], "otherwise": listed[1:]}]}


LATER = [
    shell("A docstring.", """sed -i 's/^def add(a, b):/&\\n    \"\"\"Add two numbers.\"\"\"/' calc.py"""),
    shell("And the test.", "python3 test_calc.py"),
    {"text": "Add has a docstring now."},
    shell("Sub.", "printf '\\n\\ndef sub(a, b):\\n    return a - b\\n' >> calc.py"),
    shell("And the test.", "python3 test_calc.py"),
    {"text": "Sub is written."},
]
BEFORE = [
    shell("I'll look at the code.", "cat calc.py"),
    shell("Now the test.", "python3 test_calc.py || true"),
    shell("It subtracts.", "sed -i 's/a - b/a + b/' calc.py"),
    shell("And the test.", "python3 test_calc.py"),
    {"text": "Fixed."},
]


def trouble(after_s, events=2):
    """What goes wrong at a seller in mid-task: after a call a 429, after another a broken stream."""
    limited = {"status": 429, "retry_after_s": after_s, "times": 1}
    return [{"times": 1}, limited, {"times": 1}, {"then": "drop", "after_events": events, "times": 1}]


def three_tasks(name=None):
    """The steps of three prompts in one conversation, the first of them as a shipped script has it."""
    if name is None:
        return {"steps": BEFORE + LATER}
    script = json.loads((ROOT / "router" / "scripted" / f"{name}.json").read_text())
    return {**script, "steps": script["steps"] + LATER}


class InTurns:
    """Deciders that take turns: what nothing holds to its candidate is the next one's."""

    def __init__(self, deciders, moves):
        self._deciders, self._moves, self._n = deciders, moves, -1

    def __getattr__(self, name):
        return getattr(self._deciders[0], name)

    def decide(self, request, context):
        receipt = self._deciders[max(0, self._n)].decide(request, context)
        if receipt.locks or context.same_dialect or not self._moves(request):
            return receipt
        self._n = (self._n + 1) % len(self._deciders)
        return self._deciders[self._n].decide(request, context)


def with_tools(request):
    """Not a client's own side request, such as for a title."""
    return bool(request.tools)


def catalog_of(url):
    """The default catalogue, every seller a place of its own at the upstream."""
    lines = []
    for name, endpoint in Catalog.load().endpoints.items():
        urls = ", ".join(
            f'{dialect} = "{url}/{name}{"" if dialect == "anthropic_messages" else "/v1"}"'
            for dialect in endpoint.base_urls
        )
        lines += [f"[endpoints.{name}]", f"base_urls = {{ {urls} }}"]
    return "\n".join(lines) + "\n"


@contextmanager
def routing(folder, bundle, script, candidates, moves=with_tools, more=""):
    """Upstream and gateway; what begins anew goes to the next of the candidates."""
    upstream = start_upstream(script, folder)
    (folder / "catalog.toml").write_text(catalog_of(upstream.url) + more.replace("URL", upstream.url))
    (folder / "samediff.toml").write_text(
        f'catalog = "{folder / "catalog.toml"}"\nbundle = "{bundle}"\nport = 0\n'
        f'[log]\njournal = "{folder / "journal"}"\nflush_s = 0.1\n'
    )
    prepared = prepare(Settings.load(folder / "samediff.toml", {}))
    gateway = prepared.app.state.gateway
    deciders = [
        Decider(gateway.decider.bundle, gateway.decider.catalog, parse_policy(f"pin:{name}"), environ=KEYS)
        for name in candidates
    ]
    gateway.swap(InTurns(deciders, moves))
    gateway.environ = KEYS
    config = uvicorn.Config(prepared.app, log_level="error", ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [prepared.listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield SimpleNamespace(url=prepared.url, gateway=gateway, upstream=upstream)
    finally:
        server.should_exit = True
        thread.join()
        prepared.listener.close()
        upstream.stop()


def asked_at(upstream):
    """(place, path) of every answer asked for, in order."""
    seen = httpx2.get(f"{upstream.url}/_requests").json()
    paths = [entry["path"].removeprefix("/").partition("/") for entry in seen if entry["method"] == "POST"]
    return [(place, "/" + path) for place, _, path in paths]


def who_answered(folder, tools=True):
    """The candidates of a conversation's decisions, in order, each once as long as it goes on."""
    calls = [r for k, r in journal_of(folder) if k == "decision"]
    if tools:
        calls = [r for r in calls if r["facts"].get("n_tools")]
    names = [r["chosen"] for r in calls]
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


def locked_well(folder):
    """Whoever begins a tool loop goes on with it; how many requests were locked so."""
    decisions = [r for k, r in journal_of(folder) if k == "decision"]
    last = {}
    for decision in decisions:
        if decision.get("locks"):
            assert decision["locks"] == ["tool_loop"]
            assert decision["chosen"] == last[decision["session_id"]]
        last[decision["session_id"]] = decision["chosen"]
    return sum(bool(d.get("locks")) for d in decisions)
