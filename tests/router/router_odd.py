"""A provider whose answers no client can read: bombs, pages, broken text, answers without end."""

import http.server
import json
import threading
import zlib
from contextlib import contextmanager
from types import SimpleNamespace


class Odd(http.server.BaseHTTPRequestHandler):
    """A provider that answers with whatever its path's model says."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = json.dumps(body)
        if "ENDLESS" in said:
            self.endless(stream=bool(body.get("stream")))
            return
        content, headers = b'{"id":"x","choices":[{"message":{"content":"\xff\xfe"}}]}', {}
        if "BOMB" in said:
            packed = zlib.compressobj(9, zlib.DEFLATED, 31)
            content = b"".join(packed.compress(bytes(2**20)) for _ in range(200)) + packed.flush()
            headers = {"content-encoding": "gzip"}
        if "HTML" in said:
            content, headers = b"<html>busy</html>", {"content-type": "text/html"}
        self.send_response(200)
        for name, value in ({"content-type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def endless(self, *, stream):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if stream else "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        choice = {"index": 0, "delta": {"content": "x" * 60_000}}
        chunk = b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"
        try:
            while True:
                self.wfile.write(chunk if stream else b" " * 65_536)
        except OSError:
            self.server.left.set()

    def log_message(self, *_):
        pass


@contextmanager
def odd_provider():
    """Serve it on loopback; `left` is set when one who was told something without end has gone."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.left = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", left=server.left)
    server.shutdown()
    server.server_close()
