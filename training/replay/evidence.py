"""What the log knows of quality: who was chosen with which chance, what came of it, what shadow calls say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.names import candidate_name
from training.estimators.bandit import Bandit
from training.labels.resolve import is_pair, named, shadowed
from training.log import LogStore
from training.replay.arms import key_of

if TYPE_CHECKING:
    from pathlib import Path

    from training.replay.arms import Arms
    from training.replay.book import Book

_SUM = 1e-6
_LOCKED = (pl.col("locks").list.len().fill_null(0) > 0).alias("locked")


class Decisions(NamedTuple):
    """What our own receipts say of the calls; one row for each call that has one."""

    frame: pl.DataFrame  # row, reference, decide_ms, locked, arms (candidate and propensity)
    named: tuple[str, ...]  # candidates that had a chance, or were asked by shadow calls


class Evidence(NamedTuple):
    """All that quality is estimated from, and what is to be said of it."""

    bandit: Bandit
    kind: np.ndarray  # (n,) int, of the task
    decided: int  # calls with a receipt
    pairs_without_chance: int
    by_arm: dict[str, tuple[float, int]]  # success and labels of each arm, as they are: no comparison
    held: int = 0  # decisions of chance 1 though nothing locked them: in no estimate, where others were drawn


def read_decisions(log: Path, book: Book) -> Decisions:
    """The receipts of the calls that are played; an empty frame where there are none."""
    rows = book.frame.select("request_id").with_row_index("row")
    arm = pl.element().struct
    chances = pl.struct(arm.field("candidate"), arm.field("propensity"))
    scan = (
        LogStore(log)
        .scan("decision")
        .select("request_id", "reference", "decide_ms", _LOCKED, pl.col("arms").list.eval(chances))
    )
    found = rows.lazy().join(scan.unique("request_id", keep="first"), on="request_id", how="inner").collect()
    had = found.select(pl.col("arms").explode(empty_as_null=True).struct.unnest()) if len(found) else None
    chance = set() if had is None else set(had.filter(pl.col("propensity") > 0)["candidate"].to_list())
    told = (*chance, *found["reference"].drop_nulls().unique(), *_asked_again(log))
    wanted = {name for name in told if name is not None}
    return Decisions(found, tuple(sorted(wanted)))


def _asked_again(log: Path) -> list[str]:
    """Candidates that shadow calls asked."""
    pairs = LogStore(log).scan("outcome").filter(is_pair(), pl.col("sampling_probability") > 0)
    found: list[str] = pairs.select(pl.col("candidate").unique()).collect()["candidate"].to_list()
    return found


def evidence_of(log: Path, book: Book, arms: Arms, decisions: Decisions) -> Evidence:
    """Put the log's chances, outcomes and shadow pairs into the estimators' columns."""
    k = len(arms.arms)
    propensity = np.full((book.n, k), np.nan)
    locked = book.locked.copy()
    if len(decisions.frame):
        rows = decisions.frame["row"].to_numpy()
        locked[rows] = decisions.frame["locked"].to_numpy()
        _chances(propensity, arms, decisions.frame)
    taken = propensity[np.arange(book.n), arms.logged]
    propensity[~(taken > 0)] = np.nan  # another arm answered than the receipt says: nothing is known of it
    held = _held(propensity, arms.logged, locked)
    locked |= held
    paired, chance, lost = _pairs(log, book, arms)
    bandit = Bandit(arms.names, arms.logged, book.reward, propensity, book.session, locked, paired, chance)
    types = book.frame["task_type"].fill_null("").to_numpy()
    known = np.isfinite(book.reward)
    count = np.bincount(arms.logged[known], minlength=k)
    total = np.bincount(arms.logged[known], weights=book.reward[known], minlength=k)
    by_arm = {
        name: (float(total[i] / count[i]), int(count[i])) for i, name in enumerate(arms.names) if count[i]
    }
    kind = np.unique(types, return_inverse=True)[1]
    return Evidence(bandit, kind, len(decisions.frame), lost, by_arm, int(held.sum()))


def _held(propensity: np.ndarray, logged: np.ndarray, locked: np.ndarray) -> np.ndarray:
    """Decisions (n,) that had one arm only, such as those of a session that keeps what it drew.

    They tell of no other arm. None where no decision was drawn at all: what shadow calls say then stands.
    """
    free = ~locked & np.isfinite(propensity).all(axis=1)
    sure = free & (propensity[np.arange(len(logged)), logged] >= 1 - _SUM)
    return sure if (free & ~sure).any() else np.zeros_like(sure)


def _chances(propensity: np.ndarray, arms: Arms, frame: pl.DataFrame) -> None:
    """Write in the chances of every arm; rows whose chances don't sum to 1 over the arms stay unknown."""
    each = (
        frame.select("row", "arms")
        .explode("arms", empty_as_null=True)
        .unnest("arms")
        .filter(pl.col("propensity") > 0)
    )
    names = {name: arms.find(name) for name in each["candidate"].unique()}
    at = np.array([-1 if (i := names[name]) is None else i for name in each["candidate"].to_list()])
    row, value = each["row"].to_numpy(), each["propensity"].to_numpy()
    sums = np.zeros(len(propensity))
    np.add.at(sums, row[at >= 0], value[at >= 0])
    whole = np.abs(sums - 1) <= _SUM
    propensity[whole] = 0.0
    keep = (at >= 0) & whole[row]
    np.add.at(propensity, (row[keep], at[keep]), value[keep])


def _pairs(log: Path, book: Book, arms: Arms) -> tuple[np.ndarray | None, np.ndarray | None, int]:
    """Rewards (n, k) of shadow calls, their chances (n, k) of being asked, and how many pairs have none."""
    outcomes = LogStore(log).scan("outcome").filter(is_pair()).collect()
    if outcomes.is_empty():
        return None, None, 0
    requests = book.frame.select("request_id", "session_id", "task_id", "candidate").with_row_index("place_")
    found = shadowed(requests.drop("place_"), outcomes).filter(pl.col("target").is_not_null())
    asked = named(outcomes).group_by("request_id", "candidate").agg(pl.col("sampling_probability").max())
    found = found.join(asked, on=["request_id", "candidate"], how="left")
    lost = int((found["sampling_probability"].fill_null(0.0) <= 0).sum())
    found = found.filter(pl.col("sampling_probability") > 0)
    found = found.join(requests.select("place_", "request_id"), on="request_id", how="inner")
    at = [arms.find(candidate_name(name)) for name in found["candidate"].to_list()]
    paired, chance = np.full((book.n, len(arms.arms)), np.nan), np.full((book.n, len(arms.arms)), np.nan)
    for row, arm, value, share in zip(
        found["place_"], at, found["target"], found["sampling_probability"], strict=True
    ):
        if arm is not None:
            paired[row, arm], chance[row, arm] = value, share
    return (None, None, lost) if np.isnan(paired).all() else (paired, chance, lost)


def reference_of(
    book: Book, arms: Arms, decisions: Decisions, wanted: str | None, listed: np.ndarray
) -> np.ndarray:
    """Whose answer is to be equalled (n,): as receipts say, else what most of the money went to.

    `listed` is what each call (n,) would cost by list price.
    """
    if wanted is not None:
        return np.full(book.n, arms.at(wanted, "--reference"))
    most = int(np.bincount(arms.logged, weights=np.nan_to_num(listed)).argmax())
    found = np.full(book.n, most)
    if len(decisions.frame):
        said = {key_of(name): arms.find(name) for name in decisions.frame["reference"].drop_nulls().unique()}
        of_rows = [None if name is None else said[key_of(name)] for name in decisions.frame["reference"]]
        known = np.array([-1 if at is None else at for at in of_rows])
        rows = decisions.frame["row"].to_numpy()
        found[rows[known >= 0]] = known[known >= 0]
    return found
