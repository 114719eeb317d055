"""Candidates as a decision sees them: described to the bundle, priced, checked, written into the receipt."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from features.cache import Split
from features.names import best_known, candidate_name
from features.records import ArmRecord
from features.value import Value
from models.bundle import CandidateView
from models.offset import shifted
from router import prices
from router.constraints import exclusion
from router.cost import Asked, Cost, cache_rules, expected_cost
from router.describe import descriptor_of
from router.outlook import Outlook, Prospect, length_ahead, outlooks
from router.policy import Arm, Choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from features.cache import CacheRules
    from models.belief import Belief
    from models.descriptors import Prices
    from models.manifest import CandidateProfile
    from router.catalog import Candidate, Deployment
    from router.given import Given


# The very default, which alone isn't written out: a receipt stays byte for byte what it was.
_UNDRAWN = ArmRecord(candidate="").propensity
REMEMBERED = 4096  # names looked up; clients may invent some


class Terms(Value, frozen=True):
    """What is published of a deployment in one half hour, for one tier and one way of asking to be cached."""

    rules: CacheRules | None  # of its cache
    ladder: prices.Ladder  # rates by the length of the prompt
    window: int | None  # input tokens that its model takes


class Option(Value, frozen=True):
    """A candidate that the request could go to, and what takes it out before any facts are looked at."""

    candidate: str
    deployment: Deployment
    terms: Terms
    tokens: int  # of the prompt
    rates: prices.Rates | None  # for a prompt of that length
    split: Split
    excluded_by: str | None = None
    age_ms: float | None = None  # since the conversation last used its cache
    retry_rate: float | None = None  # share of the deployment's answers that break off
    broken_calls: float | None = None  # share of its answers in this session with a tool call of no use


class Judged(Value, frozen=True):
    """An option with what is believed of it and what it would cost, before the choice."""

    option: Option
    excluded_by: str | None
    belief: Belief
    cost: Cost | None  # of this call
    ahead: Outlook  # beyond it


def terms_of(deployment: Deployment, ts_ms: int, tier: str | None, asked: Asked) -> Terms:
    """What holds for a call at this time; `tier` is the client's, a deployment may ask for one of its own."""
    model, provider = deployment.model, deployment.provider
    tier = (deployment.tier if deployment.asks else None) or tier
    ladder = prices.ladder(model, provider, ts_ms, tier, region=deployment.region)
    return Terms(cache_rules(deployment, ts_ms, asked), ladder, prices.context_window(model, provider))


class Learned:
    """The candidates a bundle has evidence on, found under whatever name and effort they are asked for.

    `described` are the catalogue's rows: what is said of those that it has none on.
    """

    def __init__(self, profiles: Iterable[CandidateProfile], described: Mapping[str, Candidate]) -> None:
        self._names = {candidate_name(p.candidate): p.candidate for p in profiles}
        self._trained = frozenset(self._names.values())
        self._rows = {candidate_name(p.candidate): p.rows for p in profiles}
        self._described = described
        self._found: dict[tuple[str, str, float | None], str] = {}
        self._views: dict[tuple[str, str, float | None, int], tuple[CandidateView, prices.Rates | None]] = {}

    def name(self, candidate: str, model: str, effort: float | None) -> str:
        """Name under which the bundle knows a candidate, or the candidate itself where it doesn't.

        `effort` is the rank that the client asks for; a candidate with an effort of its own keeps that.
        """
        key = (candidate, model, effort)
        if key not in self._found:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            known = (best_known(said, effort, self._rows) for said in (candidate, model))
            self._found[key] = next((self._names[name] for name in known if name), candidate)
        return self._found[key]

    def knows(self, name: str) -> bool:
        """Whether the bundle has rows under this name."""
        return name in self._trained

    def views(self, options: Iterable[Option], effort: float | None) -> tuple[CandidateView, ...]:
        """Describe candidates to the bundle by the names they were trained under, or by what is said of them.

        Rates are known again by their id, which is sound as what is remembered holds them: while it does, no
        others can have that id.
        """
        views = []
        for option in options:
            candidate, model, rates = option.candidate, option.deployment.model, option.rates
            key = (candidate, model, effort, id(rates))
            known = self._views.get(key)
            if known is None:
                if len(self._views) >= REMEMBERED:
                    self._views.clear()
                known = self._views[key] = self._view(option, effort), rates
            views.append(known[0])
        return tuple(views)

    def _view(self, option: Option, effort: float | None) -> CandidateView:
        candidate, rates = option.candidate, option.rates
        known = self.name(candidate, option.deployment.model, effort)
        shown: Prices = (None, None) if rates is None else (float(rates.input), float(rates.output))
        unseen = not self.knows(known)
        row = self._described.get(candidate)
        said = descriptor_of(candidate_name(candidate, effort), shown, row) if unseen else None
        return CandidateView(known, *shown, said)


@lru_cache(maxsize=256)  # of what a catalogue's candidates may be
def unseen_reason(named: tuple[str, ...], *, probed: bool) -> str:
    """Say which arms the bundle has no rows of, and what their interval stands on."""
    shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if named[3:] else "")
    facts = "public facts and its catalogue's probe" if probed else "public facts alone"
    return f"no outcome of {shown} in the bundle: judged by {facts}, so the interval is wide"


def moved(arms: tuple[Belief, ...], log_odds: float) -> tuple[Belief, ...]:
    """Beliefs with every success moved by a repository's offset."""
    said = [(a.p_success, a.p_success_low, a.p_success_high) for a in arms]
    now = shifted(np.array(said, dtype=np.float64), log_odds).tolist()  # None is NaN, and stays None
    return tuple(
        a if a.p_success is None else replace(a, p_success=p, p_success_low=low, p_success_high=high)
        for a, (p, low, high) in zip(arms, now, strict=True)
    )


def judged(given: Given, beliefs: Sequence[Belief], rows: Mapping[str, Candidate]) -> list[Judged]:
    """What is believed of every option, what it costs, and what choosing it costs beyond this call.

    One without a row was asked for by name and is held to nothing.
    """
    facts, lifetime = given.facts, given.asked.lifetime
    barred, held, costs, prospects = [], [], [], []
    for option, belief in zip(given.options, beliefs, strict=True):
        if option.broken_calls:  # a tool call that can't be carried out solves nothing
            belief = _less(belief, 1.0 - option.broken_calls)
        terms, split, rates, output = option.terms, option.split, option.rates, belief.output_tokens
        cost = expected_cost(rates, split, output)
        row, why = rows.get(option.candidate), option.excluded_by
        if row is not None and not why:
            why = exclusion(row, terms.window, facts, option.tokens)
        barred.append(why)
        held.append(belief)
        costs.append(cost)
        answer_usd = None if cost is None else cost.output
        if len(terms.ladder) != 1:  # else prompts to come have this one's rates, however long they are
            rates = prices.step(terms.ladder, length_ahead(option.tokens, belief.turns_left))
            answer_usd = answer_usd if rates is option.rates else None
        prospect = Prospect(
            option.candidate,
            rates,
            terms.rules,
            lifetime,
            split,
            option.age_ms,
            output,
            belief.turns_left,
            belief.p_success,
            option.retry_rate,
            answer_usd,
        )
        prospects.append(prospect)
    ahead = outlooks(prospects, given.last_candidate, given.reference)
    return list(map(Judged, given.options, barred, held, costs, ahead))


def _less(arm: Belief, share: float) -> Belief:
    """A belief of which only a share is left."""
    p, low, high = arm.p_success, arm.p_success_low, arm.p_success_high
    if p is None or low is None or high is None:
        return arm
    return replace(arm, p_success=p * share, p_success_low=low * share, p_success_high=high * share)


def weighed(arms: Iterable[Judged], *, priced: bool = True) -> list[Arm]:
    """What the policy looks at of arms: a cost is of this call and of what is known to follow from it.

    Not `priced`, no cost is added up: the policy won't ask for one.
    """
    found = []
    for arm in arms:
        belief, cost = arm.belief, arm.cost
        low, high = belief.p_success_low, belief.p_success_high
        spread = None if low is None or high is None else high - low
        usd = cost.total + arm.ahead.known() if priced and cost is not None else None
        known = belief.output_tokens is not None
        found.append(Arm(arm.option.candidate, arm.excluded_by, belief.p_success, usd, spread, known))
    return found


def arm_records(arms: Iterable[Judged], choice: Choice) -> list[ArmRecord]:
    """Write arms down with the choice's verdict on them; their values stand in the record's own order."""
    records = []
    for arm in arms:
        option, belief, cost, ahead = arm.option, arm.belief, arm.cost, arm.ahead
        candidate, split = option.candidate, option.split
        excluded = choice.excluded.get(candidate, arm.excluded_by)
        chance = choice.propensities.get(candidate, 0.0)
        record = ArmRecord(
            candidate,
            option.deployment.id,
            excluded is None,
            excluded,
            belief.p_success,
            belief.p_success_low,
            belief.p_success_high,
            belief.output_tokens,
            float(option.tokens),
            float(split.read),
            float(split.write + split.write_1h),
            float(split.write_1h) or None,
            split.hit,
            split.sure,
            split.why,
            option.age_ms,
            belief.reasoning_tokens,
            belief.turns_left,
            None if cost is None else cost.total,
            None if cost is None else cost.fresh,
            None if cost is None else cost.cached,
            None if cost is None else cost.written,
            None if cost is None else cost.output,
            ahead.later,
            ahead.extra,
            ahead.back,
            ahead.p_back,
            ahead.back_ms,
            ahead.redo,
            ahead.retry,
            option.retry_rate,
            option.broken_calls,
            chance if chance or excluded != arm.excluded_by else _UNDRAWN,
        )
        records.append(record)
    return records


def split_of(arm: ArmRecord) -> Split:
    """The split that an arm was written down with; older receipts don't say how sure it was."""
    read, written = round(arm.cached_tokens_est or 0), round(arm.cache_write_tokens_est or 0)
    hourly = round(arm.cache_write_1h_tokens_est or 0)
    return Split(
        read=read,
        write=written - hourly,
        write_1h=hourly,
        fresh=round(arm.input_tokens_est or 0) - read - written,
        hit=arm.cache_hit or 0.0,
        sure=arm.cache_sure or 0.0,
        lost=0,
        why=arm.cache_why or "no_rules",  # type: ignore[arg-type]  # written by arm_records
    )


@lru_cache(maxsize=REMEMBERED)
def absent_record(candidate: str, excluded_by: str | None) -> ArmRecord:
    """The record of a candidate that can't be called."""
    return ArmRecord(candidate=candidate, eligible=False, excluded_by=excluded_by)
