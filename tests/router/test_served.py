"""What a deployment says it serves: each time it drifts is noted, whatever it served in between."""

import pytest

from router.catalog import Catalog
from router.gateway.served import Served

OLD, NEW = "gpt-5.4-mini-2026-03-17", "gpt-5.4-mini-2026-07-01"
OTHER = "gpt-5.4-2026-03-05"


@pytest.mark.parametrize(
    ("told", "noted"),
    [
        ([OLD, NEW, OLD], [None, "moved", "moved"]),  # it comes back: that is another move
        ([OLD, OLD, NEW, NEW, NEW], [None, None, "moved", None, None]),
        ([OLD, OTHER, OLD, OTHER], [None, "model", "moved", "model"]),
        ([OLD, None, NEW], [None, None, "moved"]),
    ],
)
def test_a_deployment_that_drifts_and_comes_back_is_noted_both_times(told, noted, caplog) -> None:
    deployment = Catalog.load().deployments_of("gpt-5.4-mini", "openai_chat")[0]
    assert deployment.checkpoint is None
    served = Served()
    found = [served.note(deployment, name) for name in told]
    assert [one and one.kind for one in found] == noted
    assert caplog.text.count("serves") == len({name for name, kind in zip(told, noted, strict=True) if kind})
