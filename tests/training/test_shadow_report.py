"""The closing tables of a shadow run fit a terminal of 80 columns."""

from __future__ import annotations

import io
from decimal import Decimal

from rich.console import Console

from features.diffs.verdicts import ORDER
from training.shadow.report import ShadowArm, ShadowReport, render


def _arm(role, name):
    return ShadowArm(
        candidate=name, role=role, planned=9000, called=8000, answered=7000, failed=1000,
        levels=dict.fromkeys(ORDER, 1234), same=0.5, same_ci=(0.4, 0.6), effective_rows=90.0,
        usd=Decimal("12.5"), usd_reserved=Decimal(0),
    )  # fmt: skip


def test_nothing_is_cut_at_80_columns():
    arms = [_arm("reference", "claude-opus-5-5"), _arm("self", "claude-opus-5-5"), _arm("candidate", "claude-haiku-5-5")]  # fmt: skip  # noqa: E501
    result = ShadowReport(
        run="r", reference="claude-opus-5-5", ended="budget", budget_usd=Decimal(5), spent_usd=Decimal(4),
        left_usd=Decimal(1), requests=9, frame=9, repeats=0, asked=9, not_replayable={}, labels_added=9,
        pairs=9, same_labels=9, unsettled=0, without_chance=0, arms=arms,
    )  # fmt: skip
    console = Console(width=80, file=io.StringIO(), record=True)
    for part in render(result):
        console.print(part)
    text = console.export_text()
    assert "…" not in text
    for word in ("claude-haiku-5-5", *ORDER, "1,234", "Failed", "50.0%", "40%-60%", "12.5000"):
        assert word in text
