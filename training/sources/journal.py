"""Our own journal: lines of {"kind": …, "record": {…}} as the gateway writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from features.records import RECORD_TYPES, migrate
from training.sources.base import Item, ReadOptions, Refusal, SourceFile, read_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

UNKNOWN_KIND = "a record of an unknown kind"
NEWER = "a record of a newer schema version; upgrade samediff"
WRONG_SHAPE = "a record that lacks a field or has one of another type"

PRIVATE = ("prompt_text", "response_text")
DERIVED = (
    *PRIVATE,
    "facts",
    "embedding",
    "encoder_digest",
    "feature_hash",
    "prefix_hashes",
    "prefix_bytes",
    "edit_digests",
    "answer",
)


def looks_like(item: dict[str, Any]) -> bool:
    """Tell whether this line is one of our journal's."""
    return item.get("kind") in tuple(RECORD_TYPES) and isinstance(item.get("record"), dict)


def read(file: SourceFile, options: ReadOptions) -> Iterator[Item]:
    """Read a journal file; the torn last line of a gateway that is still writing is refused as cut short."""
    for row in read_objects(file, options):
        yield row if isinstance(row, Refusal) else _record(file, options, *row)


def _record(file: SourceFile, options: ReadOptions, number: int, item: dict[str, Any]) -> Item:
    kind, plain = item.get("kind"), item.get("record")
    if not isinstance(kind, str) or kind not in RECORD_TYPES or not isinstance(plain, dict):
        return Refusal(file.name, number, UNKNOWN_KIND)
    try:
        plain = migrate(plain)
    except (ValueError, TypeError):
        return Refusal(file.name, number, NEWER)
    allowed = () if options.prompts == "full" else PRIVATE if options.prompts == "features" else DERIVED
    plain = {name: value for name, value in plain.items() if name not in allowed}
    if kind == "request":
        plain |= {"source_file": file.name, "source_row": number}
    try:
        record: Any = msgspec.convert(plain, RECORD_TYPES[kind], strict=False)
    except msgspec.ValidationError:
        return Refusal(file.name, number, WRONG_SHAPE)
    return record  # type: ignore[no-any-return]
