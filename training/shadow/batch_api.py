"""The batch endpoints of Anthropic and OpenAI behind one face: submit, find again, ask, read.

A batch is bound to one deployment. What a provider lists as errored, cancelled or expired it doesn't bill.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from features.errors import BadInput
from router.gateway.errors import UpstreamError
from router.gateway.upstream import request_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from features.wire.types import Dialect
    from router.catalog import Deployment
    from router.gateway.connections import Answer, Headers
    from router.gateway.upstream import Upstream

MAX_CALLS = 10_000  # of a batch; the providers take 50,000 and more
MAX_BYTES = 64 << 20  # of a batch; the providers take 200 MB and more
MAX_LINE_BYTES = 64 << 20  # of one result
PAGES = 20  # of a hundred batches, when one of ours is looked for
_ENDPOINTS: dict[Dialect, str] = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
}
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
_BOUNDARY = "samediff-batch-7d1c0f"


class NotNow(Exception):
    """The provider can't tell yet; ask again later."""


class Result(NamedTuple):
    """What a batch says of one request; `body` is None where it was never run."""

    custom_id: str
    status: int
    body: bytes | None


class _Info(msgspec.Struct):
    """A batch, or a file, as either provider tells of it."""

    id: str
    processing_status: str = ""  # Anthropic's
    status: str = ""  # OpenAI's
    request_counts: dict[str, int] = {}
    metadata: dict[str, str] | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None


class _Page(msgspec.Struct):
    data: list[_Info]
    has_more: bool = False


class _Outcome(msgspec.Struct):
    """Anthropic's result of one request."""

    type: str
    message: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw


class _Row(msgspec.Struct):
    """A line of results; `result` is Anthropic's, the rest OpenAI's."""

    custom_id: str
    result: _Outcome | None = None
    response: _Response | None = None
    error: Any = None


_T = TypeVar("_T")


def batchable(deployment: Deployment) -> bool:
    """Whether this deployment's seller takes batches in this dialect."""
    if deployment.provider == "anthropic":
        return deployment.dialect == "anthropic_messages"
    return deployment.provider == "openai" and deployment.dialect in _ENDPOINTS


class BatchApi:
    """The batches of one deployment. Raises UpstreamError where the provider can't be reached or fails."""

    def __init__(self, upstream: Upstream, deployment: Deployment, environ: Mapping[str, str]) -> None:
        self._upstream = upstream
        self._deployment = deployment
        self._environ = environ
        self._anthropic = deployment.dialect == "anthropic_messages"
        self._path = "/v1/messages/batches" if self._anthropic else "/batches"

    async def submit(self, name: str, requests: Sequence[tuple[str, bytes]]) -> str:
        """Hand in (custom id, body) pairs and return the provider's id of the batch.

        Raises BadInput when the provider refuses it: then nothing was run.
        """
        if self._anthropic:
            rows = [{"custom_id": at, "params": msgspec.Raw(body)} for at, body in requests]
            raw = msgspec.json.encode({"requests": rows})
            return (await self._call(_Info, "POST", self._path, raw)).id
        endpoint = _ENDPOINTS[self._deployment.dialect]
        lines = [
            {"custom_id": at, "method": "POST", "url": endpoint, "body": msgspec.Raw(body)}
            for at, body in requests
        ]
        content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        form = f"multipart/form-data; boundary={_BOUNDARY}"
        file = await self._call(_Info, "POST", "/files", _form(content), form)
        asked = {
            "input_file_id": file.id,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {"samediff_batch": name},
        }
        return (await self._call(_Info, "POST", self._path, msgspec.json.encode(asked))).id

    async def find(self, name: str, ids: Collection[str], taken: Collection[str]) -> str | None:
        """Id of a batch that was handed in but whose answer never came back; None when there is none.

        OpenAI keeps our name of it. Anthropic keeps only the requests' ids, and shows them when it is over: a
        batch of as many requests that isn't over raises NotNow, to be asked again later.
        """
        after = ""
        for _ in range(PAGES):
            page = await self._call(_Page, "GET", f"{self._path}?limit=100{after}")
            for batch in page.data:
                if batch.id not in taken and await self._is(batch, name, ids):
                    return batch.id
            if not page.has_more or not page.data:
                return None
            after = f"&{'after_id' if self._anthropic else 'after'}={page.data[-1].id}"
        return None

    async def _is(self, batch: _Info, name: str, ids: Collection[str]) -> bool:
        if not self._anthropic:
            return (batch.metadata or {}).get("samediff_batch") == name
        if sum(batch.request_counts.values()) != len(ids):
            return False
        if batch.processing_status != "ended":
            raise NotNow
        async for result in self.results(batch.id):
            return result.custom_id in ids
        return False

    async def over(self, batch_id: str) -> bool:
        """Whether the batch has ended, however it did."""
        batch = await self._call(_Info, "GET", f"{self._path}/{batch_id}")
        return batch.processing_status == "ended" if self._anthropic else batch.status in _OVER

    async def results(self, batch_id: str) -> AsyncIterator[Result]:
        """Every request's result of a batch that is over, in any order, read line by line."""
        files = [f"{self._path}/{batch_id}/results"]
        if not self._anthropic:
            batch = await self._call(_Info, "GET", f"{self._path}/{batch_id}")
            files = [f"/files/{file}/content" for file in (batch.output_file_id, batch.error_file_id) if file]
        for file in files:
            async for row in self._lines(file):
                yield _result(row)

    async def _call(
        self,
        kind: type[_T],
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> _T:
        async with self._open(method, path, body, content_type) as answer:
            return _decoded(await answer.read(), kind)

    async def _lines(self, path: str) -> AsyncIterator[_Row]:
        """Rows of a JSON lines file, one in memory at a time."""
        async with self._open("GET", path, None, "application/json") as answer:
            rest = b""
            async for chunk in answer:
                *whole, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    raise UpstreamError(502, "dropped", "a result of a batch is too large to read")
                for line in whole:
                    if line.strip():
                        yield _decoded(line, _Row)
            if rest.strip():
                yield _decoded(rest, _Row)

    @asynccontextmanager
    async def _open(self, method: str, path: str, body: bytes | None, kind: str) -> AsyncIterator[Answer]:
        url = self._deployment.base_url + path
        async with self._upstream.send(url, self._headers(kind), body, method) as answer:
            if 400 <= answer.status < 500 and answer.status not in (408, 409, 429):
                setting = self._deployment.key_env or "the catalogue"
                raise BadInput(
                    f"{self._deployment.id} refuses a batch with {answer.status}: check {setting}; "
                    "the same command goes on from here"
                )
            if answer.status >= 300:
                raise UpstreamError(answer.status, "dropped", "the provider's batch endpoint fails")
            yield answer

    def _headers(self, kind: str) -> Headers:
        own = {"content-type": kind, "user-agent": "samediff-shadow"}
        if self._anthropic:
            own["anthropic-version"] = "2023-06-01"
        sent = [(name.encode(), value.encode()) for name, value in own.items()]
        return request_headers(self._deployment, sent, self._environ)


def _decoded(raw: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UpstreamError(502, "dropped", "what the provider says of a batch can't be read") from None


def _result(row: _Row) -> Result:
    """A line as a result; what has neither an answer nor an error body was never run."""
    if row.result is not None:
        if row.result.type == "succeeded":
            return Result(row.custom_id, 200, bytes(row.result.message))
        return Result(row.custom_id, 400, bytes(row.result.error) or None)
    if row.error or row.response is None:
        return Result(row.custom_id, 400, None)
    return Result(row.custom_id, row.response.status_code, bytes(row.response.body))


def _form(content: bytes) -> bytes:
    """A multipart form with the purpose and the file of a batch."""
    boundary = f"--{_BOUNDARY}\r\n".encode()
    head = b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    file = (
        b'Content-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        b"Content-Type: application/jsonl\r\n\r\n"
    )
    return b"".join((boundary, head, boundary, file, content, f"\r\n--{_BOUNDARY}--\r\n".encode()))
