"""What a provider's headers say of limits: how long to stay away, and what is left until when. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_S = 366 * 86400.0  # to wait; who says more means for ever
# "1m6.5s", "20ms", "2h", or bare seconds
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_SPANS = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d)?){1,5}")


class Left(Value, frozen=True):
    """How much is left of one limit, and for how many seconds that holds."""

    amount: float
    reset_s: float


class Allowance(Value, frozen=True):
    """What is left of an account's limits; None is not said."""

    requests: Left | None
    tokens: Left | None


# remaining and reset, of requests and of tokens, as the two families of sellers write them
_REQUESTS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
)
_TOKENS = (
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
)
_SAID = frozenset(remaining for remaining, _ in (*_REQUESTS, *_TOKENS))


def allowance(headers: Mapping[str, str], now_s: float) -> Allowance | None:
    """Read what headers say is left; None where they say nothing. `now_s` is UTC epoch seconds."""
    if _SAID.isdisjoint(headers):
        return None
    requests, tokens = _left(headers, _REQUESTS, now_s), _left(headers, _TOKENS, now_s)
    return None if requests is None and tokens is None else Allowance(requests, tokens)


def _left(headers: Mapping[str, str], names: tuple[tuple[str, str], ...], now_s: float) -> Left | None:
    for remaining, reset in names:
        said = headers.get(remaining)
        if said is None:
            continue
        amount, span = _number(said), seconds_of(headers.get(reset, ""), now_s)
        return None if amount is None or span is None else Left(amount, span)
    return None


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that a provider asks to be left alone for; None where it doesn't say."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(MOST_S, milliseconds / 1000)
    return seconds_of(headers.get("retry-after", ""), now_s)


def seconds_of(text: str, now_s: float) -> float | None:
    """Read a time to wait: seconds, "1m6.5s", a date in HTTP's form or ISO 8601; None for all else."""
    text = text.strip()
    if _SPANS.fullmatch(text):
        return min(MOST_S, sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(text)))
    until = _date(text)
    return None if until is None else min(MOST_S, max(0.0, until.timestamp() - now_s))


def _date(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text)
        except (ValueError, TypeError, OverflowError):
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
