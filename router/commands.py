"""The commands of this room: route, serve, doctor; what each does is imported when it is called."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

app = typer.Typer()

JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the machine-readable result; - = stdout.")
]

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings; default samediff.toml, if it is there.")
]
BundleOption = Annotated[
    str | None, typer.Option("--bundle", help="Folder of a bundle; default: the prior that ships.")
]
PolicyOption = Annotated[
    str | None, typer.Option("--policy", help="pin:X, mix:X=0.7,Y=0.3 or learned:max_loss=0.02,explore=0.05.")
]


def finish(
    result: Any, json_to: str | None, render: Callable[[Any], Iterable[RenderableType]] | None = None
) -> None:
    """Write the JSON result where it was asked for, and the tables for people unless JSON took stdout."""
    try:
        if json_to != "-" and render is not None:
            from rich.console import Console
            from rich.text import Text

            console = Console()
            for part in render(result):
                whole = isinstance(part, Text)  # it is there to be copied
                console.print(part, soft_wrap=whole)
    finally:  # whoever reads the tables may leave early, as `| head` does
        if json_to is not None:
            _write_json(result, json_to)


def _write_json(result: Any, json_to: str) -> None:
    import msgspec

    encoded = msgspec.json.format(msgspec.json.encode(result, enc_hook=_encode), indent=2) + b"\n"
    if json_to == "-":
        sys.stdout.buffer.write(encoded)
        sys.stdout.flush()
        return
    try:
        write_whole(Path(json_to), encoded)
    except OSError as error:
        from features.errors import BadInput

        raise BadInput(f"{json_to}: can't be written ({error.strerror}); all else is done") from error


def _encode(value: Any) -> Any:
    """Values that JSON lacks: numpy scalars become numbers, paths and the rest become text."""
    return value.item() if hasattr(value, "item") else str(value)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and put it there at once: a failed write (OSError) leaves the old one.

    What is no regular file, such as /dev/stdout or a pipe, is written to as it is; a link stays one.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    place = path.resolve()
    mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else None
    beside = place.with_name(f".{place.name[:200]}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        if mode is not None:
            beside.chmod(mode)
        beside.replace(place)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


@app.command()
def route(
    file: Annotated[str, typer.Argument(help="Request body as JSON; - = stdin.")],
    dialect: Annotated[str | None, typer.Option(help="Default: told by the body.")] = None,
    session: Annotated[str | None, typer.Option(help="Session id for the receipt.")] = None,
    task_type: Annotated[str | None, typer.Option(help="Kind of task, as the log names it.")] = None,
    at_ms: Annotated[
        int | None, typer.Option("--at-ms", help="Time that prices go by, UTC epoch ms; default now.")
    ] = None,
    bundle: BundleOption = None,
    policy: PolicyOption = None,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Decide one request without a server and show the receipt."""
    from router.gateway.settings import Settings
    from router.offline import Question, render, run

    settings = Settings.load(config).having(bundle=bundle, policy=policy)
    finish(run(Question(file, dialect, session, at_ms, task_type), settings), json, render)


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default 8484; 0 takes a free one.")] = None,
    bundle: BundleOption = None,
    policy: PolicyOption = None,
    journal: Annotated[str | None, typer.Option(help="Folder of the request log.")] = None,
    json: JsonOption = None,
) -> None:
    """Route and forward requests until stopped."""
    from router.gateway.serve import announcement, prepare, serving
    from router.gateway.serve import run as serve_until_stopped
    from router.gateway.settings import Settings

    settings = Settings.load(config).having(
        host=host, port=port, bundle=bundle, policy=policy, journal=journal
    )
    prepared = prepare(settings)
    for line in announcement(prepared, settings) if json != "-" else ():
        typer.echo(line)
    sys.stdout.flush()
    finish(serving(prepared, settings), json)
    serve_until_stopped(prepared, settings)


@app.command()
def doctor(
    config: ConfigOption = None,
    bundle: BundleOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Don't ask the catalogue's addresses for their models.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Look at what serving needs: bundle, catalogue, prices, keys, addresses; exit 1 if any is broken."""
    from router.doctor import render, run
    from router.gateway.settings import Settings

    diagnosis = run(Settings.load(config).having(bundle=bundle), online=not offline)
    finish(diagnosis, json, render)
    if diagnosis.exit_code:
        raise typer.Exit(diagnosis.exit_code)
