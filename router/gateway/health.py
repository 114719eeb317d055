"""Who can be called now: each deployment's circuit breaker and rest, each account's load and limits.

Knows no HTTP and no clock; times are seconds of one monotonic clock. A failing deployment is left alone for
a time that doubles, then one call at a time tries it again. Nothing here refuses a request that has nowhere
else to go: that is for those who ask.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

import msgspec

from features.value import Value

if TYPE_CHECKING:
    from router.catalogrows import Deployment
    from router.gateway.ratelimits import Allowance

# Open: its breaker is. Probe: one call would find out whether it works again. Resting: it asked for
# that. Full: as many calls are under way as may be. Spent: nothing is left of the account's limits.
State = Literal["ok", "probe", "open", "resting", "full", "spent"]
MAX_LINES = 4096  # clients may invent models, and each has a line of its own; the least used is forgotten
MAX_DOUBLINGS = 6
MINUTE_S = 60.0
_NOBODY: frozenset[str] = frozenset()


class BreakerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a deployment is left alone, and for how long."""

    failures: int = 3  # requests in a row that it failed
    open_s: float = 5.0  # at first; twice that each time it fails its trial, up to open_max_s
    open_max_s: float = 120.0
    rest_max_s: float = 60.0  # however long a provider asks to be left alone, it is asked again after this

    def __post_init__(self) -> None:
        """Refuse settings that would leave a deployment alone always or never."""
        if self.failures < 1:
            raise ValueError(f"failures: {self.failures} must be 1 or more")
        for name in ("open_s", "open_max_s", "rest_max_s"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name}: {value:g} must be a finite number over 0")


class _Line(msgspec.Struct):
    """A deployment."""

    failures: int = 0  # in a row
    trips: int = 0  # since it last answered
    open_until: float = 0.0
    probing: bool = False
    rests_until: float = 0.0

    def state(self, now: float) -> State:
        if self.trips and (self.probing or now < self.open_until):
            return "open"
        if now < self.rests_until:
            return "resting"
        return "probe" if self.trips else "ok"


class _Account(msgspec.Struct):
    """What an endpoint's deployments share."""

    in_flight: int = 0
    window: float = float("-inf")  # when the minute that is counted began
    requests: int = 0  # in it
    tokens: float = 0.0
    requests_left: float = 0.0  # by the provider's headers, until the time beside it
    requests_until: float = 0.0
    tokens_left: float = 0.0
    tokens_until: float = 0.0


class Ticket(Value, frozen=True):
    """One call under way; it is given back exactly once."""

    line: str
    called: _Line  # as it was known when the call began
    account: _Account
    probe: bool


class Health:
    """Every deployment that was called lately."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._accounts: dict[str, _Account] = {}  # as many as the catalogue has endpoints
        self._out: set[str] = set()  # lines that aren't as good as new: on a good day there are none

    def state(self, deployment: Deployment, now: float, tokens: float = 0.0) -> State:
        """Whether a call of so many prompt tokens should go there."""
        line = self._lines[deployment.id].state(now) if deployment.id in self._out else "ok"
        if line in ("open", "resting"):
            return line
        account = self._accounts.get(deployment.endpoint)
        if account is None:
            return line
        most = deployment.limits.concurrent
        if most is not None and account.in_flight >= most:
            return "full"
        return "spent" if self._spent_until(deployment, account, now, tokens) else line

    @staticmethod
    def _spent_until(deployment: Deployment, account: _Account, now: float, tokens: float) -> float:
        """When what a call needs is allowed again; 0 where it is now."""
        limits, until = deployment.limits, 0.0
        if now < account.window + MINUTE_S:
            most, many = limits.requests_per_minute, limits.tokens_per_minute
            over = most is not None and account.requests >= most
            # a prompt over the whole allowance would never be let through: its provider may refuse it
            if over or (many is not None and account.tokens and account.tokens + tokens > many):
                until = account.window + MINUTE_S
        if now < account.requests_until and account.requests_left < 1:
            until = max(until, account.requests_until)
        if now < account.tokens_until and account.tokens_left < max(tokens, 1.0):
            until = max(until, account.tokens_until)
        return until

    def due(self, deployment: Deployment, now: float, tokens: float = 0.0) -> float:
        """Seconds until it may be called; 0 where it may, or where that hangs on other calls' ends."""
        line, account = self._lines.get(deployment.id), self._accounts.get(deployment.endpoint)
        until = 0.0 if line is None else max(line.open_until if line.trips else 0.0, line.rests_until)
        if account is not None:
            until = max(until, self._spent_until(deployment, account, now, tokens))
        return max(0.0, until - now)

    def down(self, now: float) -> frozenset[str]:
        """Ids of the deployments that should not be called now."""
        if not self._out:
            return _NOBODY
        return frozenset(name for name in self._out if self._lines[name].state(now) in ("open", "resting"))

    def begin(self, deployment: Deployment, now: float, tokens: float = 0.0) -> Ticket:
        """Count a call in, whatever its deployment's state."""
        line, endpoint = self._line(deployment.id), deployment.endpoint
        account = self._accounts.get(endpoint)
        if account is None:
            account = self._accounts[endpoint] = _Account()
        account.in_flight += 1
        if now >= account.window + MINUTE_S:
            account.window, account.requests, account.tokens = now, 0, 0.0
        account.requests += 1
        account.tokens += tokens
        account.requests_left -= 1
        account.tokens_left -= tokens
        probe = line.trips > 0 and not line.probing and now >= line.open_until
        line.probing = line.probing or probe
        return Ticket(deployment.id, line, account, probe)

    def answered(self, ticket: Ticket, now: float) -> None:
        """It works; one that was begun before it failed is no sign of that."""
        line = ticket.called
        if line.trips and not ticket.probe:
            return
        line.failures = line.trips = 0
        if self._out and now >= line.rests_until:
            self._out.discard(ticket.line)

    def failed(self, ticket: Ticket, now: float, spread: float = 1.0, *, at_once: bool = False) -> bool:
        """It failed; True if it is left alone from here on. `spread`, in (0, 1], keeps trials apart."""
        line = self._line(ticket.line)
        line.failures += 1
        if not ticket.probe and (line.trips or not (at_once or line.failures >= self._settings.failures)):
            return False
        waits = self._settings.open_s * 2 ** min(line.trips, MAX_DOUBLINGS)
        line.open_until = now + min(waits, self._settings.open_max_s) * spread
        line.trips += 1
        self._out.add(ticket.line)
        return True

    def rest(self, ticket: Ticket, seconds: float, now: float) -> None:
        """It asks to be left alone for so long."""
        line = self._line(ticket.line)
        line.rests_until = max(line.rests_until, now + min(seconds, self._settings.rest_max_s))
        self._out.add(ticket.line)

    def leave(self, deployment: Deployment, now: float) -> None:
        """Leave a deployment alone for long, though it answers."""
        line = self._line(deployment.id)
        line.trips += 1
        line.open_until = now + self._settings.open_max_s
        self._out.add(deployment.id)

    def told(self, ticket: Ticket, allowance: Allowance, now: float) -> None:
        """Take in what the provider says is left of the account's limits."""
        account, most = ticket.account, self._settings.rest_max_s
        if allowance.requests is not None:
            account.requests_left = allowance.requests.amount
            account.requests_until = now + min(allowance.requests.reset_s, most)
        if allowance.tokens is not None:
            account.tokens_left = allowance.tokens.amount
            account.tokens_until = now + min(allowance.tokens.reset_s, most)

    def end(self, ticket: Ticket) -> None:
        """Count a call out; a trial that came to no verdict leaves room for another."""
        if ticket.probe:
            ticket.called.probing = False
        ticket.account.in_flight -= 1

    def in_flight(self) -> dict[str, int]:
        """Calls under way by endpoint."""
        return {name: account.in_flight for name, account in self._accounts.items()}

    def states(self, now: float) -> dict[str, State]:
        """State of each deployment that isn't as good as new."""
        return {name: self._lines[name].state(now) for name in self._out}

    def _line(self, name: str) -> _Line:
        line = self._lines.get(name)
        if line is not None:
            self._lines.move_to_end(name)
            return line
        line = self._lines[name] = _Line()
        if len(self._lines) > MAX_LINES:
            forgotten, _ = self._lines.popitem(last=False)
            self._out.discard(forgotten)
        return line
