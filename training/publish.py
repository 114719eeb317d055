"""From fitted heads to a bundle on disk: export with its proof, manifest, digests."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from features.errors import BadInput
from features.vector import feature_hash, feature_names
from models.after import AFTER, AfterCard
from models.certificate import Certificate
from models.export import export_heads
from models.folder import write_bundle
from models.heads import Heads, Part
from models.manifest import (
    Amount,
    BundleKind,
    CandidateProfile,
    Manifest,
    Parity,
    Range,
    Slice,
    Source,
    Split,
    TokenScale,
)
from models.offset import OffsetCard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from training.fit import Examples, SuccessHead, TokensHead
    from training.residual import Learned


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What the heads alone don't know about themselves."""

    kind: BundleKind
    trained_on: tuple[Source, ...] = ()
    lineage: dict[str, str] = {}
    metrics: dict[str, float] = {}  # of the evaluation, beside the fit's own
    certificates: tuple[Certificate, ...] = ()
    slices: tuple[Slice, ...] = ()
    offsets: OffsetCard | None = None
    seed: int = 0


class Published(msgspec.Struct, frozen=True):
    """A bundle as it was written."""

    digest: str
    parity: Parity
    manifest: Manifest


def publish(
    folder: Path,
    heads: tuple[SuccessHead, TokensHead | None],
    examples: Examples,
    provenance: Provenance,
    encoder: Path | None = None,
    *,
    amounts: dict[str, TokensHead] | None = None,
    after: AfterCard | None = None,
) -> Published:
    """Export the heads, prove the export and write the bundle; `encoder` is the folder to put into it.

    `amounts` are the heads of fit_amounts, `after` those after the answer.

    Raises CheckFailed when the proof fails, BadInput when the examples' features are not this samediff's.
    """
    success, tokens = heads
    dim, encoder_digest = _encoder_of(encoder)
    n_features = examples.features.shape[1]
    if n_features != len(feature_names(dim)):
        raise BadInput(
            f"examples have {n_features} features, a bundle with {dim} embedding dimensions needs "
            f"{len(feature_names(dim))}; featurize with the encoder that goes into the bundle"
        )
    amounts = amounts or {}
    others = dict(amounts) if tokens is None else {"tokens": tokens, **amounts}
    learned = [success.learned, *(head.learned for head in others.values())]
    graph, parity = export_heads(
        Heads(
            _part(success.learned),
            success.calibration,
            n_features,
            {name: (_part(head.learned), head.log_limit) for name, head in others.items()},
        ),
        provenance.seed,
    )
    manifest = Manifest(
        samediff_version=own_version(),
        kind=provenance.kind,
        feature_hash=feature_hash(dim, encoder_digest),
        n_features=n_features,
        embedding_dim=dim,
        encoder_digest=encoder_digest,
        candidates=tuple(profiles(success, tokens, examples)),
        success=success.table,
        calibration=success.calibration,
        tokens=None if tokens is None else tokens.table,
        token_scale=None if tokens is None else TokenScale(tokens.default_ratio, tokens.log_limit),
        amounts={
            name: Amount(table=h.table, scale=TokenScale(h.default_ratio, h.log_limit), ratio=h.ratio)
            for name, h in amounts.items()
        },
        support=tuple(support_of(examples.features, learned).values()),
        task_types=success.task_types,
        types=None if success.types is None else success.types.card,
        types_known=any(each.types_known for each in learned),
        rows=int(np.isfinite(success.oof).sum()),
        rows_with_tokens=0 if tokens is None else int(np.isfinite(tokens.oof).sum()),
        split=Split(
            folds=int(success.metrics["folds"]), seed=provenance.seed, groups=len(np.unique(examples.group))
        ),
        metrics={
            **{f"success_{name}": value for name, value in success.metrics.items()},
            **{f"{head}_{name}": v for head, h in others.items() for name, v in h.metrics.items()},
            **provenance.metrics,
        },
        parity=parity,
        trained_on=provenance.trained_on,
        lineage=provenance.lineage,
        certificates=provenance.certificates,
        slices=provenance.slices,
        offsets=provenance.offsets,
    )
    extra = {} if success.types is None else success.types.files()
    if after is not None:
        extra = {**extra, AFTER: msgspec.json.encode(after)}
    return Published(write_bundle(folder, manifest, graph, encoder, extra=extra), parity, manifest)


def _part(learned: Learned) -> Part:
    text = None if learned.booster is None else learned.booster.model_to_string()
    return Part(text, learned.tree_weight, learned.linear)


def support_of(features: np.ndarray, heads: Iterable[Learned]) -> dict[int, Range]:
    """Range in training of every column that some tree splits on or some linear part weighs, by its index."""
    used: set[int] = set()
    for learned in heads:
        if learned.booster is not None:
            split_on = learned.booster.feature_importance()[: features.shape[1]]
            used |= set(np.flatnonzero(split_on).tolist())
        if learned.linear is not None:
            used |= set(learned.linear.columns.tolist())
    names = feature_names(features.shape[1] - len(feature_names(0)))
    columns = {index: features[:, index].astype(np.float64) for index in sorted(used)}
    return {
        i: Range(names[i], float(np.nanmin(c)), float(np.nanmax(c)), bool(np.isnan(c).any()))
        for i, c in columns.items()
    }


def profiles(success: SuccessHead, tokens: TokensHead | None, examples: Examples) -> list[CandidateProfile]:
    """Summaries of every candidate in the examples, in the order of their index."""
    result = []
    for index, name in enumerate(success.candidates):
        mine = examples.candidate == name
        known = examples.output_tokens[mine][np.isfinite(examples.output_tokens[mine])]
        effect = success.table.candidates.get(name)
        prices = examples.prices.get(name, (None, None))
        result.append(
            CandidateProfile(
                candidate=name,
                index=index,
                rows=0 if effect is None else int(effect.rows),
                base_logit=success.table.value(name, "", prices),
                mean_output_tokens=float(known.mean()) if len(known) else None,
                output_ratio=1.0 if tokens is None else tokens.ratio.get(name, tokens.default_ratio),
                input_usd_per_mtok=prices[0],
                output_usd_per_mtok=prices[1],
            )
        )
    return result


def _encoder_of(folder: Path | None) -> tuple[int, str | None]:
    if folder is None:
        return 0, None
    from features.encoder import read_card

    card = read_card(folder)
    return card.dim, card.digest


def own_version() -> str:
    """The version of samediff that is running; 0 where it was never installed."""
    try:
        return version("samediff")
    except PackageNotFoundError:  # run from a clone that was never installed
        return "0"
