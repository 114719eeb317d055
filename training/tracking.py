"""One training as MLflow shows it: a run with a child for each step, ended also after a kill."""

from __future__ import annotations

import os
import platform
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

PROCESS_TAG = "samediff.process"
KILLED_TAG = "samediff.killed"
LONGEST_MS = 48 * 3_600_000  # a run of a machine that can't be looked at is given up then


class Run:
    """One training as it is written down. Raises BadInput, one line, where it can't be."""

    def __init__(
        self, mlflow: Any, experiment: str, run_id: str, asked: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._mlflow = mlflow
        self._client = mlflow.MlflowClient()
        self._experiment = experiment
        self._asked = asked
        self.run_id = run_id

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of the pipeline as a nested run with its seconds."""
        tags = {"mlflow.parentRunId": self.run_id, PROCESS_TAG: this_process()}
        with self._asked():
            child = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
        started = time.perf_counter()

        def end(status: str) -> None:
            with self._asked():
                self._client.log_metric(child, "seconds", time.perf_counter() - started)
                self._client.set_terminated(child, status)

        with ended(end):
            yield

    @contextmanager
    def going(self) -> Iterator[Run]:
        """The run itself: it ends FINISHED, FAILED with what went wrong out of it, or KILLED by its user."""

        def end(status: str) -> None:
            with self._asked():
                self._client.set_terminated(self.run_id, status)

        with ended(end):
            yield self

    def params(self, values: Mapping[str, Any]) -> None:
        """Write down what was chosen."""
        with self._asked():
            self._mlflow.log_params(dict(values), run_id=self.run_id)

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Write down what was measured; what isn't known isn't written."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        with self._asked():
            self._mlflow.log_metrics(known, run_id=self.run_id)

    def note(self, text: str, tags: Mapping[str, str]) -> None:
        """Say in words what came of it, at the top of the run's page, and in tags to search by."""
        with self._asked():
            for name, value in {"mlflow.note.content": text, **tags}.items():
                self._client.set_tag(self.run_id, name, value)

    def document(self, name: str, value: Any) -> None:
        """Keep a report as JSON beside the run."""
        with self._asked():
            self._client.log_dict(self.run_id, value, name)

    def figure(self, name: str, svg: str) -> None:
        """Keep a picture beside the run."""
        with self._asked():
            self._client.log_text(self.run_id, svg, name)


@contextmanager
def ended(end: Callable[[str], None]) -> Iterator[None]:
    """End what was begun with its status; what went wrong first is said, not that this can't be noted."""
    try:
        yield
    except BaseException as error:
        with suppress(BadInput):
            end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    end("FINISHED")


def end_the_dead(client: Any, experiment: str) -> int:
    """End, as KILLED, the runs whose process is gone, and what they were logging; how many runs those were.

    Nobody else would: a killed process ends nothing, and MLflow doesn't know that it is gone.
    """
    running = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    now_ms = time.time_ns() // 1_000_000
    dead = {
        run.info.run_id
        for run in running
        if PROCESS_TAG in run.data.tags and _gone(run.data.tags[PROCESS_TAG], now_ms - run.info.start_time)
    }
    for run_id in dead:
        client.set_tag(run_id, KILLED_TAG, "its process was gone when another training began")
        client.set_terminated(run_id, "KILLED")
    for model in client.search_logged_models([experiment]) if dead else ():
        if model.source_run_id in dead and str(model.status) == "PENDING":
            client.finalize_logged_model(model.model_id, "FAILED")
    return len(dead)


def this_process() -> str:
    """A tag of this process: machine, number and, where the system tells it, when it began."""
    return _named(os.getpid())


def _named(pid: int) -> str:
    try:
        began = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:  # no such process, or not Linux
        began = ""
    return f"{platform.node()}:{pid}:{began}"


def _gone(owner: str, age_ms: int) -> bool:
    """Whether the process of a tag has ended; of another machine's that is so after two days."""
    machine, pid, _ = owner.rsplit(":", 2)
    if machine != platform.node():
        return age_ms > LONGEST_MS
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, but there
        pass
    return _named(int(pid)) != owner


def short(said: str) -> str:
    """What an error of MLflow's says, in one line without the dump of its client's request."""
    if "Max retries exceeded" in said or "API request to" in said:
        found = re.search(r"\[Errno -?\d+\] ([\w ]+)|(timed out)|(too many \d+ error responses)", said)
        return "no answer" if found is None else f"no answer ({next(filter(None, found.groups())).lower()})"
    # Whoever meets a full disk has no use for SQLAlchemy's advice to its programmers before it.
    lines = [line for line in said.strip().splitlines() if "autoflush block" not in line]
    return next(iter(lines), "")[:200]
