"""Calls that another candidate answered than was decided: theirs who answered, and drawn by nobody."""

import polars as pl
import pytest
from replay_answers import row, what_if
from replay_logs import CHEAP, STRONG, write_log

from training.labels.label import read_requests
from training.labels.resolve import resolve
from training.log import LogStore

TRUTH = {STRONG: 0.9, CHEAP: 0.4}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A third of what was decided for the cheap candidate is answered by the strong one, in its own way."""
    folder = tmp_path_factory.mktemp("fallen") / "log"
    return write_log(folder, sessions=900, epsilon=0.8, truth=TRUTH, fallen=1 / 3)


def answered_by(log):
    """Mean outcome of the answers that each candidate was drawn for and gave."""
    store = LogStore(log)
    decided = store.scan("decision").select("request_id", "chosen")
    given = (
        store.scan("outcome").join(decided, on="request_id").filter(pl.col("chosen") == pl.col("candidate"))
    )
    return dict(given.group_by("candidate").agg(pl.col("value").mean()).collect().iter_rows())


def test_quality_is_of_whoever_was_drawn_and_answered(log) -> None:
    found, own = what_if(log), answered_by(log)
    for name, truth in TRUTH.items():
        pin = row(found, f"pin:{name}")
        # Taken for the cheap one's, the strong one's answers would make it 0.57.
        assert pin["quality"] == pytest.approx(own[name], abs=0.005)
        low, high = pin["quality_ci"]
        assert low - 0.01 <= truth <= high + 0.01


def test_a_few_such_calls_do_not_silence_the_log(tmp_path) -> None:
    # Later turns keep what the first drew: whoever takes over there had no chance at all.
    log = write_log(tmp_path / "log", sessions=1_500, epsilon=0.8, truth=TRUTH, fallen=0.02, keeps=True)
    found = what_if(log)
    assert row(found, f"pin:{CHEAP}")["quality"] is not None
    assert not any("propensities" in said for said in found["caveats"])


def test_labels_are_of_whoever_answered(log) -> None:
    store = LogStore(log)
    requests, outcomes = read_requests(store), store.scan("outcome").collect()
    labels = resolve(requests, outcomes)
    decided = store.scan("decision").select("request_id", "chosen").collect()
    both = requests.with_columns(value=labels["value"]).join(decided, on="request_id")
    means = dict(both.group_by("candidate").agg(pl.col("value").mean()).iter_rows())
    assert means[CHEAP] == pytest.approx(0.4, abs=0.04)
    assert means[STRONG] == pytest.approx(0.9, abs=0.03)
    fallen = both.filter((pl.col("chosen") == CHEAP) & (pl.col("candidate") == STRONG))
    assert fallen["value"].mean() == pytest.approx(0.9, abs=0.06)
