"""What is counted of requests that are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.usagedoubts import CONTRADICTIONS
from router.gateway.errors import ERROR_KINDS
from router.gateway.metrics import OTHER
from router.gateway.toolcheck import FAULT_FLAG

if TYPE_CHECKING:
    from collections.abc import Container

    from features.records import AttemptRecord, RequestRecord
    from router.gateway.metrics import Metrics
    from router.gateway.recording import Trace

_TOKENS = ("input_tokens_uncached", "cached_tokens", "cache_write_tokens", "output_tokens")


def count_request(metrics: Metrics, record: RequestRecord, candidate: str) -> None:
    """Count a request, its tokens and its cost; `candidate` as metrics name it."""
    add = metrics.add
    add("samediff_requests_total", dialect=record.dialect or "", candidate=candidate, status=record.status)
    for kind in _TOKENS:
        add("samediff_tokens_total", getattr(record, kind) or 0, candidate=candidate, kind=kind)
    for flag in record.flags or ():
        if flag in CONTRADICTIONS:
            add("samediff_usage_contradictions_total", candidate=candidate, kind=flag)
    if record.cost_usd is None:
        add("samediff_cost_unknown_total", candidate=candidate)
    else:
        add("samediff_cost_usd_total", float(record.cost_usd), candidate=candidate)
    if record.error_kind:
        add("samediff_upstream_failures_total", kind=_failure(record))
    if record.status == "cancelled":
        add("samediff_cancelled_total")


def count_attempts(metrics: Metrics, trace: Trace, known: Container[str]) -> None:
    """Count who was asked, what came of it, and where another had to take over; `known` deployments."""
    for tried in trace.tries:
        deployment = tried.deployment if tried.deployment in known else OTHER
        metrics.add("samediff_attempts_total", deployment=deployment, result=_came_of(tried))
    if trace.opened:
        metrics.add("samediff_breakers_opened_total", trace.opened)
    if trace.target is not None and trace.target.deployment.id != trace.tries[0].deployment:
        metrics.add("samediff_failovers_total", to="candidate" if trace.target.fallback else "deployment")


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
