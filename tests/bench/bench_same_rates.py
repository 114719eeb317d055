"""How often two answers are the same diff, by language, between models and reruns: FINDINGS, Same diff.

    python tests/bench/bench_same_rates.py REPEATS.parquet JAVA.parquet ANSWERS.parquet SCORES.parquet

REPEATS: task_id, run, model, harness, patch, success (reruns of one model, Python). JAVA: task_id, model,
patch, success. ANSWERS and SCORES: task_id, prompt_label, model, timestamp with answer and success (Julia,
whole functions). Intervals are over tasks: pairs of one task aren't independent.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from features.diffs.verdicts import ORDER as LEVELS  # noqa: E402
from features.diffs.verdicts import SAME_LEVELS as SAME  # noqa: E402
from training.judge.bulk import judge_pair  # noqa: E402

OUTCOMES = ("both succeed", "both fail", "one of each")
DRAWS, SEED = 2_000, 0
PAIRS_A_TASK = 600  # of the Julia answers, drawn at random: a task has tens of thousands
FENCE = re.compile(r"```(?:julia|jl)?[ \t]*\n(.*?)```", re.DOTALL)


class Case(NamedTuple):
    """Two answers to one task."""

    task: str
    outcome: str
    a: str
    b: str


def outcome(x: float | None, y: float | None) -> str | None:
    """What became of both; None where either isn't known to have wholly succeeded or failed."""
    if x not in (0.0, 1.0) or y not in (0.0, 1.0):
        return None
    return OUTCOMES[2] if x != y else OUTCOMES[0] if x else OUTCOMES[1]


def cases(rows: list[dict[str, Any]], by: tuple[str, ...], most: int | None = None) -> list[Case]:
    """All pairs of rows that agree in task and in the columns `by`; at most `most` a task."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(str(row[key]) for key in ("task_id", *by))].append(row)
    found: dict[str, list[Case]] = defaultdict(list)
    for (task, *_), group in groups.items():
        for one, other in itertools.combinations(group, 2):
            said = outcome(one["success"], other["success"])
            if said is not None:
                found[task].append(Case(task, said, one["patch"], other["patch"]))
    rng = np.random.default_rng(SEED)
    if most is not None:
        found = {t: [c[i] for i in rng.permutation(len(c))[:most]] for t, c in found.items()}
    return [case for group in found.values() for case in group]


def level(case: Case) -> str:
    """The level of one pair."""
    return judge_pair(case.a, case.b).level


def share(hits: dict[str, int], total: dict[str, int]) -> str:
    """A share of pairs with its 95 % interval: bootstrap over tasks, Clopper-Pearson where it is 0 or 1."""
    from scipy.stats import beta

    tasks = sorted(total)
    x, n = np.array([hits[t] for t in tasks]), np.array([total[t] for t in tasks])
    if not n.sum():
        return "no pairs"
    draw = np.random.default_rng(SEED).integers(0, len(tasks), (DRAWS, len(tasks)))
    low, high = np.quantile(x[draw].sum(axis=1) / np.maximum(n[draw].sum(axis=1), 1), (0.025, 0.975))
    kind = "tasks"
    if x.sum() in (0, n.sum()):  # no draw differs: as if each task were one pair
        k = int(np.count_nonzero(x))
        low = beta.ppf(0.025, k, len(tasks) - k + 1) if k else 0.0
        high = beta.ppf(0.975, k + 1, len(tasks) - k) if k < len(tasks) else 1.0
        kind = "Clopper-Pearson, one pair a task"
    return f"{x.sum() / n.sum():.1%} [{low:.1%}, {high:.1%}] ({x.sum():,}/{n.sum():,}; {len(tasks)} {kind})"


def report(name: str, found: list[Case]) -> None:
    """Print the base rates of one set of pairs."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        levels = list(pool.map(level, found, chunksize=64))
    print(f"\n{name}: {len(found):,} pairs on {len({c.task for c in found})} tasks")
    for said in (*OUTCOMES, "all"):
        hits: dict[str, int] = defaultdict(int)
        total: dict[str, int] = defaultdict(int)
        counts: Counter[str] = Counter()
        for case, got in zip(found, levels, strict=True):
            if said in ("all", case.outcome):
                total[case.task] += 1
                hits[case.task] += got in SAME
                counts[got] += 1
        every = sum(counts.values())
        if every:
            parts = ", ".join(f"{x} {counts[x] / every:.1%}" for x in LEVELS)
            print(f"  {said}: same {share(hits, total)}; {parts}")
    agree: dict[str, int] = defaultdict(int)
    same: dict[str, int] = defaultdict(int)
    for case, got in zip(found, levels, strict=True):
        if got in SAME:
            same[case.task] += 1
            agree[case.task] += case.outcome != OUTCOMES[2]
    print(f"  P(same outcome | same diff) {share(agree, same)}")


def patched(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that hold a patch at all."""
    return [row for row in rows if row["patch"] and row["patch"].strip()]


def julia(answers: Any, scores: Any) -> list[dict[str, Any]]:
    """Answers with one fenced block of code, as a patch that writes one file."""
    keys = ["task_id", "prompt_label", "model", "timestamp"]
    rows = (
        answers.join(scores.select(*keys, "success").unique(keys, keep="first", maintain_order=True), on=keys)
        .sort(answers.columns)
        .to_dicts()
    )
    for row in rows:
        blocks = FENCE.findall(row["answer"] or "")
        row["patch"] = whole_file(blocks[0]) if len(blocks) == 1 else ""
    return patched(rows)


def whole_file(code: str) -> str:
    """A unified diff that creates `answer.jl`."""
    lines = code.rstrip("\n").split("\n")
    head = "diff --git a/answer.jl b/answer.jl\nnew file mode 100644\n--- /dev/null\n+++ b/answer.jl\n"
    return f"{head}@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)


def main() -> None:
    """Print all reports."""
    import polars as pl

    parser = argparse.ArgumentParser()
    for name in ("repeats", "java", "answers", "scores"):
        parser.add_argument(name, type=pl.read_parquet)
    repeats, java, answers, scores = vars(parser.parse_args()).values()
    rows = patched(repeats.filter(pl.col("harness").is_in(["AutoCodeRover", "SWE-agent"])).to_dicts())
    for harness in ("AutoCodeRover", "SWE-agent"):
        mine = [row for row in rows if row["harness"] == harness]
        report(f"Python, reruns of one model, {harness}", cases(mine, ("model",)))
    report("Java, between models, one agent", cases(patched(java.to_dicts()), ()))
    written = julia(answers, scores)
    report("Julia, reruns of one model and prompt", cases(written, ("model", "prompt_label"), PAIRS_A_TASK))
    report("Julia, any two answers to one prompt", cases(written, ("prompt_label",), PAIRS_A_TASK))


if __name__ == "__main__":
    main()
