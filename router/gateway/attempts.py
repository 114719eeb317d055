"""Which deployment is asked next for one request, and when: warm prefixes first, within bounds. Pure.

A request stays where its prefix is cached unless that is down, goes to the other deployments of its candidate
next, and to other candidates last. An open breaker only turns a request away to somewhere else: one that has
nowhere else to go is sent all the same, once. A provider's own wish to be left alone is kept even then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import xxhash

from features.value import Value
from router.gateway.ratelimits import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from router.catalogrows import Deployment
    from router.gateway.health import Health, Ticket

TRIES_EACH = 2  # of a deployment that isn't the only one
POLL_S = 0.05  # between two looks whether a full account has room
REST_S = 1.0  # for a 429 that doesn't say how long
NEVER = float("inf")


class RetrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often a request is sent, and how long it may wait before its first byte has gone to the client."""

    attempts: int = 3  # upstream calls; 1 = what fails is passed on
    deadline_s: float = 300.0  # after a request arrived no further call is begun
    backoff_s: float = 0.25  # before a deployment is asked again; twice that each time, less up to half
    wait_s: float = 5.0  # for a deployment that rests or is full, where there is no other
    stay_s: float = 2.0  # for the one whose cache holds the prefix, rather than go elsewhere
    first_byte_s: float = 180.0  # then another deployment is asked, where there is one

    def __post_init__(self) -> None:
        """Refuse numbers that can't be."""
        if self.attempts < 1:
            raise ValueError(f"attempts: {self.attempts} must be 1 or more")
        for name in ("deadline_s", "backoff_s", "wait_s", "stay_s", "first_byte_s"):
            if not 0 <= (value := getattr(self, name)) < NEVER:
                raise ValueError(f"{name}: {value:g} must be a finite number, 0 or more")


class Target(Value, frozen=True):
    """A deployment that a request may go to."""

    deployment: Deployment
    warm: bool = False  # its cache holds some of the prompt
    fallback: bool = False  # another candidate than the one decided on
    ours: bool = True  # it is our account there, so what is said of it holds for all


class Failure(Value, frozen=True):
    """What came instead of an answer; `status` is None where nothing came."""

    kind: str
    status: int | None = None
    retry_after_s: float | None = None
    again: bool = True  # False: its provider says that asking again is of no use

    @property
    def rests(self) -> bool:
        """Whether the deployment works but asks to be left alone."""
        return self.status == 429 or (self.status == 503 and self.retry_after_s is not None)

    @property
    def lasting(self) -> bool:
        """Whether asking the same deployment again at once is of no use."""
        return not self.again or self.status in _LASTING


_LASTING = frozenset({401, 402, 404})
_PASSING = frozenset({408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530})


def failure_of(status: int, headers: Mapping[str, str], now_s: float, *, ours: bool) -> Failure | None:
    """What a status says of its deployment; None where it is an answer, if only to say what is wrong with us.

    401 is the deployment's failure where the key is ours, and the client's own where it is theirs.
    """
    if not 200 <= status < 300 and not 400 <= status < 600:  # where to look instead, or no status at all
        return Failure("odd_status", status, again=False)
    if status < 400 or (status == 401 and not ours):
        return None
    if status in _PASSING or status in _LASTING:
        again = headers.get("x-should-retry") != "false"
        return Failure(f"http_{status}", status, retry_after_s(headers, now_s), again)
    return None


class Step(Value, frozen=True):
    """What to do next: ask a deployment, or wait and look again."""

    target: Target
    wait_s: float


class _Tried(msgspec.Struct):
    """What this request has seen of one deployment."""

    tries: int = 0
    not_before: float = 0.0
    useless: bool = False


class Attempts:
    """The attempts of one request. `others` is asked for once, when the first deployment doesn't do."""

    def __init__(
        self,
        health: Health,
        settings: RetrySettings,
        first: Target,
        others: Callable[[], Sequence[Target]],
        *,
        request_id: str = "",
        tokens: float = 0.0,
        bound: bool = False,
    ) -> None:
        self.health = health
        self.made = 0
        self.tokens = tokens  # of the prompt
        self.settings = settings
        self._bound = bound  # to what a provider keeps of it, which may be gone
        self._targets = [first]
        self._others: Callable[[], Sequence[Target]] | None = others
        self._tried: dict[str, _Tried] = {}
        self._request_id = request_id
        self._waited = 0.0
        self._began: float | None = None

    def next(self, now: float) -> Step | None:
        """What to do now; None when nothing is left to try. Changes nothing that a later call would see."""
        if self._began is None:
            self._began = now
        first = self._targets[0]
        if not self.made and self.health.state(first.deployment, now, self.tokens) in ("ok", "probe"):
            return Step(first, 0.0)
        if self._over(now):
            return None
        delays = [(self._delay(target, now), target) for target in self._all()]
        delay, best = min(delays, key=self._rank)
        if delay <= max(0.0, self.settings.wait_s - self._waited):
            return Step(best, delay)
        return self._last_resort(now)

    def _over(self, now: float) -> bool:
        """Whether no further call may be made."""
        late = self._began is not None and now > self._began + self.settings.deadline_s
        return late or self.made >= self.settings.attempts

    def _all(self) -> list[Target]:
        if self._others is not None:
            self._targets += self._others()
            self._others = None
        return self._targets

    def _rank(self, timed: tuple[float, Target]) -> tuple[bool, float]:
        """Order: the candidate decided on, then who can be asked soonest; a warm one is waited for.

        The last attempt is another candidate's, where one may answer.
        """
        delay, target = timed
        if delay > self.settings.wait_s:
            return (True, NEVER)
        tried = self._tried.get(target.deployment.id)
        stays = target.warm and (tried is None or tried.tries < TRIES_EACH)
        last = self.made > 0 and self.made == self.settings.attempts - 1
        return (target.fallback != last, max(0.0, delay - self.settings.stay_s) if stays else delay)

    def _delay(self, target: Target, now: float) -> float:
        """Seconds until a deployment may be asked; never, if that is of no use."""
        deployment, tried = target.deployment, self._tried.get(target.deployment.id)
        if tried is not None and (tried.useless or (tried.tries >= TRIES_EACH and len(self._targets) > 1)):
            return NEVER
        state = self.health.state(deployment, now, self.tokens)
        if state == "open":
            return NEVER
        delay = POLL_S if state == "full" else 0.0
        if state in ("resting", "spent"):
            delay = self.health.due(deployment, now, self.tokens)
        return max(delay, 0.0 if tried is None else tried.not_before - now)

    def _last_resort(self, now: float) -> Step | None:
        """Send a request that has nowhere to go against a breaker, or limits that we only believe in."""
        if self.made:
            return None
        states = ((self.health.state(t.deployment, now, self.tokens), t) for t in self._targets)
        return next((Step(t, 0.0) for state, t in states if state in ("open", "spent")), None)

    def elsewhere(self, target: Target, now: float) -> bool:
        """Whether there is another deployment that could be asked instead of this one."""
        return not self._over(now) and any(
            self._delay(other, now) <= self.settings.wait_s for other in self._all() if other is not target
        )

    @property
    def first(self) -> Target:
        """The deployment decided on."""
        return self._targets[0]

    def leave_out(self, target: Target) -> None:
        """Note that the request can't be sent there."""
        self._seen(target).useless = True

    def waits(self, seconds: float) -> None:
        """Note that the request has waited."""
        self._waited += seconds

    def begin(self, target: Target, now: float) -> Ticket:
        """Count a call in."""
        self.made += 1
        self._seen(target).tries += 1
        return self.health.begin(target.deployment, now, self.tokens)

    def failed(self, target: Target, ticket: Ticket, failure: Failure, now: float) -> bool:
        """Note what a call came to; True if its deployment is left alone from here on.

        A deployment that fails one request several times has failed one request.
        """
        tried = self._seen(target)
        tried.useless = failure.lasting
        backoff = self.settings.backoff_s * 2 ** (tried.tries - 1) * self.jitter()
        asked = failure.retry_after_s
        if failure.rests and asked is None:
            asked = REST_S
        tried.not_before = now + max(backoff, asked or 0.0)
        if failure.rests:
            if target.ours:
                self.health.rest(ticket, asked or 0.0, now)
            return False
        theirs = (failure.status == 402 and not target.ours) or (failure.status == 404 and self._bound)
        if theirs or (tried.tries > 1 and not ticket.probe):
            return False
        return self.health.failed(ticket, now, self.jitter(), at_once=failure.status == 402)

    def jitter(self) -> float:
        """A share in [0.5, 1) that is this attempt's own: it is made of the request's id."""
        return 0.5 + xxhash.xxh3_64_intdigest(f"{self._request_id}{self.made}".encode()) / 2**65

    def retry_after_s(self, now: float) -> float:
        """Seconds after which a request that was turned away may come again."""
        due = (self.health.due(target.deployment, now, self.tokens) for target in self._targets)
        return max(1.0, min(due))

    def _seen(self, target: Target) -> _Tried:
        return self._tried.setdefault(target.deployment.id, _Tried())
