"""Clients that speak in the assistant's name behind an answer: who made that is known all the same."""

import json

from test_gateway_sessions import NAMED, UNCOUNTED, claude, says

from features.wire import parse_request
from router.gateway.sessions import Sessions


def answered(words="Here is the edit"):
    sessions = Sessions(10)
    place = sessions.place(claude("Fix it"), NAMED, "host")
    sessions.began(place, answer := place.answer("a", by_client=False), 0)
    sessions.heard(answer, says(words), 1, UNCOUNTED)
    return sessions


def test_an_answer_is_found_behind_what_the_client_says_in_the_assistants_name() -> None:
    sessions = answered()
    request = claude("Fix it", "Here is the edit", "I ran the tests", "Ok.", "They fail", "Ok.", "Go on")
    after = sessions.place(request, NAMED, "host").after
    assert after is not None
    assert after.candidate == "a"
    far = [word for _ in range(5) for word in ("Ok.", "Go on")]
    assert sessions.place(claude("Fix it", "Here is the edit", "so", *far), NAMED, "host").after is None


def test_calls_that_nobody_here_made_have_an_unknown_maker_whoever_spoke_before() -> None:
    call = {"type": "tool_use", "id": "elsewhere", "name": "sh", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "elsewhere", "content": "done"}
    said = [("user", "Fix it"), ("assistant", "Here is the edit"), ("user", "Go on"), ("assistant", [call])]
    said.append(("user", [result]))
    messages = [{"role": role, "content": content} for role, content in said]
    body = json.dumps({"model": "auto", "messages": messages}).encode()
    request = parse_request("anthropic_messages", body)
    assert answered().place(request, NAMED, "host").after is None
