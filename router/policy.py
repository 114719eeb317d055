"""The choice, pure: arms and a situation in, a candidate with exact propensities and its reasons out.

Locks and constraints come before any price. Randomness is a number in [0, 1) that the caller derives from the
request id, so that a receipt reproduces its draw.
"""

from __future__ import annotations

import hashlib
import math
from decimal import Decimal
from typing import Literal

import msgspec

from features.errors import BadInput
from features.records import PlanStep
from features.value import Value
from models.certificate import Risk

Kind = Literal["pin", "mix", "learned"]
KNOBS = ("max_loss", "tau", "explore", "sticky", "max_spread", "risk")
RISKS: tuple[Risk, ...] = ("worse_if_cheap", "worse_of_all")
MAX_SPREAD = 0.25  # about 40 labelled rows at even odds
KINDS: tuple[Kind, ...] = ("pin", "mix", "learned")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy with its knobs; `learned` is the cheapest arm within `max_loss` of the reference's success."""

    kind: Kind
    candidate: str | None = None  # of a pin
    weights: dict[str, float] = {}  # of a mix; positive, any sum
    max_loss: float = 0.0  # success probability that a saving may cost at most
    tau: float = 0.0  # success probability that any arm but the reference must reach
    explore: float = 0.0  # share of free decisions taken uniformly at random
    sticky: bool = True  # a session keeps its candidate while that is good enough; the reference it may leave
    max_spread: float = (
        MAX_SPREAD  # a wider 90 % interval of success is no evidence: such an arm isn't learned about
    )

    certified: Risk | None = None  # the bundle's certificate of this risk sets tau
    risk: float = 0.0  # that may be certified at most; 0: what the bundle's certificate was made for

    @property
    def digest(self) -> str:
        """Digest of the policy and every knob, for the receipt."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The shortest spec that parses to this policy."""
        shown = {"pin": [self.candidate or ""], "mix": [f"{c}={w:g}" for c, w in self.weights.items()]}
        knobs = [
            f"{knob}={getattr(self, knob):g}"
            for knob in ("max_loss", "tau", "explore", "risk")
            if getattr(self, knob)
        ]
        if self.certified:
            knobs.append(f"certified={self.certified}")
        if not self.sticky:
            knobs.append("sticky=0")
        if self.max_spread != MAX_SPREAD:
            knobs.append(f"max_spread={self.max_spread:g}")
        words = [*shown.get(self.kind, []), *knobs]
        return f"{self.kind}:{','.join(words)}" if words else self.kind


class Arm(Value, frozen=True):
    """One candidate as the policy weighs it; None is unknown."""

    candidate: str
    excluded_by: str | None
    p_success: float | None
    cost_usd: Decimal | None
    spread: float | None = None  # width of the interval of p_success
    output_known: bool = True  # whether the bundle has an idea of the answer's length


class Situation(Value, frozen=True):
    """What the choice depends on beside the arms."""

    reference: str
    last_candidate: str | None  # who answered this conversation's last turn, as far as we saw it
    in_tool_loop: bool
    provider_bound: bool
    draw: float  # in [0, 1)
    last_by_client: bool = False  # who goes back to a client's own choice: no policy stays with that

    def lock(self) -> str | None:
        """What says already who must answer, at any price; None where nothing does."""
        if self.provider_bound:
            return "provider_bound"
        return "tool_loop" if self.in_tool_loop else None


class Choice(Value, frozen=True):
    """The candidate, the chance each arm had, the arms that a lock took out, and why."""

    chosen: str
    propensities: dict[str, float]
    excluded: dict[str, str]
    plan: tuple[PlanStep, ...]
    locks: tuple[str, ...]
    reasons: tuple[str, ...]
    explored: bool


def parse_policy(spec: str) -> Policy:
    """Read `pin:X`, `mix:X=0.7,Y=0.3` or `learned:max_loss=0.02,explore=0.05`; BadInput says what is off."""
    kind, _, rest = spec.strip().partition(":")
    if kind not in KINDS:
        raise BadInput(f"policy {spec!r}: unknown kind {kind!r}; use one of {', '.join(KINDS)}")
    candidate: str | None = None
    weights: dict[str, float] = {}
    knobs: dict[str, float] = {}
    certified: Risk | None = None
    for word in filter(None, (w.strip() for w in rest.split(","))):
        name, equals, value = word.rpartition("=")
        if not equals:
            candidate = word
        elif name == "certified":
            certified = _risk(spec, value)
        elif name in KNOBS:
            knobs[name] = _number(spec, name, value, 1.0)
        elif kind == "mix":
            weights[name] = _number(spec, name, value, math.inf)
        else:
            raise BadInput(f"policy {spec!r}: unknown knob {name!r}; use {', '.join(KNOBS)}")
    if (kind == "pin") != (candidate is not None):
        wrong = "name a candidate" if kind == "pin" else f"{candidate!r} is no knob=value"
        raise BadInput(f"policy {spec!r}: {wrong}")
    if kind == "mix" and not sum(weights.values()):
        raise BadInput(f"policy {spec!r}: give weights such as mix:model-a=0.7,model-b=0.3")
    if math.isinf(sum(weights.values())):
        raise BadInput(f"policy {spec!r}: the weights' sum is too large; only their ratios count")
    if "risk" in knobs and not certified:
        raise BadInput(f"policy {spec!r}: risk is of a certificate; add certified={RISKS[1]}")
    if certified and (kind != "learned" or knobs.keys() & {"max_loss", "tau", "explore"}):
        raise BadInput(f"policy {spec!r}: a certificate sets all but learned:certified={certified},risk=0.02")
    return Policy(
        kind=kind,
        candidate=candidate,
        weights=weights,
        max_loss=knobs.get("max_loss", 0.0),
        tau=knobs.get("tau", 0.0),
        explore=knobs.get("explore", 0.0),
        sticky=bool(knobs.get("sticky", 1.0)),
        max_spread=knobs.get("max_spread", MAX_SPREAD),
        certified=certified,
        risk=knobs.get("risk", 0.0),
    )


def _risk(spec: str, value: str) -> Risk:
    found = next((risk for risk in RISKS if risk == value), None)
    if found is None:
        raise BadInput(f"policy {spec!r}: certified must be {' or '.join(RISKS)}, not {value!r}")
    return found


def _number(spec: str, name: str, value: str, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0.0 <= number <= most or math.isinf(number):
        raise BadInput(f"policy {spec!r}: {name} must be a number from 0 to {most:g}, not {value!r}")
    return number


def choose(policy: Policy, arms: list[Arm], situation: Situation) -> Choice:
    """Choose among the arms; with none left after locks and constraints, the reference answers.

    The propensities of the eligible arms sum to 1; a locked decision has propensity 1.
    """
    lock = situation.lock()
    if lock is not None:
        return _locked(lock, [arm for arm in arms if arm.excluded_by is None], situation)
    by_cost, reference = policy.kind == "learned", situation.reference
    free = []
    priced = {}
    for arm in arms:
        if arm.excluded_by is not None:
            continue
        if by_cost and arm.cost_usd is None and arm.candidate != reference:
            priced[arm.candidate] = _costless(arm)  # so it can't be chosen; the reference may stay
        else:
            free.append(arm)
    if not free:
        return _only(situation.reference, priced, (), ("no candidate is eligible: the reference answers",))
    chances, reasons = _chances(policy, free, situation)
    if priced:
        whose = ", ".join(sorted(set(priced.values())))
        reasons.append(f"{len(priced)} left out because their cost is unknown ({whose})")
    greedy = chances
    if policy.explore:
        chances = {c: (1 - policy.explore) * p + policy.explore / len(free) for c, p in chances.items()}
    chosen = _drawn(chances, situation.draw)
    explored = bool(policy.explore) and greedy[chosen] == 0.0
    if explored:
        reasons.append(f"exploration (epsilon {policy.explore:g}) drew {chosen}")
    return Choice(chosen, chances, priced, _call(chosen), (), tuple(reasons), explored)


_LOCKS = {
    "tool_loop": "a tool loop has begun",
    "provider_bound": "the conversation holds provider-bound state",
}


def _locked(lock: str, free: list[Arm], situation: Situation) -> Choice:
    """Answer with the lock's holder, or with the reference if the holder is unknown or can't serve this."""
    holder = situation.last_candidate or situation.reference
    others = {arm.candidate: lock for arm in free if arm.candidate != holder}
    if any(arm.candidate == holder for arm in free):
        whose = "its candidate" if situation.last_candidate else "by whom is unknown: the reference"
        return _only(holder, others, (lock,), (f"{_LOCKS[lock]}; {whose} answers",))
    others.pop(situation.reference, None)
    why = f"{_LOCKS[lock]}, but {holder} is not eligible any more: the reference answers"
    return _only(situation.reference, others, (lock,), (why,))


def _only(chosen: str, excluded: dict[str, str], locks: tuple[str, ...], reasons: tuple[str, ...]) -> Choice:
    return Choice(chosen, {chosen: 1.0}, excluded, _call(chosen), locks, reasons, explored=False)


def _call(chosen: str) -> tuple[PlanStep, ...]:
    return (PlanStep(action="call", candidate=chosen),)


def _costless(arm: Arm) -> str:
    """What an unknown cost is for want of."""
    return "unknown_price" if arm.output_known else "unknown_output_tokens"


def _chances(policy: Policy, free: list[Arm], situation: Situation) -> tuple[dict[str, float], list[str]]:
    """Chance of each free arm before exploration, and why."""
    if policy.kind == "learned":
        return _learned(policy, free, situation)
    names = [arm.candidate for arm in free]
    if policy.kind == "pin":
        wanted = policy.candidate or situation.reference
        reason = f"pinned to {wanted}"
        if wanted not in names:
            reason += f", which is not eligible: {_fallback(names, situation)} answers"
        return _certain(names, wanted if wanted in names else _fallback(names, situation)), [reason]
    return _mixed(policy, names, situation)


def _mixed(policy: Policy, names: list[str], situation: Situation) -> tuple[dict[str, float], list[str]]:
    weights = {name: policy.weights.get(name, 0.0) for name in names}
    last = _stays_with(policy, situation)
    if last is not None and weights.get(last):
        return _certain(names, last), [f"the session stays with {last}"]
    total = sum(weights.values())
    if not total:
        return _certain(names, _fallback(names, situation)), ["no candidate of the mix is eligible"]
    return {name: weight / total for name, weight in weights.items()}, ["drawn from the mix"]


def _learned(policy: Policy, free: list[Arm], situation: Situation) -> tuple[dict[str, float], list[str]]:
    """Take the cheapest arm whose success is within `max_loss` of the reference's and at least `tau`."""
    names, reference = [], None
    for arm in free:
        names.append(arm.candidate)
        if arm.candidate == situation.reference:
            reference = arm
    if reference is None:  # the likeliest to succeed stands in for it
        best = max(free, key=lambda a: (a.p_success or 0.0, -_cost_order(a), a.candidate)).candidate
        return _certain(names, best), [f"the reference is not eligible: {best} is the likeliest to succeed"]
    if reference.p_success is None or not _known(policy, reference):
        why = f"the bundle has no evidence on the reference {reference.candidate}: it answers"
        return _certain(names, reference.candidate), [why]
    floor = max(reference.p_success - policy.max_loss, policy.tau)
    good = [a for a in free if a is reference or (_known(policy, a) and (a.p_success or 0.0) >= floor)]
    last = _stays_with(policy, situation)
    # The reference is always good enough: to stay with it would be never to come back from it.
    if last not in (None, reference.candidate) and any(a.candidate == last for a in good):
        return _certain(names, last), [f"the session stays with {last}, at or above the floor {floor:.4f}"]
    cheapest = min(good, key=lambda a: (_cost_order(a), -(a.p_success or 0.0), a.candidate))
    reason = (
        f"{cheapest.candidate} is the cheapest of {len(good)} at or above the floor {floor:.4f} "
        f"(reference {reference.p_success:.4f}, max_loss {policy.max_loss:g}, tau {policy.tau:g})"
    )
    return _certain(names, cheapest.candidate), [reason]


def _stays_with(policy: Policy, situation: Situation) -> str | None:
    """The candidate that a policy chose for this conversation before and may keep."""
    return situation.last_candidate if policy.sticky and not situation.last_by_client else None


def _known(policy: Policy, arm: Arm) -> bool:
    """Tell whether there is evidence on an arm: its success is known closely enough to be compared."""
    return arm.p_success is not None and arm.spread is not None and arm.spread <= policy.max_spread


def _cost_order(arm: Arm) -> Decimal:
    return Decimal("Infinity") if arm.cost_usd is None else arm.cost_usd


def _fallback(names: list[str], situation: Situation) -> str:
    return situation.reference if situation.reference in names else names[0]


def _certain(names: list[str], chosen: str | None) -> dict[str, float]:
    chances = dict.fromkeys(names, 0.0)
    if chosen in chances:
        chances[chosen] = 1.0
    return chances


def _drawn(chances: dict[str, float], draw: float) -> str:
    """Walk the cumulative chances in the arms' order; rounding at the end falls to the last possible arm."""
    reached = 0.0
    last = ""
    for name, chance in chances.items():
        if chance > 0.0:
            last = name
            reached += chance
            if draw < reached:
                return name
    return last
