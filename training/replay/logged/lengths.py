"""How long prompts and answers are on every candidate, by the log or the bundle; how far that may be off."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy.special import stdtrit

from features.context import model_family
from features.names import candidate_name
from router.outlook import GROWTH_TOKENS
from training.labels.resolve import SHADOW
from training.log import LogStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from training.replay.logged.arms import Arms
    from training.replay.logged.beliefs import Beliefs
    from training.replay.logged.calls import Calls

MIN_CALLS = 30  # of a candidate in the log, before the lengths of its answers speak for it
EARLY, ROUNDS = 6, 20  # turns told apart at the beginning of a session; rounds of fitting
HOW = ("the bundle", "their answers in the log", "their shadow answers", "as long as logged")
RATIOS = (0.1, 10.0)  # of two candidates' answers; what lies beyond is no belief
# Spread (of logarithms) of how wordy candidates are beside what is believed of them, and how many candidates
# that guess counts as; the log's own served candidates outvote it.
GUESSED, GUESSES = 0.5, 2
_Z = 1.959964
_SHADOWED = r"^shadow/[^/]+/(.+)$"  # the session of a shadow call names the request that was asked again


class Sizes(NamedTuple):
    """Sums over a log's calls that tell how long prompts and answers are: f families, k arms, m kinds.

    A kind of calls is the type of task, whether they answer a tool loop, and how early in the session.
    """

    families: np.ndarray  # (3, f): calls whose bytes are known, those bytes, and their tokens
    calls: np.ndarray  # (k, m)
    output: np.ndarray  # (k, m) tokens
    square: np.ndarray  # (k, m) tokens²
    asked: np.ndarray  # (k,) how many of the calls were shadow calls
    types: np.ndarray  # names of the task types, sorted

    def plus(self, other: Sizes) -> Sizes:
        """The sums of both."""
        return self._replace(
            families=self.families + other.families,
            calls=self.calls + other.calls,
            output=self.output + other.output,
            square=self.square + other.square,
            asked=self.asked + other.asked,
        )


def types_of(calls: Calls) -> np.ndarray:
    """Task type (n,) of every call, "" unknown."""
    found: np.ndarray = calls.frame["task_type"].fill_null("").to_numpy()
    return found


def sizes_of(calls: Calls, arms: Arms, types: np.ndarray) -> Sizes:
    """The sums of a part of a log of these task types."""
    known = np.isfinite(calls.fact("body_bytes")) & (calls.prompt > 0) & ~calls.run
    family, count = families_of(arms)
    mine = family[arms.logged[known]]
    weights = np.ones(int(known.sum())), calls.fact("body_bytes")[known], calls.prompt[known]
    k, kinds = len(arms.arms), len(types) * 2 * EARLY
    cell = arms.logged * kinds + kinds_of_task(calls, types)
    return Sizes(
        np.stack([np.bincount(mine, weight, count) for weight in weights]),
        np.bincount(cell, minlength=k * kinds).reshape(k, kinds).astype(float),
        np.bincount(cell, calls.output, k * kinds).reshape(k, kinds),
        np.bincount(cell, calls.output**2, k * kinds).reshape(k, kinds),
        np.zeros(k),
        types,
    )


def kinds_of_task(calls: Calls, types: np.ndarray) -> np.ndarray:
    """Kind (n,) of every call, as `Sizes` tells them apart."""
    turn = np.arange(calls.n) - calls.starts[calls.session]
    loop = np.nan_to_num(calls.fact("in_tool_loop")).astype(np.int64)
    of_type = np.searchsorted(types, types_of(calls))
    found: np.ndarray = (of_type * 2 + loop) * EARLY + np.minimum(turn, EARLY - 1)
    return found


def families_of(arms: Arms) -> tuple[np.ndarray, int]:
    """Which family of models each arm (k,) is of, and how many there are."""
    names, of_arm = np.unique([model_family(arm.model) for arm in arms.arms], return_inverse=True)
    return of_arm, len(names)


def usual_lengths(sizes: Sizes) -> np.ndarray:
    """How long each arm's answers (k,) are beside others' to calls of the same kind, in any one unit.

    Answers are taken as arm × kind: Poisson's likelihood, by iterative proportional fitting, so that who gets
    the long tasks doesn't pass for wordy.
    """
    by_kind, by_arm = sizes.output.sum(axis=0), sizes.output.sum(axis=1)
    of_arm = np.ones(len(by_arm))
    for _ in range(ROUNDS):
        of_kind = by_kind / np.maximum(of_arm @ sizes.calls, 1e-9)
        of_arm = by_arm / np.maximum(sizes.calls @ of_kind, 1e-9)
    return of_arm


def lengths_of(
    calls: Calls, arms: Arms, beliefs: Beliefs, sizes: Sizes, *, own_bundle: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Output tokens of every call on every arm (n, k), and by which of HOW each arm's were told (k, 4).

    What was logged stays. Another arm's answer is the logged one times what a bundle of one's own says of the
    two; else times the ratio of their answers to calls alike in the log, shadow answers among them; else by
    the prior; else as long.
    """
    rows, k = np.arange(calls.n), len(arms.arms)
    mean = usual_lengths(sizes)
    own = beliefs.output[rows, arms.logged]
    out = np.repeat(calls.output[:, None], k, axis=1)
    enough = (sizes.calls.sum(axis=1) >= MIN_CALLS) & (mean > 0)
    own_few = sizes.calls.sum(axis=1) - sizes.asked < MIN_CALLS
    how = np.zeros((k, len(HOW)), dtype=np.int64)
    for i in range(k):
        with np.errstate(divide="ignore", invalid="ignore"):
            said = beliefs.output[:, i] / own
        by_bundle = np.isfinite(said) & (own > 0)
        by_log = enough[arms.logged] & bool(enough[i])
        by_bundle &= ~by_log | own_bundle
        of_log = mean[i] / np.maximum(mean[arms.logged], 1e-9)
        others = arms.logged != i
        ratio = np.where(by_bundle, np.clip(np.nan_to_num(said), *RATIOS), np.where(by_log, of_log, 1.0))
        out[:, i] *= np.where(others, ratio, 1.0)
        told = ~by_bundle & by_log
        ways = by_bundle, told & ~own_few[i], told & own_few[i], ~by_bundle & ~by_log
        how[i] = [int((others & way).sum()) for way in ways]
    return out, how


def in_words(how: np.ndarray, arms: Arms) -> dict[str, str]:
    """What told the length of most of each arm's answers."""
    said = (HOW[int(counts.argmax())] if counts.any() else "as logged" for counts in how)
    return dict(zip(arms.names, said, strict=True))


def prompts(calls: Calls, arms: Arms, sizes: Sizes) -> np.ndarray:
    """Prompt tokens of every call on every arm (n, k): the log's count, by how finely each family cuts.

    Bytes per token are those that the log itself shows of a family's calls, else the usual ones.
    """
    of_arm, _ = families_of(arms)
    counted, size, tokens = sizes.families
    usual = np.array([arm.bytes_per_token for arm in arms.arms])
    enough = counted >= MIN_CALLS
    ratio = np.where(enough[of_arm], (size / np.maximum(tokens, 1))[of_arm], usual)
    found: np.ndarray = calls.prompt[:, None] * (ratio[arms.logged][:, None] / ratio[None, :])
    return found


def lengths_ahead(tokens: np.ndarray, beliefs: Beliefs) -> np.ndarray:
    """Prompts (n, k) halfway through the turns to come."""
    found: np.ndarray = np.round(tokens) + np.round(GROWTH_TOKENS * np.nan_to_num(beliefs.turns) / 2)
    return found


def answers_of(log: Path) -> pl.DataFrame:
    """Shadow answers of a log: `request_id` asked again, `candidate`, tokens of `prompt` and `output`."""
    parts = ("input_tokens_uncached", "cached_tokens", "cache_write_tokens")
    return (
        LogStore(log)
        .scan("request")
        .filter(
            (pl.col("source") == SHADOW)
            & pl.col("status").is_in(["ok", "truncated"])
            & (pl.col("output_tokens") > 0)
        )
        .select(
            pl.col("session_id").str.extract(_SHADOWED).alias("request_id"),
            "candidate",
            prompt=pl.sum_horizontal(parts).cast(pl.Float64),
            output=pl.col("output_tokens").cast(pl.Float64),
        )
        .drop_nulls()
        .collect()
    )


def with_shadows(sizes: Sizes, calls: Calls, arms: Arms, answers: pl.DataFrame) -> Sizes:
    """The sums of a part, and those of shadow answers to its calls: each is of the kind of the call asked."""
    rows = calls.frame.select("request_id").with_row_index("row_")
    mine = answers.join(rows, on="request_id", how="inner")
    found = {name: arms.find(candidate_name(name)) for name in mine["candidate"].unique()}
    at = np.array([-1 if (i := found[name]) is None else i for name in mine["candidate"]], dtype=np.int64)
    known = at >= 0
    arm, row = at[known], mine["row_"].to_numpy().astype(np.int64)[known]
    output, prompt = (mine[name].to_numpy()[known] for name in ("output", "prompt"))
    k, kinds = sizes.calls.shape
    cell = arm * kinds + kinds_of_task(calls, sizes.types)[row]
    family, count = families_of(arms)
    size = calls.fact("body_bytes")[row]
    told = np.isfinite(size) & (prompt > 0)
    weights = np.ones(int(told.sum())), size[told], prompt[told]
    of_family = family[arm[told]]
    asked = np.bincount(cell, minlength=k * kinds).reshape(k, kinds).astype(float)
    return sizes.plus(
        Sizes(
            np.stack([np.bincount(of_family, weight, count) for weight in weights]),
            asked,
            np.bincount(cell, output, k * kinds).reshape(k, kinds),
            np.bincount(cell, output**2, k * kinds).reshape(k, kinds),
            asked.sum(axis=1),
            sizes.types,
        )
    )


def doubts_of(sizes: Sizes, beliefs: Iterable[Beliefs]) -> np.ndarray:
    """Relative standard error (k,) of how long each arm's answers to others' calls are.

    Where its own answers told it, it is theirs; else it is what the beliefs miss by on the candidates that
    the log tells of, each beside the others, on logarithms and by Student as these are few.
    """
    enough = sizes.calls.sum(axis=1) >= MIN_CALLS
    mean = usual_lengths(sizes)
    enough &= mean > 0
    of_kind = sizes.output.sum(axis=0) / np.maximum(mean @ sizes.calls, 1e-9)
    fit = mean[:, None] * of_kind[None, :]
    off = (sizes.square - 2 * fit * sizes.output + sizes.calls * fit**2).sum(axis=1)
    own = np.sqrt(np.maximum(off, 0.0)) / np.maximum((sizes.calls * fit).sum(axis=1), 1e-9)
    return np.where(enough, own, _missed(mean, enough, beliefs))


def _missed(mean: np.ndarray, enough: np.ndarray, beliefs: Iterable[Beliefs]) -> float:
    """What beliefs of lengths miss by on arms that the log tells of, as a standard error of one more arm."""
    logs = np.zeros((2, len(mean)))
    for part in beliefs:
        output = part.output.astype(np.float64)  # sums are the log's, however it is cut
        told = np.log(np.where(output > 0, output, np.nan))
        logs += np.isfinite(told).sum(axis=0), np.nansum(told, axis=0)
    known = enough & (logs[0] > 0)
    many = int(known.sum())
    apart = logs[1][known] / logs[0][known] - np.log(mean[known])
    free = max(many - 1, 0) + GUESSES
    square = (GUESSES * GUESSED**2 + float(((apart - apart.mean()) ** 2).sum() if many else 0.0)) / free
    student = float(stdtrit(free, 0.975)) / _Z
    return student * float(np.sqrt(square * (1 + 1 / max(many, 1))))


def felt(wrote: np.ndarray | None, doubts: np.ndarray | None, clusters: int) -> np.ndarray | float:
    """What is added to the USD (C,) of so many `clusters` so that sums drawn again vary by these doubts, too.

    It adds up to nothing, and is the same for all policies that an arm's answers are in.
    """
    if wrote is None or doubts is None or clusters < 2:
        return 0.0
    total = np.zeros(clusters)
    for arm in np.flatnonzero(wrote * doubts):
        some = np.random.default_rng([int(arm), clusters]).normal(size=clusters)
        some -= some.mean()
        total += wrote[arm] * doubts[arm] * some / np.sqrt((some**2).sum())
    return total
