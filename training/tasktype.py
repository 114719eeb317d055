"""Fitting the classifier of task types: ridge-logistic over structure, call kind and the text's vector.

Trained on requests whose type is told, each once however many candidates answered it; strength, weight of the
text's vector, temperature and trust are found on groups the weights had not seen.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from features.vector import feature_names
from models.linear import standardised
from models.tasktype import TaskTypes, TypeCard, softmax
from training.examples import Examples, assign_folds
from training.trees import tasks_of

RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # in rows at unit variance
EMBEDDED = (0.0, 0.3, 1.0)  # weights of the text's vector beside the structure
FOLDS = 5
MIN_COLUMNS = 8  # a log that tells only sizes would tell types by prompt length, which is another log's noise
MAX_ROWS = 20_000  # requests that the weights are fitted on
_CHOOSING_ROWS = 2_500  # requests that ridge and weight are chosen on
_CHOOSING_FOLDS = 3
_STEPS, _CHOOSING_STEPS = 60, 25  # of L-BFGS
_MIN_KNOWN = 0.02  # share of requests that must know a feature
_ROOM = 0.1  # of a feature's range in training, on either side
_TEMPERATURES = np.exp(np.linspace(np.log(0.5), np.log(4.0), 25))
_TRUSTS = np.linspace(0.0, 1.0, 41)


class Scored(NamedTuple):
    """How well types are told out of fold; losses in nats per request."""

    log_loss: float
    log_loss_of_base: float
    accuracy: float
    accuracy_of_base: float
    requests: int


class Requests(NamedTuple):
    """Distinct requests of told type."""

    features: np.ndarray  # (n, d) float32
    type_: np.ndarray  # (n,) index into the names
    group: np.ndarray  # (n,)
    fold: np.ndarray  # (n,)


class _Setting(NamedTuple):
    ridge: float
    embedded: float


class TypeFit(NamedTuple):
    """The classifier, and its posterior (n, T) of every example from folds without the example's group."""

    types: TaskTypes
    oof: np.ndarray
    scored: Scored


def with_types(
    examples: Examples, *, hide: bool = False, names: tuple[str, ...] = (), seed: int = 0
) -> Examples:
    """The examples with a classifier of their types, and the posteriors of those that tell none.

    With `hide` every example is treated as if it told none: its type fills the table and teaches the
    classifier, but learners see only what a request without a tag shows; so it is with kinds of calls, which
    no client tells. `names` are those of the features where they aren't the whole list. Unchanged where there
    are fewer than two types, or none can be held out.
    """
    fitted = fit_types(examples, names=names, seed=seed)
    if fitted is None:
        return examples
    hide = hide or examples.types_by == "kind"
    told = np.zeros(len(examples.group), bool) if hide else examples.task_type != ""
    posterior = np.where(told[:, None], np.nan, fitted.oof)
    return examples._replace(types=fitted.types, posterior=posterior)


def fit_types(examples: Examples, *, names: tuple[str, ...] = (), seed: int = 0) -> TypeFit | None:
    """Fit on the examples whose type is told; None with fewer than two types, two groups or MIN_COLUMNS."""
    kinds = tuple(sorted({str(t) for t in examples.task_type} - {""}))
    told = examples.task_type != ""
    if len(kinds) < 2 or len(np.unique(examples.group[told])) < 2:
        return None
    fold = assign_folds(examples.group, FOLDS, seed)
    if fold[told].min() == fold[told].max():
        return None
    first = _distinct(examples, np.flatnonzero(told), seed)
    if len(scaling(examples.features[first])[0]) < MIN_COLUMNS:
        return None
    index = {name: i for i, name in enumerate(kinds)}
    requests = Requests(
        examples.features[first],
        np.array([index[str(t)] for t in examples.task_type[first]]),
        examples.group[first],
        fold[first],
    )
    # Threads of a small matrix product wait longer than they work.
    with threadpool_limits(limits=1, user_api="blas"):
        card = TypeCard(names=kinds, features=names or _names(examples), base=(), reliability=0, watched=())
        return _fitted(requests, msgspec.structs.replace(card, by=examples.types_by), examples.features, fold)


def _distinct(examples: Examples, rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows of distinct requests among `rows`, at most MAX_ROWS of them drawn at random."""
    _, first = np.unique(tasks_of(examples.features[rows], examples.group[rows]), return_index=True)
    if len(first) > MAX_ROWS:
        first = np.sort(np.random.default_rng(seed).choice(first, MAX_ROWS, replace=False))
    return rows[first]


def _names(examples: Examples) -> tuple[str, ...]:
    """Names of the features (d); a matrix of another width than the feature list's has plain numbers."""
    width = examples.features.shape[1]
    names = feature_names(max(0, width - len(feature_names(0))))
    return names if len(names) == width else tuple(f"column_{i}" for i in range(width))


def _fitted(requests: Requests, draft: TypeCard, features: np.ndarray, fold: np.ndarray) -> TypeFit:
    """Choose, fit out of fold and on everything; the draft names types and features (d).

    `features` (n, d) and `fold` (n,) are those of all examples.
    """
    n_types = len(draft.names)
    embedded = np.array([name.startswith("emb_") for name in draft.features])
    setting = _choose(requests, n_types, embedded)
    line = np.zeros((len(requests.type_), n_types))
    parts = []
    for f in range(int(fold.max()) + 1):
        inside = requests.fold != f
        part = _fit(_Rows(requests, inside, n_types, embedded), setting, _STEPS)
        line[~inside] = _line(part, requests.features[~inside])
        parts.append(part)
    base = np.bincount(requests.type_, minlength=n_types) / len(requests.type_)
    temperature, trust = _calibrated(line, requests, base)
    whole = _fit(_Rows(requests, np.ones(len(requests.type_), bool), n_types, embedded), setting, _STEPS)
    scored = _scored(line / temperature, requests.type_, base, trust)
    numbers = {"ridge": setting.ridge, "embedded": setting.embedded, "temperature": temperature}
    card = msgspec.structs.replace(
        draft,
        base=tuple(map(float, base)),
        reliability=trust,
        metrics={name: float(value) for name, value in (scored._asdict() | numbers).items()},
    )
    oof = np.empty((len(fold), n_types))
    for f, part in enumerate(parts):
        mine = fold == f
        blind = _served(part, card, requests.features[requests.fold != f], temperature)
        oof[mine] = blind.posterior(features[mine])
    return TypeFit(_served(whole, card, requests.features, temperature), oof, scored)


class _Part(NamedTuple):
    """Fitted weights on standardised columns, without a temperature."""

    columns: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray


class _Rows:
    """Requests `inside` standardised by themselves, the text's vector apart, so that its weight can vary."""

    def __init__(self, requests: Requests, inside: np.ndarray, n_types: int, embedded: np.ndarray) -> None:
        features = requests.features[inside]
        self.columns, self.mean, self.scale = scaling(features)
        self.z = standardised(features, self.columns, self.mean, self.scale)
        self.target = np.eye(n_types)[requests.type_[inside]]
        self.embedded = embedded[self.columns]

    def factor(self, weight: float) -> np.ndarray:
        """What each column (m,) is multiplied by before the ridge sees it."""
        return np.where(self.embedded, weight, 1.0)


def scaling(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns that vary and are known often enough, their mean and 1 / deviation over known values."""
    values = features.astype(np.float64)
    known = np.isfinite(values) & (np.abs(values) < 1e29)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / count)
    useful = (spread > 1e-6 * np.maximum(np.abs(mean), 1e-3)) & (known.mean(axis=0) >= _MIN_KNOWN)
    columns = np.flatnonzero(useful)
    # As they are served: float32, so that training and serving stand on the same numbers.
    return columns, mean[columns].astype(np.float32), (1.0 / spread[columns]).astype(np.float32)


def _fit(rows: _Rows, setting: _Setting, steps: int, start: np.ndarray | None = None) -> _Part:
    """Ridge-logistic weights (m + 1, T) by L-BFGS, the constant unpenalised but for one row of prior."""
    factor = rows.factor(setting.embedded)
    used = factor > 0
    x = rows.z[:, used] * factor[used]
    n_types = rows.target.shape[1]
    shape = (x.shape[1] + 1, n_types)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(shape)
        line = x @ w[:-1] + w[-1]
        line -= line.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(line).sum(axis=1))
        p = np.exp(line - log_sum[:, None])
        value = float((log_sum - (rows.target * line).sum(axis=1)).sum())
        penalty = 0.5 * setting.ridge * float((w[:-1] ** 2).sum()) + 0.5 * float((w[-1] ** 2).sum())
        off = p - rows.target
        gradient = np.concatenate([x.T @ off + setting.ridge * w[:-1], off.sum(axis=0)[None] + w[-1:]])
        return value + penalty, gradient.ravel()

    start = np.zeros(shape) if start is None else start
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps})
    w = found.x.reshape(shape)
    weights = np.concatenate([w[:-1] * factor[used][:, None], w[-1:]])
    return _Part(rows.columns[used], rows.mean[used], rows.scale[used], weights)


def _line(part: _Part, features: np.ndarray) -> np.ndarray:
    z = standardised(features, part.columns, part.mean, part.scale)
    line: np.ndarray = z @ part.weights[:-1] + part.weights[-1]
    return line


def _choose(requests: Requests, n_types: int, embedded: np.ndarray) -> _Setting:
    """Ridge and weight of the text's vector of least out-of-fold loss, on a part of the requests."""
    groups = np.unique(requests.group)
    keep = np.ones(len(requests.type_), bool)
    if len(keep) > _CHOOSING_ROWS:
        share = _CHOOSING_ROWS / len(keep)
        drawn = groups[np.random.default_rng(0).random(len(groups)) < share]
        keep = np.isin(requests.group, drawn) if len(drawn) >= _CHOOSING_FOLDS else keep
    few = Requests(*(each[keep] for each in requests))
    few = few._replace(fold=assign_folds(few.group, _CHOOSING_FOLDS, 1))
    parts = [few.fold != f for f in range(int(few.fold.max()) + 1)]
    folds = [(_Rows(few, inside, n_types, embedded), ~inside) for inside in parts]

    def loss(setting: _Setting) -> float:
        total = 0.0
        for rows, held in folds:
            p = softmax(_line(_fit(rows, setting, _CHOOSING_STEPS), few.features[held]))
            total -= float(np.log(np.maximum(p[np.arange(len(p)), few.type_[held]], 1e-12)).sum())
        return total

    tried: dict[_Setting, float] = {}
    for weight in EMBEDDED if embedded.any() else EMBEDDED[:1]:
        best = np.inf
        for ridge in RIDGES:  # from weak to strong, until it gets worse
            setting = _Setting(ridge, weight)
            tried[setting] = loss(setting)
            if tried[setting] > best:
                break
            best = tried[setting]
    return min(tried, key=lambda setting: tried[setting])


def _calibrated(line: np.ndarray, requests: Requests, base: np.ndarray) -> tuple[float, float]:
    """Temperature and trust of least out-of-fold loss, the base rates having the rest of the trust."""
    at = np.arange(len(line)), requests.type_
    best = min(_TEMPERATURES, key=lambda t: -float(np.log(np.maximum(softmax(line / t)[at], 1e-12)).sum()))
    p, rest = softmax(line / best)[at], base[requests.type_]
    trust = min(_TRUSTS, key=lambda r: -float(np.log(np.maximum(r * p + (1 - r) * rest, 1e-12)).sum()))
    return float(best), float(trust)


def _scored(line: np.ndarray, target: np.ndarray, base: np.ndarray, trust: float) -> Scored:
    p = trust * softmax(line) + (1 - trust) * base
    at = np.arange(len(p)), target
    return Scored(
        log_loss=float(-np.log(np.maximum(p[at], 1e-12)).mean()),
        log_loss_of_base=float(-np.log(base[target]).mean()),
        accuracy=float((p.argmax(axis=1) == target).mean()),
        accuracy_of_base=float(base.max()),
        requests=len(p),
    )


def _served(part: _Part, card: TypeCard, features: np.ndarray, temperature: float) -> TaskTypes:
    """A part in the form that is served; `features` are those that it was fitted on."""
    known = np.isfinite(features[:, part.columns]).all(axis=0).astype(np.float32)
    weights = (part.weights / temperature).astype(np.float32)
    watched, bounds = _bounds(features, part.columns)
    names = {"features": part.columns, "watched": watched}
    said = {key: tuple(card.features[c] for c in columns) for key, columns in names.items()}
    card = msgspec.structs.replace(card, **said)
    return TaskTypes(card, part.columns, part.mean, part.scale, known, weights, watched, bounds)


def _bounds(features: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is watched (k,), features with weights and those that never varied, and their bounds (2, k)."""
    known = np.where(np.isfinite(features), features, np.nan)
    all_known = np.flatnonzero(np.isfinite(known).all(axis=0)) if len(features) else columns[:0]
    low, high = known[:, all_known].min(axis=0), known[:, all_known].max(axis=0)
    watched = np.union1d(columns, all_known[low == high])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column that is unknown throughout
        low, high = np.nanmin(known[:, watched], axis=0), np.nanmax(known[:, watched], axis=0)
    room = _ROOM * (high - low)
    return watched, np.stack([low - room, high + room]).astype(np.float32)
