"""Counters in Prometheus' text format; small enough to be written out by hand."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Family = defaultdict[tuple[str, ...], float]  # one counter's values, by those of its labels
Labels = tuple[tuple[str, str], ...]

OTHER = "other"  # a label's value that is no name of ours; values must be few, or series grow without end
HELP = {
    "samediff_requests_total": "Requests answered, by dialect, candidate and status.",
    "samediff_decisions_total": "Decisions made, by policy and candidate.",
    "samediff_decide_milliseconds_sum": "Time spent on decisions.",
    "samediff_decide_milliseconds_count": "Decisions timed.",
    "samediff_tokens_total": "Tokens by the providers' count, by candidate and class.",
    "samediff_cost_usd_total": "Priced cost of answered requests, by candidate.",
    "samediff_cost_unknown_total": "Requests whose cost is unknown, by candidate: not in the sum above.",
    "samediff_cache_control_total": "Bodies that caching was asked for in, for clients that don't, by kind.",
    "samediff_usage_contradictions_total": "Answers whose token counts contradict each other, by kind.",
    "samediff_drift_total": "Answers of another model or version than was to be, by candidate and kind.",
    "samediff_upstream_failures_total": "Upstream calls that failed before or during the answer, by kind.",
    "samediff_attempts_total": "Upstream calls, by deployment and what came of them.",
    "samediff_failovers_total": "Requests answered elsewhere than where they went first, by what else.",
    "samediff_breakers_opened_total": "Times that a failing deployment was left alone.",
    "samediff_deployments_out": "Deployments that aren't called now, by state.",
    "samediff_in_flight": "Upstream calls under way, by endpoint.",
    "samediff_repeated_total": "Requests given the answer of the same one before: joined or over already.",
    "samediff_broken_tool_calls_total": "Tool calls that can't be carried out, by candidate and kind.",
    "samediff_hedged_total": "Late calls that another deployment was asked to answer too.",
    "samediff_cancelled_total": "Requests whose client left before the end.",
    "samediff_refused_total": "Requests refused, by status.",
    "samediff_journal_records_total": "Records handed to the journal.",
    "samediff_journal_dropped_total": "Records lost: the queue was full or the disk refused.",
    "samediff_bundle_swaps_total": "Bundles swapped in because the store's pointer moved.",
    "samediff_bundle_refused_total": "Bundles of the store that could not be taken.",
    "samediff_offset_outcomes_total": "Outcomes that moved the offset of a repository or tenant.",
    "samediff_offset_unmatched_total": "Outcomes that moved none: no verdict, or their request isn't known.",
    "samediff_offsets": "Repositories and tenants with an offset of their own.",
    "samediff_sessions": "Sessions remembered.",
}

_GAUGES = frozenset(
    {"samediff_sessions", "samediff_offsets", "samediff_deployments_out", "samediff_in_flight"}
)


class Metrics:
    """Counters by name and labels."""

    def __init__(self) -> None:
        self._families: dict[tuple[str, tuple[str, ...]], Family] = {}

    def __len__(self) -> int:
        return sum(map(len, self._families.values()))

    def by(self, name: str, *labels: str) -> Family:
        """A counter's values by those of its labels, to be added to: `by("x_total", "kind")["a",] += 1`."""
        return self._families.setdefault((name, labels), defaultdict(float))

    def add(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Add to one counter."""
        self.by(name, *labels)[tuple(labels.values())] += amount

    def put(self, name: str, value: float, /, **labels: str) -> None:
        """Set one gauge."""
        self.by(name, *labels)[tuple(labels.values())] = value

    def total(self, name: str) -> float:
        """Sum of a counter over all its labels."""
        return sum(value for _, value in self._rows(name))

    def render(self, gauges: Mapping[str, float]) -> str:
        """Write all counters and the given gauges in the text format, those never touched as 0."""
        lines: list[str] = []
        for name, text in HELP.items():
            kind = "gauge" if name in _GAUGES else "counter"
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            rows = sorted(self._rows(name))
            if not rows or name in gauges:
                rows = [((), gauges.get(name, 0.0))]
            lines += [f"{name}{_labels(labels)} {value:.12g}" for labels, value in rows]
        return "\n".join(lines) + "\n"

    def _rows(self, name: str) -> Iterator[tuple[Labels, float]]:
        for (known, labels), family in self._families.items():
            if known == name:
                yield from ((tuple(zip(labels, of, strict=True)), value) for of, value in family.items())


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
