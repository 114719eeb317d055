"""Who is in which session: the last candidate, the prompts it has sent, the last token count. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import xxhash

from features.cache import PrefixMemory, prefix_chain, tools_seed
from features.trajectory import SessionTrajectories
from router.decide import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from features.cache import Chain
    from features.trajectory import Trajectory
    from features.wire.types import Message, WireRequest

# Headers in which clients name their session, best first.
SESSION_HEADERS = (
    "x-samediff-session-id",
    "x-claude-code-session-id",
    "session_id",  # Codex
    "session-id",
    "x-session-id",
    "x-session-affinity",
)
_MAX_ID = 200


class Place(NamedTuple):
    """Where a request belongs: its session, and within it the conversation that its first message began.

    Sub-agents and side calls share their parent's session id but not its conversation.
    """

    session_id: str
    conversation: str
    chain: Chain


class _State(msgspec.Struct):
    last_candidate: str | None = None
    turns: int = 0
    last_bytes: int | None = None
    last_tokens: int | None = None
    served: set[str] = msgspec.field(default_factory=set)


class Sessions:
    """The conversations seen lately, least recently used out first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._memory = PrefixMemory()
        self._trajectories = SessionTrajectories(limit)
        self._responses: OrderedDict[str, str] = OrderedDict()  # response id -> conversation

    def __len__(self) -> int:
        return len(self._states)

    def place(self, request: WireRequest, headers: Mapping[str, str], client: str) -> Place:
        """Find a request's session by header, by body, or else by its first message and its address."""
        first = _digest(_first_words(request.messages))
        named = next((headers[name] for name in SESSION_HEADERS if headers.get(name)), request.session_id)
        session_id = named[:_MAX_ID] if named else f"first-{_digest(f'{client}|{first}')}"
        chain = prefix_chain(request.messages, tools_seed("", request.tools))
        before = self._responses.get(request.previous_response_id or "")
        return Place(session_id, before or f"{session_id}|{first}", chain)

    def view(self, place: Place, now_ms: int) -> Session:
        """Return what a decision may know of the conversation so far."""
        state = self._states.get(place.conversation)
        shared = self._memory.lookup(place.conversation, place.chain, now_ms)
        if state is None:
            return Session(shared=shared)
        served = {}
        for candidate in state.served:
            found = self._memory.lookup(f"{place.conversation}|{candidate}", place.chain, now_ms)
            served[candidate] = (found.share, found.age_ms)
        return Session(
            last_candidate=state.last_candidate,
            shared=shared,
            served=served,
            last_bytes=state.last_bytes,
            last_tokens=state.last_tokens,
        )

    def trajectory(self, place: Place, request: WireRequest) -> Trajectory:
        """The request's trajectory, continued from the last turn's; valid until the next call."""
        return self._trajectories.follow(place.conversation, request.messages, place.chain[0])

    def answered(self, place: Place, candidate: str, now_ms: int) -> None:
        """Note that a candidate has begun to answer: from here on its cache holds the prompt."""
        state = self._states.pop(place.conversation, None) or _State()
        self._states[place.conversation] = state
        state.last_candidate = candidate
        state.turns += 1
        state.served.add(candidate)
        self._memory.remember(place.conversation, place.chain, now_ms)
        self._memory.remember(f"{place.conversation}|{candidate}", place.chain, now_ms)
        while len(self._states) > self._limit:
            self._states.popitem(last=False)

    def ended(
        self, place: Place, body_bytes: int, prompt_tokens: int | None, response_id: str | None
    ) -> None:
        """Note the provider's count of the whole prompt and the id that a next request may build on."""
        state = self._states.get(place.conversation)
        if state is None:
            return
        if prompt_tokens is not None:
            state.last_bytes, state.last_tokens = body_bytes, prompt_tokens
        if response_id is not None:
            self._responses[response_id] = place.conversation
            while len(self._responses) > self._limit:
                self._responses.popitem(last=False)


def _first_words(messages: tuple[Message, ...]) -> str:
    """Text of the first message that isn't the system's: it stays while a conversation goes on."""
    first = next((m for m in messages if m.role != "system"), None)
    return "" if first is None else "\n".join(part.text for part in first.parts)


def _digest(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))
