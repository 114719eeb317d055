"""Cascades: ask a cheap model, check its answer, ask the next one where the check says no.

The check is simulated from the true outcome: it errs with a given probability either way, whatever the task,
and every call and every check that is made is paid. Graded success is read as the chance of a right answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.evaluate.bootstrap import mean_known
from training.evaluate.menus import Menu, pareto

if TYPE_CHECKING:
    from training.evaluate.policies import Setting


def cascade_menus(setting: Setting, noise: float, steps: int = 2) -> list[Menu]:
    """Cascades of `steps` models in each fold that are on the frontier of its training part."""
    menus = []
    for i, (part, known) in enumerate(zip(setting.parts, setting.books, strict=True)):
        success, cost = setting.matrix.success[part.train], setting.matrix.cost[part.train]
        filled = np.where(np.isfinite(cost), cost, known.cost)
        chains: list[tuple[int, ...]] = list(
            frontier_pairs(success, filled, noise, setting.options.check_usd)
        )
        for _ in range(steps - 2):
            chains = _longer(chains, success, filled, noise, setting.options.check_usd)
        mine = setting.at.fold == i
        menus.append(_menu(chains, (success, filled), setting, mine, noise))
    return menus


def play(
    chain: tuple[int, ...], success: np.ndarray, cost: np.ndarray, noise: float, check_usd: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Success (n,), USD (n,) and shares (n, m) of one cascade; the last model's answer isn't checked."""
    reach, quality, money = np.ones(len(success)), np.zeros(len(success)), np.zeros(len(success))
    weights = np.zeros(success.shape)
    for model in chain[:-1]:
        s = success[:, model]
        money = money + _paid(reach, cost[:, model] + check_usd)
        quality = quality + reach * s * (1 - noise)
        onward = s * noise + (1 - s) * (1 - noise)
        weights[:, model] += reach * (1 - onward)
        reach = reach * onward
    last = chain[-1]
    weights[:, last] += reach
    return quality + reach * success[:, last], money + _paid(reach, cost[:, last]), weights


def _paid(reach: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """USD of a call made with probability `reach`; what is never asked may cost anything."""
    return np.where(reach > 0, reach * cost, 0.0)


def frontier_pairs(
    success: np.ndarray, cost: np.ndarray, noise: float, check_usd: float, last: int | None = None
) -> list[tuple[int, int]]:
    """Pairs on the frontier, of all (m, m) at once, or of those that end in model `last`."""
    n, m = success.shape
    onward = success * noise + (1 - success) * (1 - noise)
    quality = success.mean(axis=0)[:, None] * (1 - noise) + onward.T @ success / n
    money = cost.mean(axis=0)[:, None] + check_usd + onward.T @ cost / n
    np.fill_diagonal(quality, -np.inf)
    if last is not None:
        quality[:, np.arange(m) != last] = -np.inf
    kept = pareto(quality.ravel(), money.ravel())
    return [(int(k // m), int(k % m)) for k in kept]


def _longer(
    chains: list[tuple[int, ...]], success: np.ndarray, cost: np.ndarray, noise: float, check_usd: float
) -> list[tuple[int, ...]]:
    """The chains with each further model behind them that are on the frontier."""
    m = success.shape[1]
    longer = [(*chain, j) for chain in chains for j in range(m) if j not in chain]
    if not longer:
        return chains
    figures = [_means(chain, success, cost, noise, check_usd) for chain in longer]
    quality, money = (np.array(column) for column in zip(*figures, strict=True))
    return [longer[k] for k in pareto(quality, money)]


def _means(
    chain: tuple[int, ...], success: np.ndarray, cost: np.ndarray, noise: float, check_usd: float
) -> tuple[float, float]:
    quality, money, _ = play(chain, success, cost, noise, check_usd)
    return float(quality.mean()), float(mean_known(money))


def _menu(
    chains: list[tuple[int, ...]],
    train: tuple[np.ndarray, np.ndarray],
    setting: Setting,
    mine: np.ndarray,
    noise: float,
) -> Menu:
    check_usd = setting.options.check_usd
    known = [_means(chain, *train, noise, check_usd) for chain in chains]
    success, cost = setting.at.success[mine], setting.at.cost[mine]
    scored = [play(chain, success, cost, noise, check_usd) for chain in chains]
    names = [" → ".join(setting.matrix.models[j] for j in chain) for chain in chains]
    quality, money = (np.array(column) for column in zip(*known, strict=True))
    return Menu(names, quality, money, *(np.stack(column) for column in zip(*scored, strict=True)))
