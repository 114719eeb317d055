"""What takes a candidate out before any price is looked at: context, output length, capabilities, effort."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.names import EFFORTS

if TYPE_CHECKING:
    from features.facts import Facts
    from router.catalog import Candidate


def exclusion(row: Candidate, published: int | None, facts: Facts, prompt_tokens: int) -> str | None:
    """Return the first constraint that a candidate fails, or None; what is unknown is held against nobody.

    `published` is the context window (tokens) of its model where it is called.
    """
    window = row.context_tokens or published
    asked = facts.max_output_tokens or 0
    if window is not None and prompt_tokens + asked > window:
        return "context_too_long"
    if row.max_output_tokens is not None and asked > row.max_output_tokens:
        return "output_too_long"
    can = row.capabilities
    if can is not None:
        if facts.n_tools and "tools" not in can:
            return "no_tools"
        if facts.n_images and "images" not in can:
            return "no_images"
        if facts.json_schema and "json_schema" not in can:
            return "no_json_schema"
        if facts.thinking and "thinking" not in can:
            return "no_thinking"
    # The body is forwarded as it came, so an effort can't be set that the client hasn't asked for.
    return "effort" if row.effort is not None and facts.effort != EFFORTS.get(row.effort) else None
