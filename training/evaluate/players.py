"""The table of policies that are played beside the controls; a new one is a line here and a function."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from training.evaluate.chains import cascade_menus
from training.evaluate.consensus import consensus
from training.evaluate.judged import judged
from training.evaluate.menus import beside_pin, take
from training.evaluate.policies import Played, routed

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.evaluate.options import Options
    from training.evaluate.policies import Setting

    Player = Callable[[Setting], Played | None]

ROUTERS = ("table", "knn", "logistic", "learned")  # fitted by `predict`, one score for each fold


def players(options: Options) -> dict[str, Player]:
    """Every policy by name, in the order shown; a player gives None for what can't be played."""
    first, *more = options.check_noise
    return {
        "cascade": partial(cascade, noise=first),
        **{f"cascade@{noise:g}": partial(cascade, noise=noise) for noise in more},
        "cascade3": partial(cascade, noise=first, steps=3),
        "consensus": consensus,
        **{name: partial(routed, name=name) for name in ("knn", "logistic", "table", "learned")},
        **(judges(options) if options.evidence else {}),
    }


def judges(options: Options) -> dict[str, Player]:
    """Judged policies and the static cascades beside them, by name, for each error rate of the check."""
    found: dict[str, Player] = {}
    for noise, at in zip(options.check_noise, suffixes(options), strict=True):
        found[f"static_cascade{at}"] = partial(judged, noise=noise, judge=False)
        found[f"judged{at}"] = partial(judged, noise=noise)
    return found


def suffixes(options: Options) -> list[str]:
    """What the names of policies bear for each error rate of the check; the first nothing."""
    return ["", *(f"@{noise:g}" for noise in options.check_noise[1:])]


def play(setting: Setting) -> dict[str, Played]:
    """What each policy that can be played got."""
    played = {name: player(setting) for name, player in players(setting.options).items()}
    return {name: found for name, found in played.items() if found is not None}


def cascade(setting: Setting, noise: float, steps: int = 2) -> Played | None:
    """A cascade: the best of those that cost no more than the best pin, else the cheapest that is as good.

    Of three steps only where there are three models.
    """
    if len(setting.matrix.models) < steps:
        return None
    menus = cascade_menus(setting, noise, steps)
    chosen = [beside_pin(menu, known) for menu, known in zip(menus, setting.books, strict=True)]
    names = [menu.names[i] for menu, i in zip(menus, chosen, strict=True)]
    facts: dict[str, Any] = {"pairs": dict(Counter(names)), "check_noise": noise}
    return Played(take(menus, chosen), menus, names, facts)
