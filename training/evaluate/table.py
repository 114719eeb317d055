"""The evaluation for people: policies beside their controls, warnings, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from training.evaluate.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType


def render(result: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the table of policies, calibration, warnings and the recommendation."""
    grouped = f"{counted(result['groups'], 'group')} by {result['group']}, {counted(result['folds'], 'fold')}"
    typed = f"task type: {result['task_type']}" if result["task_type"] else "no task type"
    size = f"{result['file']}: {counted(result['tasks_scored'], 'task')} by {len(result['models'])} models"
    table = Table(box=SIMPLE_HEAD, title=escape(f"{size}, {grouped}, {typed}"), title_justify="left")
    table.add_column("policy", no_wrap=True)
    for name in ("quality", "95 %", "gain", "$/task", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("mostly by", overflow="fold")  # the figures stay whole on a narrow terminal
    for entry in result["policies"]:
        advised = entry["name"] in (result["recommended"], result["recommended_if_checked"])
        style = "bold" if advised else ""
        table.add_row(*map(escape, _row(entry)), style=style)
    yield table
    yield from _below(result)
    yield Text()
    yield Text(result["recommendation"], style="bold")


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    name = "pin" if entry["name"].startswith("pin/") else entry["name"]  # the last column says which
    if entry["quality"] is None:
        return name, "unknown", "", "", "unknown", "", entry.get("reason", "")
    ends = entry["quality_ci"]
    between = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if ends else "unknown"
    cost = "unknown" if entry["cost_usd"] is None else f"{entry['cost_usd']:.3g}"
    gain, money = _against(entry)
    return name, f"{100 * entry['quality']:.1f}", between, gain, cost, money, _share(entry)


def _against(entry: dict[str, Any]) -> tuple[str, str]:
    """Points gained and cost added against the best single model."""
    if entry["name"] == "best_single":
        return "", ""
    against = entry["vs_best_single"]
    money = "" if against["saving"] is None else f"{round(-100 * against['saving']) + 0:+d} %"
    return f"{100 * against['quality']:+.1f}", money


def _share(entry: dict[str, Any]) -> str:
    top = list(entry["share"].items())
    said = "".join(f"{100 * part:.0f} % {model}" for model, part in top[:1])
    if entry["name"] == "best_single" and len(top) > 1:
        said += ", by fold"
    return said


def _below(result: dict[str, Any]) -> Iterator[RenderableType]:
    found = {entry["name"]: entry for entry in result["policies"]}
    learned, quality = found["learned"], result["calibration"]
    parity = learned["cost_at_parity"]
    saving = _interval(parity["saving"], parity["ci"], 100)
    area = _interval(learned["area_above_mix"], learned["area_above_mix_ci"], 100)
    gap = _interval(learned["oracle_gap_closed"], learned["oracle_gap_closed_ci"], 100)
    parts = (
        f"saving at the best single model's quality {saving} %",
        f"area above the mix line {area} points",
        f"oracle gap closed {gap} %",
    )
    yield Text(f"learned: {'; '.join(parts)}")
    auc = "unknown" if quality["auc"] is None else f"{quality['auc']:.3f}"
    within = "unknown" if quality["auc_within_model"] is None else f"{quality['auc_within_model']:.3f}"
    yield Text(
        f"calibration: ECE {quality['ece']:.3f}, Brier {quality['brier']:.3f}, "
        f"AUC {auc} (within a model {within}); "
        f"the cascade's check is wrong {100 * result['check_noise']:.0f} % of the time"
    )
    abstained = [
        f"{e['name']} in {e['abstained']} of {e['folds']}" for e in result["policies"] if e.get("abstained")
    ]
    if abstained:
        yield Text(f"abstained, so the best single model, by fold: {', '.join(abstained)}")
    yield from _judged(result)
    for warning in result["warnings"]:
        yield Text(f"! {warning['message']}", style="yellow")
    rows = result["rows"]
    kept = f"{rows['kept']} kept + {sum(rows['refused'].values())} refused"
    yield Text(f"{counted(rows['read'], 'row')} read = {kept}; {result['seconds']} s", style="dim")


def _judged(result: dict[str, Any]) -> Iterator[RenderableType]:
    """What a judged run saves at the success of its goal, beside the same without a judge."""
    found = {entry["name"]: entry for entry in result["policies"]}
    goal = result["reference"] or "the best single model"
    for name, entry in found.items():
        if not name.startswith("judged"):
            continue
        plain = found[name.replace("judged", "static_cascade")]
        both = [
            _interval(e["cost_at_parity"]["saving"], e["cost_at_parity"]["ci"], 100) for e in (entry, plain)
        ]
        adds = entry["parity_vs_static"]
        more = _interval(adds["saving"], adds["saving_ci"], 100)
        gain = _interval(adds["quality"], adds["quality_ci"], 100)
        yield Text(
            f"{name}, check wrong {100 * entry['check_noise']:.0f} %: saving at the success of {goal} "
            f"{both[0]} %, by the check alone {both[1]} %; between the two {more} % at {gain} points"
        )


def _interval(value: float | None, ends: list[float] | None, unit: float) -> str:
    if value is None:
        return "unknown"
    between = f" ({unit * ends[0]:.1f} to {unit * ends[1]:.1f})" if ends else ""
    return f"{unit * value:.1f}{between}"
