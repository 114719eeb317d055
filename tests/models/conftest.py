"""A small bundle of real heads, built once."""

import pytest
from small_bundle import KNOBS, make_examples

from models.manifest import Source
from training.fit import fit_success, fit_tokens
from training.publish import Provenance, publish


@pytest.fixture(scope="session")
def fitted():
    """Examples and both heads fitted on them."""
    examples = make_examples()
    return examples, fit_success(examples, KNOBS), fit_tokens(examples, KNOBS)


@pytest.fixture(scope="session")
def published(fitted, tmp_path_factory):
    """Folder of a bundle and what `publish` said of it; copy it before changing it."""
    examples, success, tokens = fitted
    folder = tmp_path_factory.mktemp("models") / "bundle"
    source = Source(name="made up", licence="none", rows=1500)
    provenance = Provenance(kind="trained", trained_on=(source,), lineage={"command": "samediff train"})
    return folder, publish(folder, (success, tokens), examples, provenance)
