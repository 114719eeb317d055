"""What a deployment says it serves: each time it drifts is noted, whatever it served in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.catalog import Catalog
from router.drift import drift
from router.gateway.served import MAX_NAME, Served

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


@given(st.lists(st.sampled_from([None, "", OLD, NEW, OTHER, OTHER + "-" + "x" * MAX_NAME]), max_size=8))
def test_another_model_is_told_each_time_whatever_was_served_before(told) -> None:
    deployment = Catalog.load().deployments_of("gpt-5.4-mini", "openai_chat")[0]
    served = Served()
    for name in told:
        found = served.note(deployment, name)
        assert (found is not None and found.kind != "moved") == (drift(deployment, name) is not None)
