"""Pictures that are kept beside a training's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.report import Axis, Line, page, picture, table, text

if TYPE_CHECKING:
    from training.heldout import HeldOut

_SHARE = (0.0, 1.0)


def calibration_page(held: HeldOut) -> str:
    """Predicted against actual success on the newest groups, the table alone and the diagonal beside it."""
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
    )
    return page("samediff: calibration", parts)
