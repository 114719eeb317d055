"""State that only its provider can read: who holds it answers, and nobody else is ever shown it."""

import json

import httpx2
import pytest
from router_servers import NOW_MS, journal_of, wait_for
from router_turns import asked_at, routing

from features.assemble import facts_of
from features.wire import parse_request
from router.gateway.translate import Target, Untranslatable, translate

OPAQUE = "b3BhcXVlIHRvIGFsbCBidXQgaXRzIG1ha2Vy"
HI = {"role": "user", "content": "Hi"}
MORE = {"role": "user", "content": "Go on"}
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "anthropic_messages": "/v1/messages",
    "openai_responses": "/v1/responses",
}


def messages(*assistant, **more):
    talk = [HI, {"role": "assistant", "content": [*assistant, {"type": "text", "text": "Ho"}]}, MORE]
    return "anthropic_messages", {"max_tokens": 900, "messages": talk, **more}


def chat(assistant=(), user=()):
    said = {"role": "assistant", "content": "Ho", **dict(assistant)}
    asked = {"role": "user", "content": [{"type": "text", "text": "Go on"}, *user]}
    return "openai_chat", {"messages": [HI, said, asked]}


def responses(*items, **more):
    said = {"role": "assistant", "content": "Ho"}
    return "openai_responses", {"input": [HI, *items, said, MORE], "store": False, **more}


SIGNED = {"type": "thinking", "thinking": "hm", "signature": OPAQUE}
FILE = {"type": "file", "file_id": f"file_{OPAQUE}"}
SUMMED = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
FOUND = {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": OPAQUE}
CITED = {"type": "web_search_result_location", "url": "u", "encrypted_index": OPAQUE}
CALL = {"id": "c", "type": "function", "function": {"name": "n", "arguments": "{}"}}
SIGNED_CALL = {"google": {"thought_signature": OPAQUE}}
STATE = {
    "signed thinking": messages(SIGNED),
    "redacted thinking": messages({"type": "redacted_thinking", "data": OPAQUE}),
    "a picture kept there": messages({"type": "image", "source": FILE}),
    "a document kept there": messages({"type": "document", "source": FILE}),
    "a container": messages(container=f"container_{OPAQUE}"),
    "signed details": chat({"reasoning_details": [{"type": "reasoning.encrypted", "data": OPAQUE}]}),
    "a file kept there": chat(user=[{"type": "file", "file": {"file_id": f"file_{OPAQUE}"}}]),
    "encrypted reasoning": responses({**SUMMED, "encrypted_content": OPAQUE}),
    "reasoning kept there": responses(SUMMED),
    "an earlier answer": responses(previous_response_id=f"resp_{OPAQUE}"),
    "a conversation": responses(conversation=f"conv_{OPAQUE}"),
    "a prompt": responses(prompt={"id": f"pmpt_{OPAQUE}"}),
    "a reference": responses({"type": "item_reference", "id": f"rs_{OPAQUE}"}),
    "a compaction": responses({"type": "compaction", "encrypted_content": OPAQUE}),
    "an input file": responses({"role": "user", "content": [{"type": "input_file", "file_id": OPAQUE}]}),
    "an input image": responses({"role": "user", "content": [{"type": "input_image", "file_id": OPAQUE}]}),
    "an encrypted search": messages(
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [FOUND]},
    ),
    "a summary of its own": messages({"type": "compaction", "content": OPAQUE}),
    "a compaction's summary": responses({"type": "compaction_summary", "encrypted_content": OPAQUE}),
    "a context's compaction": responses({"type": "context_compaction", "encrypted_content": OPAQUE}),
    "a vector store": responses(tools=[{"type": "file_search", "vector_store_ids": [OPAQUE]}]),
    "a code container": responses(tools=[{"type": "code_interpreter", "container": f"cntr_{OPAQUE}"}]),
}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document", "source": FILE}]}
NESTED = {  # and what a translation leaves out without a word
    "an encrypted citation": messages({"type": "text", "text": "a", "citations": [CITED]}),
    "an id of speech": chat({"audio": {"id": OPAQUE}}),
    "a signed call": chat({"tool_calls": [{**CALL, "extra_content": SIGNED_CALL}]}),
    "a result's document": (
        "anthropic_messages",
        {"max_tokens": 9, "messages": [HI, {"role": "user", "content": [RESULT]}, MORE]},
    ),
    "a tool's file": (
        "openai_chat",
        {"messages": [HI, {"role": "tool", "tool_call_id": "c", "content": [{"file": FILE}]}, MORE]},
    ),
    "an output's file": responses(
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_file", "file_id": OPAQUE}],
        }
    ),
    "a screenshot kept there": responses(
        {"type": "computer_call_output", "call_id": "c", "output": {"file_id": OPAQUE}}
    ),
}
FREE = {"messages": messages(), "chat": chat(), "responses": responses()}
every_state = pytest.mark.parametrize("state", STATE)


def bound(dialect, body):
    request = parse_request(dialect, json.dumps({"model": "auto", **body}).encode())
    return facts_of(request).provider_bound == 1


@every_state
def test_what_only_its_provider_has_is_seen(state) -> None:
    assert bound(*STATE[state])


@pytest.mark.parametrize("state", NESTED)
def test_what_only_its_provider_has_is_seen_further_in(state) -> None:
    assert bound(*NESTED[state])


def test_a_call_that_names_such_a_thing_is_free() -> None:
    arguments = {"type": "tool_use", "id": "t", "name": "n", "input": {"file_id": "f", "signature": "s"}}
    assert not bound(*messages(arguments))
    schema = {"type": "object", "properties": {"vector_store_ids": {"type": "array"}}}
    assert not bound(*responses(tools=[{"type": "function", "name": "n", "parameters": schema}]))


@pytest.mark.parametrize("dialect", FREE)
def test_what_anybody_can_read_is_free(dialect) -> None:
    assert not bound(*FREE[dialect])


@every_state
@pytest.mark.parametrize("upstream", PATHS)
def test_no_other_dialect_is_ever_shown_it(state, upstream) -> None:
    client, body = STATE[state]
    if client == upstream:
        return
    made, refusal = told(client, body, Target(upstream, "somebody", "m"))
    if made is None:
        assert OPAQUE not in refusal
        return
    assert OPAQUE.encode() not in made.body
    assert b'"Ho"' in made.body
    # Of some there is a text that anybody can read, and that some dialects have a place for.
    assert made.lost or (state in ("signed thinking", "reasoning kept there") and b'"hm"' in made.body)


def told(client, body, target):
    asked = json.dumps({"model": "m", **body}).encode()
    try:
        return translate(client, asked, target, "r", NOW_MS // 1000), ""
    except Untranslatable as refused:
        return None, str(refused)


def ask(server, dialect, body, **headers):
    asked = {"model": "auto", **body}
    return httpx2.post(f"{server.url}{PATHS[dialect]}", json=asked, headers=headers, timeout=30)


def locks(folder, answer):
    name = answer.headers["x-samediff-request-id"]

    def found():
        return [r for k, r in journal_of(folder) if k == "decision" and r["request_id"] == name]

    return wait_for(found)[0].get("locks")


@every_state
def test_an_unknown_conversation_with_it_goes_to_the_reference_of_its_dialect(
    state, server, server_folder
) -> None:
    dialect, body = STATE[state]
    reference = server.gateway.decider.catalog.aliases["auto"].reference[dialect]
    answer = ask(server, dialect, body)
    assert answer.headers["x-samediff-candidate"] == reference
    assert locks(server_folder, answer) == ["provider_bound"]
    assert answer.headers["x-samediff-deployment"].endswith(dialect)


@pytest.fixture(scope="module")
def server_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bound")


@pytest.fixture(scope="module")
def server(server_folder, bundle_folder):
    with routing(server_folder, bundle_folder, {"steps": [{"text": "Ho"}]}, ("glm-5",)) as started:
        yield started


THINKS = {"steps": [{"text": "Ho", "thinking": "Let me think."}]}
# client's dialect, who answers first, who would answer next, whether what was said binds it
CONVERSATIONS = [
    ("anthropic_messages", "claude-haiku-5-5", "claude-sonnet-5-5", True),
    ("anthropic_messages", "claude-haiku-5-5", "gpt-5.4", True),
    ("anthropic_messages", "gpt-5.4", "claude-haiku-5-5", False),
    ("anthropic_messages", "qwen3.5-plus", "claude-haiku-5-5", False),
    ("openai_responses", "gpt-5.4", "gpt-5.4-mini", True),
    ("openai_responses", "gpt-5.4", "claude-haiku-5-5", True),
    ("openai_responses", "claude-haiku-5-5", "gpt-5.4", False),
    ("openai_responses", "glm-5", "gpt-5.4", False),
    ("openai_chat", "glm-5", "claude-haiku-5-5", False),
    ("openai_chat", "claude-haiku-5-5", "glm-5", False),
]


@pytest.mark.parametrize(("dialect", "first", "second", "binds"), CONVERSATIONS)
def test_a_thought_binds_its_conversation_to_who_had_it_and_a_translated_one_to_nobody(
    dialect, first, second, binds, bundle_folder, tmp_path
) -> None:
    with routing(tmp_path, bundle_folder, THINKS, (first, second), lambda _: True) as server:
        if dialect == "openai_responses":
            more = {"store": False, "include": ["reasoning.encrypted_content"]}
            told = ask(server, dialect, {"input": [HI], **more}).json()
            body = {"input": [HI, *told["output"], MORE], **more}
        elif dialect == "openai_chat":
            told = ask(server, dialect, {"messages": [HI]}).json()
            body = {"messages": [HI, told["choices"][0]["message"], MORE]}
        else:
            told = ask(server, dialect, {"messages": [HI], "max_tokens": 900}).json()
            said = {"role": "assistant", "content": told["content"]}
            body = {"messages": [HI, said, MORE], "max_tokens": 900}
        answer = ask(server, dialect, body)
        assert answer.status_code == 200
        assert answer.headers["x-samediff-candidate"] == (first if binds else second)
        assert (locks(tmp_path, answer) == ["provider_bound"]) == binds
        assert len(asked_at(server.upstream)) == 2
