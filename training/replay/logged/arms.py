"""Who could have answered: the log's own candidates and those of the catalogue, with their constraints.

A candidate of the log keeps the names under which it was sold there, so that its bill comes out again.
"""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from features.cache.rules import plain_name
from features.context import TokenRatios
from features.errors import BadInput
from features.names import EFFORTS, candidate_name
from router.prices import context_window, is_known
from training.replay.logged.calls import FACTS

if TYPE_CHECKING:
    from models.bundle import Bundle
    from router.catalog import Catalog
    from router.catalogrows import Candidate
    from training.replay.logged.calls import Calls
    from training.replay.options import Options

_RATIOS = TokenRatios()
_NEEDS = {"tools": "n_tools", "images": "n_images", "json_schema": "json_schema", "thinking": "thinking"}


class Arm(NamedTuple):
    """A candidate; `row` is the catalogue's, where it has one."""

    name: str
    model: str  # as its seller names it
    provider: str | None
    logged: bool
    row: Candidate | None = None
    dialects: frozenset[str] | None = None  # that it is deployed in; None: nobody knows

    @property
    def bytes_per_token(self) -> float:
        """How finely its tokenizer cuts, by its family."""
        return _RATIOS.ratio(self.model)


class Census:
    """Which candidates a log has, as they appear, and how often each was sold under which names by whom."""

    def __init__(self) -> None:
        self.sold: dict[str, Counter[tuple[str | None, ...]]] = {}

    def note(self, calls: Calls, which: np.ndarray | None = None) -> None:
        """Count a part of the log, or `which` (n,) of its calls."""
        names = ("model_served", "model_requested", "candidate", "provider")
        frame = calls.frame if which is None else calls.frame.filter(which)
        kinds = frame.group_by(names, maintain_order=True).len()
        for *said, count in kinds.iter_rows():
            self.sold.setdefault(said[2], Counter())[tuple(said)] += count

    def lacks(self, other: Census) -> dict[str, int]:
        """Candidates that the other alone has, and how many calls of theirs it counts."""
        mine = {key_of(name) for name in self.sold}
        return {name: sold.total() for name, sold in other.sold.items() if key_of(name) not in mine}


class Arms(NamedTuple):
    """k candidates and which of them answered each of n calls."""

    arms: tuple[Arm, ...]
    logged: np.ndarray  # (n,) int

    def of(self, calls: Calls) -> Arms:
        """The same, of the calls of a part of the log."""
        candidates = calls.frame["candidate"]
        places = {key_of(arm.name): i for i, arm in enumerate(self.arms)}
        of_name = {name: places[key_of(name)] for name in candidates.unique()}
        return Arms(self.arms, candidates.replace_strict(of_name, return_dtype=pl.Int64).to_numpy())

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(arm.name for arm in self.arms)

    def find(self, name: str) -> int | None:
        """The arm of that name, however it is written; None where there is none."""
        wanted = key_of(name)
        return next((i for i, arm in enumerate(self.arms) if key_of(arm.name) == wanted), None)

    def at(self, name: str, where: str) -> int:
        """The same; BadInput where there is none."""
        found = self.find(name)
        if found is None:
            raise BadInput(
                f"{where}: {name!r} is neither in the log nor a candidate of the catalogue "
                f"(there are {', '.join(self.names)}); bring it in with --with {name}"
            )
        return found


def key_of(name: str) -> str:
    """One name for all ways of writing a candidate: claude-opus-4.6 is claude-opus-4-6."""
    model, at, effort = candidate_name(name).partition("@")
    return f"{plain_name(model)}{at}{effort}"


def arms_of(
    census: Census, catalog: Catalog, bundle: Bundle, options: Options, named: tuple[str, ...]
) -> Arms:
    """The log's candidates, then what bundle, policies and --with bring in, less what --without takes.

    They are of no calls yet.
    """
    known = {key_of(name): name for name in catalog.candidates}
    found: dict[str, Arm] = {}
    for name, sold in census.sold.items():
        found.setdefault(key_of(name), _logged_arm(name, sold, catalog, known.get(key_of(name))))
    trained = {key_of(name) for name in bundle.profiles}
    wanted = [
        name for alias in catalog.aliases.values() for name in alias.candidates if key_of(name) in trained
    ]
    for name in (*wanted, *named, *options.having):
        found.setdefault(key_of(name), _catalogue_arm(name, catalog, known))
    gone = _without(found, options)
    arms = tuple(arm for key, arm in found.items() if arm.logged or key not in gone)
    return Arms(arms, np.zeros(0, dtype=np.int64))


def _without(found: dict[str, Arm], options: Options) -> set[str]:
    """Keys of the arms that --without names; BadInput for a name that fits none."""
    gone: set[str] = set()
    for pattern in options.without:
        fits = {key for key, arm in found.items() if _fits(pattern, arm)}
        if not fits:
            names = ", ".join(arm.name for arm in found.values())
            raise BadInput(f"--without {pattern}: there is no such candidate among {names}")
        gone |= fits
    return gone


def barred(arms: Arms, options: Options) -> np.ndarray:
    """Which arms (k,) no policy may choose: --without names them, though the log did."""
    named = [{i for i, arm in enumerate(arms.arms) if _fits(pattern, arm)} for pattern in options.without]
    return np.array([any(i in some for some in named) for i in range(len(arms.arms))])


def _fits(pattern: str, arm: Arm) -> bool:
    return fnmatchcase(arm.name, pattern) or key_of(arm.name) == key_of(pattern)


def _logged_arm(name: str, sold: Counter[tuple[str | None, ...]], catalog: Catalog, own: str | None) -> Arm:
    """A candidate of the log, under the seller's name and seller that most of its calls were logged with."""
    served, requested, said, provider = sold.most_common(1)[0][0]
    row = None if own is None else catalog.candidates[own]
    return Arm(own or name, served or requested or said or name, provider, logged=True, row=row)


def _catalogue_arm(name: str, catalog: Catalog, known: dict[str, str]) -> Arm:
    """A candidate that the log doesn't have; without a catalogue row it is what the price table knows."""
    own = known.get(key_of(name))
    if own is not None:
        deployed = [d for d in catalog.deployments.values() if d.candidate == own]
        dialects = frozenset(str(d.dialect) for d in deployed)
        return Arm(own, deployed[0].model, deployed[0].provider, False, catalog.candidates[own], dialects)
    model = name.partition("@")[0]
    if not is_known(model):
        raise BadInput(
            f"{name}: no candidate of the catalogue, and no price is known of it; "
            "add [candidates] and [[price]] rows, or see `samediff doctor`"
        )
    return Arm(candidate_name(name), model, None, logged=False)


def excluded(calls: Calls, arms: Arms, tokens: np.ndarray) -> np.ndarray:
    """Which arms can't serve which calls (n, k), as `router.constraints`; what is unknown speaks for them.

    Rows that sum up several calls are held to no context window.
    """
    out = np.zeros((calls.n, len(arms.arms)), dtype=bool)
    asked = np.nan_to_num(calls.fact("max_output_tokens"))
    effort = calls.fact("effort")
    for i, arm in enumerate(arms.arms):
        if arm.logged and arm.row is None:
            continue
        row = arm.row
        window = (row and row.context_tokens) or context_window(arm.model, arm.provider)
        if window is not None:
            out[:, i] |= (tokens[:, i] + asked > window) & ~calls.run
        if row is None:
            continue
        if row.max_output_tokens is not None:
            out[:, i] |= asked > row.max_output_tokens
        for capability, fact in _NEEDS.items():
            if row.capabilities is not None and capability not in row.capabilities:
                out[:, i] |= np.nan_to_num(calls.facts[:, FACTS.index(fact)]) > 0
        if row.effort is not None:
            out[:, i] |= effort != EFFORTS[row.effort]
    own = np.arange(calls.n), arms.logged
    out[own] = False  # it did answer
    return out


def spoken(calls: Calls, arms: Arms) -> np.ndarray:
    """Which arms aren't deployed in the dialect of which calls (n, k); unknown dialects bar none."""
    out = np.zeros((calls.n, len(arms.arms)), dtype=bool)
    dialects = calls.frame["dialect"]
    for dialect in dialects.drop_nulls().unique():
        rows = (dialects == dialect).fill_null(value=False).to_numpy()
        silent = [arm.dialects is not None and dialect not in arm.dialects for arm in arms.arms]
        out[np.ix_(rows, np.array(silent))] = True
    return out
