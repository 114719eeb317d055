"""How long a decision takes at a dozen arms: python tests/bench/bench_decision.py [BUNDLE] [ARMS].

First `Bundle.predict` alone, then `Decider.decide` on `sample/request.json` with a catalogue cut down to as
many candidates: features, beliefs, costs, policy and receipt. Wall and CPU time of the thread: on a machine
that others use, too, the wall's p99 is theirs. Without a bundle it trains one as large as they get here (240
trees in both heads) on made-up rows, among them three that no request goes beyond; of a bundle that has seen
less, its tables alone may answer here, and its graph isn't asked: the last line says which.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from features.vector import feature_names
from features.wire import parse_request
from models.bundle import Bundle, CandidateView
from router.catalog import Catalog
from router.decide import Decider
from router.given import CallContext
from router.policy import parse_policy
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
    log_tokens = 5 + features[:, 3] + 0.3 * rng.normal(size=n)
    features[:3] = [[-1e6], [1e6], [np.nan]]
    examples = Examples(
        features=features,
        candidate=np.char.add("c", candidate.astype(str)),
        task_type=np.full(n, ""),
        success=(rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float),
        output_tokens=np.exp(log_tokens),
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


class Clock:
    """Wall and CPU nanoseconds of this thread since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter_ns(), time.thread_time_ns()

    def read(self) -> tuple[int, int]:
        """Both."""
        return time.perf_counter_ns() - self.wall, time.thread_time_ns() - self.cpu


def predictions(bundle: Bundle, arms: int) -> tuple[np.ndarray, np.ndarray]:
    """Wall and CPU nanoseconds (CALLS, 2) of predictions on noise, and of bare ONNX calls in between."""
    known = [CandidateView(name, None, None) for name in bundle.profiles]
    views = (known + [CandidateView(f"unseen-{i}", 1.0, 5.0) for i in range(arms)])[:arms]
    rows = np.random.default_rng(1).normal(size=(CALLS, 1, bundle.manifest.n_features)).astype(np.float32)
    ready = np.repeat(np.pad(rows[0], ((0, 0), (0, len(bundle.manifest.extra_columns)))), arms, axis=0)
    taken, bare = [], []
    for row in rows:
        clock = Clock()
        bundle.predict(row, views)
        taken.append(clock.read())
        clock = Clock()
        bundle._session.run(None, {"X": ready})
        bare.append(clock.read())
    return np.array(taken[100:]), np.array(bare[100:])


def decisions(bundle: Bundle, arms: int) -> tuple[np.ndarray, int, bool]:
    """Wall and CPU nanoseconds (CALLS, 2) of whole decisions, their arms, and whether the graph was asked."""
    whole = Catalog.load()
    speaking = {d.candidate for d in whole.deployments.values() if d.dialect == "anthropic_messages"}
    others = [name for name in whole.candidates if name not in speaking]
    kept = {*[*speaking, *others][:arms]}
    catalog = whole._replace(
        candidates={k: v for k, v in whole.candidates.items() if k in kept},
        deployments={k: v for k, v in whole.deployments.items() if v.candidate in kept},
    )
    keys = {d.key_env: "made-up" for d in catalog.deployments.values() if d.key_env}
    decider = Decider(bundle, catalog, parse_policy("learned:max_loss=0.02"), environ=keys)
    body = (Path(__file__).parents[2] / "sample" / "request.json").read_bytes()
    taken, task_type = [], next(iter(bundle.manifest.task_types), None)
    for n in range(CALLS):
        context = CallContext(f"r{n}", f"s{n}", 1_795_000_000_000 + n, task_type=task_type)
        clock = Clock()
        receipt = decider.decide(parse_request("anthropic_messages", body), context)
        taken.append(clock.read())
    tables_alone = any("its tables alone answer" in reason for reason in receipt.reasons)
    return np.array(taken[100:]), sum(arm.eligible for arm in receipt.arms), not tables_alone


def quantiles(taken: np.ndarray) -> str:
    """Median and p99 of wall and CPU, in microseconds."""
    (wall50, cpu50), (wall99, cpu99) = np.percentile(taken, [50, 99], axis=0) / 1000
    return f"p50 {wall50:.0f} µs, p99 {wall99:.0f} µs (CPU {cpu50:.0f} and {cpu99:.0f} µs)"


def main() -> None:
    """Measure and print two lines."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else large_bundle(Path(scratch) / "bundle")
        arms = int(sys.argv[2]) if len(sys.argv) > 2 else 12
        bundle = Bundle.load(folder)
        whole, bare = predictions(bundle, arms)
        trees = [int(bundle.manifest.metrics.get(f"{head}_trees", 0)) for head in ("success", "tokens")]
        ratio = np.median(whole[:, 0]) / np.median(bare[:, 0])
        about = f"{arms} arms, {trees[0]} + {trees[1]} trees"
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        print(f"predict, {about}: {quantiles(whole)}, {ratio:.1f} times the bare ONNX call")
        taken, n, asked = decisions(bundle, arms)
        print(
            f"decide, {n} eligible arms, {'by the graph' if asked else 'by the tables'}: {quantiles(taken)}"
        )


if __name__ == "__main__":
    main()
