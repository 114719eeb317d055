"""A certificate: the threshold at which a policy's harm is bounded, with the evidence that says so."""

from __future__ import annotations

from typing import Literal

import msgspec

Risk = Literal["worse_if_cheap", "worse_of_all"]


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold of the grid as it came out on the rows kept for it."""

    tau: float
    requests: int
    cheap: int  # that it would have sent to a cheaper candidate,
    known: int  # and of which one knows what came of it
    worse: float  # of these, that the reference would have solved and the cheaper one didn't
    effective: float  # independent rows that the evidence is worth, those of a group hanging together
    bound: float  # upper end for the risk, at `delta` over the whole grid
    holds: bool


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """Learn-then-test (Angelopoulos et al., Annals of Applied Statistics 2025) over a coarse grid.

    `worse_if_cheap`: P(the reference solves it, the cheaper one doesn't | routed cheap). `worse_of_all`: the
    same of all requests, which bounds the mean regret. With probability 1 - delta over the rows it was made
    from, the risk at `tau` is at most `level`; `tau` is null where nothing certifies.
    """

    risk: Risk
    level: float
    delta: float
    reference: str
    tau: float | None
    grid: tuple[Tried, ...]
    candidates: tuple[str, ...] = ()  # the cheapest by list price first, the reference last
    refitted: bool = False  # the bundle's heads were fitted anew afterwards, its rows among theirs
    groups: int  # repositories or tasks that the rows come from, none of which the heads were fitted on
    assumed_worse: int = 0  # failures of cheap answers whose reference's outcome isn't known

    def at_level(self, level: float) -> Certificate:
        """The same evidence at another level: the bounds of its grid hold all at once."""
        holding = [t for t in self.grid if t.known and t.bound <= level]
        best = max(holding, key=lambda t: t.cheap, default=None)
        grid = tuple(msgspec.structs.replace(t, holds=t in holding) for t in self.grid)
        return msgspec.structs.replace(self, level=level, grid=grid, tau=None if best is None else best.tau)

    @property
    def policy(self) -> str | None:
        """The policy that it holds for; None: the reference stays."""
        return None if self.tau is None else f"learned:max_loss=1,tau={self.tau:g}"

    @property
    def said(self) -> str:
        """The certificate in one sentence."""
        what = {
            "worse_if_cheap": "of the answers routed to a cheaper candidate",
            "worse_of_all": "of all requests",
        }[self.risk]
        most = f"at most {self.level:.0%} {what} are worse than {self.reference}'s"
        if self.tau is None:
            return f"nothing certifies that {most}, so the reference stays"
        at = next(t for t in self.grid if t.tau == self.tau)
        share = at.cheap / at.requests if at.requests else 0.0
        return (
            f"at tau = {self.tau:g}, {most}, with {1 - self.delta:.0%} confidence "
            f"({share:.0%} go to a cheaper candidate; of {at.known} whose outcome is known {at.worse:g} were "
            f"worse, {self.groups} groups){self._since}"
        )

    @property
    def _since(self) -> str:
        """What became of the heads that it was made for."""
        if not self.refitted:
            return ""
        policy = f'policy = "learned:certified={self.risk}"'
        return f"; the bundle is fitted anew on all rows: to be held to this, train and serve with {policy}"
