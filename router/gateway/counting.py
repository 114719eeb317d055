"""What is counted of every request: as it is decided, and once it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.usagedoubts import CONTRADICTIONS
from router.gateway.errors import ERROR_KINDS
from router.gateway.metrics import OTHER
from router.gateway.toolcheck import FAULT_FLAG

if TYPE_CHECKING:
    from collections.abc import Container

    from features.records import AttemptRecord, RequestRecord
    from router.gateway.call import Trace
    from router.gateway.metrics import Metrics


class Counters:
    """The counters that every request moves, each looked up once; `candidate` as metrics name it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._decisions = metrics.by("samediff_decisions_total", "policy", "candidate")
        self._decide_ms = metrics.by("samediff_decide_milliseconds_sum")
        self._decided = metrics.by("samediff_decide_milliseconds_count")
        self._requests = metrics.by("samediff_requests_total", "dialect", "candidate", "status")
        self._tokens = metrics.by("samediff_tokens_total", "candidate", "kind")
        self._usd = metrics.by("samediff_cost_usd_total", "candidate")
        self._attempts = metrics.by("samediff_attempts_total", "deployment", "result")

    def decision(self, policy: str, candidate: str, took_ms: float) -> None:
        """Count a decision."""
        self._decisions[policy, candidate] += 1
        self._decide_ms[()] += took_ms
        self._decided[()] += 1

    def request(self, record: RequestRecord, candidate: str) -> None:
        """Count a request, its tokens and its cost."""
        tokens, add = self._tokens, self._metrics.add
        self._requests[record.dialect or "", candidate, record.status] += 1
        tokens[candidate, "input_tokens_uncached"] += record.input_tokens_uncached or 0
        tokens[candidate, "cached_tokens"] += record.cached_tokens or 0
        tokens[candidate, "cache_write_tokens"] += record.cache_write_tokens or 0
        tokens[candidate, "output_tokens"] += record.output_tokens or 0
        for flag in record.flags or ():
            if flag in CONTRADICTIONS:
                add("samediff_usage_contradictions_total", candidate=candidate, kind=flag)
        if record.cost_usd is None:
            add("samediff_cost_unknown_total", candidate=candidate)
        else:
            self._usd[(candidate,)] += float(record.cost_usd)
        if record.error_kind:
            add("samediff_upstream_failures_total", kind=_failure(record))
        if record.status == "cancelled":
            add("samediff_cancelled_total")

    def attempts(self, trace: Trace, known: Container[str]) -> None:
        """Count who was asked, what came of it, and where another had to take over; `known` deployments."""
        for tried in trace.tries:
            deployment = tried.deployment if tried.deployment in known else OTHER
            self._attempts[deployment, _came_of(tried)] += 1
        target, add = trace.target, self._metrics.add
        if trace.opened:
            add("samediff_breakers_opened_total", trace.opened)
        if target is not None and target.deployment.id != trace.tries[0].deployment:
            add("samediff_failovers_total", to="candidate" if target.fallback else "deployment")


def _came_of(tried: AttemptRecord) -> str:
    """What came of one upstream call, in words of ours."""
    if tried.error_kind is not None and (tried.error_kind in ERROR_KINDS or tried.error_kind == FAULT_FLAG):
        return tried.error_kind
    if tried.http_status is not None and 400 <= tried.http_status < 600:
        return f"http_{tried.http_status}"
    return OTHER if tried.error_kind else "ok"


def _failure(record: RequestRecord) -> str:
    """What went wrong in words of ours: providers' own words for it have no end."""
    if record.error_kind in ERROR_KINDS:
        return record.error_kind
    return f"http_{record.http_status}" if record.http_status in range(400, 600) else OTHER
