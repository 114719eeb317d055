"""What of a prompt was sent before: chain hashes over messages, and a bounded memory of them.

The longest common prefix by whole messages, and its age; what of it a provider still holds is `reading`'s.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import xxhash

from features.value import Value

if TYPE_CHECKING:
    from features.wire.types import Message, Tool

# Chain hashes (u64) and cumulative bytes after each message; equal hashes mean equal prefixes.
Chain = tuple[Sequence[int], Sequence[int]]
# What of a prompt its session has sent before: bytes, share of this prompt, and age of that prefix in ms;
# None: nothing in common with anything remembered.
Shared = tuple[int, float, int | None]

PREFIXES_KEPT = 64  # hashes of a chain that a record holds, the newest: a session's records overlap
_KIND_CODES = {"text": "1", "thinking": "2", "tool_call": "3", "tool_result": "4", "image": "5", "other": "6"}


class PrefixChain:
    """Grows a chain message by message, so that a transcript of n turns costs O(n)."""

    __slots__ = ("_before", "_bytes", "_state", "hashes", "sizes")

    def __init__(self, seed: str = "") -> None:
        self._state = xxhash.xxh3_64(seed.encode("utf-8", "surrogatepass"))
        self._before: xxhash.xxh3_64 | None = None  # the state before the last message, see `without_last`
        self._bytes = 0
        self.hashes = array("Q")
        self.sizes = array("Q")

    def add(self, message: Message) -> None:
        """Append one message: its role and what its parts say, without cache markers and call ids."""
        state = self._state
        before: str = message.role
        for part in message.parts:
            text = part.text.encode("utf-8", "surrogatepass")
            # Lengths stand before the texts, so that no two different messages run together alike.
            head = f"{before}|{_KIND_CODES[part.kind]},{part.name or ''},{part.digest},{len(text)}|"
            state.update(head.encode("utf-8", "surrogatepass"))
            state.update(text)
            self._bytes += len(text)
            before = ""
        if before:
            state.update(before.encode())
        self.hashes.append(state.intdigest())
        self.sizes.append(self._bytes)

    def with_more(self, messages: Sequence[Message]) -> PrefixChain:
        """A chain with more messages, to which no more are added; this one stays as it is."""
        if not messages:
            return self
        other = PrefixChain.__new__(PrefixChain)
        other._state, other._bytes = self._state.copy(), self._bytes
        other.hashes, other.sizes = self.hashes[:], self.sizes[:]
        for message in messages[:-1]:
            other.add(message)
        other._before = other._state.copy()
        other.add(messages[-1])
        return other

    def without_last(self) -> PrefixChain:
        """What a chain was before its last message; once, and only of one that `with_more` made."""
        assert self._before is not None, "the chain as it was before its last message isn't known"
        other = PrefixChain.__new__(PrefixChain)
        other._state, other._before = self._before.copy(), None
        other.hashes, other.sizes = self.hashes[:-1], self.sizes[:-1]
        other._bytes = other.sizes[-1] if other.sizes else 0
        return other


def prefix_chain(messages: Sequence[Message], seed: str = "") -> tuple[array[int], array[int]]:
    """(chain hash u64, cumulative text bytes) after each message; `seed` is what stands before them all."""
    chain = PrefixChain(seed)
    for message in messages:
        chain.add(message)
    return chain.hashes, chain.sizes


def tools_seed(model: str, tools: Sequence[Tool]) -> str:
    """The seed of a chain: the model and the tools, which providers put before the messages."""
    return "|".join([model, *(f"{tool.name}:{tool.digest:x}" for tool in tools)])


def shared_messages(mine: Sequence[int], theirs: Sequence[int]) -> int:
    """How many leading messages two prompts share, by the hashes of their chains.

    O(log n), as chains never agree again once parted.
    """
    high = len(theirs) if len(theirs) < len(mine) else len(mine)  # noqa: FURB136 — min() takes 5 times as long
    if high and mine[high - 1] == theirs[high - 1]:  # one goes on from the other, as mostly
        return high
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        if mine[middle - 1] == theirs[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


def goes_on(mine: Sequence[int], theirs: Sequence[int]) -> bool:
    """Whether a prompt begins with all of an earlier one, by the hashes of their chains."""
    n = len(theirs)
    return n <= len(mine) and (not n or mine[n - 1] == theirs[n - 1])


class _Sent(Value, frozen=True):
    chain: Chain  # as it was given, for it doesn't change any more
    ts_ms: int


class PrefixMemory:
    """Session -> the prompts it sent last, least recently used first out.

    A session keeps `per_session` prompts, because sub-agents and side calls interleave with the main thread;
    the whole keeps at most `max_sessions` of them (None: any number, at some 600 bytes each) and
    `max_messages` messages, 16 bytes each.
    """

    def __init__(
        self, max_messages: int = 4_000_000, per_session: int = 4, max_sessions: int | None = None
    ) -> None:
        self.max_messages = max_messages
        self.per_session = per_session
        self.max_sessions = math.inf if max_sessions is None else max_sessions
        self.n_messages = 0
        self._sessions: OrderedDict[str, list[_Sent]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def lookup(self, session_id: str | None, chain: Chain, now_ms: int) -> Shared:
        """What this prompt shares with an earlier one of its session; of equals the latest counts."""
        best, sent_ms, (hashes, sizes) = 0, now_ms, chain
        for sent in self._sessions.get(session_id or "", ()):
            n = shared_messages(hashes, sent.chain[0])
            if n and sizes[n - 1] >= best:
                best, sent_ms = sizes[n - 1], sent.ts_ms
        if not best:
            return 0, 0.0, None
        return best, best / sizes[-1], now_ms - sent_ms if now_ms > sent_ms else 0

    def remember(self, session_id: str | None, chain: Chain, now_ms: int) -> list[str]:
        """Keep this prompt, by its chain as it is given, which may not change any more.

        An earlier one that it continues is replaced. Returns the sessions let go of.
        """
        hashes = chain[0]
        if not session_id or not hashes:
            return []
        kept = []
        for sent in self._sessions.pop(session_id, ()):
            earlier = sent.chain[0]
            if goes_on(hashes, earlier):
                self.n_messages -= len(earlier)
            else:
                kept.append(sent)
        kept.append(_Sent(chain, now_ms))
        self.n_messages += len(hashes)
        if len(kept) > self.per_session:
            self.n_messages -= len(kept.pop(0).chain[0])
        self._sessions[session_id] = kept
        if len(self._sessions) > self.max_sessions or self.n_messages > self.max_messages:
            return self._let_go()
        return []

    def _let_go(self) -> list[str]:
        """Forget the least recently used, but for the one in use."""
        forgotten = []
        while len(self._sessions) > 1 and (
            len(self._sessions) > self.max_sessions or self.n_messages > self.max_messages
        ):
            name, dropped = self._sessions.popitem(last=False)
            self.n_messages -= sum([len(sent.chain[0]) for sent in dropped])
            forgotten.append(name)
        return forgotten
