"""Do certificates hold: on made-up groups whose harm is known, and on real ones.

    python tests/bench/bench_certify.py DATA [--part simulated|groups]... [--runs N]

    simulated  groups differ (beta-binomial): how often a certificate is given although the harm of new groups
               is above its level (at most 5 % allowed), and where it is far below
    groups     DATA, a folder of outcome matrices: heads from a third of the groups, bounds from another, and
               the harm of the last, whose own noise can only make the bounds look worse

Beside both Clopper-Pearson on rows as if they were independent.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from bench_calibration import BFCL, BFCL_NEW, CRB, CRB_NEW, OPEN, loaded

from training.certify import LEVELS, TAUS, Routed, certify, routed_rows
from training.examples import Knobs
from training.fit import fit_success
from training.shadow.sampling import clopper_pearson

if TYPE_CHECKING:
    from models.certificate import Certificate, Risk, Tried

TAIL = 0.05 / len(TAUS)
SPLITS = 20


def simulated(runs: int) -> None:
    """Print how often a certificate is given where the harm of new groups is above its level, and below."""
    level = LEVELS["worse_if_cheap"]
    for groups in (6, 12, 40, 150):
        for rho in (0.0, 0.05, 0.1, 0.3):
            given = []
            for harm in (level + 1e-4, level / 2, level / 10):
                rng = np.random.default_rng(0)
                given.append(np.mean([_given(rng, groups, rho, harm) for _ in range(runs)], axis=0))
            above, half, tenth = given
            print(
                f"{groups:4d} groups, correlation {rho:4.2f}: harm at the level certified {above[0]:.1%} "
                f"(rows as independent {above[1]:.1%}); at half of it {half[0]:.0%} ({half[1]:.0%}), "
                f"at a tenth {tenth[0]:.0%} ({tenth[1]:.0%})",
                flush=True,
            )


def _given(rng: np.random.Generator, groups: int, rho: float, harm: float) -> tuple[bool, bool]:
    """Whether a certificate is given: ours, and Clopper-Pearson's on rows."""
    size = rng.integers(10, 80, groups)
    group = np.repeat(np.arange(groups), size)
    chance = np.full(groups, harm)
    if rho:
        chance = rng.beta(harm * (1 - rho) / rho, (1 - harm) * (1 - rho) / rho, groups)
    worse = rng.random(len(group)) < chance[group]
    p = np.stack([rng.uniform(0.4, 1.0, len(group)), np.full(len(group), 0.9)], axis=1)
    success = np.stack([1.0 - worse, np.ones(len(group))], axis=1)
    rows = Routed(("cheap", "dear"), 1, p, success, group.astype(str))
    ours = certify(rows, "worse_if_cheap").tau is not None
    return ours, any(_naive(worse[p[:, 0] >= tau]) <= LEVELS["worse_if_cheap"] for tau in TAUS)


def _naive(worse: np.ndarray) -> float:
    """Clopper-Pearson's upper end as if rows were independent, Bonferroni over the grid."""
    return clopper_pearson(float(worse.sum()), len(worse), 1 - 2 * TAIL)[1] if len(worse) else 1.0


class Seen(NamedTuple):
    """What came of one risk over all splits."""

    ours: list[bool]  # of each threshold and split: whether the bound held on other groups
    independent: list[bool]  # the same of a bound on rows
    kept: list[bool]  # of each certificate: whether the harm on other groups was within its level
    routed: list[float]  # share routed cheap under each
    least: list[float]  # lowest bound of each split


def real_groups(data: Path) -> None:
    """Print how often bounds from some groups hold on others."""
    for one in (CRB, CRB_NEW, BFCL, BFCL_NEW, OPEN):
        found = loaded(data, one)
        names = np.unique(found.rows.group)
        seen: dict[Risk, Seen] = {risk: Seen([], [], [], [], []) for risk in LEVELS}
        for seed in range(SPLITS):
            part = np.random.default_rng(seed).permutation(len(names)) % 3
            of = part[np.searchsorted(names, found.rows.group)]
            heads = fit_success(found.rows.some(of == 0), Knobs(trees=()))
            older = found.rows.some(of == 0)
            pair = [routed_rows(heads, older, found.rows.some(of == k), found.task[of == k]) for k in (1, 2)]
            if pair[0] is None or pair[1] is None:
                continue
            for risk, kept in seen.items():
                _compare(certify(pair[0], risk), certify(pair[1], risk), kept)
        for risk, kept in seen.items():
            print(f"{one.name}, {risk}: {_said(kept, LEVELS[risk])}", flush=True)


def _compare(mine: Certificate, other: Certificate, seen: Seen) -> None:
    """Hold the bounds of a certificate against the harm of other groups."""
    for ours, theirs in zip(mine.grid, other.grid, strict=True):
        harm = _harm(theirs, mine.risk)
        if ours.known and harm is not None:
            seen.ours.append(harm <= ours.bound)
            rows = ours.requests if mine.risk == "worse_of_all" else ours.known
            seen.independent.append(harm <= clopper_pearson(ours.worse, rows, 1 - 2 * TAIL)[1])
        if ours.tau == mine.tau:
            seen.kept.append((harm or 0.0) <= mine.level)
            seen.routed.append(theirs.cheap / theirs.requests)
    seen.least.append(min((tried.bound for tried in mine.grid if tried.known), default=1.0))


def _harm(tried: Tried, risk: Risk) -> float | None:
    rows = tried.requests if risk == "worse_of_all" else tried.known
    return tried.worse / rows if tried.known else None


def _said(seen: Seen, level: float) -> str:
    routed = f", {np.mean(seen.routed):.0%} routed cheap" if seen.routed else ""
    return (
        f"bounds hold on other groups {np.mean(seen.ours):.1%} of {len(seen.ours)} (rows as independent "
        f"{np.mean(seen.independent):.1%}); certified in {len(seen.kept)} of {len(seen.least)}, harm there "
        f"within the level in {sum(seen.kept)}{routed}; median least bound {np.median(seen.least):.3f} "
        f"for {level:g}"
    )


def main() -> None:
    """Print the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--part", action="append", choices=("simulated", "groups"))
    parser.add_argument("--runs", type=int, default=400)
    asked = parser.parse_args()
    for part in asked.part or ("simulated", "groups"):
        print(f"# {part}", flush=True)
        if part == "simulated":
            simulated(asked.runs)
        else:
            real_groups(asked.data)


if __name__ == "__main__":
    main()
