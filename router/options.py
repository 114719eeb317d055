"""The candidates a request could go to: where each would be called, and what that cache holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.cache import in_common, last_used, read, unread
from features.context import TokenRatios, estimate_tokens, model_family
from features.value import Value
from router import prices
from router.arms import Option, absent_record, terms_of
from router.catalogrows import RESIDENCY_HEADER
from router.cost import Asked, Sending, cache_key, sending, split_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from features.cache import Common
    from features.records import ArmRecord
    from features.wire.types import Dialect, WireRequest
    from router.arms import Terms
    from router.catalog import Catalog, Deployment
    from router.catalogrows import Barred
    from router.given import CallContext, Session

_REMEMBERED = 256  # sets of candidates; a tier may be anything that a client says


class Seat(Value, frozen=True):
    """A deployment with what is the same of it for half an hour's requests that ask to be cached alike."""

    deployment: Deployment
    family: str  # of its tokenizer
    cache: str  # key of its cache
    free: bool  # neither its tenants, nor its dates, nor a key that is missing keep anybody from it
    terms: Terms


class Found(Value, frozen=True):
    """A candidate and where it can be called from one dialect."""

    candidate: str
    seats: Sequence[Seat]
    anyway: bool  # described even where the request keeps it from being called
    absent: ArmRecord | None = None  # all that is said of it, where nobody can call it whatever is asked


class Asking(Value, frozen=True):
    """A request as every candidate sees it."""

    request: WireRequest
    context: CallContext
    sent: Sending | None
    common: Common | None  # with what was sent before; None: not counted
    kept: bool = False  # its data to a place

    def last_used(self, cache: str) -> float | None:
        """When a cache was last used (ms), by what the session remembers; None if it wasn't."""
        if self.common is not None:
            return self.common.used_ms.get(cache)
        return last_used(self.context.session.cache, cache)


def asking(request: WireRequest, context: CallContext, how: Asked, n_images: float | None) -> Asking:
    """A request with what all its candidates have in common."""
    session, sent, common = context.session, None, None
    if session.chain is not None:
        sent = sending(request, session.chain, how, n_images)
        common = in_common(session.cache, session.chain)
    kept = bool(context.headers and context.headers.get(RESIDENCY_HEADER))
    return Asking(request, context, sent, common, kept)


class Moment(Value, frozen=True):
    """What published terms go by beside the deployment."""

    ts_ms: int
    tier: str | None  # that the client asks for
    asked: Asked


class Seats:
    """Where a catalogue's candidates can be called; `environ` says which keys there are (None: all).

    To the candidates of every alias come a policy's `own`.
    """

    def __init__(
        self,
        catalog: Catalog,
        environ: Mapping[str, str] | None,
        ratios: TokenRatios,
        own: Sequence[str] = (),
    ) -> None:
        self._catalog = catalog
        self._environ = None if environ is None else dict(environ)  # os.environ decodes at every look
        self._ratios = ratios
        self._own = own
        self._found: dict[tuple[object, ...], tuple[Found, ...]] = {}

    def of(
        self, alias: str, dialect: Dialect, now: Moment, *, same: bool, all_arms: bool
    ) -> tuple[Found, ...]:
        """An alias's candidates in their order, reached from a dialect, or in the `same` alone.

        Of those that can't be called the reference is described anyway, or all arms.
        """
        asked, slot = now.asked, now.ts_ms // prices.SLOT_MS
        key = (alias, dialect, same, all_arms, prices.version(), slot, now.tier, asked.marked, asked.ours)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            row, found = self._catalog.aliases[alias], ()
            for name in dict.fromkeys((*row.candidates, *self._own)):
                reached = self._catalog.deployments_of(name, dialect)
                at = [d for d in reached if not same or d.dialect == dialect]
                found += (self.at(name, at, now, anyway=all_arms or name == row.reference.get(dialect)),)
            self._found[key] = found
        return found

    def at(self, candidate: str, deployments: Sequence[Deployment], now: Moment, *, anyway: bool) -> Found:
        """A candidate at given deployments."""
        seats = [self._seat(d, now) for d in deployments]
        why = None if seats else "dialect"
        if seats and not anyway and all(_unbounded(d) and not self._reachable(d) for d in deployments):
            why = "no_key"
        return Found(candidate, seats, anyway, None if why is None else absent_record(candidate, why))

    def _seat(self, deployment: Deployment, now: Moment) -> Seat:
        free = _unbounded(deployment) and self._reachable(deployment)
        terms = terms_of(deployment, now.ts_ms, now.tier, now.asked)
        return Seat(deployment, model_family(deployment.model), cache_key(deployment), free, terms)

    def _reachable(self, deployment: Deployment) -> bool:
        return self._environ is None or deployment.reachable(self._environ)

    def options(self, lineup: Sequence[Found], asked: Asking) -> tuple[list[Option], list[ArmRecord]]:
        """Each candidate where it would be called now; of one that is barred its record, if not `anyway`."""
        context, sent, common, size = asked.context, asked.sent, asked.common, asked.request.body_bytes
        session, now_ms, retry_rates = context.session, context.now_ms, context.retry_rates
        last, broken = session.last_candidate, session.broken_calls
        options: list[Option] = []
        absent: list[ArmRecord] = []
        for found in lineup:
            if found.absent is not None:
                absent.append(found.absent)
                continue
            candidate, seats, why = found.candidate, found.seats, None
            seat = seats[0]
            if len(seats) > 1 or not seat.free or asked.kept:
                seat, why = self._seated(seats, asked)
                if why is not None and not found.anyway:
                    absent.append(absent_record(candidate, why))
                    continue
            deployment, terms = seat.deployment, seat.terms
            told = session if candidate == last else None
            tokens = round(self._tokens(seat.family, size, told))
            used = asked.last_used(seat.cache) if common is None else common.used_ms.get(seat.cache)
            if sent is None:
                split = split_prompt(deployment, tokens, None, session.cache, now_ms)
            elif used is None and common is not None:
                how = sent.asked
                split = unread(terms.rules, tokens, common, how.marks(deployment), how.lifetime)
            else:
                there = sent.to(deployment, tokens, seat.cache)
                split = read(terms.rules, session.cache, there, now_ms, common)
            tier = "service_tier" if deployment.asks and _other_tier(deployment, asked.request) else None
            one = Option(
                candidate,
                deployment,
                terms,
                tokens,
                prices.step(terms.ladder, tokens),
                split,
                why or tier,
                None if used is None else max(0.0, float(now_ms - used)),
                None if retry_rates is None else retry_rates.get(deployment.id),
                broken.get(candidate),
            )
            options.append(one)
        return options, absent

    def _seated(self, seats: Sequence[Seat], asked: Asking) -> tuple[Seat, Barred | None]:
        """Which of several deployments to call, and what keeps the request from it."""
        barred = [self._barred(seat, asked) for seat in seats]
        at = barred.index(None) if None in barred else 0
        if barred.count(None) > 1:
            at = _warmest(seats, barred, asked)
        return seats[at], barred[at]

    def _barred(self, seat: Seat, asked: Asking) -> Barred | None:
        if seat.free and not asked.kept:
            return None
        return seat.deployment.barred(asked.context.headers or {}, asked.context.now_ms, self._environ)

    def tokens(self, model: str, request: WireRequest, session: Session | None) -> float:
        """Estimate the prompt's tokens from its bytes, corrected by the last usage block if there is one."""
        return self._tokens(model_family(model), request.body_bytes, session)

    def _tokens(self, family: str, body_bytes: int, session: Session | None) -> float:
        """The same, by the family of the model."""
        estimate = (body_bytes if body_bytes > 0 else 0.0) / self._ratios.ratios[family]
        if session is None or session.last_bytes is None or session.last_tokens is None:
            return estimate
        ratio = body_bytes / max(estimate, 1e-9)
        return estimate_tokens(body_bytes, session.last_bytes, session.last_tokens, ratio)


def _unbounded(deployment: Deployment) -> bool:
    """Whether it is for everybody and at any time."""
    return deployment.tenants is None and deployment.since is None and deployment.until is None


def _other_tier(deployment: Deployment, request: WireRequest) -> bool:
    """Tell whether a deployment asks for a tier that its client doesn't want, or that can't be asked for."""
    if deployment.tier is None:
        return False
    own = request.service_tier
    return deployment.dialect != request.dialect or (own is not None and own != deployment.tier)


def _warmest(seats: Sequence[Seat], barred: Sequence[str | None], asked: Asking) -> int:
    """Which deployment to call: of those that may be, one that isn't down, the one asked last, the first."""
    callable_ = [n for n, reason in enumerate(barred) if reason is None]

    def order(n: int) -> tuple[bool, float]:
        used = asked.last_used(seats[n].cache)
        return (seats[n].deployment.id in asked.context.down, 0.0 if used is None else -used)

    return min(callable_, key=order)
