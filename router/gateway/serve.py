"""The server around the app: its socket, its signals, and the lines that say where to point clients."""

from __future__ import annotations

import errno
import logging
import signal
import socket
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import uvicorn

from features.errors import BadInput
from router.gateway.app import create_app
from router.gateway.protocol import BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fastapi import FastAPI

    from router.catalog import Deployment
    from router.gateway.metrics import Metrics
    from router.gateway.settings import Settings


BACKLOG = 2048


class Prepared(NamedTuple):
    """An app that is ready to be served on a socket that is bound."""

    app: FastAPI
    listener: socket.socket
    url: str


def prepare(settings: Settings) -> Prepared:
    """Build the app and bind its port; BadInput in one line if either can't be done."""
    listener = _bind(settings.host, settings.port)
    try:
        app = create_app(settings)
    except BadInput:
        listener.close()
        raise
    listener.listen(BACKLOG)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    shown = "127.0.0.1" if host in ("0.0.0.0", "[::]") else host  # noqa: S104  # an address to show, not to bind
    return Prepared(app, listener, f"http://{shown}:{listener.getsockname()[1]}")


def run(prepared: Prepared, settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; then let open answers end, flush the journal and return."""
    # uvicorn raises the signal again once it is done: with these handlers that is a clean end, not a death.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    logging.basicConfig(level=logging.WARNING, format="samediff: %(message)s")
    config = uvicorn.Config(
        prepared.app,
        http=_bounded(settings.client_s, prepared.app.state.gateway.metrics),
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=settings.grace_s,
    )
    uvicorn.Server(config).run(sockets=[prepared.listener])


def _bounded(patience_s: float, metrics: Metrics) -> type[BoundedProtocol]:
    class Patient(BoundedProtocol):
        head_s = patience_s

        def refused(self, status: int) -> None:
            metrics.add("samediff_refused_total", status=str(status))

    return Patient


class Serving(msgspec.Struct, frozen=True):
    """What is served where, for programs."""

    url: str
    policy: str
    bundle: str
    bundle_kind: str
    journal: str


def serving(prepared: Prepared, settings: Settings) -> Serving:
    """Say what is served."""
    decider = prepared.app.state.gateway.decider
    bundle = decider.bundle
    return Serving(prepared.url, decider.policy.name, bundle.digest, bundle.kind, settings.log.journal)


def announcement(prepared: Prepared, settings: Settings) -> Iterator[str]:
    """Yield the lines a user needs next."""
    gateway = prepared.app.state.gateway
    bundle, url = gateway.decider.bundle, prepared.url
    prior = " (the prior that ships: nothing learned from your logs yet)" if bundle.kind == "prior" else ""
    yield f"samediff serves on {url} · policy {gateway.decider.policy.name} · journal {settings.log.journal}"
    yield f"bundle {settings.bundle or settings.store or 'models/prior'} {bundle.digest[:12]}{prior}"
    if settings.followed is not None:
        yield f"following {settings.followed}: what `samediff promote` puts in force is swapped in"
    missing = unset_keys(gateway.decider.catalog.deployments.values(), gateway.environ)
    if missing:
        yield f"not called for want of a key: {', '.join(missing)}"
    yield "Point your clients at it:"
    yield f"  Claude Code   ANTHROPIC_BASE_URL={url} ANTHROPIC_MODEL=auto claude"
    yield (
        "  Codex         codex -m auto -c model_provider=samediff -c 'model_providers.samediff="
        f'{{name="samediff", base_url="{url}/v1", env_key="OPENAI_API_KEY", wire_api="responses"}}\''
    )
    yield f'  OpenAI        OPENAI_BASE_URL={url}/v1, model="auto"'


def unset_keys(deployments: Iterable[Deployment], environ: Mapping[str, str]) -> list[str]:
    """Names of the variables that would make more deployments callable."""
    return sorted({d.key_env for d in deployments if d.key_env and not d.reachable(environ)})


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"can't be bound ({error.strerror})"
        raise BadInput(f"port {port} on {host} {why}; choose another with --port") from error
    return listener
