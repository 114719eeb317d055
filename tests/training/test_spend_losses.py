"""What was lost for want of a warm cache: each cause on a session made for it, its price by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from spend_logs import MINUTE, START_MS, call

from training.spend.losses import losses

HOUR = 60 * MINUTE


def turn(n, minutes, read, written, **more):
    """One call of a session: so many tokens read and written, at so many minutes after its start."""
    return call(
        n,
        ts_ms=START_MS + minutes * MINUTE,
        input_tokens_uncached=0,
        cached_tokens=read,
        cache_write_tokens=written,
        output_tokens=100,
        **more,
    )


def usd(tokens):
    """Tokens written at $6.25 a million that could have been read at $0.50."""
    return (tokens * Decimal("5.75")).scaleb(-6)


WARM = [turn(0, 0, 0, 20_000), turn(1, 1, 20_000, 1_000)]

CASES = {
    "nothing beyond the start": (WARM, {}),
    "a pause": ([*WARM, turn(2, 12, 0, 22_000)], {"ttl_expired": usd(21_000)}),
    "a pause that the cache outlived": ([*WARM, turn(2, 12, 21_000, 1_000)], {}),
    "a rewritten prompt, its beginning kept": (
        [*WARM, turn(2, 2, 5_000, 17_000)],
        {"broken_prefix": usd(16_000)},
    ),
    "a compaction": ([*WARM, turn(2, 2, 4_000, 6_000)], {"broken_prefix": usd(6_000)}),
    "a miss": ([*WARM, turn(2, 2, 0, 22_000)], {"missed": usd(21_000)}),
    "a switch": (
        [*WARM, turn(2, 2, 0, 22_000, model_served="claude-sonnet-4-6")],
        {"switched": (22_000 * Decimal("3.45")).scaleb(-6)},
    ),
    "a name written another way": (
        [*WARM, turn(2, 2, 21_000, 1_000, model_served="anthropic/claude-opus-4-6")],
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_cause_costs_what_it_costs(name) -> None:
    session, expected = CASES[name]
    found = losses(session)
    by_cause = {loss.cause: loss.usd for loss in found.by_cause}
    assert by_cause.pop("cold_start") == usd(20_000)
    if name == "a switch":  # at most all that was sent before; the new part isn't lost
        assert list(by_cause) == ["switched"]
        assert 0 < by_cause["switched"] <= expected["switched"]
    else:
        assert by_cause == expected
    assert sum(found.by_call.values()) == sum(loss.usd for loss in found.by_cause)


def test_an_hour_of_life_outlives_a_pause_of_minutes() -> None:
    session = [
        turn(0, 0, 0, 20_000, cache_write_1h_tokens=20_000),
        turn(1, 30, 0, 21_000, cache_write_1h_tokens=21_000),
    ]
    assert {loss.cause for loss in losses(session).by_cause} == {"cold_start", "missed"}


def test_the_sessions_that_lost_most_are_named_first() -> None:
    sessions = [
        turn(10 * n + k, 60 * k, 0, 5_000 * n, session_id=f"s{n}") for n in range(1, 8) for k in range(2)
    ]
    (_, expired) = sorted(losses(sessions).by_cause, key=lambda loss: loss.cause)
    assert expired.cause == "ttl_expired"
    assert [part.session for part in expired.sessions] == ["s7", "s6", "s5", "s4", "s3"]
    assert expired.calls == 7


def test_what_says_too_little_is_counted_and_judged_by_nobody() -> None:
    found = losses(
        [
            call(0, cached_tokens=None),
            call(1, model_served="nobody-sells-this"),
            call(2, flags=["run_totals"]),
        ]
    )
    assert (found.not_said, found.by_cause) == (3, [])
    assert losses([call(0, model_served="command-r-plus", provider="cohere")]).no_rules == 1


def test_nothing_is_lost_that_was_never_billed() -> None:
    for one in (call(0, input_tokens_uncached=0), turn(0, 0, 30_000, 0)):
        assert losses([one]).by_cause == []
