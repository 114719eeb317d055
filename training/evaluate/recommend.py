"""Which policy the numbers support, in one sentence; pure, from the result's own figures."""

from __future__ import annotations

from typing import Any

MARGIN = 0.01  # success that a saving may put at risk, at the lower end of the interval
PIN_MARGIN = 0.02  # success that a cheaper pin may lack to be worth a mention


def recommend(
    policies: dict[str, dict[str, Any]], models: list[dict[str, Any]], model: str, agreed: bool = True
) -> tuple[str, str]:
    """Name of the supported policy and the sentence for people.

    policies: entries of the result by name, with `vs_best_single`; `learned` also has `vs_table`.
    models: every model as a pin, with `vs_best` against `model`, the best single one; `agreed` is False where
    the folds disagree on which that is.
    """
    pin = f"Pin {model}" + ("" if agreed else " (the folds don't all agree on it)")
    learned, table = policies["learned"], policies["table"]
    if not supported(learned):
        if not supported(table):
            return "best_single", f"{pin}: {_why_not(learned)}{_cheaper_pin(models, model)}."
        return (
            "table",
            f"Route by the task-type table alone: {_claim(table)}; the learned router falls short.",
        )
    quality, saving = learned["vs_table"]["quality_ci"], learned["vs_table"]["saving_ci"]
    better = quality is not None and quality[0] > 0
    cheaper = quality is not None and saving is not None and saving[0] > 0 and quality[0] > -MARGIN
    if supported(table) and not better and not cheaper:
        return (
            "table",
            f"Route by the task-type table alone: {_claim(table)}; the learned router adds nothing to it.",
        )
    return "learned", f"Use the learned router: {_claim(learned)}."


def supported(entry: dict[str, Any]) -> bool:
    """Whether it beats the best pin beyond the interval, or saves at its quality and beats a mix.

    A gain in quality counts at any price, since no pin offers it; the sentence names the price. A router
    that abstained in most folds is the pin.
    """
    against = entry["vs_best_single"]
    quality, saving = against["quality_ci"], against["saving_ci"]
    if quality is None or 2 * entry["abstained"] > entry["folds"]:
        return False
    mixed = entry["vs_random_mix"]["quality_ci"]
    safe = saving is not None and saving[0] > 0 and quality[0] > -MARGIN
    saves = safe and mixed is not None and mixed[0] > 0
    return bool(quality[0] > 0 or saves)


def _claim(entry: dict[str, Any]) -> str:
    against = entry["vs_best_single"]
    text = f"{_points(against['quality'], against['quality_ci'])} of success over the best single model"
    if against["saving"] is None:
        return f"{text}, cost unknown"
    return f"{text} at {_percent(against['saving'], against['saving_ci'])}"


def _why_not(entry: dict[str, Any]) -> str:
    against = entry["vs_best_single"]
    if 2 * entry["abstained"] > entry["folds"]:
        where = (
            ""
            if entry["abstained"] == entry["folds"]
            else f" in {entry['abstained']} of {entry['folds']} folds"
        )
        return f"the learned router did not beat it on the training folds, so it abstains{where}"
    if against["quality_ci"] is None:
        return "there are too few groups to say that a router beats it"
    said = f"the learned router's {_points(against['quality'], against['quality_ci'])} of success"
    if against["saving"] is not None:
        said += f" at {_percent(against['saving'], against['saving_ci'])}"
    return f"{said} is not a gain beyond the interval"


def _cheaper_pin(models: list[dict[str, Any]], best: str) -> str:
    """Name the cheapest pin that these data can't tell from the best, if it saves beyond its interval."""
    equal = [
        m
        for m in models
        if m["model"] != best
        and (m["vs_best"]["saving_ci"] or [0])[0] > 0
        and m["vs_best"]["quality"] >= -PIN_MARGIN
        and (m["vs_best"]["quality_ci"] or [0, -1])[1] >= 0
    ]
    if not equal:
        return ""
    cheapest = min(equal, key=lambda m: float(m["cost_usd"]))
    against = cheapest["vs_best"]
    gain, saved = _points(against["quality"], against["quality_ci"]), f"{100 * against['saving']:.0f} %"
    return f"; {cheapest['model']} costs {saved} less at {gain}, a difference that these tasks don't settle"


def _points(value: float, ends: list[float] | None) -> str:
    between = f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})" if ends else ""
    return f"{100 * value:+.1f} points{between}"


def _percent(value: float, ends: list[float] | None) -> str:
    word = "lower" if value >= 0 else "higher"
    between = f" ({100 * ends[0]:+.0f} to {100 * ends[1]:+.0f} % saved)" if ends else ""
    return f"{abs(100 * value):.0f} % {word} cost{between}"
