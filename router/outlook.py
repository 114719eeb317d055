"""What choosing a candidate costs beyond this call: the turns to come, the way back, what has to be redone.

Together with the call's own cost this is the rule of FACTS 1: switch from A to B iff
E[turns left]·(warm_A − warm_B) > (cold_B − warm_B) + P(return)·cold_A + risk·(redoing it on the reference).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from features.cache import Split
from router.cost import expected_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.cache import CacheRules
    from router.prices import Rates

# What a turn adds to the prompt and how long it takes, in 27 recorded agent sessions (bench_cache.py DATA).
GROWTH_TOKENS = 1_240
TURN_MS = 9_000.0
_PLACE = Decimal("1e-12")
_NOTHING = Decimal(0)


class Prospect(NamedTuple):
    """An arm with what is needed to look ahead; None is unknown."""

    candidate: str
    rates: Rates | None
    rules: CacheRules | None
    split: Split
    age_ms: float | None  # since its cache was last used
    output_tokens: float | None
    turns_left: float | None  # after this one
    p_success: float | None


class Outlook(NamedTuple):
    """Expected USD beyond this call; None where it is unknown for any arm, so that arms stay comparable."""

    later: Decimal | None
    back: Decimal | None
    redo: Decimal | None

    @property
    def total(self) -> Decimal:
        """What is known of it."""
        return (self.later or _NOTHING) + (self.back or _NOTHING) + (self.redo or _NOTHING)


def outlooks(arms: Sequence[Prospect], last_candidate: str | None, reference: str) -> list[Outlook]:
    """Look ahead from each arm; who holds the session now is left by choosing any other.

    Turns to come are as warm as the arm's cache allows. A session comes back to the arm it left where the new
    one fails, P(return) = 1 − P(success), after the turns foretold; unless its cache outlives that, it comes
    back cold. What an arm fails at beyond the reference is done again there.
    """
    warm = [warm_turn(arm) for arm in arms]
    priced = [i for i, arm in enumerate(arms) if warm[i] is not None]
    later_known = bool(priced) and all(arms[i].turns_left is not None for i in priced)
    left = next((i for i in priced if arms[i].candidate == last_candidate), None)
    best = next((i for i in priced if arms[i].candidate == reference), None)
    found = []
    for i, arm in enumerate(arms):
        turn = warm[i]
        if turn is None:
            found.append(Outlook(None, None, None))
            continue
        later = _times(arm.turns_left or 0.0, turn) if later_known else None
        back = None if left is None else _NOTHING
        if left is not None and left != i:
            back = _back(arms[left], warm[left] or _NOTHING, arm)
        redo = None if best is None else _redo(arm, arms[best], warm[best] or _NOTHING, known=later_known)
        found.append(Outlook(later, back, redo))
    return found


def warm_turn(arm: Prospect) -> Decimal | None:
    """USD of one later turn with everything sent so far warm, halfway through what is to come."""
    length = arm.split.tokens + round(GROWTH_TOKENS * (arm.turns_left or 0.0) / 2)
    return _turn(arm, length, length)


def cold_turn(arm: Prospect) -> Decimal | None:
    """USD of a turn of this length with nothing warm."""
    return _turn(arm, arm.split.tokens, 0)


def _turn(arm: Prospect, length: int, held: int) -> Decimal | None:
    """USD of a turn that adds its share to a prompt of which `held` tokens are in the cache."""
    rules = arm.rules
    if rules is None or arm.split.why == "unmarked" or held < rules.floor_tokens:
        held = 0
    new = length - held + GROWTH_TOKENS
    billed = rules is not None and arm.split.why != "unmarked" and rules.lifetimes[0].write_x is not None
    hits = 1.0 if rules is None or rules.hits is None else rules.hits[0] / rules.hits[1]
    split = Split(held, new if billed else 0, 0, 0 if billed else new, hits, 1.0, 0, "warm")
    cost = expected_cost(arm.rates, split, arm.output_tokens)
    return None if cost is None else cost.total


def _back(left: Prospect, warm: Decimal, arm: Prospect) -> Decimal | None:
    """Expected USD of the turn in which the session comes back to the arm it leaves."""
    cold = cold_turn(left)
    if cold is None:
        return None
    alive = 0.0
    if left.rules is not None and left.age_ms is not None and arm.turns_left is not None:
        alive = left.rules.lifetimes[0].alive(left.age_ms + (arm.turns_left + 1) * TURN_MS)
    p_return = 1.0 if arm.p_success is None else 1.0 - arm.p_success
    return _times(p_return * alive, warm) + _times(p_return * (1 - alive), cold)


def _redo(arm: Prospect, reference: Prospect, warm: Decimal, *, known: bool) -> Decimal | None:
    """Expected USD of doing on the reference what this arm fails at beyond it."""
    if arm.p_success is None or reference.p_success is None:
        return None
    risk = max(0.0, reference.p_success - arm.p_success)
    turns = 1 + (reference.turns_left or 0.0) if known else 1.0
    return _times(risk * turns, warm)


def _times(share: float, money: Decimal) -> Decimal:
    """A share or number of turns × USD, to the place that the log keeps."""
    return (Decimal(round(share * 1_000_000)).scaleb(-6) * money).quantize(_PLACE)
