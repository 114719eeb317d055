"""What all readers share: a file, its options, and lines or objects out of it in bounded memory.

A reader is a generator over one file that yields records and refusals; every row it meets becomes one of
the two. What isn't a row of its own (a user's turn in a transcript, a blank line) is neither.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from features.records import DecisionRecord, OutcomeRecord, Prompts, RequestRecord

if TYPE_CHECKING:
    from pathlib import Path

    from features.encoder import Encoder

Record = RequestRecord | DecisionRecord | OutcomeRecord

CHUNK_BYTES = 1 << 20
DOCUMENT_BYTES = 64 << 20  # a file that is one JSON document is decoded whole, so it has a limit of its own
GZIP = b"\x1f\x8b"

# Why a row was refused. Fixed words, never a value from the file: they are counted, and shown.
NOT_JSON = "not valid JSON"
NOT_UTF8 = "not UTF-8"
NUL_BYTES = "NUL bytes in the line"
NOT_OBJECT = "not a JSON object"
CUT_LINE = "line cut short at the end of the file"
CUT_GZIP = "gzip cut short; the rows before the cut are kept"
BAD_GZIP = "gzip damaged; the rows before the damage are kept"
TOO_LONG = "line over the limit"
TOO_LARGE = "one JSON document over 64 MiB; export one object a line"
CUT_DOCUMENT = "JSON document damaged or cut short; what is whole before that is kept"
BAD_PARQUET = "Parquet file damaged or cut short"
GAVE_UP = "the rest of a file that its reader can't make sense of; the rows before are kept"
OTHER_FORMAT = "a line of another format"
UNREADABLE = "the file can't be read"
NO_TIME = "no usable timestamp"
NO_SESSION = "no session"
UNFINISHED = "the answer was never finished in this file"


class Refusal(NamedTuple):
    """A row that was not kept: where (1-based row, None = the whole file) and why; `n` rows at once."""

    file: str
    row: int | None
    reason: str
    n: int = 1


class Labelled(NamedTuple):
    """One row that tells of a call and of what became of it; it counts as the one row it is."""

    request: RequestRecord
    outcome: OutcomeRecord


Item = Record | Labelled | Refusal


class ReadOptions(NamedTuple):
    """How sources are read; equal options give equal records."""

    prompts: Prompts = "features"
    column_map: Mapping[str, str] = MappingProxyType({})  # ours -> theirs
    reasoning: Literal["apart", "inside"] | None = None
    max_line_bytes: int = 32 << 20
    encoder: Encoder | None = None


def quiet(_: int) -> None:
    """Hear of bytes read and do nothing."""


class SourceFile(NamedTuple):
    """One file to read: where it is, what it is called in the log, and who hears of the bytes read."""

    path: Path
    name: str  # relative to the source's root; never absolute
    on_bytes: Callable[[int], None] = quiet


Reader = Callable[[SourceFile, ReadOptions], Iterator[Item]]
Row = tuple[int, dict[str, Any]]
_ELEMENT = re.compile(r"[\s,]*(?=\S)")


def read_lines(file: SourceFile, limit: int) -> Iterator[tuple[int, bytes, bool] | Refusal]:
    """Lines of a plain or gzip file as (1-based number, bytes without the newline, ended by a newline).

    A line over `limit` bytes is refused without being held; a gzip cut short gives one refusal at its end.
    """
    number, size, held = 1, 0, bytearray()
    for chunk in _chunks(file):
        if isinstance(chunk, str):
            yield Refusal(file.name, number, chunk)
            return
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            size += end - start
            if size > limit:
                yield Refusal(file.name, number, TOO_LONG)
            else:
                held += chunk[start:end]
                yield number, bytes(held), True
            held.clear()
            number, size, start = number + 1, 0, end + 1
        size += len(chunk) - start
        held = held + chunk[start:] if size <= limit else bytearray()
    if size > limit:
        yield Refusal(file.name, number, TOO_LONG)
    elif held:
        yield number, bytes(held), False


def read_objects(file: SourceFile, options: ReadOptions) -> Iterator[Row | Refusal]:
    """JSON objects of a file with their row: one a line, or the elements of one JSON document."""
    if _is_document(file.path):
        yield from _read_document(file)
        return
    decoder = msgspec.json.Decoder()
    for line in read_lines(file, options.max_line_bytes):
        if isinstance(line, Refusal):
            yield line
            continue
        number, raw, ended = line
        if not raw.strip():
            continue
        value, reason = decode(decoder, raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw)
        if reason is None:
            yield number, value
        else:
            yield Refusal(file.name, number, reason if ended else CUT_LINE)


def decode(decoder: msgspec.json.Decoder[Any], raw: bytes) -> tuple[dict[str, Any], str | None]:
    """Decode one JSON object: (object, None), or ({}, why it isn't one)."""
    try:
        value = decoder.decode(raw)
    except UnicodeDecodeError:
        return {}, NOT_UTF8
    except (msgspec.MsgspecError, RecursionError):  # nested a thousand deep is malformed to us
        return {}, NUL_BYTES if b"\x00" in raw else NOT_JSON
    return (value, None) if isinstance(value, dict) else ({}, NOT_OBJECT)


def head(path: Path, size: int = 1 << 16) -> bytes:
    """Return the first bytes of a file, unpacked if it is gzip as far as that goes."""
    with path.open("rb") as handle:
        raw = handle.read(size)
    if not raw.startswith(GZIP):
        return raw
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, size)
    except zlib.error:
        return b""


def _chunks(file: SourceFile) -> Iterator[bytes | str]:
    """Plain bytes of a file by the chunk; a last str is the reason why there are no more."""
    try:
        with file.path.open("rb") as handle:
            packed = handle.read(2) == GZIP
            handle.seek(0)
            raw = iter(lambda: handle.read(CHUNK_BYTES), b"")
            yield from _unpack(raw, file.on_bytes) if packed else _told(raw, file.on_bytes)
    except OSError:
        yield UNREADABLE


def _told(raw: Iterator[bytes], on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in raw:
        on_bytes(len(chunk))
        yield chunk


def _unpack(raw: Iterator[bytes], on_bytes: Callable[[int], None]) -> Iterator[bytes | str]:
    """Unpack gzip by hand: the gzip module loses the last rows before a cut, and knows no output limit."""
    member = zlib.decompressobj(wbits=31)
    started = False
    try:
        for chunk in _told(raw, on_bytes):
            rest = chunk
            while rest:
                started, before = True, member.copy()
                try:
                    unpacked = member.decompress(rest, CHUNK_BYTES)
                except zlib.error:
                    yield from _up_to_damage(before, rest)
                    raise
                yield unpacked
                rest = member.unconsumed_tail
                if member.eof:  # the next member, if there is one; padding with zeros is allowed
                    rest = member.unused_data.lstrip(b"\x00")
                    member, started = zlib.decompressobj(wbits=31), False
        if started:
            yield member.flush()
            if not member.eof:
                yield CUT_GZIP
    except zlib.error:
        yield BAD_GZIP


def _up_to_damage(member: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
    """Unpack byte by byte what comes before the damage; zlib throws away a whole chunk that has any."""
    for at in range(len(packed)):
        try:
            yield member.decompress(packed[at : at + 1])
        except zlib.error:
            return


def _is_document(path: Path) -> bool:
    """Tell whether the file is one JSON document: an array of objects, or an object spread over lines."""
    first, _, rest = head(path).removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if first.startswith(b"["):
        inside = first[1:].lstrip()
        return not inside or inside.startswith((b"{", b"]"))
    return first.rstrip() == b"{" and rest.lstrip().startswith((b'"', b"}"))


def _read_document(file: SourceFile) -> Iterator[Row | Refusal]:
    parts: list[bytes] = []
    size = 0
    for chunk in _chunks(file):
        if isinstance(chunk, str):
            yield Refusal(file.name, None, chunk)
            return
        parts.append(chunk)
        size += len(chunk)
        if size > DOCUMENT_BYTES:
            yield Refusal(file.name, None, TOO_LARGE)
            return
    raw = b"".join(parts).removeprefix(b"\xef\xbb\xbf")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        yield from _whole_elements(file, raw)
        return
    for index, item in enumerate(value if isinstance(value, list) else [value], start=1):
        yield (index, item) if isinstance(item, dict) else Refusal(file.name, index, NOT_OBJECT)


def _whole_elements(file: SourceFile, raw: bytes) -> Iterator[Row | Refusal]:
    """Elements of an array that is cut short or damaged, up to where it is; then why there are no more."""
    text = raw.decode("utf-8", "replace")
    decoder, at, index = json.JSONDecoder(), 0, 0
    if text.lstrip().startswith("["):
        at = text.index("[") + 1
        with contextlib.suppress(ValueError, RecursionError):
            while found := _ELEMENT.match(text, at):
                value, at = decoder.raw_decode(text, found.end())
                index += 1
                yield (index, value) if isinstance(value, dict) else Refusal(file.name, index, NOT_OBJECT)
    yield Refusal(file.name, index + 1 if index else None, CUT_DOCUMENT)
