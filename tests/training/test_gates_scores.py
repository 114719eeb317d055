"""Gates of held-out scores fail where they should: beliefs, the choice, and what one group can't tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from features.vector import feature_names
from models.bundle import Bundle, CandidateView
from training.certify import Routed
from training.dataset import holdout_mask
from training.examples import Examples, Knobs
from training.gates import CHOICE, gates_of_scores
from training.heldout import Believed, Fitted, HeldOut, believed, fit_both, scored
from training.publish import Provenance, publish
from training.routed import MIN_PAIRED, route_score
from training.tasktype import with_types

if TYPE_CHECKING:
    from pathlib import Path

KNOBS = Knobs(trees=(20,), ridges=(), min_data_in_leaf=20)


def make(n: int = 1200, groups: int = 300) -> Examples:
    """Two candidates on tasks of two kinds, told apart by the features; the kind decides success."""
    rng = np.random.default_rng(0)
    kind = np.repeat(rng.integers(0, 2, n // 2), 2)
    features = np.zeros((n, len(feature_names(0))), np.float32)
    features[:, :12] = rng.normal(size=(n, 12)) + 2 * kind[:, None]
    return Examples(
        features=features,
        candidate=np.tile(["gpt-5", "gpt-5-mini"], n // 2),
        task_type=np.array(["a", "b"])[kind],
        success=(rng.random(n) < np.where(kind == 0, 0.9, 0.2)).astype(float),
        output_tokens=np.full(n, np.nan),
        group=(np.arange(n) // 2 % groups).astype(str),
        prices={"gpt-5": (1.0, 2.0), "gpt-5-mini": (0.1, 0.2)},
    )


def judged(rows: Examples, p: np.ndarray, table: np.ndarray, pin: np.ndarray) -> HeldOut:
    return scored(Fitted(None, None, None, {}, None), rows, Believed(p, table, pin), 0)  # type: ignore[arg-type]


def passed(held: HeldOut) -> dict[str, bool]:
    return {gate.name: gate.passed for gate in gates_of_scores(held)}


@pytest.mark.parametrize("control", ["table", "pin"])
def test_beliefs_clearly_worse_than_a_control_fail_its_gate_alone(control: str) -> None:
    rows = make()
    flat = np.full(len(rows.success), rows.success.mean())
    sharp = np.where(rows.task_type == "a", 0.9, 0.2)
    held = judged(rows, flat, *((sharp, flat) if control == "table" else (flat, sharp)))
    failed = {name for name, ok in passed(held).items() if not ok}
    assert failed == {f"beliefs not worse than {'the table' if control == 'table' else 'a pin'}'s"}


def test_one_group_has_no_interval_and_passes_no_gate_of_beliefs() -> None:
    rows = make()._replace(group=np.full(1200, "repo"))
    flat = np.full(1200, rows.success.mean())
    held = judged(rows, flat, flat, flat)
    assert held.ece_ci is None
    assert [ok for name, ok in passed(held).items() if name.startswith("beliefs")] == [False, False]


@pytest.mark.parametrize(("groups", "held_out"), [(2, 1), (3, 1), (4, 2), (5, 2), (20, 4)])
def test_two_groups_are_held_out_where_two_stay(groups: int, held_out: int) -> None:
    group, ts_ms = np.repeat(np.arange(groups).astype(str), 10), np.arange(groups * 10)
    assert len(np.unique(group[holdout_mask(group, ts_ms)])) == held_out


def test_a_pin_believes_one_rate_of_each_candidate_and_the_table_learns_nothing_else() -> None:
    rows = make()
    old = np.arange(1200) < 900
    heads = fit_both(rows.some(old), KNOBS)
    assert heads.success.learned.booster is not None or heads.success.types is not None
    assert heads.table.learned.booster is None
    assert heads.table.learned.linear is None
    said = believed(heads, rows.some(~old))
    for name in ("gpt-5", "gpt-5-mini"):
        pins = said.pin[rows.candidate[~old] == name]
        assert len(np.unique(pins)) == 1
        assert pins[0] == pytest.approx(rows.success[old & (rows.candidate == name)].mean(), abs=0.002)


def test_far_from_what_was_trained_on_the_table_is_scored_as_it_is_served(tmp_path: Path) -> None:
    rows, rng = make(), np.random.default_rng(2)
    rows.features[:, 20] = rng.normal(size=1200)
    rows = rows._replace(success=(rng.random(1200) < np.where(rows.features[:, 20] > 0, 0.9, 0.1)) * 1.0)
    heads = fit_both(rows, KNOBS)
    publish(tmp_path / "b", (heads.success, heads.tokens), with_types(rows), Provenance(kind="trained"))
    bundle, views = Bundle.load(tmp_path / "b"), [CandidateView("gpt-5", 1.0, 2.0)]
    assert bundle.manifest.support
    assert bundle.manifest.types_known
    far = rows.features[:3].copy()
    far[:, heads.served.at] = 50.0
    for features, kind, outside in (
        (rows.features[:3], "a", 0),
        (far, "a", 3),
        (rows.features[:3], "new", 3),
    ):
        said = heads.served.predict(features, ["gpt-5"] * 3, [kind] * 3)
        got = [bundle.predict(row[None], views, kind).p_success[0] for row in features]
        assert said == pytest.approx(got, abs=1e-6)
        assert heads.served.outside(features, [kind] * 3).sum() == outside


def routed(cheap: float, dear: float, n: int = 400) -> Routed:
    """A route that always believes the cheap one, which succeeds so often."""
    rng = np.random.default_rng(1)
    success = (rng.random((n, 2)) < [cheap, dear]).astype(float)
    return Routed(("cheap", "dear"), 1, np.full((n, 2), 0.8), success, (np.arange(n) // 4).astype(str))


@pytest.mark.parametrize(("cheap", "passes"), [(0.3, False), (0.8, True), (0.95, True)])
def test_a_choice_clearly_worse_than_the_pin_fails(cheap: float, passes: bool) -> None:
    rows, flat = make(), np.full(1200, 0.55)
    held = msgspec.structs.replace(judged(rows, flat, flat, flat), route=route_score(routed(cheap, 0.8)))
    assert passed(held)[CHOICE] is passes
    assert held.route is not None
    assert (held.route.elsewhere, held.route.paired, held.route.groups) == (400, 400, 100)


def test_too_few_paired_outcomes_are_said_and_fail_nothing() -> None:
    rows = routed(0.0, 1.0)
    lone = rows.success.copy()
    lone[MIN_PAIRED - 1 :, 0] = np.nan
    found = route_score(rows._replace(success=lone))
    assert (found.paired, found.ci, found.clearly_worse) == (MIN_PAIRED - 1, None, False)
    assert found.said.startswith("not told: of 400 requests 400 go")
    nothing = route_score(None)
    assert "nothing is cheaper" in nothing.said
    assert not nothing.clearly_worse


def test_what_the_heads_believe_less_of_than_the_pin_stays_with_it() -> None:
    rows = routed(0.3, 0.8)
    found = route_score(rows._replace(p=np.where([[True, False]], 0.7, rows.p)))
    assert (found.elsewhere, found.paired, found.pin_minus_route) == (0, 0, None)
