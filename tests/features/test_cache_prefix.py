"""Chains of message hashes: equal prefixes, whatever the cache markers say, and a bounded memory of them."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import wire
from features.cache import PrefixChain, PrefixMemory, prefix_chain, shared_messages, tools_seed
from features.cache.prefixes import goes_on
from features.wire.types import Message, Part

HELLO = Message(role="user", parts=(Part(kind="text", text="hello"),))
parts = st.builds(
    Part,
    kind=st.sampled_from(["text", "tool_call", "tool_result", "image"]),
    text=st.text(alphabet="ab|1,é", max_size=4),
    name=st.sampled_from([None, "a", "b"]),
    digest=st.integers(0, 2),
)
messages = st.lists(
    st.builds(
        Message, role=st.sampled_from(["user", "assistant"]), parts=st.lists(parts, max_size=3).map(tuple)
    ),
    max_size=8,
)


def common(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


@settings(max_examples=120, deadline=None)
@given(messages, messages, st.integers(0, 8))
def test_shared_prefix_is_the_longest_common_one(first, second, cut):
    second = first[:cut] + second
    now, earlier = prefix_chain(first), prefix_chain(second)
    n = common(first, second)
    assert shared_messages(now[0], earlier[0]) == n
    assert goes_on(now[0], earlier[0]) == (n == len(second))
    assert list(now[1]) == [sum(p.bytes for m in first[: i + 1] for p in m.parts) for i in range(len(first))]
    memory = PrefixMemory()
    memory.remember("s", earlier, 0)
    assert memory.lookup("s", now, 0)[0] == (now[1][n - 1] if n else 0)


def held(chain):
    return chain.hashes, chain.sizes


@settings(max_examples=120, deadline=None)
@given(messages, messages.filter(bool), messages)
def test_a_chain_without_its_last_message_goes_on_as_if_that_had_not_been(first, more, other) -> None:
    before = PrefixChain("s").with_more(first)
    whole = before.with_more(more)
    without = whole.without_last()
    assert held(without) == prefix_chain(first + more[:-1], "s")
    assert held(without.with_more(other)) == prefix_chain(first + more[:-1] + other, "s")
    assert held(before) == prefix_chain(first, "s")
    assert held(whole) == prefix_chain(first + more, "s")


@pytest.mark.parametrize(
    "chain",
    [
        PrefixChain(),
        PrefixChain().with_more(()),
        PrefixChain().with_more([HELLO]).without_last(),
        PrefixChain().with_more([HELLO, HELLO]).without_last(),
        PrefixChain().with_more([HELLO, HELLO]).without_last().with_more(()),
    ],
    ids=["empty", "of nothing", "to none", "to one", "twice"],
)
def test_a_chain_whose_state_before_the_last_message_is_not_known_is_not_cut(chain) -> None:
    with pytest.raises(AssertionError, match="before its last message"):
        chain.without_last()


@given(messages.filter(bool))
def test_a_seed_parts_chains_from_the_start(session):
    assert shared_messages(prefix_chain(session, "a")[0], prefix_chain(session, "b")[0]) == 0


def test_markers_and_noise_do_not_matter():
    plain = {"role": "user", "content": "hi"}
    block = {"type": "text", "text": "hi"}
    marked = {"role": "user", "content": [{**block, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}
    result = {"type": "tool_result", "tool_use_id": "1", "content": "out"}
    chains = [
        prefix_chain(wire.messages_from("anthropic_messages", session))
        for session in (
            [plain, {"role": "user", "content": [result]}],
            [marked, {"role": "user", "content": [{**result, "content": [{"type": "text", "text": "out"}]}]}],
            [marked, {"role": "user", "content": [{**result, "cache_control": {"type": "ephemeral"}}]}],
        )
    ]
    assert chains[0] == chains[1] == chains[2]
    other = wire.messages_from("anthropic_messages", [plain, {"role": "user", "content": "else"}])
    assert shared_messages(chains[0][0], prefix_chain(other)[0]) == 1


def test_two_images_are_not_one():
    def session(data):
        return wire.messages_from(
            "anthropic_messages", [{"role": "user", "content": [{"type": "image", "source": {"data": data}}]}]
        )

    assert prefix_chain(session("a")) != prefix_chain(session("b"))


def test_tools_and_model_are_the_seed():
    def seed(model, *tools):
        body = {"model": model, "messages": [], "tools": [{"name": t} for t in tools]}
        request = wire.parse_request("anthropic_messages", msgspec.json.encode(body))
        return tools_seed(request.model, request.tools)

    assert len({seed("m"), seed("m", "a"), seed("m", "a", "b"), seed("m", "b", "a"), seed("n", "a")}) == 5


def said(*texts):
    return prefix_chain([Message(role="user", parts=(Part(kind="text", text=t),)) for t in texts])


def test_memory_finds_the_longest_and_its_age():
    memory = PrefixMemory()
    assert memory.lookup("s", said("a"), 0) == (0, 0.0, None)
    memory.remember("s", said("aa", "bb"), 1_000)
    assert memory.lookup("s", said("aa", "bb", "cccc"), 4_000) == (4, 0.5, 3_000)
    assert memory.lookup("t", said("aa", "bb"), 4_000) == (0, 0.0, None)
    assert memory.lookup(None, said("aa", "bb"), 4_000) == (0, 0.0, None)
    memory.remember("s", said("title?"), 2_000)  # a side call doesn't push the main thread out
    memory.remember("s", said("aa", "bb", "cccc"), 5_000)
    assert memory.lookup("s", said("aa", "bb", "x"), 6_000) == (4, 0.8, 1_000)
    assert memory.n_messages == 4


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=40))
def test_memory_is_bounded(calls):
    memory = PrefixMemory(max_messages=20, per_session=3, max_sessions=4)
    there = set()
    for session, length in calls:
        there.add(f"s{session}")
        said_so_far = said(*(f"{session}{length}{i}" for i in range(length)))
        there -= set(memory.remember(f"s{session}", said_so_far, 0))
        assert set(memory._sessions) == there  # what is let go of is said
        assert len(memory) <= 4
    assert memory.n_messages <= 20
    assert memory.n_messages == sum(len(s.chain[0]) for kept in memory._sessions.values() for s in kept)
