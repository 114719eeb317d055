"""`python -m router.scripted --port 0 --script FILE`: serve a script on loopback until stopped."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

import uvicorn

from features.errors import BadInput
from router.scripted.app import create_upstream
from router.scripted.script import load_script


def main(arguments: list[str] | None = None) -> int:
    """Serve; the first line on stdout is the bound base URL. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m router.scripted", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument(
        "--script",
        default="claude_code_fix",
        help="a JSON file, or a shipped one: claude_code_fix, codex_fix",
    )
    parser.add_argument("--record", type=Path, help="folder that gets every request body")
    chosen = parser.parse_args(arguments)
    try:
        app = create_upstream(load_script(chosen.script), chosen.record)
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", chosen.port))
    listener.listen()  # who reads the line below may connect at once
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
