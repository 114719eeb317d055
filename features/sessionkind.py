"""The kind of a call: which client makes it, and what for; told by headers, by short marks and by its shape.

An agent's session is more than its turns: titles, summaries, probes and completions go the same way and need
less of a model. Marks are openings and phrases that clients keep over versions, a few words of each; a text
is only searched for them, never kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from features.tools import tool_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from features.wire.types import Message, WireRequest

Client = Literal["claude_code", "codex", "opencode", "aider", "cline", "copilot", "cursor", "other_agent"]
Kind = Literal[
    "main",
    "subagent",
    "title",
    "summary",
    "probe",
    "complete",  # of a line or a hole in it
    "commit",  # a commit message
    "review",
    "aside",  # a client's own small question
    "chat",  # nobody's agent
]

CLIENTS: tuple[Client, ...] = get_args(Client)
KINDS: tuple[Kind, ...] = get_args(Kind)

_HEAD = 1_500  # characters of a system text's head that are searched
_KEPT = 256  # user agents remembered, and pairs of client and kind
_ASKED = 1_200  # characters of the head and of the tail of what is asked

# In the user agent, in lower case.
_AGENTS: tuple[tuple[str, Client], ...] = (
    ("claude-cli", "claude_code"),
    ("codex", "codex"),
    ("opencode", "opencode"),
    ("aider", "aider"),
    ("cline", "cline"),
    ("roo-code", "cline"),
    ("kilo-code", "cline"),
    ("githubcopilot", "copilot"),
    ("cursor", "cursor"),
    ("geminicli", "other_agent"),
    ("qwencode", "other_agent"),
    ("openhands", "other_agent"),
)
# In the head of a system text; the first that is found.
_OPENINGS: tuple[tuple[str, Client], ...] = (
    ("x-anthropic-billing-header:", "claude_code"),
    ("You are Claude Code", "claude_code"),
    ("built on Anthropic's Claude Agent SDK", "claude_code"),
    ("You are an agent for Claude Code", "claude_code"),
    ("running in the Codex CLI", "codex"),
    ("You are Codex", "codex"),
    ("You are OpenCode", "opencode"),
    ("You are opencode", "opencode"),
    ("*SEARCH/REPLACE", "aider"),
    ("Act as an expert software developer", "aider"),
    ("You are Cline", "cline"),
    ("You are Roo", "cline"),
    ("You are Kilo Code", "cline"),
    ("GitHub Copilot", "copilot"),
    ("operate in Cursor", "cursor"),
    ("operates exclusively in Cursor", "cursor"),
    ("You are OpenHands", "other_agent"),
    ("You are Cascade", "other_agent"),
    ("You are Qwen Code", "other_agent"),
    ("You are Gemini CLI", "other_agent"),
    ("interactive CLI agent specializing in software engineering", "other_agent"),
    ("interact with a computer", "other_agent"),  # mini-swe-agent
    ("You are an autonomous programmer", "other_agent"),  # SWE-agent
)
# In the head of a system text, or in head or tail of what is asked last, in lower case.
_ASIDES: tuple[tuple[str, Kind], ...] = (
    ("you are a title generator", "title"),
    ("generate a title for this conversation", "title"),
    ("generate a concise, sentence-case title", "title"),
    ("generate a short title", "title"),
    ("coding conversation in under 50 characters", "title"),
    ("message indicates a new conversation topic", "title"),
    ("respond with text only. do not call any tools", "summary"),
    ("create a detailed summary of the conversation", "summary"),
    ("tasked with summarizing conversations", "summary"),
    ("context checkpoint compaction", "summary"),
    ("summarize this partial conversation", "summary"),
    ("commit message", "commit"),
    ("acting as a reviewer for a proposed code change", "review"),
    ("extract any file paths that this command reads", "aside"),
    ("process bash commands that an ai coding agent", "aside"),
    ("assistant for performing a web search tool use", "aside"),
    ("[suggestion mode", "aside"),
)
_HOLES = ("<|fim_", "<fim_", "<｜fim", "[SUFFIX]", "<PRE>", "<COMPLETION>", "{{FILL_HERE}}", "<|user_cursor")
_REMARKS = ("quota", "test", "ping")  # all that a probe says
# x-openai-subagent of Codex; any other value is a sub-agent.
_CODEX: dict[str, Kind] = {"review": "review", "compact": "summary"}
_AGENT_HEADERS = ("x-claude-code-agent-id", "x-codex-parent-thread-id")
_PROBE_TOKENS = 1  # output tokens that a probe asks for


class Marks(NamedTuple):
    """What the texts of a conversation give away; kept with the session so far."""

    client: Client | None = None
    subagent: bool = False
    system: Kind | None = None  # by the system text
    asked: Kind | None = None  # by what was asked last


NOTHING = Marks()


def marks_of(message: Message, before: Marks = NOTHING) -> Marks:
    """Marks of a conversation after one more message; only system and user messages leave any."""
    if message.role == "system":
        return _of_system(message, before)
    if message.role == "user":
        texts = [part.text for part in message.parts if part.kind == "text"]
        return before._replace(asked=_asked(texts[-1]) if texts else None)
    return before


def _of_system(message: Message, before: Marks) -> Marks:
    """The first text that says anything of the client or the kind decides."""
    for part in message.parts:
        head = part.text[:_HEAD]
        client = before.client or next((name for mark, name in _OPENINGS if mark in head), None)
        inside = before.subagent or "cc_is_subagent=true" in head or "You are an agent for Claude" in head
        kind = before.system or _named(head.lower())
        before = Marks(client, inside, kind, before.asked)
    return before


def _asked(text: str) -> Kind | None:
    head = text[:_ASKED]
    tail = text[-_ASKED:] if len(text) > _ASKED else ""
    if any(hole in head or hole in tail for hole in _HOLES):
        return "complete"
    if len(text) <= 8 and text.strip().lower() in _REMARKS:
        return "probe"
    return _named(head.lower()) or (_named(tail.lower()) if tail else None)


def _named(lower: str) -> Kind | None:
    return next((kind for mark, kind in _ASIDES if mark in lower), None)


def client_of(headers: Mapping[str, str], marks: Marks) -> Client | None:
    """Which client calls: by its user agent or originator, else by its system text; None unknown."""
    agent, originator = headers.get("user-agent", ""), headers.get("originator", "")
    if not (agent or originator):
        return marks.client
    return _agent(f"{agent} {originator}"[:200]) or marks.client


@lru_cache(maxsize=_KEPT)
def _agent(said: str) -> Client | None:
    lower = said.lower()
    return next((name for mark, name in _AGENTS if mark in lower), None)


def kind_of(
    request: WireRequest, marks: Marks, headers: Mapping[str, str], *, is_subagent: bool | None = None
) -> Kind:
    """What a call is for. Marks of a text are believed only where the shape doesn't speak against them."""
    codex = headers.get("x-openai-subagent", "")
    if codex:
        return _CODEX.get(codex, "subagent")
    if request.max_output_tokens is not None and request.max_output_tokens <= _PROBE_TOKENS:
        return "probe"
    if marks.asked == "summary" or marks.system == "review":  # with the session's own tools
        return marks.asked or "review"
    if not request.tools:
        side = marks.system or marks.asked
        if side is not None:
            return side
    if is_subagent or marks.subagent or any(headers.get(name) for name in _AGENT_HEADERS):
        return "subagent"
    return "main" if client_of(headers, marks) or _works(request) else "chat"


def _works(request: WireRequest) -> bool:
    """Whether an unknown client offers what an agent works with: editing or a shell."""
    return any(tool_kind(tool.name) in ("edit", "shell") for tool in request.tools)


@lru_cache(maxsize=_KEPT)
def call_facts(client: Client | None, kind: Kind) -> Mapping[str, float]:
    """The client_* and kind_* fields of Facts: one flag of each, none for an unknown client."""
    return {
        **{f"client_{name}": float(name == client) for name in CLIENTS},
        **{f"kind_{name}": float(name == kind) for name in KINDS},
    }


def kind_name(facts: Mapping[str, float | None]) -> Kind | None:
    """The kind that facts tell; a transcript tells at least sub-agent or main. None unknown."""
    told = next((kind for kind in KINDS if facts.get(f"kind_{kind}")), None)
    if told is not None or facts.get("is_subagent") is None:
        return told
    return "subagent" if facts["is_subagent"] else "main"
