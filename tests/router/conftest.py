"""A real bundle for the catalogue's candidates, built once, and a gateway that has nothing else set."""

import numpy as np
import pytest
from router_servers import NOW_MS, ROOT, start_gateway, start_upstream

from features.encoder import StaticEncoder
from features.vector import feature_names
from router import prices
from router.catalog import Catalog
from training.fit import Examples, Knobs, fit_success, fit_tokens
from training.publish import Provenance, publish

ENCODER = ROOT / "models" / "prior" / "encoder"


def _prices(catalog):
    found = {d.candidate: prices.rates(d.model, d.provider, NOW_MS) for d in catalog.deployments.values()}
    return {c: (float(r.input), float(r.output)) for c, r in found.items() if r is not None}


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory):
    """Heads fitted on made-up outcomes in which dearer models succeed more often."""
    priced = _prices(Catalog.load())
    rng = np.random.default_rng(0)
    n, width = 1600, len(feature_names(StaticEncoder.load(ENCODER).dim))
    names = np.array(sorted(priced))
    which = rng.integers(0, len(names), n)
    features = rng.normal(size=(n, width)).astype(np.float32)
    cost = np.array([priced[name][1] for name in names])[which]
    logit = 0.8 * np.log(cost) + np.nan_to_num(features[:, 0])
    examples = Examples(
        features=features,
        candidate=names[which],
        task_type=np.full(n, ""),
        success=(rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float),
        output_tokens=np.round(np.exp(5 + 0.3 * rng.normal(size=n))),
        group=rng.integers(0, 200, n).astype(str),
        prices=priced,
    )
    knobs = Knobs(trees=(10,), min_data_in_leaf=20, num_threads=1)
    folder = tmp_path_factory.mktemp("router") / "bundle"
    heads = fit_success(examples, knobs), fit_tokens(examples, knobs)
    publish(folder, heads, examples, Provenance(kind="trained"), ENCODER)
    return folder


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, bundle_folder):
    """As it starts with a bundle alone; files that need another have their own of this name."""
    place = tmp_path_factory.mktemp("gateway")
    upstream = start_upstream({"steps": [{"text": "Done."}]}, place)
    server = start_gateway(place, bundle_folder, upstream.url)
    yield server
    code, _, err = server.stop()
    upstream.stop()
    assert (code, err) == (0, "")
