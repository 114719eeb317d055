"""Outcomes that clients report: read strictly, since a label that is lost in silence is never missed."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec

from features.errors import BadInput
from features.records import OutcomeRecord
from features.wire.plain import why_not_json
from router.meant import meant

# Levels that say of themselves what became of a request.
_SPEAKING = ("L0", "L1", "L2", "L3", "L4", "different")


class _Reported(OutcomeRecord, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outcome as a client may write it."""


def read_outcomes(body: bytes, now_ms: int) -> list[OutcomeRecord]:
    """Read one outcome or a list; id, time and source are filled in, `success` is taken for `value`.

    BadInput names the row and the key.
    """
    try:
        plain = msgspec.json.decode(body)
        json.loads(body, object_pairs_hook=_once)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"outcome: not JSON: {why_not_json(error, body)}") from error
    except RecursionError:
        raise BadInput("outcome: nested too deeply") from None
    rows = plain if isinstance(plain, list) else [plain]
    return [_outcome(f"outcome {n}", row, now_ms) for n, row in enumerate(rows)]


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse a key that is given twice: nobody knows which value is meant."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise BadInput(f"outcome: has the key {key[:40]!r} twice")
        seen.add(key)


def outcome_schema() -> dict[str, Any]:
    """What may be written, as JSON schema."""
    probability = {"type": ["number", "boolean"], "minimum": 0, "maximum": 1}
    schema = msgspec.json.schema(_Reported)["$defs"]["_Reported"]
    fields = {**schema["properties"], "value": {**probability, "type": ["number", "boolean", "null"]}}
    fields["success"] = {**fields["value"], "description": "The same as value; not beside it."}
    del fields["recorded_ms"]  # ours to say
    valued = [{"required": [key], "properties": {key: probability}} for key in ("value", "success")]
    spoken = {"required": ["level"], "properties": {"level": {"enum": list(_SPEAKING)}}}
    named = {"type": "string", "minLength": 1}
    named_by = [{"required": [k], "properties": {k: named}} for k in ("request_id", "session_id", "task_id")]
    return {
        "type": "object",
        "description": "An outcome; its id, time and source are filled in where they aren't given.",
        "properties": fields,
        "additionalProperties": False,
        "allOf": [
            {"not": {"required": ["value", "success"]}},
            {"anyOf": [*valued, spoken]},
            {"anyOf": named_by},
        ],
    }


def _outcome(where: str, row: Any, now_ms: int) -> OutcomeRecord:
    if not isinstance(row, dict):
        raise BadInput(f"{where}: must be an object with a value and a request_id, session_id or task_id")
    filled = {"outcome_id": f"out_{uuid.uuid4().hex}", "ts_ms": now_ms, "source": "api", **row}
    if "success" in filled:
        if "value" in filled:
            raise BadInput(f"{where}: has both success and value; they mean the same")
        filled["value"] = filled.pop("success")
    if isinstance(filled.get("value"), bool):
        filled["value"] = float(filled["value"])
    try:
        record = msgspec.convert({**filled, "recorded_ms": now_ms}, _Reported)
    except msgspec.ValidationError as error:
        raise BadInput(f"{where}: {error}{meant(str(error), _Reported)}") from error
    if record.value is not None and not 0.0 <= record.value <= 1.0:
        raise BadInput(f"{where}: value {record.value:g} is no probability; use 0 to 1")
    if record.value is None and record.level not in _SPEAKING:
        raise BadInput(f"{where}: has no value; give value (0 to 1), success, or a level of {_listed()}")
    if not (record.request_id or record.session_id or record.task_id):
        raise BadInput(f"{where}: names none of request_id, session_id, task_id")
    return msgspec.convert(msgspec.structs.asdict(record), OutcomeRecord)


def _listed() -> str:
    return ", ".join(_SPEAKING)
