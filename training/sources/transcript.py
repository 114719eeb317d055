"""A conversation as a client's transcript tells it: its features turn by turn, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from features.assemble import facts_of
from features.cache import PrefixChain
from features.context import LastTurn, next_prompt_tokens
from features.trajectory import Trajectory
from features.wire import Dialect, Message, WireRequest
from training.sources.describe import ENVELOPE, prefix_fields, prompt_tokens, salient_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.facts import Facts
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
        self.flags: list[str] = []
        self._turn = 0  # of the last request
        self._last: LastTurn | None = None  # the last one whose usage is known
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

    def request_fields(self, effort: str | None, *, subagent: bool | None) -> dict[str, Any]:
        """Fields of a request that is made now, with everything added so far as its prompt."""
        turn = self.trajectory.n_assistant_messages  # as a request's body tells it: no errors, none compacted
        fields: dict[str, Any] = {"turn": turn, "dialect": self.dialect, "effort": effort}
        self._turn = turn
        if self.options.prompts == "none":
            return fields
        facts = facts_of(
            WireRequest(dialect=self.dialect, model="", effort=effort),
            trajectory=self.trajectory,
            context_tokens_est=next_prompt_tokens(self._last, turn, self.trajectory.new_bytes),
            context_tokens_last=self._last.prompt_tokens if self._last else None,
            turn=turn,
            is_subagent=subagent,
        )
        facts = msgspec.structs.replace(facts, **dict.fromkeys(self._untold(facts)))
        salient = salient_fields(self.trajectory.salient_text(), self.options)
        return fields | {"facts": facts} | prefix_fields(self.chain.hashes, self.chain.sizes) | salient

    def answered(self, fields: dict[str, Any]) -> None:
        """Learn the usage of the last request, where there is one."""
        tokens = prompt_tokens(fields)
        if tokens is not None:
            self._last = LastTurn(self._turn, tokens, fields.get("output_tokens"))

    def _untold(self, facts: Facts) -> tuple[str, ...]:
        """Facts that a transcript doesn't tell.

        Claude Code sends signed thinking back only where the model that answered is the one that it asks for,
        and which one it asked for, such as an alias of ours, isn't written down.
        """
        if self.dialect == "anthropic_messages" and facts.provider_bound:
            return (*ENVELOPE, "provider_bound")
        return ENVELOPE
