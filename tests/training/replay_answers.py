"""Answers of `samediff what-if` as tests ask for them: the JSON, a row of it, and the table as printed."""

import json

from typer.testing import CliRunner

import samediff
from features.errors import BadInput


def what_if(log, *more, code=0):
    """The answer as JSON."""
    given = [] if "--frontier" in more else ["--no-frontier"]
    done = CliRunner().invoke(samediff.app, ["what-if", str(log), *given, *more, "--json", "-"])
    if isinstance(done.exception, BadInput):
        raise done.exception
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def row(result, name):
    """The policy of this name."""
    return next(r for r in result["policies"] if r["name"] == name)


def shown(log, *more):
    """The table as printed."""
    done = CliRunner().invoke(
        samediff.app, ["what-if", str(log), "--no-frontier", *more], env={"COLUMNS": "100"}
    )
    assert done.exit_code == 0, done.output
    return done.stdout
