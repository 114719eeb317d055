"""What every estimator says of every policy, side by side: none of it is advised by but what is quoted.

Sums over a part of a log at a time; intervals are over sessions, or over what they belong to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from training.estimators import scores as of
from training.estimators.intervals import as_share, of_products
from training.estimators.model import guessed
from training.estimators.paired import paired
from training.replay.bootstrap import FEWEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.estimators.bandit import Bandit
    from training.replay.entries import Entry
    from training.replay.judge import Judge

COLUMNS = ("w", "ips", "dr", "dr_clipped", "dr_switch", "paired", "kept", "replay", "size")
W, KEPT, SIZE = COLUMNS.index("w"), COLUMNS.index("kept"), COLUMNS.index("size")
OVER = {"snips": ("ips", W), "replay": ("replay", KEPT)}  # means over what isn't the number of decisions
MODEL = "what the model of outcomes believes: its bias is in no interval, so nothing is advised by it"


class _Sums(NamedTuple):
    """Sums over the parts so far."""

    total: np.ndarray  # (m,)
    spread: np.ndarray  # (m, m) products of sums by session, or (m, C) sums by cluster
    square: float  # Σ w²
    model: float  # Σ of the model's word
    sessions: int
    told: bool  # all chances are known

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(
            self.total + other.total,
            self.spread + other.spread,
            self.square + other.square,
            self.model + other.model,
            self.sessions + other.sessions,
            self.told and other.told,
        )


def opinions(judge: Judge, entries: Sequence[Entry]) -> dict[str, list[dict[str, Any]]]:
    """Method, value, interval and effective decisions of every estimate, by the policy's name.

    Thresholds of clipped and switch are chosen in each part. `quoted` marks the one that the row has; DM has
    no interval.
    """
    asked = {entry.name: entry for entry in entries if entry.target is not None and entry.role != "logged"}
    most = dict.fromkeys(asked, 0.0)
    for log, _, chances in judge.played([entry.target for entry in asked.values() if entry.target]):
        for name, target in zip(asked, chances, strict=True):
            w = of.weights(log, target) * np.isfinite(log.reward)
            most[name] = max(most[name], float(np.nanmax(w, initial=0.0)))
    found: dict[str, _Sums] = {}
    for log, kind, chances in judge.played([entry.target for entry in asked.values() if entry.target]):
        model = guessed(judge.guesses, log, kind)
        for name, target in zip(asked, chances, strict=True):
            mine = _sums(log, target, (model, most[name]), judge.groups)
            found[name] = found[name].plus(mine) if name in found else mine
    labels = int(judge.told.labels)
    return {
        name: list(_told(sums, asked[name], labels=labels, pairs=bool(judge.told.whole.asked.any())))
        for name, sums in ((name, one if judge.groups is None else _over(one)) for name, one in found.items())
    }


def _over(sums: _Sums) -> _Sums:
    """Sums by cluster, which may lie in several parts, as products."""
    return sums._replace(spread=sums.spread @ sums.spread.T, sessions=int((sums.spread[SIZE] > 0).sum()))


def _sums(
    log: Bandit, target: np.ndarray, about: tuple[np.ndarray, float], groups: np.ndarray | None
) -> _Sums:
    """The sums of a part; `about` are the guesses of the model, and the largest weight of the whole log."""
    model, most = about
    columns = np.zeros((len(COLUMNS), log.n))
    columns[SIZE] = 1.0
    told = bool(np.isfinite(log.propensity).all())
    if told and log.sums.labelled.any():
        clip, switch = (of.threshold(log, target, model, soft=soft) for soft in (True, False))
        kept = of.accepted(log, target, most=most)
        each = {
            "w": of.weights(log, target) * of.heard(log),
            "ips": of.ips(log, target),
            "dr": of.doubly_robust(log, target, model),
            "dr_clipped": of.doubly_robust(log, target, model, clip=clip),
            "dr_switch": of.doubly_robust(log, target, model, switch=switch),
            "kept": kept,
            "replay": np.where(kept, np.nan_to_num(log.reward), 0.0),
        }
        for name, values in each.items():
            columns[COLUMNS.index(name)] = values
    if log.paired is not None:
        columns[COLUMNS.index("paired")] = paired(log, target, model)
    square = float((columns[W] ** 2).sum())
    said = float(of.direct(target, model).sum())
    if groups is not None:
        code, many = groups[log.cluster], int(groups.max()) + 1
        spread, count = np.stack([np.bincount(code, column, many) for column in columns]), 0
    else:
        place = np.unique(log.cluster, return_inverse=True)[1]
        by_session = np.stack([np.bincount(place, column) for column in columns])
        spread, count = by_session @ by_session.T, by_session.shape[1]
    return _Sums(columns.sum(axis=1), spread, square, said, count, told)


def _told(sums: _Sums, entry: Entry, *, labels: int, pairs: bool) -> Iterator[dict[str, Any]]:
    """What the sums say by each method that the log has the columns for."""
    n, weight = float(sums.total[SIZE]), float(sums.total[W])
    ess = weight**2 / sums.square if sums.square > 0 else 0.0
    quality = entry.quality
    names = [*(["ips", "snips", "dr", "dr_clipped", "dr_switch", "replay"] if sums.told and labels else [])]
    for name in [*names, *(["paired"] if pairs else [])]:
        column, over = OVER.get(name, (name, SIZE))
        if not sums.total[over] > 0:
            continue  # nothing that the policy would do was logged
        some = [COLUMNS.index(column), over]
        square = sums.spread[np.ix_(some, some)]
        plain = of_products(np.array([1.0, 0.0]), sums.total[some], square, sums.sessions)
        own = {"replay": float(sums.total[KEPT]), "paired": None}
        known = quality.ess if name == quality.how else own.get(name, ess)
        rows = min(n if known is None else known, sums.sessions)
        found = plain if name == "ips" else as_share(plain, rows)
        ends = (max(0.0, found.low), min(1.0, found.high)) if sums.sessions >= FEWEST else None
        yield _said(name, found.mean, ends, known, quoted=name == quality.how)
    if quality.how == "combined" and quality.quality is not None:
        yield _said("combined", quality.quality, quality.ci, quality.ess, quoted=True)
    if labels:
        yield _said("dm", sums.model / n, None, None, quoted=False) | {"note": MODEL}


def _said(
    method: str, value: float, ends: tuple[float, float] | None, ess: float | None, *, quoted: bool
) -> dict[str, Any]:
    return {"method": method, "value": value, "interval": ends, "ess": ess, "quoted": quoted}
