"""`samediff evaluate`: the steps from an outcome file to the figures, in order."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import BadInput
from training.evaluate import predict
from training.evaluate.beliefs import beliefs, reference_of
from training.evaluate.deployment import halves
from training.evaluate.evidence import evidence_of
from training.evaluate.figures import figures
from training.evaluate.inputs import Inputs, inputs_of
from training.evaluate.load import foldable, load
from training.evaluate.matrix import Matrix, build
from training.evaluate.options import Notes, Options
from training.evaluate.players import ROUTERS
from training.evaluate.policies import Setting, setting_of
from training.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from training.evaluate.beliefs import Beliefs

MAX_WORKERS = 4  # each holds a copy of its training rows


def run(path: Path, options: Options) -> dict[str, Any]:
    """Evaluate every policy on an outcome matrix; the result follows DESIGN.md, "An outcome matrix"."""
    started, notes = time.perf_counter(), Notes()
    _demand(options)
    rows, counts, group = load(path, options, notes)
    matrix = build(rows, group, tuple(n for n in options.features if n != "input_tokens"), notes)
    matrix, group = foldable(matrix, group, options, notes)
    if options.evidence:
        matrix = matrix._replace(evidence=evidence_of(rows, matrix, options.evidence, notes))
    reference_of(matrix, options)
    inputs = inputs_of(matrix, options, notes)
    matrix, inputs = _types_shown(matrix, inputs, options)
    parts = predict.splits(matrix, options, notes)
    setting, *deployed = _settings(matrix, inputs, [parts, *halves(matrix, options)], options)
    found = figures(setting, deployed)
    return {
        "file": path.name,
        "test": options.test.name if options.test else None,
        "rows": counts,
        "tasks": len(matrix.tasks),
        "tasks_scored": len(setting.at.rows),
        "groups": len(np.unique(matrix.group)),
        "group": group or "task_id",
        "task_type": matrix.category_column,
        "task_type_shown": _shown(options),
        "features": list(inputs.names),
        "evidence": list(matrix.evidence.names) if matrix.evidence else [],
        "reference": options.reference,
        "encoder": inputs.embedding,
        "folds": len(parts),
        "check_noise": options.check_noise[0],
        "check_usd": options.check_usd,
        "router_usd": options.router_usd,
        **found,
        "warnings": notes.warnings,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _types_shown(matrix: Matrix, inputs: Inputs, options: Options) -> tuple[Matrix, Inputs]:
    """Task types as the options show them; hidden ones stay with the inputs for the heads to be fitted on."""
    if not (options.hide_type or options.ignore_type):
        return matrix, inputs
    if matrix.category_column is None:
        raise BadInput("--hide-type: the table has no task types to hide")
    if options.hide_type and options.ignore_type:
        raise BadInput("--hide-type and --ignore-type: one of them")
    told = matrix.category if options.hide_type else None
    return matrix._replace(category=np.full(len(matrix.category), "")), inputs._replace(told=told)


def _shown(options: Options) -> str:
    """What the scored rows tell of their type."""
    return "hidden" if options.hide_type else "ignored" if options.ignore_type else "told"


def _demand(options: Options) -> None:
    """Refuse numbers that mean nothing, in one line."""
    for noise in options.check_noise:
        if not 0 <= noise <= 0.5:
            raise BadInput(f"--check-noise {noise}: an error rate between 0 and 0.5 is needed")
    if len(set(options.check_noise)) != len(options.check_noise) or not options.check_noise:
        raise BadInput("--check-noise: give each error rate once, and at least one")
    for name, usd in (("--check-usd", options.check_usd), ("--router-usd", options.router_usd)):
        if not (np.isfinite(usd) and usd >= 0):
            raise BadInput(f"{name} {usd}: USD, 0 or more, are needed")


def _settings(
    matrix: Matrix, inputs: Inputs, ways: list[list[predict.Split]], options: Options
) -> list[Setting]:
    """Fit every router in every part of every way to split, and put each way together.

    One fit per core, each on one thread: threads of one fit that wait for each other on busy cores spin.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    jobs = [(name, part) for parts in ways for part in parts for name in ROUTERS]
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    done: list[predict.FoldScores] = []
    with (
        threadpool_limits(limits=1),
        Progress("fitting routers", len(jobs)) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        for score in pool.map(lambda job: predict.fit_one(job[0], matrix, inputs, job[1]), jobs):
            done.append(score)
            progress.advance()
        believed = iter(_believed(pool, matrix, ways, options))
    scores = iter(done)
    settings = []
    for parts in ways:
        found: dict[str, list[predict.FoldScores]] = {name: [] for name in ROUTERS}
        for _ in parts:
            for name in ROUTERS:
                found[name].append(next(scores))
        mine = [next(believed) for _ in parts] if matrix.evidence else None
        settings.append(setting_of(matrix, parts, found, options, mine))
    return settings


def _believed(
    pool: ThreadPoolExecutor, matrix: Matrix, ways: list[list[predict.Split]], options: Options
) -> list[Beliefs]:
    """What evidence of runs tells, in every part of every way to split; nothing without evidence."""
    if matrix.evidence is None:
        return []
    parts = [part for of_way in ways for part in of_way]
    with Progress("fitting judges", len(parts)) as progress:
        found = []
        for belief in pool.map(lambda part: beliefs(matrix, part, options), parts):
            found.append(belief)
            progress.advance()
    return found
