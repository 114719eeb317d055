"""Gates: what a training must pass before its bundle is written, each said with its numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.bundle import Bundle, CandidateView

if TYPE_CHECKING:
    from pathlib import Path

    from models.manifest import Parity
    from training.dataset import Dataset
    from training.heldout import HeldOut

MAX_EXCESS_ECE = 0.04  # of calibration error on held-out groups over what chance alone shows there
MIN_CANDIDATES = 2
MAX_DP = 1e-6  # between the exported graph and what was trained
MAX_BUNDLE_MB = 64.0
MAX_DECISION_MS = 2.0  # median of a prediction for a dozen arms; the p99 of a busy machine is no gate
CHOICE = "choice not worse than the best pin"
TIMED_ARMS, TIMED_CALLS = 12, 200


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One condition for a bundle to be written."""

    name: str
    passed: bool
    said: str


def gates_of_rows(dataset: Dataset, held: np.ndarray) -> list[Gate]:
    """Before anything is fitted: two candidates to choose between, and groups to hold out (n,) bool."""
    n, alone = dataset.counts.candidates, dataset.counts.groups == 1
    enough = f"{n} with labels, at least {MIN_CANDIDATES}"
    gates = [Gate(name="candidates", passed=n >= MIN_CANDIDATES, said=enough)]
    if not held.any():
        why = "the log is one group" if alone else "nearly all rows are of one group"
        gates.append(Gate(name="held out", passed=False, said=f"{why}: nothing can be held out"))
    return gates


def gates_of_scores(held: HeldOut) -> list[Gate]:
    """On the newest groups: calibrated as far as chance lets one tell, and not worse than table and pin.

    Two gates are of beliefs, by log-loss; the last is of the choice, by success. A single group has no
    interval to tell by, so there beliefs fail.
    """
    ece, chance = held.success.ece, held.ece_by_chance
    controls = {
        "beliefs not worse than the table's": (held.log_loss_minus_table, held.log_loss_minus_table_ci),
        "beliefs not worse than a pin's": (held.log_loss_minus_pin, held.log_loss_minus_pin_ci),
    }
    calibrated = Gate(
        name="calibration",
        passed=ece <= chance + MAX_EXCESS_ECE,
        said=f"ECE {ece:.3f}, at most {MAX_EXCESS_ECE} over the {chance:.3f} that chance shows",
    )
    beliefs = [_of_beliefs(name, *found) for name, found in controls.items()]
    if held.route is None:
        return [calibrated, *beliefs]
    choice = Gate(name=CHOICE, passed=not held.route.clearly_worse, said=held.route.said)
    return [calibrated, *beliefs, choice]


def _of_beliefs(name: str, mean: float, interval: tuple[float, float]) -> Gate:
    """Log-loss against a control: failed where clearly worse, or where one group lets nobody tell."""
    if not np.isfinite(interval).all():
        why = "one group is held out: its log-loss has no interval; log more groups"
        return Gate(name=name, passed=False, said=why)
    said = f"log-loss {mean:+.4f} against it, 95 % {interval[0]:+.4f} to {interval[1]:+.4f}"
    return Gate(name=name, passed=interval[0] <= 0, said=said)


def gates_of_bundle(folder: Path, parity: Parity, dataset: Dataset) -> list[Gate]:
    """On the bundle itself: the export's proof, its size, and how long a decision for a dozen arms takes."""
    megabytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    median = _decision_ms(Bundle.load(folder), dataset.examples.features)
    return [
        Gate(
            name="parity",
            passed=parity.max_abs_dp <= MAX_DP and not parity.rows_wrong,
            said=f"ONNX = LightGBM on {parity.rows} adversarial rows: max |Δp| {parity.max_abs_dp:.1e}",
        ),
        Gate(
            name="size",
            passed=megabytes <= MAX_BUNDLE_MB,
            said=f"{megabytes:.1f} MB, at most {MAX_BUNDLE_MB:.0f}",
        ),
        Gate(
            name="latency",
            passed=median <= MAX_DECISION_MS,
            said=f"{median:.2f} ms for {TIMED_ARMS} arms, at most {MAX_DECISION_MS:.0f}",
        ),
    ]


def _decision_ms(bundle: Bundle, features: np.ndarray) -> float:
    """Median milliseconds of a prediction for a dozen arms."""
    names = list(bundle.profiles)
    views = [CandidateView(names[i % len(names)], None, None) for i in range(TIMED_ARMS)]
    spent = []
    for row in features[np.arange(TIMED_CALLS) % len(features)]:
        started = time.perf_counter()
        bundle.predict(row[None, :], views)
        spent.append((time.perf_counter() - started) * 1000)
    return float(np.median(spent))
