"""A candidate's descriptor as training and serving agree on it: name, shipped facts, catalogue, prices."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec.structs import replace

from features.names import EFFORTS, candidate_name
from models.descriptors import Descriptor, Prices, describe
from router.prices import context_window

if TYPE_CHECKING:
    from router.catalog import Candidate


def descriptor_of(candidate: str, prices: Prices, row: Candidate | None) -> Descriptor:
    """Describe a candidate; what its catalogue row says wins over what name and price table say."""
    said = replace(_published(candidate), input_usd_per_mtok=prices[0], output_usd_per_mtok=prices[1])
    if row is None:
        return said
    return replace(
        said,
        released=row.released or said.released,
        context_tokens=row.context_tokens or said.context_tokens,
        effort=EFFORTS.get(row.effort or "", said.effort),
        probe=tuple((task_type, *sums) for task_type, sums in sorted(row.probe.items())),
    )


@lru_cache(maxsize=4096)
def _published(candidate: str) -> Descriptor:
    model = candidate_name(candidate).partition("@")[0]
    return replace(describe(candidate), context_tokens=context_window(model))
