"""Where a policy helps and where it hurts: group by group, task type by task type, against the best pin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from training.evaluate.assess import known
from training.evaluate.bootstrap import mean_known
from training.metrics import paired_error

if TYPE_CHECKING:
    from training.evaluate.menus import Outcome
    from training.evaluate.policies import Setting

MAX_GROUPS = 200  # listed, the worst first


def by_group(setting: Setting, outcome: Outcome, pin: Outcome) -> list[dict[str, Any]]:
    """Figures of each group of tasks, the worst for the policy first; none where every task is its own group.

    The interval is over the tasks of the group, so it says nothing of groups not seen.
    """
    matrix, rows = setting.matrix, setting.at.rows
    names = np.array(matrix.tasks["_group"].to_list(), dtype=object)[rows]
    groups = matrix.group[rows]
    found = [
        _entry(_label(names[groups == g]), outcome, pin, groups == g, np.arange(len(rows)))
        for g in (np.unique(groups) if len(np.unique(groups)) < len(groups) else ())
    ]
    return _worst_first(found)[:MAX_GROUPS]


def by_task_type(setting: Setting, outcome: Outcome, pin: Outcome) -> list[dict[str, Any]]:
    """The same of each task type, the interval over its groups; none where no task type is known."""
    matrix, rows = setting.matrix, setting.at.rows
    kinds = matrix.category[rows]
    named = np.unique(kinds) if matrix.category_column else ()
    return _worst_first(
        [_entry(str(kind) or "none", outcome, pin, kinds == kind, matrix.group[rows]) for kind in named]
    )[:MAX_GROUPS]


def _label(names: np.ndarray) -> str:
    """The group's name; groups that share a prompt are one and bear the name of the first."""
    distinct = dict.fromkeys(names)
    more = f" and {len(distinct) - 1} more" if len(distinct) > 1 else ""
    return f"{next(iter(distinct))}{more}"


def _entry(
    name: str, outcome: Outcome, pin: Outcome, mine: np.ndarray, cluster: np.ndarray
) -> dict[str, Any]:
    gain = outcome.quality[mine] - pin.quality[mine]
    paid, would = mean_known(outcome.cost[mine]), mean_known(pin.cost[mine])
    mean, error = paired_error(gain, cluster[mine])
    count = len(np.unique(cluster[mine]))
    half = float(stdtrit(count - 1, 0.975)) * error if count > 1 else float("inf")
    return {
        "name": name,
        "n": int(mine.sum()),
        "quality": float(outcome.quality[mine].mean()),
        "cost_usd": known(float(paid)),
        "best_single_quality": float(pin.quality[mine].mean()),
        "best_single_cost_usd": known(float(would)),
        "quality_difference": mean,
        "quality_difference_ci": [mean - half, mean + half] if np.isfinite(half) else None,
        "saving": known(float(1 - paid / would)) if would else None,
    }


def _worst_first(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the lower end of the interval, which a few tasks can't make look bad or good by luck alone."""
    return sorted(entries, key=lambda e: (e["quality_difference"], -e["n"], e["name"]))
