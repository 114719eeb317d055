"""What judging a run adds to a check: figures of the judged policies beside the static cascades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluate import policies
from training.evaluate.assess import Ledger, Sweep, area_above
from training.evaluate.bootstrap import mean_known
from training.evaluate.judged import judged, matched
from training.evaluate.players import suffixes
from training.metrics import auc, calibration_error

if TYPE_CHECKING:
    from training.evaluate.bootstrap import Bootstrap
    from training.evaluate.menus import Menu, Outcome
    from training.evaluate.policies import Played, Setting


def static_mixes(setting: Setting, played: dict[str, Played]) -> dict[str, Outcome]:
    """Of each judged policy the static cascade mixed by lot, with accept-always among others, at its cost."""
    found = {}
    for at in suffixes(setting.options):
        if f"judged{at}" in played:
            spent = float(mean_known(played[f"judged{at}"].outcome.cost))
            found[f"static_mix{at}"] = matched(_menus(played, f"static_cascade{at}"), spent)
    return found


def judged_entries(
    setting: Setting, ledger: Ledger, boot: Bootstrap, played: dict[str, Played]
) -> dict[str, dict[str, Any]]:
    """What the entries of the judged policies and of their controls say beside the figures of any policy."""
    entries: dict[str, dict[str, Any]] = {}
    family = policies.mix_family(setting.at, setting.books)
    for at in suffixes(setting.options):
        if f"judged{at}" not in played:
            continue
        menus = {name: _menus(played, f"{name}{at}") for name in ("judged", "static_cascade")}
        sweeps = {name: _sweep(of) for name, of in menus.items()}
        area, ends = area_above(boot, sweeps["judged"], family, sweeps["static_cascade"])
        for name in menus:
            entries[f"{name}{at}"] = {"cost_at_parity": _parity(ledger, f"{name}{at}")}
        entries[f"judged{at}"] |= {
            "vs_static_cascade": ledger.against(f"judged{at}", f"static_cascade{at}"),
            "vs_static_mix": ledger.against(f"judged{at}", f"static_mix{at}"),
            "parity_vs_static": ledger.against(f"judged{at}/parity", f"static_cascade{at}/parity"),
            "area_above_static_mix": area,
            "area_above_static_mix_ci": ends,
        }
    if "judged" in entries:
        entries["judged"] |= {"heads": _heads(setting), "by_noise": _by_noise(boot, setting)}
    return entries


def _parity(ledger: Ledger, name: str) -> dict[str, Any]:
    """Share of the goal's cost saved where the training part shows equal success, and what came of that."""
    even = ledger.against(f"{name}/parity", f"{name}/goal")
    return {
        "saving": even["saving"],
        "ci": even["saving_ci"],
        "quality_difference": even["quality"],
        "quality_difference_ci": even["quality_ci"],
        "vs_best_single": ledger.against(f"{name}/parity", "best_single"),
    }


def _by_noise(boot: Bootstrap, setting: Setting) -> list[dict[str, Any]]:
    """Judged and static at parity, and the height of one curve above the other, at each error rate."""
    from training.evaluate.figures import NOISES

    family = policies.mix_family(setting.at, setting.books)
    points = []
    for noise in sorted({*NOISES, *setting.options.check_noise}):
        both = {judge: judged(setting, noise, judge=judge) for judge in (True, False)}
        one, other = both[True], both[False]
        if one is None or other is None or one.menus is None or other.menus is None:
            continue
        ledger = Ledger(
            boot,
            {
                "goal": one.variants["goal"],
                "judged": one.variants["parity"],
                "static": other.variants["parity"],
            },
        )
        area, ends = area_above(boot, _sweep(one.menus), family, _sweep(other.menus))
        points.append(
            {
                "check_noise": noise,
                "judged_at_parity": ledger.against("judged", "goal"),
                "static_at_parity": ledger.against("static", "goal"),
                "area_above_static_mix": area,
                "area_above_static_mix_ci": ends,
            }
        )
    return points


def _heads(setting: Setting) -> dict[str, Any]:
    """How well evidence tells the cheap runs' success, and what escalating gains: AUC within folds, and ECE.

    The latter is what matters: evidence that a task is hard speaks against the reference, too.
    """
    assert setting.beliefs is not None
    said: list[np.ndarray] = []
    true: list[np.ndarray] = []
    ranked: list[tuple[float, int]] = []
    gains: list[tuple[float, int]] = []
    for split, found in zip(setting.parts, setting.beliefs, strict=True):
        cheap = {c: belief.p for (c, _), belief in zip(found.pairs, found.test, strict=True)}
        for c, p in cheap.items():
            y = setting.matrix.success[split.test, c]
            said.append(p)
            true.append(y)
            if (value := auc(y, p)) is not None:
                ranked.append((value, len(y)))
        for (c, r), belief in zip(found.pairs, found.test, strict=True):
            gained = (setting.matrix.success[split.test, r] > setting.matrix.success[split.test, c]) * 1.0
            if (value := auc(gained, belief.gain(0.5)[0])) is not None:
                gains.append((value, len(gained)))
    error = calibration_error(np.concatenate(true), np.concatenate(said)) if said else None
    count = sum(len(y) for y in true)
    return {"auc_within_model": _mean(ranked), "auc_of_gain": _mean(gains), "ece": error, "runs": count}


def _mean(values: list[tuple[float, int]]) -> float | None:
    """Mean of values weighted by rows; None without any."""
    total = sum(n for _, n in values)
    return sum(value * n for value, n in values) / total if total else None


def _menus(played: dict[str, Played], name: str) -> list[Menu]:
    menus = played[name].menus
    assert menus is not None
    return menus


def _sweep(menus: list[Menu]) -> Sweep:
    """Lots at the same step of all folds."""
    return Sweep(
        np.concatenate([menu.quality for menu in menus], axis=1),
        np.concatenate([menu.cost for menu in menus], axis=1),
    )
