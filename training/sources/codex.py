"""Codex's session files: ~/.codex/sessions/**/rollout-*.jsonl.

Items of the conversation are lines; an answer's usage follows it as a `token_usage_record` (with the
response's id) or, in older versions, as a `token_count` event after the tools have run. Counts are the
provider's: `input_tokens` is the whole prompt, reasoning is inside the output.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from features.errors import BadInput
from features.records import RequestRecord
from features.wire import Message, Part, messages_from
from features.wire.openai_responses import is_subagent
from features.wire.plain import join_turns
from training.ids import is_global
from training.sources.base import (
    OTHER_FORMAT,
    UNFINISHED,
    Item,
    ReadOptions,
    Refusal,
    SourceFile,
    read_objects,
)
from training.sources.checks import known_model
from training.sources.describe import edit_fields, has_negative, spoken, tools_called
from training.sources.transcript import Budget, Transcript
from training.sources.values import basename, count, identity, listing, mapping, minus, ms, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BAD_ITEM = "an item of the conversation that can't be read"
_KINDS = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")

# `model_provider` is a label out of the user's own configuration; only these say who is paid.
_SELLERS = {
    "openai": "openai",
    "azure": "azure",
    "amazon-bedrock": "aws",
    "oss": "oss",
    "ollama": "ollama",
    "lmstudio": "lmstudio",
}


def looks_like(item: dict[str, Any]) -> bool:
    """Tell whether this is a line of a Codex session."""
    return item.get("type") in _KINDS and isinstance(item.get("payload"), dict)


def read(file: SourceFile, options: ReadOptions) -> Iterator[Item]:
    """Read one session file; a request comes out when its usage is known and the next one begins."""
    reader = _Reader(file, options)
    for row in read_objects(file, options):
        if isinstance(row, Refusal):
            yield row
        else:
            yield from reader.line(*row)
    yield from reader.end()


class _Call:
    """One request while its answer's items come in."""

    def __init__(self, row: int, ts_ms: int, fields: dict[str, Any]) -> None:
        self.row = row
        self.ts_ms = ts_ms
        self.end_ms = ts_ms
        self.fields = fields
        self.parts: list[Part] = []
        self.later: list[Message] = []  # tool outputs that came before the next answer
        self.usage: dict[str, Any] | None = None
        self.response_id: str | None = None


class _Reader:
    def __init__(self, file: SourceFile, options: ReadOptions) -> None:
        self.file = file
        self.options = options
        self.transcript = Transcript(options, "openai_responses", Budget())
        self.meta: dict[str, Any] = {}
        self.context: dict[str, Any] = {}
        self.call: _Call | None = None
        self.context_ms: int | None = None
        self.total: int | None = None  # tokens of the session by the last usage that was taken
        self.index = 0

    def line(self, row: int, item: dict[str, Any]) -> Iterator[Item]:
        kind, payload = item.get("type"), item.get("payload")
        if not isinstance(kind, str) or not isinstance(payload, dict):
            yield Refusal(self.file.name, row, OTHER_FORMAT)
            return
        when = ms(item.get("timestamp"))
        try:
            if kind == "response_item":
                yield from self._item(row, when, payload)
            elif kind == "token_usage_record":
                usage, total = payload.get("usage"), payload.get("thread_token_usage")
                yield from self._usage(
                    row, when, mapping(usage), mapping(total), text(payload.get("response_id"))
                )
            elif kind == "event_msg" and payload.get("type") == "token_count":
                info = mapping(payload.get("info"))
                usage, total = info.get("last_token_usage"), info.get("total_token_usage")
                yield from self._usage(row, when, mapping(usage), mapping(total), None)
            elif kind == "turn_context":
                self.context = payload
            elif kind == "session_meta" and not self.meta:  # a fork repeats its parent's after its own
                self.meta = payload
                self._add_instructions(mapping(payload.get("base_instructions")).get("text"))
            elif kind == "compacted":
                yield from self._finish()
                self._compacted(payload)
        except BadInput:
            yield Refusal(self.file.name, row, BAD_ITEM)

    def end(self) -> Iterator[Item]:
        call = self.call
        if call is not None and call.usage is None and self.total is not None:
            self.call = None
            yield Refusal(self.file.name, call.row, UNFINISHED)
        yield from self._finish()

    @property
    def session(self) -> str:
        """The thread's own id; `session_id` may be that of the thread it belongs to."""
        return (
            identity(self.meta.get("id"))
            or identity(self.meta.get("session_id"))
            or PurePath(self.file.name).stem
        )

    def _item(self, row: int, when: int | None, item: dict[str, Any]) -> Iterator[Item]:
        messages = messages_from("openai_responses", [item])
        if not _spoken_by_model(item):
            self.context_ms = when or self.context_ms
            if self.call is not None and _is_output(item):
                self.call.later += messages
            else:
                yield from self._finish()
                self._add(messages)
            return
        if self.call is not None and (self.call.later or self.call.usage is not None):
            yield from self._finish()
        if self.call is None:
            self.call = self._begin(row, when)
        self.call.parts += [part for message in messages for part in message.parts]
        self.call.end_ms = max(self.call.end_ms, when or 0)

    def _usage(
        self,
        row: int,
        when: int | None,
        usage: dict[str, Any],
        total: dict[str, Any],
        response_id: str | None,
    ) -> Iterator[Item]:
        """Take a usage once: both kinds of line tell it, and `token_count` repeats itself."""
        spent = count(total.get("total_tokens"))
        if not usage or (spent is not None and spent == self.total):
            return
        self.total = spent if spent is not None else (self.total or 0)
        if self.call is None or self.call.usage is not None:  # a call that left no item, such as a compaction
            yield from self._finish()
            self.call = self._begin(row, when)
        self.call.usage, self.call.response_id = usage, response_id
        if not self.call.later:
            self.call.end_ms = max(self.call.end_ms, when or 0)

    def _begin(self, row: int, when: int | None) -> _Call:
        written = when or self.context_ms or 0
        ts_ms = min(self.context_ms or written, written)
        effort = text(self.context.get("effort")) or text(self.context.get("reasoning_effort"))
        fields = self.transcript.request_fields(effort, subagent=self._subagent())
        self.index += 1
        return _Call(row, ts_ms, fields)

    def _finish(self) -> Iterator[Item]:
        """Give out the open request, if there is one, and take its answer into the conversation."""
        call, self.call = self.call, None
        if call is None:
            return
        usage = _usage_fields(call.usage)
        self.transcript.answered(usage)
        flags = [*(usage.pop("flags", None) or []), *self.transcript.flags]
        asked, answer_id = self._model() or None, call.response_id
        yield RequestRecord(
            **self._who(call.row),
            **call.fields,
            **usage,
            request_id=answer_id
            if answer_id and is_global(answer_id)
            else f"{self.session}#{self.index - 1}",
            provider_response_id=answer_id,
            ts_ms=call.ts_ms,
            model_requested=asked,
            # What was served isn't written down: a published name stands for itself, another may be an alias.
            model_served=asked if asked and known_model(asked, None) else None,
            status="ok" if call.usage is not None else "unknown",
            latency_ms=float(call.end_ms - call.ts_ms) if call.end_ms > call.ts_ms > 0 else None,
            tools_called=tools_called(call.parts),
            **edit_fields(call.parts, self.options),
            response_text=spoken(call.parts) if self.options.prompts == "full" else None,
            flags=flags or None,
        )
        answer = [Message(role="assistant", parts=tuple(call.parts))] if call.parts else []
        self._add([*answer, *call.later])

    def _add(self, messages: Sequence[Message]) -> None:
        for message in join_turns(messages):
            self.transcript.add(message)

    def _add_instructions(self, instructions: Any) -> None:
        if isinstance(instructions, str) and instructions:
            self._add([Message(role="system", parts=(Part(kind="text", text=instructions),))])

    def _compacted(self, payload: dict[str, Any]) -> None:
        """Start over from what a compaction has kept."""
        self.transcript.restart()
        self._add_instructions(mapping(self.meta.get("base_instructions")).get("text"))
        kept = [item for item in listing(payload.get("replacement_history")) if isinstance(item, dict)]
        summary = {"role": "user", "content": str(payload.get("message") or "")}
        self._add(messages_from("openai_responses", kept or [summary]))

    def _model(self) -> str:
        return text(self.context.get("model")) or ""

    def _subagent(self) -> bool | None:
        return True if self._parent() is not None else is_subagent(self.meta.get("thread_source"))

    def _parent(self) -> str | None:
        """Return the thread that spawned this one, of a sub-agent."""
        spawn = mapping(mapping(mapping(self.meta.get("source")).get("subagent")).get("thread_spawn"))
        return identity(self.meta.get("parent_thread_id")) or identity(spawn.get("parent_thread_id"))

    def _who(self, row: int) -> dict[str, Any]:
        git = mapping(self.meta.get("git"))
        url = basename(git.get("repository_url"))
        return {
            "session_id": self.session,
            "parent_session_id": self._parent() or identity(self.meta.get("forked_from_id")),
            "source": "codex",
            "source_file": self.file.name,
            "source_row": row,
            "harness": "codex",
            "harness_version": text(self.meta.get("cli_version")),
            "repo": url.removesuffix(".git")
            if url
            else basename(self.context.get("cwd") or self.meta.get("cwd")),
            "branch": text(git.get("branch")),
            "provider": _SELLERS.get(text(self.meta.get("model_provider")) or ""),
        }


def _spoken_by_model(item: dict[str, Any]) -> bool:
    kind = item.get("type")
    if kind in (None, "message"):
        return item.get("role") == "assistant"
    return isinstance(kind, str) and (kind == "reasoning" or kind.endswith("_call"))


def _is_output(item: dict[str, Any]) -> bool:
    kind = item.get("type")
    return isinstance(kind, str) and kind.endswith("_output")


def _usage_fields(usage: dict[str, Any] | None) -> dict[str, Any]:
    """Codex's own usage block in our split."""
    if usage is None:
        return {}
    cached, written = count(usage.get("cached_input_tokens")), count(usage.get("cache_write_input_tokens"))
    return {
        "input_tokens_uncached": minus(count(usage.get("input_tokens")), cached, written),
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": count(usage.get("output_tokens")),
        "reasoning_tokens": count(usage.get("reasoning_output_tokens")),
        "reasoning_in_output": True,
        "flags": ["negative_tokens"] if has_negative(usage) else None,
    }
