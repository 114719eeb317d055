"""Newcomers: what the regression learns and refuses to learn, first outcomes, and leaving models out."""

import numpy as np
import pytest

from models.descriptors import Descriptor
from training.calibrate import sigmoid
from training.coldstart import NS, Matrix, Way, savings, unseen
from training.examples import Coded
from training.newcomers import design_of, regress
from training.shrink import fit_effects, fit_table

TYPES = 4


def world(candidates=12, rows=150, price_slope=0.8, hardness=1.2, seed=0):
    """Models whose success follows their price and family, on shared tasks of several types and hardness."""
    rng = np.random.default_rng(seed)
    log_price = np.linspace(-1.5, 2.5, candidates)
    family = np.arange(candidates) % 3
    effect = price_slope * (log_price - 0.5) / 1.5 + 0.3 * (family - 1) + 0.1 * rng.normal(size=candidates)
    kind = np.linspace(-0.8, 0.8, TYPES)
    task = np.tile(np.arange(rows * TYPES), candidates)
    hard = hardness * rng.normal(size=rows * TYPES)
    candidate = np.repeat(np.arange(candidates), rows * TYPES)
    task_type = task % TYPES
    pattern = np.outer(rng.normal(size=candidates), np.linspace(-0.6, 0.6, TYPES)[::-1] ** 2)
    p = sigmoid(effect[candidate] + kind[task_type] + pattern[candidate, task_type] + hard[task])
    return Matrix(
        candidate=candidate,
        task_type=task_type,
        task=task,
        group=task,
        success=(rng.random(len(p)) < p).astype(float),
        cost_usd=0.01 * np.exp(log_price[candidate]),
        candidates=tuple(f"m{i}" for i in range(candidates)),
        task_types=tuple("abcd"[:TYPES]),
        descriptors=tuple(
            Descriptor(
                family=("claude", "gpt", "qwen")[f],
                input_usd_per_mtok=float(np.exp(x)),
                output_usd_per_mtok=float(np.exp(x)),
            )
            for f, x in zip(family, log_price, strict=True)
        ),
    )


def test_a_model_left_out_is_found_by_its_descriptor_within_its_interval():
    guesses = unseen(world(), 16.0)
    error = {
        c: np.mean([abs(g.effect - g.actual) for g in guesses if g.control == c])
        for c in ("flat", "descriptor")
    }
    assert error["descriptor"] < 0.6 * error["flat"]
    inside = [g.effect_inside for g in guesses if g.control == "descriptor"]
    assert np.mean(inside) >= 0.75


def test_three_models_are_no_curve():
    descriptors = world(3).descriptors
    design = design_of(descriptors, np.ones(3, dtype=bool))
    fit = regress(design, np.array([-1.0, 0.0, 1.0]), np.full(3, 0.01), np.ones(3, dtype=bool))
    slope = fit.weights[1]
    full = 2.0 / (design.rows[2, 1] - design.rows[0, 1])  # through all three points
    assert 0 <= slope < 0.7 * full
    assert fit.spread > 0.3


def test_noise_is_no_curve_either():
    rng = np.random.default_rng(1)
    descriptors = world(20).descriptors
    design = design_of(descriptors, np.ones(20, dtype=bool))
    fit = regress(design, 0.3 * rng.normal(size=20), np.full(20, 0.01), np.ones(20, dtype=bool))
    assert np.abs(fit.weights[1:]).max() < 0.15
    assert 0.15 < fit.spread < 0.6


def test_nothing_known_of_anybody_is_the_mean():
    nobody = (Descriptor(),) * 4
    total, rows = (
        np.array([[8.0, 0], [5, 0], [2, 0], [0, 0]]),
        np.array([[10.0, 0], [10, 0], [10, 0], [0, 0]]),
    )
    effects = fit_effects(total, rows, "logit", 4.0, nobody)
    assert effects.candidate[2] < effects.candidate[3] < effects.candidate[0]
    assert effects.newcomers is not None
    assert effects.newcomers.columns == ()


def test_extreme_cells_stay_finite():
    total = np.array([[500.0, 0, 0], [0, 500, 0], [0, 0, 0], [1, 0, 0]])
    rows = np.array([[500.0, 0, 0], [0, 500, 0], [0, 0, 0], [1, 0, 0]])
    for link in ("logit", "identity"):
        effects = fit_effects(total, rows, link, 2.0, (Descriptor(),) * 4)
        assert all(np.isfinite(a).all() for a in (effects.candidate, effects.cells, effects.task_type))


def test_few_outcomes_are_drawn_to_the_descriptor_and_many_speak_for_themselves():
    matrix = world(price_slope=1.5)
    mask = matrix.candidate != 11
    total, rows = matrix.sums(mask, matrix.success)
    found = {}
    for n in (4, 4000):
        total[11, 0], rows[11, 0] = 0.0, n  # the dearest model fails
        found[n] = fit_effects(total, rows, "logit", 16.0, matrix.descriptors).candidate[11]
    assert found[4] > found[4000]
    assert sigmoid(np.array(found[4])) > 0.3


def table_of(matrix):
    codes = Coded(
        matrix.candidate,
        matrix.task_type,
        np.zeros(len(matrix.success), dtype=int),
        matrix.success,
        len(matrix.candidates),
        len(matrix.task_types),
        matrix.descriptors,
    )
    return fit_table(codes, "logit", 16.0, matrix.candidates, matrix.task_types)


def test_the_served_table_says_of_a_newcomer_what_the_fit_says():
    matrix = world()
    left = matrix.candidate != 5
    kept = matrix._replace(**{n: getattr(matrix, n)[left] for n in ("candidate", "task_type", "success")})
    table = table_of(kept)
    effects = fit_effects(*matrix.sums(left, matrix.success), "logit", 16.0, matrix.descriptors)
    for j, name in enumerate((*matrix.task_types, "")):
        served = table.value("m5", name, (None, None), matrix.descriptors[5])
        assert served == pytest.approx(effects.cells[5, j], abs=1e-9)
    for c, name in enumerate(matrix.candidates):
        if c != 5:
            assert table.value(name, "b", (None, None)) == pytest.approx(effects.cells[c, 1], abs=1e-9)


def test_savings_grow_to_the_full_and_nothing_is_known_of_unseen_groups():
    matrix = world(6)
    found = savings(matrix, 2, 0, (Way(), Way(paired=True), Way(plain=True)))
    assert [s.n for s in found] == [*NS] * 3
    assert found[0].alone_guarded == 0.0  # without an outcome the guard leaves it to the reference
    everything = found[4]
    assert found[3].alone >= 0.5 * everything.alone
    assert all(s.without == pytest.approx(found[0].without, abs=0.2) for s in found)
