"""What schemathesis is told beside the document, so that requests get through: known models, fresh keys."""

import itertools

import schemathesis
from schemathesis import GenerationMode

# A valid request goes to a model of its own dialect: what another one can't say may be refused.
OWN = {"/v1/messages": "claude-haiku-5-5", "/v1/messages/count_tokens": "claude-haiku-5-5"}
ANY = ("auto", "claude-haiku-5-5", "gpt-5.4", "glm-5", "no-such-model")


KEY, NUMBERS = "Idempotency-Key", itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs) -> None:
    body = case.body
    if case.headers and case.headers.get(KEY) == "0":  # its favourite: the second body with it is refused
        case.headers[KEY] = f"key-{next(NUMBERS)}"
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return
    names = ("auto", OWN.get(case.path, "gpt-5.4"), "no-such-model")
    if case.meta is not None and case.meta.generation.mode is GenerationMode.NEGATIVE:
        names = ANY
    body["model"] = names[len(repr(body)) % len(names)]
