"""A conversation as a client's transcript tells it: its features turn by turn, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from features.assemble import facts_of
from features.cache import PrefixChain
from features.context import TokenRatios, estimate_tokens
from features.trajectory import Trajectory
from features.wire import Dialect, Message, WireRequest
from training.sources.describe import ENVELOPE, prefix_fields, prompt_tokens, salient_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.sources.base import ReadOptions

HELD_BYTES = 64 << 20  # of the messages of one file's transcripts, kept only to follow rewinds


class Budget:
    """How many bytes of messages the transcripts of one file may still hold between them."""

    def __init__(self, left: int = HELD_BYTES) -> None:
        self.left = left


class Transcript:
    """One conversation as a client's transcript tells it, message by message; each turn costs O(1)."""

    def __init__(self, options: ReadOptions, dialect: Dialect, budget: Budget) -> None:
        self.options = options
        self.dialect = dialect
        self.budget = budget
        self.turns = 0
        self.flags: list[str] = []
        self._last: tuple[int, int, int | None] | None = (
            None  # messages, time, prompt tokens of the last request
        )
        self._last_bytes = 0
        self._held: list[Message] | None = []
        self._held_bytes = 0
        self._start(())

    def _start(self, messages: Sequence[Message]) -> None:
        self.release()
        self.trajectory = Trajectory()
        self.chain = PrefixChain()
        self._held = []
        for message in messages:
            self.add(message)

    def __len__(self) -> int:
        return len(self.chain.hashes)

    def add(self, message: Message) -> None:
        """Take the next message."""
        self.trajectory.add(message)
        self.chain.add(message)
        if self._held is not None:
            size = sum(len(part.text) for part in message.parts)
            self._held.append(message)
            self._held_bytes += size
            self.budget.left -= size
            if self.budget.left < 0:
                self.release()

    def release(self) -> None:
        """Let go of the messages held; rewinds can't be followed from then on."""
        self.budget.left += self._held_bytes
        self._held, self._held_bytes = None, 0

    def rewind(self, length: int) -> None:
        """Go back to the first `length` messages, as a client does when its user edits an earlier turn."""
        if length >= len(self):
            return
        if self._held is None:
            self.flags = ["rewind_not_followed"]
        else:
            self._start(self._held[:length])

    def restart(self) -> None:
        """Forget the conversation, as a compaction does."""
        self._start(())
        self._last = None

    def request_fields(self, model: str, ts_ms: int, effort: str | None, *, subagent: bool) -> dict[str, Any]:
        """Fields of a request that is made now, with everything added so far as its prompt."""
        turn, self.turns = self.turns, self.turns + 1
        fields: dict[str, Any] = {"turn": turn, "dialect": self.dialect, "effort": effort}
        total = self.chain.sizes[-1] if len(self) else 0
        last, last_bytes = self._last, self._last_bytes
        self._last, self._last_bytes = (len(self), ts_ms, None), total
        if self.options.prompts == "none":
            return fields
        tokens = last[2] if last else None
        estimate = None
        if tokens is not None:  # without a usage block the prompt's envelope is unknown, and so is its size
            estimate = estimate_tokens(total, last_bytes, tokens, TokenRatios().ratio(model))
        facts = facts_of(
            WireRequest(dialect=self.dialect, model=model, effort=effort),
            trajectory=self.trajectory,
            cache=self._shared(last, total, ts_ms),
            context_tokens_est=estimate,
            context_tokens_last=tokens,
            turn=turn,
            is_subagent=subagent,
        )
        facts = msgspec.structs.replace(facts, **dict.fromkeys(ENVELOPE))
        salient = salient_fields(self.trajectory.salient_text(), self.options)
        return fields | {"facts": facts} | prefix_fields(self.chain.hashes, self.chain.sizes) | salient

    def answered(self, fields: dict[str, Any]) -> None:
        """Learn the usage of the last request."""
        if self._last is not None:
            self._last = (*self._last[:2], prompt_tokens(fields))

    def _shared(
        self, last: tuple[int, int, int | None] | None, total: int, ts_ms: int
    ) -> tuple[float, float, float | None]:
        """Return what of this prompt the request before has sent: (bytes, share, age in ms)."""
        common = min(last[0], len(self)) if last else 0
        if last is None or not common:
            return 0.0, 0.0, None
        shared = self.chain.sizes[common - 1]
        return float(shared), shared / total if total else 0.0, float(max(0, ts_ms - last[1]))
