"""One request on its way: what its client tells of it, what was decided, and what happened to it so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from features.records import AttemptRecord, Status
from features.value import Value
from features.wire import WireRequest, WireResponse
from router.catalogrows import Deployment
from router.gateway.attempts import Target
from router.gateway.toolcheck import ToolFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from features.records import ArmRecord, DecisionRecord
    from router.gateway.holding import Spare
    from router.gateway.sessions import Answer, Place
    from router.gateway.splice import Pieces
    from router.gateway.translate import Translation

# What a client may tell of a call in headers, which aren't sent on; its own tag wins over anything inferred.
TAGS = {
    "x-samediff-task-type": "task_type",
    "x-samediff-task-id": "task_id",
    "x-samediff-repo": "repo",
    "x-samediff-branch": "branch",
    "x-samediff-tenant": "tenant",
}
_MAX_TAG = 200


class Tags(Value, frozen=True):
    """What a client's headers tell of a call, by the fields of a record; None where they don't."""

    task_type: str | None = None
    task_id: str | None = None
    repo: str | None = None
    branch: str | None = None
    tenant: str | None = None


_UNTAGGED = Tags()


class Alike(Value, frozen=True):
    """What the lines of a decision and of its request both hold and is long, as JSON that is made once."""

    facts: msgspec.Raw | None
    embedding: msgspec.Raw | None


class Call(Value, frozen=True):
    """One request on its way: what was asked, what was decided, where it goes."""

    request: WireRequest
    body: Pieces  # as it goes out
    receipt: DecisionRecord
    deployment: Deployment
    place: Place
    answer: Answer  # as sessions know it
    headers: Mapping[str, str]
    tags: Tags
    alike: Alike  # of what the receipt holds, as far as it may be kept
    body_for: Callable[[Deployment], Pieces] | None = None  # as it would go out to another deployment
    translation: Translation | None = None  # where its provider speaks another dialect
    translation_for: Callable[[Deployment], Translation | None] | None = None
    tools: msgspec.Raw | None = None  # as the client offers them
    control: str | None = None  # what of ours asks for caching in the body, see router.gateway.cachecontrol


class Trace(msgspec.Struct):
    """What happened to a call so far; times are milliseconds since the request arrived."""

    status: Status = "unknown"
    http_status: int | None = None
    error_kind: str | None = None
    first_byte_ms: float | None = None
    first_tool_call_ms: float | None = None
    latency_ms: float | None = None
    attempts: int = 0
    answer: WireResponse | None = None
    spent: list[tuple[Deployment, WireResponse]] = []  # answers that were thrown away
    faults: list[ToolFault] = []  # in the tool calls of the one that wasn't
    target: Target | None = None  # asked last
    opened: int = 0  # breakers that opened over it
    tries: list[AttemptRecord] = []

    def begin(self, target: Target) -> None:
        """Another deployment is asked."""
        self.target = target
        self.attempts += 1
        self.http_status = self.error_kind = None

    def raced(self, mine: Trace, theirs: Trace) -> None:
        """Take in the attempts of two that raced, of which this is one: it answers."""
        self.tries = [*mine.tries, *theirs.tries]
        self.spent = [*mine.spent, *theirs.spent]
        self.attempts = mine.attempts + theirs.attempts
        self.opened = mine.opened + theirs.opened

    def take_back(self, spare: Spare) -> None:
        """An answer that was thrown away is given after all."""
        self.spent = [(deployment, told) for deployment, told in self.spent if told is not spare.told]
        self.target, self.answer = spare.target, spare.told
        self.status, self.http_status, self.error_kind = "ok", spare.status, None

    def end(self, took_ms: float) -> None:
        """Nothing more comes from it."""
        assert self.target is not None
        made = AttemptRecord(
            deployment=self.target.deployment.id,
            http_status=self.http_status,
            error_kind=self.error_kind,
            took_ms=took_ms,
        )
        self.tries.append(made)


def turn_of(receipt: DecisionRecord) -> int | None:
    """The turn within the conversation, 0-based; None where it can't be seen."""
    return None if receipt.facts is None or receipt.facts.turn is None else int(receipt.facts.turn)


def chosen_arm(receipt: DecisionRecord) -> ArmRecord:
    """The arm of the candidate that was decided on; every receipt of the gateway has it."""
    for arm in receipt.arms:
        if arm.candidate == receipt.chosen:
            return arm
    raise LookupError(receipt.chosen)


def tags_of(headers: Mapping[str, str]) -> Tags:
    """What the client named in headers."""
    if headers.keys().isdisjoint(TAGS):
        return _UNTAGGED
    return Tags(**{field: headers[name][:_MAX_TAG] for name, field in TAGS.items() if headers.get(name)})
