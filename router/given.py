"""What a decision is made of: the session before the call, the call, and all that its receipt keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.cache import CacheState
from features.errors import BadInput
from features.value import Value
from router.cost import Asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from features.cache import Chain
    from features.context import LastTurn
    from features.facts import Facts
    from features.records import ArmRecord, OffsetRecord
    from features.trajectory import Trajectory
    from features.wire.types import Dialect
    from router.arms import Option


class UnknownModel(BadInput):
    """The client asks for a model that neither the catalogue nor an endpoint of it knows."""


class Unavailable(BadInput):
    """The model is known, but nothing that serves it can be called from here."""


class Session(Value, frozen=True):
    """What is known of a request's session before it; None is unknown."""

    last_candidate: str | None = None
    last_by_client: bool = False  # it goes back to a client's own choice, not to a policy's
    turn: int | None = None
    shared: tuple[float, float, float | None] | None = None  # bytes, share and age (ms) of the longest prefix
    cache: CacheState = CacheState()  # what the providers' caches hold of the conversation
    chain: Chain | None = None  # of the request's messages; None: unknown, and so what of it is cached
    last_bytes: int | None = None  # of the turn before
    last_tokens: int | None = None  # whole prompt of the turn before, by the provider's count
    is_subagent: bool | None = None
    last: LastTurn | None = None  # the turn before by the provider's count
    broken_calls: Mapping[
        str, float
    ] = {}  # candidate -> share of its answers here with a tool call of no use


class CallContext(Value, frozen=True):
    """What a decision depends on beside the request itself."""

    request_id: str
    session_id: str
    now_ms: int
    session: Session = Session()
    task_type: str | None = None  # as the client names it
    trajectory: Trajectory | None = None  # of the request's messages, where it is at hand already
    dialect_guessed: bool = False  # told by the body
    headers: Mapping[str, str] | None = None  # the client's, by lower-case name
    offset: OffsetRecord | None = None  # what the repository's own outcomes say
    cache_control: bool = False  # whether we ask for caching where the client doesn't
    retry_rates: Mapping[str, float] | None = None  # deployment -> share of its answers that break off
    down: frozenset[str] = frozenset()  # deployments not to be called now if there is another
    same_dialect: bool = False  # what is asked can't be said in another
    all_arms: bool = False  # describe those, too, that can't be called: nothing is sent, somebody looks


class Given(Value, frozen=True):
    """All that a decision is made of; a receipt holds every part of it."""

    request_id: str
    session_id: str
    ts_ms: int
    model: str
    dialect: Dialect
    dialect_guessed: bool
    reference: str
    pinned: bool  # the client asked for this very model
    last_candidate: str | None
    last_by_client: bool
    service_tier: str | None
    task_type: str | None
    facts: Facts
    embedding: np.ndarray | None
    options: list[Option]
    absent: list[ArmRecord]  # candidates that can't be called, as they are written down
    offset: OffsetRecord | None = None
    asked: Asked = Asked()  # how it asks to be cached


def constraints_of(given: Given) -> list[str]:
    """What the request and its session dictate, as `name=value`; `router.receipt` reads it back."""
    said = [f"model={given.model}", f"dialect={given.dialect}"]
    if given.dialect_guessed:
        said.append("dialect_by=body")
    if given.last_candidate is not None:
        said.append(f"session_candidate={given.last_candidate}")
        if given.last_by_client and given.last_candidate:
            said.append("session_candidate_by=client")
    if given.service_tier is not None:
        said.append(f"service_tier={given.service_tier}")
    if given.asked.ours:
        said.append("cache_control=ours")
    if given.asked.lifetime is not None:
        said.append(f"cache_lifetime={given.asked.lifetime}")
    return said
