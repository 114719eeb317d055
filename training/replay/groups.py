"""--group-by: every policy in every part of the log, so that who gains and who loses is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from features.errors import BadInput
from training.replay.book import GROUPS
from training.replay.court import quality_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.replay.entries import Entry
    from training.replay.result import Row
    from training.replay.stage import Stage

SHOWN = 20  # groups, those of most money
OTHERS = "all others"


def check_group(key: str) -> str:
    """The log's column of a key; BadInput for one that isn't any."""
    if key not in GROUPS:
        raise BadInput(f"--group-by {key}: say one of {', '.join(GROUPS)}")
    return GROUPS[key]


def in_groups(rows: Sequence[Row], entries: Sequence[Entry], stage: Stage, key: str) -> None:
    """Write into each row its cost, saving and quality by group; a session belongs to its first call's."""
    book = stage.world.book
    first = book.frame[book.starts[:-1]]
    column = check_group(key)
    named = first["task_id"].fill_null(first["task_type"]) if column == "task" else first[column]
    names = np.array(named.fill_null("unknown").to_list())
    money = entries[0].usd
    kinds, code = np.unique(names, return_inverse=True)
    order = np.argsort(-np.bincount(code, weights=money), kind="stable")[:SHOWN]
    masks = {str(kinds[i]): code == i for i in order}
    if len(kinds) > SHOWN:
        masks[OTHERS] = ~np.isin(code, order)
    for name, sessions in masks.items():
        judge = stage.court.judge(sessions[book.session])
        today = float(money[sessions].sum())
        for row, entry in zip(rows, entries, strict=True):
            cost = float(entry.usd[sessions].sum())
            said = quality_of(judge, _unjudged(entry), int(sessions[book.session].sum()))
            row.groups[name] = {
                "calls": int(sessions[book.session].sum()),
                "cost_usd": cost,
                "saving": 1 - cost / today if today > 0 else None,
                "quality": said.quality,
                "quality_ci": said.ci,
                "ess": said.ess,
                "supported": said.supported,
            }


def _unjudged(entry: Entry) -> Entry:
    """The entry without the quality that it has on the whole log."""
    from msgspec.structs import replace

    from training.replay.quality import Quality

    return replace(entry, quality=Quality())
