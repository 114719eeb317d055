"""Heads after the answer: they learn what evidence tells, are silent where it tells nothing, leak nothing."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import BadInput
from training.after.heads import fit_after, fit_head, out_of_fold
from training.after.rows import AfterRows
from training.calibrate import sigmoid
from training.examples import assign_folds
from training.metrics import auc, calibration_error


def made(n=400, slope=2.0, seed=0, groups=40):
    """Answers of two candidates, one better; the first feature tells success, with another mean for each."""
    rng = np.random.default_rng(seed)
    candidate = np.array(["a", "b"])[rng.integers(0, 2, n)]
    better = candidate == "b"
    told = rng.normal(size=n)
    p = sigmoid(slope * told + np.where(better, 1.0, -1.0))
    target = (rng.random(n) < p).astype(float)
    reference = (rng.random(n) < sigmoid(0.5 + told)).astype(float)
    features = np.stack([told + 10 * better, rng.normal(size=n)], axis=1).astype(np.float32)
    features[::17, 1] = np.nan
    group = rng.integers(0, groups, n).astype(str)
    return AfterRows(features, ("told", "noise"), target, reference, candidate, group, candidate), p


def test_both_heads_learn_what_evidence_tells():
    rows, _ = made()
    fresh, at_fresh = made(seed=1)
    p, q = fit_after(rows).predict(fresh)
    assert auc(fresh.target, p) > auc(fresh.target, at_fresh) - 0.03
    assert np.abs(p - at_fresh).mean() < 0.08
    assert auc(fresh.reference, q) > 0.6


def test_evidence_that_tells_nothing_leaves_the_candidates_means():
    silent = 0
    for seed in range(4):
        rows, _ = made(slope=0.0, seed=seed)
        head = fit_head(rows)
        p = sigmoid(head.log_odds(rows))
        silent += head.parts == "base"
        for name in ("a", "b"):
            mine = rows.candidate == name
            assert abs(p[mine].mean() - rows.target[mine].mean()) < 0.05
    assert silent >= 3


def test_what_is_out_of_fold_saw_nothing_of_its_group():
    """Each group has an outcome of its own and a feature that names it: only a leak could use that."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(60), 6)
    name = rng.permutation(60)[group].astype(np.float32)
    target = rng.integers(0, 2, 60)[group].astype(float)
    rows = AfterRows(
        name[:, None], ("name",), target, np.full(360, np.nan), np.full(360, "a"), group.astype(str)
    )
    head = fit_head(rows)
    assert auc(target, head.oof) < 0.6
    p, q = out_of_fold(rows, assign_folds(rows.group, 5, 0))
    assert auc(target, p) < 0.6
    assert np.isnan(q).all()


def test_out_of_fold_chances_are_calibrated_and_can_be_asked_otherwise():
    rows, _ = made(n=1200)
    higher = rows._replace(features=rows.features + np.float32([1.0, 0.0]))
    head = fit_head(rows, instead=[rows, higher])
    assert calibration_error(rows.target, head.oof) < 0.06
    assert np.array_equal(head.oof, head.oof_of[0])
    assert (head.oof_of[1] > head.oof).mean() > 0.95


def test_a_new_candidate_gets_the_mean_of_all_and_unknown_evidence_is_no_error():
    rows, _ = made()
    head = fit_after(rows)
    strange = rows.some(np.arange(3))._replace(
        features=np.full((3, 2), np.nan, dtype=np.float32), candidate=np.full(3, "z"), harness=np.full(3, "z")
    )
    p, q = head.predict(strange)
    assert np.isfinite([p, q]).all()


def test_too_few_answers_or_one_outcome_are_said():
    rows, _ = made()
    with pytest.raises(BadInput, match="at least 60"):
        fit_after(rows.some(np.arange(20)))
    with pytest.raises(BadInput, match="came out alike"):
        fit_after(rows._replace(target=np.ones(400)))
    with pytest.raises(BadInput, match="1 groups"):
        fit_after(rows._replace(group=np.full(400, "g")))
