"""A TOML file read; mistakes in it named in one line."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def read_toml(path: Path, kind: str = "", parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """Read a file of TOML; BadInput names it, after its `kind` if one is given. Money needs Decimal."""
    shown = f"{kind} {path}" if kind else str(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=parse_float)
    except OSError as error:
        raise BadInput(f"{shown}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{shown}: not valid TOML: {error}") from error
