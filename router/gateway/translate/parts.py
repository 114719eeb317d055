"""Pictures, documents and texts of the dialects' content blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from features.wire import plain
from router.gateway.translate.talk import File, Image, Text, Untranslatable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.gateway.translate.talk import Piece

_DATA_URL = re.compile(r"data:([\w.+/-]+)(?:;[\w=.-]+)*;base64,", re.ASCII)


def text_of(content: Any) -> str:
    """All text of a content value."""
    if isinstance(content, str):
        return content
    texts = (plain.flatten(block) for block in content or ())
    return "\n\n".join(text for text in texts if text)


def textual(pieces: Sequence[Piece]) -> tuple[Text | Image | File, ...]:
    """The pieces that a tool's result may hold."""
    return tuple(piece for piece in pieces if isinstance(piece, Text | Image | File))


def inline(address: str) -> tuple[str, str] | None:
    """(media type, base64) of a data URL; None for another."""
    found = _DATA_URL.match(address)
    return (found[1], address[found.end() :]) if found else None


def image_part(address: Any, detail: Any = None) -> Image:
    """A picture by its address; Untranslatable for one that its provider keeps."""
    if not isinstance(address, str) or not address:
        raise Untranslatable("a picture kept by its provider can't be sent to another")
    if found := inline(address):
        return Image(None, *found, plain.string(detail))
    if not address.startswith(("http://", "https://")):
        raise Untranslatable("a picture must be a data: or http(s): URL to be sent to another provider")
    return Image(address, detail=plain.string(detail))


def file_part(block: dict[str, Any]) -> File:
    """A document of either OpenAI dialect; Untranslatable for one that its provider keeps."""
    name = plain.string(block.get("filename")) or "document.pdf"
    if isinstance(url := block.get("file_url"), str):
        return File(name, url)
    found = inline(data) if isinstance(data := block.get("file_data"), str) else None
    if found is None:
        raise Untranslatable("a file kept by its provider can't be sent to another; send it inline")
    return File(name, None, *found)
