"""What is warm after each answer, how the next prompt splits, and why: laws, and a case for every cause."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from features.cache import (
    CacheRequest,
    CacheState,
    after,
    in_common,
    last_used,
    missed,
    read,
    read_rules,
    rules_for,
)
from features.cache.prefixes import shared_messages
from features.cache.reading import hit_rate
from features.cache.types import Sent
from features.wire.types import Usage

ROWS = read_rules()
MINUTE = 60_000
# An object that no use renews keeps a longer prompt from being stored for as long as it lives.
SLIDING = [rules for rules in ROWS if rules.sliding]


def row(provider: str, model: str, **kwargs):
    found = rules_for(provider, model, **kwargs)
    assert found is not None
    return found


CLAUDE, GPT, NEW_GPT = (
    row("anthropic", "claude-sonnet-4-6"),
    row("openai", "gpt-5.4"),
    row("openai", "gpt-5.6"),
)

steps = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),  # key
        st.lists(st.integers(0, 2), min_size=1, max_size=6),  # what each message says
        st.sampled_from([0, 1, 20_000, 299_000, 301_000, 3_000_000, 3_600_001, 90_000_000]),
        st.sampled_from([None, (), (1,), (1, 2), (3,)]),
        st.booleans(),  # by hashes or by counts
        st.sampled_from([0, 700, 40_000]),  # tokens per message
        st.sampled_from([None, "1h", "24h", "no-such-class"]),
        st.sampled_from([None, 0, 5_000]),  # cached tokens of the usage block
    ),
    max_size=8,
)


def lost(split):
    """What isn't read of what was sent, and why."""
    return split.lost, split.why


def played(rules, rows):
    """Every (state, request, split, now) of a session played through."""
    state, now, told = CacheState(), 0, []
    for key, path, pause, marks, hashed, each, lifetime, cached in rows:
        now += pause
        hashes = [hash(tuple(path[: i + 1])) for i in range(len(path))] if hashed else []
        sizes = list(range(1, len(path) + 1)) if hashed else []
        marks = marks if marks is None else tuple(m for m in marks if m <= len(path))
        request = CacheRequest(key, each * len(path), hashes, sizes, marks, lifetime=lifetime)
        told.append((state, request, read(rules, state, request, now), now))
        usage = (
            None if cached is None else Usage(cached_tokens=cached, cache_write_tokens=0, output_tokens=10)
        )
        state = after(rules, state, request, usage, now)
    return told


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ROWS), steps)
def test_reads_writes_and_fresh_are_the_prompt(rules, rows) -> None:
    for state, request, split, now in played(rules, rows):
        assert split.tokens == request.tokens
        assert min(split.read, split.write, split.write_1h, split.fresh) >= 0
        assert 0 <= split.expected_read <= split.read <= request.tokens
        assert 0 <= split.sure <= 1
        assert 0 <= split.lost <= request.tokens
        assert not split.read or split.read >= rules.floor_tokens
        assert split.read % rules.block_tokens == 0
        if request.tokens < rules.floor_tokens or (request.marks == () and not rules.automatic):
            assert split.fresh == request.tokens
        common = in_common(state, (request.hashes, request.sizes))
        assert read(rules, state, request, now, common) == split


def plain_marks(rules, state, request, now):
    """The entries behind a prompt, from all that every earlier one holds."""
    held: dict[int, float] = {}
    for sent in state.sent:
        if sent.key == request.key and sent.hashes:
            n = shared_messages(request.hashes, sent.hashes)
            for entry, used in rules.lifetime(sent.lifetime).living(sent.marks, now):
                if entry <= n:
                    held[entry] = max(used, held.get(entry, used))
    own = request.marks or (len(request.hashes),)
    held |= dict.fromkeys(own[-(rules.marks_max or len(own)) :], now)
    return tuple(sorted(held.items()))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([rules for rules in ROWS if rules.match == "marked"]), steps)
def test_a_prompt_s_entries_are_those_of_all_it_continues(rules, rows) -> None:
    for state, request, _, now in played(rules, rows):
        for sent in after(rules, state, request, None, now).sent[-1:]:
            if sent.used_ms == now and sent.hashes and sent not in state.sent:
                assert sent.marks == plain_marks(rules, state, request, now)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=6))
def test_a_cache_s_last_use_is_the_latest_in_whatever_order(uses) -> None:
    state = CacheState(tuple(Sent(key, 9, 0, [1], [9], (), {}, None, at, at) for key, at in uses))
    common = in_common(state, ([1], [9]))
    assert common is not None
    assert common.used_ms == {key: last_used(state, key) for key, _ in uses}
    assert common.used_ms == {key: max(at for name, at in uses if name == key) for key, _ in uses}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SLIDING), steps, st.sampled_from([1.5, 10.0]))
def test_a_longer_lifetime_never_means_fewer_hits(rules, rows, times) -> None:
    longer = replace(
        rules,
        lifetimes=tuple(
            replace(
                kept,
                ttl_s=None if kept.ttl_s is None else kept.ttl_s * times,
                gone_s=None if kept.gone_s is None else kept.gone_s * times,
            )
            for kept in rules.lifetimes
        ),
        hits=None,
    )
    rules = replace(rules, hits=None)
    for (_, _, short, _), (_, _, long, _) in zip(played(rules, rows), played(longer, rows), strict=True):
        assert short.expected_read <= long.expected_read + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ROWS), steps)
def test_nothing_is_changed_in_place(rules, rows) -> None:
    for state, request, _, now in played(rules, rows):
        before = copy.deepcopy((state, request))
        after(rules, state, request, Usage(cached_tokens=3, cache_write_tokens=0), now)
        assert (state, request) == before


def chain(key: str, *says: int, each: int = 1_000, **kwargs) -> CacheRequest:
    """A prompt of messages of `each` tokens."""
    hashes = [hash(says[: i + 1]) for i in range(len(says))]
    return CacheRequest(key, each * len(says), hashes, range(each, each * len(says) + 1, each), **kwargs)


def test_a_session_that_goes_on_is_read() -> None:
    state = after(CLAUDE, CacheState(), chain("k", 1, 2, 3), None, 0)
    split = read(CLAUDE, state, chain("k", 1, 2, 3, 4), MINUTE)
    assert (split.read, split.write, split.write_1h, split.fresh) == (3_000, 1_000, 0, 0)
    assert (split.why, split.hit) == ("warm", 1.0)


def test_cold_switched_expired_and_invisible_are_told_apart() -> None:
    first = chain("opus", 1, 2, 3)
    state = after(CLAUDE, CacheState(), first, None, 0, visible_ms=2_000)
    assert lost(read(CLAUDE, CacheState(), first, 0)) == (3_000, "cold_start")
    assert lost(read(CLAUDE, state, chain("opus", 1, 2, 3, 4), 1_999)) == (3_000, "not_visible")
    assert read(CLAUDE, state, chain("opus", 1, 2, 3, 4), 2_000).why == "warm"
    assert lost(read(CLAUDE, state, chain("opus", 1, 2, 3, 4), 5 * MINUTE + 1)) == (3_000, "ttl_expired")
    assert lost(read(CLAUDE, state, chain("haiku", 1, 2, 3, 4), MINUTE)) == (3_000, "switched")
    assert read(CLAUDE, state, chain("opus", 7, 8, 9), MINUTE).why == "cold_start"


def test_a_session_left_keeps_its_cache_until_it_expires() -> None:
    state = after(CLAUDE, CacheState(), chain("opus", 1, 2, 3), None, 0)
    state = after(CLAUDE, state, chain("haiku", 1, 2, 3, 4), None, MINUTE)
    back = read(CLAUDE, state, chain("opus", 1, 2, 3, 4, 5), 4 * MINUTE)
    assert (back.read, back.write, back.why) == (3_000, 2_000, "warm")
    late = read(CLAUDE, state, chain("opus", 1, 2, 3, 4, 5), 6 * MINUTE)
    assert (late.read, late.lost, late.why) == (0, 3_000, "ttl_expired")


def test_coming_back_to_little_after_much_elsewhere_is_a_switch() -> None:
    state = after(CLAUDE, CacheState(), chain("opus", 1, 2), None, 0)
    state = after(CLAUDE, state, chain("haiku", 1, 2, 3, 4, 5, 6, 7), None, MINUTE)
    back = read(CLAUDE, state, chain("opus", 1, 2, 3, 4, 5, 6, 7, 8), 2 * MINUTE)
    assert (back.read, back.lost, back.why) == (2_000, 5_000, "switched")


def test_a_hit_refreshes_and_an_hour_outlives_five_minutes() -> None:
    state = after(CLAUDE, CacheState(), chain("k", 1, 2, 3), None, 0)
    state = after(CLAUDE, state, chain("k", 1, 2, 3), None, 4 * MINUTE)
    assert read(CLAUDE, state, chain("k", 1, 2, 3), 8 * MINUTE).why == "warm"
    hour = chain("k", 1, 2, 3, lifetime="1h")
    assert read(CLAUDE, CacheState(), hour, 0).write_1h == 3_000
    kept = after(CLAUDE, CacheState(), hour, None, 0)
    assert read(CLAUDE, kept, hour, 59 * MINUTE).read == 3_000


def test_an_edited_history_breaks_the_prefix() -> None:
    state = after(GPT, CacheState(), chain("k", 1, 2, 3, 4, 5), None, 0)
    split = read(GPT, state, chain("k", 1, 2, 8, 9), MINUTE)
    assert (split.read, split.lost, split.why) == (1_920, 4_000 - 1_920, "broken_prefix")
    # An exact cache falls back to no shorter prefix that wasn't marked.
    state = after(NEW_GPT, CacheState(), chain("k", 1, 2, 3, 4, 5), None, 0)
    assert lost(read(NEW_GPT, state, chain("k", 1, 2, 8, 9), MINUTE)) == (4_000, "broken_prefix")
    marked = after(NEW_GPT, CacheState(), chain("k", 1, 2, 3, 4, 5, marks=(2, 5)), None, 0)
    assert read(NEW_GPT, marked, chain("k", 1, 2, 8, 9), MINUTE).read == 2_000


def test_changed_tools_invalidate() -> None:
    state = after(CLAUDE, CacheState(), chain("k", 1, 2, 3, settings={"tools": 1}), None, 0)
    assert lost(read(CLAUDE, state, chain("k", 1, 2, 3, settings={"tools": 2}), 1)) == (3_000, "invalidated")
    assert read(CLAUDE, state, chain("k", 1, 2, 3, settings={"tools": 1, "seed": 5}), 1).read == 3_000


def test_a_marker_looks_back_twenty_blocks() -> None:
    state = after(CLAUDE, CacheState(), chain("k", *range(5)), None, 0)
    assert read(CLAUDE, state, chain("k", *range(24), marks=(24,)), 1).read == 5_000
    far = read(CLAUDE, state, chain("k", *range(25), marks=(25,)), 1)
    assert (far.read, far.lost, far.why) == (0, 5_000, "lookback")
    assert read(CLAUDE, state, chain("k", *range(25), marks=(5, 25)), 1).read == 5_000
    wide = chain("k", *range(7), marks=(7,), blocks=(1, 2, 3, 4, 5, 6, 40))
    assert read(CLAUDE, state, wide, 1).why == "lookback"


def test_only_four_markers_count_and_what_follows_the_last_is_fresh() -> None:
    request = chain("k", *range(8), marks=(1, 2, 3, 4, 5))
    state = after(CLAUDE, CacheState(), request, None, 0)
    assert [mark for mark, _ in state.sent[0].marks] == [2, 3, 4, 5]
    split = read(CLAUDE, CacheState(), request, 0)
    assert (split.write, split.fresh) == (5_000, 3_000)


def test_usage_corrects_what_is_believed() -> None:
    request = chain("k", 1, 2, 3)
    unheld = Usage(input_tokens_uncached=3_000, cached_tokens=0, cache_write_tokens=0)
    assert after(CLAUDE, CacheState(), request, unheld, 0) == CacheState()
    counted = Usage(input_tokens_uncached=0, cached_tokens=0, cache_write_tokens=2_500)
    assert after(CLAUDE, CacheState(), request, counted, 0).sent[0].tokens == 2_500
    state = after(GPT, CacheState(), request, None, 0)
    before = hit_rate(GPT, state, "k")
    assert before == pytest.approx(559 / 603)
    miss = Usage(input_tokens_uncached=4_000, cached_tokens=0, output_tokens=1)
    split = read(GPT, state, chain("k", 1, 2, 3, 4), 1)
    assert missed(split, miss) == 2_944
    assert missed(split, Usage(cached_tokens=2_816)) == 0
    state = after(GPT, state, chain("k", 1, 2, 3, 4), miss, 1)
    assert hit_rate(GPT, state, "k") == pytest.approx(before * 20 / 21)
    assert hit_rate(GPT, state, "other") == before


def test_answers_are_read_where_they_are_cached() -> None:
    asked = CacheRequest("k", 10_000)
    for rules, read_tokens in ((GPT, 11_904), (NEW_GPT, 10_000)):
        state = after(rules, CacheState(), asked, Usage(output_tokens=2_000), 0)
        assert read(rules, state, CacheRequest("k", 12_500), 1).read == read_tokens


def test_counts_that_shrink_are_a_broken_prefix_unless_more_is_known() -> None:
    state = after(GPT, CacheState(), CacheRequest("k", 50_000), None, 0)
    assert lost(read(GPT, state, CacheRequest("k", 9_000), 1)) == (9_000, "broken_prefix")
    known = read(GPT, state, CacheRequest("k", 9_000, shared=8_000), 1)
    assert (known.read, known.why) == (7_936, "broken_prefix")


def test_a_named_cache_lives_as_long_as_it_was_bought_for() -> None:
    rules = row("google", "gemini-3.1-pro", explicit=True)
    request = chain("k", *range(5))
    state = after(rules, CacheState(), request, None, 0)
    state = after(rules, state, request, None, 50 * MINUTE)
    assert read(rules, state, request, 60 * MINUTE).read == 5_000
    assert read(rules, state, request, 61 * MINUTE).why == "ttl_expired"


def test_the_clock_may_go_backwards() -> None:
    state = after(CLAUDE, CacheState(), chain("k", 1, 2), None, 10_000, visible_ms=0)
    assert read(CLAUDE, state, chain("k", 1, 2, 3), 5_000).read == 2_000


def test_what_is_remembered_is_bounded() -> None:
    state = CacheState()
    for i in range(600):
        state = after(GPT, state, chain(f"k{i % 90}", i, i + 1), Usage(cached_tokens=9_000), i)
    assert len(state.sent) == 256
    assert len(state.trials) <= 64
