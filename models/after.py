"""What is believed of an answer in hand: P(the reference's diff), P(success), P(the reference succeeds).

A head is a candidate's mean, a linear part and small trees on what the answer's own edit and its run show,
then calibrated: training/after/heads.py as plain numbers, in one JSON file of the bundle. Numpy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.answerfacts import AFTER_NAMES, after_hash, after_vector, totals_of
from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from features.answerfacts import AnswerFacts
    from features.facts import Facts

AFTER = "after.json"
LIMIT = 5.0  # spreads, beyond which a value says no more


class Trees(msgspec.Struct, frozen=True):
    """An ensemble as one list of nodes; a leaf leads to itself."""

    roots: tuple[int, ...]
    feature: tuple[int, ...]
    threshold: tuple[float, ...]  # left is where a value is at most this
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]  # log-odds of a leaf
    depth: int  # of the deepest tree


class HeadCard(msgspec.Struct, frozen=True, kw_only=True):
    """One head: log-odds = a · (candidate's mean + linear part + trees) + b."""

    names: tuple[str, ...]  # features that it reads
    means: dict[str, float]  # log-odds of each candidate; "" of any other
    centre: dict[str, tuple[float, ...]]  # mean of each feature by harness; "" of any other
    spread: dict[str, tuple[float, ...]]
    weights: tuple[float, ...] = ()  # of the scaled features; none where the linear part is silent
    offset: float = 0.0
    trees: Trees | None = None
    tree_weight: float = 0.0
    calibration: tuple[float, float]
    rows: int
    groups: int
    base_rate: float
    metrics: dict[str, float] = {}  # out of fold, groups kept whole


class AfterCard(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about the heads after the answer; questions are "same", "success" and "reference"."""

    schema: str  # of the features
    alone: dict[str, HeadCard]  # for an answer without others
    beside: dict[str, HeadCard] = {}  # for one that others can be held against
    max_abs_dp: float  # largest difference between these numbers and the fitted heads, on adversarial rows


class JudgedAnswer(NamedTuple):
    """Probabilities; None where the bundle has no head for the question."""

    p_same: float | None
    p_success: float | None
    p_reference: float | None


class ServedHead:
    """A head's numbers as arrays."""

    def __init__(self, card: HeadCard) -> None:
        self.card = card
        self._at = [AFTER_NAMES.index(name) for name in card.names]
        self._scale = {name: (np.array(m), np.array(card.spread[name])) for name, m in card.centre.items()}
        self._weights = np.array(card.weights)
        self._trees = None if card.trees is None else _Forest(card.trees)

    def predict(self, features: np.ndarray, candidate: Sequence[str], harness: Sequence[str]) -> np.ndarray:
        """P (n,) from features (n, len(AFTER_NAMES)) float32, the candidates and the harnesses, n each."""
        card = self.card
        total = np.array([card.means.get(name, card.means[""]) for name in candidate])
        x = self._scaled(features[:, self._at], harness)
        if len(self._weights):
            total = total + x @ self._weights + card.offset
        if self._trees is not None:
            total = total + card.tree_weight * self._trees.values(x)
        a, b = card.calibration
        result: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * (a * total + b)))
        return result

    def _scaled(self, features: np.ndarray, harness: Sequence[str]) -> np.ndarray:
        """Standardised features (n, d) float64, unknown as the mean."""
        scales = [self._scale.get(name, self._scale[""]) for name in harness]
        centre, spread = (np.stack(part) for part in zip(*scales, strict=True))
        found: np.ndarray = np.clip(np.nan_to_num((features - centre) / spread, nan=0.0), -LIMIT, LIMIT)
        return found


class _Forest:
    """Trees walked side by side, one level at a time."""

    def __init__(self, trees: Trees) -> None:
        self._roots, self._feature = np.array(trees.roots), np.array(trees.feature)
        self._threshold, self._value = np.array(trees.threshold), np.array(trees.value)
        self._left, self._right = np.array(trees.left), np.array(trees.right)
        self._depth = trees.depth

    def values(self, x: np.ndarray) -> np.ndarray:
        """Sum (n,) of the leaves that x (n, d) float64 falls into."""
        at = np.tile(self._roots, (len(x), 1))
        rows = np.arange(len(x))[:, None]
        for _ in range(self._depth):
            goes_left = x[rows, self._feature[at]] <= self._threshold[at]
            at = np.where(goes_left, self._left[at], self._right[at])
        total: np.ndarray = self._value[at].sum(axis=1)
        return total


class AfterModel:
    """The heads after the answer of one bundle."""

    def __init__(self, card: AfterCard) -> None:
        self.card = card
        self.alone = {question: ServedHead(head) for question, head in card.alone.items()}
        self.beside = {question: ServedHead(head) for question, head in card.beside.items()}

    def judge_answer(
        self, candidate: str, answer: AnswerFacts, request: Facts | None = None, *, harness: str | None = None
    ) -> JudgedAnswer:
        """What is believed of a candidate's answer to a request; `answer` also tells who agrees, if anyone.

        Facts of an answer come from `features.editfacts.facts_of_answer`, with others' answers where they are
        in hand. `request` tells the run so far.
        """
        features = after_vector([answer], [None if request is None else totals_of(request)])
        beside = self.beside if answer.others else {}

        def p(question: str) -> float | None:
            head = beside.get(question) or self.alone.get(question)
            return None if head is None else float(head.predict(features, [candidate], [harness or ""])[0])

        return JudgedAnswer(p("same"), p("success"), p("reference"))


def load_after(file: Path) -> AfterModel:
    """Read the heads of a bundle whose digests are verified; BadInput where they are not this samediff's."""
    again = "retrain with `samediff train`"
    try:
        card = msgspec.json.decode(file.read_bytes(), type=AfterCard)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: no heads after the answer ({error}); {again}") from error
    if card.schema != after_hash():
        raise BadInput(
            f"{file}: made for the answer features {card.schema}, this samediff computes {after_hash()}; "
            f"{again}"
        )
    for question, head in (*card.alone.items(), *card.beside.items()):
        if not _sound(head):
            raise BadInput(f"{file}: the head of {question!r} contradicts itself; {again}")
    return AfterModel(card)


def _sound(head: HeadCard) -> bool:
    """Whether every place in the numbers exists."""
    d = len(head.names)
    if not set(head.names) <= set(AFTER_NAMES) or "" not in head.means or "" not in head.centre:
        return False
    if head.centre.keys() != head.spread.keys() or len(head.weights) not in (0, d):
        return False
    scales = [*head.centre.values(), *head.spread.values()]
    if any(len(part) != d for part in scales) or any(v <= 0 for part in head.spread.values() for v in part):
        return False
    if head.trees is None:
        return True
    trees, n = head.trees, len(head.trees.value)
    lists = (trees.feature, trees.threshold, trees.left, trees.right)
    places = (*trees.roots, *trees.left, *trees.right)
    return (
        all(len(part) == n for part in lists)
        and all(0 <= place < n for place in places)
        and all(0 <= column < d for column in trees.feature)
    )
