"""A decision without a server: one request file in, its receipt out."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from features.errors import BadInput
from features.wire import parse_request
from models.prior import PRIOR
from router import prices
from router.catalog import Catalog
from router.decide import Decider
from router.dialects import detect_dialect, parse_dialect
from router.given import CallContext
from router.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from features.records import DecisionRecord
    from models.bundle import Bundle
    from router.gateway.settings import Settings


class Question(NamedTuple):
    """What `samediff route` is asked."""

    file: str  # - = stdin
    dialect: str | None = None  # None: told by the body
    session: str | None = None
    ts_ms: int | None = None  # None: now; prices go by it
    task_type: str | None = None


def run(question: Question, settings: Settings) -> DecisionRecord:
    """Decide one request file; BadInput names the file.

    The request id is made of the body, so the same file, bundle and time give the same receipt.
    """
    body = _read(question.file)
    decider = load_decider(settings)
    try:
        dialect = parse_dialect(question.dialect) if question.dialect else detect_dialect(body)
        request = parse_request(dialect, body)
        request_id = f"route_{xxhash.xxh3_64_hexdigest(body)}"
        session = question.session or request.session_id or request_id
        now_ms = time.time_ns() // 1_000_000 if question.ts_ms is None else question.ts_ms
        return decider.decide(
            request,
            CallContext(
                request_id,
                session,
                now_ms,
                task_type=question.task_type,
                dialect_guessed=question.dialect is None,
                all_arms=True,
            ),
        )
    except BadInput as error:
        raise BadInput(f"{question.file}: {error}") from error


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise BadInput(f"{file}: can't be read ({error.strerror})") from error


def load_decider(settings: Settings) -> Decider:
    """Load bundle, catalogue, prices and policy; BadInput, one line, when one of them can't be used."""
    prices.use(settings.prices)
    return Decider(
        _good_bundle(settings),
        Catalog.load(settings.catalog)._replace(dialects=settings.dialects),
        parse_policy(settings.policy),
        environ=os.environ,
    )


def _good_bundle(settings: Settings) -> Bundle:
    """The bundle to serve; where what a store has in force can't be used, the last one before it that can."""
    from models.bundle import Bundle
    from models.store import Store

    followed = settings.followed
    good = None if followed is None else Store(followed).last_good()
    return good or Bundle.load(bundle_folder(settings))


def bundle_folder(settings: Settings) -> Path:
    """The bundle to serve: what is named, what its store has in force, or else the prior that ships."""
    followed = settings.followed
    if followed is None:
        return Path(settings.bundle or PRIOR)
    from models.store import Store

    store = Store(followed)
    pointer = store.pointer()
    return PRIOR if pointer is None else store.fetch(pointer.digest)


def render(receipt: DecisionRecord) -> Iterable[RenderableType]:
    """Show a receipt: the choice, its reasons, and every arm."""
    from rich.table import Table

    yield f"[bold]{receipt.chosen}[/bold] by {receipt.policy}, on {receipt.deployment}"
    said = dict(line.split("=", 1) for line in receipt.constraints)
    told = " (told by the body; --dialect names another)" if "dialect_by" in said else ""
    yield f"  dialect {said['dialect']}{told}"
    for reason in receipt.reasons:
        yield f"  {reason}"
    table = Table()
    for title in ("Candidate", "P(ok)", "90 %", "Out", "USD", "Chance", "Excluded"):
        table.add_column(title, no_wrap=True)
    for arm in sorted(receipt.arms, key=lambda a: (not a.eligible, a.cost_usd is None, a.cost_usd)):
        if arm.excluded_by == "dialect":
            continue
        table.add_row(
            arm.candidate,
            _number(arm.p_success, ".3f"),
            f"{_number(arm.p_success_low, '.2f')}-{_number(arm.p_success_high, '.2f')}",
            _number(arm.output_tokens, ".0f"),
            "unknown" if arm.cost_usd is None else f"{arm.cost_usd:.5f}",
            f"{arm.propensity:.3f}",
            arm.excluded_by or "",
        )
    yield table
    hidden = sum(arm.excluded_by == "dialect" for arm in receipt.arms)
    if hidden:
        yield f"and {hidden} candidates that don't speak this dialect"


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)
