"""What a script is: steps, tool calls, faults and rules as plain data, and how one step is chosen."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from features.errors import BadInput
from router.meant import meant

if TYPE_CHECKING:
    from router.scripted.reading import Conversation

_PLACEHOLDER = re.compile(r"\{\{\s*(cwd|model|turn|last_user|last_result|find:(.+?))\s*\}\}")
_CWD = re.compile(r"<cwd>(.+?)</cwd>|[Ww]orking directory: *([^\n`]+)")


class ToolCall(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A tool call; `otherwise` lists what to call when the client doesn't offer a tool of this name.

    A freeform ("custom") tool of the Responses dialect gets `arguments["input"]` as its text.
    """

    name: str
    arguments: dict[str, Any] = {}
    otherwise: list[ToolCall] = []


class UsageOverride(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Token counts to report instead of the simulated ones; what is None stays simulated."""

    uncached: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    output: int | None = None
    reasoning: int | None = None


class Fault(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What goes wrong with an answer.

    `status` answers with that error and `retry_after_s`. `then` breaks the answer after `after_events` SSE
    events (None: before the response head; at the latest before the last event; a plain body breaks off at
    its start or half-way): `drop` aborts the connection,
    `end` closes the body cleanly without a terminal event, `garbage` sends bytes that are no event and goes
    on, `error` sends the dialect's error event and ends, `stall` goes silent until the client leaves.
    With `times` = n only the first n tries of the same body fail. `headers` go on the answer, whatever else.
    """

    status: int | None = None
    retry_after_s: float | None = None
    error_type: str | None = None
    message: str = "scripted failure"
    then: Literal["drop", "end", "garbage", "error", "stall"] | None = None
    after_events: int | None = None
    delay_ms: float = 0.0  # before the response head
    event_delay_ms: float = 0.0  # before each event
    times: int | None = None
    headers: dict[str, str] = {}


class Step(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One assistant turn: thinking, text, tool calls, and optionally its usage and its fault."""

    text: str = ""
    thinking: str = ""
    calls: list[ToolCall] = []
    usage: UsageOverride | None = None
    fault: Fault | None = None


class When(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Conditions of a rule; all that are given must hold."""

    model: str | None = None  # a glob such as "*haiku*"
    dialect: str | None = None
    contains: str | None = None  # somewhere in the request's strings
    no_tools: bool = False
    max_tokens_at_most: int | None = None


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Steps for the conversations that `when` picks out: title generation, quota checks, a sub-agent."""

    when: When
    steps: list[Step]


class Script(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A whole scenario. The first rule that holds wins, then the first model glob, then `steps`.

    A conversation that has had more assistant turns than there are steps gets the last step without its
    tool calls, so a client always comes to an end.
    """

    name: str = "script"
    about: str = ""
    steps: list[Step] = []
    models: dict[str, list[Step]] = {}
    faults: dict[str, list[Fault]] = {}  # by place, in order; they come before a step's own
    rules: list[Rule] = []
    serves: dict[str, str] = {}  # model asked for -> model that the answer names
    offers: tuple[str, ...] = ("scripted-large", "scripted-small")  # GET /v1/models
    chunk_chars: int = 24  # of text or of tool arguments per streamed event
    cache_floor_tokens: int = 1024  # shorter shared prefixes are not cached
    batch_polls: int = 1  # how often a batch is looked at before it is over


class FilledCall(NamedTuple):
    """A tool call ready to be sent; `text` is the input of a freeform tool, else None."""

    name: str
    arguments: dict[str, Any]
    text: str | None


class FilledStep(NamedTuple):
    """A step with its placeholders filled and its tools resolved."""

    text: str
    thinking: str
    calls: tuple[FilledCall, ...]
    usage: UsageOverride | None
    fault: Fault | None


def load_script(path: Path | str) -> Script:
    """Read a script from a JSON file, or one that ships with the code by its name, such as "codex_fix".

    Raises BadInput naming the file and the offending key.
    """
    shipped = Path(__file__).parent / f"{path}.json"
    file = shipped if shipped.is_file() else Path(path)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Script)
    except OSError as error:
        raise BadInput(f"script {path}: can't be read ({error.strerror}); give a JSON file") from error
    except msgspec.DecodeError as error:
        raise BadInput(f"script {path}: {error}{meant(str(error), Script)}") from error


def choose_step(script: Script, talk: Conversation) -> FilledStep:
    """Pick the step of this conversation, by the number of assistant turns it already holds; no state."""
    steps = _steps_for(script, talk)
    if not steps:
        return FilledStep("ok", "", (), None, None)
    over = talk.turns >= len(steps)
    step = steps[-1] if over else steps[talk.turns]
    calls = () if over else tuple(_fill_call(call, talk) for call in step.calls)
    text = step.text or ("Done." if over and step.calls else "")
    return FilledStep(_fill(text, talk), _fill(step.thinking, talk), calls, step.usage, step.fault)


def _steps_for(script: Script, talk: Conversation) -> list[Step]:
    for rule in script.rules:
        if _holds(rule.when, talk):
            return rule.steps
    for pattern, steps in script.models.items():
        if fnmatchcase(talk.model, pattern):
            return steps
    return script.steps


def _holds(when: When, talk: Conversation) -> bool:
    most = when.max_tokens_at_most
    return (
        (when.model is None or fnmatchcase(talk.model, when.model))
        and (when.dialect is None or when.dialect == talk.dialect)
        and (not when.no_tools or not talk.tools)
        and (most is None or (talk.max_tokens is not None and talk.max_tokens <= most))
        and (when.contains is None or when.contains in talk.text)
    )


def _fill_call(call: ToolCall, talk: Conversation) -> FilledCall:
    """Take the first of the call and its alternatives that the client offers, else the call itself."""
    offered = next((c for c in (call, *call.otherwise) if c.name in talk.tools), call)
    arguments = _fill_values(offered.arguments, talk)
    freeform = talk.tools.get(offered.name) == "custom"
    return FilledCall(offered.name, arguments, str(arguments.get("input", "")) if freeform else None)


def _fill_values(value: Any, talk: Conversation) -> Any:
    if isinstance(value, str):
        return _fill(value, talk)
    if isinstance(value, list):
        return [_fill_values(v, talk) for v in value]
    if isinstance(value, dict):
        return {k: _fill_values(v, talk) for k, v in value.items()}
    return value


def _fill(text: str, talk: Conversation) -> str:
    """Replace {{cwd}}, {{model}}, {{turn}}, {{last_user}}, {{last_result}} and {{find:REGEX}}."""

    def value(match: re.Match[str]) -> str:
        if match[2] is not None:
            return _first_group(re.search(match[2], talk.text))
        if match[1] == "cwd":
            return _first_group(_CWD.search(talk.text)).strip() or "."
        plain = {
            "model": talk.model,
            "turn": str(talk.turns),
            "last_user": talk.last_user,
            "last_result": talk.last_result,
        }
        return plain[match[1]]

    return _PLACEHOLDER.sub(value, text) if "{{" in text else text


def _first_group(found: re.Match[str] | None) -> str:
    if found is None:
        return ""
    return next((g for g in found.groups() if g is not None), found[0])
