"""Where calibration holds and where it does not: by candidate, task type, group and context length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from features.vector import feature_names
from models.manifest import Slice
from training.metrics import calibration_error, chance_error, paired_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.examples import Examples

MIN_ROWS = 50  # below, chance alone shows more than 0.1
MAX_OF_KIND = 40  # the largest slices of a kind; a repository of every developer isn't looked at
BANDS = ((0, 8_000), (8_000, 32_000), (32_000, 128_000), (128_000, None))  # context tokens
Z_95 = 1.96


def slices(rows: Examples, p: np.ndarray) -> list[Slice]:
    """The slices of held-out rows with predictions p (n,), those beyond chance first, then by rows."""
    found = [
        _slice(kind, name, rows.some(which), p[which])
        for kind, name, which in _parts(rows)
        if which.sum() >= MIN_ROWS
    ]
    return sorted(found, key=lambda s: (not s.beyond_chance, -s.rows))


def _slice(kind: str, name: str, rows: Examples, p: np.ndarray) -> Slice:
    error, chance = calibration_error(rows.success, p), chance_error(p, draws=200)
    bias, spread = paired_error(p - rows.success, rows.group)
    ends = None if not np.isfinite(spread) else (bias - Z_95 * spread, bias + Z_95 * spread)
    clear = ends is not None and (ends[0] > 0 or ends[1] < 0)
    return Slice(
        kind=kind,
        name=name,
        rows=len(p),
        groups=len(np.unique(rows.group)),
        ece=error,
        ece_by_chance=chance,
        bias=bias,
        bias_ci=ends,
        beyond_chance=error > chance and (clear or ends is None),
    )


def _parts(rows: Examples) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, name, mask (n,)) of every slice."""
    for kind, values in (("candidate", rows.candidate), ("task type", rows.task_type), ("group", rows.group)):
        names, counts = np.unique(values[values != ""], return_counts=True)
        for name in names[np.argsort(-counts, kind="stable")[:MAX_OF_KIND]]:
            yield kind, str(name), values == name
    at = feature_names(0).index("context_tokens_est")
    tokens = np.expm1(rows.features[:, at].astype(np.float64))
    for low, high in BANDS:
        band = f"{low // 1000}k+" if high is None else f"{low // 1000}k-{high // 1000}k"
        yield "context tokens", band, (tokens >= low) & (tokens < (np.inf if high is None else high))


def said(found: list[Slice]) -> Iterator[str]:
    """The slices that are off beyond chance, a line each; one line where there are none."""
    off = [s for s in found if s.beyond_chance]
    if not off:
        if found:
            yield f"calibration holds in all {len(found)} slices of {MIN_ROWS} rows and more"
        return
    for s in off[:5]:
        which = "too high" if s.bias > 0 else "too low"
        yield (
            f"! {s.kind} {s.name}: P(success) is {which} by {abs(s.bias):.3f} on {s.rows} held-out rows "
            f"(ECE {s.ece:.3f}, {s.ece_by_chance:.3f} by chance)"
        )
    if len(off) > 5:
        yield f"  and {len(off) - 5} more of {len(found)} slices; see --json"
