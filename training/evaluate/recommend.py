"""Which policy the numbers support, in one sentence; pure, from the result's own figures.

All figures are against one baseline, the best single model as the training part of each fold chooses it,
save one: how the learned router stands against what is advised. A cheaper pin is advised where it saves
beyond its interval and isn't shown to be worse; a router where it beats the baseline and that pin. Of routers
that do, the simplest stands that no other beats. A cascade needs a check, so it is advised beside the others,
never in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from training.evaluate.words import claim, cost, points

if TYPE_CHECKING:
    from collections.abc import Callable

MARGIN = 0.01  # success that a saving may put at risk, at the lower end of the interval
PIN_MARGIN = 0.02  # success that a cheaper pin may lack before one of less lack is named in its place
SIMPLEST_FIRST = ("table", "logistic", "knn", "learned")
_ROUTERS = {
    "table": "Route by the task-type table",
    "logistic": "A logistic router would do",
    "knn": "A kNN router would do",
    "learned": "Use the learned router",
}

_CONTROLS = ("logistic", "knn")  # fitted to compare with; no bundle holds them

Difference = dict[str, Any]  # quality, quality_ci, saving, saving_ci of one policy against another


class Case(NamedTuple):
    """What a recommendation rests on."""

    policies: dict[str, dict[str, Any]]  # entries of the result by name, with `vs_best_single`
    models: list[dict[str, Any]]  # every model as a pin, with `vs_best_single`
    best: str  # the best model on all training rows
    versus: Callable[[str, str], Difference]  # of any two policies by name; a pin is "pin/MODEL"
    check_noise: float  # how often the cascade's check is wrong
    reference: str | None = None  # of judged runs; None: the best single model


class Advice(NamedTuple):
    """What to do."""

    policy: str  # best_single, cheapest, a router or "pin/MODEL"
    if_checked: str | None  # "cascade" or "cascade3" where it is better still, given the check
    pins: tuple[str, ...]  # models that the sentence speaks of and that no other row stands for
    sentence: str


def recommend(case: Case) -> Advice:
    """Policy that the figures support, what a check would add, and the sentence for people."""
    pin = _pin(case)
    base = "best_single" if pin is None else row_of(case, pin)
    chosen = _router(case, base) or base
    cascade = _checked(case, chosen)
    hint = _cheaper_pin(case, chosen)
    parts = [_head(case, chosen, pin)]
    if hint:
        parts.append(_hint(hint, _against(case, hint)))
    if cascade:
        parts.append(_cascade(case, cascade, chosen))
    if "judged" in case.policies:
        parts.append(_judge(case))
    named = {pin, hint, None if _agreed(case) or chosen != "best_single" else case.best}
    rows = [row_of(case, m["model"]) for m in case.models if m["model"] in named]
    shown = tuple(row.removeprefix("pin/") for row in rows if row.startswith("pin/"))
    return Advice(chosen, cascade, shown, "; ".join(parts) + ".")


def _checked(case: Case, chosen: str) -> str | None:
    """The cascade that beats what is advised without a check; of two and three steps the better one."""
    able = [n for n in ("cascade", "cascade3") if n in case.policies]
    able = [n for n in able if supported(case.policies[n]) and _beats(case, n, chosen)]
    if len(able) == 2 and not better(case.versus("cascade3", "cascade")):
        return "cascade"
    return able[-1] if able else None


def supported(entry: dict[str, Any]) -> bool:
    """Whether it beats the best pin beyond the interval, or saves at its quality and beats a mix.

    A gain in quality counts at any price, since no pin offers it; the sentence names the price. A router
    that abstained in most folds is the pin.
    """
    quality = entry["vs_best_single"]["quality_ci"]
    if quality is None or _abstains(entry):
        return False
    mixed = entry["vs_random_mix"]["quality_ci"]
    return bool(quality[0] > 0 or (_safe(entry) and mixed is not None and mixed[0] > 0))


def better(difference: Difference) -> bool:
    """Whether quality is better beyond the interval, or as good within MARGIN at a cost beyond it lower."""
    quality, saving = difference["quality_ci"], difference["saving_ci"]
    if quality is None:
        return False
    cheaper = saving is not None and saving[0] > 0
    return bool(quality[0] > 0 or (cheaper and quality[0] > -MARGIN and quality[1] >= 0))


def row_of(case: Case, model: str) -> str:
    """Name of the policy that is this pin: best_single or cheapest where all folds chose it, else its own."""
    for name in ("best_single", "cheapest"):
        if list(case.policies[name]["share"]) == [model]:
            return name
    return f"pin/{model}"


def _agreed(case: Case) -> bool:
    return len(case.policies["best_single"]["share"]) == 1


def _abstains(entry: dict[str, Any]) -> bool:
    return bool(2 * entry.get("abstained", 0) > entry.get("folds", 0))


def _safe(entry: dict[str, Any]) -> bool:
    """Whether it saves beyond the interval and risks no more than MARGIN for it."""
    against = entry["vs_best_single"]
    quality, saving = against["quality_ci"], against["saving_ci"]
    return bool(saving is not None and saving[0] > 0 and quality[0] > -MARGIN)


def _beats(case: Case, name: str, base: str) -> bool:
    """Whether a policy supported against the best single model also beats what is advised without it.

    Where the folds disagree on the best single model, that is the pin of the best of all training rows.
    """
    if base == "best_single":
        return _agreed(case) or better(case.versus(name, f"pin/{case.best}"))
    return better(case.versus(name, base))


def _saves_unharmed(difference: Difference) -> bool:
    """Whether it saves beyond the interval and isn't shown to be worse."""
    quality, saving = difference["quality_ci"], difference["saving_ci"]
    return bool(quality is not None and saving is not None and saving[0] > 0 and quality[1] >= 0)


def _money(model: dict[str, Any]) -> float:
    return float("inf") if model["cost_usd"] is None else float(model["cost_usd"])


def _not_worse(case: Case, entry: dict[str, Any]) -> bool:
    """Whether a pin is not shown to be worse than the best single model, by fold or of all training rows."""
    model, ends = entry["model"], entry["vs_best_single"]["quality_ci"]
    if ends is None or ends[1] < 0:
        return False
    rival = case.versus(f"pin/{model}", f"pin/{case.best}")["quality_ci"]
    return bool(model == case.best or (rival is not None and rival[1] >= 0))


def _pin(case: Case) -> str | None:
    """Cheapest pin to be advised in place of the best single model: as good by its figures, and it saves."""
    good = []
    for entry in case.models:
        against = entry["vs_best_single"]
        if row_of(case, entry["model"]) == "best_single" or not _not_worse(case, entry):
            continue
        low = against["quality_ci"][0]
        even = against["quality"] >= 0 or low > -MARGIN
        if low > 0 or (even and _saves_unharmed(against)):
            good.append(entry)
    return str(min(good, key=_money)["model"]) if good else None


def _router(case: Case, base: str) -> str | None:
    """Simplest of the supported routers that no other of them beats; None where none beats the baseline."""
    able = [n for n in SIMPLEST_FIRST if supported(case.policies[n]) and _beats(case, n, base)]
    unbeaten = [a for a in able if not any(better(case.versus(b, a)) for b in able if b != a)]
    return next(iter(unbeaten or able), None)


def _cheaper_pin(case: Case, chosen: str) -> str | None:
    """Cheapest pin that saves beyond its interval on what is advised and isn't shown to be worse than it.

    One that lacks more than PIN_MARGIN only where no other is left; then the one that lacks least.
    """
    found = []
    for entry in case.models:
        saves = _saves_unharmed(case.versus(f"pin/{entry['model']}", chosen)) and _not_worse(case, entry)
        if saves and row_of(case, entry["model"]) != chosen:
            found.append((entry["vs_best_single"]["quality"], entry))
    close = [entry for quality, entry in found if quality >= -PIN_MARGIN]
    if close:
        return str(min(close, key=_money)["model"])
    return str(max(found, key=lambda pair: pair[0])[1]["model"]) if found else None


def _head(case: Case, chosen: str, pin: str | None) -> str:
    baseline = "the best single model" + ("" if _agreed(case) else " chosen per fold")
    if chosen in _ROUTERS:
        against = case.policies[chosen]["vs_best_single"]
        return f"{_ROUTERS[chosen]}: {claim(against)} against {baseline}{_beside(case, chosen)}"
    if pin is not None:
        against = _against(case, pin)
        settled = "" if against["quality_ci"][0] > 0 else ", not shown to be worse"
        return f"Pin {pin}: {claim(against)} against {baseline}{settled}; {_why_not(case, chosen)}"
    why = _why_not(case, chosen)
    itself = "" if _agreed(case) else f" {claim(_against(case, case.best))} against {baseline}"
    if _nothing_told(case):
        of = f" on all tasks, has{itself}" if itself else ""
        return f"Not enough evidence to tell the models apart: pin {case.best}, the best so far{of}; {why}"
    if _agreed(case):
        return f"Pin {case.best}: {why}"
    return f"Pin {case.best}, the best on all tasks:{itself}; {why}"


def _nothing_told(case: Case) -> bool:
    """Whether no pin is shown to be worse than the best of all training rows."""
    others = [m["model"] for m in case.models if m["model"] != case.best]
    found = [case.versus(f"pin/{name}", f"pin/{case.best}")["quality_ci"] for name in others]
    return bool(others) and all(ends is None or ends[1] >= 0 for ends in found)


def _against(case: Case, model: str) -> Difference:
    """A pin against the baseline."""
    found: Difference = next(m["vs_best_single"] for m in case.models if m["model"] == model)
    return found


def _beside(case: Case, chosen: str) -> str:
    """How the learned router stands against a simpler one that is advised."""
    if chosen == "learned":
        return ""
    if not supported(case.policies["learned"]):
        return ", while the learned router falls short"
    adds = f"the learned router adds nothing to it ({claim(case.versus('learned', chosen))})"
    if chosen in _CONTROLS:  # what can't be served is no advice by itself
        return f"; {adds} but is what samediff serves: {claim(case.policies['learned']['vs_best_single'])}"
    return f", while {adds}"


def _why_not(case: Case, chosen: str) -> str:
    """Why no router is advised, by the learned one against what is."""
    entry = case.policies["learned"]
    if _abstains(entry):
        part = (
            ""
            if entry["abstained"] == entry["folds"]
            else f" in {entry['abstained']} of {entry['folds']} folds"
        )
        return f"the learned router did not beat the pins on its training folds, so it abstains{part}"
    against = case.versus("learned", chosen)
    if against["quality_ci"] is None:
        return "there are too few groups to say that a router beats it"
    if chosen != "best_single":
        return f"the learned router's {claim(against)} over that pin is not a gain beyond the interval"
    unlike = "more than a mix of pins gives" if _safe(entry) else "a gain beyond the interval"
    return f"the learned router's {claim(against)} is not {unlike}"


def _hint(model: str, against: Difference) -> str:
    told = "not shown to be worse" if against["quality"] >= -PIN_MARGIN else "too few tasks to tell"
    gain = points(against["quality"], against["quality_ci"])
    return f"{model} pinned has {gain} at {cost(against)}, {told}"


def _judge(case: Case) -> str:
    """What judging a run by its evidence adds to the check, where each is as good as the goal."""
    adds = case.versus("judged/parity", "static_cascade/parity")
    even = case.policies["judged"]["cost_at_parity"]
    if even["saving"] is None or adds["saving"] is None:
        return "what evidence of runs adds to a check is unknown, since a cost is"
    goal = case.reference or "the best single model"
    against = {
        "quality": even["quality_difference"],
        "quality_ci": even["quality_difference_ci"],
        "saving": even["saving"],
        "saving_ci": even["ci"],
    }
    said = f"aimed at the success of {goal} with {_check(case)}"
    if better(adds):
        gain = f"{claim(against)}, beside the check alone {claim(adds)}"
        return f"judging runs by their evidence, too, {said}, has {gain}"
    return f"judging runs by their evidence, too, {said}, is not shown to add to that check ({claim(adds)})"


def _cascade(case: Case, cascade: str, chosen: str) -> str:
    entry = case.policies[cascade]
    name = max(entry["pairs"], key=lambda pair: entry["pairs"][pair])
    name = f"the cascade {name}" if len(entry["pairs"]) == 1 else f"a cascade, mostly {name},"
    gain = claim(entry["vs_best_single"])
    base = "that pin" if chosen == "best_single" and _agreed(case) else "the same baseline"
    return f"if you have {_check(case)} (tests, a judge), {name} has {gain} against {base}"


def _check(case: Case) -> str:
    """The check that a cascade and a judge stand on."""
    wrong = f"wrong at most {100 * case.check_noise:g} % of the time" if case.check_noise else "never wrong"
    return f"a check that is {wrong}"
