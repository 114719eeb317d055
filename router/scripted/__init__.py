"""The deterministic upstream: a scripted provider for tests, demos and trying clients without paying.

It speaks Chat Completions, Anthropic Messages and Responses, streaming and not, and answers each request
with the step of its script that belongs to the number of assistant turns already in the conversation.

    python -m router.scripted --port 0 --script claude_code_fix      # prints http://127.0.0.1:PORT
    ANTHROPIC_BASE_URL=http://127.0.0.1:PORT ANTHROPIC_API_KEY=made-up claude -p "fix the failing test"

In a test: `create_upstream(Script(steps=[Step(text="hello")]))` is an ASGI app; run it with uvicorn on
loopback or through an in-process transport. `GET /_requests` tells what arrived (keys only as digests),
`DELETE /_requests` forgets it, `--record DIR` keeps the bodies.

One upstream plays several deployments: `/east/v1/messages` is `/v1/messages` at the place `east`, and
`PUT /_faults/east` with a list of faults says what goes wrong there from now on, `[]` that nothing does.

Two scripts ship: `claude_code_fix` and `codex_fix`. Both expect a repository with `calc.py`, whose `add`
subtracts, and `test_calc.py`, which python3 can run; they read the file, run the failing test, edit, run the
test again and say so. The scripts are data: see `Script` for every key.
"""

from router.scripted.app import Upstream, create_upstream, key_digest
from router.scripted.script import Fault, Rule, Script, Step, ToolCall, UsageOverride, When, load_script

__all__ = [
    "Fault",
    "Rule",
    "Script",
    "Step",
    "ToolCall",
    "Upstream",
    "UsageOverride",
    "When",
    "create_upstream",
    "key_digest",
    "load_script",
]
