"""Output and reasoning tokens, calls and turns left: how well they are foreseen and whether their sums hold.

    python tests/bench/bench_amounts.py LOG [LOG ...]     canonical logs, made by `samediff ingest`

Five outer folds by session (a sub-agent belongs to its session): heads are fitted on four and predict the
fifth. Printed for each amount: the share of log amounts explained within candidates beside the candidate's
mean (fitted inside), whether the mean was taken instead, and predicted over actual sums on the scored
folds, with and without the ratio that corrects exp(log prediction).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from features.vector import featurize_frame
from training.dataset import candidates_of, price_pair, whole_output
from training.examples import Examples, Knobs, assign_folds
from training.fit import fit_amount
from training.log import LogStore
from training.sessions import left

KNOBS = Knobs(num_threads=1)


def examples_of(logs: list[Path]) -> tuple[Examples, dict[str, np.ndarray], int]:
    """Every request with a candidate, the amounts (n,) of each, and how many requests are censored."""
    frames = [LogStore(log).scan("request").collect() for log in logs]
    requests: pl.DataFrame = pl.concat(frames, how="diagonal_relaxed")
    to_come = left(requests)
    rows = requests.with_columns(
        whole_output(), candidate=candidates_of(requests), calls_left=to_come.calls, turns_left=to_come.turns
    ).filter(pl.col("candidate").is_not_null())
    names = ("output_tokens", "reasoning_tokens", "calls_left", "turns_left")
    amounts = {n: rows[n].cast(pl.Float64).fill_null(float("nan")).to_numpy() for n in names}
    session = rows.select(pl.coalesce("parent_session_id", "session_id"))["parent_session_id"]
    examples = Examples(
        features=featurize_frame(rows, embedding=None),
        candidate=rows["candidate"].to_numpy(),
        task_type=rows["task_type"].fill_null("").to_numpy(),
        success=np.full(len(rows), np.nan),
        output_tokens=amounts["output_tokens"],
        group=session.to_numpy(),
        prices={c: price_pair(c) for c in rows["candidate"].unique()},
    )
    return examples, amounts, to_come.censored


def measured(examples: Examples, amount: np.ndarray) -> str:
    """Score one amount out of fold."""
    known = np.isfinite(amount)
    if known.sum() < 50:
        return f"{int(known.sum())} rows: too few"
    examples, amount = examples.some(known), amount[known]
    fold = assign_folds(examples.group, 5, 0)
    corrected, plain, r2, by_mean = np.zeros(len(amount)), np.zeros(len(amount)), [], 0
    for f in range(int(fold.max()) + 1):
        inside, outside = examples.some(fold != f), examples.some(fold == f)
        head = fit_amount(inside, amount[fold != f], KNOBS)
        if head is None:
            continue
        rows = fold == f
        corrected[rows] = head.predict(outside.features, outside.candidate, outside.task_type)
        plain[rows] = corrected[rows] / np.maximum(head.ratios(outside.candidate), 1e-9)
        r2.append(head.metrics["r2_within_candidate"])
        by_mean += int(head.metrics["by_mean"])
    sums = corrected.sum() / amount.sum(), plain.sum() / amount.sum()
    return (
        f"{len(amount)} rows, {len(np.unique(examples.group))} sessions, mean {amount.mean():.1f}: R² within "
        f"candidates {min(r2):.2f} to {max(r2):.2f}, by the mean in {by_mean} of {len(r2)} folds; predicted "
        f"over actual sum {sums[0]:.2f}, without the ratio {sums[1]:.2f}"
    )


def main() -> None:
    """Print a line for each amount."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log", nargs="+", type=Path)
    examples, amounts, censored = examples_of(parser.parse_args().log)
    print(f"{len(examples.candidate)} requests; sessions that may have run on: {censored} requests")
    for name, amount in amounts.items():
        print(f"{name}: {measured(examples, amount)}")


if __name__ == "__main__":
    main()
