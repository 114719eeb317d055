"""What an answer's own diff tells: `bench_after.py PATCHES TASKS LABELS [--every] [--json FILE]`.

Of 13 agents' patches: is it the reference's diff (as judged at L0 to L2, and by the set's naive label), and
does it pass. Heads of training/after, knobs nested, leaving repositories out; AUC within each repository,
weighted by its rows, with a bootstrap over repositories. Beside it what less evidence tells, and as a ceiling
what the true labels of the same task's other answers would. `--every` takes each agent as the second one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from features.answerfacts import AGREEMENT, EDIT_NAMES
from features.diffs.patches import parse_patch
from features.encoder import load_encoder
from models.prior import PRIOR_ENCODER
from training.after.heads import out_of_fold
from training.after.samediff import Request, rows_of_diffs, same_as_reference
from training.metrics import auc, calibration_error

if TYPE_CHECKING:
    from training.after.rows import AfterRows

DRAWS = 2000
SECOND = "polydev_hybrid_claude-haiku-4-5"  # the cheapest model among them, by name; no outcome looked at
OWN = tuple(name for name in EDIT_NAMES if name not in AGREEMENT)
SIZE = ("added_lines", "removed_lines", "added_tokens", "removed_tokens", "code_files", "hunks")
ALONE = {"base rate of the agent": (), "size alone": SIZE, "own edit": OWN}
# Pairs of ways whose difference in AUC is printed with its own interval, (second, way) each.
HELD = (
    (("", "own edit"), ("", "size alone")),
    (("any", "own edit and agreement"), ("", "own edit")),
    (("any", "own edit and agreement"), ("any", "agreement alone")),
)
BESIDE = {
    "same files as another": ("others_touch", "others_overlap"),
    "agreement alone": AGREEMENT,
    "own edit and agreement": EDIT_NAMES,
}
Labels = list[dict[str, float]]
Plan = list[dict[str, list[str]]]


def load(args: argparse.Namespace) -> tuple[list[Request], list[str], dict[str, Labels]]:
    """Requests with their patches, their prompts, and the labels by request and agent."""
    tasks = pl.read_parquet(args.tasks).sort("task_id")
    labels = pl.read_parquet(args.labels).select("submission", "task_id", "same_as_gold")
    patches = pl.read_parquet(args.patches).filter(pl.col("submission") != "GOLD")
    patches = patches.join(labels, on=["submission", "task_id"], how="left").sort("submission")
    requests, naive, passes = [], [], []
    for task in tasks.iter_rows(named=True):
        mine = patches.filter(pl.col("task_id") == task["task_id"]).to_dicts()
        answers = {row["submission"]: parse_patch(_bytes(row["patch"])) for row in mine}
        requests.append(Request(task["repo"], parse_patch(_bytes(task["gold_patch"])), answers))
        naive.append({row["submission"]: _number(row["same_as_gold"]) for row in mine})
        passes.append({row["submission"]: _number(row["success"]) for row in mine})
    judged = [same_as_reference(request) for request in requests]
    known = {"same, judged": judged, "same, naive label": naive, "passes": passes}
    return requests, tasks["prompt"].to_list(), known


def _bytes(patch: str | None) -> bytes:
    return (patch or "").encode("utf-8", "surrogatepass")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def beside(requests: list[Request], second: str | None, seed: int = 1) -> Plan:
    """Whose answer each is held against: the named agent's, or one drawn from all others."""
    rng = np.random.default_rng(seed)
    plan: Plan = []
    for request in requests:
        chosen = {}
        for name in request.answers:
            others = [other for other in sorted(request.answers) if other != name and second in (None, other)]
            if others:
                chosen[name] = [others[int(rng.integers(len(others)))]]
        plan.append(chosen)
    return plan


def within(y: np.ndarray, p: np.ndarray, group: np.ndarray) -> tuple[float, list[float], dict[str, float]]:
    """AUC within groups, weighted by rows, its 95 % interval over groups, and the AUC of each."""
    parts = {str(g): (auc(y[group == g], p[group == g]), int((group == g).sum())) for g in np.unique(group)}
    known = {g: (a, n) for g, (a, n) in parts.items() if a is not None}
    value = np.array([a for a, _ in known.values()])
    weight = np.array([n for _, n in known.values()], dtype=float)
    drawn = np.random.default_rng(0).integers(0, len(value), size=(DRAWS, len(value)))
    means = (value[drawn] * weight[drawn]).sum(axis=1) / weight[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    each = {group: a for group, (a, _) in known.items()}
    return float(value @ weight / weight.sum()), [float(low), float(high)], each


def told(rows: AfterRows, columns: tuple[str, ...]) -> AfterRows:
    """The rows that have a target, with some of their features; without any, the agent alone speaks."""
    at = [rows.names.index(name) for name in columns]
    shown = rows.features[:, at] if at else np.zeros((len(rows.target), 1), dtype=np.float32)
    return rows._replace(features=shown, names=columns or ("none",)).some(np.isfinite(rows.target))


def of_task(rows: AfterRows, labels: Labels) -> np.ndarray:
    """The oracle's score (n,): the share of the same task's other answers that have the label in truth."""
    scores = []
    for known in labels:
        values = np.array(list(known.values()), dtype=float)
        for value in values:
            n = np.isfinite(values).sum() - np.isfinite(value)
            scores.append((np.nansum(values) - np.nan_to_num(value)) / max(n, 1))
    found: np.ndarray = np.array(scores)[np.isfinite(rows.target)]
    return found


class Report:
    """Lines as they come."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, target: str, second: str, way: str, rows: AfterRows, p: np.ndarray) -> None:
        """One line: AUC of scores p (n,) against the rows' target."""
        y = rows.target
        value, ci, each = within(y, p, rows.group)
        ece = calibration_error(y, p) if way != "oracle" else None
        said = {"target": target, "second": second, "way": way, "rows": len(y), "base": float(y.mean())}
        names, count = np.unique(rows.group, return_counts=True)
        rows_of = dict(zip(map(str, names), map(int, count), strict=True))
        self.lines.append(
            said | {"auc": value, "ci": ci, "ece": ece, "by_repository": each, "rows_of": rows_of}
        )
        print(
            f"{target:18} {second:10} {way:26} {len(y):5} rows, base {y.mean():.3f}  "
            f"AUC {value:.3f} ({ci[0]:.3f} to {ci[1]:.3f})" + ("" if ece is None else f"  ECE {ece:.3f}"),
            flush=True,
        )

    def differences(self, target: str) -> None:
        """Differences between ways, paired by repository, weighted by the rows of the first."""
        lines = {(line["second"], line["way"]): line for line in self.lines if line["target"] == target}
        for one, other in HELD:
            mine, theirs = lines[one]["by_repository"], lines[other]["by_repository"]
            shared = [name for name in mine if name in theirs]
            gain = np.array([mine[name] - theirs[name] for name in shared])
            weight = np.array([lines[one]["rows_of"][name] for name in shared], dtype=float)
            drawn = np.random.default_rng(0).integers(0, len(gain), size=(DRAWS, len(gain)))
            means = (gain[drawn] * weight[drawn]).sum(axis=1) / weight[drawn].sum(axis=1)
            low, high = np.percentile(means, [2.5, 97.5])
            between = " over ".join(" ".join(filter(None, way)) for way in (one, other))
            print(f"{target}: {between} {gain @ weight / weight.sum():+.3f} ({low:+.3f} to {high:+.3f})")


def ask(report: Report, target: str, second: str, rows: AfterRows, ways: dict[str, tuple[str, ...]]) -> None:
    """Each way's line, every repository told by heads that saw nothing of it."""
    for way, columns in ways.items():
        data = told(rows, columns)
        fold = np.unique(data.group, return_inverse=True)[1]
        report.add(target, second, way, data, out_of_fold(data, fold)[0])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("patches", "tasks", "labels"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    requests, prompts, labels = load(args)
    encoder = load_encoder(PRIOR_ENCODER)
    vectors = [encoder.encode(text) for text in prompts]
    report = Report()
    started = time.perf_counter()
    for target, known in labels.items():
        rows = rows_of_diffs(requests, known)
        ask(report, target, "", rows, ALONE)
        text = np.array([v for v, r in zip(vectors, requests, strict=True) for _ in r.answers])
        names = tuple(f"emb_{i}" for i in range(text.shape[1]))
        ask(report, target, "", rows._replace(features=text, names=names), {"prompt text alone": names})
        for said, second in (("haiku 4.5", SECOND), ("any", None)):
            ask(report, target, said, rows_of_diffs(requests, known, beside(requests, second)), BESIDE)
        report.add(target, "all", "oracle", told(rows, ()), of_task(rows, known))
        report.differences(target)
    if args.every:
        for target in ("same, judged", "same, naive label"):
            for second in sorted({name for request in requests for name in request.answers}):
                rows = rows_of_diffs(requests, labels[target], beside(requests, second))
                ask(report, target, second, rows, {"own edit and agreement": EDIT_NAMES})
    print(f"{time.perf_counter() - started:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(report.lines, indent=1))


if __name__ == "__main__":
    main()
