"""What a run has planned, sent and paid, written down before it happens: nothing is paid twice after a kill.

One file of JSON lines per run. The plan appears whole or not at all; a line that says "sent" is on the disk
before the call leaves, and one that says "settled" before its money is used again.
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec
import xxhash

from features.errors import BadInput
from features.files import replace_file
from features.wire.types import Dialect, Usage

if TYPE_CHECKING:
    from pathlib import Path

CallRole = Literal["reference", "self", "candidate"]
CallStatus = Literal["ok", "truncated", "refused", "failed", "timeout", "cancelled"]
Counted = Literal["usage", "reservation", "nothing"]  # what the money of a call was told by
FREE_AGAIN = frozenset({401, 403, 404, 429})  # refused before any work: costs nothing, may be sent again


class PlannedCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a request: in which role, on which deployment."""

    role: CallRole
    candidate: str
    deployment: str


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="item"):
    """One request of the plan; items stand in the order of `rank`, its uniform number by its size."""

    request_id: str
    session_id: str
    dialect: Dialect
    rank: float
    size: float
    traffic: int = 1  # logged requests with this very body
    calls: list[PlannedCall]
    logged: bool = False  # the logged answer stands for the reference's
    answered_by: str | None = None  # who had answered, by the log
    logged_model: str | None = None
    logged_tokens: int | None = None  # of its prompt, by the provider's count


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="plan"):
    """What a run is made of; the first line of its file."""

    run: str
    created_ms: int
    reference: str
    candidates: list[str]
    seed: int
    self_share: float
    max_output_tokens: int
    requests: int  # in the log
    not_replayable: dict[str, int]  # reason -> requests
    frame: int  # requests that could be asked again, repeats of one body merged
    biggest_usd: Decimal  # the worst case of the dearest item
    beyond: float | None = None  # rank of the first item that was left off the plan


class Sent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="sent"):
    """A call is about to leave; from here on its reservation is spent unless it is settled."""

    call: str
    attempt: int
    request_id: str
    role: CallRole
    candidate: str
    deployment: str
    reserved_usd: Decimal
    ts_ms: int
    batch: str | None = None


class Settled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="settled"):
    """What became of a call, and what its answer did: tool calls as (name, arguments), text if none."""

    call: str
    attempt: int
    status: CallStatus
    usd: Decimal
    counted: Counted
    http_status: int | None = None
    error_kind: str | None = None
    latency_ms: float | None = None
    usage: Usage | None = None
    model_served: str | None = None
    finish_reason: str | None = None
    calls: list[tuple[str, str]] = []
    text: str = ""


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="batch"):
    """A batch is about to be handed in; its calls are the `sent` lines that name it."""

    batch: str
    deployment: str
    ts_ms: int


class Submitted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="submitted"):
    """The provider has a batch, under this id of its own."""

    batch: str
    provider_id: str


class Closed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="closed"):
    """The run is over and its labels are in the log; None: every request of the log was asked."""

    ts_ms: int
    threshold: float | None = None


Line = Plan | Item | Sent | Settled | Batch | Submitted | Closed
_decoder = msgspec.json.Decoder(Line)


def call_name(run: str, item: Item, planned: PlannedCall) -> str:
    """Id of a call: the same whenever this run is resumed."""
    key = f"{run}\0{item.request_id}\0{planned.role}\0{planned.candidate}"
    return f"shadow_{xxh128(key)}"


def xxh128(text: str) -> str:
    """128-bit digest of a text."""
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


class Ledger:
    """A run's file, open for one process at a time; use as a context manager."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.plan: Plan | None = None
        self.items: list[Item] = []
        self.sent: dict[tuple[str, int], Sent] = {}
        self.settled: dict[tuple[str, int], Settled] = {}
        self.attempts: dict[str, int] = {}  # the latest of each call
        self.batches: dict[str, Batch] = {}
        self.submitted: dict[str, str] = {}  # batch -> the provider's id
        self.closed: Closed | None = None
        self._handle: int | None = None
        self._lock: int | None = None

    def __enter__(self) -> Ledger:
        import fcntl

        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise BadInput(f"{self.file}: another samediff shadow is on this run; wait for it") from None
        try:
            if self.file.exists():
                self._read()
        except BadInput:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for handle in (self._handle, self._lock):
            if handle is not None:
                os.close(handle)

    def start(self, plan: Plan, items: list[Item]) -> None:
        """Write the plan, whole or not at all."""
        replace_file(self.file, b"".join(msgspec.json.encode(line) + b"\n" for line in (plan, *items)))
        os.chmod(self.file, 0o600)  # it holds answers
        _sync_folder(self.file)
        self._read()

    def write(self, *lines: Sent | Settled | Batch | Submitted | Closed) -> None:
        """Append lines; they are on the disk when this returns."""
        assert self._handle is not None, "the plan comes first"
        _write_all(self._handle, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        os.fsync(self._handle)
        for line in lines:
            self._take(line)

    @property
    def spent_usd(self) -> Decimal:
        """Everything paid so far; a call that was sent and never settled counts at its reservation."""
        settled = sum((line.usd for line in self.settled.values()), Decimal(0))
        open_ = (line.reserved_usd for key, line in self.sent.items() if key not in self.settled)
        return settled + sum(open_, Decimal(0))

    def open_calls(self, batch: str) -> dict[str, Sent]:
        """Calls of a batch that aren't settled, by the id they have in it."""
        return {
            batch_id(line): line
            for key, line in self.sent.items()
            if line.batch == batch and key not in self.settled
        }

    def result(self, call: str) -> Settled | None:
        """What became of a call's latest attempt; None if it was never sent or never settled."""
        return self.settled.get((call, self.attempts.get(call, 0)))

    def began(self, item: Item) -> bool:
        """Whether any of an item's calls was ever sent."""
        assert self.plan is not None
        return any(call_name(self.plan.run, item, planned) in self.attempts for planned in item.calls)

    @property
    def unsettled(self) -> int:
        """Calls whose latest attempt never came back or was cancelled: `--retry-unsettled` sends them."""
        latest = (self.settled.get(pair) for pair in self.attempts.items())
        return sum(found is None or found.status == "cancelled" for found in latest)

    def to_send(self, call: str, *, retry_unsettled: bool) -> int | None:
        """The number of the attempt to make of a call; None if it must not be sent (again)."""
        latest = self.attempts.get(call)
        if latest is None:
            return 1
        found = self.settled.get((call, latest))
        if found is None or found.status == "cancelled":
            return latest + 1 if retry_unsettled else None
        return latest + 1 if found.counted == "nothing" and found.http_status in FREE_AGAIN else None

    def _read(self) -> None:
        """Read all lines; a torn last one, which a kill leaves, is cut off. Raises BadInput for another."""
        raw = self.file.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        for number, row in enumerate(whole.splitlines(), 1):
            try:
                self._take(_decoder.decode(row))
            except msgspec.DecodeError as error:
                raise BadInput(
                    f"{self.file}: line {number} can't be read ({error}); use another --seed"
                ) from None
        if self.plan is None:
            raise BadInput(f"{self.file}: holds no plan; delete it, nothing was sent")
        self._handle = os.open(self.file, os.O_WRONLY | os.O_APPEND)
        if len(whole) < len(raw):
            os.ftruncate(self._handle, len(whole))

    def _take(self, line: Line) -> None:
        match line:
            case Plan():
                self.plan = line
            case Item():
                self.items.append(line)
            case Sent():
                self.sent[line.call, line.attempt] = line
                self.attempts[line.call] = max(line.attempt, self.attempts.get(line.call, 0))
            case Settled():
                self.settled[line.call, line.attempt] = line
            case Batch():
                self.batches[line.batch] = line
            case Submitted():
                self.submitted[line.batch] = line.provider_id
            case Closed():
                self.closed = line


def batch_id(line: Sent) -> str:
    """Id of a call within its batch; another attempt has another one."""
    return f"{line.call}-{line.attempt}"


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _sync_folder(file: Path) -> None:
    """Make a new file's name durable too."""
    handle = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
