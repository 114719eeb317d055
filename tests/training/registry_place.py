"""What tests of recorded trainings share: small logs, an MLflow store that is there, commands to run."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from test_dataset import fill
from test_pipeline import two_models

import samediff
from training.log import LogStore
from training.registry import Registry

ROOT = Path(__file__).parents[2]
ROWS = 120  # few enough that no trees are grown: these tests are about what becomes of a bundle


def make_tables(folder):
    """An MLflow store that holds tables and nothing else, made once: making them takes seconds."""
    Registry(f"sqlite:///{folder}/tables.db")
    with sqlite3.connect(folder / "tables.db") as tables:
        tables.execute("delete from experiment_tags")
        tables.execute("delete from experiments where name = 'samediff'")  # it says where its artifacts lie
    tables.close()
    return folder / "tables.db"


def make_place(folder, tables):
    """A folder with logs that pass the gates, one that fails calibration, and an empty MLflow store."""
    folder.mkdir(exist_ok=True)
    fill(LogStore(folder / "log"), two_models(ROWS))
    fill(LogStore(folder / "other"), two_models(ROWS, seed=3))
    rows = two_models(100, seed=1, best=0.95) + two_models(60, seed=2, best=0.05)
    fill(LogStore(folder / "turned"), [{**row, "task_id": f"t{i}"} for i, row in enumerate(rows)])
    shutil.copy(tables, folder / "mlflow.db")
    return folder


def registry(place):
    return Registry(f"sqlite:///{place}/mlflow.db")


def runs(place):
    """(name, status) of all runs and steps, the oldest first, without asking MLflow."""
    with sqlite3.connect(f"file:{place}/mlflow.db?mode=ro", uri=True) as store:
        found = store.execute("select name, status from runs order by start_time, rowid").fetchall()
    store.close()
    return found


def start(place, *words, before="", **environ):
    """A command in a process of its own, after some lines of Python."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "SAMEDIFF"))}
    argv = ["samediff", *map(str, words)]
    code = f"import sys\nsys.argv = {argv!r}\n{before}\nimport samediff\nsamediff.main()"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=place,
        env={**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(monkeypatch, capsys):
    """Runs a command in this process, which has MLflow imported: exit code, JSON, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(place, *words, **environ):
        for name in [name for name in os.environ if name.startswith(("MLFLOW_TRACKING", "SAMEDIFF"))]:
            monkeypatch.delenv(name)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        file = place / "out.json"
        file.unlink(missing_ok=True)
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["samediff", *map(str, words), "--json", "out.json"])
        code = 0
        try:
            samediff.main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return code, json.loads(file.read_text()) if file.exists() else None, out, err

    return run
