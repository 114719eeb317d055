"""What a team would have got: everything fitted and tuned on half of the groups, frozen, scored on the rest.

Cross-fitting learns from four fifths and tunes anew in every fold; a team learns from what it has, once.
So each split is played both ways, every task is scored once a split, and figures are means over splits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluate.assess import Ledger, known
from training.evaluate.bootstrap import mean_known
from training.evaluate.menus import Outcome
from training.evaluate.players import play
from training.evaluate.policies import best_single, cheapest
from training.evaluate.predict import Split
from training.examples import assign_folds

if TYPE_CHECKING:
    from training.evaluate.bootstrap import Bootstrap
    from training.evaluate.matrix import Matrix
    from training.evaluate.options import Options
    from training.evaluate.policies import Setting

_SEED = 1000  # away from the seeds of the folds


def halves(matrix: Matrix, options: Options) -> list[list[Split]]:
    """Splits of the groups into halves, each as two folds; none with --test, which is such a split itself."""
    groups = len(np.unique(matrix.group))
    if options.test is not None or groups < 4:
        return []
    found = []
    for number in range(options.splits):
        fold = assign_folds(matrix.group, 2, options.seed + _SEED + number)
        found.append([Split(fold != side, fold == side) for side in (0, 1)])
    return found


def deployment(boot: Bootstrap, setting: Setting, deployed: list[Setting]) -> dict[str, Any] | None:
    """Figures of each policy over the splits, beside how much better cross-fitting said it would be.

    None where there is no split. `halves` is the range over single halves of the difference to the best pin.
    """
    if not deployed:
        return None
    by_split = [_outcomes(way) for way in deployed]
    names = [name for name in by_split[0] if all(name in split for split in by_split)]
    mean = {
        name: _mean(
            [_as_scored(way, setting, split[name]) for way, split in zip(deployed, by_split, strict=True)]
        )
        for name in names
    }
    fitted = {f"cross/{name}": outcome for name, outcome in _outcomes(setting).items() if name in mean}
    ledger = Ledger(boot, mean | fitted)
    entries = []
    for name in names:
        optimism = ledger.against(f"cross/{name}", name)
        entries.append(
            {
                "name": name,
                **ledger.figures(name),
                "vs_best_single": ledger.against(name, "best_single"),
                "cross_fitted_better_by": {k: optimism[k] for k in ("quality", "quality_ci")},
                "halves": _range(deployed, by_split, name),
            }
        )
    return {"splits": len(deployed), "policies": entries}


def _outcomes(setting: Setting) -> dict[str, Outcome]:
    found = {"best_single": best_single(setting.at, setting.books)}
    low = cheapest(setting.at, setting.books)
    if low is not None:
        found["cheapest"] = low
    return found | {name: played.outcome for name, played in play(setting).items()}


def _as_scored(way: Setting, setting: Setting, outcome: Outcome) -> Outcome:
    """The outcome in the order of the cross-fitted rows."""
    place = np.empty(len(setting.matrix.group), dtype=np.int64)
    place[way.at.rows] = np.arange(len(way.at.rows))
    return Outcome(*(column[place[setting.at.rows]] for column in outcome))


def _mean(outcomes: list[Outcome]) -> Outcome:
    return Outcome(*(np.mean(column, axis=0) for column in zip(*outcomes, strict=True)))


def _range(
    deployed: list[Setting], by_split: list[dict[str, Outcome]], name: str
) -> dict[str, list[float | None]]:
    """Range over the halves of the difference to the best pin, in success and in share of cost saved."""
    gains, savings = [], []
    for way, split in zip(deployed, by_split, strict=True):
        for side in (0, 1):
            mine = way.at.fold == side
            one, pin = split[name], split["best_single"]
            gains.append(float(one.quality[mine].mean() - pin.quality[mine].mean()))
            paid, would = float(mean_known(one.cost[mine])), float(mean_known(pin.cost[mine]))
            savings.append(1 - paid / would if would else float("nan"))
    return {
        "quality": [min(gains), max(gains)],
        "saving": [known(float(np.min(savings))), known(float(np.max(savings)))],
    }
