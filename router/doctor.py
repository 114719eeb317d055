"""What would keep a gateway from working: bundle, catalogue, prices, keys, looked at one by one."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal

import msgspec

from features.errors import BadInput
from router import prices
from router.catalog import Catalog
from router.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from router.gateway.settings import Settings

Verdict = Literal["ok", "warning", "failed"]


class Check(msgspec.Struct, frozen=True):
    """One thing looked at; a warning doesn't keep anything from working."""

    name: str
    verdict: Verdict
    detail: str


class Diagnosis(msgspec.Struct, frozen=True):
    """All checks; `ok` unless one failed."""

    ok: bool
    checks: tuple[Check, ...]


def run(settings: Settings) -> Diagnosis:
    """Look at everything that `samediff serve` with these settings needs; never raises for what it finds."""
    checks = [_bundle(settings), _policy(settings)]
    try:
        catalog = Catalog.load(settings.catalog)
    except BadInput as error:
        checks.append(Check("catalogue", "failed", str(error)))
    else:
        counted = f"{len(catalog.candidates)} candidates, {len(catalog.deployments)} deployments"
        checks += [Check("catalogue", "ok", counted), _prices(catalog), *_references(catalog), _keys(catalog)]
    return Diagnosis(all(check.verdict != "failed" for check in checks), tuple(checks))


def _bundle(settings: Settings) -> Check:
    from models.bundle import Bundle
    from router.offline import bundle_folder

    try:
        bundle = Bundle.load(bundle_folder(settings))
    except BadInput as error:
        return Check("bundle", "failed", str(error))
    if bundle.manifest.tokens is None:
        lost = "knows no output lengths, so `auto` gives every request to its reference"
        return Check("bundle", "warning", f"{bundle.digest[:12]} {lost}")
    if bundle.kind == "prior":
        return Check("bundle", "warning", f"{bundle.digest[:12]}, the prior: train one on your own logs")
    return Check("bundle", "ok", bundle.digest[:12])


def _policy(settings: Settings) -> Check:
    try:
        return Check("policy", "ok", parse_policy(settings.policy).name)
    except BadInput as error:
        return Check("policy", "failed", str(error))


def _prices(catalog: Catalog) -> Check:
    now_ms = time.time_ns() // 1_000_000
    rows = catalog.deployments.values()
    unknown = sorted({d.candidate for d in rows if prices.rates(d.model, d.provider, now_ms) is None})
    if unknown:
        return Check("prices", "warning", f"{prices.PRICE_VERSION}: none for {', '.join(unknown)}")
    return Check("prices", "ok", f"{prices.PRICE_VERSION}: all candidates priced")


def _references(catalog: Catalog) -> list[Check]:
    """Each alias's reference must be deployed in its dialect: it answers when nothing else may."""
    checks = []
    for name, alias in catalog.aliases.items():
        for dialect, reference in alias.reference.items():
            if not catalog.deployments_of(reference, dialect):
                detail = f"{name}: the reference {reference} isn't deployed in {dialect}"
                checks.append(Check("reference", "failed", detail))
    return checks


def _keys(catalog: Catalog) -> Check:
    rows = catalog.deployments.values()
    missing = sorted({d.key_env for d in rows if d.key_env and not os.environ.get(d.key_env)})
    passed = sorted({d.key_env for d in rows if d.key_env in missing and d.passthrough and d.key_env})
    if not missing:
        return Check("keys", "ok", "all set")
    through = f"; the client's own credential stands in for {', '.join(passed)}" if passed else ""
    return Check("keys", "warning", f"not set: {', '.join(missing)}{through}")


def render(diagnosis: Diagnosis) -> Iterable[RenderableType]:
    """Show the checks as a table."""
    from rich.table import Table

    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    table = Table("Check", "Verdict", "Detail")
    for check in diagnosis.checks:
        table.add_row(check.name, f"[{colours[check.verdict]}]{check.verdict}[/]", check.detail)
    yield table
