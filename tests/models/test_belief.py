"""What a decision asks of a bundle: the plain numbers of an arm are bit for bit those of `Bundle.predict`."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from small_bundle import PRICES, make_examples, write_encoder

from features.errors import BadInput
from features.facts import Facts
from features.vector import FACT_NAMES, featurize_one
from models.belief import belief
from models.bundle import Bundle, CandidateView, wilson
from models.descriptors import Descriptor
from models.prior import PRIOR
from training.examples import Knobs
from training.fit import fit_amounts, fit_success, fit_tokens
from training.publish import Provenance, publish
from training.tasktype import with_types

QUICK = Knobs(trees=(8,), ridges=(), min_data_in_leaf=20, num_threads=1, min_r2_tokens=0.0)
VIEWS = [
    *(CandidateView(name, *prices) for name, prices in PRICES.items()),
    CandidateView("new", 1.0, 2.0, Descriptor(family="claude", probe=(("fix", 2.0, 3.0),))),
]
values = st.none() | st.floats(-3, 3) | st.sampled_from([0.0, 40.0, 1e9, 1e300])
NEAR = {FACT_NAMES[3]: 1.0}  # the one that training always knew
some_facts = st.dictionaries(st.sampled_from(FACT_NAMES), values).map(lambda said: Facts(**NEAR | said))


@pytest.fixture(scope="module")
def inferred(tmp_path_factory):
    """A bundle with an encoder that tells task types, whose trees met requests without one too."""
    folder = tmp_path_factory.mktemp("inferred")
    rows = with_types(make_examples(600, dim=4, signal=4.0))
    calls = np.round(np.exp(1 + np.nan_to_num(rows.features[:, 2])))
    known = rows._replace(calls_left=calls, turns_left=np.round(calls / 2))
    heads, amounts = (fit_success(rows, QUICK), fit_tokens(rows, QUICK)), fit_amounts(known, QUICK)
    encoder = write_encoder(folder / "encoder")
    publish(folder / "b", heads, known, Provenance(kind="trained"), encoder, amounts=amounts)
    return Bundle.load(folder / "b")


@pytest.fixture(scope="module")
def bundles(inferred, published):
    """Whose trees met requests of no type, whose didn't, that can't tell types, and the prior."""
    manifest = replace(inferred.manifest, types_known=True)
    return {
        "inferred": inferred,
        "types known": Bundle(manifest, "", inferred._session, inferred.encoder, inferred.types),
        "told alone": Bundle.load(published[0]),
        "prior": Bundle.load(PRIOR),
    }


def held_to(bundle, facts, embedding, task_type):
    """Check what is believed against the definition; what is believed."""
    features = featurize_one(facts, embedding)
    said = bundle.believe(facts, embedding, VIEWS, task_type)
    posterior, outside = bundle.posterior(features, task_type), bundle.outside(features, task_type)
    assert list(said.outside) == outside
    assert list(said.types) == bundle.likeliest(posterior)
    for found in (
        bundle.predict(features, VIEWS, task_type, posterior, outside=outside),
        bundle.predict(features, VIEWS, task_type),
    ):
        for name in said.arms[0].__struct_fields__:
            mine = [getattr(arm, name) for arm in said.arms]
            assert mine == [None if math.isnan(x) else x for x in getattr(found, name).tolist()]
    return said


@pytest.mark.parametrize("which", ["inferred", "types known", "told alone", "prior"])
@settings(max_examples=40, deadline=None)
@given(some_facts, st.sampled_from([None, "", "fix", "test", "bug_fixing", "never seen"]), st.integers(0, 99))
def test_what_is_believed_is_what_is_predicted(bundles, which, facts, task_type, seed):
    bundle = bundles[which]
    dim = bundle.manifest.embedding_dim
    embedding = np.random.default_rng(seed).normal(size=dim).astype(np.float32) if dim else None
    held_to(bundle, facts, embedding, task_type)


def test_the_bundles_are_of_all_kinds(bundles):
    """Or the law above would say little: asked with its own kind of features, each goes its own way."""
    inside = {name: bundle for name, bundle in bundles.items() if bundle.support}
    assert set(inside) == {"inferred", "types known", "told alone"}
    for bundle in inside.values():
        dim = bundle.manifest.embedding_dim
        assert bundle.outside(featurize_one(Facts(**NEAR), np.zeros(dim) if dim else None), "fix") == []
    assert [b.types is not None for b in bundles.values()] == [True, True, False, False]
    assert [b.manifest.types_known for b in bundles.values()] == [False, True, False, False]


def test_a_bundle_whose_heads_read_nothing_of_a_request_says_the_same_of_all(bundles):
    bundle = bundles["prior"]
    embedding = np.zeros(128, np.float32)
    first = held_to(bundle, Facts(), embedding, None)
    assert held_to(bundle, Facts(body_bytes=1e9, turn=3.0), embedding + 1, None) is first
    assert held_to(bundle, Facts(), embedding, "bug_fixing") is not first


def test_an_embedding_of_another_length_is_refused(bundles):
    for name, dim in (("prior", 0), ("prior", 4), ("told alone", 4), ("inferred", 3)):
        embedding = np.zeros(dim, np.float32) if dim else None
        with pytest.raises(BadInput, match=f"embedding of {dim} numbers"):
            bundles[name].believe(Facts(), embedding, VIEWS)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 1e6)), min_size=1))
def test_the_interval_of_an_arm_is_wilsons(pairs):
    p, rows = np.array(pairs).T
    arms = [belief(*pair, math.nan, 1.0, 2.0) for pair in pairs]
    low, high = wilson(p, rows)
    assert [arm.p_success_low for arm in arms] == low.tolist()
    assert [arm.p_success_high for arm in arms] == high.tolist()
    assert {(arm.output_tokens, arm.reasoning_tokens, arm.turns_left) for arm in arms} == {(None, 1.0, 2.0)}
