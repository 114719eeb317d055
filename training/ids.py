"""Which ids name one thing in the world, and which only within the file or server that counts them.

Providers' ids, UUIDs and hashes are long and random. A row number, `chatcmpl-417` or `req-000012` comes again
elsewhere, so such an id is made one of its own by what it stands beside.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import xxhash

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RUN = re.compile(r"[0-9A-Za-z]{16,}")


def is_global(said: str | None) -> bool:
    """Tell whether an id may be taken as unique everywhere: a UUID, or sixteen letters and digits in a row.

    A word that has no digits and one case is a name, and a counter is padded with zeros.
    """
    if said is None:
        return False
    return _UUID.search(said) is not None or any(map(_is_random, _RUN.findall(said)))


def _is_random(run: str) -> bool:
    return not run.startswith("0000") and (not run.isalpha() or not (run.islower() or run.isupper()))


def own_id(said: str | None, *content: Any) -> str:
    """Return an id that is unique everywhere as it is; a local one, or none, with a digest of its content.

    The same row in another export has the same content, and so the same id.
    """
    if said is not None and is_global(said):
        return said
    digest = xxhash.xxh3_64_hexdigest(msgspec.json.encode(content, order="sorted"))
    return f"{said or 'row'}#{digest}"
