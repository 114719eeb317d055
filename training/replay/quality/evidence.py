"""What the log knows of quality: who was chosen with which chance, what came of it, what shadow calls say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.diffs.verdicts import SAME_LEVELS
from features.names import candidate_name
from training.estimators.bandit import Bandit
from training.labels.resolve import SHADOW, compares, is_pair, named, shadowed
from training.log import LogStore
from training.replay.logged.arms import key_of
from training.replay.logged.lengths import types_of
from training.replay.quality.samples import chances

if TYPE_CHECKING:
    from pathlib import Path

    from training.replay.logged.arms import Arms
    from training.replay.logged.calls import Calls
    from training.replay.logged.plan import Slice

_SUM = 1e-6
_LOCKED = (pl.col("locks").list.len().fill_null(0) > 0).alias("locked")


class Decisions(NamedTuple):
    """What our own receipts say of the calls of a part; one row for each call that has one."""

    frame: pl.DataFrame  # row, chosen, reference, decide_ms, locked, arms (candidate and propensity)

    @property
    def named(self) -> set[str]:
        """Candidates that had a chance, or that were the reference."""
        found = set(self.frame["reference"].drop_nulls().unique())
        if len(self.frame):
            had = self.frame.select(pl.col("arms").explode(empty_as_null=True).struct.unnest())
            found |= set(had.filter(pl.col("propensity") > 0)["candidate"].drop_nulls().to_list())
        return found


class Evidence(NamedTuple):
    """All that quality is estimated from in a part of a log, and what is to be said of it."""

    bandit: Bandit
    kind: np.ndarray  # (n,) int, of the task
    decided: int  # calls with a receipt
    pairs_without_chance: int
    labels: np.ndarray  # (2, k): labels of each arm, and the sum of them
    # (n,) bool: decisions of chance 1 though nothing locked them: in no estimate, where others were drawn
    held: np.ndarray | None = None
    untold: np.ndarray | None = None  # (2,): pairs without a known outcome, and those of the same diff
    impossible: int = 0  # receipts whose chances don't sum to 1
    astray: int = 0  # pairs with a chance, though it can't be told of which sample


def read_decisions(part: Slice, calls: Calls) -> Decisions:
    """The receipts of the calls that are played; an empty frame where there are none."""
    rows = calls.frame.select("request_id").with_row_index("row")
    arm = pl.element().struct
    chances = pl.struct(arm.field("candidate"), arm.field("propensity"))
    scan = part.receipts(rows["request_id"]).select(
        "request_id", "chosen", "reference", "decide_ms", _LOCKED, pl.col("arms").list.eval(chances)
    )
    return Decisions(
        rows.lazy().join(scan.unique("request_id", keep="first"), on="request_id", how="inner").collect()
    )


def asked_again(log: Path) -> set[str]:
    """Candidates that shadow calls asked."""
    pairs = LogStore(log).scan("outcome").filter(is_pair(), pl.col("sampling_probability") > 0)
    found = pairs.select(pl.col("candidate").unique()).collect()["candidate"]
    return set(found.drop_nulls().to_list())


def evidence_of(
    part: Slice, calls: Calls, arms: Arms, decisions: Decisions, types: np.ndarray, *, samples: pl.DataFrame
) -> Evidence:
    """Put a part's chances, outcomes and shadow pairs into the estimators' columns.

    `types` and `samples` (of shadow calls) are the log's. Nobody is held yet: whether anything was drawn is
    known of the whole log.
    """
    k = len(arms.arms)
    propensity = np.full((calls.n, k), np.nan)
    locked, action, reward, impossible = calls.locked.copy(), arms.logged, calls.reward, 0
    if len(decisions.frame):
        rows = decisions.frame["row"].to_numpy()
        locked[rows] = decisions.frame["locked"].to_numpy()
        impossible = _chances(propensity, arms, decisions.frame)
        action, reward = _drawn(calls, arms, decisions.frame)
    taken = propensity[np.arange(calls.n), action]
    propensity[~(taken > 0)] = np.nan  # another arm answered than the receipt says: nothing is known of it
    pairs = _pairs(part, calls, arms, samples)
    session = calls.before + calls.session
    bandit = Bandit(arms.names, action, reward, propensity, session, locked, pairs.reward, pairs.chance)
    bandit = bandit._replace(silent=pairs.silent)
    known = np.isfinite(reward)
    labels = np.stack(
        [
            np.bincount(action[known], minlength=k),
            np.bincount(action[known], weights=reward[known], minlength=k),
        ]
    )
    kind = np.searchsorted(types, types_of(calls))
    told = Evidence(bandit, kind, len(decisions.frame), pairs.lost, labels, untold=pairs.untold)
    return told._replace(impossible=impossible, astray=pairs.astray)


def was_drawn(evidence: Evidence) -> bool:
    """Whether any decision without a lock had more than one arm."""
    log = evidence.bandit
    free = ~log.locked & np.isfinite(log.propensity).all(axis=1)
    return bool((free & ~_sure(log.propensity, log.action, free)).any())


def held_by(evidence: Evidence) -> Evidence:
    """The same where the log did draw: decisions that had one arm only are in no estimate.

    They are such as those of a session that keeps what it drew, and tell of no other arm. Where no decision
    was drawn at all, what shadow calls say stands.
    """
    log = evidence.bandit
    held = _sure(log.propensity, log.action, ~log.locked & np.isfinite(log.propensity).all(axis=1))
    return evidence._replace(bandit=log._replace(locked=log.locked | held), held=held)


def _sure(propensity: np.ndarray, logged: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Which of the free decisions (n,) had one arm only."""
    taken = np.nan_to_num(propensity[np.arange(len(logged)), logged])
    found: np.ndarray = free & (taken >= 1 - _SUM)
    return found


def _drawn(calls: Calls, arms: Arms, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Arms (n,) that were drawn, and what is known (n,) of how they did.

    Where another candidate answered, since the one decided on couldn't be reached, nothing is: the answer is
    the other's, whom nobody drew. Without such decisions those of an arm that fails often would seem rarer
    than they were.
    """
    names = {name: arms.find(name) for name in frame["chosen"].unique()}
    chosen = np.array([-1 if (i := names[name]) is None else i for name in frame["chosen"].to_list()])
    rows = frame["row"].to_numpy()
    replaced = (chosen >= 0) & (chosen != arms.logged[rows])
    action, reward = arms.logged.copy(), calls.reward.copy()
    action[rows[replaced]] = chosen[replaced]
    reward[rows[replaced]] = np.nan
    return action, reward


def _chances(propensity: np.ndarray, arms: Arms, frame: pl.DataFrame) -> int:
    """Write in the chances of every arm; rows whose chances don't sum to 1 over the arms stay unknown.

    Returned is how many receipts tell chances that no draw can have.
    """
    told = (
        frame.select("row", "arms")
        .explode("arms", empty_as_null=True)
        .unnest("arms")
        .filter(pl.col("propensity").is_not_null())
    )
    each = told.filter(pl.col("propensity") > 0)
    names = {name: arms.find(name) for name in each["candidate"].unique()}
    at = np.array(
        [-1 if (i := names[name]) is None else i for name in each["candidate"].to_list()], dtype=int
    )
    row, value = each["row"].to_numpy(), each["propensity"].to_numpy()
    sums = np.zeros(len(propensity))
    np.add.at(sums, row[at >= 0], value[at >= 0])
    whole = np.abs(sums - 1) <= _SUM
    propensity[whole] = 0.0
    keep = (at >= 0) & whole[row]
    np.add.at(propensity, (row[keep], at[keep]), value[keep])
    chance = pl.col("propensity")
    off = told.group_by("row").agg(off=~((chance.sum() - 1).abs() <= _SUM) | (chance < 0).any())["off"]
    return int(off.sum())


class _Pairs(NamedTuple):
    """Shadow calls in the estimators' columns; None where there are none."""

    reward: np.ndarray | None  # (n, k)
    chance: np.ndarray | None  # (n, k) one over the calls each speaks for
    silent: np.ndarray | None  # (n, k) bool: asked, and nothing is known of how good it was
    lost: int  # pairs that don't tell a chance in (0, 1]
    astray: int  # those that do, but not of which sample
    untold: np.ndarray  # (2,) silent ones, and those of them whose diff was the same


def _pairs(part: Slice, calls: Calls, arms: Arms, samples: pl.DataFrame) -> _Pairs:
    """Shadow calls by what is known of their answers.

    Only a verdict counts (tests, a score, a person's word): a diff that is the same is heard of only where it
    went right. By such rows alone every candidate would succeed, and beside failing tests they would outvote
    them: no mean of that is unbiased, however well it trains.
    """
    outcomes = part.outcomes(calls.frame).filter(is_pair())
    if outcomes.is_empty():
        return _Pairs(None, None, None, 0, 0, np.zeros(2, dtype=int))
    requests = calls.frame.select("request_id", "session_id", "task_id", "candidate").with_row_index("place_")
    told = shadowed(requests.drop("place_"), outcomes.filter(~compares()))
    told = told.filter(pl.col("target").is_not_null())
    found = (
        named(outcomes)
        .filter(pl.col("candidate") != pl.col("reference"))
        .group_by("request_id", "candidate")
        .agg(
            pl.col("sampling_probability").max(),
            asked=(pl.col("source") == SHADOW).any(),
            same=pl.col("level").is_in(SAME_LEVELS).any(),
        )
        .join(told.select("request_id", "candidate", "target"), on=["request_id", "candidate"], how="left")
        .filter(pl.col("target").is_not_null() | pl.col("asked"))
        .join(named(requests).select("place_", "request_id", own="candidate"), on="request_id", how="inner")
        .filter(pl.col("candidate").ne_missing(pl.col("own")))
        .sort("place_", "candidate")
    )
    at_all = found.filter((pl.col("sampling_probability") > 0) & (pl.col("sampling_probability") <= 1))
    counted = chances(
        outcomes, calls.frame.select("request_id", ts_ms=pl.lit(pl.Series(calls.ts_ms))), samples
    )
    drawn = at_all.join(counted, on=["request_id", "candidate"], how="left", maintain_order="left")
    drawn = drawn.filter(pl.col("chance").is_not_null())
    names = {name: arms.find(candidate_name(name)) for name in drawn["candidate"].unique()}
    at = np.array([-1 if (i := names[name]) is None else i for name in drawn["candidate"]], dtype=int)
    mine = at >= 0
    cell = drawn["place_"].to_numpy()[mine], at[mine]
    reward, chance = np.full((2, calls.n, len(arms.arms)), np.nan)
    reward[cell] = drawn["target"].to_numpy()[mine]
    chance[cell] = drawn["chance"].to_numpy()[mine]
    silent = np.isfinite(chance) & np.isnan(reward)
    quiet = found.filter(pl.col("target").is_null())
    untold = np.array([len(quiet), int(quiet["same"].sum())])
    rest = len(found) - len(at_all), len(at_all) - len(drawn), untold
    if np.isnan(reward).all():
        return _Pairs(None, None, silent if silent.any() else None, *rest)
    return _Pairs(reward, chance, silent, *rest)


def reference_of(calls: Calls, arms: Arms, decisions: Decisions, wanted: str | None, most: int) -> np.ndarray:
    """Whose answer is to be equalled (n,): as receipts say, else the arm `most` of the money went to."""
    if wanted is not None:
        return np.full(calls.n, arms.at(wanted, "--reference"))
    found = np.full(calls.n, most)
    if len(decisions.frame):
        said = {key_of(name): arms.find(name) for name in decisions.frame["reference"].drop_nulls().unique()}
        of_rows = [None if name is None else said[key_of(name)] for name in decisions.frame["reference"]]
        known = np.array([-1 if at is None else at for at in of_rows])
        rows = decisions.frame["row"].to_numpy()
        found[rows[known >= 0]] = known[known >= 0]
    return found
