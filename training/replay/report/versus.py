"""Each policy beside the best control that costs no more than it: both on the same sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.replay.report.advise import is_pin
from training.replay.report.comparisons import usd
from training.replay.report.result import Versus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.replay.quality.differences import Blend, Pairs
    from training.replay.report.comparisons import Field
    from training.replay.report.result import Row

SINGLE = ("reference", "cheapest", "best_single", "cascade")
COMPARED = ("policy", "sweep")


def set_beside(rows: Sequence[Row], field: Field, pairs: Pairs) -> None:
    """Write into each policy's row how far it is from its best control."""
    for row in rows:
        if row.role in COMPARED and row.supported and row.cost_usd is not None:
            row.versus = _of_best(row, rows, field, pairs)


def _of_best(row: Row, rows: Sequence[Row], field: Field, pairs: Pairs) -> Versus | None:
    """The control of most success, which flatters the control: it is the best of several."""
    told = [
        (gap.value, name, gap, blend)
        for name, blend in _controls(row, rows, field)
        if (gap := pairs.success(row.name, blend)) is not None
    ]
    if not told:
        return None
    _, name, gap, blend = min(told, key=lambda one: one[:2])
    money = pairs.money(row.name, blend)
    return Versus(
        control=name,
        quality=gap.value,
        quality_ci=gap.ends,
        quality_ci_all=gap.ends and field.wide(gap.ends),
        usd=None if money is None else money.value,
        usd_ci=None if money is None else money.ends,
    )


def _controls(row: Row, rows: Sequence[Row], field: Field) -> Iterator[tuple[str, Blend]]:
    """What a policy has to beat: no dearer than it, refusing no more calls, going elsewhere; and a mix."""
    for other in rows:
        single = is_pin(other) or (other.role == "control" and other.name in SINGLE)
        if single and _apart(row, other) and usd(other) <= usd(row) and other.refused <= row.refused:
            yield other.name, [(1.0, other.name)]
    blend = field.mix_at(row)
    named = {other.name: other for other in rows}
    if blend is not None and all(_apart(row, named[name]) for _, name in blend):
        parts = " and ".join(f"{share:.0%} {name}" for share, name in blend)
        yield (f"sessions at random to {parts}" if len(blend) > 1 else parts), blend


def _apart(row: Row, other: Row) -> bool:
    """Whether two rows aren't one policy under two names."""
    return other.name != row.name and other.share != row.share
