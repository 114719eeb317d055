"""All figures of an evaluation, from policies as they were played."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluate import assess, policies
from training.evaluate.bootstrap import Bootstrap, mean_known
from training.evaluate.choose import LAMBDAS, book
from training.evaluate.curves import curves
from training.evaluate.deployment import deployment
from training.evaluate.groups import by_group, by_task_type
from training.evaluate.judgedfigures import judged_entries, static_mixes
from training.evaluate.players import ROUTERS, cascade, play
from training.evaluate.recommend import Case, recommend, supported

if TYPE_CHECKING:
    from training.evaluate.menus import Outcome
    from training.evaluate.policies import Played, Setting

NOISES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # of the check, at which the cascade is played
_BEFORE, _AFTER = ("best_single", "cheapest", "random_mix"), ("oracle",)


def figures(setting: Setting, deployed: list[Setting]) -> dict[str, Any]:
    """Policies, curves, groups, deployment, calibration and recommendation."""
    matrix, at = setting.matrix, setting.at
    boot = Bootstrap(matrix.group[at.rows], setting.options.draws, setting.options.seed)
    played = play(setting)
    mixes = static_mixes(setting, played)
    outcomes = _outcomes(setting, played) | mixes
    ledger = assess.Ledger(boot, outcomes)
    entries = _entries(setting, ledger, played)
    entries["learned"] |= _learned(ledger, boot, setting, played)
    entries["cascade"] |= _by_noise(boot, setting)
    for name, said in judged_entries(setting, ledger, boot, played).items():
        entries[name] |= said
    best = matrix.models[book(matrix, np.any([s.train for s in setting.parts], axis=0)).pin]
    models = _models(ledger, matrix.models, best)
    noise = setting.options.check_noise[0]
    advice = recommend(Case(entries, models, best, ledger.against, noise, setting.options.reference))
    entries |= {f"pin/{model}": ledger.entry(f"pin/{model}", matrix.models) for model in advice.pins}
    for name in entries.keys() & outcomes.keys():
        entries[name]["vs_recommended"] = ledger.against(name, advice.policy)
    entries |= {name: ledger.entry(name, matrix.models) for name in mixes}
    pins = [f"pin/{model}" for model in advice.pins]
    order = [*_BEFORE[:2], *pins, _BEFORE[2], *played, *mixes, *_AFTER]
    of = "learned" if advice.policy == "best_single" else advice.policy
    shown = (setting, outcomes[of], outcomes["best_single"])
    return {
        "models": models,
        "policies": [entries[name] for name in order if name in entries],
        **curves(boot, setting, played),
        "deployment": deployment(boot, setting, deployed),
        "by_group_of": of,
        "by_group": by_group(*shown),
        "by_task_type": by_task_type(*shown),
        "knobs": {name: found.knobs for name, found in played.items()}
        | {"best_single": [matrix.models[known.pin] for known in setting.books]},
        "calibration": _calibration(setting),
        "recommended": advice.policy,
        "recommended_if_checked": advice.if_checked,
        "recommendation": advice.sentence,
    }


def _outcomes(setting: Setting, played: dict[str, Played]) -> dict[str, Outcome]:
    """Name all outcomes to be compared: controls, pins ("pin/…") and the policies, each with its mix."""
    at, books = setting.at, setting.books
    single = policies.best_single(at, books)
    outcomes = {"best_single": single, "oracle": policies.oracle(at)}
    low = policies.cheapest(at, books)
    if low is not None:
        outcomes["cheapest"] = low
    family = policies.mix_family(at, books)
    for name, found in played.items():
        spent = float(mean_known(found.outcome.cost))
        outcomes[name] = found.outcome
        outcomes[_mix_of(name)] = single if family is None else policies.matched_mix(at, family, spent)
        outcomes |= {f"{name}/{variant}": other for variant, other in found.variants.items()}
    for j, model in enumerate(setting.matrix.models):
        outcomes[f"pin/{model}"] = policies.by_model(at, np.full(len(at.rows), j))
    return outcomes


def _entries(setting: Setting, ledger: assess.Ledger, played: dict[str, Played]) -> dict[str, dict[str, Any]]:
    """Entry of every policy by name, with what it says of itself."""
    models = setting.matrix.models
    controls = (*_BEFORE, *_AFTER)
    entries = {name: ledger.entry(name, models) for name in (*controls, *played) if name in ledger.outcomes}
    entries.setdefault("cheapest", _unknown("cheapest"))
    for name, found in played.items():
        entries[name] |= {**found.facts, "vs_random_mix": ledger.against(name, _mix_of(name))}
        if "unguarded" in found.variants:
            entries[name]["unguarded"] = ledger.against(f"{name}/unguarded", "best_single")
    return entries


def _mix_of(policy: str) -> str:
    """Name of the mix of pins that costs what the policy costs; the contract's is the learned one's."""
    return "random_mix" if policy == "learned" else f"{policy}/mix"


def _unknown(name: str) -> dict[str, Any]:
    """Entry of a policy that can't be played without costs."""
    against = dict.fromkeys(("quality", "quality_ci", "saving", "saving_ci"))
    empty = dict.fromkeys(("quality", "quality_ci", "cost_usd", "cost_usd_ci"))
    return {"name": name, **empty, "share": {}, "vs_best_single": against, "reason": "no cost is known"}


def _learned(
    ledger: assess.Ledger, boot: Bootstrap, setting: Setting, played: dict[str, Played]
) -> dict[str, Any]:
    """Figures that the contract asks of the learned router alone."""
    parity = ledger.against("learned/parity", "best_single")
    family = policies.mix_family(setting.at, setting.books)
    gap, gap_ci = ledger.gap_closed("learned")
    sweeps = {name: assess.sweep(played[name]) for name in ROUTERS}
    area, area_ci = assess.area_above(boot, sweeps["learned"], family)
    table, table_ci = assess.area_above(boot, sweeps["learned"], family, sweeps["table"])
    return {
        "cost_at_parity": {
            "saving": parity["saving"],
            "ci": parity["saving_ci"],
            "quality_difference": parity["quality"],
            "quality_difference_ci": parity["quality_ci"],
        },
        "area_above_mix": area,
        "area_above_mix_ci": area_ci,
        "area_above_table": table,
        "area_above_table_ci": table_ci,
        "oracle_gap_closed": gap,
        "oracle_gap_closed_ci": gap_ci,
        "vs_table": ledger.against("learned", "table"),
        "curve": assess.curve(sweeps["learned"], LAMBDAS, float(np.mean([b.scale for b in setting.books]))),
    }


def _by_noise(boot: Bootstrap, setting: Setting) -> dict[str, Any]:
    """The cascade chosen and played at each error rate of its check; `pays_up_to` is the last that is better.

    None where not even a check that never errs makes it better than the best pin.
    """
    rates = sorted({*NOISES, *setting.options.check_noise})
    found = {f"{noise:g}": cascade(setting, noise) for noise in rates}
    outcomes = {name: p.outcome for name, p in found.items() if p is not None}
    family = policies.mix_family(setting.at, setting.books)
    single = policies.best_single(setting.at, setting.books)
    for name, outcome in list(outcomes.items()):
        spent = float(mean_known(outcome.cost))
        outcomes[f"{name}/mix"] = (
            single if family is None else policies.matched_mix(setting.at, family, spent)
        )
    ledger = assess.Ledger(boot, outcomes | {"best_single": single})
    points, pays, broken = [], None, False
    for noise in rates:
        name = f"{noise:g}"
        versus = partial(ledger.against, name)
        point = {"vs_best_single": versus("best_single"), "vs_random_mix": versus(f"{name}/mix")}
        points.append(
            {"check_noise": noise, **ledger.figures(name), "vs_best_single": point["vs_best_single"]}
        )
        broken = broken or not supported(point)
        pays = pays if broken else noise
    return {"by_noise": points, "pays_up_to": pays}


def _models(ledger: assess.Ledger, models: list[str], best: str) -> list[dict[str, Any]]:
    """Every model as a pin on the scored rows, best first, against the best one of all training rows.

    `vs_best_single` is against the best one as each fold chose it.
    """
    entries = []
    for model in sorted(models, key=lambda name: -ledger.quality[f"pin/{name}"]):
        pin = f"pin/{model}"
        against = {
            "vs_best": ledger.against(pin, f"pin/{best}"),
            "vs_best_single": ledger.against(pin, "best_single"),
        }
        entries.append({"model": model, **ledger.figures(pin), **against})
    return entries


def _calibration(setting: Setting) -> dict[str, Any]:
    """Of the learned router's predictions, and in short of the table's."""
    models, at = setting.matrix.models, setting.at
    p = {name: np.concatenate([s.test for s in setting.scores[name]]) for name in ("learned", "table")}
    plain = assess.calibration(p["table"], at, models)
    return {
        **assess.calibration(p["learned"], at, models),
        "bins": assess.reliability(p["learned"], at, setting.matrix.group[at.rows]),
        "table": {k: plain[k] for k in ("ece", "brier", "auc", "auc_within_model")},
    }
