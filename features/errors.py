"""The project's error tree: what a user may see, drawn in one place."""


class SamediffError(Exception):
    """Base of every error that is shown to a user as one line, never as a traceback."""

    exit_code = 2


class BadInput(SamediffError):
    """The input can't be used; the message names the file, row or key and the way out."""


class MissingExtra(BadInput):
    """A library of an optional extra isn't installed; the message is the command that installs it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed; run: pip install 'samediff[{extra}]'")


class CheckFailed(SamediffError):
    """The work itself says no: a gate failed or a check fell short."""

    exit_code = 1
