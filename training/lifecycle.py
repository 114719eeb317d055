"""The commands of a bundle's life: train, retrain, promote, roll back; each is imported when called."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from router.commands import ConfigOption, JsonOption, finish

if TYPE_CHECKING:
    from router.gateway.settings import Settings
    from training.examples import Knobs
    from training.registry import Registry

app = typer.Typer()

EncoderOption = Annotated[
    Path | None, typer.Option(help="Folder of the encoder the log was ingested with; default: the prior's.")
]
NoMlflowOption = Annotated[
    bool, typer.Option("--no-mlflow", help="Record nothing: the bundle is all that is written.")
]
NoAliasOption = Annotated[
    bool, typer.Option("--no-mlflow", help="Leave MLflow, and its alias `champion`, alone.")
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Folder or URL of published bundles; default: `store` in samediff.toml."),
]


def _registry(settings: Settings, *, no_mlflow: bool) -> Registry | None:
    """The registry of the settings; None with --no-mlflow, or where MLflow lacks and none is named."""
    from training.registry import Registry, installed, named

    if no_mlflow or not (installed() or named(settings.mlflow)):
        return None
    return Registry(settings.mlflow)


def _looked_up(settings: Settings, *, no_mlflow: bool, needed: bool) -> Registry | None:
    """The registry to find something in: looking makes no database where there is none.

    None where there is none, or BadInput where what is looked for can be nowhere else.
    """
    from features.errors import BadInput
    from training.registry import installed, missing_file

    missing = None if no_mlflow else missing_file(settings.mlflow)
    if missing is None or not installed():
        return _registry(settings, no_mlflow=no_mlflow)
    if needed:
        raise BadInput(
            f"MLflow at {missing}: no such file, so nothing is registered there; name the one that `samediff "
            "train` recorded in with MLFLOW_TRACKING_URI=sqlite:///FILE, or a bundle with --bundle FOLDER"
        )
    return None


def _promotion(out: Path, store: str | None, settings: Settings, config: Path | None) -> str:
    """The command that will put in force what is registered, for a shell without our environment.

    To be made before MLflow is opened, which writes its address into our environment.
    """
    from training.registry import DEFAULT, named

    words = ["samediff", "promote"]
    if config is not None:
        words += ["--config", str(config)]
    if store is not None or settings.store is None:
        words += ["--store", store or str(out.parent / "store")]
    uri = DEFAULT if settings.mlflow else named() or DEFAULT
    hidden = urlsplit(uri).username is not None  # who has a password there knows where it is set
    prefix = "" if uri == DEFAULT or hidden else f"MLFLOW_TRACKING_URI={shlex.quote(uri)} "
    return prefix + shlex.join(words)


def _store(given: str | None, settings: Settings) -> str:
    from features.errors import BadInput

    store = given or settings.store
    if store is None:
        raise BadInput("which store? name it with --store, or as `store` in samediff.toml")
    return store


def _knobs(settings: Settings) -> Knobs:
    """The default knobs; a policy that demands a certificate gets the heads that were certified."""
    from router.policy import parse_policy
    from training.examples import Knobs

    return Knobs(certified=parse_policy(settings.policy).certified is not None)


@app.command()
def train(
    log: Annotated[Path, typer.Argument(help="Log written by `samediff ingest`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")],
    encoder: EncoderOption = None,
    no_mlflow: NoMlflowOption = False,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Train on a log and write a bundle, if it passes its gates; exit 1, and no bundle, if it doesn't.

    MLflow records the run: ./mlflow.db, or what `mlflow` in samediff.toml or MLFLOW_TRACKING_URI names.
    """
    from models.prior import PRIOR_ENCODER
    from router.gateway.settings import Settings
    from training.record import flat, recorded_train, render_training

    settings = Settings.load(config)
    then = _promotion(out, None, settings, config)
    registry, knobs = _registry(settings, no_mlflow=no_mlflow), _knobs(settings)
    training = recorded_train(log, out, registry, encoder=encoder or PRIOR_ENCODER, knobs=knobs)
    finish(flat(training), json, lambda _: render_training(training, then))
    if training.report.digest is None:
        raise typer.Exit(1)


@app.command()
def retrain(
    log: Annotated[Path, typer.Argument(help="Log written by `samediff ingest`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")],
    sources: Annotated[
        list[str] | None, typer.Option("--from", metavar="SOURCE", help="Ingest this first; repeatable.")
    ] = None,
    promote_it: Annotated[
        bool, typer.Option("--promote", help="Publish the bundle if its gates pass.")
    ] = False,
    store: StoreOption = None,
    encoder: EncoderOption = None,
    no_mlflow: NoMlflowOption = False,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Ingest what is new, label, train and gate, for cron; nothing new since: nothing done.

    Exit 1 when a gate fails, and as long as nothing is new since: the bundle that is there stays.
    --promote leaves alone what was rolled back.
    """
    from models.prior import PRIOR_ENCODER
    from router.gateway.settings import Settings
    from training.retrain import render_retraining, retrain_and_promote

    settings = Settings.load(config)
    then, place = _promotion(out, store, settings, config), _store(store, settings) if promote_it else None
    registry = _registry(settings, no_mlflow=no_mlflow)
    chosen = encoder or PRIOR_ENCODER
    result = retrain_and_promote(
        log, out, registry, sources=sources or (), encoder=chosen, store=place, knobs=_knobs(settings)
    )
    finish(result, json, lambda _: render_retraining(result, then))
    if result.failed_gates or (result.training is not None and result.training.report.digest is None):
        raise typer.Exit(1)


@app.command()
def promote(
    store: StoreOption = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="This bundle's folder instead.")] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="This version of the model in MLflow instead.")
    ] = None,
    no_mlflow: NoAliasOption = False,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Publish a bundle: what follows the store serves it from then on, without a restart.

    Unless one is named, it is the challenger: what the last training registered that passed its gates.
    """
    from router.gateway.settings import Settings
    from training.promote import promote as put_in_force
    from training.promote import render

    settings = Settings.load(config)
    place = _store(store, settings)
    registry = _looked_up(settings, no_mlflow=no_mlflow, needed=bundle is None)
    finish(put_in_force(place, bundle, version, registry), json, render)


@app.command()
def rollback(
    store: StoreOption = None,
    no_mlflow: NoAliasOption = False,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Publish again what the store had in force before the last promotion."""
    from router.gateway.settings import Settings
    from training.promote import render
    from training.promote import rollback as put_back

    settings = Settings.load(config)
    registry = _looked_up(settings, no_mlflow=no_mlflow, needed=False)
    finish(put_back(_store(store, settings), registry), json, render)
