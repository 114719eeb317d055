"""Sessions: what a request goes on from, who answered it and by whose choice, where sub-agents stand."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from router_servers import NOW_MS

from features.cache import CacheRequest, CacheState, read, rules_for
from features.context import LastTurn
from features.wire import Part, WireResponse, parse_request
from features.wire.types import Usage
from router.catalog import Catalog
from router.cost import asked_by, cache_rules, sending
from router.gateway.sessions import Sessions, Stored

NAMED = {"x-claude-code-session-id": "s1"}
UNCOUNTED = LastTurn(None, None, None)


def claude(*texts, **more):
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
    body = {"model": "auto", "max_tokens": 9, "messages": messages, **more}
    return parse_request("anthropic_messages", json.dumps(body).encode())


def responses(text, **more):
    return parse_request("openai_responses", json.dumps({"model": "auto", "input": text, **more}).encode())


def says(text="", call_id=None, response_id=None):
    call = Part(kind="tool_call", name="Bash", call_id=call_id)
    return WireResponse(
        response_id=response_id, parts=(Part(kind="text", text=text), *([call] if call_id else []))
    )


def ask(
    sessions, request, candidate="a", said=None, *, headers=NAMED, by_client=False, now=0, last=UNCOUNTED
):
    """Place a request and let a candidate answer it."""
    place = sessions.place(request, headers, "host")
    answer = place.answer(candidate, by_client=by_client)
    sessions.began(place, answer, now)
    if said is not None:
        sessions.heard(answer, said, 500, last)
    return place


def test_sessions_know_who_answered_and_what_was_sent() -> None:
    sessions = Sessions(10)
    first = sessions.place(claude("Fix it"), NAMED, "")
    assert sessions.view(first, 0).last_candidate is None
    ask(sessions, claude("Fix it"), "a", says("Done"), now=1000, last=LastTurn(0, 120, 7))
    again = sessions.place(claude("Fix it", "Done", "Now the docs"), NAMED, "")
    view = sessions.view(again, 3000)
    assert (view.last_candidate, view.last_bytes, view.last_tokens) == ("a", 500, 120)
    assert (view.turn, view.last_by_client) == (1, False)
    assert view.shared[0] == len("Fix it")
    assert view.shared[2] == 2000
    side = sessions.place(claude("Give this a title", "x", "y"), NAMED, "")
    assert side.session_id == "s1"
    assert sessions.view(side, 3000).last_candidate is None


def test_a_request_without_an_answer_goes_on_from_nothing_but_shares_the_cache() -> None:
    for headers in (NAMED, {}):
        sessions = Sessions(10)
        first = ask(sessions, claude("Fix it"), "a", says("Done"), headers=headers)
        again = sessions.place(claude("Fix it"), headers, "host")
        view = sessions.view(again, 5)
        assert again.conversation != first.conversation
        assert (view.last_candidate, view.last_tokens, view.turn) == (None, None, 0)
        assert view.shared[1:] == (1.0, 5)
        assert (again.session_id == first.session_id) == bool(headers)


def test_conversations_of_the_same_first_words_are_told_apart_by_what_was_answered() -> None:
    sessions = Sessions(10)
    by_text = ask(sessions, claude("Hi"), "a", says("Yes?"), headers={})
    by_call = ask(sessions, claude("Hi"), "b", says("", "call_1"), headers={})
    latest = ask(sessions, claude("Hi"), "c", headers={})  # began, but has not been heard to the end
    call = [{"type": "tool_use", "id": "call_1", "name": "Bash", "input": {}}]
    result = [{"type": "tool_result", "tool_use_id": "call_1", "content": "ok"}]
    for request, place, candidate in (
        (claude("Hi", " Yes?", "Go on"), by_text, "a"),
        (claude("Hi", call, result), by_call, "b"),
    ):
        later = sessions.place(request, {}, "host")
        assert (later.session_id, later.conversation) == (place.session_id, place.conversation)
        assert sessions.view(later, 0).last_candidate == candidate
    far = sessions.place(claude("Hi", "Yes?", "Go on"), {}, "another host")
    assert sessions.view(far, 0).last_candidate is None
    assert len({by_text.session_id, by_call.session_id, latest.session_id, far.session_id}) == 4


def test_responses_chained_without_a_session_stay_in_one_and_count_their_turns() -> None:
    sessions = Sessions(10)
    first = ask(sessions, responses("Fix it"), "a", says(response_id="resp_1"), headers={})
    more = responses("Go on", previous_response_id="resp_1")
    second = ask(sessions, more, "a", says(response_id="resp_2"), headers={})
    third = sessions.place(responses("And on", previous_response_id="resp_2"), {}, "elsewhere")
    assert first.session_id == second.session_id == third.session_id
    assert (first.turn, second.turn, third.turn) == (0, 1, 2)
    assert sessions.view(third, 0).last_candidate == "a"
    branch = sessions.place(more, {}, "host")
    assert branch.turn == 1
    unknown = sessions.place(responses("Go on", previous_response_id="resp_0"), {}, "host")
    assert (unknown.turn, unknown.after) == (None, None)


def test_a_late_end_of_one_answer_does_not_undo_the_next_one() -> None:
    sessions = Sessions(10)
    first = sessions.place(claude("Hi"), NAMED, "")
    slow = first.answer("a", by_client=False)
    sessions.began(first, slow, 0)
    ask(sessions, claude("Hi", "Yes?", "Go on"), "b", says("Gone."))
    sessions.heard(slow, says("Well?"), 1, UNCOUNTED)
    later = sessions.place(claude("Hi", "Yes?", "Go on", "Gone.", "More"), NAMED, "")
    assert sessions.view(later, 0).last_candidate == "b"


def test_an_answer_without_a_mark_of_ours_has_an_unknown_maker() -> None:
    sessions = Sessions(10)
    ask(sessions, claude("Hi"), "a", says("Yes?"), headers={})
    thought = [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "text", "text": "Mine"}]
    for headers in ({}, NAMED):
        other = sessions.place(claude("Hi", thought, "Go on"), headers, "host")
        assert (other.after, sessions.view(other, 0).last_candidate) == (None, None)


SUBAGENT = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cc_is_subagent=true;"}]
MAIN = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli;"}]


def test_a_subagent_stands_in_a_session_of_its_own_under_its_parent() -> None:
    sessions = Sessions(10)
    main = ask(sessions, claude("Fix it", system=MAIN))
    one = ask(sessions, claude("Look around", system=SUBAGENT), said=says("Found"))
    other = ask(sessions, claude("Look around", system=SUBAGENT))
    assert (main.session_id, main.parent_session_id, main.is_subagent) == ("s1", None, False)
    assert one.session_id == f"s1/{one.conversation}"
    assert (one.parent_session_id, one.turn, one.is_subagent) == ("s1", 0, True)
    assert other.session_id != one.session_id
    later = sessions.place(claude("Look around", "Found", "Go on", system=SUBAGENT), NAMED, "host")
    assert (later.session_id, later.parent_session_id, later.turn) == (one.session_id, "s1", 1)


def test_a_client_may_name_the_parent_itself() -> None:
    headers = {"x-session-affinity": "child", "x-parent-session-id": "parent"}
    place = Sessions(10).place(claude("Look around"), headers, "")
    assert (place.session_id, place.parent_session_id, place.is_subagent) == ("child", "parent", True)


def test_sessions_are_bounded() -> None:
    sessions = Sessions(3)
    for n in range(50):
        ask(sessions, claude(f"task {n}"), f"c{n}", says(f"done {n}", f"call_{n}", f"resp_{n}"), headers={})
        ask(sessions, claude("task"), f"c{n}", headers={})
    assert len(sessions) == 3
    assert len(sessions._threads) == 3
    assert len(sessions._answers) <= 12
    assert len(sessions._memory) == 3


def test_broken_tool_calls_are_held_against_a_candidate_in_its_session() -> None:
    sessions = Sessions(3)
    here, there = (sessions.place(claude("Fix it"), {"x-session-id": name}, "") for name in "ab")
    sessions.called(here, "a", broken=False)
    assert sessions.view(here, 0).broken_calls == {}
    shares = []
    for broken in (True, True, False, False):
        sessions.called(here, "a", broken=broken)
        shares.append(sessions.view(here, 0).broken_calls["a"])
    assert shares == [1 / 5, 2 / 6, 2 / 7, 2 / 8]
    sessions.called(here, "b", broken=False)
    assert sessions.view(here, 0).broken_calls == {"a": 2 / 8}
    assert sessions.view(there, 0).broken_calls == {}
    for n in range(20):
        sessions.called(here, f"c{n}", broken=True)
        sessions.called(sessions.place(claude("Fix it"), {"x-session-id": f"s{n}"}, ""), "a", broken=True)
        sessions.called(here, "c", broken=True)
    assert len(sessions.view(here, 0).broken_calls) == 16
    assert len(sessions._broken) == 3


def test_what_is_remembered_of_sessions_is_bounded_by_their_length_too() -> None:
    sessions = Sessions(5)
    for n in range(20):
        request = claude(f"task {n}", *(f"word {m}" for m in range(150)))
        sessions.trajectory(ask(sessions, request, headers={}), request, None)
        assert sessions._memory.n_messages <= 500
        assert sessions._trajectories.n_messages <= 500
    assert len(sessions._threads) == len(sessions._memory) == len(sessions._trajectories) == 3
    assert len(sessions) == 5


@given(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("ab"), st.booleans()), max_size=12))
@settings(max_examples=60, deadline=None)
def test_whoever_answered_a_conversation_is_known_to_its_next_turn(steps) -> None:
    """Conversations with the same first words, interleaved at will, never take each other's candidate."""
    sessions = Sessions(100)
    talks = []
    for n, (words, candidate, fresh) in enumerate(steps):
        if fresh or not talks:
            talks.append(([words], None, None))
        at = n % len(talks)
        texts, last, conversation = talks[at]
        request = claude(*texts)
        place = ask(sessions, request, candidate, says(f"answer {n}"), headers={})
        assert sessions.view(place, 0).last_candidate == last
        assert conversation in (None, place.conversation)
        talks[at] = ([*texts, f"answer {n}", "go on"], candidate, place.conversation)


def asked_of(request, place, name="claude-opus-4-6"):
    """The rules of a candidate's cache, and the prompt as it sees it."""
    deployment = Catalog.load().deployments_of(name, request.dialect)[0]
    sent = sending(request, place.chain, asked_by(request))
    rules = cache_rules(deployment, NOW_MS, sent.asked)
    return rules, sent.to(deployment, 10_000)


def test_caches_are_followed_from_answer_to_answer_and_corrected_by_usage() -> None:
    sessions = Sessions(10)
    mark = {"cache_control": {"type": "ephemeral"}}
    request = claude([{"type": "text", "text": "Fix it", **mark}])
    place = sessions.place(request, NAMED, "host")
    rules, asked = asked_of(request, place)
    cold = read(rules, sessions.view(place, 0).cache, asked, 0)
    assert cold.why == "cold_start"
    note = Stored(rules, asked, cold)
    sessions.began(place, place.answer("a", by_client=False), 1_000, note)
    assert read(rules, sessions.view(place, 0).cache, asked, 2_000).read == 10_000
    nothing = Usage(input_tokens_uncached=10_000, cached_tokens=0, cache_write_tokens=0)
    sessions.counted(place, note, nothing, 3_000)
    assert read(rules, sessions.view(place, 0).cache, asked, 4_000).why == "cold_start"


def test_what_is_cached_at_the_end_is_seen_at_the_end() -> None:
    sessions = Sessions(10)
    request = claude("Fix it")
    place = sessions.place(request, NAMED, "host")
    rules = rules_for("deepseek", "deepseek-v4-pro")
    asked = CacheRequest("deepseek", 10_000, *place.chain)
    note = Stored(rules, asked, read(rules, CacheState(), asked, 0))
    sessions.began(place, place.answer("a", by_client=False), 0, note)
    assert read(rules, sessions.view(place, 0).cache, asked, 9_000).why == "not_visible"
    usage = Usage(input_tokens_uncached=10_000, cached_tokens=0, output_tokens=50)
    sessions.counted(place, note, usage, 10_000)
    assert read(rules, sessions.view(place, 0).cache, asked, 11_000).read == 9_984


def test_the_prompt_before_is_read_while_the_answer_to_the_next_one_still_comes() -> None:
    sessions, rules = Sessions(10), rules_for("deepseek", "deepseek-v4-pro")

    def noted(request, tokens, now):
        place = sessions.place(request, NAMED, "host")
        asked = CacheRequest("deepseek", tokens, *place.chain)
        note = Stored(rules, asked, read(rules, sessions.view(place, now).cache, asked, now))
        sessions.began(place, place.answer("a", by_client=False), now, note)
        return place, note

    first, note = noted(claude("Fix it", "x" * 994), 10_000, 0)
    sessions.counted(first, note, Usage(), 1_000)
    second, ahead = noted(claude("Fix it", "x" * 994, "y" * 994), 20_000, 2_000)
    assert (ahead.split.read, ahead.split.why) == (9_984, "warm")
    # A sub-agent asks meanwhile: the longer prompt isn't there yet, the shorter one still is.
    view = sessions.view(second, 3_000).cache
    meanwhile = read(rules, view, ahead.request, 3_000)
    assert meanwhile.read == ahead.split.read
    sessions.counted(second, ahead, Usage(), 4_000)
    view = sessions.view(second, 5_000).cache
    assert read(rules, view, ahead.request, 5_000).read == 19_968
    assert len(view.sent) == 1


def test_credentials_tell_clients_apart_and_are_not_kept() -> None:
    sessions = Sessions(10)
    whose = sessions.whose
    first, second = ({"authorization": f"Bearer sk-{name}"} for name in ("one", "two"))
    assert len({whose(first), whose(second), whose({"x-api-key": "sk-one"}), whose({})}) == 4
    assert whose(first) == whose({**first, "user-agent": "any"})
    assert "sk-one" not in whose(first)
    for headers in (first, second):
        asked = claude("Hi")
        place = sessions.place(asked, headers, "host")
        sessions.began(place, answer := place.answer(headers["authorization"], by_client=False), 0)
        sessions.heard(answer, says("Yes?"), 1, UNCOUNTED)
    after = sessions.place(claude("Hi", "Yes?", "Go on"), first, "host").after
    assert after is not None
    assert after.candidate == "Bearer sk-one"
