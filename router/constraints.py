"""What takes a candidate out before any price is looked at: context, output length, capabilities, effort."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.names import EFFORTS
from router.prices import context_window

if TYPE_CHECKING:
    from features.facts import Facts
    from router.catalog import Candidate, Deployment


def exclusion(row: Candidate, deployment: Deployment, facts: Facts, prompt_tokens: int) -> str | None:
    """Return the first constraint that a candidate fails, or None; what is unknown is held against nobody."""
    window = row.context_tokens or context_window(deployment.model, deployment.provider)
    asked = facts.max_output_tokens or 0
    takes = row.capabilities
    checks = {
        "context_too_long": window is not None and prompt_tokens + asked > window,
        "output_too_long": row.max_output_tokens is not None and asked > row.max_output_tokens,
        "no_tools": takes is not None and "tools" not in takes and bool(facts.n_tools),
        "no_images": takes is not None and "images" not in takes and bool(facts.n_images),
        "no_json_schema": takes is not None and "json_schema" not in takes and bool(facts.json_schema),
        "no_thinking": takes is not None and "thinking" not in takes and bool(facts.thinking),
        # The body is forwarded as it came, so an effort can't be set that the client hasn't asked for.
        "effort": row.effort is not None and facts.effort != EFFORTS.get(row.effort),
    }
    return next((name for name, failed in checks.items() if failed), None)
