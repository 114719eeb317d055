"""Policies' outcomes as figures with intervals, all from the same paired draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from training.evaluate.bootstrap import mean_known
from training.metrics import auc, calibration_error, paired_error

if TYPE_CHECKING:
    from training.evaluate.bootstrap import Bootstrap
    from training.evaluate.menus import Outcome
    from training.evaluate.policies import Played, Scored

_UNIT = (0.0, 1.0)


class Ledger:
    """Point estimates and draws of quality and cost of named outcomes, of shape (n,) each."""

    def __init__(self, boot: Bootstrap, outcomes: dict[str, Outcome]) -> None:
        self.boot, self.outcomes = boot, outcomes
        stacked = np.stack([*(o.quality for o in outcomes.values()), *(o.cost for o in outcomes.values())])
        point, draws = mean_known(stacked), boot.means(stacked)
        half = len(outcomes)
        self.quality = dict(zip(outcomes, point[:half], strict=True))
        self.cost = dict(zip(outcomes, point[half:], strict=True))
        self.quality_draws = dict(zip(outcomes, draws.T[:half], strict=True))
        self.cost_draws = dict(zip(outcomes, draws.T[half:], strict=True))

    def entry(self, name: str, models: list[str]) -> dict[str, Any]:
        """Entry of one policy as in the contract, and how it stands against the best single model."""
        shares = self.outcomes[name].weights.mean(axis=0)
        share = {models[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable") if shares[i] > 0}
        against = self.against(name, "best_single")
        return {"name": name, **self.figures(name), "share": share, "vs_best_single": against}

    def figures(self, name: str) -> dict[str, Any]:
        """Quality and mean cost per task of one outcome, with intervals; None where unknown."""
        positive = (0.0, float("inf"))
        return {
            "quality": float(self.quality[name]),
            "quality_ci": self.boot.interval(self.quality_draws[name], self.quality[name], _UNIT),
            "cost_usd": known(self.cost[name]),
            "cost_usd_ci": self.boot.interval(self.cost_draws[name], self.cost[name], positive),
        }

    def against(self, name: str, other: str) -> dict[str, Any]:
        """Difference in quality and share of cost saved against another policy, paired, with intervals."""
        gain = float(_exact(self.quality[name] - self.quality[other]))
        saving = 1 - self.cost[name] / self.cost[other] if self.cost[other] else float("nan")
        with np.errstate(invalid="ignore", divide="ignore"):
            saved = 1 - self.cost_draws[name] / self.cost_draws[other]
        return {
            "quality": float(gain),
            "quality_ci": self.boot.interval(
                _exact(self.quality_draws[name] - self.quality_draws[other]), gain
            ),
            "saving": known(saving),
            "saving_ci": self.boot.interval(saved, saving),
        }

    def gap_closed(self, name: str) -> tuple[float | None, list[float] | None]:
        """Share of the way from best single to oracle in quality, with its interval; None without a gap."""
        gap = self.quality["oracle"] - self.quality["best_single"]
        if gap <= 1e-9:
            return None, None
        point = (self.quality[name] - self.quality["best_single"]) / gap
        spread = self.quality_draws["oracle"] - self.quality_draws["best_single"]
        with np.errstate(invalid="ignore", divide="ignore"):
            draws = (self.quality_draws[name] - self.quality_draws["best_single"]) / spread
        return float(point), self.boot.interval(np.where(spread > 1e-9, draws, np.nan), point)


def _exact(difference: Any) -> np.ndarray:
    """0 where two sums differ by their order alone, so that no sign is read into rounding."""
    return np.where(np.abs(difference) < 1e-12, 0.0, difference)


def known(value: float) -> float | None:
    """Give the number, or None where it is unknown."""
    return float(value) if np.isfinite(value) else None


class Sweep(NamedTuple):
    """A router at every λ, never abstaining: success and USD (L, n)."""

    quality: np.ndarray
    cost: np.ndarray


def sweep(played: Played) -> Sweep:
    """The λ that all folds have; the last option of a router's menu is to abstain."""
    assert played.menus is not None
    length = min(len(menu.names) for menu in played.menus) - 1
    return Sweep(
        np.concatenate([menu.quality[:length] for menu in played.menus], axis=1),
        np.concatenate([menu.cost[:length] for menu in played.menus], axis=1),
    )


def area_above(
    boot: Bootstrap, route: Sweep, family: list[Outcome] | None, other: Sweep | None = None
) -> tuple[float | None, list[float] | None]:
    """Mean height of a router's curve over λ above the line of pin mixes, or above another router's curve.

    Success averaged over cost, between the cheapest and the best pin; where these are one, up to the dearest
    point of the curve. No λ is chosen on the scored rows: the whole curve counts. None without costs.
    """
    if family is None or len(route.quality) < 2:
        return None, None
    mixes = Sweep(np.stack([o.quality for o in family]), np.stack([o.cost for o in family]))
    below = mixes if other is None else other
    parts = [route.quality, below.quality, route.cost, below.cost, mixes.cost[[0, -1]]]
    values = np.concatenate(parts)
    cuts = np.cumsum([len(part) for part in parts])[:-1]

    def height(row: np.ndarray) -> float:
        q, under, c, money, (low, high) = np.split(row, cuts)
        high = high if high > low else c.max()
        if not np.isfinite(row).all() or high <= low:
            return float("nan")
        at = np.linspace(low, high, 101)
        return float(np.mean(_line(at, c, q) - _line(at, money, under)))

    point = height(mean_known(values))
    draws = np.array([height(row) for row in boot.means(values)])
    return known(point), boot.interval(draws, point)


def _line(at: np.ndarray, cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
    order = np.argsort(cost, kind="stable")
    line: np.ndarray = np.interp(at, cost[order], quality[order])
    return line


def curve(route: Sweep, lambdas: np.ndarray, scale: float) -> list[dict[str, Any]]:
    """Quality and cost of the learned router at each λ, without the right to abstain."""
    quality, cost = route.quality.mean(axis=1), mean_known(route.cost)
    return [
        {"lambda_success_per_usd": known(w / scale) if w else 0.0, "quality": float(q), "cost_usd": known(c)}
        for w, q, c in zip(lambdas, quality, cost, strict=False)
    ]


def calibration(p: np.ndarray, at: Scored, models: list[str]) -> dict[str, Any]:
    """How good the predicted success (n, m) is on the scored rows; AUC is averaged within folds.

    Pooled over folds, AUC falls below ½ on noise: a fold that succeeds more was expected to succeed less.
    """
    per_model = {}
    for j, model in enumerate(models):
        per_model[model] = _scores(p[:, [j]], at.success[:, [j]], at.fold)
    within = [s["auc"] for s in per_model.values() if s["auc"] is not None]
    return {
        **_scores(p, at.success, at.fold),
        "auc_within_model": float(np.mean(within)) if within else None,
        "per_model": per_model,
    }


def reliability(p: np.ndarray, at: Scored, group: np.ndarray, bins: int = 10) -> list[dict[str, Any]]:
    """Said and true success in bins of equal count, with a 95 % interval of the truth over groups (n,).

    By Student's t: few groups know their own spread badly. None where a bin holds one group alone.
    """
    y, flat = at.success.ravel(), p.ravel()
    cluster = np.repeat(group, p.shape[1])
    found = []
    for part in np.array_split(np.argsort(flat, kind="stable"), min(bins, len(flat))):
        mean, error = paired_error(y[part], cluster[part])
        reach = error * float(stdtrit(max(len(np.unique(cluster[part])) - 1, 1), 0.975))
        ends = [max(mean - reach, 0.0), min(mean + reach, 1.0)] if np.isfinite(error) else None
        said = float(flat[part].mean())
        found.append({"n": len(part), "mean_p": said, "mean_success": mean, "mean_success_ci": ends})
    return found


def _scores(p: np.ndarray, y: np.ndarray, fold: np.ndarray) -> dict[str, Any]:
    found = [
        (int((fold == f).sum()), auc(y[fold == f].ravel(), p[fold == f].ravel())) for f in np.unique(fold)
    ]
    rated = [(n, a) for n, a in found if a is not None]
    total = sum(n for n, _ in rated)
    return {
        "ece": calibration_error(y.ravel(), p.ravel()),
        "brier": float(np.mean((p - y) ** 2)),
        "auc": float(sum(n * a for n, a in rated) / total) if total else None,
        "mean_p": float(p.mean()),
        "mean_success": float(y.mean()),
    }
