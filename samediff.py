"""The front door: the command line, whose commands live in the rooms and are imported only when called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

# Where each command lives, in the order in which `--help` shows them.
COMMANDS = {
    **dict.fromkeys(("ingest", "label"), "training.commands"),
    **dict.fromkeys(("train", "retrain", "promote", "rollback"), "training.lifecycle"),
    **dict.fromkeys(("evaluate", "diff", "shadow", "encoder"), "training.commands"),
    "cost": "training.spend.command",
    "what-if": "training.replay.command",
    "simulate": "training.simulate.command",
    **dict.fromkeys(("route", "serve", "doctor"), "router.commands"),
    "conformance": "router.conformance.command",
}


class Rooms(TyperGroup):
    """The commands of all rooms, of which only the one that is called gets opened."""

    def list_commands(self, _: Any) -> list[str]:
        """Names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 — Click's signature
        """Open the room of a command; None for one that isn't known."""
        if cmd_name not in COMMANDS:
            return None
        room: Any = typer.main.get_command(importlib.import_module(COMMANDS[cmd_name]).app)
        return room.commands[cmd_name]


app = typer.Typer(
    name="samediff", cls=Rooms, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def samediff() -> None:
    """A learned router for coding agents: the cheapest model likely to produce the same diff."""


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
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left can't be written either
        sys.stderr.write(f"samediff: {error.filename or 'the output'}: {error.strerror}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
