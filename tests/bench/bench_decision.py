"""How long `Bundle.predict` takes at a dozen arms: python tests/bench/bench_decision.py [BUNDLE] [ARMS].

Without a bundle it trains one as large as they get here (240 trees in both heads) on made-up rows.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from features.vector import feature_names
from models.bundle import Bundle, CandidateView
from models.table import EXTRA_COLUMNS
from training.fit import Examples, Knobs, fit_success, fit_tokens
from training.publish import Provenance, publish

CALLS = 5000


def large_bundle(folder: Path) -> Path:
    """A bundle of twelve candidates with 240 trees in each head."""
    rng = np.random.default_rng(0)
    n, width = 8000, len(feature_names(0))
    features = rng.normal(size=(n, width)).astype(np.float32)
    candidate = rng.integers(0, 12, n)
    logit = 0.2 * (candidate - 6) + 2 * features[:, 0] * features[:, 1] + features[:, 2]
    examples = Examples(
        features=features,
        candidate=np.char.add("c", candidate.astype(str)),
        task_type=np.full(n, ""),
        success=(rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float),
        output_tokens=np.exp(5 + features[:, 3] + 0.3 * rng.normal(size=n)),
        group=rng.integers(0, 900, n).astype(str),
        prices={f"c{i}": (0.1 * (i + 1), 0.5 * (i + 1)) for i in range(12)},
    )
    knobs = Knobs(trees=(240,))
    publish(
        folder,
        (fit_success(examples, knobs), fit_tokens(examples, knobs)),
        examples,
        Provenance(kind="trained"),
    )
    return folder


def measure(bundle: Bundle, arms: int) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds of each of CALLS predictions on rows of noise, and of the bare ONNX call in between."""
    known = [CandidateView(name, None, None) for name in bundle.profiles]
    views = (known + [CandidateView(f"unseen-{i}", 1.0, 5.0) for i in range(arms)])[:arms]
    rows = np.random.default_rng(1).normal(size=(CALLS, 1, bundle.manifest.n_features)).astype(np.float32)
    ready = np.repeat(np.pad(rows[0], ((0, 0), (0, len(EXTRA_COLUMNS)))), arms, axis=0)
    taken = []
    for row in rows:
        start = time.perf_counter()
        bundle.predict(row, views)
        between = time.perf_counter()
        bundle._session.run(None, {"X": ready})
        taken.append((between - start, time.perf_counter() - between))
    whole, bare = np.array(taken[100:]).T * 1e6
    return whole, bare


def main() -> None:
    """Measure and print one line."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else large_bundle(Path(scratch) / "bundle")
        arms = int(sys.argv[2]) if len(sys.argv) > 2 else 12
        bundle = Bundle.load(folder)
        whole, bare = measure(bundle, arms)
        (p50, p99), alone = np.percentile(whole, [50, 99]), np.median(bare)
        trees = [int(bundle.manifest.metrics.get(f"{head}_trees", 0)) for head in ("success", "tokens")]
        print(
            f"predict, {arms} arms, {trees[0]} + {trees[1]} trees: p50 {p50:.0f} µs, p99 {p99:.0f} µs, "
            f"{p50 / alone:.1f} times the bare ONNX call"
        )


if __name__ == "__main__":
    main()
