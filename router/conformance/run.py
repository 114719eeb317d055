"""A run of the kit: every case on every surface with every model, judged, counted and shown."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import uvicorn

from features.errors import BadInput
from router.conformance import state
from router.conformance.asking import BETA, arrived, request
from router.conformance.case import TOKENS, Case, cut_once
from router.conformance.cases import CASES
from router.conformance.judges import Judges, Read
from router.conformance.provider import Seen, create_provider, stream_of
from router.conformance.report import Report, Row
from router.conformance.wire import ends, problem
from router.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from features.wire.types import Dialect

PATHS: dict[Dialect, str] = {
    "openai_chat": "/v1/chat/completions",
    "anthropic_messages": "/v1/messages",
    "openai_responses": "/v1/responses",
}
ABOUT = {"openai_chat": "chat", "anthropic_messages": "messages", "openai_responses": "responses"}
WHOLE = (TOKENS.prompt, TOKENS.cached, TOKENS.output)
PROBE = Case("probe", text="Ok.", stream=False)
GONE_S = 2.0  # within which a provider must be told that nobody listens any more


class Plan(NamedTuple):
    """What is to be run."""

    url: str  # of the gateway
    listen: int  # port of the provider that we play; 0 takes a free one
    models: tuple[str, ...]
    surfaces: tuple[Dialect, ...] = DIALECTS
    only: tuple[str, ...] = ()  # parts of names of cases
    key: str = "made-up"
    cuts: int = 24  # of a stream, evenly spread; 0: at every byte


@asynccontextmanager
async def playing(port: int, seen: Seen) -> AsyncIterator[int]:
    """Serve as the provider on loopback; BadInput when the port is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise BadInput(f"--listen {port}: can't be listened on ({error.strerror}); name another") from error
    config = uvicorn.Config(create_provider(seen), log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        server.force_exit = True
        await serving
        listener.close()


class Kit:
    """One gateway on trial."""

    def __init__(self, plan: Plan, seen: Seen, session: aiohttp.ClientSession, judges: Judges) -> None:
        self._plan = plan
        self._seen = seen
        self._session = session
        self._judges = judges

    async def wired(self, port: int) -> None:
        """Ask once per surface and model; BadInput where that doesn't reach us: the rest would go astray."""
        for model in self._plan.models:
            for surface in self._plan.surfaces:
                body = json.dumps(request(PROBE, surface, model)).encode()
                status, said, _ = await self._raw(surface, body)
                if self._seen.last.pop(PROBE.name, None) is None:
                    got = " ".join(f"{status} {said[:200].decode('utf-8', 'replace')}".split())
                    raise BadInput(_unwired(self._plan.url + PATHS[surface], model, port, got))

    async def rows(self) -> AsyncIterator[Row]:
        """Run everything that the plan wants, one request after another."""
        for model in self._plan.models:
            for surface in self._plan.surfaces:
                for name, case in CASES.items():
                    if self._wanted(name):
                        yield await self._row(surface, model, case)
                for name, check in (("cut at every boundary", self._cuts), ("client leaves", self._leaves)):
                    if self._wanted(name):
                        yield self._made(surface, model, name, await check(surface, model))
                for field in state.NAMES if surface == "openai_responses" else ():
                    if self._wanted(name := f"state: {field}"):
                        wrong = await state.kept(field, model, partial(self._raw, surface), self._seen)
                        yield self._made(surface, model, name, wrong)
                for name, body in _bad(surface, model).items():
                    if self._wanted(name):
                        yield self._made(surface, model, name, await self._refused(surface, body))

    def _wanted(self, name: str) -> bool:
        return not self._plan.only or any(part in name for part in self._plan.only)

    def _made(self, surface: Dialect, model: str, name: str, wrong: str | None) -> Row:
        asked = self._seen.last.pop(name, None)
        upstream = None if asked is None else ABOUT[asked[0]]
        return Row(ABOUT[surface], model, upstream, name, wrong is None, wrong)

    async def _row(self, surface: Dialect, model: str, case: Case) -> Row:
        self._seen.last.pop(case.name, None)
        body = request(case, surface, model)
        headers = {}
        if case.request == "beta":
            headers = {"anthropic-beta" if surface == "anthropic_messages" else "openai-beta": BETA}
        read = await self._judges.ask(surface, body, headers, loose=case.loose)
        if case.retry_after is not None:  # a gateway may let its provider rest for as long
            await asyncio.sleep(float(case.retry_after) + 0.1)
        asked = self._seen.last.get(case.name)
        if asked is None:
            return self._made(surface, model, case.name, f"the provider was never asked: {_shown(read)}")
        passed_on = asked[0] == surface and surface in case.beyond
        wrong = None if passed_on else _judged(case, surface, read)
        if wrong is None and case.request is not None:
            wrong = arrived(case.request, surface, asked)
        if wrong is None and case.stream and case.status == 200:
            wrong = await self._on_the_wire(case, surface, body)
        return self._made(surface, model, case.name, wrong)

    async def _raw(self, surface: Dialect, body: bytes) -> tuple[int, bytes, bool]:
        """(status, body, whether it broke off) of a request sent as bytes."""
        headers = {"authorization": f"Bearer {self._plan.key}", "content-type": "application/json"}
        if surface == "anthropic_messages":
            headers |= {"x-api-key": self._plan.key, "anthropic-version": "2023-06-01"}
        got = b""
        url = self._plan.url + PATHS[surface]
        async with self._session.post(url, data=body, headers=headers) as answer:
            try:
                async for piece in answer.content.iter_any():
                    got += piece
            except (aiohttp.ClientError, TimeoutError):
                return answer.status, got, True
        return answer.status, got, False

    async def _on_the_wire(self, case: Case, surface: Dialect, body: dict[str, Any]) -> str | None:
        status, stream, broke = await self._raw(surface, json.dumps(body).encode())
        if status >= 400:
            return None if case.ends != "whole" else f"status {status} the second time"
        well, failed = ends(surface, stream)
        if case.ends == "whole":
            if (well, failed) != (1, 0):
                return f"{well} events end the answer and {failed} say that it failed"
        elif well:
            return "an answer that was never whole ends as if it were"
        elif case.ends == "error" and failed != 1:
            return f"{failed} events say that the answer failed"
        elif failed > 1:
            return f"{failed} errors end one answer"
        return None if broke else problem(surface, stream)

    async def _cuts(self, surface: Dialect, model: str) -> str | None:
        """Ask again and again for a stream that the provider cuts at another byte each time."""
        name, wrong, at, step, length = "cut at every boundary", None, 1, 1, 2
        case = CASES["byte by byte"]._replace(name=name, cut=cut_once)
        while at < length:
            CASES[name] = case._replace(at=at)
            read = await self._judges.ask(surface, request(CASES[name], surface, model), {})
            wrong = wrong or _judged(case, surface, read)
            if at == 1 and name in self._seen.last:  # now it is known which dialect the provider is asked in
                length = len(b"".join(stream_of(case, self._seen.last[name][0])))
                step = max(1, length // self._plan.cuts) if self._plan.cuts else 1
            at += step
        del CASES[name]
        return wrong

    async def _leaves(self, surface: Dialect, model: str) -> str | None:
        """Hang up in the middle of a stream, and see whether the provider is told."""
        case = Case("client leaves", text="Hello there. " * 40)
        body = request(case, surface, model)
        self._seen.gone.pop(case.name, None)
        headers = {"authorization": f"Bearer {self._plan.key}", "x-api-key": self._plan.key}
        url = self._plan.url + PATHS[surface]
        async with self._session.post(url, json=body, headers=headers) as answer:
            await answer.content.readany()
            answer.close()
        left = time.perf_counter()
        while time.perf_counter() - left < GONE_S:
            if case.name in self._seen.gone:
                return None
            await asyncio.sleep(0.01)
        return f"the provider still talks {GONE_S:g} s after its client has left"

    async def _refused(self, surface: Dialect, body: bytes) -> str | None:
        """A request that is none must be refused as the dialect refuses one."""
        status, said, _ = await self._raw(surface, body)
        if not 400 <= status < 500:
            return f"status {status}"
        try:
            answer = json.loads(said)
        except ValueError:
            return "the error is no JSON"
        error = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            return "the error is none of the dialect's"
        if surface == "anthropic_messages" and answer.get("type") != "error":
            return "the error is none of the dialect's"
        return "the error shows a traceback" if "Traceback" in said.decode("utf-8", "replace") else None


def _unwired(url: str, model: str, port: int, got: str) -> str:
    """One line on a request that never reached the provider that we play."""
    here = f"http://127.0.0.1:{port}"
    return (
        f"{url}: asked for {model}, the gateway answered {got} without asking the kit's provider; set the "
        f"base URL of all its upstreams to {here}/v1 ({here} in Messages), or name what is wired with "
        "--surface and --model"
    )


def _bad(surface: Dialect, model: str) -> dict[str, bytes]:
    good = json.dumps(request(Case("bad", stream=False), surface, model)).encode()
    return {
        "bad: not JSON": b"{not json",
        "bad: empty": b"",
        "bad: a list": b"[]",
        "bad: truncated": good[:-9],
        "bad: invalid UTF-8": good.replace(b"[[case:bad", b"\xff\xfe[[case:bad"),
        "bad: nested 100,000 deep": good[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "bad: no model": good.replace(b'"model"', b'"mode"'),
        "bad: model is a number": good.replace(json.dumps(model).encode(), b"7", 1),
        "bad: unknown model": good.replace(json.dumps(model).encode(), b'"no-such-model"', 1),
    }


def _judged(case: Case, surface: Dialect, read: Read) -> str | None:
    """What is wrong with what an SDK has read; None if nothing is."""
    if case.ends != "whole":
        return _failed(case, read)
    if read.error is not None:
        return f"the SDK raises {_shown(read)}"
    said = case.text.strip() if surface == "anthropic_messages" else case.text
    if read.text not in (case.text, said):
        return f"text of {len(read.text)} characters for {len(case.text)}"
    if [name for name, _ in read.calls] != [name for name, _ in case.calls]:
        return f"calls {[name for name, _ in read.calls]}"
    for (_, wanted), (_, got) in zip(case.arguments(), read.calls, strict=True):
        if (wanted != got) if case.loose else (json.loads(wanted) != _json_of(got)):
            return f"arguments {got[:80]!r}"
    if read.stop != case.stop:
        return f"stops for {read.stop!r}, not {case.stop!r}"
    return None if read.usage == WHOLE else f"usage {read.usage} (prompt, cached, output), not {WHOLE}"


def _json_of(text: str) -> Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return text


def _failed(case: Case, read: Read) -> str | None:
    if read.error is None:
        if case.ends == "cut" and read.stop is None:
            return None  # the SDK has noticed no end, and says none
        complete = case.ends == "error" or read.stop is not None or not case.stream
        return "the client takes it for a whole answer" if complete else None
    if case.statuses and read.status not in case.statuses:
        return f"status {read.status}, not {' or '.join(map(str, case.statuses))}"
    if case.retry_after is not None and read.retry_after != case.retry_after:
        return f"retry-after {read.retry_after}, not {case.retry_after}"
    return None


def _shown(read: Read) -> str:
    return f"{read.error} {read.status or ''} {read.message}".strip()[:200] if read.error else "an answer"


async def run(plan: Plan, tell: Any = None) -> Report:
    """Run the kit; `tell` is called with each row as it comes."""
    seen = Seen()
    rows: list[Row] = []
    judges = Judges(plan.url, plan.key)
    timeout = aiohttp.ClientTimeout(total=60)
    async with playing(plan.listen, seen) as port, aiohttp.ClientSession(timeout=timeout) as session:
        try:
            async with session.get(plan.url) as answer:
                await answer.read()
            kit = Kit(plan, seen, session, judges)
            await kit.wired(port)
            async for row in kit.rows():
                rows.append(row)
                if tell is not None:
                    tell(row)
        except aiohttp.ClientConnectionError as error:
            raise BadInput(f"{plan.url}: no gateway answers there ({type(error).__name__})") from error
        except TimeoutError as error:
            raise BadInput(f"{plan.url}: nothing came for {timeout.total:g} s") from error
        finally:
            await judges.close()
    passed = sum(row.ok for row in rows)
    return Report(plan.url, passed, len(rows) - passed, rows)
