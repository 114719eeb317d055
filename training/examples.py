"""What the heads are fitted on: aligned rows, the knobs, and folds that never split a group."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import msgspec
import numpy as np

from models.descriptors import Descriptor, Prices, describe
from models.tasktype import TaskTypes  # noqa: TC001 — a NamedTuple's annotation, read at run time


class Examples(NamedTuple):
    """Aligned rows, one per (request, candidate) with what came of it."""

    features: np.ndarray  # (n, d) float32, NaN unknown
    candidate: np.ndarray  # (n,) str
    task_type: np.ndarray  # (n,) str, "" unknown
    success: np.ndarray  # (n,) float64 in 0..1, NaN unlabelled
    output_tokens: np.ndarray  # (n,) float64, NaN unknown
    group: np.ndarray  # (n,) str; rows of a group are never on both sides of a split
    prices: dict[str, Prices] = {}  # noqa: RUF012 — a NamedTuple default, never mutated
    descriptors: dict[str, Descriptor] = {}  # noqa: RUF012 — of candidates whose name and price don't tell all
    reasoning_tokens: np.ndarray | None = None  # (n,) float64, NaN unknown; the three below alike
    calls_left: np.ndarray | None = None  # of the session and its sub-agents, after this call
    turns_left: np.ndarray | None = None  # of the session itself
    types_by: str = "told"  # or "kind": no request told a type, so its kind of call stands in
    types: TaskTypes | None = None  # tells the type of a request that tells none
    posterior: np.ndarray | None = None  # (n, T) from folds without the row's group; NaN where a type is told
    task: np.ndarray | None = None  # (n,) str, by which several candidates' rows are of one task; "" unknown

    def some(self, which: np.ndarray) -> Examples:
        """Some of the rows, by mask or index."""
        arrays = {name: v[which] for name, v in self._asdict().items() if isinstance(v, np.ndarray)}
        return self._replace(**arrays)

    @property
    def shown_types(self) -> np.ndarray:
        """Types (n,) as learners see them: what a request tells, "" where its type is inferred."""
        if self.posterior is None:
            return self.task_type
        return np.where(np.isnan(self.posterior[:, 0]), self.task_type, "")


class Knobs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be turned; what lists several values is chosen out of fold."""

    strengths: tuple[float, ...] = (2.0, 8.0, 32.0, 128.0, 512.0)  # rows the table's prior counts for
    trees: tuple[int, ...] = (40, 80, 160, 240)  # ascending; empty: the table alone
    learning_rate: float = 0.05
    leaves: int = 15
    min_data_in_leaf: int = 40
    feature_fraction: float = 0.5
    lambda_l2: float = 1.0
    max_bin: int = 63
    min_rows_for_trees: int = 200  # and for the linear part
    targets: tuple[str, ...] = ("advantage", "residual")  # of the trees; many rows try the first only
    ridges: tuple[float, ...] = (10.0, 100.0, 1000.0)  # rows of information; empty: no linear part
    own_ridges: tuple[float, ...] = (3.0, 30.0)  # of a candidate's own weights, times that
    own_directions: int = 32  # principal directions of the features that own weights live on
    min_rows_own: int = 100  # of a candidate with weights of its own
    blend_weights: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)  # beside 0, the default
    many_rows: int = 30_000  # beyond, learners are folded in two halves
    min_gain_se: float = 1.0  # the blend must beat the table by this many standard errors over groups
    min_r2_tokens: float = 0.2  # below, output tokens are the candidate's mean
    folds: int = 5
    seed: int = 0
    certified: bool = False  # serve what is certified: no fit on all groups after it
    num_threads: int = 1  # a second one on a busy machine made training eight times slower, not faster


DEFAULT_KNOBS = Knobs()


class Coded(NamedTuple):
    """Rows with a target, as numbers; the last type code means unknown."""

    candidate: np.ndarray  # codes (n,)
    task_type: np.ndarray  # codes (n,)
    fold: np.ndarray  # (n,)
    target: np.ndarray  # (n,)
    n_candidates: int
    n_types: int  # without the unknown one
    descriptors: tuple[Descriptor, ...]  # of each candidate
    posterior: np.ndarray | None = None  # (n, T), NaN where the type is told
    base: np.ndarray | None = None  # (T,) base rates of the types
    shift: np.ndarray | None = None  # (n,) taken off the target in the table's sums
    weight: np.ndarray | None = None  # (n,) rows that a row counts for there


def names_of(column: np.ndarray) -> tuple[str, ...]:
    """Distinct values of a column as sorted text; a candidate's index is its place here."""
    return tuple(sorted({str(v) for v in column}))


def code_rows(
    examples: Examples,
    target: np.ndarray,
    known: np.ndarray,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    knobs: Knobs,
) -> Coded:
    """Rows `known` of the examples as codes into `names` (candidates, task types), with their folds."""
    candidate_code = {c: i for i, c in enumerate(names[0])}
    type_code = {t: i for i, t in enumerate(names[1])}
    return Coded(
        candidate=np.array([candidate_code[str(c)] for c in examples.candidate[known]]),
        task_type=np.array([type_code.get(str(t), len(names[1])) for t in examples.task_type[known]]),
        fold=assign_folds(examples.group[known], knobs.folds, knobs.seed),
        target=target[known],
        n_candidates=len(names[0]),
        n_types=len(names[1]),
        descriptors=tuple(
            examples.descriptors.get(c) or describe(c, examples.prices.get(c, (None, None))) for c in names[0]
        ),
        posterior=None if examples.posterior is None else examples.posterior[known],
        base=None if examples.types is None else examples.types.base,
    )


def assign_folds(group: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold (n,) of each row: whole groups, the largest first, each into the emptiest fold; ties by seed."""
    names, where, sizes = np.unique(group, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    heap = [(0, f) for f in range(max(1, min(folds, len(names))))]
    of_group = np.empty(len(names), dtype=np.int64)
    for g in order:
        filled, fold = heapq.heappop(heap)
        of_group[g] = fold
        heapq.heappush(heap, (filled + int(sizes[g]), fold))
    fold_of_row: np.ndarray = of_group[where]
    return fold_of_row
