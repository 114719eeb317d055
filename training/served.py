"""A fitted head as its bundle will serve it: beyond what the learners were trained on, the table alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.support import MARGIN
from training.publish import support_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.examples import Examples
    from training.fit import SuccessHead, TokensHead


class Served(NamedTuple):
    """Success as served. Amounts beside output tokens are fitted later; what they split on isn't in here."""

    head: SuccessHead
    at: np.ndarray  # (s,) columns of the features that learners use
    low: np.ndarray  # (s,) with the margin
    high: np.ndarray
    unknown: np.ndarray  # (s,) whether it was ever unknown
    types_known: bool

    def predict(self, features: np.ndarray, candidate: Iterable[str], task_type: Iterable[str]) -> np.ndarray:
        """P(success) (n,) of each row."""
        names, kinds = list(candidate), list(task_type)
        p = self.head.predict(features, names, kinds)
        outside = self.outside(features, kinds)
        p[outside] = self.head.by_table(features, names, kinds)[outside]
        return p

    def outside(self, features: np.ndarray, kinds: list[str]) -> np.ndarray:
        """Rows (n,) that lie outside, by `Bundle.outside`'s rule."""
        values = features[:, self.at].astype(np.float64)
        with np.errstate(invalid="ignore"):
            bad = (values < self.low) | (values > self.high) | (np.isnan(values) & ~self.unknown)
        strange = np.array([kind not in self.head.task_types for kind in kinds], dtype=bool)
        rows: np.ndarray = bad.any(axis=1) | (strange & self.types_known)
        return rows


def served(success: SuccessHead, tokens: TokensHead | None, examples: Examples) -> Served:
    """Success as a bundle of these heads, fitted on these examples, serves it."""
    learned = [success.learned, *([] if tokens is None else [tokens.learned])]
    found = support_of(examples.features, learned)
    ranges = np.array([(r.low, r.high) for r in found.values()]).reshape(len(found), 2)
    margin = MARGIN * (ranges[:, 1] - ranges[:, 0])
    return Served(
        success,
        np.array(list(found), dtype=np.int64),
        ranges[:, 0] - margin,
        ranges[:, 1] + margin,
        np.array([r.unknown for r in found.values()], dtype=bool),
        any(each.types_known for each in learned),
    )
