"""The commands of this room: from logs to labels, bundles and reports; each is imported when it is called."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 — Typer reads annotations at run time
from typing import Annotated

import typer

from router.commands import ConfigOption, JsonOption, finish

app = typer.Typer()
encoder_app = typer.Typer(help="Make the encoder that turns text into numbers.", no_args_is_help=True)
app.add_typer(encoder_app, name="encoder")

SourceArgument = Annotated[str, typer.Argument(help="Folder, .whl file, installed package or hub id.")]


@encoder_app.command("distil")
def encoder_distil(
    source: SourceArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new encoder.")],
    dim: Annotated[int, typer.Option("--dim", help="Dimensions of the vector.")] = 128,
    vocab: Annotated[Path | None, typer.Option("--vocab", help="Another WordPiece vocabulary.")] = None,
    json_to: JsonOption = None,
) -> None:
    """Distil a static encoder: one vector per token, microseconds per text, no torch to serve it."""
    from training.encoder.distil import distil, render

    finish(distil(source, out, dim, vocab), json_to, render)


@encoder_app.command("onnx")
def encoder_onnx(
    source: SourceArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new encoder.")],
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longer texts are cut.")] = 128,
    exact: Annotated[bool, typer.Option("--exact", help="Keep float32 instead of int8.")] = False,
    json_to: JsonOption = None,
) -> None:
    """Export a transformer itself to ONNX: milliseconds per text."""
    from training.encoder.onnx_export import export_onnx, render

    finish(export_onnx(source, out, max_tokens, not exact), json_to, render)


@app.command()
def ingest(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files and folders of logs.")],
    to: Annotated[Path, typer.Option("--to", metavar="LOG", help="Folder of the canonical log.")],
    form: Annotated[
        str | None, typer.Option("--format", help="Don't detect the format, take this one.")
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OURS=THEIRS", help="A table's column under our name; repeatable."),
    ] = None,
    reasoning: Annotated[
        str | None,
        typer.Option(help="A table's reasoning tokens are inside the output tokens, or apart."),
    ] = None,
    prompts: Annotated[str, typer.Option(help="What to keep of texts: full, features or none.")] = "features",
    encoder: Annotated[
        Path | None, typer.Option(help="Folder of an encoder or bundle to embed with; default: the prior's.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Read logs of any known format into the canonical log; the same files twice add nothing."""
    from features.errors import BadInput
    from training.account import nothing_kept, render
    from training.ingest import run

    chosen = {"encoder": encoder} if encoder else {}
    result = run(sources, to, form=form, maps=maps or (), reasoning=reasoning, prompts=prompts, **chosen)
    finish(result, json, render)
    if reason := nothing_kept(result):
        raise BadInput(reason)


@app.command()
def label(
    log: Annotated[Path, typer.Argument(help="Log written by `samediff ingest`.")],
    json: JsonOption = None,
) -> None:
    """Read what became of the answers in a log, and show what all its evidence covers and supports."""
    from training.labels.label import run
    from training.labels.show import render

    finish(run(log), json, render)


def _names(given: list[str] | None) -> tuple[str, ...]:
    """Names of a repeatable option, each also a list with commas."""
    return tuple(name.strip() for part in given or () for name in part.split(",") if name.strip())


def _rates(given: list[str] | None) -> tuple[float, ...]:
    from features.errors import BadInput

    try:
        return tuple(float(rate) for rate in _names(given)) or (0.1,)
    except ValueError as error:
        raise BadInput(f"--check-noise {','.join(given or ())}: a number or several are needed") from error


@app.command()
def evaluate(
    outcomes: Annotated[
        Path, typer.Argument(help="Outcome matrix, Parquet or CSV: a row per (task, model).")
    ],
    group: Annotated[
        str | None,
        typer.Option(help="Column whose values stay together in a fold; default group, else task_id."),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="More columns known before the answer; repeat or separate by commas."),
    ] = None,
    evidence: Annotated[
        list[str] | None,
        typer.Option(help="Columns known once a run is over, to judge it by: turns, tools, tokens, cost."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Model that a judged run escalates to; default the best one.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Fit on OUTCOMES, score on this file.")] = None,
    check_noise: Annotated[
        list[str] | None,
        typer.Option(help="How often a check is wrong, 0 to 0.5; several make a cascade each. Default 0.1."),
    ] = None,
    check_usd: Annotated[float, typer.Option(help="USD of one check of an answer.")] = 0.0,
    router_usd: Annotated[float, typer.Option(help="USD of one decision of a router.")] = 0.0,
    rename: Annotated[
        list[str] | None, typer.Option("--map", metavar="OURS=THEIRS", help="Read a column under our name.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Keep only such rows; != leaves them out."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="Keep these models, * and ? allowed; with ! before it, leave it out."),
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Folder of a static encoder; default: the prior's.")
    ] = None,
    hide_type: Annotated[
        bool, typer.Option("--hide-type", help="Task types are told while fitting, hidden while scoring.")
    ] = False,
    ignore_type: Annotated[
        bool, typer.Option("--ignore-type", help="As if there were no task types: the control of that.")
    ] = False,
    splits: Annotated[
        int, typer.Option(help="Splits into halves for what deploying would have got; 0 leaves it out.")
    ] = 2,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as one page, too.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Compare the learned router with every control on a full-outcome matrix."""
    from training.evaluate import Options, render, run

    options = Options(
        group=group,
        features=_names(features),
        evidence=_names(evidence),
        reference=reference,
        test=test,
        check_noise=_rates(check_noise),
        check_usd=check_usd,
        router_usd=router_usd,
        maps=tuple(rename or ()),
        where=tuple(where or ()),
        models=_names(models),
        encoder=encoder,
        hide_type=hide_type,
        ignore_type=ignore_type,
        splits=splits,
    )
    result = run(outcomes, options)
    if html is not None:
        from features.errors import BadInput
        from training.evaluate.page import html_of

        try:
            html.write_text(html_of(result), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{html}: can't be written ({error.strerror})") from error
    finish(result, json, render)


@app.command()
def diff(
    a: Annotated[Path | None, typer.Argument(help="A patch, JSON of tool calls, file or folder.")] = None,
    b: Annotated[Path | None, typer.Argument(help="What to compare it with.")] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="The tree (or file) before the patches; without it the verdict is weaker."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Judge a Parquet or CSV of patch_a, patch_b and (optional) base on all cores."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Tests, documents, lock and scratch files count too.")
    ] = False,
    root: Annotated[
        str | None, typer.Option(help="The folder that absolute paths in patches and calls are relative to.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Say whether two diffs are the same: L0, L1, L2, similar (L3), different or unknown, and why."""
    from features.errors import BadInput
    from training.judge.bulk import run_pairs
    from training.judge.pair import run
    from training.judge.show import render

    if pairs is not None and a is None:
        result = run_pairs(pairs, set_aside=not everything)
    elif a is not None and b is not None and pairs is None:
        result = run(a, b, base, set_aside=not everything, root=root)
    elif pairs is not None:
        raise BadInput(f"--pairs judges the rows of {pairs} alone: leave {a} out")
    else:
        raise BadInput("give two patches, files or folders, or --pairs FILE")
    finish(result, json, render)


@app.command()
def shadow(
    log: Annotated[Path, typer.Argument(help="Log with full prompts, written by `samediff ingest`.")],
    budget: Annotated[str, typer.Option(help="USD that may be spent at most, failed calls included.")],
    candidates: Annotated[str, typer.Option(help="Candidates to ask, separated by commas.")],
    reference: Annotated[
        str | None, typer.Option(help="Whose diff to equal; default: what served most of the log.")
    ] = None,
    per_request: Annotated[
        str | None, typer.Option(help="USD for one request at its worst; default a twentieth of the budget.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws another sample.")] = 0,
    self_share: Annotated[
        float, typer.Option(help="Share of the requests that the reference is asked once more.")
    ] = 0.5,
    max_output_tokens: Annotated[int, typer.Option(help="Longer answers are cut and not judged.")] = 16_000,
    concurrency: Annotated[int, typer.Option(help="Requests on their way at a time.")] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds for one call.")] = 300.0,
    batch: Annotated[
        bool, typer.Option("--batch", help="Ask through the providers' batch endpoints: half price, slow.")
    ] = False,
    poll: Annotated[float, typer.Option(help="Seconds before a batch is looked at; then longer.")] = 5.0,
    retry_unsettled: Annotated[
        bool, typer.Option("--retry-unsettled", help="Ask, and pay, again what a kill or ^C left open.")
    ] = False,
    finish_now: Annotated[
        bool, typer.Option("--finish", help="Ask nothing more; write the labels won so far.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Ask other models logged requests again, under a hard cap, and write down who makes the same diff."""
    from router.gateway.settings import Settings
    from training.shadow.asking import Limits
    from training.shadow.report import render
    from training.shadow.run import Options, run

    options = Options(
        budget=budget,
        candidates=tuple(name.strip() for name in candidates.split(",") if name.strip()),
        reference=reference,
        per_request=per_request,
        seed=seed,
        self_share=self_share,
        max_output_tokens=max_output_tokens,
        finish=finish_now,
        batch=batch,
        limits=Limits(concurrency, timeout, retry_unsettled, poll),
    )
    result = run(log, options, Settings.load(config))
    finish(result, json, render)
    if not result.ok:
        raise typer.Exit(1)
