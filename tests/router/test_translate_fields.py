"""Every field of every request, by the SDKs' own types: carried, refused, named as lost, or known here."""

import json
import re

import pytest
from anthropic.types.beta.message_create_params import MessageCreateParamsNonStreaming as Messages
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming as Chat
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming as Responses
from router_fields import Walk, schema_of, shown

from features.errors import BadInput
from router.gateway.translate import Target, translate

KINDS = {"openai_chat": Chat, "anthropic_messages": Messages, "openai_responses": Responses}
GLM = Target("openai_chat", "zai", "glm-5")
GPT = Target("openai_chat", "openai", "gpt-5.4")
CODEX = Target("openai_responses", "openai", "gpt-5.4")
CLAUDE = Target("anthropic_messages", "anthropic", "claude-haiku-5-5")
HI, ANY = [{"role": "user", "content": "hi"}], {"type": "object"}
SH = {"name": "some name", "parameters": ANY}  # as the walk calls whatever has a name
WHOLE = {
    "openai_chat": {"messages": HI, "tools": [{"type": "function", "function": SH}]},
    "anthropic_messages": {
        "max_tokens": 99,
        "messages": HI,
        "tools": [{"name": "some name", "input_schema": ANY}],
    },
    "openai_responses": {"input": "hi", "store": False, "tools": [{"type": "function", **SH}]},
}
# where (a pattern) -> (values that nothing is said of, None: any; why)
REVIEWED = {
    r"\.model": (None, "the deployment's own name stands there"),
    r".*\.cache_control<ephemeral>": (
        None,
        "OpenAI's caches need no mark; Anthropic gets one of ours for any",
    ),
    r"\.prompt_cache_(key|retention)": (None, "changes what a cache costs, and nothing of the answer"),
    r"\.modalities": ([["text"]], "text is what is answered without it"),
    r"\.(response_format|text\.format)<text>": (None, "text is what is answered without it"),
    r"\.stream_options\.include_(usage|obfuscation)": (
        None,
        "our writer's: it counts if asked, and never pads",
    ),
    r"\.store": (None, "nobody keeps it; the answer says `store: false`"),
    r"\.reasoning(_effort|\.effort)": (["none"], "to Anthropic that is said by leaving thinking out"),
    r"\.thinking<enabled>\.budget_tokens": (None, "told as an effort, in steps"),
    r"\.max_tokens": (None, "Responses takes no fewer than 16"),
    r"\.tools\[\]\.type": (["custom"], "what a tool without a type is"),
    r"\.tool_choice<allowed_tools>(\.allowed_tools|\.tools)": (
        None,
        "any dictionary to the SDK, so a made-up one",
    ),
    r"\.tool_choice<allowed_tools>\.mode": (["auto"], "the mode without one"),
    r"\.(response_format<json_schema>\.json_schema|text\.format<json_schema>\.name)": (None, "only a name"),
    r"\.text\.format<json_schema>\.strict": (None, "Messages knows no schema that isn't kept to"),
    r".*(image_url|<input_image>)\.detail": (["auto"], "the detail without one"),
    r"\.input\[\]<\w+>\.(id|status)": (None, "of the answer that the item was in"),
    r"\.input\[\]<message>\.role": (["system"], "developer and system are the same"),
    r"\.input\[\]<reasoning>\.(content|summary)\[\].*": (
        None,
        "in full and in short the same; one is carried",
    ),
    r".*\.caller<direct>": (None, "the model itself, as without it"),
}


def reviewed(path, values):
    """Whether a field's silence has its reason."""
    known = (allowed for at, (allowed, _) in REVIEWED.items() if re.fullmatch(at, path))
    return any(allowed is None or all(value in allowed for value in values) for allowed in known)


PAIRS = [
    ("openai_chat", CLAUDE),
    ("openai_chat", CODEX),
    ("anthropic_messages", GLM),
    ("anthropic_messages", GPT),
    ("anthropic_messages", CODEX),
    ("openai_responses", GLM),
    ("openai_responses", GPT),
    ("openai_responses", CLAUDE),
]
FOUND = {}


def made(client, target, body):
    whole = {"model": "auto", **WHOLE[client], **body}
    return translate(client, json.dumps(whole).encode(), target, "r", 0)


@pytest.mark.parametrize(("client", "target"), PAIRS)
def test_no_field_of_a_request_is_left_out_in_silence(client, target) -> None:
    def outcome(body):
        try:
            sent = made(client, target, body)
        except BadInput as error:
            return f"refused: {error}", ()
        return sent.body.decode(), sent.lost

    schema = schema_of(KINDS[client])
    walk = Walk(schema, outcome)
    walk.visit(schema, "", dict, ("", ()))
    assert walk.tried > 90
    FOUND[client, target] = walk.silent
    unknown = {path: values for path, values in walk.silent.items() if not reviewed(path, values)}
    assert unknown == {}, shown(unknown)


def test_no_reason_outlives_its_field() -> None:
    silent = [path for paths in FOUND.values() for path in paths]
    if len(FOUND) == len(PAIRS):  # all of them have run in this process
        assert [k for k in REVIEWED if not any(re.fullmatch(k, path) for path in silent)] == []


@pytest.mark.parametrize(
    ("client", "message", "name"),
    [
        ("openai_chat", {"audio": {"id": "audio_1"}}, "messages.audio.id"),
        (
            "openai_chat",
            {
                "tool_calls": [
                    {"id": "c", "function": SH, "extra_content": {"google": {"thought_signature": "s"}}}
                ]
            },
            "tool_calls.extra_content.google.thought_signature",
        ),
        (
            "openai_chat",
            {"tool_calls": [{"id": "c", "function": {"name": "a", "thought_signature": "s"}}]},
            "tool_calls.function.thought_signature",
        ),
        (
            "anthropic_messages",
            {"content": [{"type": "text", "text": "a", "citations": [{"encrypted_index": "s"}]}]},
            "content.text.citations.encrypted_index",
        ),
        (
            "anthropic_messages",
            {"content": [{"type": "thinking", "thinking": "a", "signature": "s"}]},
            "content.thinking.signature",
        ),
    ],
)
def test_what_only_its_maker_reads_is_named(client, message, name) -> None:
    for target in (t for c, t in PAIRS if c == client):
        said = {"role": "assistant", "content": "Hm", **message}
        assert name in made(client, target, {"messages": [*HI, said, *HI]}).lost


def test_names_are_bounded_whatever_a_client_invents() -> None:
    deep = {"a": {"b": {"c": {"d": {"e": 1}}}}}
    wide = {f"key-{n}\n{'x' * 99}": [deep] * 99 for n in range(99)}
    lost = made("openai_chat", CLAUDE, {"messages": [{"role": "user", "content": "a", **wide}]}).lost
    assert len(lost) == 40
    assert all(len(name) <= 60 and name.isprintable() for name in lost)
