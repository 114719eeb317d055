"""What the gateway adds: requests of 52 kB and 406 kB, whole and streamed, beside the direct call.

Run: python tests/bench/bench_gateway.py [BUNDLE]. Direct and routed calls alternate over one connection each,
to an upstream that answers at once. Printed: p50 and p99 of both, the difference, and the gateway's own CPU
per request, which the noise of other processes leaves alone. Without a bundle it trains a small one.
"""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "router"))

from bench_features import claude_code_body
from router_servers import start_gateway

CALLS = 400
EVENTS = 41
USAGE = {"input_tokens": 900, "cache_read_input_tokens": 12_000, "output_tokens": 40}


def answers() -> tuple[bytes, bytes]:
    """A whole answer and a streamed one of 41 events, with their HTTP heads."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
    body = msgspec.json.encode(
        {**message, "content": [{"type": "text", "text": "Done."}], "stop_reason": "end_turn", "usage": USAGE}
    )
    start = {"type": "message_start", "message": {**message, "content": [], "usage": USAGE}}
    open_block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "some words"}}
    close = {"type": "content_block_stop", "index": 0}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE}
    events = [start, open_block, *[delta] * (EVENTS - 5), close, stop, {"type": "message_stop"}]
    chunks = [f"event: {e['type']}\ndata: ".encode() + msgspec.json.encode(e) + b"\n\n" for e in events]
    streamed = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: "
    return (
        head + b"application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body,
        head + b"text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + streamed,
    )


def upstream(port: multiprocessing.SimpleQueue) -> None:
    """Serve both answers as fast as Python can."""
    whole, streamed = answers()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(size)
                writer.write(streamed if b'"stream":true' in body else whole)
        except asyncio.IncompleteReadError:
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**21)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def call(connection: http.client.HTTPConnection, body: bytes) -> float:
    """One request over a kept connection; milliseconds until its last byte."""
    start = time.perf_counter()
    connection.request("POST", "/v1/messages", body, {"x-api-key": "k", "content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    took = (time.perf_counter() - start) * 1000
    assert answer.status == 200, answer.status
    return took


def small_bundle(folder: Path) -> Path:
    """Train the bundle that the router's tests use."""
    import conftest

    class Folders:
        def mktemp(self, name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

    return conftest.bundle_folder.__wrapped__(Folders())


def measure(ports: tuple[int, int], pid: int, body: bytes) -> str:
    """Alternate direct and routed calls and say what they took."""
    direct, routed = (http.client.HTTPConnection("127.0.0.1", port) for port in ports)
    for connection in (direct, routed):
        for _ in range(30):
            call(connection, body)
    took: tuple[list[float], list[float]] = ([], [])
    spent = cpu_s(pid)
    for _ in range(CALLS):
        took[0].append(call(direct, body))
        took[1].append(call(routed, body))
    spent = (cpu_s(pid) - spent) / CALLS * 1000
    (d50, d99), (r50, r99) = ((statistics.median(t), sorted(t)[int(len(t) * 0.99)]) for t in took)
    return (
        f"direct p50 {d50:6.2f} p99 {d99:6.2f} ms | routed p50 {r50:6.2f} p99 {r99:6.2f} ms | "
        f"added p50 {r50 - d50:5.2f} ms | CPU {spent:5.2f} ms a request, {1000 / spent:5.0f} req/s a core"
    )


def main() -> None:
    """Print one line per body size and way of answering."""
    port: multiprocessing.SimpleQueue = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(target=upstream, args=(port,), daemon=True)
    process.start()
    number = port.get()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else small_bundle(folder)
        gateway = start_gateway(folder, bundle, f"http://127.0.0.1:{number}")
        try:
            for size in (52_000, 406_000):
                for stream in (False, True):
                    plain = msgspec.json.decode(claude_code_body(size)) | {"model": "auto", "stream": stream}
                    ports = (number, int(gateway.url.rsplit(":", 1)[1]))
                    line = measure(ports, gateway.process.pid, msgspec.json.encode(plain))
                    print(f"{size // 1000:4d} kB {'streamed' if stream else 'whole   '} {line}")
        finally:
            gateway.stop()
            process.terminate()


if __name__ == "__main__":
    main()
