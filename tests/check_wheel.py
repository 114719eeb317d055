"""Build the wheel, install it alone into a fresh venv, and run it beside a decoy `models/` folder.

Run by `make wheel-test` and CI; not collected by pytest because it installs the base dependencies anew.
Prints the size of the base install and the import time of `samediff route --help`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
DECOY = 'raise SystemExit("the decoy package was imported instead of the installed one")\n'


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed ({done.returncode}): {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        there = Path(scratch)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", there, ROOT, cwd=there)
        (wheel,) = there.glob("samediff-*.whl")
        print(f"wheel: {wheel.stat().st_size / 1e6:.1f} MB")
        venv.create(there / "venv", with_pip=True)
        binaries = there / "venv" / "bin"
        before = folder_mb(there / "venv")
        run(binaries / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=there)
        print(f"base install: {folder_mb(there / 'venv') - before:.0f} MB")

        project = there / "project"  # a user's own project, with a folder that has our package's name
        for name in ("models", "features", "router"):
            (project / name).mkdir(parents=True)
            (project / name / "__init__.py").write_text(DECOY)
        samediff = binaries / "samediff"
        started = time.perf_counter()
        run(samediff, "route", "--help", cwd=project)
        print(f"samediff route --help: {time.perf_counter() - started:.2f} s, the second time ", end="")
        started = time.perf_counter()
        run(samediff, "route", "--help", cwd=project)
        print(f"{time.perf_counter() - started:.2f} s")

        receipt = json.loads(
            run(samediff, "route", ROOT / "sample" / "request.json", "--json", "-", cwd=project)
        )
        assert receipt["bundle_kind"] == "prior", "the installed wheel must decide on its prior"
        assert receipt["chosen"] in {arm["candidate"] for arm in receipt["arms"]}
        assert abs(sum(arm.get("propensity", 0.0) for arm in receipt["arms"]) - 1) < 1e-9
        missing = subprocess.run(
            [samediff, "ingest", ROOT / "sample" / "logs", "--to", there / "log"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert missing.returncode == 2, missing.stdout
        assert "pip install 'samediff[train]'" in missing.stderr, missing.stderr
        assert "Traceback" not in missing.stderr
        print(
            f"route beside the decoy: {receipt['chosen']}; ingest without its extra: {missing.stderr.strip()}"
        )


def folder_mb(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


if __name__ == "__main__":
    main()
