"""The kind of a call: which client makes it, and what for; told by headers, by short marks and by its shape.

An agent's session is more than its turns: titles, summaries, probes and completions go the same way and need
less of a model. Marks are openings and phrases that clients keep over versions, a few words of each; a text
is only searched for them, never kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from features.toolschema import works

if TYPE_CHECKING:
    from collections.abc import Mapping

    from features.wire.types import WireRequest

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
_KEPT = 256  # user agents remembered, heads of system texts, and pairs of client and kind
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


class Marks:
    """What the texts of a conversation give away; kept with the session so far."""

    __slots__ = ("_asked", "_unread", "client", "subagent", "system")

    def __init__(self) -> None:
        self.client: Client | None = None
        self.subagent = False
        self.system: Kind | None = None  # by the system text
        self._asked: Kind | None = None
        self._unread: str | None = None  # what was asked last, as far as it will be searched

    @property
    def asked(self) -> Kind | None:
        """What a call is for by what was asked last, which is searched when somebody wants to know."""
        if self._unread is not None:
            self._asked, self._unread = _asked(self._unread), None
        return self._asked

    def told(self, text: str) -> None:
        """Take a system text: the first that says anything of the client or the kind decides."""
        client, subagent, kind = _told(text[:_HEAD])
        self.client = self.client or client
        self.subagent = self.subagent or subagent
        self.system = self.system or kind

    def ask(self, text: str | None) -> None:
        """Take the last text of a user message, if it has one."""
        self._asked = None
        self._unread = text if text is None or len(text) <= 2 * _ASKED else text[:_ASKED] + text[-_ASKED:]


@lru_cache(maxsize=_KEPT)
def _told(head: str) -> tuple[Client | None, bool, Kind | None]:
    """What the head of a system text says of the client, of its being a sub-agent, and of the kind."""
    client = next((name for mark, name in _OPENINGS if mark in head), None)
    inside = "cc_is_subagent=true" in head or "You are an agent for Claude" in head
    return client, inside, _named(head.lower())


def _asked(text: str) -> Kind | None:
    head = text[:_ASKED]
    tail = text[-_ASKED:] if len(text) > _ASKED else ""
    for hole in _HOLES:
        if hole in head or hole in tail:
            return "complete"
    if len(text) <= 8 and text.strip().lower() in _REMARKS:
        return "probe"
    return _named(head.lower()) or (_named(tail.lower()) if tail else None)


def _named(lower: str) -> Kind | None:
    for mark, kind in _ASIDES:
        if mark in lower:
            return kind
    return None


def call_values(
    request: WireRequest, marks: Marks, headers: Mapping[str, str], *, is_subagent: bool | None = None
) -> tuple[float, ...]:
    """CALL_NAMES' values: one flag of each, none for an unknown client."""
    client = _client(headers, marks)
    kind = _kind(request, marks, headers, known=client is not None, is_subagent=is_subagent)
    return _flags(client, kind)


def _client(headers: Mapping[str, str], marks: Marks) -> Client | None:
    """Which client calls: by its user agent or originator, else by its system text; None unknown."""
    agent, originator = headers.get("user-agent", ""), headers.get("originator", "")
    if not (agent or originator):
        return marks.client
    return _agent(f"{agent} {originator}"[:200]) or marks.client


@lru_cache(maxsize=_KEPT)
def _agent(said: str) -> Client | None:
    lower = said.lower()
    return next((name for mark, name in _AGENTS if mark in lower), None)


def _kind(
    request: WireRequest,
    marks: Marks,
    headers: Mapping[str, str],
    *,
    known: bool,
    is_subagent: bool | None,
) -> Kind:
    """What a call is for. Marks of a text are believed only where the shape doesn't speak against them."""
    codex = headers.get("x-openai-subagent", "")
    if codex:
        return _CODEX.get(codex, "subagent")
    if request.max_output_tokens is not None and request.max_output_tokens <= _PROBE_TOKENS:
        return "probe"
    asked = marks.asked
    if asked == "summary" or marks.system == "review":  # with the session's own tools
        return asked or "review"
    if not request.tools:
        side = marks.system or asked
        if side is not None:
            return side
    if is_subagent or marks.subagent or any(map(headers.get, _AGENT_HEADERS)):
        return "subagent"
    return "main" if known or works(request.tools) else "chat"


CALL_NAMES: tuple[str, ...] = (  # in the order of Facts
    *(f"client_{name}" for name in CLIENTS),
    *(f"kind_{name}" for name in KINDS),
)


@lru_cache(maxsize=_KEPT)
def _flags(client: Client | None, kind: Kind) -> tuple[float, ...]:
    return (*(float(name == client) for name in CLIENTS), *(float(name == kind) for name in KINDS))


def kind_name(facts: Mapping[str, float | None]) -> Kind | None:
    """The kind that facts tell; a transcript tells at least sub-agent or main. None unknown."""
    told = next((kind for kind in KINDS if facts.get(f"kind_{kind}")), None)
    if told is not None or facts.get("is_subagent") is None:
        return told
    return "subagent" if facts["is_subagent"] else "main"
