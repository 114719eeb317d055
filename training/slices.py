"""Where calibration holds and where it does not: by candidate, task type, group, context length, language."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri, stdtrit

from features.vector import feature_names
from models.manifest import Slice
from training.metrics import ECE_BINS, calibration_error, paired_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from training.examples import Examples

MIN_ROWS = 50  # below, chance alone shows more than 0.1
MAX_OF_KIND = 40  # the largest slices of a kind; a repository of every developer isn't looked at
BANDS = ((0, 8_000), (8_000, 32_000), (32_000, 128_000), (128_000, None))  # context tokens
DRAWS = 200  # of labels that the predictions themselves would have
RESAMPLED = 1000  # of groups, for an interval
Z_95 = 1.96
TAIL = 0.025  # of an interval, either side


def slices(rows: Examples, p: np.ndarray) -> list[Slice]:
    """The slices of held-out rows with predictions p (n,), those beyond chance first, then by rows.

    Beyond chance is over what true probabilities show, and off to one side, on so many slices in one of
    twenty reports: of forty repositories two would be named otherwise although nothing is wrong.
    """
    parts = [(*part, p[part[2]]) for part in _parts(rows) if part[2].sum() >= MIN_ROWS]
    z = float(ndtri(1.0 - 0.05 / max(len(parts), 1)))
    found = [_slice(kind, name, rows.some(which), mine, z) for kind, name, which, mine in parts]
    return sorted(found, key=lambda s: (not s.beyond_chance, -s.rows))


def _slice(kind: str, name: str, rows: Examples, p: np.ndarray, z: float) -> Slice:
    error = calibration_error(rows.success, p)
    rng = np.random.default_rng(0)
    by_chance = [calibration_error((rng.random(len(p)) < p).astype(float), p) for _ in range(DRAWS)]
    bias, spread = paired_error(p - rows.success, rows.group)
    several = bool(np.isfinite(spread))
    chance = float(np.quantile(by_chance, 0.95))
    ends = error_interval(rows.success, p, rows.group) if several else None
    limit = float(np.mean(by_chance) + z * np.std(by_chance))
    return Slice(
        kind=kind,
        name=name,
        rows=len(p),
        groups=len(np.unique(rows.group)),
        ece=error,
        ece_ci=(0.0, ends[1]) if ends is not None and error <= chance else ends,
        ece_by_chance=chance,
        bias=bias,
        bias_ci=(bias - Z_95 * spread, bias + Z_95 * spread) if several else None,
        beyond_chance=error > limit and (not several or abs(bias) > z * spread),
    )


def error_interval(y: np.ndarray, p: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """95 % interval of the ECE of predictions p (n,) against y (n,) over two or more groups (n,).

    An ECE is a sum of absolute values: noise alone raises it, and a bootstrap of it never comes down to 0.
    So each end is the true error under which an ECE as high, or as low, as the one seen comes of one draw
    in forty of the bins' noise, by group. What is seen always lies inside.
    """
    seen, noise = _binned(y, p, group)
    spread, error = noise.std(axis=0), float(np.abs(seen).sum())
    # The low end has the error lie where it stands out: there it adds most to what is seen.
    clear = np.abs(seen) > 2 * spread
    clear[np.argmax(np.abs(seen) / np.maximum(spread, 1e-12))] = True
    low = _largest(np.where(clear, seen, 0.0), noise, lambda drawn: float(np.mean(drawn >= error)) < TAIL)
    # The high end has it lie where noise hides it best: in every bin by as much as that one's noise.
    high = _largest(spread, noise, lambda drawn: float(np.mean(drawn <= error)) > TAIL)
    other = _largest(-spread, noise, lambda drawn: float(np.mean(drawn <= error)) > TAIL)
    # Folds that foretell each other show less noise than groups drawn afresh: then no true error fits.
    reach = Z_95 * float(np.abs(seen + noise).sum(axis=1).std())
    return min(low, error), max(high, other, error + reach)


def _largest(shape: np.ndarray, noise: np.ndarray, holds: Callable[[np.ndarray], bool]) -> float:
    """The largest true error, laid over the bins like shape (b,), whose drawn ECEs (RESAMPLED,) hold."""
    total = float(np.abs(shape).sum())
    if total == 0.0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if holds(np.abs(middle / total * shape + noise).sum(axis=1)):
            low = middle
        else:
            high = middle
    return low


def _binned(y: np.ndarray, p: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of y - p by bin of equal count, over all rows (b,), and draws of its noise (RESAMPLED, b)."""
    names, where = np.unique(group, return_inverse=True)
    bins = min(ECE_BINS, len(p))
    at = np.empty(len(p), dtype=np.int64)
    for number, part in enumerate(np.array_split(np.argsort(p, kind="stable"), bins)):
        at[part] = number
    off = np.bincount(where * bins + at, weights=y - p, minlength=len(names) * bins).reshape(-1, bins)
    seen = off.sum(axis=0) / len(p)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLED)
    noise = (drawn @ off) / (drawn @ np.bincount(where))[:, None] - seen
    free = max(len(names) - 1, 1)  # few groups show less noise than there is
    return seen, noise * float(stdtrit(free, 0.975) / Z_95 * np.sqrt(len(names) / free))


def _parts(rows: Examples) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, name, mask (n,)) of every slice."""
    for kind, values in (("candidate", rows.candidate), ("task type", rows.task_type), ("group", rows.group)):
        names, counts = np.unique(values[values != ""], return_counts=True)
        for name in names[np.argsort(-counts, kind="stable")[:MAX_OF_KIND]]:
            yield kind, str(name), values == name
    columns = {name: rows.features[:, at] for at, name in enumerate(feature_names(0))}
    tokens = np.expm1(columns["context_tokens_est"].astype(np.float64))
    for low, high in BANDS:
        band = f"{low // 1000}k+" if high is None else f"{low // 1000}k-{high // 1000}k"
        yield "context tokens", band, (tokens >= low) & (tokens < (np.inf if high is None else high))
    for name, column in columns.items():
        if name.startswith("lang_"):
            yield "language", name.removeprefix("lang_"), column > 0


def said(found: list[Slice]) -> Iterator[str]:
    """The slices that are off beyond chance, a line each; one line where there are none."""
    off = [s for s in found if s.beyond_chance]
    if not off:
        if found:
            yield f"calibration holds in all {len(found)} slices of {MIN_ROWS} rows and more"
        return
    for s in off[:5]:
        which = "too high" if s.bias > 0 else "too low"
        ends = "" if s.ece_ci is None else f" ({s.ece_ci[0]:.3f} to {s.ece_ci[1]:.3f})"
        yield (
            f"! {s.kind} {s.name}: P(success) is {which} by {abs(s.bias):.3f} on {s.rows} held-out rows "
            f"(ECE {s.ece:.3f}{ends}, {s.ece_by_chance:.3f} by chance)"
        )
    if len(off) > 5:
        yield f"  and {len(off) - 5} more of {len(found)} slices; see --json"
