"""The manifest of a bundle: what the heads believe, what they were trained on, and the digest of every file.

Written as indented JSON, to be read by people. The tables in it are what is served; a profile only sums up.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from models.calibration import Calibration
from models.certificate import Certificate
from models.offset import OffsetCard
from models.table import EXTRA_COLUMNS, Table
from models.tasktype import TypeCard

MANIFEST_VERSION = 1

BundleKind = Literal["prior", "trained"]


class CandidateProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate the bundle has seen; a mean, a ratio or a price that isn't known is null."""

    candidate: str
    index: int  # its category in the trees
    rows: int  # labelled rows
    base_logit: float  # of success, at no particular task type
    mean_output_tokens: float | None = None
    output_ratio: float = 1.0  # actual over predicted output tokens
    input_usd_per_mtok: float | None = None  # as in training; the trees know the candidate by these prices
    output_usd_per_mtok: float | None = None


class TokenScale(msgspec.Struct, frozen=True):
    """Output tokens = ratio · expm1(raw), raw at most `log_limit`; candidates of no ratio use the default."""

    default_ratio: float
    log_limit: float


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """An amount other than output tokens: its table of log1p, its scale, and each candidate's ratio."""

    table: Table
    scale: TokenScale
    ratio: dict[str, float] = {}

    def ratio_of(self, candidate: str) -> float:
        """Actual over predicted amount."""
        return self.ratio.get(candidate, self.scale.default_ratio)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A data set the bundle was trained on."""

    name: str
    licence: str
    rows: int
    digest: str | None = None  # sha256 of the file
    url: str | None = None


class Range(msgspec.Struct, frozen=True):
    """A feature that the trees split on, as it was in training; `unknown`: it was missing at times."""

    feature: str
    low: float
    high: float
    unknown: bool


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """How rows were kept apart while choosing and calibrating."""

    by: str = "group"
    folds: int = 0
    seed: int = 0
    groups: int = 0


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Calibration on a part of the held-out rows; `bias` is mean P(success) minus the share of successes."""

    kind: str  # "candidate", "task type", "group", "context tokens", "language"
    name: str
    rows: int
    groups: int
    ece: float
    ece_ci: tuple[float, float] | None = None  # 95 % over groups; null with one group
    ece_by_chance: float  # that true probabilities would show on as many rows, 95 of 100 times less
    bias: float
    bias_ci: tuple[float, float] | None  # 95 % over groups; null with one group
    beyond_chance: bool


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that the exported graph is the trained model, on adversarial rows."""

    rows: int
    rows_wrong: int
    max_abs_dp: float  # largest difference in P(success)
    max_abs_dlog_tokens: float  # largest difference in log1p of any amount
    decisions: int = 0  # compared: best of a set of candidates, or a p against a threshold
    decisions_flipped: int = 0
    ties: int = 0  # decided otherwise, the two p being closer than the proof's bound


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a bundle but its weights."""

    manifest_version: int = MANIFEST_VERSION
    digest: str = ""  # of this file's bytes, with nothing here
    samediff_version: str
    kind: BundleKind
    feature_hash: str
    n_features: int
    embedding_dim: int = 0
    encoder_digest: str | None = None
    extra_columns: tuple[str, ...] = EXTRA_COLUMNS
    candidates: tuple[CandidateProfile, ...]
    success: Table
    calibration: Calibration
    tokens: Table | None = None  # null: output tokens were never known
    token_scale: TokenScale | None = None
    amounts: dict[str, Amount] = {}  # "reasoning", "calls", "turns": whichever the log knew
    support: tuple[Range, ...] = ()  # outside of it the learners don't speak and the table answers
    task_types: tuple[str, ...] = ()  # a type's place here is its index for the trees
    types_known: bool = False  # trees never met a request of unknown type, so there the table answers
    types: TypeCard | None = None  # tells the task type where a client doesn't; its arrays are files
    rows: int  # labelled rows
    rows_with_tokens: int = 0
    split: Split = Split()
    metrics: dict[str, float] = {}
    parity: Parity | None = None
    certificates: tuple[Certificate, ...] = ()
    slices: tuple[Slice, ...] = ()
    offsets: OffsetCard | None = None  # null: the log told no repositories apart
    trained_on: tuple[Source, ...] = ()
    lineage: dict[str, str] = {}  # parent bundle, command, code version, log digest: whatever is known
    files: dict[str, str] = {}  # relative path -> sha256, of every file but this one
