"""--group-by: every policy in every part of the log, so that who gains and who loses is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from features.errors import BadInput
from training.replay.logged.calls import GROUPS
from training.replay.policies.playing import judged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.replay.logged.calls import Calls
    from training.replay.policies.entries import Entry
    from training.replay.report.result import Row
    from training.replay.stage import Stage

SHOWN = 20  # groups, those of most money
OTHERS = "all others"


def check_group(key: str | None) -> None:
    """Refuse a key that isn't any (BadInput); None is no groups."""
    if key is not None and key not in GROUPS:
        raise BadInput(f"--group-by {key}: say one of {', '.join(GROUPS)}")


def in_groups(rows: Sequence[Row], entries: Sequence[Entry], stage: Stage, key: str) -> None:
    """Write into each row its cost, saving and quality by group; a session belongs to its first call's."""
    column = GROUPS[key]
    names = np.concatenate([_names(world.calls, column) for world in stage.worlds.each()])
    calls = np.concatenate([np.diff(world.calls.starts) for world in stage.worlds.each()])
    money = entries[0].usd
    kinds, code = np.unique(names, return_inverse=True)
    order = np.argsort(-np.bincount(code, weights=money), kind="stable")[:SHOWN]
    masks = {str(kinds[i]): code == i for i in order}
    if len(kinds) > SHOWN:
        masks[OTHERS] = ~np.isin(code, order)
    for name, sessions in masks.items():
        judge, count = stage.judge(sessions), int(calls[sessions].sum())
        today = float(money[sessions].sum())
        said = judged(judge, [_unjudged(entry) for entry in entries], count)
        for row, entry, one in zip(rows, entries, said, strict=True):
            cost = float(entry.usd[sessions].sum())
            row.groups[name] = {
                "calls": count,
                "cost_usd": cost,
                "saving": 1 - cost / today if today > 0 else None,
                "quality": one.quality,
                "quality_ci": one.ci,
                "ess": one.ess,
                "supported": one.supported,
            }


def _names(calls: Calls, column: str) -> np.ndarray:
    """Group (S,) of each session of a part."""
    first = calls.frame[calls.starts[:-1]]
    named = first["task_id"].fill_null(first["task_type"]) if column == "task_id" else first[column]
    return np.array(named.fill_null("unknown").to_list())


def _unjudged(entry: Entry) -> Entry:
    """The entry without the quality that it has on the whole log."""
    from msgspec.structs import replace

    from training.replay.quality.quoted import Quality

    return replace(entry, quality=Quality())
