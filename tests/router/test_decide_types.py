"""A decision whose task type nobody told: inferred, written down, and made again byte for byte."""

import json

import msgspec
import numpy as np
import pytest
from conftest import ENCODER
from router_servers import NOW_MS

from features.assemble import facts_of
from features.encoder import StaticEncoder
from features.prompt import salient_text
from features.records import DecisionRecord
from features.vector import featurize
from features.wire import parse_request
from models.bundle import Bundle
from router.catalog import Catalog
from router.decide import Decider
from router.given import CallContext
from router.policy import parse_policy
from router.receipt import recompute
from training.examples import Examples, Knobs
from training.fit import fit_success, fit_tokens
from training.publish import Provenance, publish
from training.tasktype import with_types

DEAR, CHEAP = "claude-opus-5-5", "claude-haiku-5-5"
SUMS, BUGS = "sums", "bugs"


def asked(number, kind):
    """A request of one of two kinds; no two are alike."""
    text = {
        SUMS: f"What is {number} plus {number * 7}, minus {number % 9}? Add {number} and round.",
        BUGS: f"Fix src/app_{number}.py\nTraceback (most recent call last):\n  line {number}\nKeyError",
    }[kind]
    body = {
        "model": "auto",
        "max_tokens": 900,
        "messages": [{"role": "user", "content": text * (1 + number % 3)}],
    }
    return parse_request("anthropic_messages", json.dumps(body).encode())


@pytest.fixture(scope="module")
def decider(tmp_path_factory):
    encoder, rng, n = StaticEncoder.load(ENCODER), np.random.default_rng(2), 160
    kinds = np.where(rng.random(n) < 0.5, SUMS, BUGS)
    rows = []
    for number, kind in enumerate(kinds):
        request = asked(number, kind)
        vector = encoder.encode(salient_text(request.messages))
        rows.append(featurize(facts_of(request, context_tokens_est=float(number % 50)), vector))
    p = np.where((kinds == SUMS)[:, None], [0.95, 0.95], [0.95, 0.2])
    examples = Examples(
        features=np.repeat(np.concatenate(rows), 2, axis=0),
        candidate=np.tile([DEAR, CHEAP], n),
        task_type=np.repeat(kinds, 2),
        success=(rng.random((n, 2)) < p).astype(float).ravel(),
        output_tokens=np.full(2 * n, 500.0),
        group=np.repeat(np.arange(n).astype(str), 2),
        prices={DEAR: (5.0, 25.0), CHEAP: (1.0, 5.0)},
    )
    examples = with_types(examples)
    folder = tmp_path_factory.mktemp("typed") / "bundle"
    knobs = Knobs(trees=(), ridges=())
    heads = fit_success(examples, knobs), fit_tokens(examples, knobs)
    publish(folder, heads, examples, Provenance(kind="trained"), ENCODER)
    return Decider(Bundle.load(folder), Catalog.load(), parse_policy("learned:max_loss=0.05"))


def decided(decider, number, kind, task_type=None):
    return decider.decide(asked(number, kind), CallContext(f"req_{number}", "s", NOW_MS, task_type=task_type))


def p_of(receipt, candidate):
    return next(arm.p_success for arm in receipt.arms if arm.candidate == candidate)


@pytest.mark.parametrize("kind", [SUMS, BUGS])
def test_the_type_is_inferred_and_written_down(decider, kind):
    receipt = decided(decider, 1_001, kind)
    assert receipt.task_type is None
    assert receipt.inferred_types[0].task_type == kind
    assert receipt.inferred_types[0].p > 0.8
    assert sum(share.p for share in receipt.inferred_types) == pytest.approx(1.0)


def test_the_inferred_type_changes_what_is_believed_and_a_told_one_wins(decider):
    sums, bugs = (decided(decider, 1_002, kind) for kind in (SUMS, BUGS))
    assert p_of(sums, CHEAP) - p_of(bugs, CHEAP) > 0.4
    told = decided(decider, 1_002, SUMS, task_type=BUGS)
    assert told.inferred_types == []
    assert p_of(told, CHEAP) < p_of(sums, CHEAP) - 0.4


@pytest.mark.parametrize("task_type", [None, BUGS, "never seen"])
def test_a_receipt_is_made_again_byte_for_byte(decider, task_type):
    for number in range(1_003, 1_009):
        receipt = decided(decider, number, SUMS if number % 2 else BUGS, task_type)
        written = msgspec.json.encode(receipt)
        read = msgspec.json.decode(written, type=DecisionRecord)
        assert msgspec.json.encode(recompute(read, decider)) == written
