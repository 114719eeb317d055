"""Candidates as a decision sees them: described to the bundle, priced, checked, written into the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from features.cache import Split
from features.names import best_known, candidate_name
from features.records import ArmRecord
from models.bundle import CandidateView
from models.offset import shifted
from router import prices
from router.constraints import exclusion
from router.cost import cache_rules, expected_cost
from router.describe import descriptor_of
from router.outlook import Prospect, length_ahead, outlooks
from router.policy import Arm, Choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from features.facts import Facts
    from models.bundle import Predictions
    from models.descriptors import Prices
    from models.manifest import CandidateProfile
    from router.catalog import Candidate, Deployment
    from router.decide import Given


REMEMBERED = 4096  # names looked up; clients may invent some


class Option(NamedTuple):
    """A candidate that the request could go to, and what takes it out before any facts are looked at."""

    candidate: str
    deployment: Deployment | None
    split: Split
    excluded_by: str | None = None
    age_ms: float | None = None  # since the conversation last used its cache
    retry_rate: float | None = None  # share of the deployment's answers that break off


class Quote(NamedTuple):
    """An option that is deployed, with the rates in force for it."""

    option: Option
    deployment: Deployment
    rates: prices.Rates | None


def quote(options: list[Option], ts_ms: int, service_tier: str | None = None) -> list[Quote]:
    """Look up the rates of every option that is deployed, in the tier asked for."""
    return [
        Quote(o, o.deployment, _rates(o.deployment, ts_ms, o.split.tokens, service_tier))
        for o in options
        if o.deployment is not None
    ]


def _rates(deployment: Deployment, ts_ms: int, tokens: int, service_tier: str | None) -> prices.Rates | None:
    """Rates of a deployment for a prompt of that length."""
    model, provider, tier = deployment.model, deployment.provider, deployment.tier or service_tier
    return prices.rates(model, provider, ts_ms, tokens, tier, region=deployment.region)


class Learned:
    """The candidates a bundle has evidence on, found under whatever name and effort they are asked for."""

    def __init__(self, profiles: Iterable[CandidateProfile]) -> None:
        self._names = {candidate_name(p.candidate): p.candidate for p in profiles}
        self._trained = frozenset(self._names.values())
        self._rows = {candidate_name(p.candidate): p.rows for p in profiles}
        self._found: dict[tuple[str, str, float | None], str] = {}

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


def view(
    quoted: Quote, learned: Learned, effort: float | None, row: Candidate | None = None
) -> CandidateView:
    """Describe a candidate to the bundle under the name it was trained under, or by what is said of it."""
    candidate, model = quoted.option.candidate, quoted.deployment.model
    known = learned.name(candidate, model, effort)
    rates = quoted.rates
    prices: Prices = (None, None) if rates is None else (float(rates.input), float(rates.output))
    unseen = not learned.knows(known)
    said = descriptor_of(candidate_name(candidate, effort), prices, row) if unseen else None
    return CandidateView(known, prices[0], prices[1], said)


def unseen_reason(views: list[CandidateView]) -> str:
    """Say which arms the bundle has no rows of, and what their interval stands on."""
    named = ", ".join(v.candidate for v in views[:3]) + (f" and {len(views) - 3} more" if views[3:] else "")
    probed = sum(bool(v.descriptor and v.descriptor.probe) for v in views)
    facts = "public facts and its catalogue's probe" if probed else "public facts alone"
    return f"no outcome of {named} in the bundle: judged by {facts}, so the interval is wide"


def moved(beliefs: Predictions, log_odds: float) -> Predictions:
    """Beliefs with every success moved by a repository's offset."""
    low, p, high = (
        shifted(column, log_odds)
        for column in (beliefs.p_success_low, beliefs.p_success, beliefs.p_success_high)
    )
    return beliefs._replace(p_success_low=low, p_success=p, p_success_high=high)


def arm_records(
    quotes: list[Quote], beliefs: Predictions, facts: Facts, rows: Mapping[str, Candidate]
) -> list[ArmRecord]:
    """Write down every quoted candidate; one without a row was asked for by name and is held to nothing."""
    columns = zip(quotes, *(column.tolist() for column in beliefs), strict=True)
    return [_record(quoted, row, facts, rows.get(quoted.option.candidate)) for quoted, *row in columns]


def _record(quoted: Quote, beliefs: list[float], facts: Facts, row: Candidate | None) -> ArmRecord:
    success, low, high, output, reasoning, _, turns = (
        None if v != v else v for v in beliefs
    )  # NaN is unknown
    option, split = quoted.option, quoted.option.split
    cost = expected_cost(quoted.rates, split, output)
    excluded = option.excluded_by
    if excluded is None and row is not None:
        excluded = exclusion(row, quoted.deployment, facts, split.tokens)
    return ArmRecord(
        candidate=option.candidate,
        deployment=quoted.deployment.id,
        eligible=excluded is None,
        excluded_by=excluded,
        p_success=success,
        p_success_low=low,
        p_success_high=high,
        output_tokens=output,
        input_tokens_est=float(split.tokens),
        cached_tokens_est=float(split.read),
        cache_write_tokens_est=float(split.write + split.write_1h),
        cache_write_1h_tokens_est=float(split.write_1h) or None,
        cache_hit=split.hit,
        cache_sure=split.sure,
        cache_why=split.why,
        cache_age_ms=option.age_ms,
        retry_rate=option.retry_rate,
        reasoning_tokens=reasoning,
        turns_left=turns,
        cost_usd=cost and cost.total,
        cost_fresh_usd=cost and cost.fresh,
        cost_cached_usd=cost and cost.cached,
        cost_write_usd=cost and cost.written,
        cost_output_usd=cost and cost.output,
    )


def looking_ahead(arms: list[ArmRecord], quotes: list[Quote], given: Given) -> list[ArmRecord]:
    """Write into every arm what choosing it costs beyond this call."""
    prospects = [_prospect(arm, quoted, given) for arm, quoted in zip(arms, quotes, strict=True)]
    ahead = outlooks(prospects, given.last_candidate, given.reference)
    return [
        replace(
            arm,
            cost_later_usd=seen.later,
            cost_extra_usd=seen.extra,
            cost_return_usd=seen.back,
            return_p=seen.p_back,
            return_ms=seen.back_ms,
            cost_redo_usd=seen.redo,
            cost_retry_usd=seen.retry,
        )
        for arm, seen in zip(arms, ahead, strict=True)
    ]


def _prospect(arm: ArmRecord, quoted: Quote, given: Given) -> Prospect:
    """An arm with what is needed to look ahead, priced for prompts as long as those to come."""
    deployment, split = quoted.deployment, quoted.option.split
    ahead = length_ahead(split.tokens, arm.turns_left)
    return Prospect(
        arm.candidate,
        _rates(deployment, given.ts_ms, ahead, given.service_tier),
        cache_rules(deployment, given.ts_ms, given.asked),
        given.asked.lifetime,
        split,
        arm.cache_age_ms,
        arm.output_tokens,
        arm.turns_left,
        arm.p_success,
        arm.retry_rate,
    )


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
        why=arm.cache_why or "no_rules",  # type: ignore[arg-type]  # written by _record
    )


def absent_records(options: list[Option]) -> list[ArmRecord]:
    """Write down the candidates that aren't deployed in the request's dialect."""
    return [
        ArmRecord(candidate=o.candidate, eligible=False, excluded_by=o.excluded_by)
        for o in options
        if o.deployment is None
    ]


def weighed(arm: ArmRecord) -> Arm:
    """What the policy looks at of an arm."""
    low, high = arm.p_success_low, arm.p_success_high
    spread = None if low is None or high is None else high - low
    known = arm.output_tokens is not None
    return Arm(arm.candidate, arm.excluded_by, arm.p_success, compared_usd(arm), spread, known)


def compared_usd(arm: ArmRecord) -> Decimal | None:
    """USD by which arms are compared: of this call and of what is known to follow from it."""
    if arm.cost_usd is None:
        return None
    ahead = (
        arm.cost_later_usd,
        arm.cost_extra_usd,
        arm.cost_return_usd,
        arm.cost_redo_usd,
        arm.cost_retry_usd,
    )
    return sum((part for part in ahead if part is not None), arm.cost_usd)


def settled(arm: ArmRecord, choice: Choice) -> ArmRecord:
    """Write the choice's verdict on an arm into its record."""
    excluded = choice.excluded.get(arm.candidate, arm.excluded_by)
    chance = choice.propensities.get(arm.candidate, 0.0)
    if excluded == arm.excluded_by and chance == arm.propensity:
        return arm
    return replace(arm, eligible=excluded is None, excluded_by=excluded, propensity=chance)
