"""Many beliefs at once are the beliefs one by one, inside and outside of what was trained on."""

import numpy as np
import pytest

from features.errors import BadInput
from models.batch import predict_many
from models.bundle import Bundle, CandidateView
from models.prior import PRIOR

VIEWS = [
    CandidateView("c0", 0.1, 0.5),
    CandidateView("c3", None, None),
    CandidateView("never-seen", 1.0, 2.0),
]


@pytest.mark.parametrize("which", ["published", "prior"])
def test_many_beliefs_are_those_one_by_one(which, published, fitted):
    bundle = Bundle.load(published[0] if which == "published" else PRIOR)
    rng = np.random.default_rng(1)
    width = bundle.manifest.n_features
    features = rng.normal(size=(40, width)).astype(np.float32)
    if which == "published":
        features[:20] = fitted[0].features[:20]
    features[rng.random(features.shape) < 0.1] = np.nan
    features[3, 0] = 1e30
    types = [("fix", "add", None, "other")[i % 4] for i in range(40)]
    many = predict_many(bundle, features, VIEWS, types)
    for i in range(40):
        one = bundle.predict(features[i : i + 1], VIEWS, types[i])
        for name in one._fields:
            np.testing.assert_allclose(
                getattr(many, name)[i], getattr(one, name), rtol=1e-5, atol=1e-6, err_msg=f"{name} of row {i}"
            )


def test_another_width_is_refused(published):
    bundle = Bundle.load(published[0])
    with pytest.raises(BadInput, match="features of width 3"):
        predict_many(bundle, np.zeros((2, 3), np.float32), VIEWS, [None, None])
