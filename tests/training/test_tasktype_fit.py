"""Fitting the classifier of task types: out of fold by group, calibrated, modest where nothing is told."""

import numpy as np
import polars as pl
import pytest

from features.facts import Facts
from features.records import polars_schema
from features.vector import feature_names
from training.dataset import _typed
from training.examples import Examples, Knobs
from training.fit import fit_success
from training.tasktype import fit_types, with_types

WIDTH = len(feature_names(0))


def made(n=400, *, signal=2.0, types=("a", "b", "c"), seed=1):
    """Requests whose first columns lean by type; each of two candidates answered each of them."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(
        len(types), n, p=np.array([0.5, 0.3, 0.2])[: len(types)] / sum([0.5, 0.3, 0.2][: len(types)])
    )
    x = rng.normal(size=(n, WIDTH)).astype(np.float32)
    x[:, : len(types)] += signal * np.eye(len(types))[kind]
    x[:, 20:] = np.nan  # of what this log doesn't know
    good = np.array([[0.9, 0.1, 0.5], [0.1, 0.9, 0.5]])[:, : len(types)]
    return Examples(
        features=np.repeat(x, 2, axis=0),
        candidate=np.tile(["x", "y"], n),
        task_type=np.repeat(np.array(types)[kind], 2),
        success=(rng.random((n, 2)) < good.T[kind]).astype(float).ravel(),
        output_tokens=np.full(2 * n, np.nan),
        group=np.repeat([f"g{i // 4}" for i in range(n)], 2),
        prices={"x": (1.0, 1.0), "y": (1.0, 1.0)},
    )


def test_types_are_told_out_of_fold_and_calibrated():
    rows = made()
    fitted = fit_types(rows)
    scored = fitted.scored
    assert scored.requests == 400  # each request once, however many candidates answered
    assert scored.accuracy > 0.75 > scored.accuracy_of_base
    assert scored.log_loss < 0.8 < scored.log_loss_of_base
    confident = fitted.oof.max(axis=1)
    hit = np.array(fitted.types.names)[fitted.oof.argmax(axis=1)] == rows.task_type
    assert confident.mean() == pytest.approx(hit.mean(), abs=0.05)


def test_where_nothing_can_be_told_the_base_rates_are():
    rows = made(signal=0.0)
    fitted = fit_types(rows)
    assert fitted.scored.log_loss <= fitted.scored.log_loss_of_base + 0.02
    assert np.abs(fitted.oof - fitted.types.base).max() < 0.3


def test_out_of_fold_means_without_the_group():
    """A label that is noise but the same within its group can't be told from its own group."""
    rng = np.random.default_rng(7)
    rows = made(signal=0.0)
    group = np.array([f"g{i}" for i in rng.integers(0, 40, 400)]).repeat(2)
    of_group = dict(zip(np.unique(group), rng.choice(["a", "b"], len(np.unique(group))), strict=True))
    x = rows.features.copy()
    place = {g: rng.normal(size=20) for g in np.unique(group)}
    x[:, :20] = np.stack([place[g] for g in group]) + 0.01 * x[:, :20]  # features give the group away
    fitted = fit_types(
        rows._replace(features=x, group=group, task_type=np.array([of_group[g] for g in group]))
    )
    assert fitted.scored.accuracy < 0.75


@pytest.mark.parametrize(
    "change",
    [
        {"task_type": np.full(800, "")},
        {"task_type": np.full(800, "a")},
        {"group": np.full(800, "g")},
        {"features": np.full((800, WIDTH), np.nan, np.float32)},
    ],
)
def test_what_can_not_be_fitted_is_left_alone(change):
    rows = made()._replace(**change)
    assert fit_types(rows) is None
    assert with_types(rows) is rows


def test_hidden_types_cost_less_than_having_none():
    rows, newer = made(), made(seed=2)
    knobs = Knobs(trees=(), ridges=())
    y, blank = newer.success, np.full(len(newer.group), "")

    def brier(examples, task_type):
        head = fit_success(examples, knobs)
        return float(np.mean((head.predict(newer.features, newer.candidate, task_type) - y) ** 2))

    known = brier(rows, newer.task_type)
    hidden = brier(with_types(rows, hide=True), blank)
    nothing = brier(rows._replace(task_type=np.full(len(rows.group), "")), blank)
    assert known < hidden < (known + nothing) / 2


def test_hidden_rows_are_scored_by_a_mixture_that_never_saw_their_group():
    rows = with_types(made(), hide=True)
    head = fit_success(rows, Knobs(trees=(), ridges=()))
    assert np.isfinite(head.oof).all()
    assert set(rows.shown_types) == {""}
    half = rows.some(np.arange(len(rows.group)) < 400)
    assert half.posterior.shape == (400, 3)


def test_a_log_partly_told_learns_from_both():
    rows = made()
    told = np.arange(len(rows.group)) < 500
    some = rows._replace(task_type=np.where(told, rows.task_type, ""))
    typed = with_types(some)
    assert np.isnan(typed.posterior[told]).all()
    assert np.isfinite(typed.posterior[~told]).all()
    assert (typed.shown_types == some.task_type).all()
    assert np.isfinite(fit_success(typed, Knobs(trees=(), ridges=())).oof).all()


def facts_frame(kinds, task_types=None):
    plain = [
        {"kind_main": float(k == "main"), "kind_title": float(k == "title"), "is_subagent": None}
        for k in kinds
    ]
    facts = pl.Series("facts", plain).cast(
        pl.Struct({"kind_main": pl.Float64, "kind_title": pl.Float64, "is_subagent": pl.Float64})
    )
    return pl.DataFrame([facts, pl.Series("task_type", task_types or [None] * len(kinds), dtype=pl.String)])


def test_without_any_tag_the_kind_of_the_call_is_the_type():
    rows, by = _typed(facts_frame(["main"] * 40 + ["title"] * 30 + ["odd"] * 3))
    assert by == "kind"
    assert rows["task_type"].value_counts().sort("count")["task_type"].to_list() == [
        None,
        "call:title",
        "call:main",
    ]
    told, by = _typed(facts_frame(["main"] * 40 + ["title"] * 30, ["fix"] + [None] * 69))
    assert (by, told["task_type"].null_count()) == ("told", 69)
    same, by = _typed(facts_frame(["main"] * 60))
    assert (by, same["task_type"].null_count()) == ("told", 60)
    assert set(polars_schema(Facts)) >= {"kind_main", "is_subagent"}


def test_kinds_are_shown_to_no_learner():
    rows = with_types(made()._replace(types_by="kind"))
    assert set(rows.shown_types) == {""}
    assert rows.types.card.by == "kind"
