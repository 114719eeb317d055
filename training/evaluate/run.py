"""`samediff evaluate`: the steps from an outcome file to the figures, in order."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import BadInput, MissingExtra
from training.evaluate import assess, policies, predict
from training.evaluate.bootstrap import Bootstrap, mean_known
from training.evaluate.choose import LAMBDAS, Book, book
from training.evaluate.consensus import consensus
from training.evaluate.cost import with_cost
from training.evaluate.inputs import Inputs, inputs_of
from training.evaluate.matrix import Matrix, build
from training.evaluate.options import Notes, Options
from training.evaluate.read import read_rows
from training.evaluate.recommend import Case, recommend
from training.evaluate.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

MAX_WORKERS = 4  # each holds a copy of its training rows
ROUTERS = ("table", "knn", "logistic", "learned")
ORDER = (
    *("best_single", "cheapest", "random_mix", "cascade", "consensus"),
    *("knn", "logistic", "table", "learned", "oracle"),
)


def run(path: Path, options: Options) -> dict[str, Any]:
    """Evaluate every policy on an outcome matrix; the result follows DESIGN.md, "An outcome matrix"."""
    started, notes = time.perf_counter(), Notes()
    if not 0 <= options.check_noise <= 0.5:
        raise BadInput(f"--check-noise {options.check_noise}: an error rate between 0 and 0.5 is needed")
    rows, counts, group = _load(path, options, notes)
    matrix = build(rows, group, tuple(n for n in options.features if n != "input_tokens"), notes)
    matrix, group = _foldable(matrix, group, options, notes)
    inputs = inputs_of(matrix, options, notes)
    parts = predict.splits(matrix, options, notes)
    scores = _predictions(matrix, inputs, parts)
    figures = _figures(matrix, parts, scores, options)
    return {
        "file": path.name,
        "test": options.test.name if options.test else None,
        "rows": counts,
        "tasks": len(matrix.tasks),
        "tasks_scored": int(sum(s.test.sum() for s in parts)),
        "groups": len(np.unique(matrix.group)),
        "group": group or "task_id",
        "task_type": matrix.category_column,
        "features": list(inputs.names),
        "encoder": inputs.embedding,
        "folds": len(parts),
        "check_noise": options.check_noise,
        **figures,
        "warnings": notes.warnings,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _load(path: Path, options: Options, notes: Notes) -> tuple[pl.DataFrame, dict[str, Any], str | None]:
    """Rows of the file, and of --test's behind them, with cost and `part` (0 fitted on, 1 scored)."""
    try:
        import polars as pl
    except ImportError as error:
        raise MissingExtra("polars", "train") from error
    rows, counts = read_rows(path, options, notes)
    rows = with_cost(rows.with_columns(part=pl.lit(0)), notes)
    if options.test is not None:
        other, other_counts = read_rows(options.test, options, notes)
        other = with_cost(other.with_columns(part=pl.lit(1)), notes)
        rows, counts = _joined(rows, other, notes), {**counts, "test": other_counts}
    group = options.group or ("group" if "group" in rows.columns else None)
    return rows, counts, group


def _joined(rows: pl.DataFrame, other: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Both files' rows: models of both only, and no training task that is also a test task."""
    import polars as pl

    both = set(rows["model"]) & set(other["model"])
    if len(both) < 2:
        raise BadInput("the two files have fewer than two models in common")
    gone = (set(rows["model"]) | set(other["model"])) - both
    notes.add(
        "models_of_one_file",
        len(gone),
        f"{counted(len(gone), 'model is', 'models are')} in one of the two files only: left out",
    )
    twice = rows.join(other.select("task_id").unique(), on="task_id", how="semi")["task_id"].n_unique()
    notes.add(
        "tasks_in_both",
        twice,
        f"{counted(twice, 'task is', 'tasks are')} in both files: scored, not fitted on",
    )
    rows = rows.join(other.select("task_id").unique(), on="task_id", how="anti")
    if rows.is_empty():
        raise BadInput("every task of the first file is also in --test; nothing is left to fit on")
    joined: pl.DataFrame = pl.concat([rows, other], how="diagonal_relaxed").filter(
        pl.col("model").is_in(list(both))
    )
    return joined


def _foldable(matrix: Matrix, group: str | None, options: Options, notes: Notes) -> tuple[Matrix, str | None]:
    """Fall back to one group per task where the default group column holds a single value."""
    if options.group is None and group and len(np.unique(matrix.group)) < 2 and len(matrix.tasks) > 1:
        notes.add(
            "one_group", len(matrix.tasks), f"column {group} holds a single value: grouped by task_id instead"
        )
        return matrix._replace(group=np.arange(len(matrix.tasks))), None
    return matrix, group


def _predictions(
    matrix: Matrix, inputs: Inputs, parts: list[predict.Split]
) -> dict[str, list[predict.FoldScores]]:
    """Out-of-fold predictions of each router, fold by fold.

    One fit per core, each on one thread: threads of one fit that wait for each other on busy cores spin.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from training.progress import Progress

    jobs = [(name, part) for part in parts for name in ROUTERS]
    scores: dict[str, list[predict.FoldScores]] = {name: [] for name in ROUTERS}
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    with (
        threadpool_limits(limits=1),
        Progress("fitting routers", len(jobs)) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        fitted = pool.map(lambda job: predict.fit_one(job[0], matrix, inputs, job[1]), jobs)
        for (name, _), score in zip(jobs, fitted, strict=True):
            scores[name].append(score)
            progress.advance()
    return scores


def _figures(
    matrix: Matrix, parts: list[predict.Split], scores: dict[str, list[predict.FoldScores]], options: Options
) -> dict[str, Any]:
    """Policies, calibration and recommendation."""
    at = policies.scored(matrix, parts)
    books = [book(matrix, s.train) for s in parts]
    boot = Bootstrap(matrix.group[at.rows], options.draws, options.seed)
    routes = {name: policies.routed(matrix, at, parts, books, scores[name]) for name in ROUTERS}
    family = policies.mix_family(at, books)
    pairs, names = policies.cascade(matrix, at, parts, books, options.check_noise)
    played = {name: r.headline for name, r in routes.items()} | {"cascade": pairs}
    agreed = consensus(matrix, at, parts, books)
    if agreed is not None:
        played["consensus"] = agreed[0]
    outcomes = _outcomes(matrix, at, books, played, family)
    for name, route in routes.items():
        outcomes[f"{name}/parity"], outcomes[f"{name}/unguarded"] = route.parity, route.unguarded
    ledger = assess.Ledger(boot, outcomes)
    entries = {name: ledger.entry(name, matrix.models) for name in ORDER if name in outcomes}
    entries.setdefault("cheapest", _unknown("cheapest"))
    entries["cascade"] |= {
        "pairs": dict(Counter(names)),
        "vs_random_mix": ledger.against("cascade", "cascade/mix"),
    }
    if agreed is not None:
        entries["consensus"] |= {
            "pairs": agreed[1],
            "simulated": "agreement drawn at the base rates of FINDINGS, Same diff",
            "vs_random_mix": ledger.against("consensus", "consensus/mix"),
        }
    for name, route in routes.items():
        entries[name] |= _routing(ledger, name, route, scores[name])
    entries["learned"] |= _learned(ledger, boot, routes["learned"], family, books)
    best = matrix.models[book(matrix, np.any([s.train for s in parts], axis=0)).pin]
    models = _models(ledger, matrix.models, best)
    advice = recommend(Case(entries, models, best, ledger.against, options.check_noise))
    entries |= {f"pin/{model}": ledger.entry(f"pin/{model}", matrix.models) for model in advice.pins}
    for name in entries.keys() & outcomes.keys():
        entries[name]["vs_recommended"] = ledger.against(name, advice.policy)
    order = [*ORDER[:2], *(f"pin/{model}" for model in advice.pins), *ORDER[2:]]
    order = [name for name in order if name in entries]
    p = np.concatenate([s.test for s in scores["learned"]])
    plain = assess.calibration(np.concatenate([s.test for s in scores["table"]]), at, matrix.models)
    return {
        "models": models,
        "policies": [entries[name] for name in order],
        "calibration": {
            **assess.calibration(p, at, matrix.models),
            "table": {k: plain[k] for k in ("ece", "brier", "auc", "auc_within_model")},
        },
        "recommended": advice.policy,
        "recommended_if_checked": advice.if_checked,
        "recommendation": advice.sentence,
    }


def _outcomes(
    matrix: Matrix,
    at: policies.Scored,
    books: list[Book],
    played: dict[str, policies.Outcome],
    family: list[policies.Outcome] | None,
) -> dict[str, policies.Outcome]:
    """Name all outcomes to be compared: controls, pins ("pin/…"), routers and cascade, each with its mix."""
    single = policies.best_single(at, books)
    outcomes = {"best_single": single, "oracle": policies.oracle(at)}
    low = policies.cheapest(at, books)
    if low is not None:
        outcomes["cheapest"] = low
    for name, outcome in played.items():
        mixed = single if family is None else policies.matched_mix(at, family, _cost(outcome))
        outcomes[name], outcomes[_mix_of(name)] = outcome, mixed
    for j, model in enumerate(matrix.models):
        outcomes[f"pin/{model}"] = policies.by_model(at, np.full(len(at.rows), j))
    return outcomes


def _mix_of(router: str) -> str:
    """Name of the mix of pins that costs what the router costs; the contract's is the learned one's."""
    return "random_mix" if router == "learned" else f"{router}/mix"


def _cost(outcome: policies.Outcome) -> float:
    return float(mean_known(outcome.cost))


def _unknown(name: str) -> dict[str, Any]:
    """Entry of a policy that can't be played without costs."""
    against = dict.fromkeys(("quality", "quality_ci", "saving", "saving_ci"))
    empty = dict.fromkeys(("quality", "quality_ci", "cost_usd", "cost_usd_ci"))
    return {"name": name, **empty, "share": {}, "vs_best_single": against, "reason": "no cost is known"}


def _routing(
    ledger: assess.Ledger, name: str, route: policies.Routed, scores: list[predict.FoldScores]
) -> dict[str, Any]:
    """Say what a router decided in its folds, and what it would have got without the right to abstain."""
    return {
        "abstained": route.abstained,
        "folds": len(route.lambda_usd),
        "lambda_success_per_usd": route.lambda_usd,
        "knob": [s.knob for s in scores],
        "unguarded": ledger.against(f"{name}/unguarded", "best_single"),
        "vs_random_mix": ledger.against(name, _mix_of(name)),
    }


def _learned(
    ledger: assess.Ledger,
    boot: Bootstrap,
    route: policies.Routed,
    family: list[policies.Outcome] | None,
    books: list[Book],
) -> dict[str, Any]:
    """Figures that the contract asks of the learned router alone."""
    parity = ledger.against("learned/parity", "best_single")
    area, area_ci = assess.area_above_mix(boot, route, family)
    gap, gap_ci = ledger.gap_closed("learned")
    return {
        "cost_at_parity": {
            "saving": parity["saving"],
            "ci": parity["saving_ci"],
            "quality_difference": parity["quality"],
            "quality_difference_ci": parity["quality_ci"],
        },
        "area_above_mix": area,
        "area_above_mix_ci": area_ci,
        "oracle_gap_closed": gap,
        "oracle_gap_closed_ci": gap_ci,
        "vs_table": ledger.against("learned", "table"),
        "curve": assess.curve(route, LAMBDAS, float(np.mean([b.scale for b in books]))),
    }


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
