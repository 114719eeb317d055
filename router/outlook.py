"""What choosing a candidate costs beyond this call: turns to come, the way back, what is redone, retries.

Together with the call's own cost this is the rule of FACTS 1: switch from A to B iff
E[turns left]·(warm_A − warm_B) > (cold_B − warm_B) + P(return)·cold_A + risk·(redoing it on the reference).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from features.value import Value
from router.cost import MILLIONTH, PLACE, mean_read, output_usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.cache import CacheRules, Split
    from router.prices import Rates

# What a turn adds to the prompt and how long it takes, in 27 recorded agent sessions (bench_cache.py DATA).
GROWTH_TOKENS = 1_240
TURN_MS = 9_000.0
_NOTHING = Decimal(0)


class Prospect(Value, frozen=True):
    """An arm with what is needed to look ahead; None is unknown."""

    candidate: str
    rates: Rates | None  # for a prompt as long as those to come
    rules: CacheRules | None
    lifetime: str | None  # class of the cache that is asked for; None: the default
    split: Split
    age_ms: float | None  # since its cache was last used
    output_tokens: float | None
    turns_left: float | None  # after this one
    p_success: float | None
    retry_rate: float | None = None  # share of its answers that break off
    answer_usd: Decimal | None = None  # of output_tokens at these rates, where it is at hand


class Outlook(Value, frozen=True):
    """Expected USD beyond this call; None where unknown."""

    later: Decimal | None = None  # turns to come, as many as the reference would take
    extra: Decimal | None = None  # and those that this arm takes beyond them; below 0 where it takes fewer
    back: Decimal | None = None
    redo: Decimal | None = None
    retry: Decimal | None = None
    p_back: float | None = None
    back_ms: float | None = None

    def known(self) -> Decimal:
        """What is known of it, in sum; no property, which would cost as much as the sum."""
        total = self.back or _NOTHING
        if self.later:
            total += self.later
        if self.extra:
            total += self.extra
        if self.redo:
            total += self.redo
        if self.retry:
            total += self.retry
        return total


_UNKNOWN = Outlook()


class _Menu(Value, frozen=True):
    """What the arms of one decision are compared by."""

    reference: Prospect | None
    reference_turn: Decimal
    left: Prospect | None  # who holds the session now
    left_turn: Decimal
    left_cold: Decimal | None
    counted: bool  # turns left are known of every arm that has a price, so that arms stay comparable
    retried: bool  # and so are retries


def outlooks(arms: Sequence[Prospect], last_candidate: str | None, reference: str) -> list[Outlook]:
    """Look ahead from each arm; who holds the session now is left by choosing any other.

    Turns to come are as warm as the arm's cache allows. A session comes back to the arm it left where the new
    one fails, P(return) = 1 − P(success), after the turns foretold; unless its cache outlives that, it comes
    back cold. What an arm fails at beyond the reference is done again there. An answer that breaks off is
    asked for again, of a warm prompt; what is billed of the broken one is taken as all of it.
    """
    best = left = None
    counted = retried = True
    for arm in arms:
        if arm.rates is None or arm.output_tokens is None:
            continue
        if arm.candidate == reference and best is None:
            best = arm
        if arm.candidate == last_candidate and left is None:
            left = arm
        counted = counted and arm.turns_left is not None
        retried = retried and arm.retry_rate is not None
    best_turn = None if best is None else warm_turn(best)
    left_turn = best_turn if left is best else None if left is None else warm_turn(left)
    cold = None if left is None else cold_turn(left)
    menu = _Menu(best, best_turn or _NOTHING, left, left_turn or _NOTHING, cold, counted, retried)
    return [_ahead(arm, menu) for arm in arms]


def _ahead(arm: Prospect, menu: _Menu) -> Outlook:
    """Look ahead from one arm; what its later turns cost is worked out only where it counts."""
    if arm.rates is None or arm.output_tokens is None:
        return _UNKNOWN
    later = extra = redo = retry = None
    reference, left, retry_rate = menu.reference, menu.left, arm.retry_rate
    turns = 0.0
    turn = _NOTHING
    if menu.counted or (menu.retried and retry_rate):
        turn = menu.reference_turn if arm is reference else warm_turn(arm) or _NOTHING
    if menu.counted:
        turns = arm.turns_left or 0.0
        usual = turns if reference is None else reference.turns_left or 0.0
        later = _times(usual, turn)
        extra = None if reference is None else _times(turns - usual, turn)
    if reference is not None:
        redo = _redo(arm, reference, menu.reference_turn, counted=menu.counted)
    if menu.retried and retry_rate is not None:
        retry = _NOTHING
        if retry_rate:
            again = retry_rate / max(1.0 - retry_rate, 0.1)  # retries of retries, ten at most
            retry = _times(again * (1.0 + turns), turn)
    if left is None:
        return Outlook(later, extra, None, redo, retry)
    if left is arm:
        return Outlook(later, extra, _NOTHING, redo, retry, 0.0)
    p_back = 1.0 if arm.p_success is None else 1.0 - arm.p_success
    back_ms = None if arm.turns_left is None else (arm.turns_left + 1) * TURN_MS
    return Outlook(later, extra, _back(menu, p_back, back_ms), redo, retry, p_back, back_ms)


def warm_turn(arm: Prospect) -> Decimal | None:
    """USD of one later turn with everything sent so far warm, halfway through what is to come."""
    tokens = arm.split.tokens
    length = length_ahead(tokens, arm.turns_left) if arm.turns_left else tokens
    return _turn(arm, length, length)


def cold_turn(arm: Prospect) -> Decimal | None:
    """USD of a turn of this length with nothing warm."""
    return _turn(arm, arm.split.tokens, 0)


def length_ahead(tokens: int, turns_left: float | None) -> int:
    """Length of a prompt halfway through the turns to come."""
    return tokens + round(GROWTH_TOKENS * (turns_left or 0.0) / 2)


def _turn(arm: Prospect, length: int, held: int) -> Decimal | None:
    """USD of a turn that adds its share to a prompt of which `held` tokens are in the cache.

    The sum of `router.cost.expected_cost`, rounded once.
    """
    rules, rates, output_tokens = arm.rules, arm.rates, arm.output_tokens
    if rates is None or output_tokens is None:
        return None
    read: int | Decimal = 0
    rate = rates.input
    if rules is not None and arm.split.why != "unmarked":
        if held >= rules.floor_tokens:
            read = held if rules.hits is None else mean_read(held, rules.hits[0] / rules.hits[1])
        lifetime = rules.lifetimes[0] if arm.lifetime is None else rules.lifetime(arm.lifetime)
        if lifetime.write_x is not None:
            hourly = arm.lifetime is not None and rules.hourly(lifetime)
            rate = rates.write_1h if hourly else rates.write
    prompt = (length + GROWTH_TOKENS - read) * rate
    if read:
        prompt += read * rates.cached
    said = output_usd(rates, output_tokens) if arm.answer_usd is None else arm.answer_usd
    return ((prompt * MILLIONTH).quantize(PLACE) or _NOTHING) + said


def _back(menu: _Menu, p_back: float, back_ms: float | None) -> Decimal | None:
    """Expected USD of the turn in which the session comes back to the arm it leaves."""
    left = menu.left
    if left is None or menu.left_cold is None:
        return None
    alive = 0.0
    if left.rules is not None and left.age_ms is not None and back_ms is not None:
        alive = left.rules.lifetime(left.lifetime).alive(left.age_ms + back_ms)
    cold = _times(p_back * (1 - alive), menu.left_cold)
    return _times(p_back * alive, menu.left_turn) + cold if alive else cold


def _redo(arm: Prospect, reference: Prospect, turn: Decimal, *, counted: bool) -> Decimal | None:
    """Expected USD of doing on the reference what this arm fails at beyond it."""
    if arm.p_success is None or reference.p_success is None:
        return None
    risk = reference.p_success - arm.p_success
    if not risk > 0.0:
        return _NOTHING
    turns = 1 + (reference.turns_left or 0.0) if counted else 1.0
    return _times(risk * turns, turn)


def _times(share: float, money: Decimal) -> Decimal:
    """A share or number of turns × USD, to the place that the log keeps; a millionth is the least share."""
    millionths = round(share * 1_000_000)
    return (money * millionths * MILLIONTH).quantize(PLACE) or _NOTHING if millionths else _NOTHING
