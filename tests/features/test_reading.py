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
        st.sampled_from(
            ["grow", "grow", "grow", "edit the last", "shrink", "edit the first", "other tools", "apart"]
        ),
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
        if step == "apart":  # what is joined within a list is not joined across two
            body |= {"instructions": said[:1], "input": said[1:]}
        elif system is not None:
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


def test_pieces_that_stand_apart_once_and_joined_once_have_two_chains() -> None:
    said = [
        {"role": role, "content": str(n)} for n, role in enumerate(["assistant", *["assistant", "user"] * 3])
    ]
    apart = msgspec.json.encode({"model": "m", "instructions": said[:1], "input": said[1:]})
    joined = msgspec.json.encode({"model": "m", "input": said})
    for order in ((apart, joined), (joined, apart)):
        reader = Reader()
        for body in order:
            assert reader.read("openai_responses", body) == read_anew("openai_responses", body)


def test_what_is_held_counts_and_not_what_was_sent() -> None:
    reader = Reader(kept_bytes=2**20)
    for n in range(30):
        blocks = [f"{n}", *["a"] * 200]
        body = {"model": "m", "messages": [{"role": "user", "content": blocks}]}
        reader.read("anthropic_messages", msgspec.json.encode(body))
    assert len(reader._young) < 25
    vast = {"model": "m", "messages": [{"role": "user", "content": ["a"] * 2_000}]}
    before = len(reader._young)
    reader.read("anthropic_messages", msgspec.json.encode(vast))
    assert len(reader._young) == before


def test_sets_of_tools_are_bounded_by_their_bytes_too() -> None:
    reader = Reader(kept_bytes=2**20)
    for n in range(20):
        tools = [{"name": f"t{n}", "description": "x" * 100_000}]
        body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": tools}
        reader.read("openai_chat", msgspec.json.encode(body))
    assert len(reader._tools) == 5


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_message_of_too_many_blocks_is_refused_by_its_place(dialect) -> None:
    said = [{"role": "user", "content": [0] * 100_001}]
    key = "input" if dialect == "openai_responses" else "messages"
    with pytest.raises(BadInput, match=rf"`{key}\[0\].content` has 100001 entries; 100000 are let in"):
        parse_request(dialect, msgspec.json.encode({"model": "m", key: said}))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_piece_that_is_no_json_is_told_of_at_its_place_in_the_body(dialect) -> None:
    said = b'[{"role":"user","content":"\xff"}]'
    body = b'{"model":"m","messages":%b,"input":%b}' % (said, said)
    for read in (parse_request, Reader().read):
        with pytest.raises(BadInput, match="not JSON: invalid UTF-8"):
            read(dialect, body)
