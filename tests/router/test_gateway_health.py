"""The circuit breaker, rests, limits and what providers' headers say of them: laws, on a clock of our own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.catalogrows import Deployment, Limits
from router.gateway.health import BreakerSettings, Health
from router.gateway.ratelimits import Allowance, Left, allowance, retry_after_s, seconds_of

NOW_S = 1_795_000_000.0


def deployment(name, limits=None, candidate="m"):
    return Deployment(
        id=f"{name}/{candidate}/openai_chat",
        candidate=candidate,
        provider="p",
        model=candidate,
        dialect="openai_chat",
        base_url="http://x",
        key_env=None,
        region=None,
        checkpoint=None,
        floating=True,
        passthrough=False,
        limits=limits or Limits(),
    )


EAST, WEST = deployment("east"), deployment("we/st")
KNOBS = BreakerSettings(failures=3, open_s=10.0, open_max_s=25.0, rest_max_s=60.0)


def fail(health, times, now, at=EAST):
    said = []
    for _ in range(times):
        ticket = health.begin(at, now)
        said.append(health.failed(ticket, now))
        health.end(ticket)
    return said


def test_a_deployment_that_fails_in_a_row_is_left_alone_then_tried_by_one_call_at_a_time() -> None:
    health = Health(KNOBS)
    assert fail(health, 3, 0.0) == [False, False, True]
    assert (health.state(EAST, 9.9), health.state(WEST, 9.9)) == ("open", "ok")
    assert health.due(EAST, 4.0) == 6.0
    assert health.state(EAST, 10.0) == "probe"
    trial = health.begin(EAST, 10.0)
    assert health.state(EAST, 10.0) == "open"  # while it is tried
    assert health.failed(trial, 11.0)
    health.end(trial)
    assert health.due(EAST, 11.0) == 20.0  # twice as long,
    trial = health.begin(EAST, 31.0)
    health.failed(trial, 31.0)
    health.end(trial)
    assert health.due(EAST, 31.0) == 25.0  # up to a limit
    trial = health.begin(EAST, 60.0)
    health.answered(trial, 60.0)
    health.end(trial)
    assert health.state(EAST, 60.0) == "ok"
    assert fail(health, 2, 61.0) == [False, False]  # it starts anew


def test_answers_between_failures_keep_a_deployment_in_use() -> None:
    health = Health(KNOBS)
    for _ in range(10):
        fail(health, 2, 0.0)
        ticket = health.begin(EAST, 0.0)
        health.answered(ticket, 0.0)
        health.end(ticket)
    assert health.state(EAST, 0.0) == "ok"
    assert health.down(0.0) == frozenset()


def test_an_answer_from_before_the_failures_is_no_sign_that_it_works_again() -> None:
    health = Health(KNOBS)
    old = health.begin(EAST, 0.0)
    fail(health, 3, 1.0)
    health.answered(old, 2.0)
    assert health.state(EAST, 2.0) == "open"
    assert not health.failed(old, 2.0)
    assert health.due(EAST, 2.0) == 9.0  # nor does a late failure prolong it


def test_a_trial_whose_client_leaves_makes_room_for_another() -> None:
    health = Health(KNOBS)
    fail(health, 3, 0.0)
    health.end(health.begin(EAST, 10.0))
    assert health.state(EAST, 10.0) == "probe"


def test_a_rest_is_as_long_as_asked_but_bounded_and_a_late_answer_does_not_end_it() -> None:
    health = Health(KNOBS)
    first, second = health.begin(EAST, 0.0), health.begin(EAST, 0.0)
    health.rest(first, 7.0, 0.0)
    health.answered(second, 1.0)
    assert (health.state(EAST, 6.9), health.state(EAST, 7.0)) == ("resting", "ok")
    health.rest(first, 86_400.0, 10.0)
    assert health.due(EAST, 10.0) == 60.0
    assert health.down(10.0) == {EAST.id}
    assert health.states(10.0) == {EAST.id: "resting"}


def test_calls_under_way_are_counted_by_account() -> None:
    two = Limits(concurrent=2)
    one, other = deployment("east", two, "a"), deployment("east", two, "b")
    health = Health(KNOBS)
    tickets = [health.begin(d, 0.0) for d in (one, other)]
    assert health.state(one, 0.0) == "full"
    assert health.due(one, 0.0) == 0.0
    health.end(tickets[1])
    assert health.state(one, 0.0) == "ok"
    assert health.in_flight() == {"east": 1}


def test_an_account_is_spared_over_its_minute_but_a_prompt_too_large_for_any_is_let_through() -> None:
    limited = deployment("east", Limits(requests_per_minute=3, tokens_per_minute=100))
    health = Health(KNOBS)
    assert health.state(limited, 0.0, 500.0) == "ok"
    health.begin(limited, 5.0, 60.0)
    assert (health.state(limited, 6.0, 40.0), health.state(limited, 6.0, 41.0)) == ("ok", "spent")
    assert health.due(limited, 6.0, 41.0) == 59.0
    health.begin(limited, 6.0, 0.0)
    health.begin(limited, 6.0, 0.0)
    assert (health.state(limited, 64.9), health.state(limited, 65.0)) == ("spent", "ok")


def test_what_a_provider_says_is_left_is_counted_down_until_its_reset() -> None:
    health = Health(KNOBS)
    ticket = health.begin(EAST, 0.0)
    health.told(ticket, Allowance(Left(2, 30.0), Left(1000, 20.0)), 0.0)
    assert (health.state(EAST, 1.0, 1000.0), health.state(EAST, 1.0, 1001.0)) == ("ok", "spent")
    health.begin(EAST, 1.0, 900.0)
    assert (health.state(EAST, 1.0, 200.0), health.state(EAST, 20.0, 200.0)) == ("spent", "ok")
    health.begin(EAST, 2.0)
    assert (health.state(EAST, 29.0), health.state(EAST, 30.0)) == ("spent", "ok")


class AnyOrder(RuleBasedStateMachine):
    """Calls in any order: nobody stays out for ever, and every call is counted out."""

    def __init__(self):
        super().__init__()
        self.health, self.now, self.open = Health(KNOBS), 0.0, []

    @rule(at=st.sampled_from([EAST, WEST]))
    def begin(self, at):
        self.open.append(self.health.begin(at, self.now))

    @rule(data=st.data(), how=st.sampled_from(["answered", "failed", "rest", "leave"]))
    def finish(self, data, how):
        if not self.open:
            return
        ticket = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        if how == "rest":
            self.health.rest(ticket, 5.0, self.now)
        elif how != "leave":
            getattr(self.health, how)(ticket, self.now)
        self.health.end(ticket)

    @rule(seconds=st.floats(0.0, 30.0))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def counts_hold(self):
        assert sum(self.health.in_flight().values()) == len(self.open)
        trials = [ticket.line for ticket in self.open if ticket.probe]
        assert len(trials) == len(set(trials))
        later = self.now + 1000.0
        for at in (EAST, WEST):
            assert self.health.state(at, later) in (("open",) if at.id in trials else ("ok", "probe"))
        assert self.health.down(later) == set(trials)


TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0.5 ", 0.5),
        ("1m6.5s", 66.5),
        ("20ms", 0.02),
        ("1h2m", 3720.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("2026-11-18T21:47:00Z", 1_795_038_420.0 - NOW_S),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("9" * 30, 366 * 86400.0),
    ],
)
def test_times_to_wait_are_read_as_sellers_write_them(text, seconds) -> None:
    assert seconds_of(text, NOW_S) == seconds


@given(st.text(max_size=40))
def test_no_header_breaks_anything(text) -> None:
    names = ("retry-after", "retry-after-ms", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
    headers = dict.fromkeys(names, text)
    assert (retry_after_s(headers, NOW_S) or 0.0) >= 0.0
    said = allowance(headers, NOW_S)
    assert said is None or said.tokens.amount >= 0


def test_both_families_of_headers_are_read() -> None:
    assert retry_after_s({"retry-after-ms": "1500", "retry-after": "2"}, NOW_S) == 1.5
    openai = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m"}
    assert allowance(openai, NOW_S) == Allowance(Left(0.0, 60.0), None)
    claude = {
        "anthropic-ratelimit-tokens-remaining": "4000",
        "anthropic-ratelimit-tokens-reset": "2026-11-18T21:47:00Z",
    }
    assert allowance(claude, NOW_S).tokens.amount == 4000
    assert allowance({}, NOW_S) is None


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"open_s": 0.0}, {"rest_max_s": float("inf")}])
def test_settings_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BreakerSettings(**wrong)
