"""Every field of every answer and of every event, by the SDKs' own types: carried, or known here."""

import json
import re

import pytest
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from router_fields import Walk, schema_of, shown
from test_translate_answers import PAIRS, SCRIPTED, reply, translation

KINDS = {
    "openai_chat": (ChatCompletion, ChatCompletionChunk),
    "anthropic_messages": (BetaMessage, BetaRawMessageStreamEvent),
    "openai_responses": (Response, ResponseStreamEvent),
}
_ONLY_TEXT = (
    "nobody asks for it across dialects: what would bring it is refused, or named as lost, in the request"
)
_SOURCES = "where a text is from, by a search of the provider's own; the text itself is carried"
_SELLERS = "its seller's own affair; the journal has what the answer was priced by"
_ECHO = "the request again; the client's own is echoed to it"
_PARTS = "in parts that the other dialect doesn't count apart; the journal has them"
_PLACE = "of the event or the item in its own stream; ours are counted anew"
_SEALED = "what only its maker can read is nothing to a client of another"
_OWN_TOOLS = "a tool of the provider's own, offered by nobody across dialects"
# where (a pattern) -> why it isn't said in the other dialect
ANSWERS = {
    r".*\.(service_tier|speed|inference_geo|fallback_credit|iterations\[\]<\w+>)": _SELLERS,
    r".*\.(moderation|metadata|system_fingerprint|diagnostics\..*|container|context_management)": _SELLERS,
    r".*\.(input_transformations\[\]|prompt_cache_diagnostics|stop_details)<\w+>": _SELLERS,
    r"\.(access_programs|conversation|prompt|image|tool_usage|completed_at|background)\b.*": _ECHO,
    r"\.(user|truncation|top_p|top_logprobs|tools\[\].*|tool_choice.*|text\..*|temperature)": _ECHO,
    r"\.(safety_identifier|reasoning\..*|prompt_cache_\w+|previous_response_id|parallel_tool_calls)": _ECHO,
    r"\.(max_tool_calls|max_output_tokens|instructions.*)": _ECHO,
    r"\.(created|created_at|object)": "the time at which the gateway was asked is said",
    r"\.(error|incomplete_details\.reason|status)": "said where an answer failed or stopped short",
    r".*usage\.(total_tokens|cache_creation|server_tool_use|\w+_details(\.(?!cached)\w+)?)": _PARTS,
    r".*\.(stop_reason|finish_reason|stop_sequence|native_finish_reason)": "as the calls in the answer say",
    r"\.choices\[\]\.index": "one answer is asked for",
    r".*(logprobs(\[\])?|audio(\.\w+)?|estimated_tokens|<custom>\.custom)": _ONLY_TEXT,
    r".*(annotations\[\]<\w+>|citations\[\]<\w+>|citations_delta>|annotation\.added>)": _SOURCES,
    r".*<(redacted_thinking|signature_delta|thinking)>": _SEALED,
    r".*\.signature": _SEALED,
    r".*<reasoning>.*": "unsigned reasoning is shown in Chat only, as one text",
    r".*<(compaction|fallback|compaction_delta|context_compaction)>": "never asked for across dialects",
    r".*content(_block)?(\[\])?<(server_tool_use|mcp_\w+|container_upload|\w+_tool_result)>": _OWN_TOOLS,
    r".*(output\[\]|item)<(?!message|function_call>|reasoning)\w+>": _OWN_TOOLS,
    r".*\.(caller<\w+>|toolset_name|namespace|async|phase)": "of tools as only its seller runs them",
    r".*(<message>|<function_call>|content\[\]<\w+>)\.(id|status)": _PLACE,
    r".*<tool_use>\.caller.*": _OWN_TOOLS,
}
EVENTS = {
    r"<response\.(web|file)_search_call\.\w+>": _OWN_TOOLS,
    r"<response\.(shell|mcp|image_gen|code_inter|custom_tool|apply_patch)\w*\.\w+>.*": _OWN_TOOLS,
    r"<response\.audio.*>": _ONLY_TEXT,
    r"<response\.reasoning_(summary_)?text\.delta>": "as reasoning is",
    r"<response\.\w+(\.\w+)?\.(done|added)>": "what it ends or begins is told by its deltas, or by its item",
    r"<response\.(queued|in_progress|compaction\.compacting)>": "that it goes on is seen",
    r".*\.(sequence_number|output_index|content_index|summary_index|item_id|index|obfuscation)": _PLACE,
    r"<(message_stop|content_block_stop)>": "our streams end what they began, and themselves",
    r"<error>\.(param|code)": "the message is told",
    r".*\.message<message>\.content\[\]<\w+>": "empty when a stream begins",
    r"\.choices\[\]\.delta\.(role|function_call.*|tool_calls\[\]\.(type|index))": "one kind",
}
HEAD = {"id": "resp_1", "object": "response", "model": "m", "status": "in_progress", "output": []}
CALL = {"type": "function_call", "id": "fc", "call_id": "c", "name": "sh", "arguments": ""}
COUNTED = {"input_tokens": 1, "output_tokens": 1}
AROUND = {
    "openai_chat": (
        [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}],
        [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, None],
    ),
    "anthropic_messages": (
        [
            {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": COUNTED}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ],
        [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}],
    ),
    "openai_responses": (
        [
            {"type": "response.created", "response": HEAD},
            {"type": "response.output_item.added", "output_index": 0, "item": CALL},
        ],
        [{"type": "response.completed", "response": {**HEAD, "status": "completed"}}],
    ),
}


def within(upstream, event):
    """A stream in which an event stands where it may."""
    before, after = AROUND[upstream]
    kind, event = event.get("type", ""), dict(event)
    if "output_index" in event:
        event["output_index"] = int("function_call_arguments" not in kind)
    if "index" in event and kind:
        event["index"] = int(kind == "content_block_start")
    if not kind:
        event["choices"] = [{**c, "index": 0} for c in event.get("choices", []) if isinstance(c, dict)]
    if kind in ("message_start", "response.created"):
        return [event, *before[1:], *after]
    return [*before, event, *(after[1:] if kind == "message_delta" else after)]


def unknown(silent, *known):
    return {
        p: v for p, v in silent.items() if not any(re.fullmatch(at, p) for table in known for at in table)
    }


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_no_field_of_an_answer_is_left_out_unknown(client, upstream) -> None:
    said = reply("Hi there", thinking="Hm", calls=[("sh", {"cmd": "ls"})])
    base, made = SCRIPTED[upstream].body(said), translation(client, upstream, stream=False)

    def outcome(body):
        whole = made.whole(200, json.dumps({**base, **body}).encode())
        return whole.body.decode() if whole.status == 200 else "refused", ()

    schema = schema_of(KINDS[upstream][0])
    walk = Walk(schema, outcome)
    walk.visit(schema, "", dict, ("", ()))
    assert walk.tried > 30
    left = unknown({path.removeprefix("<message>"): v for path, v in walk.silent.items()}, ANSWERS)
    assert left == {}, shown(left)


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_no_event_of_a_stream_is_left_out_unknown(client, upstream) -> None:
    def outcome(event):
        stream = translation(client, upstream).stream()
        sent = [b"[DONE]" if e is None else json.dumps(e).encode() for e in within(upstream, event)]
        told = b"".join(stream.feed(b"data: " + data + b"\n\n") for data in sent) + stream.end()
        lines = [line for line in told.split(b"\n") if line.startswith(b"data") and b'"ping"' not in line]
        return b"\n".join(lines).decode(), ()

    schema = schema_of(KINDS[upstream][1])
    walk = Walk(schema, outcome)
    walk.visit(schema, "", dict, outcome({}))
    assert walk.tried > 30
    # What a last event holds, and an item that is whole, are read as a whole answer is: see above.
    nested = re.compile(r"(.*\.(response|item)[<.].*)|(<response\.(created|completed|failed|incomplete)>.*)")
    left = unknown(walk.silent, ANSWERS, EVENTS)
    left = {path: values for path, values in left.items() if not nested.fullmatch(path)}
    assert left == {}, shown(left)
