"""Where a log's own costs and the price table disagree, session by session, and what would explain it.

A session that is off is priced again under each way in which logs are known to differ from bills. A way
explains it where it meets the recorded cost, and is only believed where it does so for at least half of the
sessions of that harness and model that are off: one of a dozen ways meets a single session by luck easily.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from router import prices
from training.spend.ways import TOLERANCE, WAYS, Way, eras

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.spend.calls import Priced

OFF = 0.05  # a session further off than this share of its recorded cost must be explained
TOTAL_WITHIN = 0.02
MEDIAN_WITHIN = 0.05
ROUNDED_TO = 4  # decimal places, at most, of costs that were rounded to be shown
LEAST_OUTPUT = 16  # tokens a call: no answer with a tool call is shorter on average
SUB_AGENTS = frozenset({"Task", "Agent", "task", "spawn_agent"})
UNEXPLAINED = "unexplained"
NEARLY_ALL = 0.9  # of the sessions of a harness and model, before a factor is the seller's own price

REASONS = {
    "rounded": "costs are recorded rounded, and that is all the difference",
    "recorded_zero": "recorded as free: a subscription, a free model, or a cost nobody wrote down",
    "output_missing": "hardly any output is counted, fewer tokens a call than any answer has: counts are cut",
    "sub_agents": "sub-agents ran on other models, and are counted under this one",
    "mixed_models": "cache writes are counted that this model's seller doesn't bill: others answered, too",
    "aggregator": "sold by an aggregator, at the price of the upstream that it chose",
    "factor": "the same factor in nearly every session of this model: the seller's own price",
    UNEXPLAINED: "none of the ways in which logs differ from bills meets it",
    **{name: way.means for name, way in WAYS.items()},
}


class SessionCheck(msgspec.Struct, kw_only=True):
    """One session whose recorded cost the price table misses by more than 5 %."""

    session: str
    model: str
    harness: str | None
    calls: int
    recorded_usd: Decimal
    listed_usd: Decimal
    error: float | None  # (listed − recorded) / recorded
    reason: str
    detail: str
    explained_usd: Decimal = Decimal(0)  # the table's, with what explains it put right


class Agreement(msgspec.Struct, kw_only=True):
    """Recorded costs against the price table, over calls that have both; errors are shares of recorded.

    Sessions recorded as free are listed under `off` and are in no sum.
    """

    calls: int = 0
    sessions: int = 0
    recorded_usd: Decimal = Decimal(0)
    listed_usd: Decimal = Decimal(0)
    relative_error: float | None = None
    session_median_error: float | None = None
    explained_relative_error: float | None = None  # with each session priced the way that explains it
    sessions_off: int = 0
    sessions_unexplained: int = 0
    reasons: dict[str, int] = {}
    off: list[SessionCheck] = []
    ok: bool | None = None  # total within 2 %, median session within 5 %, nothing unexplained; None: no costs


class Found(NamedTuple):
    """Why a session is off, in words, and its price with that put right."""

    reason: str
    detail: str
    usd: Decimal


def agreement(calls: Iterable[Priced]) -> Agreement:
    """Compare every session that has recorded costs and prices for them."""
    sessions: defaultdict[tuple[str, str | None, str], list[Priced]] = defaultdict(list)
    for one in calls:
        if one.call.recorded is not None and _usd(one) is not None:
            sessions[one.call.session_id, one.call.harness, one.call.model].append(one)
    result = Agreement(sessions=len({session for session, _, _ in sessions}))
    if not sessions:
        return result
    off = {key: part for key, part in sessions.items() if _is_off(part)}
    found = _explained(off, sessions)
    errors, put_right = _by_session(sessions, found)
    for part in sessions.values():
        if not _recorded(part):
            continue
        result.calls += len(part)
        result.recorded_usd += _recorded(part)
        result.listed_usd += _listed(part)
    result.relative_error = _error(result.listed_usd, result.recorded_usd)
    result.session_median_error = statistics.median(errors) if errors else None
    result.explained_relative_error = _error(put_right, result.recorded_usd)
    result.off = sorted((_check(key, off[key], found[key]) for key in off), key=_by_money)
    result.sessions_off = len(off)
    result.reasons = dict(Counter(check.reason for check in result.off).most_common())
    result.sessions_unexplained = result.reasons.get(UNEXPLAINED, 0)
    known = result.relative_error is not None and result.session_median_error is not None
    result.ok = known and (
        abs(result.relative_error or 0) <= TOTAL_WITHIN
        and (result.session_median_error or 0) <= MEDIAN_WITHIN
        and not result.sessions_unexplained
    )
    return result


Key = tuple[str, str | None, str]


def _by_session(sessions: dict[Key, list[Priced]], found: dict[Key, Found]) -> tuple[list[float], Decimal]:
    """Error of each whole session, and USD of all with what explains them put right."""
    recorded: defaultdict[str, Decimal] = defaultdict(Decimal)
    listed: defaultdict[str, Decimal] = defaultdict(Decimal)
    put_right = Decimal(0)
    for key, part in sessions.items():
        if not _recorded(part):
            continue
        recorded[key[0]] += _recorded(part)
        listed[key[0]] += _listed(part)
        put_right += found[key].usd if key in found else _listed(part)
    errors = [_error(listed[session], usd) for session, usd in recorded.items()]
    return [abs(error) for error in errors if error is not None], put_right


def _explained(off: dict[Key, list[Priced]], sessions: dict[Key, list[Priced]]) -> dict[Key, Found]:
    """The reason of each that is off, of all sessions: first the plain ones, then by harness and model."""
    found: dict[Key, Found] = {}
    groups: defaultdict[tuple[Any, ...], list[Key]] = defaultdict(list)
    for key, part in off.items():
        plain = _plain_reason(part)
        if plain is None:
            groups[_kind(key, part)].append(key)
        else:
            found[key] = plain
    met = Counter(_kind(key, part) for key, part in sessions.items() if key not in off and _recorded(part))
    for kind, keys in groups.items():
        found |= _explained_group({key: off[key] for key in keys}, met[kind])
    return found


def _kind(key: Key, part: list[Priced]) -> tuple[Any, ...]:
    return key[1], prices.sold_as(key[2], part[0].call.provider)


def _plain_reason(part: list[Priced]) -> Found | None:
    """Reasons that a session shows by itself."""
    recorded, listed = _recorded(part), _listed(part)
    if not recorded:
        return Found("recorded_zero", f"the table says ${listed:.4f}", listed)
    rounding = _rounding(part)
    if abs(listed - recorded) <= rounding:
        said = f"to {-min(map(_places, part))} places, at most ${rounding:f} in all"
        return Found("rounded", said, listed)
    answers = sum(one.call.attempts or 1 for one in part)
    output = sum(one.call.usage().output_tokens or 0 for one in part)
    if output < LEAST_OUTPUT * answers:
        return Found("output_missing", f"{output:,} tokens of output in {answers:,} calls", listed)
    return None


def _explained_group(off: dict[Key, list[Priced]], met_as_listed: int) -> dict[Key, Found]:
    """Try the ways on one harness and model; what explains most goes first, what is met defies a factor."""
    met: dict[str, dict[Key, Found]] = {}
    first = next(iter(off.values()))[0].call
    for name, way in [*WAYS.items(), *eras(first.model, first.provider)]:
        for key, part in off.items():
            usd = _priced_by(way, part)
            error = None if usd is None else _error(usd, _recorded(part))
            if usd is not None and error is not None and _near(usd, part):
                reason = name if name in WAYS else "another_date"
                met.setdefault(name, {})[key] = Found(reason, f"{way.says}: {error:+.2%}", usd)
    found: dict[Key, Found] = {}
    for name in sorted(met, key=lambda name: -len(met[name])):
        if 2 * len(met[name]) >= len(off):
            found = met[name] | found
    rest = {key: part for key, part in off.items() if key not in found}
    return found | (_factor(rest, len(off) + met_as_listed) if rest else {})


def _factor(rest: dict[Key, list[Priced]], of: int) -> dict[Key, Found]:
    """What is left: one factor for nearly all `of` their kind, or what each shows of where it came from."""
    ratios = {key: float(_recorded(part) / _listed(part)) for key, part in rest.items() if _listed(part)}
    middle = statistics.median(ratios.values()) if ratios else 0.0
    off = {key: abs(ratio / middle - 1) for key, ratio in ratios.items()} if middle else {}
    near = [key for key, by in off.items() if by <= TOLERANCE]
    same = [key for key, by in off.items() if by <= TOLERANCE / 30]
    near = near if len(near) >= 3 else same if len(same) >= 2 else []  # fewer may agree by luck
    near = near if len(near) >= NEARLY_ALL * of else []  # where others are met, no price is the seller's
    said = f"× {middle:.3f} of the table: lay a [[price]] with `times` over it"
    return {
        key: Found("factor", said, _listed(part) * Decimal(middle)) if key in near else _where_from(part)
        for key, part in rest.items()
    }


def _where_from(part: list[Priced]) -> Found:
    """What a session shows of where its answers came from, if nothing can be priced the recorded way."""
    recorded, listed = _recorded(part), _listed(part)
    written = sum(
        one.call.cache_write_tokens or 0 for one in part if one.rates and one.rates.write == one.rates.input
    )
    seller = prices.sold_as(part[0].call.model, part[0].call.provider)[0]
    if any(SUB_AGENTS.intersection(one.call.tools_called or ()) for one in part):
        return Found("sub_agents", "calls sub-agents, whose models aren't told", listed)
    if written and recorded > listed:
        return Found("mixed_models", f"{written:,} tokens written, which {seller} doesn't bill", listed)
    if seller in prices.AGGREGATORS:
        return Found("aggregator", f"× {recorded / listed:.3f} of {seller}'s price" if listed else "", listed)
    return Found(UNEXPLAINED, REASONS[UNEXPLAINED], listed)


def _priced_by(way: Way, part: list[Priced]) -> Decimal | None:
    """USD of a session priced another way; None where one of its calls can't be."""
    total = Decimal(0)
    for one in part:
        usd = way.usd(one)
        if usd is None:
            return None
        total += usd
    return total


def _check(key: Key, part: list[Priced], found: Found) -> SessionCheck:
    recorded, listed = _recorded(part), _listed(part)
    return SessionCheck(
        session=key[0],
        model=key[2],
        harness=key[1],
        calls=len(part),
        recorded_usd=recorded,
        listed_usd=listed,
        error=_error(listed, recorded),
        reason=found.reason,
        detail=found.detail,
        explained_usd=found.usd,
    )


def _by_money(check: SessionCheck) -> tuple[Decimal, str]:
    return -abs(check.listed_usd - check.recorded_usd), check.session


def _is_off(part: list[Priced]) -> bool:
    error = _error(_listed(part), _recorded(part))
    return bool(_listed(part)) if error is None else abs(error) > OFF


def _recorded(part: Sequence[Priced]) -> Decimal:
    return sum((one.call.recorded or Decimal(0) for one in part), Decimal(0))


def _listed(part: Sequence[Priced]) -> Decimal:
    return sum((_usd(one) or Decimal(0) for one in part), Decimal(0))


def _usd(one: Priced) -> Decimal | None:
    """What the table says of a call; where nothing is told of the cache, as if nothing had been cached."""
    return one.listed if one.at_most is None else one.at_most.total


def _error(said: Decimal, recorded: Decimal) -> float | None:
    return float((said - recorded) / recorded) if recorded else None


def _near(usd: Decimal, part: list[Priced]) -> bool:
    """Whether a price meets what is recorded, as far as that is known."""
    recorded = _recorded(part)
    return abs(usd - recorded) <= max(recorded * Decimal(str(TOLERANCE)), _rounding(part))


def _rounding(part: list[Priced]) -> Decimal:
    """By how much the recorded costs of a session may be rounded; 0 where they are given to many places."""
    if min(map(_places, part)) < -ROUNDED_TO:
        return Decimal(0)
    return sum((Decimal((0, (5,), _places(one) - 1)) for one in part), Decimal(0))


def _places(one: Priced) -> int:
    """The power of ten that a recorded cost is given to."""
    recorded = (one.call.recorded or Decimal(0)).normalize()
    exponent = recorded.as_tuple().exponent
    return min(exponent, 0) if isinstance(exponent, int) else 0
