"""What schemathesis is told beside the document: model names that are known, so that requests get through."""

import schemathesis
from schemathesis import GenerationMode

# A valid request goes to a model of its own dialect: what another one can't say may be refused.
OWN = {"/v1/messages": "claude-haiku-5-5", "/v1/messages/count_tokens": "claude-haiku-5-5"}
ANY = ("auto", "claude-haiku-5-5", "gpt-5.4", "glm-5", "no-such-model")


@schemathesis.hook
def before_call(context, case, kwargs) -> None:
    body = case.body
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return
    names = ("auto", OWN.get(case.path, "gpt-5.4"), "no-such-model")
    if case.meta is not None and case.meta.generation.mode is GenerationMode.NEGATIVE:
        names = ANY
    body["model"] = names[len(repr(body)) % len(names)]
