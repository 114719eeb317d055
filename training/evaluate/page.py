"""`samediff evaluate --html`: the evaluation as a page, every number of it from the JSON result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.report import Axis, Line, Point, items, page, picture, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLOURS = {"learned": "a", "best_single": "b", "oracle": "c", "cascade": "d", "consensus": "d"}
_WORDS = {
    "best_single": "best single model",
    "cheapest": "cheapest model",
    "random_mix": "mix of two pins",
    "knn": "nearest neighbours",
    "table": "task-type table",
    "learned": "learned router",
    "oracle": "oracle (hindsight)",
}


def html_of(result: dict[str, Any]) -> str:
    """The whole page."""
    return page(f"samediff evaluate · {result['file']}", _parts(result))


def _parts(result: dict[str, Any]) -> Iterator[str]:
    yield text(f"What a router would have done on {result['file']}", "h1")
    typed = f"task type by {result['task_type']}" if result["task_type"] else "no task type"
    yield text(
        f"{result['tasks_scored']:,} tasks, {len(result['models'])} models, {result['groups']:,} groups by "
        f"{result['group']}, {result['folds']} folds, {typed}. Every figure is on tasks that nothing was "
        "fitted or tuned on; bars and ranges are 95 % intervals from paired draws over groups.",
        kind="soft",
    )
    yield text(result["recommendation"], kind="advice")
    yield text("Quality and cost", "h2")
    yield _frontier(result)
    yield text(
        "Higher and further left is better. The line of mixes is what anybody gets by tossing a coin between "
        "two pinned models; a router is worth what it stands above it.",
        kind="soft",
    )
    yield text("Policies", "h2")
    yield _policies(result)
    yield text("Calibration", "h2")
    yield from _calibration(result)
    yield text("Models", "h2")
    yield _models(result)
    if result["warnings"]:
        yield text("What to know about the data", "h2")
        yield items(warning["message"] for warning in result["warnings"])
    yield text("What this doesn't say", "h2")
    yield items(_caveats(result))


def _frontier(result: dict[str, Any]) -> str:
    points = [
        Point(
            e["cost_usd"],
            e["quality"],
            _name(e["name"]),
            _COLOURS.get(e["name"], "e"),
            _pair(e["cost_usd_ci"]),
            _pair(e["quality_ci"]),
        )
        for e in result["policies"]
        if e["cost_usd"] is not None and e["quality"] is not None
    ]
    learned = next(e for e in result["policies"] if e["name"] == "learned")
    curve = [(c["cost_usd"], c["quality"]) for c in learned["curve"] if c["cost_usd"] is not None]
    lines = [Line(curve, "learned, by price of success", "a")] if len(curve) > 1 else []
    pins = [(m["cost_usd"], m["quality"]) for m in result["models"] if m["cost_usd"] is not None]
    if len(pins) > 1:
        lines.append(Line(_hull(pins), "mixes of pinned models", "b", dashed=True))
    about = "; ".join(f"{p.name}: {100 * p.y:.1f} at ${p.x:.3g}" for p in points)
    axes = (Axis("USD a task"), Axis("success", 100.0, " %"))
    return picture(f"Success against cost. {about}", axes, lines, points)


def _hull(pins: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the upper hull of (cost, quality), from the cheapest to the best."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(pins, key=lambda p: (p[0], -p[1])):
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) > 1 and (y - hull[-2][1]) * (hull[-1][0] - hull[-2][0]) >= (
            hull[-1][1] - hull[-2][1]
        ) * (x - hull[-2][0]):
            hull.pop()
        hull.append((x, y))
    return hull


def _policies(result: dict[str, Any]) -> str:
    rows = []
    for e in result["policies"]:
        own = e["name"] == "best_single"
        against = e["vs_best_single"]
        rows.append(
            (
                _name(e["name"]),
                _percent(e["quality"]),
                _range(e["quality_ci"], 100),
                "" if own else _signed(against["quality"], against["quality_ci"]),
                _usd(e["cost_usd"]),
                "" if own else _signed(_more(against["saving"]), None, " %"),
            )
        )
    marked = {_name(n) for n in (result["recommended"], result["recommended_if_checked"]) if n}
    head = ("policy", "success", "95 %", "points against best single", "USD a task", "cost against it")
    return table(head, rows, marked)


def _calibration(result: dict[str, Any]) -> Iterator[str]:
    found = result["calibration"]
    yield text(
        f"Said and true success differ by {100 * found['ece']:.1f} points on average (ECE); Brier "
        f"{found['brier']:.3f}; AUC within a model {_number(found['auc_within_model'])}."
    )
    points = [
        Point(entry["mean_p"], entry["mean_success"], model, "a")
        for model, entry in found["per_model"].items()
    ]
    if len(points) <= 12:
        line = Line([(0.0, 0.0), (1.0, 1.0)], "said = true", "e", dashed=True)
        bounds = _bounds([v for p in points for v in (p.x, p.y)])
        inside = Line([(bounds[0], bounds[0]), (bounds[1], bounds[1])], line.name, "e", dashed=True)
        axes = (Axis("said", 100.0, " %", bounds), Axis("true", 100.0, " %", bounds))
        yield picture("Said against true success by model", axes, [inside], points)


def _bounds(values: list[float]) -> tuple[float, float]:
    room = 0.1 * (max(values) - min(values)) or 0.05
    return min(values) - room, max(values) + room


def _models(result: dict[str, Any]) -> str:
    rows = [
        (
            m["model"],
            _percent(m["quality"]),
            _range(m["quality_ci"], 100),
            _usd(m["cost_usd"]),
            _number(result["calibration"]["per_model"].get(m["model"], {}).get("ece")),
        )
        for m in result["models"]
    ]
    return table(("pinned model", "success", "95 %", "USD a task", "ECE"), rows)


def _caveats(result: dict[str, Any]) -> Iterator[str]:
    yield (
        f"The cascade's check is simulated: wrong {100 * result['check_noise']:.0f} % of the time, whatever "
        "the task. Real tests and judges err on the same tasks again and again."
    )
    if any(e.get("simulated") for e in result["policies"]):
        yield "Consensus is simulated: this file doesn't say which answers are the same diff."
    yield "Costs are list prices of single calls; prompt caches are not simulated here."
    yield "One run of each model on each task: some of the oracle's lead is luck."


def _more(saving: float | None) -> float | None:
    """Cost added, from the share saved; never minus nothing."""
    return None if saving is None else round(-saving, 4) + 0.0


def _name(policy: str) -> str:
    return f"pin {policy.removeprefix('pin/')}" if policy.startswith("pin/") else _WORDS.get(policy, policy)


def _pair(ends: list[float] | None) -> tuple[float, float] | None:
    return None if ends is None else (ends[0], ends[1])


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _range(ends: list[float] | None, unit: float) -> str:
    return "unknown" if ends is None else f"{unit * ends[0]:.1f} to {unit * ends[1]:.1f}"


def _signed(value: float | None, ends: list[float] | None, suffix: str = "") -> str:
    if value is None:
        return "unknown"
    between = "" if ends is None else f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
    return f"{100 * value:+.{0 if suffix else 1}f}{suffix}{between}"
