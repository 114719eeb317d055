"""Claude Code's transcripts: the JSONL files under ~/.claude/projects.

Each content block of an answer is a line of its own; lines of one `message.id` are one request, one usage.
Sub-agents have files (older versions: lines) of their own, marked `isSidechain`. A forked or resumed session
copies earlier lines, which then are duplicates. The system prompt and the tools aren't there.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from features.errors import BadInput
from features.records import RequestRecord, Status
from features.wire import Message, Part, messages_from
from features.wire.plain import join_turns
from training.ids import is_global, own_id
from training.sources.base import (
    OTHER_FORMAT,
    UNFINISHED,
    Item,
    ReadOptions,
    Refusal,
    SourceFile,
    read_objects,
)
from training.sources.describe import edit_fields, spoken, tools_called, usage_fields
from training.sources.transcript import Budget, Transcript
from training.sources.values import basename, count, identity, mapping, ms, text

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD_MESSAGE = "a message that can't be read"
_MARKS = ("sessionId", "leafUuid", "uuid", "messageId")
MOST_THREADS = 256  # open at once in one file; the one that was silent longest is closed
_NO_ANSWER = Message(role="assistant")
_SYNTHETIC = "<synthetic>"  # written by the client itself, no model was called


class _Turn:
    """One request while the lines of its answer come in."""

    def __init__(self, row: int, ts_ms: int, item: dict[str, Any], fields: dict[str, Any]) -> None:
        self.row = row
        self.ts_ms = ts_ms
        self.end_ms = ts_ms
        self.item = item
        self.fields = fields
        self.parts: list[Part] = []
        self.usage: dict[str, Any] = {}
        self.stop: str | None = None
        self.later: list[Message] = []  # tool results that came before the answer's last line

    @property
    def message_id(self) -> str | None:
        """The provider's id of the answer."""
        return identity(mapping(self.item.get("message")).get("id"))

    def extend(self, item: dict[str, Any], parts: tuple[Part, ...]) -> None:
        """Take one more line of the answer; of its output counts the largest is the final one."""
        message = mapping(item.get("message"))
        self.parts += parts
        usage = mapping(message.get("usage"))
        if (count(usage.get("output_tokens")) or 0) >= (count(self.usage.get("output_tokens")) or 0):
            self.usage = usage
        self.stop = text(message.get("stop_reason")) or self.stop
        self.end_ms = max(self.end_ms, ms(item.get("timestamp")) or 0)


class _Thread:
    """A main conversation, or one sub-agent's."""

    def __init__(self, transcript: Transcript, session: str, parent: str | None) -> None:
        self.transcript = transcript
        self.session = session
        self.parent = parent
        self.turn: _Turn | None = None
        self.context_ms: int | None = None  # when the last line before the request was written
        self.places: dict[str, int] = {}  # line's uuid -> messages up to and including it
        self.stops = False  # does this version write stop reasons at all?

    def open_messages(self) -> int:
        """Count the messages that the open request will add: its answer, and the results that came since."""
        return len(join_turns([_NO_ANSWER, *self.turn.later])) if self.turn is not None else 0


def looks_like(item: dict[str, Any]) -> bool:
    """Tell whether this is a line of a Claude Code transcript."""
    return isinstance(item.get("type"), str) and "payload" not in item and "sessionId" in item


def read(file: SourceFile, options: ReadOptions) -> Iterator[Item]:
    """Read one transcript file; requests come out as their answers are complete."""
    reader = _Reader(file, options)
    for row in read_objects(file, options):
        if isinstance(row, Refusal):
            yield row
        else:
            yield from reader.line(*row)
    yield from reader.end()


class _Reader:
    def __init__(self, file: SourceFile, options: ReadOptions) -> None:
        self.file = file
        self.options = options
        self.budget = Budget()
        self.threads: OrderedDict[str, _Thread] = OrderedDict()
        self.roots: dict[str, str] = {}  # uuid -> root uuid, of side chains without an agent's id

    def line(self, row: int, item: dict[str, Any]) -> Iterator[Item]:
        kind = item.get("type")
        if not isinstance(kind, str) or "payload" in item or not any(mark in item for mark in _MARKS):
            yield Refusal(self.file.name, row, OTHER_FORMAT)
            return
        if kind not in ("user", "assistant", "system", "attachment", "progress"):
            return  # titles, queues, snapshots of files: nothing that a model was sent
        thread = self._thread(item)
        if len(self.threads) > MOST_THREADS:
            _, oldest = self.threads.popitem(last=False)
            yield from self._close(oldest)
        try:
            if kind == "assistant":
                yield from self._assistant(thread, row, item)
            elif kind == "user":
                yield from self._user(thread, item)
            elif item.get("subtype") == "compact_boundary":
                yield from self._finish(thread)
                thread.transcript.restart()
        except BadInput:
            yield Refusal(self.file.name, row, BAD_MESSAGE)
        if uuid := text(item.get("uuid")):
            thread.places[uuid] = len(thread.transcript) + thread.open_messages()

    def end(self) -> Iterator[Item]:
        for thread in self.threads.values():
            yield from self._close(thread)

    def _close(self, thread: _Thread) -> Iterator[Item]:
        turn = thread.turn
        if turn is not None and turn.stop is None and thread.stops:
            thread.turn = None
            yield Refusal(self.file.name, turn.row, UNFINISHED)
        yield from self._finish(thread)
        thread.transcript.release()

    def _thread(self, item: dict[str, Any]) -> _Thread:
        session = identity(item.get("sessionId")) or "unknown"
        agent = identity(item.get("agentId"))
        if agent is None and item.get("isSidechain") is True:
            uuid, parent = text(item.get("uuid")) or "", text(item.get("parentUuid"))
            agent = self.roots[uuid] = self.roots.get(parent or "", uuid)
        key = f"{session}/{agent}" if agent else session
        if key not in self.threads:
            transcript = Transcript(self.options, "anthropic_messages", self.budget)
            self.threads[key] = _Thread(transcript, key, session if agent else None)
        self.threads.move_to_end(key)
        return self.threads[key]

    def _user(self, thread: _Thread, item: dict[str, Any]) -> Iterator[Item]:
        messages = messages_from("anthropic_messages", [item.get("message")])
        thread.context_ms = ms(item.get("timestamp")) or thread.context_ms
        results = all(part.kind == "tool_result" for message in messages for part in message.parts)
        if results and thread.turn is not None:
            thread.turn.later += messages
            return
        yield from self._finish(thread)
        place = thread.places.get(text(item.get("parentUuid")) or "")
        if not results and place is not None:
            thread.transcript.rewind(place)
        for message in messages:
            thread.transcript.add(message)

    def _assistant(self, thread: _Thread, row: int, item: dict[str, Any]) -> Iterator[Item]:
        message = mapping(item.get("message"))
        if not message:
            raise BadInput("an assistant's line without a message")
        if message.get("model") == _SYNTHETIC:
            yield from self._finish(thread)
            if item.get("isApiErrorMessage"):
                yield self._failure(thread, row, item)
            return
        (answer,) = messages_from("anthropic_messages", [{**message, "role": "assistant"}])
        if thread.turn is None or thread.turn.message_id != identity(message.get("id")):
            yield from self._finish(thread)
            written = ms(item.get("timestamp")) or 0
            ts_ms = min(thread.context_ms or written, written)
            fields = thread.transcript.request_fields(None, subagent=thread.parent is not None)
            thread.turn = _Turn(row, ts_ms, item, fields)
        thread.turn.extend(item, answer.parts)

    def _finish(self, thread: _Thread) -> Iterator[Item]:
        """Give out the open request, if there is one, and take its answer into the conversation."""
        turn, thread.turn = thread.turn, None
        if turn is None:
            return
        usage = usage_fields("anthropic_messages", turn.usage)
        thread.stops = thread.stops or turn.stop is not None
        thread.transcript.answered(usage)
        flags = [*(usage.pop("flags", None) or []), *thread.transcript.flags]
        yield RequestRecord(
            **self._who(thread, turn.row, turn.item),
            **turn.fields,
            **usage,
            request_id=_request_id(turn),
            provider_response_id=turn.message_id,
            ts_ms=turn.ts_ms,
            model_served=text(mapping(turn.item.get("message")).get("model")),
            service_tier=text(turn.usage.get("service_tier")),
            finish_reason=turn.stop,
            status=_status(thread, turn),
            latency_ms=float(turn.end_ms - turn.ts_ms) if turn.end_ms > turn.ts_ms > 0 else None,
            tools_called=tools_called(turn.parts),
            **edit_fields(turn.parts, self.options),
            response_text=spoken(turn.parts) if self.options.prompts == "full" else None,
            flags=flags or None,
        )
        answer = Message(role="assistant", parts=tuple(turn.parts))
        for message in join_turns([answer, *turn.later]):
            thread.transcript.add(message)

    def _failure(self, thread: _Thread, row: int, item: dict[str, Any]) -> RequestRecord:
        """Record a request that the provider refused; what it would have used is unknown."""
        ts_ms = ms(item.get("timestamp")) or 0
        fields = thread.transcript.request_fields(None, subagent=thread.parent is not None)
        return RequestRecord(
            **self._who(thread, row, item),
            **fields,
            request_id=text(item.get("uuid")) or f"{thread.session}#{row}",
            ts_ms=ts_ms,
            status="error",
            http_status=count(item.get("apiErrorStatus")),
            error_kind=text(item.get("error")),
        )

    def _who(self, thread: _Thread, row: int, item: dict[str, Any]) -> dict[str, Any]:
        return {
            "session_id": thread.session,
            "parent_session_id": thread.parent,
            "source": "claude_code",
            "source_file": self.file.name,
            "source_row": row,
            "harness": "claude_code",
            "harness_version": text(item.get("version")),
            "repo": basename(item.get("cwd")),
            "branch": text(item.get("gitBranch")),
        }


def _request_id(turn: _Turn) -> str:
    """Both ids, where both are known; the line's own one, which forks copy, where those are local."""
    request, line = text(turn.item.get("requestId")), text(turn.item.get("uuid"))
    said = f"{turn.message_id}:{request}" if turn.message_id and request else turn.message_id
    return said if said and is_global(said) else line or own_id(said, turn.row, turn.item)


def _status(thread: _Thread, turn: _Turn) -> Status:
    return "cancelled" if turn.stop is None and thread.stops else "ok"
