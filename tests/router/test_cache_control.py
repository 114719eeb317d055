"""Cache control for clients that do without: what is put in, where, how much, and when nothing is."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_servers import NOW_MS

from features.wire import parse_request
from features.wire.head import read_head
from router.catalog import Catalog
from router.cost import Asked, asked_by, cache_rules
from router.gateway.breakpoints import breakpoints
from router.gateway.cachecontrol import BREAKPOINTS, Prompt, added, bucket_of
from router.gateway.splice import with_model

MARK = {"cache_control": {"type": "ephemeral"}}
LOOKBACK, MOST = 20, 4

texts = st.one_of(
    st.sampled_from(["", "  \n", "go on", '"cache_control"', "a\\u0000 \"}]', é"]), st.text(max_size=30)
)
blocks = st.one_of(
    texts.map(lambda t: {"type": "text", "text": t}),
    texts.map(lambda t: {"type": "thinking", "thinking": t, "signature": "s"}),
    texts.map(lambda t: {"type": "tool_result", "tool_use_id": "c", "content": t}),
    st.just({"type": "image", "source": {"type": "base64", "data": "AAAA"}}),
    st.just({"type": "made_up"}),
)
contents = st.one_of(texts, st.lists(blocks, max_size=25))
bodies = st.fixed_dictionaries(
    {
        "model": st.just("auto"),
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "assistant", "system"]), "content": contents}
            ),
            max_size=12,
        ),
    },
    optional={
        "system": st.one_of(texts, st.lists(texts.map(lambda t: {"type": "text", "text": t}), max_size=3)),
        "tools": st.lists(st.just({"name": "sh", "input_schema": {"type": "object"}}), max_size=2),
        "max_tokens": st.integers(1, 9),
    },
)


def marked(body, most=MOST):
    """The body as it goes out, and its markers."""
    raw = json.dumps(body, indent=None if len(body) % 2 else 1, ensure_ascii=False).encode()
    head = read_head(raw)
    markers = breakpoints(raw, head, most=most, lookback=LOOKBACK)
    inserts = [part for marker in markers for part in marker]
    return raw, b"".join(with_model(raw, head, "claude-opus-5-5", inserts)), inserts, markers


def counted(value):
    """How many markers stand in a body."""
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(counted(v) for v in value.values())
    return sum(map(counted, value)) if isinstance(value, list) else 0


def unmarked(value, original):
    """The body without its markers; a text that was made a block for one is a text again."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k != "cache_control"}
        return {k: unmarked(v, original.get(k)) for k, v in kept.items()}
    if isinstance(value, list) and isinstance(original, str):
        (block,) = value
        return block["text"]
    if isinstance(value, list):
        return [unmarked(v, o) for v, o in zip(value, original, strict=True)]
    return value


@given(bodies, st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_a_body_without_its_markers_is_the_body_that_came(body, most) -> None:
    raw, out, inserts, markers = marked(body, most)
    sent = json.loads(out)
    assert counted(sent) == len(markers) <= most
    assert unmarked(sent, body) == body | {"model": "claude-opus-5-5"}
    # Byte for byte: what was put in taken out again, from the end on.
    again = b"".join(with_model(raw, read_head(raw), "auto", inserts))
    for insert in sorted(inserts, key=lambda i: -i.at):
        at = insert.at + sum(len(i.text) for i in inserts if i.at < insert.at)
        assert again[at : at + len(insert.text)] == insert.text
        again = again[:at] + again[at + len(insert.text) :]
        inserts = [i for i in inserts if i is not insert]
    assert again == raw
    if not markers:
        assert with_model(raw, read_head(raw), "auto")[0] is raw


@given(bodies)
@settings(max_examples=200, deadline=None)
def test_only_what_can_be_marked_is(body) -> None:
    """The provider refuses markers on thinking and on empty texts."""
    sent = json.loads(marked(body)[1])
    for message in [*sent["messages"], {"content": sent.get("system")}]:
        for block in message["content"] if isinstance(message["content"], list) else []:
            if "cache_control" in block:
                assert block["type"] in ("text", "image", "tool_result")
                assert block.get("text", "x").strip()
                assert message.get("role", "user") == "user"


def places(body):
    """For each marker of the messages, how many blocks stand up to it."""
    found, seen = [], 0
    for message in json.loads(marked(body)[1])["messages"]:
        content = message["content"]
        for block in content if isinstance(content, list) else [content]:
            seen += 1
            if isinstance(block, dict) and "cache_control" in block:
                found.append(seen)
    return found


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_whatever_a_turn_adds_the_next_one_reads_all_that_was_sent(turns) -> None:
    """A provider looks up each marker and the 20 blocks up to it: the last prompt ends among them."""
    messages = [{"role": "user", "content": "Fix it"}]
    entries: list[int] = []
    for said, results in turns:
        now = places({"model": "auto", "messages": messages})
        assert len(now) <= MOST
        total = sum(len(m["content"]) if isinstance(m["content"], list) else 1 for m in messages)
        assert now[-1] == total
        if entries:
            read = max(e for e in entries if any(0 <= mark - e < LOOKBACK for mark in now))
            assert read == entries[-1]
        entries.append(now[-1])
        text = {"type": "text", "text": "ok"}
        result = {"type": "tool_result", "tool_use_id": "c", "content": "ok"}
        messages.append({"role": "assistant", "content": [text] * said})
        messages.append({"role": "user", "content": [result] * results})


@pytest.mark.parametrize("away", [1, 4, 8, 12])
def test_a_session_that_was_away_for_some_turns_finds_its_entry(away) -> None:
    """Three blocks a turn: the third marker reaches two look-backs behind the prompt before."""
    turn = [
        {"role": "assistant", "content": [{"type": "text", "text": "ok"}] * 2},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "ok"}]},
    ]
    start = [{"role": "user", "content": "Fix it"}, *turn * 10]
    last = places({"model": "auto", "messages": start})[-1]
    now = places({"model": "auto", "messages": [*start, *turn * away]})
    assert any(0 <= mark - last < LOOKBACK for mark in now)


OWN = [
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", **MARK}]}]},
    {"messages": [{"role": "user", "content": "x"}], "system": [{"type": "text", "text": "s", **MARK}]},
    {"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "sh", "input_schema": {}, **MARK}]},
    {"messages": [{"role": "user", "content": "x"}], **MARK},
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x", **MARK}]},
            {"role": "assistant", "content": "y"},
            {"role": "user", "content": "z"},
        ]
    },
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "content": [{"type": "text", "text": "r", **MARK}],
                    }
                ],
            }
        ]
    },
]
TOOL = [{"name": "sh", "input_schema": {"type": "object"}}]


def outgoing(body, name="claude-opus-4-6", dialect="anthropic_messages", tokens=50_000, *, control=True):
    """What is added to a body on its way to a candidate, and the body as it goes out."""
    raw = json.dumps(body).encode()
    request, head = parse_request(dialect, raw), read_head(raw)
    deployment = Catalog.load().deployments_of(name, dialect)[0]
    asked = asked_by(request, control=control)
    more = added(
        Prompt(raw, head, tokens, bucket_of(None, "ann", "s")),
        deployment,
        cache_rules(deployment, NOW_MS, asked),
        asked,
    )
    return more, b"".join(with_model(raw, head, body["model"], more.inserts)), raw


@pytest.mark.parametrize("own", OWN)
def test_a_client_that_marks_anything_is_left_alone(own) -> None:
    more, out, raw = outgoing({"model": "auto", "max_tokens": 9, "tools": TOOL, **own})
    assert (more.kind, out) == (None, raw)


def test_markers_go_where_a_client_would_put_them() -> None:
    talk = [
        {"role": "user", "content": "Fix it"},
        {"role": "assistant", "content": "Looking"},
        {"role": "user", "content": [{"type": "text", "text": "And?"}]},
    ]
    body = {"model": "auto", "max_tokens": 9, "system": "Be brief", "messages": talk, "tools": TOOL}
    more, out, _ = outgoing(body)
    sent = json.loads(out)
    assert more.kind == BREAKPOINTS
    assert sent["system"] == [{"type": "text", "text": "Be brief", **MARK}]
    assert sent["messages"][0]["content"] == [{"type": "text", "text": "Fix it", **MARK}]
    assert sent["messages"][2]["content"] == [{"type": "text", "text": "And?", **MARK}]
    assert parse_request("anthropic_messages", out).cache_markers == 3
    bare = outgoing({k: v for k, v in body.items() if k != "system"})[1]
    assert json.loads(bare)["tools"] == [TOOL[0] | MARK]


def test_nothing_is_put_in_where_it_would_not_pay_or_not_be_kept() -> None:
    talk = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "Fix it"}]}
    assert outgoing(talk)[0].kind is None  # a single question: nobody reads what it writes
    assert outgoing(talk | {"tools": TOOL})[0].kind == BREAKPOINTS
    assert outgoing(talk | {"tools": TOOL}, tokens=4_095)[0].kind is None  # below the floor
    assert outgoing(talk | {"tools": TOOL}, control=False)[0].kind is None
    assert outgoing(talk | {"tools": TOOL}, "deepseek-v4-pro")[0].kind is None  # caches by itself
    assert outgoing(talk | {"tools": TOOL}, "glm-5")[0].kind is None  # nothing is known of its cache


def chat(**more):
    return {"messages": [{"role": "user", "content": "Fix it"}], "model": "auto", **more}


@pytest.mark.parametrize(
    ("name", "field"),
    [("gpt-5.4", "prompt_cache_key"), ("gpt-6-luna", "prompt_cache_key"), ("deepseek-v4-pro", "user_id")],
)
def test_each_end_user_has_a_bucket_where_the_seller_knows_them(name, field) -> None:
    more, out, _ = outgoing(chat(), name, "openai_chat")
    sent = json.loads(out)
    assert more.kind == field
    assert sent == {field: bucket_of(None, "ann", "s"), **chat()}
    assert "ann" not in out.decode()
    for own in (None, "mine"):
        assert outgoing(chat(**{field: own}), name, "openai_chat")[0].kind is None
    assert outgoing(chat(), name, "openai_chat", tokens=10)[0].kind is None


def test_buckets_are_of_users_and_else_of_sessions() -> None:
    assert bucket_of(None, "ann", "s1") == bucket_of(None, "ann", "s2")
    assert bucket_of(None, None, "s1") != bucket_of(None, None, "s2")
    others = {
        bucket_of(*who)
        for who in [(None, "ann", "s"), ("t", "ann", "s"), (None, "bob", "s"), (None, None, "ann")]
    }
    assert len(others) == 4


def test_a_client_with_a_key_of_its_own_is_left_alone_in_every_dialect() -> None:
    body = {"model": "auto", "input": "Fix it"}
    assert outgoing(body, "gpt-5.4", "openai_responses")[0].kind == "prompt_cache_key"
    own = body | {"prompt_cache_key": "mine"}
    assert outgoing(own, "gpt-5.4", "openai_responses")[1] == json.dumps(own).encode()


@given(st.binary(max_size=60), st.booleans())
def test_odd_shapes_get_nothing(noise, listed) -> None:
    """Whatever isn't in a shape that we know goes out as it came."""
    said = noise.decode("latin-1")
    for odd in (said, [said], {"role": "user", "content": said}, 7, None, [{"role": said, "content": 7}]):
        body = {"model": "auto", "messages": [odd] if listed else odd, "system": odd, "tools": odd}
        raw, out, _, markers = marked(body)
        assert counted(json.loads(out)) == len(markers) <= MOST
        assert json.loads(b"".join(with_model(raw, read_head(raw), "auto"))) == body


odd = st.recursive(
    st.sampled_from([None, True, 7, 1.5, "", " ", "user", "text", {}, []]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "name", "defer_loading", "é"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
odd_messages = st.lists(
    st.one_of(odd, st.fixed_dictionaries({"role": st.just("user"), "content": st.one_of(odd, contents)})),
    max_size=4,
)


@given(odd_messages, odd, odd, st.booleans())
@settings(max_examples=200, deadline=None)
def test_an_odd_body_stays_json_and_the_same_but_for_markers(messages, tools, system, good) -> None:
    turns = [*messages, {"role": "user", "content": "go on"}] if good else messages
    body = {"model": "auto", "messages": turns, "tools": tools, "system": system}
    sent = json.loads(marked(body)[1])
    assert unmarked(sent, body) == body | {"model": "claude-opus-5-5"}


def test_no_marker_goes_on_an_empty_tool_or_one_loaded_later() -> None:
    def tools_sent(*tools):
        talk = [{"role": "user", "content": "Fix it"}]
        return json.loads(marked({"model": "auto", "messages": talk, "tools": list(tools)})[1])["tools"]

    later = {"name": "grep", "input_schema": {}, "defer_loading": True}
    now = {"name": "ls", "input_schema": {}, "defer_loading": False}
    assert tools_sent({}) == [{}]
    assert tools_sent(later) == [later]
    assert tools_sent(TOOL[0], later, {}) == [TOOL[0] | MARK, later, {}]
    assert tools_sent(TOOL[0], now, later) == [TOOL[0], now | MARK, later]


def test_what_we_ask_for_is_ours_only_without_the_clients() -> None:
    words = SimpleNamespace(tools=TOOL, messages=(), cache_markers=1, cache_lifetime=None)
    assert asked_by(words, control=True) == Asked(marked=True)
    words.cache_markers = 0
    assert asked_by(words, control=True) == Asked(ours=True)
    assert asked_by(words) == Asked()
