"""The command of this room: `samediff cost LOG`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 — Typer reads the annotations at run time
from typing import Annotated

import typer

from router.commands import ConfigOption, JsonOption, finish

app = typer.Typer()


@app.callback()
def _room() -> None:
    """Keep the one command a command of its own name."""


@app.command()
def cost(
    log: Annotated[Path, typer.Argument(help="Log written by `samediff ingest`.")],
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            "--group-by",
            metavar="KEY",
            help="model, user, repo, session, day, month, tenant, harness, provider, effort, task, "
            "task_type, branch or source; several with commas.",
        ),
    ] = None,
    own_prices: Annotated[
        Path | None, typer.Option("--prices", help="A file of your own prices; default: the settings'.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit 1 unless prices meet recorded costs: total within 2 %, median session within 5 %, "
            "each session that is further off explained.",
        ),
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Show what was paid, what caching saved and lost, and where log and price table disagree."""
    from router import prices
    from router.gateway.settings import Settings
    from training.spend.report import as_numbers, run
    from training.spend.show import render

    prices.use(own_prices or Settings.load(config).prices)
    result = run(log, [name for part in group_by or () for name in part.split(",")])
    finish(as_numbers(result), json, lambda _: render(result))
    if check and not result.agreement.ok:
        raise typer.Exit(1)
