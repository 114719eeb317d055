"""A model nobody has seen: what its descriptor tells of it, and how fast its first outcomes earn the saving.

Run as: python tests/bench/bench_coldstart.py DATA [--sets a,b] [--draws 10] [--scores]

DATA is a folder with the public outcome sets named below; a set that isn't there is said to be missing.
`--scores` prints the rows of models/descriptors.toml, from sets whose licence lets derived figures ship.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from msgspec.structs import replace

from features.names import candidate_name
from router.describe import descriptor_of
from training.coldstart import NS, Matrix, Saved, Way, savings, unseen
from training.dataset import price_pair

if TYPE_CHECKING:
    from models.descriptors import Descriptor

STRENGTH = 16.0  # of the tables without outcomes; from 4 to 64 the figures move in the third digit
MODELS = 26  # held out for the savings where a set has more, evenly over the names
BROKEN = ("gpt-4o-2024-08-06", "mistral-large-2407")  # prompt-mode runs of bfcl that can't be decoded
WAYS = (Way(), Way(paired=True), Way(plain=True))


def _bfcl(d: pl.DataFrame) -> pl.DataFrame:
    kept = d.filter(pl.col("price_in").is_not_null() & ~pl.col("model").is_in(BROKEN))
    prices = "price_in", "price_out"
    return kept.select("task_id", "model", "success", "cost_usd", *prices, type="category", group="task_id")


def _openhands(d: pl.DataFrame) -> pl.DataFrame:
    run = d.filter(pl.col("success").is_not_null()).with_columns(type="benchmark", group="repo")
    means = [pl.col("success", "cost_usd").mean(), pl.col("price_in", "price_out", "release_date").first()]
    return run.group_by("task_id", "model", "type", "group", maintain_order=True).agg(means)


def _livecodebench(d: pl.DataFrame) -> pl.DataFrame:
    kind = pl.concat_str("scenario", pl.lit(" "), pl.col("difficulty").fill_null(""))
    kept = d.filter(pl.col("scenario").is_in(["testgen", "execution"]))
    return kept.select("task_id", "model", "success", type=kind, group="task_id")


def _rails(d: pl.DataFrame) -> pl.DataFrame:
    name = pl.col("model").str.replace(r"^v2_", "").str.replace(r"\..*$", "")
    effort = name.str.extract(r"_(high|low|medium|xhigh|max)$")
    plain = name.str.replace(r"_(high|low|medium|xhigh|agy|cli)$", "").str.replace_all("_", "-")
    dotted = plain.str.replace(r"(\d)-(\d{1,2})(?:-|$)", "$1.$2-").str.strip_chars_end("-")
    scored = d.filter(pl.col("score_v2").is_not_null()).with_columns(
        model=pl.when(effort.is_not_null()).then(dotted + "@" + effort).otherwise(dotted),
        success=pl.col("score_v2") / 100,
    )
    one = scored.group_by("model", maintain_order=True).agg(pl.col("success", "cost_usd").mean())
    return one.with_columns(type=pl.lit("app"), group="model", task_id=pl.lit("app"))


def _coderouterbench(d: pl.DataFrame) -> pl.DataFrame:
    return d.select("task_id", "model", "success", "cost_usd", type="dimension", group="task_id")


def _ulab(d: pl.DataFrame) -> pl.DataFrame:
    return d.select("task_id", "model", "success", type="task_name", group="task_id")


SETS = {
    "coderouterbench_id": _coderouterbench,
    "bfcl_2024_08": _bfcl,
    "openhands_swe_swt": _openhands,
    "ulab_llmrouter_9models": _ulab,
    "livecodebench": _livecodebench,
    "rails_app_benchmark_runs": _rails,
}
SCORES = {"julia_llm_leaderboard": "julia"}  # set -> its name among the scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--scores", action="store_true")
    given = parser.parse_args()
    if given.scores:
        scores(given.data)
        return
    for name in given.sets.split(","):
        file = given.data / f"{name}.parquet"
        if not file.exists():
            print(f"{name}: missing")
            continue
        began = time.perf_counter()
        matrix = load(SETS[name](pl.read_parquet(file)))
        print(f"\n## {name}: {len(matrix.candidates)} models, {len(matrix.task_types)} types", flush=True)
        before(matrix)
        if np.isfinite(matrix.cost_usd).any() and len(matrix.success) > 1000:
            after(matrix, given.draws)
        print(f"({time.perf_counter() - began:.0f} s)")


def load(d: pl.DataFrame) -> Matrix:
    """Outcomes of a set as codes, with descriptors."""
    d = d.drop_nulls(["success", "type"])
    models, types = (tuple(d[c].unique().sort().to_list()) for c in ("model", "type"))
    once = d.unique("model", keep="first", maintain_order=True)
    first = {row["model"]: row for row in once.iter_rows(named=True)}
    tasks = d.select(pl.concat_str("task_id", "type", separator="\x00")).to_series()
    return Matrix(
        candidate=np.searchsorted(models, d["model"].to_numpy()),
        task_type=np.searchsorted(types, d["type"].to_numpy()),
        task=np.unique(tasks.to_numpy(), return_inverse=True)[1],
        group=d["group"].to_numpy(),
        success=d["success"].to_numpy().astype(np.float64),
        cost_usd=(d["cost_usd"] if "cost_usd" in d.columns else pl.Series([None] * len(d), dtype=pl.Float64))
        .fill_null(float("nan"))
        .to_numpy(),
        candidates=models,
        task_types=types,
        descriptors=tuple(_descriptor(first[m]) for m in models),
    )


def _descriptor(row: dict[str, object]) -> Descriptor:
    given = row.get("price_in"), row.get("price_out")
    model = str(row["model"])
    said = descriptor_of(model, given if None not in given else price_pair(model), None)
    if row.get("release_date"):
        said = replace(said, released=date.fromisoformat(str(row["release_date"])))
    return said


def before(matrix: Matrix) -> None:
    """Held-out models without any outcome, by each control."""
    guesses = unseen(matrix, STRENGTH, min_rows=20 if len(matrix.success) > 1000 else 1)
    flat = np.array([g.loss for g in guesses if g.control == "flat"])
    print(
        "no outcome     log-loss        against flat, 95 %      |error|   bias  in 90 %: effect, cells; width"
    )
    for control in dict.fromkeys(g.control for g in guesses):
        mine = [g for g in guesses if g.control == control]
        loss, error = np.array([g.loss for g in mine]), np.array([g.effect - g.actual for g in mine])
        low, high = interval(loss - flat)
        line = f"{control:12} {loss.mean():9.4f} {(loss - flat).mean():+8.4f} ({low:+.4f} to {high:+.4f})"
        line += f" {np.abs(error).mean():8.3f} {error.mean():+7.3f}"
        if control == "descriptor":
            inside, of = (sum(g.cells_inside[i] for g in mine) for i in (0, 1))
            line += f"  {np.mean([g.effect_inside for g in mine]):.2f}, {inside / of:.2f} of {of:.0f}"
            line += f"; {np.nanmean([g.width for g in mine]):.2f}"
        print(line)


def after(matrix: Matrix, draws: int) -> None:
    """Held-out models with n outcomes: loss, and saving as a share of what all their outcomes earn."""
    held = np.unique(np.linspace(0, len(matrix.candidates) - 1, MODELS).astype(int))
    found = [s for m in held for draw in range(draws) for s in savings(matrix, int(m), draw, WAYS)]
    full = sum(s.alone for s in found if s.n is None and s.plan == "random") / (len(held) * draws)
    print(f"with all outcomes of {len(held)} models: {full:+.1%} of the reference's bill beside it alone")
    print("    n outcomes                  log-loss  share of saving, 95 %    guarded   of the pool's, 95 %")
    alls = [s for s in found if s.plan == "random" and s.n is None]
    for way in dict.fromkeys(s.plan for s in found):
        for n in NS:
            mine = [s for s in found if s.plan == way and s.n == n]
            share, low, high = ratio(mine, alls, lambda s: s.alone)
            guard = ratio(mine, alls, lambda s: s.alone_guarded, lambda s: s.alone)[0]
            pool, pool_low, pool_high = ratio(mine, alls, lambda s: s.pool)
            print(
                f"{'all' if n is None else n:>5} {way:24} {np.mean([s.loss for s in mine]):7.4f} "
                f"{share:8.1%} ({low:.0%} to {high:.0%}) {guard:12.1%} "
                f"{pool:10.1%} ({pool_low:.1%} to {pool_high:.1%})",
                flush=True,
            )
    without = sum(s.without for s in alls) / sum(s.pool for s in alls)
    print(f"the pool without the new model makes {without:.1%} of what it makes with it")


def ratio(mine: list[Saved], alls: list[Saved], value, base=None) -> tuple[float, float, float]:
    """Ratio of sums, with its 95 % interval by 2,000 bootstrap draws over models and the splits of each."""
    base = base or value
    top, bottom = np.array([value(s) for s in mine]), np.array([base(s) for s in alls])
    names = np.unique([s.candidate for s in mine], return_inverse=True)[1]
    rng = np.random.default_rng(0)
    by = [np.flatnonzero(names == i) for i in range(names.max() + 1)]
    several = []
    for _ in range(2000):
        rows = np.concatenate([rng.choice(by[i], len(by[i])) for i in rng.integers(0, len(by), len(by))])
        several.append(top[rows].sum() / bottom[rows].sum() if bottom[rows].sum() > 0 else np.nan)
    return float(top.sum() / bottom.sum()), *(float(v) for v in np.nanquantile(several, (0.025, 0.975)))


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over models."""
    picks = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def scores(data: Path) -> None:
    """Log-odds of mean success by model on the sets whose derived figures may ship."""
    for file, name in SCORES.items():
        d = pl.read_parquet(data / f"{file}.parquet").drop_nulls("success")
        d = d.filter(~pl.col("model").str.contains("--optim|:|latest"))  # tuned, quantised and moving ones
        named = d.with_columns(model=pl.col("model").map_elements(candidate_name, return_dtype=pl.String))
        means = named.group_by("model").agg(pl.col("success").mean(), rows=pl.len())
        for model, p, _ in (
            means.filter((pl.col("rows") >= 100) & (pl.col("success") > 0)).sort("model").iter_rows()
        ):
            print(f'[models."{model}"]\nscores = {{ {name} = {np.log(p / (1 - p)):.2f} }}\n')


if __name__ == "__main__":
    main()
