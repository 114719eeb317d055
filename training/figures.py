"""Pictures that are kept beside a training's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.report import Axis, Line, page, picture, table, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.manifest import Slice
    from training.heldout import HeldOut

_SHARE = (0.0, 1.0)


def calibration_page(held: HeldOut, slices: Sequence[Slice] = ()) -> str:
    """Predicted against actual success on the newest groups, the table alone beside it, and by slice."""
    axes = Axis("predicted", 100, " %", _SHARE), Axis("succeeded", 100, " %", _SHARE)
    lines = [
        Line([(0.0, 0.0), (1.0, 1.0)], "true probabilities", "e", dashed=True),
        Line(held.table_curve, "table alone", "b"),
        Line(held.curve, "learned", "a"),
    ]
    about = "Share of successes against predicted probability, in bins of equal count."
    rows = [
        (name, f"{said.log_loss:.4f}", f"{said.brier:.4f}", f"{said.ece:.3f}")
        for name, said in (("learned", held.success), ("table alone", held.table))
    ]
    chance = f"{held.rows} rows of {held.groups} groups; by chance alone ECE reaches {held.ece_by_chance:.3f}"
    parts = (
        text("Calibration on the newest groups", "h1"),
        text(f"{about} {chance}."),
        picture(about, axes, lines, []),
        table(("", "log-loss", "Brier", "ECE"), rows),
        text("By slice, those beyond chance first", "h2"),
        table(("slice", "rows", "ECE", "95 %", "by chance", "bias", ""), [_row(s) for s in slices]),
    )
    return page("samediff: calibration", parts)


def _row(s: Slice) -> tuple[str, ...]:
    ends = "" if s.ece_ci is None else f"{s.ece_ci[0]:.3f} to {s.ece_ci[1]:.3f}"
    numbers = f"{s.ece:.3f}", ends, f"{s.ece_by_chance:.3f}", f"{s.bias:+.3f}"
    return f"{s.kind} {s.name}", f"{s.rows:,}", *numbers, "off" if s.beyond_chance else ""
