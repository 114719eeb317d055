"""Do probabilities hold: kinds of calibration, slices, offsets of new repositories learned online.

    python tests/bench/bench_calibration.py DATA [--part kinds|slices|offsets]...

DATA: a folder of outcome matrices. Heads as served (table, trees, linear part, chosen nested); everything is
scored on groups that no fit, choice or calibration has seen.

    kinds    held-out log-loss of the raw score, Platt's line, beta and isotonic, and of what is chosen
    slices   ECE over all and by slice, with what chance shows; slices that are off beyond it
    offsets  a repository that is new: log-loss, ECE and bias as its outcomes arrive one by one, with
             the offset and without; control: outcomes drawn as the heads say, so nothing to learn
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from bench_heads import eight, examples_of, matrix_of

from features.vector import feature_names
from models.calibration import Calibration, calibrated
from models.offset import OffsetCard, Offsets, Where
from training.calibrate import _beta, _isotonic, fit_calibration, log_loss, logit, platt, sigmoid
from training.evaluate.options import Options
from training.examples import Examples, Knobs, assign_folds, names_of
from training.fit import SuccessHead, fit_success
from training.metrics import calibration_error, paired_error
from training.offsets import fit_offsets
from training.residual import fit_recipe, types_of
from training.slices import error_interval, slices

if TYPE_CHECKING:
    from training.evaluate.matrix import Matrix

KNOBS = Knobs()
PARTS = ("kinds", "slices", "offsets")


class Set(NamedTuple):
    """A development set: its file and how it is read."""

    name: str
    file: str
    options: Options
    eight: bool = False


CRB = Set("coderouterbench", "coderouterbench_id", Options())
CRB_NEW = Set("coderouterbench, new dimensions", "coderouterbench_id", Options(group="dimension"))
BFCL = Set("BFCL, eight by price", "bfcl_2024_08", Options(), eight=True)
BFCL_NEW = Set("BFCL, new categories", "bfcl_2024_08", Options(group="category"), eight=True)
PRO = Set("SWE-bench Pro, new repositories", "swebench_pro_gpt5_sonnet45", Options(group="repo"))
ON_SWE = Options(group="repo", where=("benchmark=swe-bench",))
OPEN = Set("OpenHands, new repositories", "openhands_swe_swt", ON_SWE)
ULAB = Set("ulab", "ulab_llmrouter_9models", Options())


class Loaded(NamedTuple):
    """A set as examples; the task (n,) of each row and its features by their full list."""

    matrix: Matrix
    rows: Examples
    task: np.ndarray
    whole: np.ndarray


def loaded(data: Path, one: Set) -> Loaded:
    """Read a set as `samediff evaluate` does."""
    options, path = one.options, data / f"{one.file}.parquet"
    if one.eight:
        options = Options(group=options.group, models=tuple(eight(pl.read_parquet(path), "price")))
    matrix, inputs = matrix_of(path, options)
    everything = np.arange(len(matrix.tasks))
    rows = examples_of(matrix, inputs, everything)
    whole = np.zeros((len(rows.group), len(feature_names(0))), dtype=np.float32)
    for at, name in enumerate(feature_names(0)):
        if name in inputs.names:
            whole[:, at] = rows.features[:, inputs.names.index(name)]
    return Loaded(matrix, rows, np.repeat(everything, len(matrix.models)), whole)


def raw_head(rows: Examples) -> tuple[SuccessHead, np.ndarray, np.ndarray]:
    """A head without calibration, its log-odds out of fold (n,) and the folds."""
    fitted = fit_recipe(rows, rows.success, "logit", KNOBS)
    head = SuccessHead(
        fitted.table,
        fitted.learned,
        Calibration(),
        names_of(rows.candidate),
        types_of(rows),
        dict(rows.prices),
        rows.types,
        fitted.oof,
    )
    return head, fitted.oof, fitted.fold


def said_by(head: SuccessHead, rows: Examples) -> np.ndarray:
    """P(success) (n,) of rows."""
    return head.predict(rows.features, rows.candidate, rows.task_type)


def outer(rows: Examples) -> list[np.ndarray]:
    """Rows (n,) bool of each of five outer folds, or of each group where there are fewer than 15."""
    names = np.unique(rows.group)
    fold = assign_folds(rows.group, 5 if len(names) >= 15 else len(names), 0)
    return [fold == f for f in range(int(fold.max()) + 1)]


def kinds(data: Path) -> None:
    """Print the loss of each kind of calibration."""
    for one in (CRB, BFCL, PRO, OPEN):
        found = loaded(data, one)
        for share in (1.0, 0.1):
            rows = found.rows
            if share < 1:
                names = np.unique(rows.group)
                if len(names) < 100:
                    continue
                kept = np.random.default_rng(0).choice(names, int(share * len(names)), replace=False)
                rows = rows.some(np.isin(rows.group, kept))
            _kinds_of(one.name, rows)


def _kinds_of(name: str, rows: Examples) -> None:
    p: dict[str, np.ndarray] = {}
    chosen = []
    for held in outer(rows):
        head, oof, fold = raw_head(rows.some(~held))
        raw, y = logit(said_by(head, rows.some(held))), rows.success[~held]
        ways = {
            "raw": Calibration(),
            "Platt": Calibration(*platt(oof, y, fold)),
            "beta": _beta(oof, y),
            "isotonic": _isotonic(oof, y),
            "chosen": fit_calibration(oof, y, fold),
        }
        chosen.append(ways["chosen"].kind)
        for way, found in ways.items():
            p.setdefault(way, np.empty(len(rows.success)))[held] = calibrated(found, raw)
    loss = {way: log_loss(values, rows.success) for way, values in p.items()}
    groups = len(np.unique(rows.group))
    print(f"{name}: {len(rows.success)} rows, {groups} groups; chosen: {', '.join(chosen)}")
    for way, values in p.items():
        off, error = paired_error(loss[way] - loss["Platt"], rows.group)
        said = f"log-loss {loss[way].mean():.4f}, over Platt {off:+.4f} ± {1.96 * error:.4f}"
        print(f"    {way:9s} {said}, ECE {calibration_error(rows.success, values):.4f}", flush=True)


def by_slice(data: Path) -> None:
    """Print ECE over all and by slice."""
    for one in (CRB, CRB_NEW, BFCL, BFCL_NEW, ULAB, PRO, OPEN):
        _, rows, _, whole = loaded(data, one)
        p = np.empty(len(rows.success))
        for held in outer(rows):
            p[held] = said_by(fit_success(rows.some(~held), KNOBS), rows.some(held))
        low, high = error_interval(rows.success, p, rows.group)
        found = slices(rows._replace(features=whole), p)
        off = [s for s in found if s.beyond_chance]
        error = calibration_error(rows.success, p)
        print(
            f"{one.name}: {len(p)} rows, ECE {error:.4f} ({low:.4f} to {high:.4f}), "
            f"bias {np.mean(p - rows.success):+.3f}; {len(off)} of {len(found)} slices off beyond chance, "
            f"median ECE of a slice {np.median([s.ece for s in found]):.3f} "
            f"(by chance up to {np.median([s.ece_by_chance for s in found]):.3f})"
        )
        for s in sorted(off, key=lambda s: -abs(s.bias))[:4]:
            print(f"    {s.kind} {s.name}: {s.rows} rows, ECE {s.ece:.3f}, bias {s.bias:+.3f}", flush=True)


def offsets(data: Path) -> None:
    """Print what outcomes of a new repository are worth as they arrive."""
    for one in (OPEN, PRO, CRB_NEW, BFCL_NEW):
        found = loaded(data, one)
        rows = found.rows if one not in (CRB_NEW, BFCL_NEW) else _untyped(found.rows)
        names = found.matrix.tasks["_group"].to_numpy().astype(str)[found.task]
        lines: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []
        for held in outer(rows):
            inside = rows.some(~held)
            head = fit_success(inside, KNOBS)
            where = np.stack([names[~held], np.full(int((~held).sum()), "")], axis=1)
            card = fit_offsets(head.oof, inside.success, where, found.task[~held].astype(str))
            p, y, task = said_by(head, rows.some(held)), rows.success[held], found.task[held]
            lines.append((str(names[held][0]), *_arriving(p, y, task, card)))
        _tell_offsets(one.name, lines)


def _untyped(rows: Examples) -> Examples:
    """Types hidden, as a new one isn't in the table anyway."""
    return rows._replace(task_type=np.full(len(rows.success), ""))


def _arriving(
    p: np.ndarray, y: np.ndarray, task: np.ndarray, card: OffsetCard | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(p, y, tasks seen before) of every row, p (3, n): without an offset, with it, and with another's."""
    own, other = (Offsets(None if card is None else OffsetCard(card.variances)) for _ in range(2))
    order = np.random.default_rng(0).permutation(np.unique(task))
    shown = np.stack([p, p, p])
    seen = np.empty(len(p))
    here = Where("r", None)
    for count, number in enumerate(order):
        mine = np.flatnonzero(task == number)
        seen[mine] = count
        for row, state in ((1, own), (2, other)):
            known = state.of(here)
            if known is not None:
                shown[row, mine] = sigmoid(logit(p[mine]) + known[0])
        for i in mine:
            own.learn(here, float(logit(p[i])), float(y[i]), 1.0 / len(mine))
            drawn = float(np.random.default_rng(int(i)).random() < p[i])  # a repository as the heads say
            other.learn(here, float(logit(p[i])), drawn, 1.0 / len(mine))
    return shown, y, seen


def _tell_offsets(name: str, lines: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]) -> None:
    p = np.concatenate([line[1] for line in lines], axis=1)
    y = np.concatenate([line[2] for line in lines])
    seen = np.concatenate([line[3] for line in lines])
    group = np.concatenate([np.full(len(line[2]), line[0]) for line in lines])
    print(f"{name}: {len(y)} rows, {len(lines)} held out in turn")
    for label, which in (("all", seen >= 0), ("after 10 tasks", seen >= 10), ("after 30", seen >= 30)):
        if not which.any():
            continue
        parts = []
        for row, way in enumerate(("none", "offset", "control")):
            loss = log_loss(p[row, which], y[which])
            off, error = paired_error(loss - log_loss(p[0, which], y[which]), group[which])
            each = [abs(float(np.mean((p[row] - y)[which & (group == g)]))) for g in np.unique(group[which])]
            ece = np.average(
                [calibration_error(y[w], p[row, w]) for w in _each(group, which)],
                weights=[int(w.sum()) for w in _each(group, which)],
            )
            parts.append(
                f"{way} {loss.mean():.4f} ({off:+.4f} ± {1.96 * error:.4f}), |bias| of one "
                f"{np.mean(each):.3f}, ECE {ece:.3f}"
            )
        print(f"    {label:15s} {int(which.sum())} rows: " + "; ".join(parts), flush=True)


def _each(group: np.ndarray, which: np.ndarray) -> list[np.ndarray]:
    return [which & (group == g) for g in np.unique(group[which])]


def main() -> None:
    """Print the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--part", action="append", choices=PARTS)
    asked = parser.parse_args()
    jobs = {"kinds": kinds, "slices": by_slice, "offsets": offsets}
    for part in asked.part or PARTS:
        print(f"# {part}", flush=True)
        jobs[part](asked.data)


if __name__ == "__main__":
    main()
