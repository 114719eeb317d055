"""Sessions, the conversations in them, and the answers that a request may go on from. Bounded."""

from __future__ import annotations

import math
import secrets
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import xxhash
from msgspec.structs import replace

from features.cache import CacheState, PrefixMemory, corrected, prefix_chain, tools_seed
from features.cache import after as after_sending
from features.trajectory import SessionTrajectories
from features.value import Value
from router.given import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from features.cache import CacheRequest, CacheRules, Chain, Split
    from features.context import LastTurn
    from features.trajectory import Trajectory
    from features.wire.types import Message, Part, Usage, WireRequest, WireResponse
    from router.catalogrows import Deployment

# Headers in which clients name their session, best first.
SESSION_HEADERS = (
    "x-samediff-session-id",
    "x-claude-code-session-id",
    "session_id",  # Codex
    "session-id",
    "x-session-id",
    "x-session-affinity",
)
# Headers in which a sub-agent with a session of its own names the session that began it.
PARENT_HEADERS = ("x-samediff-parent-session-id", "x-parent-session-id", "x-codex-parent-thread-id")
_CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_MAX_ID = 200
# Messages in the assistant's name; some clients put words like "Ok." of their own behind ours.
_LOOKED_BACK = 4
_FRESH_ANSWERS = 4.0  # that weigh against the first one with a broken tool call
_CANDIDATES = 16  # of a session, whose broken tool calls are counted
_MARKS = 4  # pieces of an answer by which it is known again
_MESSAGES = 100  # of a session, on average; what is remembered of one grows with them, by 200 bytes each


class Answer(Value, frozen=True):
    """One answer of a conversation: what a request that goes on from it may know."""

    conversation: str
    session: str  # as named by its client, or else made up
    thread: str
    candidate: str
    by_client: bool  # its candidate goes back to a client's own choice, and so to no policy
    turn: int | None  # None: unknown
    body_bytes: int = 0
    last: LastTurn | None = None  # by the provider's count
    deployment: Deployment | None = None  # that gave it


class Place(Value, frozen=True):
    """Where a request belongs.

    A conversation goes on from answer to answer; sub-agents and side calls have their own in their parent's
    session. A request without an answer in it begins one, even if it says what an earlier one said. Requests
    that began with the same words are a thread: they share what the providers' caches hold of them.
    """

    session_id: str
    parent_session_id: str | None
    session: str  # as Answer has it
    conversation: str
    thread: str
    chain: Chain
    turn: int | None
    is_subagent: bool | None
    after: Answer | None  # what it goes on from, as far as we saw it

    def answer(self, candidate: str, *, by_client: bool, deployment: Deployment | None = None) -> Answer:
        """The answer that a candidate gives here."""
        return Answer(
            self.conversation,
            self.session,
            self.thread,
            candidate,
            by_client,
            self.turn,
            deployment=deployment,
        )


class Stored(Value, frozen=True):
    """A prompt on its way into a cache: the rules it goes by, and what was foretold of it."""

    rules: CacheRules | None
    request: CacheRequest
    split: Split


class _Calls(Value, frozen=True):
    """Answers with tool calls, since the first of them was broken."""

    broken: int = 0
    answers: int = 0

    @property
    def share(self) -> float:
        """Share of answers that are broken, some good ones taken for granted."""
        return self.broken / (self.answers + _FRESH_ANSWERS)


_COLD = CacheState()


class Sessions:
    """The conversations seen lately, least recently used out first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._salt = secrets.token_bytes(16)  # a hash with it means nothing elsewhere
        self._conversations: OrderedDict[str, None] = OrderedDict()
        self._threads: OrderedDict[str, CacheState] = OrderedDict()  # what providers' caches hold of each
        self._answers: OrderedDict[str, Answer] = OrderedDict()  # response id or mark -> answer
        self._broken: OrderedDict[str, dict[str, _Calls]] = OrderedDict()  # session -> candidate -> its calls
        self._memory = PrefixMemory(limit * _MESSAGES, max_sessions=limit)
        self._trajectories = SessionTrajectories(limit, limit * _MESSAGES)

    def __len__(self) -> int:
        return len(self._conversations)

    def place(
        self,
        request: WireRequest,
        headers: Mapping[str, str],
        client: str,
        chain: Chain | None = None,
        spoken: int | None = None,
    ) -> Place:
        """Find a request's session by header or body, and its conversation by the answer it goes on from.

        Who names none is known by the address `client` and a credential. What is known of the request already
        needn't be found out again: its chain, and how many of its messages are the assistant's.
        """
        named = _named(headers, SESSION_HEADERS) or (request.session_id or "")[:_MAX_ID]
        whose = named or f"{client}|{self.whose(headers)}"
        thread = f"{whose}|{_digest(_first_words(request.messages))}"
        hidden = request.previous_response_id is not None  # earlier turns are with the provider
        if spoken is None:
            spoken = [message.role for message in request.messages].count("assistant")
        after = self._after(request, thread) if hidden or spoken else None
        conversation = after.conversation if after else secrets.token_hex(8)
        session = named or (after.session if after else f"first-{conversation}")
        parent = _named(headers, PARENT_HEADERS) or None
        inside = parent is None and request.is_subagent is True
        following = None if after is None or after.turn is None else after.turn + 1
        return Place(
            session_id=f"{session}/{conversation}" if inside else session,
            parent_session_id=session if inside else parent,
            session=session,
            conversation=conversation,
            thread=after.thread if hidden and after else thread,
            chain=chain or chain_of(request),
            turn=following if hidden else spoken,
            is_subagent=True if parent else request.is_subagent,
            after=after,
        )

    def _after(self, request: WireRequest, thread: str) -> Answer | None:
        """Find the answer that a request goes on from, by its id or its marks; else its maker is unknown.

        Others may have begun with the same words, so the thread's latest answer says nothing of it.
        """
        if request.previous_response_id is not None:
            return self._answers.get(request.previous_response_id[:_MAX_ID])
        looked = 0
        for message in reversed(request.messages):
            if message.role != "assistant":
                continue
            for mark in _marks(thread, message.parts):
                if mark in self._answers:
                    return self._answers[mark]
            looked += 1
            if looked == _LOOKED_BACK or any(part.kind != "text" for part in message.parts):
                break  # calls that nobody here has made
        return None

    def whose(self, headers: Mapping[str, str]) -> str:
        """Tell clients behind one address apart by a hash of their credentials, which are kept nowhere."""
        told = "\n".join([headers.get(name, "") for name in _CREDENTIALS])
        return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=8, key=self._salt).hexdigest()

    def view(self, place: Place, now_ms: int) -> Session:
        """Return what a decision may know of the conversation so far."""
        after, broken = place.after, self._broken.get(place.session)
        last = None if after is None else after.last
        return Session(
            last_candidate=None if after is None else after.candidate,
            last_by_client=after is not None and after.by_client,
            turn=place.turn,
            shared=self._memory.lookup(place.thread, place.chain, now_ms),
            cache=self._threads.get(place.thread, _COLD),
            chain=place.chain,
            last_bytes=None if after is None or last is None else after.body_bytes,
            last_tokens=None if last is None else last.prompt_tokens,
            is_subagent=place.is_subagent,
            last=last,
            broken_calls={name: calls.share for name, calls in broken.items()} if broken else {},
        )

    def trajectory(self, place: Place, request: WireRequest, aside: Sequence[int] | None) -> Trajectory:
        """The request's trajectory, continued from the last turn's; valid until the next call."""
        return self._trajectories.follow(place.conversation, request.messages, place.chain[0], aside)

    def began(self, place: Place, answer: Answer, now_ms: int, stored: Stored | None = None) -> None:
        """Note that a candidate has begun to answer: from here on its cache holds the prompt."""
        _put(self._conversations, answer.conversation, None, self._limit)
        cache = self._threads.get(place.thread, _COLD)
        if stored is not None:
            ends = stored.rules is not None and stored.rules.visible == "ended"
            seen = math.inf if ends else now_ms
            cache = after_sending(stored.rules, cache, stored.request, None, now_ms, visible_ms=seen)
        _put(self._threads, place.thread, cache, self._limit)
        for forgotten in self._memory.remember(place.thread, place.chain, now_ms):
            self._threads.pop(forgotten, None)

    def counted(self, place: Place, stored: Stored, usage: Usage, now_ms: int) -> None:
        """Correct what is believed of a cache by what its provider counted."""
        cache = self._threads.get(place.thread)
        if cache is not None:
            self._threads[place.thread] = corrected(
                stored.rules, cache, stored.request, usage, said=stored.split, now_ms=now_ms
            )

    def called(self, place: Place, candidate: str, *, broken: bool) -> None:
        """Note an answer with tool calls, and whether its client could carry them out."""
        known = self._broken.get(place.session, {})
        if not broken and candidate not in known:
            return
        calls = known.pop(candidate, _Calls())
        known[candidate] = _Calls(calls.broken + broken, calls.answers + 1)
        while len(known) > _CANDIDATES:
            del known[next(iter(known))]
        _put(self._broken, place.session, known, self._limit)

    def heard(self, answer: Answer, response: WireResponse, body_bytes: int, last: LastTurn) -> None:
        """Note what an answer was, so that it is known again, and what the provider counted."""
        known = last.prompt_tokens is not None
        whole = replace(answer, body_bytes=body_bytes, last=last) if known else answer
        ids = [response.response_id[:_MAX_ID]] if response.response_id else []
        for mark in (*ids, *_marks(answer.thread, response.parts)):
            _put(self._answers, mark, whole, self._limit * _MARKS)


def chain_of(request: WireRequest) -> Chain:
    """The prefix chain of a request, its tools before its messages."""
    return prefix_chain(request.messages, tools_seed("", request.tools))


def _named(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    if headers.keys().isdisjoint(names):  # as mostly
        return ""
    return next((said[:_MAX_ID] for name in names if (said := headers.get(name))), "")


def _marks(thread: str, parts: Sequence[Part]) -> Iterator[str]:
    """Yield what an answer is known by in a later request, the last first: ids of its calls, or its text."""
    found = 0
    for part in reversed(parts):
        said = part.call_id if part.kind == "tool_call" else None
        if part.kind == "text" and (text := part.text.strip()):
            said = _digest(text)
        if said:
            yield f"{thread}|{said[:_MAX_ID]}"
            found += 1
            if found == _MARKS:
                return


def _put(table: OrderedDict[str, Any], key: str, value: Any, limit: int) -> None:
    """Set a key as the one used last, and let go of those used least."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > limit:
        table.popitem(last=False)


def _first_words(messages: tuple[Message, ...]) -> str:
    """Text of the first message that isn't the system's: it stays while a conversation goes on."""
    for message in messages:
        if message.role != "system":
            return "\n".join([part.text for part in message.parts])
    return ""


def _digest(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))
