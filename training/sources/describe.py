"""From bodies and messages to the fields of a record, through the same feature code that serves requests."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.assemble import facts_of, trajectory_of
from features.cache import PREFIXES_KEPT, PrefixMemory, prefix_chain, tools_seed
from features.context import LastTurn, TokenRatios, estimate_tokens, next_prompt_tokens
from features.editfacts import kept_of_answer
from features.prompt import salient_text
from features.textfacts import text_facts
from features.vector import FACT_NAMES, feature_hash
from features.wire import Dialect, Message, Part, WireRequest, WireResponse, usage_from
from training.sources.values import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.sources.base import ReadOptions

SESSIONS_KEPT = 100_000
SAME_TEXTS = 64  # salient texts whose facts and embedding are remembered; a matrix repeats them per model


# A transcript doesn't hold the request's envelope (system prompt, tools, what the client injects), so these
# are unknown there, and never 0. A resumed Claude Code changes its system prompt, and so its whole prefix.
ENVELOPE = (
    "body_bytes", "system_bytes", "stream", "max_output_tokens", "tool_choice_forced", "thinking",
    "json_schema", "cache_markers", "n_tools", "tools_bytes", "tools_read", "tools_search", "tools_edit",
    "tools_shell", "tools_web", "tools_plan", "tools_agent", "tools_mcp", "cache_shared_bytes",
    "cache_shared_share", "cache_age_ms",
    *(name for name in FACT_NAMES if name.startswith(("schema_", "tools_named_", "client_", "kind_"))),
)  # fmt: skip


class _Sent(NamedTuple):
    """A session's last request: its body's bytes, its turn, and what the provider counted."""

    bytes: float
    last: LastTurn


class Memory:
    """What one file has told so far about its sessions; bounded, least recently used first out."""

    def __init__(self) -> None:
        self.prefixes = PrefixMemory(max_messages=1_000_000)
        self.ratios = TokenRatios()
        self.sent: OrderedDict[str, _Sent] = OrderedDict()

    def conversation(self, request: WireRequest | None) -> str | None:
        """Make a session id for a request that names none, of its opening up to the first user's turn.

        Requests of one conversation then stay together when data is split by session.
        """
        if request is None:
            return None
        first = next((i for i, message in enumerate(request.messages) if message.role == "user"), None)
        if first is None:
            return None
        hashes, _ = prefix_chain(request.messages[: first + 1])
        return f"opening-{hashes[-1]:016x}"

    def told(self, session: str, fields: dict[str, Any]) -> None:
        """Learn from a call's usage, once it is known, for the next request of its session."""
        sent = self.sent.get(session)
        if sent is None:
            return
        tokens = prompt_tokens(fields)
        last = sent.last._replace(prompt_tokens=tokens, output_tokens=fields.get("output_tokens"))
        self.sent[session] = sent._replace(last=last)
        self.ratios.correct(fields.get("model_requested") or "", sent.bytes, tokens)

    def remember(self, session: str, body_bytes: float, turn: int | None) -> _Sent | None:
        """Note a request; returns the one before it in its session."""
        before = self.sent.pop(session, None)
        self.sent[session] = _Sent(body_bytes, LastTurn(turn, None, None))
        if len(self.sent) > SESSIONS_KEPT:
            self.sent.popitem(last=False)
        return before


def request_fields(
    request: WireRequest, session: str, ts_ms: int, options: ReadOptions, memory: Memory
) -> dict[str, Any]:
    """Fields that a whole request body gives: what was asked for, its facts, and its prefix chain."""
    fields: dict[str, Any] = {
        "dialect": request.dialect,
        "stream": request.stream,
        "model_requested": request.model[:512] or None,
        "effort": request.effort,
    }
    if options.prompts == "none":
        return fields
    chain = prefix_chain(request.messages, tools_seed("", request.tools))  # as the gateway seeds it
    trajectory = trajectory_of(request)
    turn = None if request.previous_response_id else trajectory.n_assistant_messages
    before = memory.remember(session, float(request.body_bytes), turn)
    last_bytes, last = (before.bytes, before.last) if before else (None, None)
    last_tokens = last.prompt_tokens if last else None
    estimate = next_prompt_tokens(last, turn, trajectory.new_bytes)
    if estimate is None:
        ratio = memory.ratios.ratio(request.model)
        estimate = estimate_tokens(request.body_bytes, last_bytes, last_tokens, ratio)
    facts = facts_of(
        request,
        trajectory=None if turn is None else trajectory,
        cache=memory.prefixes.lookup(session, chain, ts_ms),
        context_tokens_est=estimate,
        context_tokens_last=last_tokens,
    )
    memory.prefixes.remember(session, chain, ts_ms)
    return (
        fields | {"facts": facts} | prefix_fields(*chain) | salient_fields(trajectory.salient_text(), options)
    )


def response_fields(response: WireResponse | None, options: ReadOptions) -> dict[str, Any]:
    """Fields that an answer gives, its usage left out."""
    if response is None:
        return {}
    fields: dict[str, Any] = {
        "provider_response_id": response.response_id[:512] if response.response_id else None,
        "finish_reason": response.finish_reason,
        "error_kind": response.error,
        "tools_called": tools_called(response.parts) if not response.error else None,
        **(edit_fields(response.parts, options) if response.complete else {}),
    }
    if response.model:
        fields["model_served"] = response.model[:512]
    if options.prompts == "full":
        fields["response_text"] = spoken(response.parts)
    return fields


def usage_fields(dialect: Dialect, usage: Any) -> dict[str, Any]:
    """Token counts of a usage block; negative ones become unknown and are flagged."""
    read = usage_from(dialect, usage)
    if read is None:
        return {}
    fields: dict[str, Any] = msgspec.structs.asdict(read)
    fields["reasoning_in_output"] = True if read.reasoning_tokens is not None else None
    flags = ["cache_over_prompt"] if fields.pop("cache_beside_prompt") else []
    if has_negative(usage):
        flags.append("negative_tokens")
    return fields | {"flags": flags} if flags else fields


def has_negative(usage: Any) -> bool:
    """Tell whether any number in a usage block is below zero."""
    if isinstance(usage, dict):
        return any(has_negative(value) for value in usage.values())
    found = count(usage)
    return found is not None and found < 0


def prompt_tokens(fields: dict[str, Any]) -> int | None:
    """Return the whole prompt by the provider's count; None where the uncached part is unknown."""
    fresh = fields.get("input_tokens_uncached")
    if fresh is None:
        return None
    return int(fresh) + (fields.get("cached_tokens") or 0) + (fields.get("cache_write_tokens") or 0)


def tools_called(parts: Sequence[Part]) -> list[str]:
    """Names of the tools that an answer calls, in order."""
    return [part.name[:512] for part in parts if part.kind == "tool_call" and part.name]


def edit_fields(parts: Sequence[Part], options: ReadOptions) -> dict[str, Any]:
    """Digests and facts of the edit that an answer makes; {} where nothing is to be kept."""
    if options.prompts == "none":
        return {}
    digests, facts = kept_of_answer(parts)
    return {"edit_digests": digests, "answer": facts}


def spoken(parts: Sequence[Part]) -> str:
    """Return what an answer says in text."""
    return "\n".join(part.text for part in parts if part.kind == "text")


def prompt_facts(prompt: str) -> tuple[str, dict[str, float]]:
    """Return a lone prompt's salient text and the facts of it."""
    salient = salient_text((Message(role="user", parts=(Part(kind="text", text=prompt),)),))
    return salient, _text_facts(salient)


@lru_cache(maxsize=SAME_TEXTS)
def _text_facts(salient: str) -> dict[str, float]:
    return text_facts(salient)


def salient_fields(salient: str, options: ReadOptions) -> dict[str, Any]:
    """Keep the salient text where text is wanted, and embed it where there is an encoder."""
    fields: dict[str, Any] = {"prompt_text": salient} if options.prompts == "full" else {}
    if options.encoder is None or options.prompts == "none":
        return fields
    encoder: Any = options.encoder
    return fields | {
        "embedding": _embedding(encoder, salient),
        "encoder_digest": encoder.digest,
        "feature_hash": feature_hash(encoder.dim, encoder.digest),
    }


@lru_cache(maxsize=SAME_TEXTS)
def _embedding(encoder: Any, text: str) -> list[float]:
    return [float(value) for value in encoder.encode(text)]


def prefix_fields(hashes: Sequence[int], sizes: Sequence[int]) -> dict[str, Any]:
    """Keep the newest end of a prefix chain."""
    return {"prefix_hashes": list(hashes[-PREFIXES_KEPT:]), "prefix_bytes": list(sizes[-PREFIXES_KEPT:])}
