"""Tool calls held against the request's own schemas: what is no JSON, breaks its schema or was never offered.

Schemas come from clients, so they are read by a validator that runs no code of theirs (jsonschema-rs), with
patterns of linear time and without fetching what they refer to. Each is compiled once, by its digest.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from jsonschema_rs import Validator

    from features.wire import WireRequest, WireResponse

KEPT = 4_096  # schemas, and
KEPT_BYTES = 16 * 2**20  # of their tools' definitions: a compiled one is some times as large
MAX_SCHEMA_BYTES = 256 * 2**10  # of a tool's definition; a larger one is not checked
FaultKind = Literal["not_json", "schema", "unknown_tool"]
FAULT_FLAG = "broken_tool_call"  # in the log's record of the call
CUT_SHORT = frozenset({"length", "max_tokens", "max_output_tokens", "incomplete"})  # finish reasons


class ToolSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is done about tool calls that the client could not carry out."""

    check: Literal["off", "log", "retry"] = "log"  # retry: such an answer is asked for again
    # A stream can be, too, if it is held back: one that begins with calls, or any where tools are offered.
    hold: Literal["none", "calls", "all"] = "none"
    hold_kib: float = 1_024.0  # of a longer stream nothing more is held
    hold_s: float = 60.0  # nor of one that lasts longer

    def __post_init__(self) -> None:
        """Refuse settings that can't be, or do nothing."""
        for name in ("hold_kib", "hold_s"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name}: {value:g} must be a finite number over 0")
        if self.hold != "none" and self.check != "retry":
            raise ValueError(f'hold: {self.hold!r} is of no use unless check = "retry"')


class ToolFault(NamedTuple):
    """What is wrong with a call; no word of its arguments."""

    tool: str
    kind: FaultKind


class ToolChecks:
    """Validators by the digest of their tool's definition; None for one that can't be checked."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[Validator | None, int]] = OrderedDict()  # with their bytes
        self._held = 0

    def faults(
        self, request: WireRequest, tools: msgspec.Raw | None, answer: WireResponse
    ) -> list[ToolFault]:
        """What is wrong with the tool calls of an answer; `tools` is the request's own list, as JSON.

        Of one that was cut off at the length its client allows, the last call isn't the model's fault.
        """
        calls = [part for part in answer.parts if part.kind == "tool_call" and part.name]
        if answer.finish_reason in CUT_SHORT:
            calls = calls[:-1]
        if not calls or not request.tools:
            return []
        offered = {tool.name: tool for tool in request.tools}
        found = []
        for part in calls:
            tool = offered.get(part.name or "")
            if tool is None:
                found.append(ToolFault(part.name or "", "unknown_tool"))
                continue
            if tool.digest not in self._known:
                sized = tool.digest and tool.bytes <= MAX_SCHEMA_BYTES
                self._learn(tool.digest, _schema_of(tool.name, tools) if sized else None, tool.bytes)
            kind = _fault(self._known[tool.digest][0], part.text)
            if kind is not None:
                found.append(ToolFault(tool.name, kind))
        return found

    def _learn(self, digest: int, schema: dict[str, Any] | None, size: int) -> None:
        validator = None if schema is None else _validator(schema)
        self._known[digest] = (validator, 0 if validator is None else size)
        self._held += self._known[digest][1]
        while len(self._known) > KEPT or self._held > KEPT_BYTES:
            _, (_, freed) = self._known.popitem(last=False)
            self._held -= freed


def _validator(schema: dict[str, Any]) -> Validator | None:
    """Compile a schema; None where it is no schema, or refers to another place."""
    import jsonschema_rs

    options = jsonschema_rs.RegexOptions(size_limit=2**20, dfa_size_limit=2**20)
    try:
        return jsonschema_rs.validator_for(schema, offline=True, pattern_options=options)
    except (ValueError, TypeError, RecursionError, jsonschema_rs.ReferencingError):
        return None


def _fault(validator: Validator | None, arguments: str) -> FaultKind | None:
    if validator is None:
        return None
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "not_json"
    return None if validator.is_valid(value) else "schema"


def _schema_of(name: str, tools: msgspec.Raw | None) -> dict[str, Any] | None:
    """The schema of a tool's arguments, in whichever dialect it is offered; None for one without."""
    try:
        listed = [] if tools is None else msgspec.json.decode(tools, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, RecursionError):
        return None
    for tool in listed:
        inner = tool.get("function")
        said = inner if isinstance(inner, dict) else tool
        if said.get("name") == name:
            schema = said.get("input_schema", said.get("parameters"))
            return schema if isinstance(schema, dict) else None
    return None
