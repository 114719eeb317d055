"""What a reader with a memory makes of requests, against reading each of them anew."""

import copy
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.assemble import trajectory_of
from features.cache import PrefixChain, PrefixMemory, prefix_chain, tools_seed
from features.errors import BadInput
from features.reading import PIECE_BYTES, Read, Reader
from features.trajectory import SessionTrajectories, beside
from features.wire import parse_request
from features.wire.head import read_head

DIALECTS = ("anthropic_messages", "openai_chat", "openai_responses")
# CPython 3.11 lets C code nest to 1,000 calls, 3.12 and 3.13 to 10,000, later ones as far as the stack goes.
DEPTHS = (*range(850, 1010), *range(9850, 10010), *range(20_000, 400_001, 20_000))
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
PLAIN = st.builds(
    lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "assistant"]), WORDS
)
CALLS = st.builds(  # read in every dialect, and alike in chains
    lambda n, flag: {
        "role": "tool",
        "type": "function_call_output",
        "tool_call_id": f"c{n}",
        "call_id": f"c{n}",
        "output": "failed",
        "content": [{"type": "tool_result", "tool_use_id": f"c{n}", "is_error": flag, "content": "failed"}],
    },
    st.integers(0, 3),
    st.booleans(),
)
THOUGHT = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "grow",
                "grow",
                "grow",
                "edit the last",
                "shrink",
                "edit the first",
                "edit within",
                "other tools",
                "other flags",
                "other calls",
                "other signatures",
                "marked",
                "again",
                "edit near the end",
                "one less",
            ]
        ),
        st.one_of(
            st.lists(MESSAGES, max_size=4),
            st.lists(PLAIN, max_size=6),
            st.lists(CALLS | PLAIN | st.just(THOUGHT), min_size=2, max_size=8),
        ),
        st.sampled_from([False, False, False, True]),  # the first piece stands apart
    ),
    min_size=1,
    max_size=8,
)
BREAKS = st.sampled_from([None, None, "cut", "key twice", "said twice", b"", b"]", b"}", b",", b'"', b"\xff"])
PAD = "x" * 1_100  # bodies are followed from a thousand bytes on
CHANGES = {  # in what a prefix chain leaves out
    "other flags": {"is_error": lambda flag: not flag},
    "other calls": dict.fromkeys(("id", "tool_use_id", "tool_call_id", "call_id"), lambda name: f"{name}+"),
    "other signatures": {"signature": lambda said: "" if said else "s"},
}


def changed(value, how):
    """The same value with other flags, call ids or signatures, wherever they stand."""
    if isinstance(value, list):
        return [changed(inner, how) for inner in value]
    if not isinstance(value, dict):
        return value
    return {key: how[key](inner) if key in how else changed(inner, how) for key, inner in value.items()}


def moved(said):
    """The same with markers on the last two pieces alone."""
    bare = [changed(piece, {"cache_control": lambda _: None}) for piece in said]
    return [*bare[:-2], *[marked(piece) for piece in bare[-2:]]]


def marked(piece):
    content = piece.get("content") if isinstance(piece, dict) else None
    if not isinstance(content, str):
        return piece
    return {**piece, "content": [{"type": "text", "text": content, **MARK}]}


def edited(said, step):
    """A conversation after a step that isn't only more of it."""
    half = len(said) // 2
    if step in CHANGES:
        return [changed(piece, CHANGES[step]) for piece in said]
    if step == "edit within":
        return [*said[:half], {"role": "user", "content": "other"}, *said[half + 1 :]]
    if step == "edit near the end":
        return [*said[:-3], *said[-2:]]
    ends = {"edit the last": (0, -1), "edit the first": (1, None), "shrink": (0, half), "one less": (0, -1)}
    return said[slice(*ends.get(step, (0, None)))]


def bodies(steps, system, tools, key, order):
    """The bodies of a session that mostly grows."""
    said = []
    for step, more, apart in steps:
        tools = tools[1:] if step == "other tools" else tools
        said = edited(said, step) + ([] if step in ("again", "one less") else more)
        if step == "marked":  # as clients do that move their markers along
            said = moved(said)
        body = {"pad": PAD, "model": "m", key: said, "tools": tools, "metadata": {"user_id": "u"}}
        if apart and key == "input":  # what is joined within a list is not joined across two
            body |= {"instructions": said[:1], "input": said[1:]}
        elif system is not None:
            body |= {"system": system, "instructions": system}
        if order == "said last":
            body[key] = body.pop(key)
        yield json.dumps(body).encode() if order == "spaced" else msgspec.json.encode(body)


def broken(body, how, at):
    """The same body with something wrong, or odd, in one place."""
    if how == "cut":
        return body[:at]
    if how == "key twice":
        return body[:-1] + b',"model":"n"}'
    if how == "said twice":
        return body[:-1] + b',"messages":[],"input":[]}'
    return body[:at] + how + body[at + 1 :]


def read_anew(dialect, body):
    head, request = read_head(body), parse_request(dialect, body)
    chain = prefix_chain(request.messages, tools_seed("", request.tools))
    spoken = sum(message.role == "assistant" for message in request.messages)
    return Read(head, request, chain, beside(request.messages), spoken)


def state(trajectory):
    """All that a trajectory remembers."""
    known = {name: getattr(trajectory, name) for name in trajectory.__slots__}
    return known | {"marks": [getattr(trajectory.marks, name) for name in trajectory.marks.__slots__]}


def same_trajectory(followed, read):
    """Whether a session's trajectory, gone on from, is what its request says."""
    if not isinstance(read, Read):
        return True
    so_far = followed.follow("one", read.request.messages, read.chain[0], read.aside)
    return state(so_far) == state(trajectory_of(read.request))


def or_error(read, *given):
    try:
        return read(*given)
    except BadInput as error:
        return str(error)


@given(
    st.sampled_from(DIALECTS), st.lists(st.tuples(STEPS, CONTENTS, TOOLS), min_size=1, max_size=3), st.data()
)
def test_what_is_remembered_is_what_would_be_read(dialect, sessions, data) -> None:
    reader = Reader(kept_bytes=data.draw(st.sampled_from([0, 500, 2**20, 2**20])))
    so_far = SessionTrajectories()
    key = "input" if dialect == "openai_responses" else "messages"
    for steps, system, tools in sessions:
        order = data.draw(st.sampled_from(["said first", "said last", "spaced"]))
        for body in bodies(steps, system, tools, key, order):
            read = or_error(reader.read, dialect, body)
            assert read == or_error(read_anew, dialect, body)
            assert same_trajectory(so_far, read)
            how = data.draw(BREAKS)
            if how is not None:
                odd = broken(body, how, data.draw(st.integers(len(PAD), len(body) - 1)))
                assert or_error(reader.read, dialect, odd) == or_error(read_anew, dialect, odd)


def worked(dialect, n, last, flag, name, signature):
    """A body of `n` calls with their results and more behind them; what chains leave out is given."""
    said = [{"role": "user", "content": PAD}]
    for at in range(n):
        call, done = f"{name}{at}", "Exit code 1\nfailed"
        if dialect == "anthropic_messages":
            thought = {"type": "thinking", "thinking": "hm", "signature": signature}
            use = {"type": "tool_use", "id": call, "name": "Bash", "input": {"command": "pytest"}}
            result = {"type": "tool_result", "tool_use_id": call, "is_error": flag, "content": done}
            said += [{"role": "assistant", "content": [thought, use]}, {"role": "user", "content": [result]}]
        elif dialect == "openai_chat":
            function = {"name": "Bash", "arguments": '{"command":"pytest"}'}
            thought = {"type": "thinking", "thinking": "hm", "signature": signature}
            use = {"role": "assistant", "content": "hm", "tool_calls": [{"id": call, "function": function}]}
            said += [
                {**use, "thinking_blocks": [thought]},
                {"role": "tool", "tool_call_id": call, "content": done},
            ]
        else:
            use = {
                "type": "function_call",
                "call_id": call,
                "name": "shell",
                "arguments": '{"command":["pytest"]}',
            }
            thought = {"type": "reasoning", "summary": [], "encrypted_content": signature}
            said += [thought, use, {"type": "function_call_output", "call_id": call, "output": done}]
    said += [{"role": ("assistant", "user")[at % 2], "content": "go"} for at in range(last)]
    key = "input" if dialect == "openai_responses" else "messages"
    return msgspec.json.encode({"model": "m", key: said})


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("other", [(True, "c", "s"), (False, "d", "s"), (False, "c", "")])
def test_a_history_edited_in_what_chains_leave_out_is_another(dialect, other) -> None:
    reader, sessions = Reader(), SessionTrajectories()
    first = (False, "c", "s")
    for last, given_so in ((0, first), (2, first), (4, other), (6, other), (8, first)):
        body = worked(dialect, 6, last, *given_so)
        read = reader.read(dialect, body)
        assert read == read_anew(dialect, body)
        assert same_trajectory(sessions, read)


def followed(monkeypatch, reader):
    """The stages that the reader's bodies went on from, as it reads them; None for one read whole."""
    bodies, found = reader._bodies, []
    follow = bodies.follow

    def spied(dialect, body):
        following = follow(dialect, body)
        found.append(None if following is None else following.known.stages[following.at].pieces)
        return following

    monkeypatch.setattr(bodies, "follow", spied)
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("marking", "goes_on_from"), [(False, [None, 8, 9, 12, 12, 14]), (True, [None, 4, 5, 12, 8, 10])]
)
def test_a_session_goes_on_from_the_last_piece_that_is_the_same(
    dialect, marking, goes_on_from, monkeypatch
) -> None:
    reader = Reader()
    found = followed(monkeypatch, reader)
    for n in (8, 9, 12, 12, 14, 16):
        body = session(dialect, n)
        key = "input" if dialect == "openai_responses" else "messages"
        if marking:
            body[key] = moved(body[key])
        whole = msgspec.json.encode(body)
        assert reader.read(dialect, whole) == read_anew(dialect, whole)
    assert found == goes_on_from


@given(st.sampled_from(DIALECTS), st.lists(st.tuples(STEPS, TOOLS), min_size=1, max_size=2))
def test_a_chain_that_is_remembered_stays_as_it_was(dialect, sessions) -> None:
    reader, memory, given_so = Reader(), PrefixMemory(per_session=100), []
    key = "input" if dialect == "openai_responses" else "messages"
    for steps, tools in sessions:
        for body in bodies(steps, None, tools, key, "said first"):
            read = or_error(reader.read, dialect, body)
            if isinstance(read, Read):
                memory.remember("s", read.chain, 0)
                given_so.append((read.chain, copy.deepcopy(read.chain)))
    assert all(chain == as_it_was for chain, as_it_was in given_so)
    held = [sent.chain for sent in memory._sessions.get("s", ())]
    assert all(any(chain is one for one, _ in given_so) for chain in held)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_chain_stays_as_it_was_while_its_session_grows(dialect) -> None:
    reader, memory, given_so = Reader(), PrefixMemory(), []
    for n in (8, 9, 12, 14):
        chain = reader.read(dialect, msgspec.json.encode(session(dialect, n))).chain
        given_so.append((chain, copy.deepcopy(chain)))
        memory.remember("s", chain, n)
        (sent,) = memory._sessions["s"]
        assert sent.chain is chain
        assert all(chain == as_it_was for chain, as_it_was in given_so)


def chain_calls(monkeypatch):
    """Count the messages that chains take."""
    added, add = [], PrefixChain.add
    monkeypatch.setattr(PrefixChain, "add", lambda self, message: (added.append(1), add(self, message))[1])
    return added


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_chain_goes_on_where_only_bytes_beside_the_conversation_changed(dialect, monkeypatch) -> None:
    reader = Reader()
    found, added = followed(monkeypatch, reader), chain_calls(monkeypatch)
    for n in (20, 22, 24):
        body = msgspec.json.encode(session(dialect, n, metadata={"user_id": f"{n}"}))
        read = reader.read(dialect, body)
        took = len(added)
        assert read == read_anew(dialect, body)
        assert took <= (n if n == 20 else 8)
        added.clear()
    assert found == [None, None, None]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("place", ["piece", "arguments", "tools", "metadata"])
def test_what_is_nested_too_deeply_is_refused_at_every_depth(dialect, place) -> None:
    key = "input" if dialect == "openai_responses" else "messages"
    reader, told = Reader(), set()
    for depth in DEPTHS:
        deep = "[" * depth + "]" * depth
        body = msgspec.json.encode(session(dialect, 6))
        if place == "piece":
            piece = f'{{"role":"user","content":"x","z":{deep}}}'
        elif place == "arguments":
            use = f'{{"type":"tool_use","name":"f","input":{deep}}}'
            call = f'{{"function":{{"name":"f","arguments":{deep}}}}}'
            piece = f'{{"role":"assistant","content":[{use}],"tool_calls":[{call}]}}'
            if dialect == "openai_responses":
                piece = f'{{"type":"function_call","name":"f","arguments":{deep}}}'
        else:
            said = f'{{"name":"f","z":{deep}}}'
            said = f',"also":{said}' if place == "metadata" else f',"tools":[{said}]'
            body, piece = (
                body.replace(b',"tools":[{"name":"Bash"}]', said.encode()),
                '{"role":"user","content":"x"}',
            )
        body = body.replace(f'"{key}":['.encode(), f'"{key}":[{piece},'.encode())
        for read in (reader.read, parse_request):
            error = or_error(read, dialect, body)
            told.add(error if isinstance(error, str) else "read")
    assert told <= {"read", "request body: nested too deeply", "the request body is nested too deeply"}
    assert len(told) > 1 or place == "metadata"


def session(dialect, n, **more):
    """A body of `n` pieces, long enough to be followed."""
    key = "input" if dialect == "openai_responses" else "messages"
    said = [{"role": ("user", "assistant")[at % 2], "content": f"{at} {PAD}"} for at in range(n)]
    return {"model": "m", key: said, "tools": [{"name": "Bash"}], **more}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_body_that_follows_another_is_read_from_there_on(dialect, monkeypatch) -> None:
    reader = Reader()
    found = followed(monkeypatch, reader)
    for n in (6, 8, 9, 13, 13):
        body = msgspec.json.encode(session(dialect, n, system="s", instructions="s"))
        read = reader.read(dialect, body)
        assert read == read_anew(dialect, body)
        assert {key: bytes(raw) for key, raw in read.head.values.items()} == {
            key: bytes(raw) for key, raw in read_head(body).values.items()
        }
    assert found == [None, 6, 8, 9, 13]
    assert len(reader._bodies) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_breaks_behind_a_known_beginning_is_told_as_of_a_whole_body(dialect) -> None:
    whole = msgspec.json.encode(session(dialect, 9, user="someone"))
    key = b'"input"' if dialect == "openai_responses" else b'"messages"'
    last = whole.index(b'{"role":"user","content":"8 ')
    tail = whole[whole.index(b'],"tools"') :]
    odd = [
        whole[:-1],
        whole[:-1] + b',"model":"n"}',
        whole[:-1] + b"," + key + b":[]}",
        whole[: last - 1] + tail,
        whole[:last] + tail,  # a comma with nothing behind it
        whole[:last] + b"7" + tail,
        whole[:last] + b'7],"model":[8' + tail,
        whole[:last] + b'{"role":"user","content":"\xff"}' + tail,
        whole[:last] + b'{"role":"user","content":8}' + tail,
        whole[:last] + b'{"content":"nobody"}' + tail,
        whole[:last] + b"[" * 5_000 + tail,
        whole.replace(b"someone", b"another"),
    ]
    for body in odd:
        reader = Reader()
        reader.read(dialect, whole)
        assert or_error(reader.read, dialect, body) == or_error(read_anew, dialect, body)
        assert reader.read(dialect, whole) == read_anew(dialect, whole)


def test_bodies_that_are_kept_are_bounded_by_bytes() -> None:
    reader = Reader(kept_bytes=2**20)
    for n in range(200):
        reader.read("openai_chat", msgspec.json.encode(session("openai_chat", 9, user=f"{n}")))
        assert reader._bodies._bytes <= 2**20
    assert 1 < len(reader._bodies) <= 100
    assert reader._bodies._bytes == sum(one.held for alike in reader._bodies._known.values() for one in alike)


def test_bodies_that_grow_are_counted_as_large_as_they_are_now() -> None:
    reader = Reader(kept_bytes=2**20)
    for n in (6, 9, 14, 30, 31, 80):
        for user in ("one", "another"):
            reader.read("openai_chat", msgspec.json.encode(session("openai_chat", n, user=user)))
        kept = [one for alike in reader._bodies._known.values() for one in alike]
        assert reader._bodies._bytes == sum(one.held for one in kept) <= 2**20
        assert all(one.stages[-1].pieces == n for one in kept)
    for n in range(81, 400):
        reader.read("openai_chat", msgspec.json.encode(session("openai_chat", n, user="one")))
    assert reader._bodies._bytes == sum(one.held for alike in reader._bodies._known.values() for one in alike)


def test_a_body_is_followed_in_its_own_dialect_only() -> None:
    reader, said = Reader(), {"model": "m", "messages": session("openai_chat", 12)["messages"]}
    for n in (6, 8, 12):
        body = msgspec.json.encode({**said, "messages": said["messages"][:n]})
        for dialect in ("openai_chat", "anthropic_messages"):
            assert reader.read(dialect, body) == read_anew(dialect, body)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("marking", [False, True])
def test_what_a_body_holds_is_counted_however_it_was_read(dialect, marking) -> None:
    reader, key = Reader(), "input" if dialect == "openai_responses" else "messages"
    for n in (3, 8, 9, 12, 16, 15, 18):
        body = session(dialect, n)
        if marking:
            body[key] = moved(body[key])
        reader.read(dialect, msgspec.json.encode(body))
        stages = [stage for alike in reader._bodies._known.values() for one in alike for stage in one.stages]
        assert max(stage.pieces for stage in stages) >= n
        for stage in stages:
            texts = sum(len(part.text) for message in stage.said.messages for part in message.parts)
            assert stage.held >= PIECE_BYTES * stage.pieces + texts


def test_nothing_is_remembered_without_bound() -> None:
    reader = Reader(kept_bytes=2_000)
    for n in range(1_000):
        messages = [{"role": "user", "content": f"{n} {at}"} for at in range(5)]
        reader.read(
            "openai_chat",
            msgspec.json.encode({"model": "m", "messages": messages, "tools": [{"name": str(n)}]}),
        )
    assert len(reader._young) + len(reader._old) < 150
    assert len(reader._bodies) == 0
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
