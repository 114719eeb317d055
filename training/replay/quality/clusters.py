"""--cluster-by: what is independent of what, what intervals are over; sessions, unless one says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.errors import BadInput
from training.replay.logged.calls import GROUPS

if TYPE_CHECKING:
    from training.replay.cost.world import Worlds

SESSION = "session"
NOUNS = {"session": "sessions", "repo": "repos", "user": "users", "client": "clients", "task": "tasks"}


class Clusters(NamedTuple):
    """Which cluster each of S sessions is in; `code` None: each is its own."""

    by: str
    code: np.ndarray | None  # (S,) int, 0 to `many` − 1, as clusters first appear
    many: int
    unnamed: int = 0  # sessions that name none: each is one of its own

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums (..., C) of what sessions (..., S) have."""
        if self.code is None:
            return values
        rows = values.reshape(-1, values.shape[-1])
        found = np.stack([np.bincount(self.code, row, self.many) for row in rows])
        return found.reshape(*values.shape[:-1], self.many)


def check_cluster(key: str) -> str:
    """The key itself; BadInput for one that isn't any."""
    if key != SESSION and key not in GROUPS:
        raise BadInput(f"--cluster-by {key}: say one of {', '.join((SESSION, *GROUPS))}")
    return key


def clusters_of(worlds: Worlds, key: str) -> Clusters:
    """Clusters of a replay's sessions; a session belongs to its first call's, wherever it lies in the log."""
    if check_cluster(key) == SESSION:
        return Clusters(SESSION, None, worlds.sessions)
    column = GROUPS[key]
    firsts = [world.calls.frame[world.calls.starts[:-1]][column].cast(pl.String) for world in worlds.each()]
    names = pl.concat(firsts)
    unnamed = int(names.null_count())
    each = [f"\0{i}" if name is None else name for i, name in enumerate(names)]
    place = {name: i for i, name in enumerate(dict.fromkeys(each))}
    return Clusters(key, np.array([place[name] for name in each]), len(place), unnamed)
