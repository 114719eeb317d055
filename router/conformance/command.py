"""The command of the conformance kit."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from router.commands import JsonOption, finish

app = typer.Typer()


@app.callback()
def _conformance() -> None:
    """Keep the one command a sub-command."""


@app.command()
def conformance(
    url: Annotated[str, typer.Argument(help="The gateway to try, such as http://127.0.0.1:8484.")],
    listen: Annotated[
        int, typer.Option(help="Port of the provider that we play: the gateway's upstream.")
    ] = 8485,
    model: Annotated[
        list[str] | None, typer.Option(help="Model to ask for; give it for each dialect.")
    ] = None,
    surface: Annotated[
        list[str] | None, typer.Option(help="openai_chat, anthropic_messages, openai_responses; default all.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Cases whose name holds this.")] = None,
    key_env: Annotated[
        str, typer.Option(help="Variable with the gateway's key.")
    ] = "SAMEDIFF_CONFORMANCE_KEY",
    cuts: Annotated[int, typer.Option(help="Places to cut a stream at; 0 = at every byte.")] = 24,
    json: JsonOption = None,
) -> None:
    """Try a gateway with the official SDKs: streams, tools, errors, endings. Exit 1 if anything is wrong.

    Its upstreams must all be http://127.0.0.1:LISTEN (base URL .../v1 in the OpenAI dialects): if a first
    request doesn't arrive there, nothing more is asked, and it exits 2.
    """
    from router.conformance.report import render
    from router.conformance.run import Plan, run
    from router.dialects import DIALECTS, parse_dialect

    plan = Plan(
        url=url.rstrip("/"),
        listen=listen,
        models=tuple(model or ("auto",)),
        surfaces=tuple(parse_dialect(name) for name in surface) if surface else DIALECTS,
        only=tuple(only or ()),
        key=os.environ.get(key_env, "made-up"),
        cuts=cuts,
    )
    report = asyncio.run(run(plan))
    finish(report, json, render)
    if report.failed:
        raise typer.Exit(1)
