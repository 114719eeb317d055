"""A newcomer's outcomes held against known models' on the same tasks: their luck taken away, no more."""

import numpy as np
import pytest
from test_dataset import fill
from test_pipeline import two_models

from models.descriptors import Descriptor
from training.calibrate import sigmoid
from training.dataset import load_dataset
from training.examples import Coded, Examples, Knobs
from training.fit import fit_success
from training.log import LogStore
from training.pairing import MIN_PAIRS, NEWCOMER_ROWS, Answers, evened, newcomers_of, paired
from training.shrink import cell_sums

TYPES = 4
TABLE = Knobs(trees=(), ridges=())


def world(known=3, tasks=800, first=80, seed=0, hardness=2.5, *, easy=False):
    """Known models on all tasks, a newcomer (the last code) on a few; its true mean success by type."""
    rng = np.random.default_rng(seed)
    hard, kind = hardness * rng.normal(size=tasks), np.arange(tasks) % TYPES
    effect = np.linspace(0.5, -0.5, known + 1)
    p = sigmoid(effect[:, None] + 0.3 * kind + hard)
    success = (rng.random(p.shape) < p).astype(float)
    few = rng.permutation(tasks)[:first]
    if easy:  # of all that there are
        few = rng.choice(np.flatnonzero(hard > 0), first, replace=False)
    task = np.concatenate([np.tile(np.arange(tasks), known), few])
    candidate = np.concatenate([np.repeat(np.arange(known), tasks), np.full(first, known)])
    truth = np.array([p[known, kind == t].mean() for t in range(TYPES)])
    return Answers(candidate, task, kind[task], success[candidate, task]), truth


def coded(answers):
    n = int(answers.candidate.max()) + 1
    fold = answers.task % 3
    return Coded(*answers[:1], answers.task_type, fold, answers.success, n, TYPES, (Descriptor(),) * n)


# With one known model the slope is of the newcomer's own pairs, and one noisy outcome says little.
@pytest.mark.parametrize(("known", "left"), [(1, 1.0), (8, 0.9)])
def test_luck_of_the_tasks_is_taken_away(known, left):
    errors = {"plain": [], "paired": []}
    for seed in range(80):
        answers, truth = world(known, seed=seed)
        mine = answers.candidate == known
        found = paired(answers, np.array([known]))
        for name, worth in (("plain", answers.success), ("paired", answers.success - found.shift)):
            errors[name].append(worth[mine].mean() - truth[answers.task_type[mine]].mean())
        assert (found.shift[~mine] == 0).all()
        assert (found.weight[~mine] == 1).all()
        assert (found.weight >= 1).all()
    assert np.std(errors["paired"]) < left * np.std(errors["plain"])
    assert abs(np.mean(errors["paired"])) < 0.02


def test_luck_that_is_not_shared_changes_nothing_much():
    answers, _ = world(hardness=0.0)
    found = paired(answers, np.array([3]))
    assert np.abs(found.shift).mean() < 0.05
    assert found.weight.max() < 1.1


def test_too_few_pairs_are_left_alone():
    answers, _ = world(known=1, first=MIN_PAIRS - 1)
    assert evened(coded(answers), answers.task.astype(str)).shift is None


def test_only_newcomers_that_share_a_task_are_touched():
    answers, _ = world()
    assert newcomers_of(answers.candidate).tolist() == [3]
    rows = coded(answers)
    apart = np.where(answers.candidate == 3, "", answers.task.astype(str))
    assert evened(rows, apart).shift is None
    everybody = answers._replace(candidate=np.arange(len(answers.task)) // (NEWCOMER_ROWS - 1))
    assert evened(coded(everybody), answers.task.astype(str)).shift is None
    even = evened(rows, answers.task.astype(str))
    plain, now = cell_sums(rows), cell_sums(even)
    assert np.array_equal(plain[0][:, :3], now[0][:, :3])
    assert (now[0] <= now[1]).all()
    assert now[1][:, 3].sum() > plain[1][:, 3].sum()  # worth more rows than they are


def examples(answers, task):
    names = np.array([f"m{c}" for c in answers.candidate])
    return Examples(
        features=np.zeros((len(names), 3), np.float32),
        candidate=names,
        task_type=np.array([f"t{k}" for k in answers.task_type]),
        success=answers.success,
        output_tokens=np.full(len(names), np.nan),
        group=answers.task.astype(str),
        task=task,
    )


def test_a_newcomer_that_got_easy_tasks_isnt_believed_by_them_and_counts_real_rows():
    answers, truth = world(easy=True)
    above = {}
    for told in (True, False):
        head = fit_success(examples(answers, answers.task.astype(str) if told else None), TABLE)
        assert (head.table.candidates["m3"].rows, head.metrics["paired_rows"]) == (80, 80 * told)
        assert sum(cell.rows for cell in head.table.cells["m3"].values()) == 80
        values = [head.table.value("m3", f"t{k}", (None, None)) for k in range(TYPES)]
        above[told] = float(np.mean(sigmoid(np.array(values)) - truth))
    assert 0 < above[True] < 0.8 * above[False]


def test_a_log_tells_which_rows_are_of_one_task(tmp_path):
    rows = two_models(60)
    found = load_dataset(fill(LogStore(tmp_path), [{**rows[0], "task_id": None}, *rows[1:]]), None, 0)
    task = found.examples.task
    assert sorted(set(task.tolist())) == sorted({"", *(row["task_id"] for row in rows[1:])})
