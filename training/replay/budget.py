"""--budget: a limit on what is spent, re-applied in the order of the log; calls beyond it are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput

if TYPE_CHECKING:
    from training.replay.book import Book

_DAY_MS = 86_400_000
_WHOSE = ("user", "session", "repo")
_SPANS = ("day", "month")


class Budget(NamedTuple):
    """USD for each window of calls; `window` (n,) are codes, `order` (n,) the calls by window, then time."""

    usd: float
    window: np.ndarray
    order: np.ndarray

    def refused(self, usd: np.ndarray) -> np.ndarray:
        """Which calls (n,) of this cost (n,) come when the budget is spent, or would pass it."""
        paid = np.nan_to_num(usd)[self.order]
        window = self.window[self.order]
        spent = np.cumsum(paid)
        first = np.flatnonzero(np.append(True, window[1:] != window[:-1]))
        before = (spent - paid)[first]
        spent -= np.repeat(before, np.diff(np.append(first, len(window))))
        over = np.zeros(len(usd), dtype=bool)
        over[self.order] = spent > self.usd
        return over


def budget_of(said: str | None, book: Book) -> Budget | None:
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
    codes = np.zeros(book.n, dtype=np.int64)
    for word in per:
        part = _codes(word, book)
        codes = np.unique(np.stack([codes, part]), axis=1, return_inverse=True)[1].ravel()
    return Budget(usd, codes, np.lexsort((book.ts_ms, codes)))


def _codes(word: str, book: Book) -> np.ndarray:
    """Which window (n,) each call falls into."""
    if word == "session":
        return book.session
    if word == "day":
        days: np.ndarray = book.ts_ms // _DAY_MS
        return days
    if word == "month":
        months: np.ndarray = book.ts_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
        return months
    names = book.frame[word].fill_null("").to_numpy()
    return np.unique(names, return_inverse=True)[1]
