"""The front door: the command line, put together from the commands of the rooms."""

from __future__ import annotations

import os
import sys

import typer

from router.commands import app as router_app
from training.commands import app as training_app

app = typer.Typer(
    name="samediff",
    help="A learned router for coding agents: the cheapest model likely to produce the same diff.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(training_app)
app.add_typer(router_app)


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
