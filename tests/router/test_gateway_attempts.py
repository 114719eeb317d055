"""Which deployment is asked next: laws of the attempts of one request, on a clock of our own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_gateway_health import deployment

from router.catalogrows import Limits
from router.gateway.attempts import Attempts, Failure, RetrySettings, Target, failure_of
from router.gateway.health import BreakerSettings, Health

KNOBS = RetrySettings(attempts=4, deadline_s=60.0, backoff_s=0.25, wait_s=5.0, stay_s=2.0)
EAST, WEST, SOUTH = (Target(deployment(name)) for name in ("east", "west", "south"))
OTHER = Target(deployment("south", candidate="n"), fallback=True)
FAILED = Failure("http_500", 500)


def start(first=EAST, others=(), knobs=KNOBS, health=None):
    return Attempts(health or Health(BreakerSettings()), knobs, first, lambda: list(others), request_id="r")


def run(attempts, outcome, now=0.0):
    """Walk until something answers or nothing is left; who was asked, and when."""
    asked = []
    while (step := attempts.next(now)) is not None:
        if step.wait_s:
            attempts.waits(step.wait_s)
            now += step.wait_s
            continue
        ticket = attempts.begin(step.target, now)
        asked.append((step.target.deployment.endpoint, round(now, 3)))
        failure = outcome(step.target)
        if failure is None:
            attempts.health.answered(ticket, now)
            attempts.health.end(ticket)
            break
        attempts.failed(step.target, ticket, failure, now)
        attempts.health.end(ticket)
    return asked


def names(asked):
    return [name for name, _ in asked]


def test_others_are_looked_up_only_when_the_first_fails() -> None:
    looked = []
    attempts = Attempts(Health(BreakerSettings()), KNOBS, EAST, lambda: looked.append(1) or [WEST])
    assert names(run(attempts, lambda _: None)) == ["east"]
    assert not looked


def test_a_cold_prefix_goes_elsewhere_at_once_and_a_warm_one_waits_a_little_first() -> None:
    assert names(run(start(EAST, [WEST]), lambda _: FAILED))[:2] == ["east", "west"]
    warm = run(start(replace(EAST, warm=True), [WEST]), lambda _: FAILED)
    assert names(warm) == ["east", "east", "west", "west"]
    assert 0.125 <= warm[1][1] <= 0.25
    asks = Failure("http_429", 429, 10.0)
    assert names(run(start(replace(EAST, warm=True), [WEST]), lambda t: asks if t.warm else None)) == [
        "east",
        "west",
    ]


def test_the_last_attempt_is_another_candidates_where_one_may_answer() -> None:
    assert names(run(start(EAST, [OTHER]), lambda _: FAILED)) == ["east", "east", "south", "south"]
    once = RetrySettings(attempts=1)
    assert names(run(start(EAST, [OTHER], once), lambda _: FAILED)) == ["east"]


@pytest.mark.parametrize("status", [401, 402, 404])
def test_what_lasts_is_not_asked_again(status) -> None:
    assert names(run(start(EAST, [WEST]), lambda _: Failure("x", status))) == ["east", "west"]


def test_no_money_leaves_a_deployment_alone_at_once_unless_it_is_the_clients() -> None:
    for ours, state in ((True, "open"), (False, "ok")):
        health = Health(BreakerSettings())
        run(start(replace(EAST, ours=ours), health=health), lambda _: Failure("http_402", 402))
        assert health.state(EAST.deployment, 0.1) == state


def test_a_request_that_fails_somewhere_many_times_has_failed_there_once() -> None:
    health = Health(BreakerSettings(failures=2))
    run(start(health=health), lambda _: FAILED)
    assert health.state(EAST.deployment, 100.0) == "ok"


def test_an_open_breaker_turns_away_to_somewhere_else_only() -> None:
    health = Health(BreakerSettings(failures=1, open_s=1000.0))
    run(start(knobs=RetrySettings(attempts=1), health=health), lambda _: FAILED)
    assert names(run(start(EAST, [WEST], health=health), lambda _: FAILED)) == ["west"]
    health = Health(BreakerSettings(failures=1, open_s=1000.0))
    run(start(knobs=RetrySettings(attempts=1), health=health), lambda _: FAILED)
    assert names(run(start(EAST, health=health), lambda _: FAILED)) == ["east"]


def test_a_full_account_is_waited_for_but_not_for_ever() -> None:
    full = Target(deployment("east", Limits(concurrent=1)))
    health = Health(BreakerSettings())
    ticket = health.begin(full.deployment, 0.0)
    attempts = start(full, health=health)
    assert run(attempts, lambda _: None) == []
    assert attempts.next(10.0) is None
    assert attempts.retry_after_s(10.0) == 1.0
    health.end(ticket)
    assert names(run(start(full, health=health), lambda _: None)) == ["east"]


FAILURES = st.sampled_from(
    [None, FAILED, Failure("connect"), *(Failure("x", s) for s in (402, 404, 429)), Failure("x", 429, 1.5)]
)


@given(
    st.lists(FAILURES, min_size=20, max_size=20),
    st.booleans(),
    st.lists(st.sampled_from([WEST, SOUTH, OTHER]), max_size=3, unique=True),
    st.integers(1, 6),
)
def test_whatever_fails_attempts_are_bounded_in_number_and_in_time(outcomes, warm, others, most) -> None:
    knobs = RetrySettings(attempts=most, deadline_s=8.0, wait_s=3.0)
    health = Health(BreakerSettings())
    left = iter(outcomes)
    attempts = start(replace(EAST, warm=warm), others, knobs, health)
    seen = {}

    def outcome(target):
        assert not seen.get(target.deployment.id), "what lasts is asked once"
        failure = next(left)
        seen[target.deployment.id] = failure is not None and failure.lasting
        return failure

    asked = run(attempts, outcome)
    assert 1 <= len(asked) <= most
    assert all(when <= 8.0 + 3.0 for _, when in asked)
    assert asked[-1][1] <= 3.0 + 1e-6  # all that was waited
    assert set(health.in_flight().values()) == {0}


@pytest.mark.parametrize(
    ("status", "ours", "counts"),
    [
        *((status, True, False) for status in (200, 400, 403, 413, 422)),
        *((status, True, True) for status in (401, 402, 404, 408, 429, 500, 529)),
        *((401, False, False), (429, False, True)),
    ],
)
def test_what_counts_as_a_failure_of_the_deployment(status, ours, counts) -> None:
    found = failure_of(status, {"retry-after": "2"}, 0.0, ours=ours)
    assert (found is not None) == counts
    assert found is None or found.retry_after_s == 2.0


def test_one_who_is_late_is_given_up_only_while_there_is_time_to_ask_another() -> None:
    attempts = start(EAST, [WEST], RetrySettings(deadline_s=60.0))
    assert attempts.next(0.0).target is EAST
    attempts.begin(EAST, 0.0)
    assert attempts.elsewhere(EAST, 59.0)
    assert not attempts.elsewhere(EAST, 61.0)
    assert not start(EAST, []).elsewhere(EAST, 1.0)
    assert RetrySettings().first_byte_s < RetrySettings().deadline_s


def test_a_provider_that_says_not_to_retry_is_not_asked_again() -> None:
    said = failure_of(500, {"x-should-retry": "false"}, 0.0, ours=True)
    assert names(run(start(EAST, [WEST]), lambda _: said)) == ["east", "west"]
