"""The task type of a request that names none: a linear classifier over the request features, and its mixture.

A posterior is drawn to the base rates by how far it could be trusted on requests it had not seen; at the base
rates a table says of a candidate what it says of it overall. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from features.errors import BadInput
from models.linear import standardised

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WEIGHTS, SCALING, BOUNDS = "types/weights.npy", "types/scaling.npy", "types/bounds.npy"
ODD = 2  # features outside of their bounds that make a request one of another kind


class TypeCard(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest says of the classifier; its arrays lie in files of their own.

    `by`: whether it learned types that clients told or, where none was ever told, the kind of the call.
    """

    names: tuple[str, ...]
    features: tuple[str, ...]
    base: tuple[float, ...]  # share of each type in training
    reliability: float  # weight of the classifier beside the base rates, 0 to 1, found out of fold
    watched: tuple[str, ...]  # features whose bounds in training a request must keep
    by: str = "told"
    metrics: dict[str, float] = {}


@dataclass(frozen=True, eq=False)
class TaskTypes:
    """A fitted classifier over m of the request features and T types; temperature is inside the weights."""

    card: TypeCard
    columns: np.ndarray  # (m,) int64 into the request features
    mean: np.ndarray  # (m,) float32 of training
    scale: np.ndarray  # (m,) float32, 1 / standard deviation
    known: np.ndarray  # (m,) float32, 1 where no training request lacked the feature
    weights: np.ndarray  # (m + 1, T) float32, the constant last
    watched: np.ndarray  # (k,) int64 into the request features: with weights, or never varied in training
    bounds: np.ndarray  # (2, k) float32, lowest and highest value that is still like training

    @property
    def names(self) -> tuple[str, ...]:
        """The types, in the order of a posterior's columns."""
        return self.card.names

    @cached_property
    def base(self) -> np.ndarray:
        """Base rates (T,) float64."""
        return np.array(self.card.base, dtype=np.float64)

    @cached_property
    def _weights(self) -> np.ndarray:
        return self.weights[:-1].astype(np.float64)

    @cached_property
    def _always(self) -> np.ndarray:
        """Columns of the request features that all of training had."""
        return self.columns[self.known > 0]

    def posterior(self, features: np.ndarray) -> np.ndarray:
        """P(type) (n, T) of request features (n, d) float32; the base rates outside of its training."""
        z = standardised(features, self.columns, self.mean, self.scale)
        line = z @ self._weights + self.weights[-1]
        trust = np.where(self._outside(features), 0.0, self.card.reliability)[:, None]
        result: np.ndarray = trust * softmax(line) + (1.0 - trust) * self.base
        return result

    def _outside(self, features: np.ndarray) -> np.ndarray:
        """Whether (n,) a request lacks what all had in training, or some features are unlike any there.

        What never varied in training counts too: a classifier of calls without tools knows nothing of others.
        """
        # The methods `any`, `sum` and `max` of an array are Python around these.
        lacks = np.logical_or.reduce(np.isnan(features.take(self._always, axis=1)), axis=1)
        values = features.take(self.watched, axis=1)
        odd = np.add.reduce((values < self.bounds[0]) | (values > self.bounds[1]), axis=1, dtype=np.intp)
        outside: np.ndarray = lacks | (odd >= min(ODD, max(1, len(self.watched))))
        return outside

    def files(self) -> dict[str, bytes]:
        """Arrays as the files of a bundle, relative path -> bytes of a .npy."""
        scaling = np.stack([self.mean, self.scale, self.known])
        return {WEIGHTS: _npy(self.weights), SCALING: _npy(scaling), BOUNDS: _npy(self.bounds)}


def load_types(card: TypeCard, arrays: Mapping[str, np.ndarray], index: Mapping[str, int]) -> TaskTypes:
    """Put a classifier together again; `index` is the place of each request feature by name.

    Raises BadInput when the arrays aren't the card's.
    """
    weights, scaling, bounds = arrays[WEIGHTS], arrays[SCALING], arrays[BOUNDS]
    m, t = len(card.features), len(card.names)
    shapes = weights.shape, scaling.shape, bounds.shape
    if shapes != ((m + 1, t), (3, m), (2, len(card.watched))) or len(card.base) != t:
        raise BadInput(f"{WEIGHTS}: not the classifier that the manifest describes")
    if not all(name in index for name in (*card.features, *card.watched)):
        raise BadInput(f"{WEIGHTS}: reads a feature that this bundle doesn't have")
    columns = np.array([index[name] for name in card.features], dtype=np.int64)
    watched = np.array([index[name] for name in card.watched], dtype=np.int64)
    return TaskTypes(card, columns, scaling[0], scaling[1], scaling[2], weights, watched, bounds)


def softmax(line: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    e = np.exp(line - np.maximum.reduce(line, axis=-1, keepdims=True))
    result: np.ndarray = e / np.add.reduce(e, axis=-1, keepdims=True)
    return result


class Mixture(NamedTuple):
    """Table values on the link scale of k candidates, to be mixed over T types; see `mixture`."""

    overall: np.ndarray  # (k,); (h, k) of as many tables, and the others likewise
    shown: np.ndarray  # (k, T) probabilities or amounts
    at_base: np.ndarray  # (k,) on the link scale
    link: Callable[[np.ndarray], np.ndarray]

    def at(self, posterior: np.ndarray) -> np.ndarray:
        """Values (k,) on the link scale for a type known by its posterior (T,) or (k, T)."""
        result: np.ndarray = (
            self.overall + self.link(np.add.reduce(self.shown * posterior, axis=-1)) - self.at_base
        )
        return result


def mixture(overall: np.ndarray, cells: np.ndarray, base: np.ndarray, *, logit: bool) -> Mixture:
    """What mixes each candidate's value for no particular type (k,) with those for each, `cells` (k, T).

    The mean is taken of probabilities or amounts, and only its distance from the mean over the base rates
    (T,) is added, so that the base rates say `overall` itself.
    """
    if logit:
        shown = 0.5 * (1.0 + np.tanh(0.5 * cells))
        return Mixture(overall, shown, _logit(shown @ base), _logit)
    shown = np.expm1(np.maximum(cells, 0.0))
    return Mixture(overall, shown, np.log1p(shown @ base), np.log1p)


def stacked(mixtures: Sequence[Mixture]) -> Mixture:
    """The mixture of the success table and that of each amount, in this order, as one."""
    overall, shown, at_base, _ = zip(*mixtures, strict=True)
    return Mixture(np.stack(overall), np.stack(shown), np.stack(at_base), _links)


def mixed(
    overall: np.ndarray, cells: np.ndarray, posterior: np.ndarray, base: np.ndarray, *, logit: bool
) -> np.ndarray:
    """Table values (k,) on the link scale for a type known by its posterior (T,) or (k, T), at once."""
    return mixture(overall, cells, base, logit=logit).at(posterior)


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.minimum(np.maximum(p, 1e-9), 1.0 - 1e-9)
    result: np.ndarray = np.log(p) - np.log1p(-p)
    return result


def _links(mean: np.ndarray) -> np.ndarray:
    """Mean probabilities and amounts (..., h, k) on the link scale, success first."""
    linked: np.ndarray = np.log1p(mean)
    linked[..., 0, :] = _logit(mean[..., 0, :])
    return linked


def _npy(array: np.ndarray) -> bytes:
    import io

    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
    return out.getvalue()
