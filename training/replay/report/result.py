"""What `samediff what-if` answers, as its JSON has it."""

from __future__ import annotations

from typing import Any

import msgspec

from training.replay.quality.bootstrap import Ends


class Versus(msgspec.Struct, kw_only=True):
    """A policy less the best control that costs no more, on the same sessions; null is unknown."""

    control: str
    quality: float
    quality_ci: Ends | None
    quality_ci_all: Ends | None  # as wide as holds for all policies at once
    usd: float | None  # below 0: the policy is cheaper
    usd_ci: Ends | None


class Row(msgspec.Struct, kw_only=True):
    """One policy. Cost is simulated, quality estimated; null is unknown, `why` says what for."""

    name: str
    role: str  # logged, control, pin, policy, sweep or bound
    said: str | None = None
    cost_usd: float | None
    cost_usd_ci: Ends | None = None
    saving: float | None = None  # share of what the logged policy costs in the same replay
    saving_ci: Ends | None = None
    quality: float | None = None  # mean success of the decisions that had a choice
    quality_ci: Ends | None = None
    quality_how: str | None = None  # logged, dr, paired, combined or exact
    quality_gain: float | None = None  # over the logged policy's (of a matrix: the reference's)
    quality_gain_ci: Ends | None = None  # on the same decisions
    versus: Versus | None = None  # of a policy whose quality is known
    estimates: list[dict[str, Any]] = []  # method, value, interval, ess, quoted: of every estimator
    switches: float
    unsafe_switches: float  # made where a tool loop had begun or state was bound to a provider
    by_session: dict[str, Any] | None = None  # of whole sessions: quality, quality_ci, ess, supported, why
    ess: float
    supported: bool  # whether its quality may be quoted
    why: str | None = None
    missing: dict[str, float | None] | None = None  # shadow calls that would bring it to half_width, in USD
    share: dict[str, float] = {}
    parts: dict[str, float] = {}  # USD: fresh, cached, written, output, and of these cold
    cached_tokens: float = 0.0
    router_usd: float = 0.0
    refused: int = 0  # calls that a spent budget turned away
    groups: dict[str, dict[str, Any]] = {}


class Result(msgspec.Struct, kw_only=True):
    """The whole answer; `policies` is empty where the logged policy doesn't reproduce the bill."""

    log: str
    billed_usd: float
    recorded_usd: float
    replayed_usd: float
    relative_error: float | None
    relative_error_ci: Ends | None
    explained_relative_error: float | None
    counted_relative_error: float | None  # by the counts of the log, no cache simulated: the prices alone
    session_median_error: float | None
    cached_tokens_billed: float
    cached_tokens_replayed: float
    reproduction: str  # met, explained, within_noise or failed
    reproduction_says: str
    calls_apart: int = 0  # calls whose recorded cost is more than 2 % off their own counts
    calls_apart_recorded_usd: float = 0.0
    calls_apart_listed_usd: float = 0.0
    reasons: dict[str, int]
    left_out: dict[str, int]
    sessions: int
    calls: int
    whole_runs: int
    clustered_by: str = "session"  # what intervals of policies are over
    clusters: int = 0  # how many of these there are
    free_decisions: int = 0
    decided: int = 0  # calls with a receipt of ours
    labelled: int = 0
    reference: str | None = None
    arms: list[str] = []
    labels_by_arm: dict[str, tuple[float, int]] = {}
    output_tokens_by: dict[str, str] = {}
    price_version: str = ""
    policies: list[Row] = []
    frontier: list[str] = []  # names of the rows that are swept
    recommendation: str | None = None
    advised: str | None = None  # name of the policy that is advised; null where evidence lacks
    caveats: list[str] = []
    routes: dict[str, Any] = {}  # where the learned route differs, sessions that gain and lose most
    # logged success so far, with ends that hold however often one looks: null where it has no single rate
    watch: dict[str, Any] | None = None
    calibration: list[tuple[float, float, int]] = []  # believed, come out, answers
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the bill was reproduced."""
        return self.reproduction != "failed"

    def row(self, name: str) -> Row | None:
        """The policy of this name."""
        return next((row for row in self.policies if row.name == name), None)
