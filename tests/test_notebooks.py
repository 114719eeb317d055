"""The notebooks run on the shipped sample, say what they are, and hold no outputs in git."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_LINES = 40


def cells(file: Path, kind: str) -> list[dict]:
    return [c for c in json.loads(file.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


def test_they_are_numbered_without_a_gap() -> None:
    assert [f.name[:3] for f in NOTEBOOKS] == [f"{n:02d}_" for n in range(1, len(NOTEBOOKS) + 1)]
    assert len(NOTEBOOKS) >= 4


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_outputs_are_stripped(file: Path) -> None:
    for cell in cells(file, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_each_reads_on_its_own(file: Path) -> None:
    first = "".join(cells(file, "markdown")[0]["source"])
    assert first.startswith(f"# {file.name[:2]} · ")
    assert len(first) > 300  # what one will see
    assert len(cells(file, "markdown")) >= 0.4 * len(cells(file, "code"))
    assert max(len(c["source"]) for c in cells(file, "code")) <= CELL_LINES


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_it_runs_on_the_sample(file: Path, tmp_path: Path) -> None:
    """In a process of its own: what Jupyter leaves open is none of ours."""
    for needed in ("nbclient", "ipykernel", "altair"):
        pytest.importorskip(needed)
    out = tmp_path / file.name
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", "--output", str(out), str(file)]
    homes = {name: str(tmp_path) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    environ = {**os.environ, **homes, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=FOLDER)
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [output for cell in cells(out, "code") for output in cell["outputs"]]
    charts = [o for o in outputs if "vega" in "".join(o.get("data", {}).get("text/html", ""))]
    assert len(charts) >= 2
    assert [o["text"] for o in outputs if o.get("name") == "stderr"] == []
