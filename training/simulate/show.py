"""A made-up log's truth as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from training.simulate.write import Made


def render(made: Made) -> Iterator[RenderableType]:
    """What was made, and what every policy truly gets."""
    from rich.table import Table

    counts = ", ".join(f"{n:,} {kind}s" for kind, n in made.records.items())
    yield f"{made.log}: {counts} of {made.sessions:,} sessions, served by {made.policy}"
    told = made.traffic
    yield (
        f"{told.labelled:.0%} of the outcomes are told, {told.noise:.0%} of them wrongly, "
        f"{told.silent_failures:.0%} of the failures are hushed up"
    )
    yield (
        f"{told.pairs:.0%} of the asks are asked of all other arms, too; {told.pairs_tested:.0%} of these "
        "answers are tested"
    )
    table = Table(title="the truth, which no log shows")
    for title in ("policy", "quality", "as told", "USD", "most often"):
        table.add_column(title, justify="left" if title in ("policy", "most often") else "right")
    for policy in made.policies:
        arm, share = max(policy.share.items(), key=lambda item: item[1])
        table.add_row(
            policy.name,
            f"{policy.quality:.4f}",
            "none" if policy.quality_told is None else f"{policy.quality_told:.4f}",
            "unknown" if policy.cost_usd is None else f"{policy.cost_usd:,.2f}",
            f"{arm} {share:.0%}",
        )
    yield table
