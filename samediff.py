"""The command line: each sub-command imports its room only when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    name="samediff",
    help="A learned router for coding agents: the cheapest model likely to produce the same diff.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the machine-readable result; - = stdout.")
]


def finish(
    result: Any, json_to: str | None, render: Callable[[Any], Iterable[RenderableType]] | None = None
) -> None:
    """Write the JSON result where it was asked for, and the tables for people unless JSON took stdout."""
    import msgspec

    if json_to is not None:
        encoded = msgspec.json.format(msgspec.json.encode(result, enc_hook=_encode), indent=2)
        if json_to == "-":
            sys.stdout.buffer.write(encoded + b"\n")
            sys.stdout.flush()
        else:
            Path(json_to).write_bytes(encoded + b"\n")
    if json_to != "-" and render is not None:
        from rich.console import Console

        console = Console()
        for part in render(result):
            console.print(part)


def _encode(value: Any) -> Any:
    """Values that JSON lacks: numpy scalars become numbers, paths and the rest become text."""
    return value.item() if hasattr(value, "item") else str(value)


def main() -> None:
    """Entry point of the console script: user errors become one line and an exit code, never a traceback."""
    from features.errors import SamediffError

    try:
        app()
    except SamediffError as error:
        sys.stderr.write(f"samediff: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our stdout has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
