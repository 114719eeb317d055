"""What would keep a gateway from working: bundle, catalogue, prices, keys and addresses, one by one."""

from __future__ import annotations

import os
import platform
import sysconfig
import time
from typing import TYPE_CHECKING, Literal

import msgspec

from features.errors import BadInput
from router import prices
from router.catalog import Catalog
from router.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rich.console import RenderableType

    from router.catalogrows import Deployment
    from router.gateway.settings import Settings
    from router.probe import Answer

Verdict = Literal["ok", "warning", "failed"]
NAMED = 6  # of things alike in one line


class Check(msgspec.Struct, frozen=True):
    """One thing looked at; a warning doesn't keep anything from working."""

    name: str
    verdict: Verdict
    detail: str
    bad_input: bool = False  # a file that can't be read as what it should be


class Diagnosis(msgspec.Struct, frozen=True):
    """All checks; `ok` unless one failed, `exit_code` 2 where a file is no valid input."""

    ok: bool
    exit_code: int
    checks: tuple[Check, ...]


def run(settings: Settings, *, online: bool = False, environ: Mapping[str, str] | None = None) -> Diagnosis:
    """Look at everything that `samediff serve` with these settings needs; never raises for what it finds.

    `online` also asks every address of the catalogue for its list of models.
    """
    environ = os.environ if environ is None else environ
    checks = [_bundle(settings), _policy(settings), *_price_file(settings)]
    try:
        catalog = Catalog.load(settings.catalog)
    except BadInput as error:
        checks.append(Check("catalogue", "failed", str(error), bad_input=True))
    else:
        checks += _catalogue(catalog, environ, time.time_ns() // 1_000_000)
        if online:
            checks += _addresses(catalog, environ)
    checks.append(_python(*sysconfig.get_config_vars("CONFIG_ARGS", "PGO_PROF_USE_FLAG")))
    failed = [check for check in checks if check.verdict == "failed"]
    code = 2 if any(check.bad_input for check in failed) else int(bool(failed))
    return Diagnosis(not failed, code, tuple(checks))


def built_plainly(built_with: str | None, profile_use: str | None) -> bool:
    """Whether an interpreter is built without profile-guided optimisation: CONFIG_ARGS, PGO_PROF_USE_FLAG.

    Debian's and Ubuntu's are built with it though no argument says so: their rules ask for it as a make
    target, and empty the flag in what they install.
    """
    return built_with is not None and "--enable-optimizations" not in built_with and bool(profile_use)


def _python(built_with: str | None, profile_use: str | None) -> Check:
    """Tell an interpreter at which every request is dearer."""
    version = platform.python_version()
    if not built_plainly(built_with, profile_use):
        return Check("python", "ok", version)
    slower = "built without --enable-optimizations: a request takes about a tenth more CPU"
    return Check("python", "warning", f"{version}, {slower} (docs/FINDINGS.md, Gateway)")


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
        return Check("policy", "failed", str(error), bad_input=True)


def _price_file(settings: Settings) -> Iterator[Check]:
    """Lay the user's prices over the published ones, or go on without a file that can't be read."""
    try:
        prices.use(settings.prices)
    except BadInput as error:
        prices.use(None)
        yield Check("prices", "failed", str(error), bad_input=True)


def _catalogue(catalog: Catalog, environ: Mapping[str, str], now_ms: int) -> Iterator[Check]:
    rows = list(catalog.deployments.values())
    yield Check("catalogue", "ok", f"{len(catalog.candidates)} candidates, {len(rows)} deployments")
    for look in (_prices, _windows, _caches, _dates):
        yield from look(catalog, rows, now_ms)
    yield from _references(catalog, now_ms)
    yield from _keys(catalog, environ)
    pinned = sorted({d.candidate for d in rows if not d.floating})
    floating = sorted({d.candidate for d in rows if d.floating})
    said = f"; pinned: {_some(pinned)}" if pinned else ""
    yield Check("pins", "ok", f"{len(floating)} candidates float by name, drift is noticed in answers{said}")


def _prices(catalog: Catalog, rows: list[Deployment], now_ms: int) -> Iterator[Check]:
    """Find what has no price now: `auto` never takes it for its cost, no saving is told beside it."""
    references = {name for alias in catalog.aliases.values() for name in alias.reference.values()}
    unknown = {
        (d.model, d.provider): d.candidate
        for d in rows
        if prices.rates(d.model, d.provider, now_ms, region=d.region) is None
    }
    for (model, provider), candidate in sorted(unknown.items()):
        detail = f"candidates.{candidate}: {prices.why_unknown(model, provider)}"
        yield Check("prices", "failed" if candidate in references else "warning", detail)
    for seller in prices.strangers(endpoint.provider for endpoint in catalog.endpoints.values()):
        detail = f"[[price]] for provider {seller!r}: no such seller in the price table or the catalogue"
        yield Check("prices", "warning", f"{detail}; the row prices logs that name it so")
    if not unknown:
        yield Check("prices", "ok", f"{prices.PRICE_VERSION}: all deployments priced")


def _windows(catalog: Catalog, rows: list[Deployment], _: int) -> Iterator[Check]:
    lacking = sorted(
        {
            d.candidate
            for d in rows
            if catalog.candidates[d.candidate].context_tokens is None
            and prices.context_window(d.model, d.provider) is None
        }
    )
    for candidate in lacking:
        lost = "a prompt that doesn't fit goes there all the same: set `context_tokens`"
        yield Check("context", "warning", f"candidates.{candidate}: no context window known; {lost}")


def _caches(_: Catalog, rows: list[Deployment], now_ms: int) -> Iterator[Check]:
    """Find whose cache's rules nobody told us: what is warm there isn't known, and priced as cold."""
    from features.cache import rules_for, why_no_rules

    unknown = {
        (d.provider, d.model): d.candidate for d in rows if rules_for(d.provider, d.model, now_ms) is None
    }
    for (provider, model), candidate in sorted(unknown.items()):
        yield Check("caches", "warning", f"candidates.{candidate}: {why_no_rules(provider, model)}")
    if not unknown:
        yield Check("caches", "ok", "cache rules known of all deployments")


def _dates(_: Catalog, rows: list[Deployment], now_ms: int) -> Iterator[Check]:
    for deployment in rows:
        if not deployment.in_force(now_ms):
            dates = f"from {deployment.since or 'ever'} until {deployment.until or 'further notice'}"
            yield Check("dates", "warning", f"{deployment.id}: not in force now ({dates})")


def _references(catalog: Catalog, now_ms: int) -> Iterator[Check]:
    """Each alias's reference must be deployed in its dialect: it answers when nothing else may."""
    for name, alias in catalog.aliases.items():
        for dialect, reference in alias.reference.items():
            there = catalog.deployments_of(reference, dialect)
            if not there:
                detail = f"aliases.{name}: the reference {reference} isn't deployed in {dialect}"
                yield Check("reference", "failed", detail)
            elif not any(d.in_force(now_ms) for d in there):
                yield Check(
                    "reference", "failed", f"aliases.{name}: the reference {reference} isn't in force now"
                )


def _keys(catalog: Catalog, environ: Mapping[str, str]) -> Iterator[Check]:
    missing = [(n, e) for n, e in catalog.endpoints.items() if e.key_env and not environ.get(e.key_env)]
    for name, endpoint in missing:
        served = sorted(c for c, row in catalog.candidates.items() if name in row.endpoints)
        stands_in = "a client's own credential stands in" if endpoint.passthrough else "nothing can be called"
        detail = f"endpoints.{name}: {endpoint.key_env} is not set; {stands_in} for {_some(served) or 'it'}"
        yield Check("keys", "warning", detail)
    own = sorted(name for name, e in catalog.endpoints.items() if e.passthrough and e.key_env is None)
    if own:
        lost = (
            "a client's own credential only, so clients of another dialect aren't sent there: set `key_env`"
        )
        yield Check("keys", "warning", f"endpoints {_some(own)}: {lost}")
    elif not missing:
        yield Check("keys", "ok", "all set")
    if missing and len(missing) == len(catalog.endpoints) and not any(e.passthrough for _, e in missing):
        yield Check("keys", "failed", "no endpoint has a key: nothing can be called at all")


def _addresses(catalog: Catalog, environ: Mapping[str, str]) -> Iterator[Check]:
    """Ask every address; what can't be called for want of a key anyway is a warning at most."""
    from router.probe import probe

    for answer in probe(catalog.endpoints, environ):
        key_env = catalog.endpoints[answer.endpoint].key_env
        ours = key_env is None or bool(environ.get(key_env))
        yield from _address(answer, ours=ours, key_env=key_env)
        if ours and answer.models is not None:
            yield from _listed(answer, answer.models, catalog)


def _address(answer: Answer, *, ours: bool, key_env: str | None) -> Iterator[Check]:
    from router.probe import AUTH_REFUSED

    where, bad = f"endpoints.{answer.endpoint}: {answer.url}", "failed" if ours else "warning"
    if answer.problem is not None:
        yield Check("address", bad, f"{where} {answer.problem}")  # type: ignore[arg-type]
    elif answer.status in AUTH_REFUSED and ours:
        said = (
            f"refuses the key in {key_env}" if key_env else "asks for a key; name its variable in `key_env`"
        )
        yield Check("address", "failed", f"{where} {said} ({answer.status})")
    elif answer.status is not None and answer.status >= 500:
        yield Check("address", bad, f"{where} answers with {answer.status}")  # type: ignore[arg-type]
    elif answer.models is None and ours:
        yield Check("address", "warning", f"{where} answers ({answer.status}), but lists no models")
    else:
        yield Check("address", "ok", f"{where} answers")


def _listed(answer: Answer, models: frozenset[str], catalog: Catalog) -> Iterator[Check]:
    """Every model that the catalogue calls at an address should be in its list."""
    wanted = {
        row.endpoints[answer.endpoint]: name
        for name, row in catalog.candidates.items()
        if answer.endpoint in row.endpoints
    }
    for model, candidate in sorted(wanted.items()):
        if model not in models:
            near = sorted(listed for listed in models if listed.startswith(model))
            hint = f"; it lists {_some(near)}" if near else f" among its {len(models)}"
            detail = f"candidates.{candidate}: endpoints.{answer.endpoint} doesn't list {model}{hint}"
            yield Check("listed", "warning" if near else "failed", detail)


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def render(diagnosis: Diagnosis) -> Iterable[RenderableType]:
    """Show the checks as a table; what others have named is no markup."""
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    table = Table("Check", "Verdict", "Detail")
    for check in diagnosis.checks:
        table.add_row(check.name, f"[{colours[check.verdict]}]{check.verdict}[/]", Text(check.detail))
    yield table
