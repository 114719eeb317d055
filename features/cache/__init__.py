"""Prompt caches: what providers keep and how long (rules), what is warm where (state), replay in bulk."""

from features.cache.bulk import Turns, TurnSplits, block_hits, replay_turns
from features.cache.prefixes import (
    PREFIXES_KEPT,
    Chain,
    PrefixChain,
    PrefixMemory,
    Shared,
    prefix_chain,
    shared_messages,
    tools_seed,
)
from features.cache.reading import Common, in_common, missed, read, unread
from features.cache.rules import CacheRules, Lifetime, read_rules, rules_digest, rules_for, why_no_rules
from features.cache.state import after, corrected, last_used
from features.cache.types import CacheRequest, CacheState, Split, Why

__all__ = [
    "PREFIXES_KEPT",
    "CacheRequest",
    "CacheRules",
    "CacheState",
    "Chain",
    "Common",
    "Lifetime",
    "PrefixChain",
    "PrefixMemory",
    "Shared",
    "Split",
    "TurnSplits",
    "Turns",
    "Why",
    "after",
    "block_hits",
    "corrected",
    "in_common",
    "last_used",
    "missed",
    "prefix_chain",
    "read",
    "read_rules",
    "replay_turns",
    "rules_digest",
    "rules_for",
    "shared_messages",
    "tools_seed",
    "unread",
    "why_no_rules",
]
