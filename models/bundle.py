"""A bundle: the heads, their tables and the encoder in one folder, bound together by digests.

Loading verifies everything and refuses in one line; predicting is one table look-up and one ONNX call.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from features.errors import BadInput
from features.vector import feature_hash, feature_names
from models.after import AFTER, load_after
from models.calibration import calibrated
from models.descriptors import Descriptor, Prices, log_price, unprobed
from models.folder import RETRAIN, Layout, read_manifest, verify_files
from models.heads import BASES
from models.table import UNSEEN_INDEX, beside, finite
from models.tasktype import mixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.encoder import OnnxEncoder, StaticEncoder
    from models.after import AfterModel
    from models.manifest import BundleKind, CandidateProfile, Manifest, TokenScale
    from models.table import Table
    from models.tasktype import Mixture, TaskTypes

MARGIN = 0.1  # of a feature's range in training, by which a request may lie beyond it
_Z = 1.645  # two-sided 90 %
_REMEMBERED = 256  # sets of candidates whose look-ups are kept
_TOLD_APART = 3  # likeliest types that a prediction names


class CandidateView(NamedTuple):
    """A candidate as the decision sees it now; prices in USD per million tokens, None unknown."""

    candidate: str
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    descriptor: Descriptor | None = None  # what is said of a candidate that the bundle never saw


class Predictions(NamedTuple):
    """What the bundle believes of each arm, aligned with the candidates asked for; all (k,) float64."""

    p_success: np.ndarray
    p_success_low: np.ndarray  # two-sided 90 %
    p_success_high: np.ndarray
    output_tokens: np.ndarray  # NaN when the bundle never saw any; the three below alike
    reasoning_tokens: np.ndarray
    calls_left: np.ndarray  # of the session and its sub-agents, after this call
    turns_left: np.ndarray  # of the session itself


class _Arms(NamedTuple):
    """What doesn't depend on the request, looked up once for a set of candidates."""

    extra: np.ndarray  # (k, extra columns of the bundle)
    columns: np.ndarray  # the same as the graph takes them, float32 and NaN where not finite
    effective_rows: np.ndarray  # (k,)
    ratio: dict[str, np.ndarray]  # (k,) for each amount that the bundle knows
    unknown: np.ndarray  # (k,) of NaN, for each that it doesn't
    cells: dict[str, np.ndarray] = {}  # noqa: RUF012 — (k, T) of each table, where no type is told
    mixtures: Sequence[tuple[int, Mixture]] = ()  # the same by the column of `extra` that they make
    cell_rows: np.ndarray | None = None  # (k, T) effective rows behind them


class Bundle:
    """A loaded, verified bundle."""

    def __init__(
        self,
        manifest: Manifest,
        digest: str,
        session: Any,
        encoder: Any,
        types: TaskTypes | None = None,
        *,
        after: AfterModel | None = None,
    ) -> None:
        self.manifest = manifest
        self.digest = digest  # sha256 of the manifest, which holds the digest of every other file
        self.kind: BundleKind = manifest.kind
        self.feature_hash = manifest.feature_hash
        self.encoder: StaticEncoder | OnnxEncoder | None = encoder
        self.profiles: dict[str, CandidateProfile] = {p.candidate: p for p in manifest.candidates}
        self.types = types
        self.after = after  # what is believed of an answer in hand; None: the log taught nothing of that
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]
        self._columns = {name: i for i, name in enumerate(manifest.extra_columns)}
        self._types = {name: i for i, name in enumerate(manifest.task_types)}
        self._tables = _tables(manifest)
        names = {name: at for at, name in enumerate(feature_names(manifest.embedding_dim))}
        self._support_at = np.array([names[r.feature] for r in manifest.support], dtype=np.intp)
        margin = [MARGIN * (r.high - r.low) for r in manifest.support]
        self._support = np.array(
            [(r.low - m, r.high + m, r.unknown) for r, m in zip(manifest.support, margin, strict=True)],
            dtype=np.float64,
        ).reshape(len(manifest.support), 3)
        self._never_unknown = self._support[:, 2] == 0
        self._lowest, self._highest = self._support[:, :2].T.copy()
        self._arms: dict[tuple[tuple[CandidateView, ...], str], _Arms] = {}

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """Load and verify; raises BadInput, one line, when anything isn't as the manifest says."""
        layout = Layout(Path(folder))
        manifest, raw = read_manifest(layout)
        verify_files(layout, manifest)
        expected = feature_hash(manifest.embedding_dim, manifest.encoder_digest)
        if manifest.feature_hash != expected:
            raise BadInput(
                f"{layout.root}: made for the feature list {manifest.feature_hash}, this samediff computes "
                f"{expected}; {RETRAIN}"
            )
        if manifest.n_features != len(feature_names(manifest.embedding_dim)):
            raise BadInput(f"{layout.manifest}: n_features contradicts the feature list; {RETRAIN}")
        encoder = _load_encoder(layout, manifest)
        types = _load_types(layout, manifest)
        after = load_after(layout.root / AFTER) if AFTER in manifest.files else None
        digest, session = hashlib.sha256(raw).hexdigest(), _session(layout.heads)
        return cls(manifest, digest, session, encoder, types, after=after)

    def predict(
        self,
        features: np.ndarray,
        candidates: Sequence[CandidateView],
        task_type: str | None = None,
        posterior: np.ndarray | None = None,
        *,
        outside: Sequence[str] | None = None,
    ) -> Predictions:
        """Beliefs about each candidate for one request's features (1, n_features) float32.

        Without a task type its `posterior` mixes the tables; that, and what is `outside`, are found here if
        they aren't given.
        The interval is Wilson's at 90 %, on the effective rows behind the candidate's table cell. Raises
        BadInput when the features have another width than the bundle was trained on.
        """
        if features.shape != (1, self.manifest.n_features):
            raise BadInput(
                f"features of shape {features.shape}, the bundle takes (1, {self.manifest.n_features})"
            )
        arms = self._look_up(tuple(candidates), task_type or "")
        if self.types is not None and not task_type:
            posterior = self.types.posterior(features)[0] if posterior is None else posterior
            arms = self._inferred(arms, self.types.base, posterior)
        if self.outside(features, task_type) if outside is None else outside:
            found = self._by_table(arms.extra)
        else:
            matrix = beside(finite(features), arms.columns)
            said = self._session.run(self._outputs, {"X": matrix})
            found = dict(zip(self._outputs, said, strict=True))
        p = found["p_success"].astype(np.float64)
        low, high = wilson(p, arms.effective_rows)
        amounts = (self._amount(name, found, arms) for name in ("tokens", "reasoning", "calls", "turns"))
        return Predictions(p, low, high, *amounts)

    def posterior(self, features: np.ndarray, task_type: str | None = None) -> np.ndarray | None:
        """P(task type) (T,) of one request's features (1, n_features), by `types.names`.

        None where a type was told, or the bundle can't tell types.
        """
        return None if self.types is None or task_type else self.types.posterior(features)[0]

    def likeliest(self, posterior: np.ndarray | None) -> list[tuple[str, float]]:
        """Names and probabilities of a posterior's likeliest types, best first."""
        if self.types is None or posterior is None:
            return []
        order = np.argsort(-posterior, kind="stable")[:_TOLD_APART]
        return [(self.types.names[i], float(posterior[i])) for i in order]

    def _inferred(self, arms: _Arms, base: np.ndarray, posterior: np.ndarray) -> _Arms:
        """Arms of a request that tells no type: its tables mixed over the posterior (T,)."""
        extra = arms.extra.copy()
        for column, mix in arms.mixtures:
            extra[:, column] = mix.at(posterior)
        assert arms.cell_rows is not None
        # The variances of cells add up by the posterior's weights; away from the base rates their rows count.
        near = float(np.minimum(posterior, base).sum())
        rows = 1.0 / (near / arms.effective_rows + (1.0 - near) * (posterior / arms.cell_rows).sum(axis=1))
        return arms._replace(extra=extra, columns=finite(extra), effective_rows=rows)

    def _amount(self, name: str, found: dict[str, np.ndarray], arms: _Arms) -> np.ndarray:
        """Amount (k,) of each candidate, NaN where the bundle knows none."""
        ratio = arms.ratio.get(name)
        if ratio is None:
            return arms.unknown
        amount: np.ndarray = ratio * np.expm1(found[BASES[name][1]].astype(np.float64))
        return amount

    def outside(self, features: np.ndarray, task_type: str | None = None) -> list[str]:
        """Names of the features (1, n_features) that lie outside what the learners were trained on.

        A tree answers there with its last leaf, as if the farthest thing it has seen were the same, and a
        line goes on; then the table, which knows only candidate and task type, is the better guess. A type
        that is unknown is outside where trees knew all types.
        """
        values = features[0].take(self._support_at)
        # What differs from itself is NaN, unknown.
        bad = (values < self._lowest) | (values > self._highest) | (values != values) & self._never_unknown
        strange = ["task_type"] if self.manifest.types_known and (task_type or "") not in self._types else []
        return strange + [self.manifest.support[i].feature for i in bad.nonzero()[0].tolist()]

    def _by_table(self, extra: np.ndarray) -> dict[str, np.ndarray]:
        """What the graph would say if the learners added nothing, from the tables' columns (k, extra)."""
        logit = extra[:, self._columns["table_logit"]]
        found = {"p_success": calibrated(self.manifest.calibration, logit)}
        for name, (_, scale) in self._tables.items():
            column, output = BASES[name]
            found[output] = np.clip(extra[:, self._columns[column]], 0.0, scale.log_limit)
        return found

    def _look_up(self, candidates: tuple[CandidateView, ...], task_type: str) -> _Arms:
        known = self._arms.get((candidates, task_type))
        if known is None:
            if len(self._arms) >= _REMEMBERED:
                self._arms.clear()
            known = self._arms[candidates, task_type] = self._build_arms(candidates, task_type)
        return known

    def _build_arms(self, candidates: tuple[CandidateView, ...], task_type: str) -> _Arms:
        manifest = self.manifest
        extra = np.zeros((len(candidates), len(self._columns)))
        for row, view in zip(extra, candidates, strict=True):
            profile = self.profiles.get(view.candidate)
            prices = _prices(view, profile)
            said = {
                "candidate_index": UNSEEN_INDEX if profile is None else profile.index,
                "log_input_price": log_price(prices[0]),
                "log_output_price": log_price(prices[1]),
                "type_index": self._types.get(task_type, UNSEEN_INDEX),
                "table_logit": manifest.success.value(view.candidate, task_type, prices, view.descriptor),
            }
            for name, (table, _) in self._tables.items():
                said[BASES[name][0]] = table.value(
                    view.candidate, task_type, prices, unprobed(view.descriptor)
                )
            row[:] = [said.get(column, 0.0) for column in self._columns]
        rows_behind = self._rows_behind(candidates, task_type)
        ratio = {n: np.array([self._ratio(n, v.candidate) for v in candidates]) for n in self._tables}
        unknown = np.full(len(candidates), np.nan)
        unknown.flags.writeable = False  # it is handed out with every prediction
        arms = _Arms(extra, finite(extra), rows_behind, ratio, unknown)
        if self.types is None or task_type:
            return arms
        each = [self._build_arms(candidates, name) for name in self.types.names]
        columns = {name: self._columns[BASES[name][0]] for name in ("success", *self._tables)}
        cells = {name: np.stack([a.extra[:, at] for a in each], 1) for name, at in columns.items()}
        return arms._replace(
            cells=cells,
            mixtures=[
                (at, mixture(extra[:, at], cells[name], self.types.base, logit=name == "success"))
                for name, at in columns.items()
            ],
            cell_rows=np.stack([a.effective_rows for a in each], 1),
        )

    def _rows_behind(self, candidates: tuple[CandidateView, ...], task_type: str) -> np.ndarray:
        """Effective rows (k,) behind each candidate's value."""
        table, effect = self.manifest.success, self.manifest.calibration.design_effect
        rows = [table.effective_rows(v.candidate, task_type, effect, v.descriptor) for v in candidates]
        return np.array(rows, dtype=np.float64)

    def _ratio(self, name: str, candidate: str) -> float:
        scale = self.manifest.token_scale
        if name != "tokens" or scale is None:
            return self.manifest.amounts[name].ratio_of(candidate)
        profile = self.profiles.get(candidate)
        return scale.default_ratio if profile is None else profile.output_ratio


def _tables(manifest: Manifest) -> dict[str, tuple[Table, TokenScale]]:
    """Table and scale of each amount that the bundle knows."""
    known = {name: (amount.table, amount.scale) for name, amount in manifest.amounts.items()}
    if manifest.tokens is not None and manifest.token_scale is not None:
        known["tokens"] = manifest.tokens, manifest.token_scale
    return known


def _prices(view: CandidateView, profile: CandidateProfile | None) -> Prices:
    """Prices the trees see: a known candidate keeps its training's, or a discount would pass for skill."""
    if profile is not None:
        return profile.input_usd_per_mtok, profile.output_usd_per_mtok
    return view.input_usd_per_mtok, view.output_usd_per_mtok


def wilson(p: np.ndarray, rows: np.ndarray, z: float = _Z) -> tuple[np.ndarray, np.ndarray]:
    """Wilson score interval of proportions p (k,) on `rows` (k,) observations."""
    square = z * z / rows
    centre = (p + square / 2) / (1 + square)
    half = np.sqrt(square * (p * (1 - p) + square / 4)) / (1 + square)
    # np.clip costs a request five times as much.
    return np.minimum(np.maximum(centre - half, 0.0), p), np.minimum(np.maximum(centre + half, p), 1.0)


def _session(heads: Path) -> Any:
    """One thread, inline: a pool costs more than it brings at a dozen rows."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(heads.read_bytes(), options, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.NotImplemented) as error:
        raise BadInput(f"{heads}: this onnxruntime can't load it; {RETRAIN}") from error


def _load_types(layout: Layout, manifest: Manifest) -> TaskTypes | None:
    """The classifier of task types, whose files are verified already; BadInput if it isn't the card's."""
    if manifest.types is None:
        return None
    from models.tasktype import BOUNDS, SCALING, WEIGHTS, load_types

    if lacking := {WEIGHTS, SCALING, BOUNDS} - manifest.files.keys():
        raise BadInput(f"{layout.manifest}: lists no {min(lacking)}; {RETRAIN}")
    try:
        arrays = {n: np.load(layout.root / n, allow_pickle=False) for n in (WEIGHTS, SCALING, BOUNDS)}
    except (OSError, ValueError) as error:
        raise BadInput(f"{layout.root / WEIGHTS}: not an array; {RETRAIN}") from error
    index = {name: at for at, name in enumerate(feature_names(manifest.embedding_dim))}
    return load_types(manifest.types, arrays, index)


def _load_encoder(layout: Layout, manifest: Manifest) -> Any:
    if manifest.embedding_dim == 0:
        return None
    from features.encoder import load_encoder

    encoder = load_encoder(layout.encoder)
    if (encoder.dim, encoder.digest) != (manifest.embedding_dim, manifest.encoder_digest):
        raise BadInput(
            f"{layout.encoder}: encoder {encoder.digest} of {encoder.dim} dimensions, the bundle was trained "
            f"with {manifest.encoder_digest} of {manifest.embedding_dim}; {RETRAIN}"
        )
    return encoder
