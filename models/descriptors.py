"""What is publicly known of a candidate before it has answered anything: price, family, date, size, scores.

The facts that ship are in descriptors.toml; what a name says of itself (its line, date, size, effort) is read
from the name. Unknown is None, and a belief formed from it is the wider for it.
"""

from __future__ import annotations

import math
import re
import tomllib
from datetime import date
from functools import lru_cache
from pathlib import Path

import msgspec

from features.errors import BadInput
from features.names import EFFORTS, candidate_name

Prices = tuple[float | None, float | None]  # USD per million tokens, (input, output)

DESCRIPTORS = Path(__file__).with_name("descriptors.toml")
_PRICE_FLOOR = 0.01  # USD per Mtok; a free model needs a finite logarithm
_EPOCH = date(2025, 1, 1)
_DATE = re.compile(r"(20\d{2})-?([01]\d)-?([0-3]\d)(?!\d)")
_SIZE = re.compile(r"(?<![\w.])(?:(\d{1,2})x)?(\d{1,4}(?:\.\d+)?)b(?![a-z0-9])")


class Descriptor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A candidate's public facts; None is unknown.

    `probe` holds its own first outcomes as (task type, sum of success, rows), "" where the type is unknown.
    """

    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    family: str | None = None  # the vendor's line, such as claude
    released: date | None = None
    context_tokens: int | None = None
    parameters_b: float | None = None  # billions of weights
    effort: float | None = None  # rank, as in features.names.EFFORTS
    scores: tuple[tuple[str, float], ...] = ()  # (public benchmark, log-odds of its mean success)
    probe: tuple[tuple[str, float, float], ...] = ()

    @property
    def prices(self) -> Prices:
        """USD per million input and output tokens."""
        return self.input_usd_per_mtok, self.output_usd_per_mtok


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the table says of one model; it wins over what the name says."""

    family: str | None = None
    released: date | None = None
    parameters_b: float | None = None
    scores: dict[str, float] = {}


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table that ships: beginnings of names -> family, and rows of single models."""

    families: dict[str, tuple[str, ...]]
    models: dict[str, Model] = {}


@lru_cache(maxsize=8)
def load_facts(path: Path = DESCRIPTORS) -> Facts:
    """Read a table of descriptors; BadInput names the file and key that don't fit."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Facts)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"descriptors {path.name}: {error}") from error


def describe(candidate: str, prices: Prices = (None, None)) -> Descriptor:
    """Describe a candidate from its name, the facts that ship and the prices given."""
    fixed = _described(candidate)
    return msgspec.structs.replace(fixed, input_usd_per_mtok=prices[0], output_usd_per_mtok=prices[1])


@lru_cache(maxsize=4096)
def _described(candidate: str) -> Descriptor:
    facts = load_facts()
    model, _, effort = candidate_name(candidate).partition("@")
    row = facts.models.get(model, Model())
    return Descriptor(
        family=row.family or _family(model, facts.families),
        released=row.released or _date_in(candidate),
        parameters_b=row.parameters_b or _size_in(model),
        effort=EFFORTS.get(effort),
        scores=tuple(sorted(row.scores.items())),
    )


def unprobed(descriptor: Descriptor | None) -> Descriptor | None:
    """The same without its probe, whose outcomes tell of success and not of lengths."""
    return descriptor and msgspec.structs.replace(descriptor, probe=())


def _family(model: str, families: dict[str, tuple[str, ...]]) -> str | None:
    """Family whose longest known beginning starts the name or a part of it that follows a - or _."""
    found = [
        (len(start), family)
        for family, starts in families.items()
        for start in starts
        if re.search(rf"(?:^|[-_/]){re.escape(start)}", model)
    ]
    return max(found)[1] if found else None


def _date_in(name: str) -> date | None:
    found = _DATE.search(name)
    try:
        return date(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        return None


def _size_in(model: str) -> float | None:
    """Billions of weights that a name tells, 8x7b being 56."""
    found = _SIZE.search(model.replace("_", "-"))
    return int(found[1] or 1) * float(found[2]) if found else None


def log_price(usd_per_mtok: float | None) -> float:
    """Natural log of a price, NaN when it is unknown; free counts as a cent."""
    if usd_per_mtok is None or not math.isfinite(usd_per_mtok) or usd_per_mtok < 0:
        return math.nan
    return math.log(usd_per_mtok + _PRICE_FLOOR)


def log_blended(prices: Prices) -> float:
    """Log of the price at three input tokens to one output token; NaN when either is unknown."""
    if prices[0] is None or prices[1] is None:
        return math.nan
    return log_price((3.0 * prices[0] + prices[1]) / 4.0)


# What a belief is regressed on, and the difference that counts as one unit: fixed, so that three models that
# happen to lie close together don't stretch their distance into a curve.
COLUMNS: dict[str, float] = {
    "log_price": 1.5,
    "released_years": 1.0,
    "effort": 1.5,
    "log2_context": 2.0,
    "log_parameters": 1.5,
}
SCORE = "score:"  # a column of a public benchmark, one unit of log-odds


def numbers(descriptor: Descriptor) -> dict[str, float]:
    """Known columns of a descriptor as numbers, in the units of COLUMNS."""
    released, context, size = descriptor.released, descriptor.context_tokens, descriptor.parameters_b
    values = {
        "log_price": log_blended(descriptor.prices),
        "released_years": math.nan if released is None else (released - _EPOCH).days / 365.25,
        "effort": math.nan if descriptor.effort is None else descriptor.effort,
        "log2_context": math.log2(context) if context else math.nan,
        "log_parameters": math.log(size) if size else math.nan,
    }
    scaled = {name: value / COLUMNS[name] for name, value in values.items()}
    scaled |= {f"{SCORE}{name}": value for name, value in descriptor.scores}
    return {name: value for name, value in scaled.items() if math.isfinite(value)}
