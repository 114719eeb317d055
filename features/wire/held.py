"""State that only the provider who made it can read: what it keeps under an id, signed or encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEPTH = 8
_KEYS = (
    "file_id",
    "encrypted_content",
    "encrypted_index",
    "signature",
    "thought_signature",
    "container_id",
)
_KINDS = ("item_reference", "compaction", "compaction_summary", "context_compaction")
_IN_TOOLS = (b"vector_store_ids", b"cntr_", b"file_ids")
_tool = msgspec.json.Decoder(dict[str, Any])


def held(value: Any, depth: int = 0) -> bool:
    """Whether a block, or one within it, names or holds what no other provider can read."""
    if isinstance(value, list):
        return depth < _DEPTH and any(held(v, depth + 1) for v in value if isinstance(v, dict | list))
    if not isinstance(value, dict):
        return False
    # Texts only: a schema may well have a property of such a name.
    if value.get("type") in _KINDS or any(_said(value.get(key)) for key in _KEYS):
        return True
    inner = [v for v in value.values() if isinstance(v, dict | list)]
    return depth < _DEPTH and any(held(v, depth + 1) for v in inner)


def tools_hold(raws: Sequence[msgspec.Raw]) -> bool:
    """Whether a provider's own tool works on what is kept there: vector stores, a container, files."""
    for raw in raws:
        written = bytes(raw)
        if any(word in written for word in _IN_TOOLS):
            tool = _tool.decode(written)
            container = tool.get("container")
            files = container.get("file_ids") if isinstance(container, dict) else None
            if tool.get("vector_store_ids") or _said(container) or files:
                return True
    return False


def _said(value: Any) -> bool:
    return isinstance(value, str) and value != ""
