"""What a reader with a memory makes of requests, against reading each of them anew."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.cache import prefix_chain, tools_seed
from features.errors import BadInput
from features.reading import Reader
from features.wire import parse_request

DIALECTS = ("anthropic_messages", "openai_chat", "openai_responses")
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
WORDS = st.sampled_from(["", "a", "fix it", "naïve 💡", "\x00", "x" * 300])
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "developer", "who"])
BLOCKS = st.one_of(
    st.builds(lambda text, mark: {"type": "text", "text": text, **mark}, WORDS, st.sampled_from([{}, MARK])),
    st.builds(lambda n, text: {"type": "tool_use", "id": f"c{n}", "name": "Bash", "input": {"command": text}},
              st.integers(0, 3), WORDS),
    st.builds(lambda n, text, mark: {"type": "tool_result", "tool_use_id": f"c{n}", "is_error": n > 1,
                                     "content": [{"type": "text", "text": text, **mark}]},
              st.integers(0, 3), WORDS, st.sampled_from([{}, MARK])),
    st.builds(lambda text: {"type": "image", "source": {"data": text}}, WORDS),
    st.sampled_from([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": 7}, "bare", None]),
)  # fmt: skip
CONTENTS = st.one_of(WORDS, st.none(), st.lists(BLOCKS, max_size=3))
MESSAGES = st.one_of(
    st.builds(lambda role, content: {"role": role, "content": content}, ROLES, CONTENTS),
    st.builds(
        lambda n, text: {"role": "tool", "tool_call_id": f"c{n}", "content": text}, st.integers(0, 3), WORDS
    ),
    st.builds(lambda n, text: {"type": "function_call_output", "call_id": f"c{n}", "output": text},
              st.integers(0, 3), WORDS),
    st.builds(lambda n, text: {"type": "function_call", "call_id": f"c{n}", "arguments": text, "role": "x"},
              st.integers(0, 3), WORDS),
    st.sampled_from([{"content": "nobody"}, 7, {"role": "user", "content": 8}]),
)  # fmt: skip
TOOLS = st.lists(
    st.sampled_from([{"name": "Bash"}, {"name": "Read", **MARK}, {"function": {"name": "f"}}, {}]), max_size=2
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grow", "grow", "grow", "edit the last", "shrink", "edit the first", "other tools"]),
        st.lists(MESSAGES, max_size=4),
    ),
    min_size=1,
    max_size=8,
)


def bodies(steps, system, tools):
    """The bodies of a session that mostly grows."""
    said = []
    for step, more in steps:
        if step == "edit the last":
            said = said[:-1]
        elif step == "edit the first":
            said = said[1:]
        elif step == "shrink":
            said = said[: len(said) // 2]
        elif step == "other tools":
            tools = tools[1:]
        said = [*said, *more]
        body = {"model": "m", "messages": said, "input": said, "tools": tools}
        if system is not None:
            body |= {"system": system, "instructions": system}
        yield msgspec.json.encode(body)


def read_anew(dialect, body):
    request = parse_request(dialect, body)
    return request, prefix_chain(request.messages, tools_seed("", request.tools))


def or_error(read, *given):
    try:
        return read(*given)
    except BadInput as error:
        return str(error)


@given(
    st.sampled_from(DIALECTS), st.lists(st.tuples(STEPS, CONTENTS, TOOLS), min_size=1, max_size=3), st.data()
)
def test_what_is_remembered_is_what_would_be_read(dialect, sessions, data) -> None:
    reader = Reader(kept_bytes=data.draw(st.sampled_from([0, 500, 2**20])), kept_messages=20)
    for steps, system, tools in sessions:
        for body in bodies(steps, system, tools):
            assert or_error(reader.read, dialect, body) == or_error(read_anew, dialect, body)


def test_nothing_is_remembered_without_bound() -> None:
    reader = Reader(kept_bytes=2_000, kept_messages=50)
    for n in range(1_000):
        messages = [{"role": "user", "content": f"{n} {at}"} for at in range(5)]
        reader.read(
            "openai_chat",
            msgspec.json.encode({"model": "m", "messages": messages, "tools": [{"name": str(n)}]}),
        )
    assert len(reader._young) + len(reader._old) < 150
    assert len(reader._grown) <= 10
    assert len(reader._tools) <= 256


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_piece_that_is_no_json_is_told_of_at_its_place_in_the_body(dialect) -> None:
    said = b'[{"role":"user","content":"\xff"}]'
    body = b'{"model":"m","messages":%b,"input":%b}' % (said, said)
    for read in (parse_request, Reader().read):
        with pytest.raises(BadInput, match="not JSON: invalid UTF-8"):
            read(dialect, body)
