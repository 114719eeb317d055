"""The proof that an exported graph is the trained model: rows made to tell the two apart, and decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.ensemble import booster_of, numeric_splits
from models.heads import BASES, Reference
from models.linear import LIMIT
from models.manifest import Parity
from models.table import EXTRA_COLUMNS, UNSEEN_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from models.heads import Heads, Part

MAX_ABS_DP = 1e-6
MAX_ABS_DLOG = 1e-5  # log1p tokens reach 12, where a float32 ulp is 1e-6
_CHUNK = 4096
_UNKNOWN = 0.1  # of the odd rows, those in which a table's value is NaN
_INF32 = np.float32(np.inf)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SETS, _ARMS = 1024, 8  # decisions that are compared, and the candidates in each
_ODD, _ORDINARY = 512, 1024  # the last of the adversarial rows, after those that meet an edge
_CUTS = (0.1, 0.5, 0.7, 0.8, 0.9, 0.95)
_ODDITIES = (np.nan, np.inf, -np.inf, _FLOAT32_MAX, -_FLOAT32_MAX, 0.0, -0.0, 1e-45, 1.0, -1.0)


def parity(heads: Heads, graph: bytes, seed: int = 0) -> Parity:
    """Compare the graph with the reference on adversarial rows, and on sets of candidates for one request.

    A decision is the best candidate of a set, or whether a p reaches a threshold. It is flipped when it
    differs and the reference has more than MAX_ABS_DP between the two, what is closer being a tie.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    reference = Reference(heads)
    rows = adversarial_rows(heads, seed)
    dp, dlog, _ = _compare(session, reference, rows)
    sets = _decision_rows(rows, heads.n_features, seed)
    set_dp, set_dlog, (p, expected) = _compare(session, reference, sets)
    dp, dlog = np.concatenate([dp, set_dp]), np.concatenate([dlog, set_dlog])
    # Not "> limit": a NaN must count as wrong.
    wrong = ~((dp <= MAX_ABS_DP) & (dlog <= MAX_ABS_DLOG))
    flipped, ties, decisions = _flips(p.reshape(-1, _ARMS), expected.reshape(-1, _ARMS))
    return Parity(
        rows=len(dp),
        rows_wrong=int(wrong.sum()),
        max_abs_dp=float(dp.max()),
        max_abs_dlog_tokens=float(dlog.max()),
        decisions=decisions,
        decisions_flipped=flipped,
        ties=ties,
    )


def _compare(
    session: Any, reference: Reference, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """|Δp| (n,), the largest |Δ log amount| (n,), and both sides' p (n,)."""
    names = [output.name for output in session.get_outputs()]
    dp, dlog, ours, theirs = [], [], [], []
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        found = dict(zip(names, session.run(None, {"X": part}), strict=True))
        p, amounts = reference.predict(part)
        ours.append(found["p_success"].astype(np.float64))
        theirs.append(p)
        dp.append(_apart(ours[-1], p))
        differences = [_apart(found[BASES[name][1]], value) for name, value in amounts.items()]
        dlog.append(np.max([np.zeros(len(part)), *differences], axis=0))
    return np.concatenate(dp), np.concatenate(dlog), (np.concatenate(ours), np.concatenate(theirs))


def _apart(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """|Δ| (n,), 0 where both are unknown and NaN where one is."""
    return np.where(np.isnan(ours) & np.isnan(theirs), 0.0, np.abs(ours - theirs))


def _flips(p: np.ndarray, expected: np.ndarray) -> tuple[int, int, int]:
    """Decisions flipped, decisions within a tie, and all of them, from p (sets, arms) of both sides.

    A candidate whose p is unknown is never the best.
    """
    p, expected, rows = np.nan_to_num(p), np.nan_to_num(expected), np.arange(len(p))
    chosen, best = p.argmax(axis=1), expected.argmax(axis=1)
    regret = expected[rows, best] - expected[rows, chosen]
    differs = (expected[rows, best] != expected[rows, chosen]) & (chosen != best)
    flipped, ties = int((regret > MAX_ABS_DP).sum()), int((differs & (regret <= MAX_ABS_DP)).sum())
    for cut in _CUTS:
        other = (p >= cut) != (expected >= cut)
        near = np.abs(expected - cut) <= MAX_ABS_DP
        flipped, ties = flipped + int((other & ~near).sum()), ties + int((other & near).sum())
    return flipped, ties, len(p) + p.size * len(_CUTS)


def _decision_rows(rows: np.ndarray, n_features: int, seed: int) -> np.ndarray:
    """Sets of _ARMS rows with one request's features and the extra columns of different rows."""
    rng = np.random.default_rng(seed + 1)
    request = rng.integers(0, len(rows), _SETS).repeat(_ARMS)
    arms = rng.integers(0, len(rows), _SETS * _ARMS)
    sets = rows[request].copy()
    sets[:, n_features:] = rows[arms, n_features:]
    return sets


def adversarial_rows(heads: Heads, seed: int = 0) -> np.ndarray:
    """Rows (n, width) float32 meant to tell the two models apart.

    Each threshold is met at its float32 floor and one ulp to either side, so is each bound of the linear
    part, in a row whose other values are such edges too, or NaN, ±infinity, the largest float, zero of either
    sign, an unseen or unknown category. Others look like training: that is where products nearly cancel.
    """
    rng = np.random.default_rng(seed)
    width = heads.n_features + len(EXTRA_COLUMNS)
    edges = [list(_ODDITIES) for _ in range(width)]
    hits: list[tuple[int, float]] = []
    parts = [heads.success, *(part for part, _ in heads.amounts.values())]
    for feature, threshold in sorted({edge for part in parts for edge in _edges(part)}):
        exact = np.float32(threshold)
        with np.errstate(over="ignore", under="ignore"):  # the largest float's neighbour is infinite
            near = (np.nextafter(exact, -_INF32), exact, np.nextafter(exact, _INF32))
        edges[feature].extend(float(v) for v in near)
        hits.extend((feature, float(v)) for v in near)
    categories = [UNSEEN_INDEX, np.nan, 10_000.0, *range(64)]
    rows = np.empty((len(hits) + _ODD + _ORDINARY, width), dtype=np.float32)
    for column in range(width):
        is_category = column in (heads.n_features, heads.n_features + EXTRA_COLUMNS.index("type_index"))
        values = categories if is_category else edges[column]
        rows[:, column] = rng.choice(np.array(values, dtype=np.float32), size=len(rows))
    for row, (feature, value) in enumerate(hits):
        rows[row, feature] = value
    _look_ordinary(rows, parts, rng)
    _fill_tables(rows, heads, rng)
    return rows


def _look_ordinary(rows: np.ndarray, parts: list[Part], rng: np.random.Generator) -> None:
    """Give the last rows the linear parts' features as training had them."""
    for part in parts:
        if part.linear is None:
            continue
        at = np.arange(len(rows) - _ORDINARY, len(rows))
        noise = rng.normal(size=(len(at), len(part.linear.columns)))
        rows[np.ix_(at, part.linear.columns)] = part.linear.mean + noise / part.linear.scale


def _fill_tables(rows: np.ndarray, heads: Heads, rng: np.random.Generator) -> None:
    """Values of the tables: any that a table may hold, and in some of the odd rows none that is known."""
    odd = slice(-_ODD - _ORDINARY, -_ORDINARY)
    for name, (column, _) in BASES.items():
        limit = heads.amounts[name][1] if name in heads.amounts else 1.0
        low, high = (-8.0, 8.0) if name == "success" else (0.0, max(limit, 1.0))
        values = rng.uniform(low, high, len(rows))
        values[odd][rng.random(_ODD) < _UNKNOWN] = np.nan
        rows[:, heads.n_features + EXTRA_COLUMNS.index(column)] = values


def _edges(part: Part) -> Iterator[tuple[int, float]]:
    """(feature, float32 value) at which a head's answer may jump or bend."""
    if part.trees is not None:
        yield from numeric_splits(booster_of(part.trees).dump_model())
    if part.linear is not None:
        for side in (-LIMIT, LIMIT):
            bounds = part.linear.mean + side / part.linear.scale
            yield from zip(part.linear.columns.tolist(), bounds.astype(np.float32).tolist(), strict=True)
