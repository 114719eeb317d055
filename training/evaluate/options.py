"""What the user asked of an evaluation, and the counted list of what was found wrong with the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `samediff evaluate`; `maps` are "ours=theirs", `where` "column=value" or "column!=value"."""

    group: str | None = None
    features: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()  # columns known once a run is over: the judged policies are played on them
    reference: str | None = None  # the model that judged policies escalate to; None: the best of each fold
    test: Path | None = None
    check_noise: tuple[float, ...] = (0.1,)  # the first is the cascade's; each further one a row of its own
    check_usd: float = 0.0  # of one check of an answer
    router_usd: float = 0.0  # of one decision of a router
    maps: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # names or patterns to keep; with "!" before it, to leave out
    hide_type: bool = False  # types are told while fitting, and hidden from what is scored
    ignore_type: bool = False  # as if there were no types at all: the control for hide_type
    encoder: Path | None = None  # folder of a static encoder; None: the one that ships with the prior, if any
    folds: int = 5
    splits: int = 2  # into halves, for the deployment view; 0 leaves it out
    draws: int = 2000
    seed: int = 0


class Notes:
    """Warnings about the data, each with a code, a count of what it touches and one sentence."""

    def __init__(self) -> None:
        self.warnings: list[dict[str, Any]] = []

    def add(self, code: str, count: int, message: str) -> None:
        """Keep a warning; nothing is kept for a count of zero."""
        if count:
            self.warnings.append({"code": code, "count": int(count), "message": message})
