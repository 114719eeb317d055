"""What providers keep for clients of Responses: a gateway passes such fields on as they are, or refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from router.conformance.asking import request
from router.conformance.case import Case

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from router.conformance.provider import Seen

    Ask = Callable[[bytes], Awaitable[tuple[int, bytes, bool]]]

# name of the field -> its value; a `previous_response_id` may also be one that the gateway gave out itself
FIELDS: dict[str, Any] = {
    "previous_response_id": "resp_of_nobody",
    "conversation": "conv_of_nobody",
    "prompt": {"id": "pmpt_of_nobody"},
    "background": True,
    "store": True,
}
OUR_OWN = "previous_response_id of its own"
NAMES = (*FIELDS, OUR_OWN)


async def kept(name: str, model: str, ask: Ask, seen: Seen) -> str | None:
    """What is wrong with how a field is taken; None if it is passed on or refused."""
    field, value = name.split()[0], FIELDS.get(name)
    if name == OUR_OWN:
        told = json.loads((await ask(_body("state: first", model, {"store": True})))[1])
        value = told.get("id") if isinstance(told, dict) else None
    case = f"state: {name}"
    seen.last.pop(case, None)
    status, said, _ = await ask(_body(case, model, {field: value}))
    if 400 <= status < 500:
        return None if field in said.decode("utf-8", "replace") else f"status {status} doesn't name {field}"
    if status != 200:
        return f"status {status}"
    dialect, got, _ = seen.last.get(case, ("", {}, {}))
    if field == "store" and dialect != "openai_responses":  # nobody keeps it, and the answer must say so
        return None if json.loads(said).get("store") is False else "the answer claims to be kept, by nobody"
    return None if got.get(field) == value else f"{field} is lost in silence"


def _body(case: str, model: str, more: dict[str, Any]) -> bytes:
    asked = request(Case(case, text="Ok.", stream=False), "openai_responses", model)
    return json.dumps({**asked, "store": True, **more}).encode()
