"""The record of every training in MLflow, and the names of what it made; the only file that imports mlflow.

A run has a child for each step. What passes its gates becomes a version of the registered model with the
alias `challenger`; `promote` moves `champion`. The alias is set last, so that a kill or a full disk leaves a
run without a version, or a version without a name, which nothing uses.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from features.errors import BadInput, MissingExtra
from training.tracking import PROCESS_TAG, Run, end_the_dead, short, this_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODEL = "samediff"
EXPERIMENT = "samediff"
DEFAULT = "sqlite:///mlflow.db"
CHALLENGER, CHAMPION = "challenger", "champion"
DIGEST_TAG, DATA_TAG, FEATURES_TAG = "bundle_digest", "data_digest", "feature_hash"
SINCE_TAG, UNTIL_TAG = "in_force_since", "in_force_until"  # of a version, UTC
_BUNDLE = "bundle"
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # its page shows trainings, not prompts
_FILE = "sqlite:///"


class Version(NamedTuple):
    """A registered bundle."""

    number: str
    digest: str
    run_id: str


class Registry:
    """One MLflow server or file. Raises BadInput, one line, where it can't be reached or written."""

    def __init__(self, uri: str | None = None) -> None:
        self._named = named(uri) or DEFAULT
        self.uri = _absolute(self._named)
        mlflow = _mlflow()
        with self._asked(), _alone(self.uri):
            mlflow.set_tracking_uri(self.uri)
            self._mlflow = mlflow
            self._client = mlflow.MlflowClient()
            found = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = (
                found.experiment_id
                if found
                else self._client.create_experiment(EXPERIMENT, tags=_KIND, **self._artifacts())
            )

    @property
    def shown(self) -> str:
        """The URI without a password."""
        return _shown(self._named)

    def _artifacts(self) -> dict[str, str]:
        """Where a file of our own keeps what runs log: beside itself, wherever the next command is run."""
        if not self.uri.startswith(_FILE):
            return {}
        file = Path(self.uri.removeprefix(_FILE)).absolute()
        return {"artifact_location": (file.parent / "mlartifacts").as_uri()}

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
        """A run that ends as its work does; before it the runs of killed trainings are ended."""
        own = {PROCESS_TAG: this_process(), "mlflow.source.name": "samediff train", **tags}
        with self._asked():
            end_the_dead(self._client, self._experiment)
            run_id = self._client.create_run(self._experiment, tags=own, run_name=name).info.run_id
        with Run(self._mlflow, self._experiment, run_id, self._asked).going() as run:
            yield run

    def learned_from(self, run: Run, log: Path, digest: str, counts: Mapping[str, int]) -> None:
        """Note the log that a run learns from as its data set."""
        import json

        from mlflow.entities import Dataset, DatasetInput

        said = json.dumps(dict(counts))
        data = Dataset(log.name, digest, "local", json.dumps({"uri": str(log.absolute())}), profile=said)
        with self._asked():
            self._client.log_inputs(run.run_id, [DatasetInput(data)])

    def register(
        self, run: Run, bundle: Path, tags: Mapping[str, str], *, columns: tuple[int, int]
    ) -> Version:
        """Log a bundle as a pyfunc model of (features, candidates) columns, and make it the challenger."""
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        width, candidates = columns
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, width), "features")]),
            outputs=Schema([TensorSpec(np.dtype(np.float64), (-1, candidates), "p_success")]),
        )
        with self._asked(), _quiet(), self._mlflow.start_run(run_id=run.run_id):
            made = self._mlflow.pyfunc.log_model(
                name=_BUNDLE,
                python_model=_served(self._mlflow),
                artifacts={_BUNDLE: str(bundle)},
                signature=signature,
                pip_requirements=["samediff"],
            )
            self._model()
            version = self._client.create_model_version(
                MODEL, made.model_uri, run.run_id, dict(tags), model_id=made.model_id
            )
            self._client.set_registered_model_alias(MODEL, CHALLENGER, version.version)
        return Version(str(version.version), tags[DIGEST_TAG], run.run_id)

    def _model(self) -> None:
        """See that there is a registered model to make versions of."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(MODEL)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise

    def version(self, name: str) -> Version | None:
        """The version with an alias or a number; None when there is none."""
        from mlflow.exceptions import MlflowException

        with self._asked():
            try:
                found = (
                    self._client.get_model_version(MODEL, name)
                    if name.isdecimal()
                    else self._client.get_model_version_by_alias(MODEL, name)
                )
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        return _version(found)

    def of_digest(self, digest: str) -> Version | None:
        """The newest version that holds this bundle."""
        with self._asked():
            found = self._client.search_model_versions(f"name = '{MODEL}' and tags.{DIGEST_TAG} = '{digest}'")
        versions = sorted((_version(v) for v in found), key=lambda v: int(v.number))
        return versions[-1] if versions else None

    def holds(self, digest: str) -> bool:
        """Whether a bundle was registered by a run that went to its end."""
        found = self.of_digest(digest)
        if found is None:
            return False
        with self._asked():
            return str(self._client.get_run(found.run_id).info.status) == "FINISHED"

    def bundle(self, version: Version) -> Path:
        """The folder of a version's bundle, copied here if it lies elsewhere."""
        with self._asked(), _quiet():
            model = self._mlflow.artifacts.download_artifacts(f"models:/{MODEL}/{version.number}")
        folder = Path(model) / "artifacts"
        return next(file.parent for file in sorted(folder.rglob("manifest.json")))

    def crown(self, version: Version | None, at: str) -> None:
        """Move the alias `champion` to a version, or away where none is in force; `at` is said of both."""
        before = self.version(CHAMPION)
        if before == version:
            return
        with self._asked():
            if version is not None:
                self._client.set_registered_model_alias(MODEL, CHAMPION, version.number)
                self._client.set_model_version_tag(MODEL, version.number, SINCE_TAG, at)
                self._client.delete_model_version_tag(MODEL, version.number, UNTIL_TAG)
            elif before is not None:
                self._client.delete_registered_model_alias(MODEL, CHAMPION)
            if before is not None:
                self._client.set_model_version_tag(MODEL, before.number, UNTIL_TAG, at)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Map what MLflow and its database raise to one line."""
        mlflow = _mlflow()
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except ModuleNotFoundError as error:  # a database's driver
            raise BadInput(f"MLflow at {self.shown}: needs {error.name}; pip install {error.name}") from error
        except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
            said = short(str(error)) or type(error).__name__
            raise BadInput(
                f"MLflow at {self.shown}: {said}; see that it is there and writable, or use --no-mlflow"
            ) from error


def _served(mlflow: Any) -> Any:
    """A bundle as MLflow's pyfunc, for `mlflow.pyfunc.load_model`; samediff itself serves without it."""

    class ServedBundle(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """P(success) (n, k) of each of the bundle's candidates, in its order, for features (n, d)."""

        def load_context(self, context: Any) -> None:
            """Load and verify the bundle."""
            from models.bundle import Bundle, CandidateView

            self.bundle = Bundle.load(context.artifacts["bundle"])
            self.views = [CandidateView(name, None, None) for name in self.bundle.profiles]

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG002 — MLflow takes hints for its own schema
            """Predict for rows of features."""
            import numpy as np

            rows = model_input["features"] if isinstance(model_input, dict) else model_input
            matrix = np.asarray(rows, dtype=np.float32)
            return np.stack([self.bundle.predict(row[None, :], self.views).p_success for row in matrix])

    return ServedBundle()


def _version(found: Any) -> Version:
    return Version(str(found.version), found.tags.get(DIGEST_TAG, ""), found.run_id)


def _absolute(uri: str) -> str:
    """A file's URI wherever one stands: MLflow keeps connections by their URI, whatever folder it meant."""
    if not uri.startswith(_FILE) or uri.startswith(f"{_FILE}/"):
        return uri
    return f"{_FILE}{Path(uri.removeprefix(_FILE)).absolute()}"


def _shown(uri: str) -> str:
    """A tracking URI without a password."""
    head, at, tail = uri.rpartition("@")
    return f"{head.partition('://')[0]}://…{at}{tail}" if at else uri


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep others out while a file of our own is made: two that make its tables at once both fail."""
    if not uri.startswith(_FILE):
        yield
        return
    import fcntl

    file = Path(uri.removeprefix(_FILE))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file.with_name(f"{file.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise BadInput(
            f"{file}: can't be written ({error.strerror}); name another with MLFLOW_TRACKING_URI"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what MLflow says to people who log models by hand."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(record=True):  # some of them get past a filter
            yield
    finally:
        logger.setLevel(level)


def named(uri: str | None = None) -> str | None:
    """The tracking URI that settings or the environment name."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI")


def missing_file(uri: str | None = None) -> Path | None:
    """The SQLite file that settings, the environment or the default name, where it isn't there."""
    found = named(uri) or DEFAULT
    if not found.startswith(_FILE):
        return None
    file = Path(found.removeprefix(_FILE).partition("?")[0])
    return None if file.exists() else file


def installed() -> bool:
    """Whether MLflow is there to be imported."""
    return find_spec("mlflow") is not None


def _mlflow() -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Seconds and times after which a server counts as down; MLflow's own are 120 and 7, a quarter of an hour.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for --json
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow
    except ImportError as error:
        raise MissingExtra("mlflow", "train") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its errors are raised, too, and said in one line
    return mlflow
