"""Starts LiteLLM's proxy and Switchyard on loopback, each from a venv of its own under run/bench/.

Both get what is cheapest for them: two models to choose from at random, no database, logs of errors only.
Neither is a dependency of this project; `make bench-gateway` installs them.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "router"))

from router_servers import ROOT, free_port

VENVS = ROOT / "run" / "bench"
MODELS = ("claude-opus-4-5", "claude-sonnet-4-5")  # in LiteLLM's own price list, so it prices as it would
START_S = 120.0
SWITCHYARD = """
import sys, threading
from switchyard_rust.server import Server
server = Server(sys.argv[1], int(sys.argv[2]))
threading.Event().wait()
"""


class Player(NamedTuple):
    """Who is asked: where, with which key, and whose CPU time counts."""

    name: str
    port: int
    key: str
    pid: int


class Rival:
    """A rival's process on loopback, stopped by its pid together with its children's."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], folder: Path) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**clean, "OMP_NUM_THREADS": "1", **environ},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )

    def wait(self, port: int) -> None:
        """Return when it takes connections; RuntimeError with the end of its log when it doesn't."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.2)
        said = self.log.read_text(errors="replace")[-800:]
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{said}")

    def stop(self) -> None:
        """End it and whatever it started."""
        if self.process.poll() is not None:
            return
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in children:
            if child.is_running():
                child.terminate()


def tree_cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that a process and its living children have used."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))


def version(name: str, package: str) -> str | None:
    """The installed version of a rival, or None."""
    for info in (VENVS / name).glob(f"lib/python*/site-packages/{package}-*.dist-info"):
        return info.name.removeprefix(f"{package}-").removesuffix(".dist-info")
    return None


def litellm(folder: Path, upstream: str) -> tuple[Rival, Player]:
    """LiteLLM's proxy with one worker and a master key, as it insists on."""
    deployments = "".join(
        "  - model_name: auto\n    litellm_params:\n"
        f"      {{model: anthropic/{model}, api_base: '{upstream}', api_key: made-up}}\n"
        for model in MODELS
    )
    config = folder / "litellm.yaml"
    config.write_text(f"model_list:\n{deployments}litellm_settings: {{telemetry: false}}\n")
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    command = [str(VENVS / "litellm/bin/litellm"), "--config", str(config), "--host", "127.0.0.1"]
    environ = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # its price list is not fetched
        "LITELLM_LOG": "ERROR",
    }
    rival = Rival("litellm", [*command, "--port", str(port), "--num_workers", "1"], environ, folder)
    rival.wait(port)
    return rival, Player("LiteLLM", port, key, rival.process.pid)


def switchyard(folder: Path, upstream: str) -> tuple[Rival, Player]:
    """Switchyard's server as its wheel brings it, with a random route."""
    lines = [
        "schema_version = 1",
        f'[llm_clients.up]\nformat = "anthropic_messages"\nbase_url = "{upstream}"',
        *(f'[targets.m{n}]\nid = "{model}"\nllm_client = "up"' for n, model in enumerate(MODELS)),
        '[routes.auto]\nid = "auto"\ntype = "random"\ntargets = ["m0", "m1"]\n',
    ]
    config = folder / "switchyard.toml"
    config.write_text("\n".join(lines))
    port = free_port()
    command = [str(VENVS / "switchyard/bin/python"), "-c", SWITCHYARD, str(config), str(port)]
    rival = Rival("switchyard", command, {"RUST_LOG": "error"}, folder)
    rival.wait(port)
    return rival, Player("Switchyard", port, "made-up", rival.process.pid)


RIVALS = {  # venv -> (package as its folder is called, how it starts)
    "litellm": ("litellm", litellm),
    "switchyard": ("nemo_switchyard", switchyard),
}
