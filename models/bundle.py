"""A bundle: the heads, their tables and the encoder in one folder, bound together by digests.

Loading verifies everything and refuses in one line; predicting is one table look-up and one ONNX call.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from features.errors import BadInput
from features.value import Value
from features.vector import feature_hash, feature_names, featurize_one
from models.after import AFTER, load_after
from models.belief import Belief, Beliefs, Z, belief
from models.calibration import calibrated
from models.folder import RETRAIN, Layout, read_manifest, verify_files
from models.heads import BASES
from models.lineup import AMOUNTS, Lineups, tables_of
from models.loading import load_encoder_of, load_types_of, session_of
from models.support import Support

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.encoder import OnnxEncoder, StaticEncoder
    from features.facts import Facts
    from models.after import AfterModel
    from models.descriptors import Descriptor
    from models.lineup import Lineup
    from models.manifest import BundleKind, CandidateProfile, Manifest
    from models.tasktype import TaskTypes

_REMEMBERED = 256  # sets of candidates whose beliefs are kept
_TOLD_APART = 3  # likeliest types that a prediction names


class CandidateView(Value, frozen=True, cache_hash=True):
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
        self.lineups = Lineups(manifest, self._outputs, types)
        scales = {BASES[name][1]: scale for name, (_, scale) in tables_of(manifest).items()}
        limits = [scales[name].log_limit for name in self._outputs[1:]]
        self._limits = np.array([math.inf, *limits])[:, None]
        # Where AMOUNTS stand among the outputs; what isn't there has a ratio of NaN, whatever that is times.
        places = {output: at for at, output in enumerate(self._outputs)}
        self._amounts = [places.get(BASES[name][1], 0) for name in AMOUNTS]
        self.support = Support(
            manifest.support, {name: at for at, name in enumerate(feature_names(manifest.embedding_dim))}
        )
        # Of a bundle whose graph and tables read nothing of a request: see `believe`.
        self._constant = not self.support and types is None
        self._believed: dict[tuple[tuple[CandidateView, ...], str], Beliefs] = {}
        # What the tables alone say where no posterior mixes them.
        self._told: dict[tuple[tuple[CandidateView, ...], str], tuple[Belief, ...]] = {}

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
        encoder = load_encoder_of(layout, manifest)
        types = load_types_of(layout, manifest)
        after = load_after(layout.root / AFTER) if AFTER in manifest.files else None
        digest, session = hashlib.sha256(raw).hexdigest(), session_of(layout.heads)
        given = [output.name for output in session.get_outputs()]
        heads = {BASES[name][1] for name in ("success", *tables_of(manifest))}
        if given[:1] != [BASES["success"][1]] or not heads.issuperset(given):
            said = f"its graph gives {', '.join(given)}, the manifest describes {', '.join(sorted(heads))}"
            raise BadInput(f"{layout.root}: can't predict: {said}; {RETRAIN}")
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
        lineup = self.lineups.of(tuple(candidates), task_type or "")
        if posterior is None:
            posterior = self.posterior(features, task_type)
        if outside is None:
            outside = self.outside(features, task_type)
        said, rows = self._answers(lineup, features, posterior, outside=bool(outside))
        low, high = wilson(said[0], rows)
        return Predictions(said[0], low, high, *self.amounts(lineup, said))

    def believe(
        self,
        facts: Facts,
        embedding: np.ndarray | None,
        candidates: Sequence[CandidateView],
        task_type: str | None = None,
    ) -> Beliefs:
        """Beliefs about each candidate for one request, equal to those of `predict`, as plain numbers.

        Raises BadInput when the embedding (d,) has another length than the bundle was trained on.
        """
        d = 0 if embedding is None else len(embedding)
        if d != self.manifest.embedding_dim:
            raise BadInput(f"an embedding of {d} numbers, the bundle takes {self.manifest.embedding_dim}")
        asked = tuple(candidates)
        if not self._constant:
            return self._beliefs(featurize_one(facts, embedding), asked, task_type)
        found = self._believed.get((asked, task_type or ""))
        if found is None:
            if len(self._believed) >= _REMEMBERED:
                self._believed.clear()
            features = featurize_one(facts, embedding)
            found = self._believed[asked, task_type or ""] = self._beliefs(features, asked, task_type)
        return found

    def _beliefs(
        self, features: np.ndarray, candidates: tuple[CandidateView, ...], task_type: str | None
    ) -> Beliefs:
        """What `believe` says of a request's features (1, n_features)."""
        posterior, outside = self.posterior(features, task_type), self.outside(features, task_type)
        if posterior is not None or not outside:
            arms = self._arms(features, candidates, task_type or "", posterior, outside=bool(outside))
            return Beliefs(arms, tuple(outside), tuple(self.likeliest(posterior)))
        key = (candidates, task_type or "")
        told = self._told.get(key)
        if told is None:
            if len(self._told) >= _REMEMBERED:
                self._told.clear()
            told = self._told[key] = self._arms(features, *key, None, outside=True)
        return Beliefs(told, tuple(outside), ())

    def _arms(
        self,
        features: np.ndarray,
        candidates: tuple[CandidateView, ...],
        task_type: str,
        posterior: np.ndarray | None,
        *,
        outside: bool,
    ) -> tuple[Belief, ...]:
        """What is believed of each candidate, as plain numbers."""
        lineup = self.lineups.of(candidates, task_type)
        said, behind = self._answers(lineup, features, posterior, outside=outside)
        p, rows = said[0].tolist(), behind.tolist()
        tokens, reasoning, _, turns = self.amounts(lineup, said).tolist()
        return tuple(map(belief, p, rows, tokens, reasoning, turns))

    def _answers(
        self, lineup: Lineup, features: np.ndarray, posterior: np.ndarray | None, *, outside: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of the heads (h, k) for one request, and the effective rows (k,) behind P(success)."""
        values, rows, by_type = None, lineup.effective_rows, lineup.by_type
        if by_type is not None and posterior is not None:
            values, rows = by_type.values(posterior), by_type.behind(posterior, rows)
        if outside:
            return self.by_table(lineup.values if values is None else values), rows
        return self.run(lineup.inputs(features, values)), rows

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs of the heads (h, n) float64, as the graph says them of n rows (n, n_features + extra)."""
        said = self._session.run(self._outputs, {"X": inputs})
        return np.concatenate(said, dtype=np.float64).reshape(len(said), len(inputs))

    def by_table(self, values: np.ndarray) -> np.ndarray:
        """Outputs of the heads (..., h, k) if the learners added nothing to the tables' values."""
        # np.clip costs a request five times as much.
        said: np.ndarray = np.minimum(np.maximum(values, 0.0), self._limits)
        said[..., 0, :] = calibrated(self.manifest.calibration, values[..., 0, :])
        return said

    def amounts(self, lineup: Lineup, said: np.ndarray) -> np.ndarray:
        """AMOUNTS (..., 4, k) of the heads' outputs (..., h, k), NaN where the bundle knows none."""
        found: np.ndarray = lineup.ratios * np.expm1(said.take(self._amounts, axis=-2))
        return found

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

    def outside(self, features: np.ndarray, task_type: str | None = None) -> list[str]:
        """Names of the features (1, n_features) that lie outside what the learners were trained on.

        A tree answers there with its last leaf, as if the farthest thing it has seen were the same, and a
        line goes on; then the table, which knows only candidate and task type, is the better guess. A type
        that is unknown is outside where trees knew all types.
        """
        strange = [] if self.knows(task_type) else ["task_type"]
        if self.support:
            beyond = self.support.beyond(features)[0]
            strange += [self.support.names[i] for i in beyond.nonzero()[0].tolist()]
        return strange

    def knows(self, task_type: str | None) -> bool:
        """Whether the learners can tell of a type: any, but where every row that they saw had a known one."""
        return not self.manifest.types_known or (task_type or "") in self.manifest.task_types


def wilson(p: np.ndarray, rows: np.ndarray, z: float = Z) -> tuple[np.ndarray, np.ndarray]:
    """Wilson score interval of proportions p (k,) on `rows` (k,) observations."""
    square = z * z / rows
    centre = (p + square / 2) / (1 + square)
    half = np.sqrt(square * (p * (1 - p) + square / 4)) / (1 + square)
    # np.clip costs a request five times as much.
    return np.minimum(np.maximum(centre - half, 0.0), p), np.minimum(np.maximum(centre + half, p), 1.0)
