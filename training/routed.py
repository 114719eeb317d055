"""What routing by the heads comes to on held-out groups: success of the route beside the best pin's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from scipy.stats import t as student_t

from training.metrics import paired_error

if TYPE_CHECKING:
    from training.certify import Routed

MIN_PAIRED = 20  # requests sent elsewhere whose both outcomes are known; fewer show nothing
MIN_GROUPS = 3


class RouteScore(msgspec.Struct, frozen=True, kw_only=True):
    """The route is the cheapest candidate whose P(success) is no less than the pin's, as `learned` has it."""

    pin: str | None  # the best on the older groups; null: nothing with a price and outcomes is cheaper
    requests: int = 0
    elsewhere: int = 0  # requests that the route takes from the pin
    paired: int = 0  # of those, with both outcomes known
    groups: int = 0  # of the paired
    pin_minus_route: float | None = None  # mean success over the paired; null where too few
    ci: tuple[float, float] | None = None  # 95 % over groups, Student's t

    @property
    def clearly_worse(self) -> bool:
        """Whether the whole interval is on the pin's side."""
        return self.ci is not None and self.ci[0] > 0

    @property
    def said(self) -> str:
        """One line for people."""
        if self.pin is None:
            return "nothing is cheaper than the best pin: no route to compare"
        goes = (
            f"of {self.requests} requests {self.elsewhere} go to one cheaper than {self.pin}, {self.paired} "
        )
        if self.pin_minus_route is None or self.ci is None:
            return f"not told: {goes}with both outcomes known, in {self.groups} groups"
        return (
            f"{goes}with both outcomes known: the pin's success is {self.pin_minus_route:+.3f} against the "
            f"route's, 95 % {self.ci[0]:+.3f} to {self.ci[1]:+.3f}"
        )


def route_score(rows: Routed | None) -> RouteScore:
    """Success of the route against the pin, paired by request; what stays with the pin can't differ."""
    if rows is None:
        return RouteScore(pin=None)
    pin = rows.p[:, [rows.reference]]
    choice = np.where((good := rows.p[:, : rows.reference] >= pin).any(1), good.argmax(1), rows.reference)
    away = choice != rows.reference
    worse = rows.success[:, rows.reference] - rows.success[np.arange(len(choice)), choice]
    known = away & np.isfinite(worse)
    groups = len(np.unique(rows.group[known]))
    found = RouteScore(
        pin=str(rows.names[rows.reference]),
        requests=len(choice),
        elsewhere=int(away.sum()),
        paired=int(known.sum()),
        groups=groups,
    )
    if known.sum() < MIN_PAIRED or groups < MIN_GROUPS:
        return found
    mean, error = paired_error(worse[known], rows.group[known])
    half = float(student_t.ppf(0.975, groups - 1)) * error
    return msgspec.structs.replace(found, pin_minus_route=mean, ci=(mean - half, mean + half))
