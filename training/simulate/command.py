"""The command of this room: `samediff simulate`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 — Typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from router.commands import ConfigOption, JsonOption, finish

if TYPE_CHECKING:
    from training.simulate.traffic import Traffic
    from training.simulate.world import World

app = typer.Typer()
_MOST_DECISIONS = 2_000_000  # about 2 GB while a log of so many is looked at


@app.callback()
def _room() -> None:
    """Keep the one command a command of its own name."""


# Long, as every option is a parameter of its own: Typer reads them off the signature.
@app.command()
def simulate(
    to: Annotated[Path | None, typer.Option("--to", metavar="LOG", help="New folder of the log.")] = None,
    turns: Annotated[int, typer.Option(help="Calls of the log.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Another seed is another team, and other luck.")] = 0,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the truth goes; default LOG.truth.json.")
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every arm's outcome of every ask, too: for `evaluate`."),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Who serves: pin:X, mix:X=0.7,Y=0.3 or learned:….")
    ] = "learned:max_loss=0.05,explore=0.1",
    target: Annotated[
        list[str] | None, typer.Option(metavar="POLICY", help="Tell this policy's truth, too; repeatable.")
    ] = None,
    arms: Annotated[
        str | None, typer.Option(metavar="X=0.9,Y=0.8", help="Arms and their mean success; reference first.")
    ] = None,
    asks: Annotated[float, typer.Option(help="Asks of a session, on average.")] = 3.0,
    turns_of_ask: Annotated[
        float,
        typer.Option("--turns-of-ask", help="Calls of an ask, on average; the first is decided freely."),
    ] = 5.0,
    drift: Annotated[
        float, typer.Option(help="Log-odds that the arms but the reference gain over the log.")
    ] = 0.0,
    repos: Annotated[int, typer.Option(help="Repositories of the team.")] = 8,
    users: Annotated[int, typer.Option(help="People in the team.")] = 12,
    days: Annotated[float, typer.Option(help="Days that the log spans.")] = 14.0,
    labelled: Annotated[float, typer.Option(help="Share of the asks whose outcome is told.")] = 0.8,
    silent_failures: Annotated[
        float, typer.Option(help="Share of the failures among them that isn't told after all: a bias.")
    ] = 0.0,
    noise: Annotated[float, typer.Option(help="Share of what is told that says the opposite.")] = 0.05,
    pairs: Annotated[float, typer.Option(help="Share of the asks that all other arms are asked.")] = 0.02,
    pairs_tested: Annotated[
        float,
        typer.Option("--pairs-tested", help="Share of their answers that tests tell of, not only the diff."),
    ] = 1.0,
    power: Annotated[
        bool, typer.Option("--power", help="Write no log: show what logs of several sizes can prove.")
    ] = False,
    sizes: Annotated[str, typer.Option(help="--power: sizes in free decisions.")] = "2000,20000,200000",
    runs: Annotated[
        int, typer.Option(help="--power: logs of each kind; from 20 on their spread is shown, too.")
    ] = 5,
    session: Annotated[
        int, typer.Option(help="--power: free decisions of a session: one kind, one repository.")
    ] = 1,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Make a log whose truth is known, or show what a log's size, exploration and pairs can prove."""
    from features.errors import BadInput
    from training.simulate.traffic import Traffic
    from training.simulate.world import ARMS, World

    world = World(arms=_arms(arms) or ARMS.copy(), drift=drift, repos=repos, seed=seed)
    traffic = Traffic(
        asks=asks,
        turns=turns_of_ask,
        days=days,
        users=users,
        labelled=labelled,
        silent_failures=silent_failures,
        noise=noise,
        pairs=pairs,
        pairs_tested=pairs_tested,
    )
    if power and to is not None:
        raise BadInput("--power writes no log: leave --to out, or --power")
    if power:
        _show_power(world, traffic, _sizes(sizes), (runs, session), json)
        return
    if to is None:
        raise BadInput("where to? name the log's folder with --to, or ask for --power")
    from router.gateway.settings import Settings
    from training.simulate.show import render
    from training.simulate.write import Wanted, make

    wanted = Wanted(
        to=to, turns=turns, truth=truth, matrix=matrix, policy=policy, targets=tuple(target or ())
    )
    finish(make(world, traffic, wanted, Settings.load(config)), json, render)


def _show_power(
    world: World, traffic: Traffic, sizes: list[int], logs: tuple[int, int], json: str | None
) -> None:
    from functools import partial

    from features.errors import BadInput
    from training.progress import Progress
    from training.simulate.power import power, render

    runs, session = logs
    if runs < 1 or session < 1:
        raise BadInput("--runs and --session: 1 at least")
    with Progress("power") as progress:
        found = power(
            world, traffic, sizes, runs=runs, session=session, told=lambda _at, _of: progress.advance()
        )
    finish(found, json, partial(render, traffic=traffic))


def _arms(given: str | None) -> dict[str, float]:
    """Arms and their mean success from NAME=0.9,NAME=0.8; BadInput names the word that is off."""
    from features.errors import BadInput

    found: dict[str, float] = {}
    for word in filter(None, (given or "").split(",")):
        name, _, mean = word.partition("=")
        if name.strip() in found:
            raise BadInput(f"--arms: {name.strip()!r} stands there twice")
        try:
            found[name.strip()] = float(mean)
        except ValueError:
            raise BadInput(f"--arms: {word!r} is no NAME=0.9") from None
    return found


def _sizes(given: str) -> list[int]:
    """Sizes from 2000,20000; BadInput names the word that is off."""
    from features.errors import BadInput

    found = []
    for word in filter(None, given.split(",")):
        if not word.strip().isdigit() or not int(word) > 0:
            raise BadInput(f"--sizes: {word!r} is no number of decisions")
        if int(word) > _MOST_DECISIONS:
            raise BadInput(f"--sizes: {word} decisions are more than fit; at most {_MOST_DECISIONS:,}")
        found.append(int(word))
    if not found:
        raise BadInput("--sizes: name one at least, such as --sizes 2000,20000")
    return found
