"""The scripted upstream, read by the official SDKs: turns, dialects, usage, faults."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import anthropic
import httpx2
import openai
import pytest
import uvicorn

from features.errors import BadInput
from router.scripted import (
    Fault,
    Rule,
    Script,
    Step,
    ToolCall,
    UsageOverride,
    When,
    create_upstream,
    key_digest,
    load_script,
)  # fmt: skip

LONG = "a line of context that a client repeats at every turn\n" * 200
READ = {"type": "object", "properties": {"file_path": {"type": "string"}}}
CHAT_TOOL = {"type": "function", "function": {"name": "Read", "parameters": READ}}
RESPONSES_TOOL = {"type": "function", "name": "Read", "parameters": READ, "strict": False}
CUSTOM_TOOL = {"type": "custom", "name": "apply_patch"}
MESSAGES_TOOL = {"name": "Read", "input_schema": READ}

TURNS = Script(
    steps=[
        Step(
            text="I'll read the file first, — naïve but thorough.",
            calls=[
                ToolCall(name="Read", arguments={"file_path": "{{cwd}}/calc.py", "limit": 10}),
                ToolCall(name="Read", arguments={"file_path": "{{cwd}}/test_calc.py"}),
            ],
        ),
        Step(text="Turn {{turn}} on {{model}}: {{find:ANSWER=(\\d+)}}, {{last_result}}"),
    ]
)


@contextmanager
def serve(script, **options):
    """The upstream on a loopback socket; yields its base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_upstream(script, **options), log_level="critical", lifespan="off", ws="none",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def base():
    with serve(TURNS) as url:
        yield url


@contextmanager
def clients(url, retries=0):
    with (
        anthropic.Anthropic(base_url=url, api_key="made-up", max_retries=retries) as one,
        openai.OpenAI(base_url=url + "/v1", api_key="made-up", max_retries=retries) as other,
    ):
        yield one, other


ASK = [{"role": "user", "content": "Working directory: /repo\nANSWER=42 please"}]


def test_messages_streamed_and_whole_are_the_same_turn(base):
    with clients(base) as (client, _):
        asked = {"model": "m", "max_tokens": 500, "messages": ASK, "tools": [MESSAGES_TOOL]}
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_message()
    assert [b.model_dump(exclude={"parsed_output"}) for b in final.content] == [
        b.model_dump() for b in whole.content
    ]
    assert whole.stop_reason == final.stop_reason == "tool_use"
    assert [b.input["file_path"] for b in whole.content[1:]] == ["/repo/calc.py", "/repo/test_calc.py"]
    assert len({b.id for b in whole.content[1:]}) == 2
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_messages_events_come_in_the_official_order(base):
    asked = {"model": "m", "max_tokens": 500, "messages": ASK, "tools": [MESSAGES_TOOL], "stream": True}
    events = [e for e, _ in read_sse(httpx2.post(f"{base}/v1/messages", json=asked).text)]
    assert events[:4] == ["message_start", "content_block_start", "ping", "content_block_delta"]
    assert events[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events.count("content_block_start") == events.count("content_block_stop") == 3
    assert events.count("message_start") == 1


def test_chat_streamed_and_whole_are_the_same_turn(base):
    with clients(base) as (_, client):
        asked = {"model": "m", "messages": ASK, "tools": [CHAT_TOOL]}
        whole = client.chat.completions.create(**asked).choices[0]
        with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            final = stream.get_final_completion()
    assert whole.finish_reason == final.choices[0].finish_reason == "tool_calls"
    assert whole.message.content == final.choices[0].message.content == TURNS.steps[0].text
    for one, other in zip(whole.message.tool_calls, final.choices[0].message.tool_calls, strict=True):
        assert (one.id, one.function.name, one.function.arguments) == (
            other.id, other.function.name, other.function.arguments)  # fmt: skip
    assert final.usage.total_tokens == final.usage.prompt_tokens + final.usage.completion_tokens


def test_chat_chunks_start_with_the_role_and_give_usage_only_when_asked(base):
    asked = {"model": "m", "messages": ASK, "stream": True}
    chunks = [d for _, d in read_sse(httpx2.post(f"{base}/v1/chat/completions", json=asked).text)]
    assert json.loads(chunks[0])["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1] == "[DONE]"
    assert not any("usage" in json.loads(c) for c in chunks[:-1])


def test_responses_streamed_and_whole_are_the_same_turn(base):
    with clients(base) as (_, client):
        asked = {"model": "m", "input": ASK, "tools": [RESPONSES_TOOL]}
        whole = client.responses.create(**asked)
        with client.responses.stream(**asked) as stream:
            numbers = [event.sequence_number for event in stream]
            final = stream.get_final_response()
        result = {"type": "function_call_output", "call_id": whole.output[1].call_id, "output": "hi"}
        following = client.responses.create(model="m", input=[result], previous_response_id=whole.id)
    assert numbers == list(range(len(numbers)))
    assert whole.output_text == final.output_text == TURNS.steps[0].text
    assert [i.arguments for i in whole.output[1:]] == [i.arguments for i in final.output[1:]]
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    assert following.output_text == "Turn 1 on m: , hi"  # the id of the turn before carries the count


def test_responses_freeform_tool_gets_its_text():
    script = Script(steps=[Step(calls=[ToolCall(name="apply_patch", arguments={"input": "*** Begin"})])])
    with serve(script) as url, clients(url) as (_, client):
        asked = {"model": "m", "input": "go", "tools": [CUSTOM_TOOL]}
        whole = client.responses.create(**asked).output[0]
        with client.responses.stream(**asked) as stream:
            kinds = {event.type for event in stream}
    assert (whole.type, whole.input) == ("custom_tool_call", "*** Begin")
    assert "response.custom_tool_call_input.done" in kinds


def test_the_turn_is_counted_in_the_conversation_and_the_end_is_reached(base):
    with clients(base) as (one, other):
        later = [*ASK, {"role": "assistant", "content": "x"}, {"role": "user", "content": "more"}]
        reply = one.messages.create(model="m", max_tokens=500, messages=later)
        assert reply.content[0].text == "Turn 1 on m: 42, "
        much_later = [*later, *later[1:], *later[1:]]
        answer = other.chat.completions.create(model="m", messages=much_later, tools=[CHAT_TOOL])
        assert answer.choices[0].finish_reason == "stop"
        result = {"type": "tool_result", "tool_use_id": "t", "content": "ok 1"}
        results = [*later[:-1], {"role": "user", "content": [result]}]
        reply = one.messages.create(model="m", max_tokens=500, messages=results)
        assert reply.content[0].text == "Turn 1 on m: 42, ok 1"


def test_thinking_travels_in_each_dialect():
    with (
        serve(Script(steps=[Step(thinking="let me think", text="yes")])) as url,
        clients(url) as (one, other),
    ):
        asked = {"model": "m", "max_tokens": 500, "messages": ASK}
        with one.messages.stream(**asked) as stream:
            block = stream.get_final_message().content[0]
        assert (block.type, block.thinking) == ("thinking", "let me think")
        assert block.signature == one.messages.create(**asked).content[0].signature != ""
        with other.responses.stream(model="m", input="go") as stream:
            answer = stream.get_final_response()
        assert answer.output[0].summary[0].text == "let me think"
        assert answer.usage.output_tokens_details.reasoning_tokens == 3
        used = other.chat.completions.create(model="m", messages=ASK).usage
        assert used.completion_tokens_details.reasoning_tokens == 3


def test_cached_tokens_grow_along_a_conversation_and_belong_to_a_key_and_model():
    with serve(Script(steps=[Step(text="ok")])) as url, clients(url) as (_, client):
        first = [{"role": "system", "content": LONG}, *ASK]
        second = [*first, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "go on"}]

        def cached(messages, model="m", key="made-up"):
            made = client.with_options(api_key=key).chat.completions.create(model=model, messages=messages)
            return made.usage.prompt_tokens_details.cached_tokens

        assert cached(first) == 0
        assert cached(second) > len(LONG) // 5
        assert cached(second, model="n") == 0
        assert cached(second, key="other") == 0


def test_messages_caches_what_is_marked_even_when_the_marker_moves():
    mark = {"cache_control": {"type": "ephemeral"}}
    with serve(Script(steps=[Step(text="ok")])) as url, clients(url) as (client, _):

        def usage(system_mark, messages):
            system = [{"type": "text", "text": LONG, **system_mark}]
            return client.messages.create(model="m", max_tokens=9, system=system, messages=messages).usage

        last = [{"role": "user", "content": [{"type": "text", "text": "go", **mark}]}]
        written = usage(mark, ASK)
        read = usage({}, [*ASK, {"role": "assistant", "content": "ok"}, *last])
        unmarked = usage({}, ASK)
    assert written.cache_creation_input_tokens > 2000
    assert written.cache_creation.ephemeral_5m_input_tokens == written.cache_creation_input_tokens
    assert written.cache_read_input_tokens == 0
    assert read.cache_read_input_tokens == written.cache_creation_input_tokens
    assert read.cache_creation_input_tokens > 0
    assert (unmarked.cache_read_input_tokens, unmarked.cache_creation_input_tokens) == (0, 0)


def test_usage_can_be_set():
    script = Script(steps=[Step(text="ok", usage=UsageOverride(uncached=7, cached=5, output=3))])
    with serve(script) as url, clients(url) as (_, client):
        used = client.responses.create(model="m", input="go").usage
    assert (used.input_tokens, used.input_tokens_details.cached_tokens, used.output_tokens) == (12, 5, 3)


def test_rules_models_and_other_tool_names_choose_the_step():
    other = [ToolCall(name="bash", arguments={"command": "ls"})]
    script = Script(
        steps=[Step(text="main", calls=[ToolCall(name="Bash", arguments={}, otherwise=other)])],
        models={"*haiku*": [Step(text="small")]},
        rules=[Rule(when=When(no_tools=True, contains="title"), steps=[Step(text="A title")])],
    )
    with serve(script) as url, clients(url) as (_, client):

        def said(model, text, tools):
            made = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": text}], tools=tools
            )
            return made.choices[0].message

        shell = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]
        assert said("opus", "write a title", openai.omit).content == "A title"
        assert said("claude-haiku-4", "go", shell).content == "small"
        assert said("opus", "go", shell).tool_calls[0].function.name == "bash"


def test_max_tokens_cuts_the_text(base):
    with clients(base) as (client, _):
        later = [*ASK, {"role": "assistant", "content": "x"}, *ASK]
        reply = client.messages.create(model="m", max_tokens=2, messages=later)
    assert (reply.stop_reason, len(reply.content[0].text), reply.usage.output_tokens) == ("max_tokens", 8, 2)


def test_count_tokens_and_models(base):
    with clients(base) as (one, other):
        assert one.messages.count_tokens(model="m", messages=ASK).input_tokens > 10
        listed = ["scripted-large", "scripted-small"]
        assert [m.id for m in one.models.list()] == [m.id for m in other.models.list()] == listed


def faulty(**fault):
    return Script(steps=[Step(text="some words that take a few events to say", fault=Fault(**fault))])


def test_an_error_status_is_each_sdks_own_error_and_tries_are_counted():
    with serve(faulty(status=429, retry_after_s=0, times=1)) as url:
        with clients(url) as (one, other):
            with pytest.raises(anthropic.RateLimitError):
                one.messages.create(model="m", max_tokens=9, messages=ASK)
            with pytest.raises(openai.RateLimitError) as caught:
                other.chat.completions.create(model="m", messages=ASK)
            assert caught.value.response.headers["retry-after"] == "0"
        with clients(url, retries=1) as (one, _):
            assert one.messages.create(model="other", max_tokens=9, messages=ASK).content
    with (
        serve(faulty(status=529)) as url,
        clients(url) as (one, _),
        pytest.raises(anthropic.APIStatusError) as e,
    ):
        one.messages.create(model="m", max_tokens=9, messages=ASK)
    assert e.value.body["error"]["type"] == "overloaded_error"


STREAMED = {"model": "m", "messages": ASK, "stream": True, "max_tokens": 500}


@pytest.mark.parametrize("after", [None, 0, 2])
def test_a_dropped_connection_is_a_transport_error(after):
    with serve(faulty(then="drop", after_events=after)) as url:
        seen = b""

        def read():
            nonlocal seen
            with httpx2.stream("POST", f"{url}/v1/messages", json=STREAMED) as response:
                for chunk in response.iter_raw():
                    seen += chunk

        with pytest.raises(httpx2.TransportError):
            read()
        assert seen.count(b"event:") == (after or 0)
        with pytest.raises(httpx2.TransportError):
            httpx2.post(f"{url}/v1/messages", json={**STREAMED, "stream": False})


def test_a_stream_can_end_without_its_terminal_event():
    with serve(faulty(then="end", after_events=3)) as url:
        for path in ("messages", "chat/completions"):
            text = httpx2.post(f"{url}/v1/{path}", json=STREAMED).text
            assert len(read_sse(text)) == 3
            assert "message_stop" not in text
            assert "[DONE]" not in text


def test_garbage_and_error_events_in_the_middle():
    with serve(faulty(then="garbage", after_events=3)) as url:
        text = httpx2.post(f"{url}/v1/messages", json=STREAMED).content
        assert b"not an event" in text
        assert b"message_stop" in text
    with serve(faulty(then="error", after_events=3, error_type="overloaded_error")) as url:
        assert read_sse(httpx2.post(f"{url}/v1/messages", json=STREAMED).text)[-1][0] == "error"
        with clients(url) as (_, client), pytest.raises(openai.APIError):
            list(client.chat.completions.create(**STREAMED))


def test_a_stalled_stream_notices_that_the_client_left():
    with (
        serve(faulty(then="stall", after_events=1)) as url,
        httpx2.stream("POST", f"{url}/v1/messages", json=STREAMED) as response,
    ):
        assert b"message_start" in next(response.iter_raw())
    # leaving the block closes the connection; the server's shutdown would hang if it hadn't noticed


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "JSON"),
        (b"[]", "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": 3}', "messages"),
        (b'{"model": "m", "messages": [{"role": "user", "content": ["bare"]}]}', "shape"),
        (b'{"model": "m", "messages": [], "tools": ["bare"]}', "shape"),
    ],
)
def test_a_bad_request_is_a_400_in_the_dialects_own_words(base, body, says):
    for path in ("messages", "chat/completions", "messages/count_tokens"):
        answer = httpx2.post(f"{base}/v1/{path}", content=body)
        assert answer.status_code == 400
        assert says in answer.json()["error"]["message"]


def test_what_arrived_is_told_without_keys_or_bodies(tmp_path):
    with serve(Script(), record=tmp_path / "seen") as url, clients(url) as (client, _):
        client.messages.create(model="m", max_tokens=9, messages=ASK, extra_headers={"x-team": "blue"})
        (entry,) = httpx2.get(f"{url}/_requests").json()
        assert httpx2.delete(f"{url}/_requests").json() == []
        assert httpx2.get(f"{url}/_requests").json() == []
    kept = (tmp_path / "seen" / "0000.json").read_bytes()
    assert key_digest("made-up") in entry["headers"].values()
    assert "made-up" not in json.dumps(entry)
    assert entry["headers"]["x-team"] == "blue"
    assert (entry["path"], entry["bytes"], entry["turn"], entry["status"]) == (
        "/v1/messages",
        len(kept),
        0,
        200,
    )


async def test_the_same_request_gets_the_same_bytes_in_process_too():
    async def ask():
        transport = httpx2.ASGITransport(create_upstream(TURNS))
        async with httpx2.AsyncClient(transport=transport, base_url="http://upstream") as client:
            return (
                await client.post("/v1/responses", json={"model": "m", "input": "x", "stream": True})
            ).content

    one, other = await asyncio.gather(ask(), ask())
    assert one == other
    assert b"response.completed" in one


@pytest.mark.parametrize("name", ["claude_code_fix", "codex_fix"])
def test_the_shipped_scripts_end_with_text(name):
    script = load_script(name)
    assert script.steps[-1].text
    assert not script.steps[-1].calls
    assert all(step.calls for step in script.steps[:-1])


def test_a_bad_script_is_one_line(tmp_path):
    file = tmp_path / "script.json"
    file.write_text('{"steps": [{"txt": "typo"}]}')
    with pytest.raises(BadInput, match="txt"):
        load_script(file)
    with pytest.raises(BadInput, match="nowhere"):
        load_script("nowhere")


def test_the_command_prints_its_url_first():
    command = [sys.executable, "-m", "router.scripted", "--script", "codex_fix"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        try:
            assert httpx2.get(f"{url}/v1/models").json()["data"][0]["id"] == "gpt-5.2-codex"
        finally:
            process.terminate()


def read_sse(text):
    """(event name, data) of each event of a stream."""
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if lines:
            events.append((lines.get("event"), lines["data"]))
    return events
