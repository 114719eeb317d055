"""What the project promises about itself: versions agree, packages are declared, serving stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("features", "models", "router", "training")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources() -> list[Path]:
    return [ROOT / "samediff.py", *(f for room in ROOMS for f in sorted((ROOT / room).rglob("*.py")))]


def test_the_changelogs_newest_version_is_the_packages() -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == project()["project"]["version"]


def test_every_package_is_declared_by_name() -> None:
    on_disk = {
        ".".join(f.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for f in (ROOT / room).rglob("__init__.py")
    }
    data = {"models.prior.encoder"}  # a folder of files, not of code
    assert on_disk | data == set(project()["tool"]["setuptools"]["packages"])


def test_each_file_says_what_it_is_in_its_first_line() -> None:
    silent = [str(f.relative_to(ROOT)) for f in sources() if not ast.get_docstring(ast.parse(f.read_text()))]
    assert silent == []


def test_serving_imports_nothing_of_training_and_no_training_library() -> None:
    heavy = ("training", "polars", "lightgbm", "sklearn", "pandas", "torch", "scipy", "mlflow")
    code = (
        "import sys, samediff, router.decide, router.gateway.app, models.bundle;"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_imports_no_room_before_a_command_is_called() -> None:
    code = f"import sys, samediff; print([m for m in {ROOMS} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_front_door_knows_every_command_of_the_rooms() -> None:
    import importlib

    import typer

    import samediff

    for room in sorted(set(samediff.COMMANDS.values())):
        commands = typer.main.get_command(importlib.import_module(room).app).commands
        assert set(commands) == {name for name, at in samediff.COMMANDS.items() if at == room}


def test_the_sample_and_the_prior_stay_small() -> None:
    size = sum(
        f.stat().st_size for d in ("sample", "models/prior") for f in (ROOT / d).rglob("*") if f.is_file()
    )
    assert size <= 15_000_000
