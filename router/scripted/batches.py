"""The batch endpoints of the scripted upstream: Anthropic's Message Batches, OpenAI's files and batches.

A batch is over after it has been looked at as often as the script's `batch_polls` says; its requests are
answered as single ones are. A step's `status` fault makes an errored result; nothing else breaks in a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from router.scripted.reply import CREATED_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from features.wire.types import Dialect

Answer = tuple[int, dict[str, Any]]  # status and body
_TIME = "2026-11-01T00:00:00Z"
_DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": "openai_chat",
    "/v1/responses": "openai_responses",
}


class _Batch(NamedTuple):
    """A batch as it was handed in: (custom id, body) of each request, and what else the client said."""

    id: str
    dialect: Dialect
    requests: list[tuple[str, dict[str, Any]]]
    said: dict[str, Any]
    looks: list[int]  # one number: how often it has been asked for
    key: str


class Batches:
    """The endpoints and what they keep; `answer` answers one body of a dialect."""

    def __init__(self, polls: int, answer: Callable[[Dialect, bytes], Answer]) -> None:
        self._polls = polls
        self._answer = answer
        self._batches: dict[str, _Batch] = {}
        self._files: dict[str, bytes] = {}

    def routes(self, remember: Callable[[Request, bytes], Any], key: Callable[[Request], str]) -> list[Route]:
        """Make the routes; `remember` is told of every request, `key` gives its caller's digest."""
        self._remember, self._key = remember, key
        return [
            Route("/v1/messages/batches", self.create_messages, methods=["POST"]),
            Route("/v1/messages/batches", self.list_messages, methods=["GET"]),
            Route("/v1/messages/batches/{id}", self.get_messages, methods=["GET"]),
            Route("/v1/messages/batches/{id}/results", self.message_results, methods=["GET"]),
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files/{id}/content", self.content, methods=["GET"]),
            Route("/v1/batches", self.create, methods=["POST"]),
            Route("/v1/batches", self.all_batches, methods=["GET"]),
            Route("/v1/batches/{id}", self.get, methods=["GET"]),
        ]

    async def create_messages(self, request: Request) -> Response:
        """POST /v1/messages/batches."""
        raw = await request.body()
        self._remember(request, raw)
        asked = [(entry["custom_id"], entry["params"]) for entry in msgspec.json.decode(raw)["requests"]]
        return _json(self._message_batch(self._start("msgbatch", "anthropic_messages", asked, request, {})))

    async def list_messages(self, request: Request) -> Response:
        """GET /v1/messages/batches: the newest first."""
        mine = [b for b in reversed(self._mine(request)) if b.dialect == "anthropic_messages"]
        data = [self._message_batch(batch) for batch in mine]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        return _json({"data": data, "has_more": False, "first_id": None, "last_id": None, **ends})

    async def get_messages(self, request: Request) -> Response:
        """GET /v1/messages/batches/ID."""
        batch = self._batches[request.path_params["id"]]
        batch.looks[0] += 1
        return _json(self._message_batch(batch))

    async def message_results(self, request: Request) -> Response:
        """GET /v1/messages/batches/ID/results, in another order than the requests came in."""
        batch = self._batches[request.path_params["id"]]
        lines = []
        for custom_id, params in reversed(batch.requests):
            status, body = self._answer(batch.dialect, msgspec.json.encode(params))
            kind, key = ("succeeded", "message") if status == 200 else ("errored", "error")
            lines.append({"custom_id": custom_id, "result": {"type": kind, key: body}})
        return _lines(lines)

    async def upload(self, request: Request) -> Response:
        """POST /v1/files."""
        boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
        raw = await request.body()
        self._remember(request, raw)
        parts = [part.partition(b"\r\n\r\n") for part in raw.split(b"--" + boundary) if b"\r\n\r\n" in part]
        content = next(body.removesuffix(b"\r\n") for head, _, body in parts if b'name="file"' in head)
        name = f"file-{len(self._files)}"
        self._files[name] = content
        made = {"id": name, "object": "file", "bytes": len(content), "created_at": CREATED_S}
        return _json({**made, "filename": "batch.jsonl", "purpose": "batch", "status": "processed"})

    async def content(self, request: Request) -> Response:
        """GET /v1/files/ID/content."""
        return Response(self._files[request.path_params["id"]], media_type="application/jsonl")

    async def create(self, request: Request) -> Response:
        """POST /v1/batches."""
        raw = await request.body()
        self._remember(request, raw)
        said = msgspec.json.decode(raw)
        rows = [msgspec.json.decode(line) for line in self._files[said["input_file_id"]].splitlines()]
        asked = [(row["custom_id"], row["body"]) for row in rows]
        return _json(self._batch(self._start("batch", _DIALECTS[said["endpoint"]], asked, request, said)))

    async def all_batches(self, request: Request) -> Response:
        """GET /v1/batches: the newest first."""
        mine = [b for b in reversed(self._mine(request)) if b.dialect != "anthropic_messages"]
        return _json({"object": "list", "data": [self._batch(batch) for batch in mine], "has_more": False})

    async def get(self, request: Request) -> Response:
        """GET /v1/batches/ID."""
        batch = self._batches[request.path_params["id"]]
        batch.looks[0] += 1
        return _json(self._batch(batch))

    def _start(
        self,
        kind: str,
        dialect: Dialect,
        asked: list[tuple[str, dict[str, Any]]],
        request: Request,
        said: dict[str, Any],
    ) -> _Batch:
        batch = _Batch(f"{kind}_{len(self._batches)}", dialect, asked, said, [0], self._key(request))
        self._batches[batch.id] = batch
        return batch

    def _mine(self, request: Request) -> list[_Batch]:
        return [batch for batch in self._batches.values() if batch.key == self._key(request)]

    def _over(self, batch: _Batch) -> bool:
        return batch.looks[0] >= self._polls

    def _message_batch(self, batch: _Batch) -> dict[str, Any]:
        over, total = self._over(batch), len(batch.requests)
        failed = self._failures(batch) if over else 0
        counts = {"processing": 0 if over else total, "succeeded": total - failed if over else 0}
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if over else "in_progress",
            "request_counts": {**counts, "errored": failed, "canceled": 0, "expired": 0},
            "created_at": _TIME,
            "expires_at": "2026-11-02T00:00:00Z",
            "ended_at": _TIME if over else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"/v1/messages/batches/{batch.id}/results" if over else None,
        }

    def _failures(self, batch: _Batch) -> int:
        answers = (self._answer(batch.dialect, msgspec.json.encode(p)) for _, p in batch.requests)
        return sum(status != 200 for status, _ in answers)

    def _batch(self, batch: _Batch) -> dict[str, Any]:
        over = self._over(batch)
        good, bad = self._outputs(batch) if over else ([], [])
        total = len(batch.requests)
        for name, lines in ((f"{batch.id}-out", good), (f"{batch.id}-err", bad)):
            if lines:
                self._files[name] = _jsonl(lines)
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.said["endpoint"],
            "errors": None,
            "input_file_id": batch.said["input_file_id"],
            "completion_window": batch.said["completion_window"],
            "status": "completed" if over else "in_progress",
            "output_file_id": f"{batch.id}-out" if good else None,
            "error_file_id": f"{batch.id}-err" if bad else None,
            "created_at": CREATED_S,
            "metadata": batch.said.get("metadata"),
            "request_counts": {"total": total, "completed": len(good), "failed": len(bad)},
        }

    def _outputs(self, batch: _Batch) -> tuple[Any, Any]:
        """Lines of the output file and of the error file."""
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for number, (custom_id, body) in enumerate(batch.requests):
            status, answered = self._answer(batch.dialect, msgspec.json.encode(body))
            response = {"status_code": status, "request_id": f"req_{batch.id}_{number}", "body": answered}
            line = {"id": f"{batch.id}_{number}", "custom_id": custom_id, "response": response, "error": None}
            (good if status == 200 else bad).append(line)
        return good, bad


def _jsonl(lines: Any) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _lines(lines: Any) -> Response:
    return Response(_jsonl(lines), media_type="application/x-jsonl")


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
