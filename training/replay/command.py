"""The command of this room: `samediff what-if LOG`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 — Typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from router.commands import BundleOption, ConfigOption, JsonOption, finish, write_whole

if TYPE_CHECKING:
    from training.replay.report.result import Result

app = typer.Typer()


@app.callback()
def _room() -> None:
    """Keep the one command a command of its own name."""


def _ms(option: str, said: str | None) -> int | None:
    """Epoch ms of a date or time, UTC unless it says otherwise; BadInput for what isn't one."""
    if said is None:
        return None
    try:
        at = datetime.fromisoformat(said)
    except ValueError as error:
        from features.errors import BadInput

        raise BadInput(
            f"{option} {said}: say a date or time such as 2026-11-01 or 2026-11-01T08:00"
        ) from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _names(given: list[str] | None) -> tuple[str, ...]:
    return tuple(name.strip() for part in given or () for name in part.split(",") if name.strip())


def _write(html: Path, result: Result) -> None:
    from features.errors import BadInput
    from training.replay.report.page import html_of

    try:
        write_whole(html, html_of(result).encode())
    except OSError as error:
        raise BadInput(f"{html}: can't be written ({error.strerror})") from error


# Long, as every option is a parameter of its own: Typer reads them off the signature.
@app.command("what-if")
def what_if(
    log: Annotated[Path, typer.Argument(help="Log written by `samediff ingest`.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="learned:max_loss=0.02, pin:MODEL, mix:A=0.7,B=0.3, cascade:CHEAP,STRONG, a policy's "
            "TOML file or a bundle's folder; repeatable."
        ),
    ] = None,
    prices: Annotated[
        str | None, typer.Option(help="Prices of a date, or a TOML file of price rows (README.md).")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Take a candidate away; * and ? allowed.")
    ] = None,
    having: Annotated[
        list[str] | None, typer.Option("--with", metavar="CANDIDATE", help="Bring a candidate in.")
    ] = None,
    cache: Annotated[str, typer.Option(help="on, off, or ttl=300s.")] = "on",
    budget: Annotated[
        str | None, typer.Option(help="USD, USD/day, USD/month, USD/user/day: calls beyond are refused.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option("--group-by", help="repo, user, client or task: each policy by these, too.")
    ] = None,
    cluster_by: Annotated[
        str,
        typer.Option(
            "--cluster-by",
            help="session, repo, user, client or task: intervals are over these, whose calls may be alike.",
        ),
    ] = "session",
    since: Annotated[str | None, typer.Option(help="First day or time (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Day or time before which it ends (UTC).")] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Whose diff to equal; default: the receipts' own, else what came to most at list price."
        ),
    ] = None,
    check_noise: Annotated[float, typer.Option(help="How often a cascade's check is wrong.")] = 0.1,
    router_usd: Annotated[
        float | None, typer.Option(help="USD of one decision; default: its CPU time.")
    ] = None,
    frontier: Annotated[bool, typer.Option(help="Sweep the learned policy's knob.")] = True,
    as_auto: Annotated[
        bool, typer.Option("--as-auto", help="Route calls whose client named a model, too.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as one page, too.")
    ] = None,
    bundle: BundleOption = None,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Replay a log under other policies, prices, candidates and caches; exit 1 if its own bill isn't met."""
    from router.gateway.settings import Settings
    from training.replay.options import Options
    from training.replay.report.show import render
    from training.replay.run import run

    options = Options(
        policies=tuple(policy or ()),
        prices=prices,
        without=_names(without),
        having=_names(having),
        cache=cache,
        since_ms=_ms("--since", since),
        until_ms=_ms("--until", until),
        reference=reference,
        budget=budget,
        group_by=group_by,
        cluster_by=cluster_by,
        check_noise=check_noise,
        router_usd=router_usd,
        frontier=frontier,
        as_auto=as_auto,
        estimates=bool(html or json),
    )
    result = run(log, options, Settings.load(config).having(bundle=bundle))
    if html is not None:
        _write(html, result)
    finish(result, json, render)
    if not result.ok:
        raise typer.Exit(1)
