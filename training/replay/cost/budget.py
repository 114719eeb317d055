"""--budget: a limit on what is spent, re-applied in the order of the log; calls beyond it are refused.

That order goes across sessions, so a budget needs the time and cost of all calls at once, 32 bytes a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.replay.logged.calls import Calls

_DAY_MS = 86_400_000
_WHOSE = ("user", "session", "repo")
_SPANS = ("day", "month")


class Budget(NamedTuple):
    """USD for each window of calls; `window` (n,) are codes, `order` (n,) the calls by window, then time."""

    usd: float
    window: np.ndarray
    order: np.ndarray

    def refused(self, usd: np.ndarray) -> np.ndarray:
        """Which calls (n,) of this cost (n,) come when the budget is spent, or would pass it.

        A window is closed by the first that doesn't fit, even to a smaller one: after a refusal its session's
        cache isn't what these costs go by, so that what else fits can't be told from them.
        """
        paid = np.nan_to_num(usd)[self.order]
        window = self.window[self.order]
        spent = np.cumsum(paid)
        first = np.flatnonzero(np.append(True, window[1:] != window[:-1]))
        before = (spent - paid)[first]
        spent -= np.repeat(before, np.diff(np.append(first, len(window))))
        over = np.zeros(len(usd), dtype=bool)
        over[self.order] = spent > self.usd
        return over


def parse_budget(said: str | None) -> tuple[float, list[str]] | None:
    """Read USD, USD/day, USD/month, USD/user, USD/user/day …; BadInput for anything else."""
    if said is None:
        return None
    amount, *per = [word.strip() for word in said.split("/")]
    try:
        usd = float(amount.removeprefix("$"))
    except ValueError:
        usd = -1.0
    unknown = [word for word in per if word not in (*_WHOSE, *_SPANS)]
    if not 0 < usd < float("inf") or unknown or len(set(per)) < len(per):
        raise BadInput(f"--budget {said}: say USD such as 50, 50/day, 900/month, 5/user/day or 2/session")
    return usd, per


def budget_of(said: str | None, parts: Iterable[Calls]) -> Budget | None:
    """The budget over the calls of a log's parts; BadInput as `parse_budget`."""
    found = parse_budget(said)
    if found is None:
        return None
    usd, per = found
    windows: dict[tuple[object, ...], int] = {}
    codes, times = [], []
    for calls in parts:
        rows = pl.DataFrame([pl.Series("all", np.zeros(calls.n)), *(_of(word, calls) for word in per)])
        kinds = rows.unique(maintain_order=True)
        names = [windows.setdefault(kind, len(windows)) for kind in kinds.iter_rows()]
        named = kinds.with_columns(code=pl.Series(names, dtype=pl.Int64))
        codes.append(rows.join(named, on=rows.columns, maintain_order="left")["code"].to_numpy())
        times.append(calls.ts_ms)
    code = np.concatenate(codes)
    return Budget(usd, code, np.lexsort((np.concatenate(times), code)))


def _of(word: str, calls: Calls) -> pl.Series:
    """Which window (n,) each call falls into."""
    if word == "session":
        return pl.Series(word, calls.before + calls.session)
    if word == "day":
        return pl.Series(word, calls.ts_ms // _DAY_MS)
    if word == "month":
        return pl.Series(word, calls.ts_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64))
    return calls.frame[word].fill_null("").alias(word)
