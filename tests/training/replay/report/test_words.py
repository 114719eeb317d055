"""What the answer says for people: the reference, the groups, and what a saving is held against."""

from io import StringIO

import numpy as np
import pytest
from msgspec.structs import replace
from replay_logs import CHEAP, START_MS, STRONG, _outcome, _request, write_log
from rich.console import Console

from router.gateway.settings import Settings
from training.log import LogStore
from training.replay.options import Options
from training.replay.quality.by_session import MIN_SESSIONS
from training.replay.report.page import PINS_SHOWN, html_of
from training.replay.report.show import render
from training.replay.run import run


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    log = write_log(tmp_path_factory.mktemp("words") / "log", sessions=30)
    return run(log, Options(frontier=False, group_by="user"), Settings())


def shown(found):
    console = Console(width=200, record=True, file=StringIO())
    for part in render(found):
        console.print(part)
    return console.export_text()


def test_the_terminal_names_reference_and_groups(found):
    said = shown(found)
    assert f"reference: {found.reference}" in said
    assert "by group, logged: " in said
    assert "ann $" in said


def test_more_calls_than_there_are_are_not_asked_in_silence(found):
    asked = [row for row in found.policies if row.missing and row.missing["pairs"]]
    assert any(row.missing["pairs"] > found.calls for row in asked)
    assert all(("calls_there" in row.missing) == (row.missing["pairs"] > found.calls) for row in asked)
    assert f"this log has {found.calls} calls only" in html_of(found)
    assert f"more than this log's {found.calls} calls" in found.recommendation


def test_bars_say_dearer_or_cheaper(found):
    pin = next(row for row in found.policies if row.role == "pin")
    both = [replace(pin, name="pin:a", saving=-0.7), replace(pin, name="pin:b", saving=0.3)]
    page = html_of(replace(found, policies=[*found.policies, *both]))
    assert ", 70% dearer" in page
    assert ", 30% cheaper" in page


def test_pins_that_are_not_drawn_are_counted(found):
    pin = next(row for row in found.policies if row.role == "pin")
    many = [replace(pin, name=f"pin:m{i}") for i in range(PINS_SHOWN + 3)]
    others = [row for row in found.policies if row.role != "pin"]
    assert "3 dearer pins are in the table alone" in html_of(replace(found, policies=[*others, *many]))
    assert "in the table alone" not in html_of(replace(found, policies=[*others, *many[:3]]))


def test_a_matrix_is_not_watched_and_its_saving_names_what_it_is_held_against(tmp_path):
    """Its rows are of one candidate after another; nobody pays for all of them."""
    log = tmp_path / "log"
    rng = np.random.default_rng(0)
    for arm, right in ((STRONG, 0.9), (CHEAP, 0.9)):
        rows, outcomes = [], []
        for n in range(300):
            one = _request(f"s{n}", 0, START_MS + n * 1_000, arm, (6_000, 0), {"task_id": f"t{n}"})
            one = replace(one, request_id=f"{arm}/{n}", session_id=f"{arm}/{n}")
            rows.append(one)
            outcomes.append(_outcome(one, arm, float(rng.random() < right)))
        LogStore(log).append("request", rows)
        LogStore(log).append("outcome", outcomes)
    found = run(log, Options(frontier=False), Settings())
    assert any("outcome matrix" in said for said in (found.reproduction_says, *found.caveats))
    assert found.watch is None
    assert found.advised == f"pin:{CHEAP}"
    assert found.row("oracle") is not None
    assert not any("no oracle" in line for line in found.caveats)
    assert f"Pin {CHEAP}: it saves" in found.recommendation
    assert "of what reference would cost alone" in found.recommendation
    assert "of what is paid today" not in found.recommendation
    assert found.calls > MIN_SESSIONS  # enough of known outcome to be watched, were they traffic


@pytest.mark.parametrize("calls", [20, 800])
def test_where_no_pin_can_be_chosen_it_is_said(tmp_path, calls):
    """A pin is chosen on one half of the sessions: on few nothing is known of any."""
    log = write_log(tmp_path / "log", sessions=calls, turns=3, epsilon=0.9)
    found = run(log, Options(frontier=False), Settings())
    said = [line for line in found.caveats if "no best single pin" in line]
    assert (found.row("best_single") is None) == (calls == 20)
    assert bool(said) == (calls == 20)
    assert any(line.startswith("no oracle as a bound") for line in found.caveats)


def test_why_sessions_are_off_the_table_is_in_words(tmp_path):
    log = write_log(tmp_path / "log", sessions=40, turns=3, epsilon=0.0, dearer=(2.0, 1))
    found = run(log, Options(frontier=False), Settings())
    assert found.reasons == {"factor": 40}
    line = "40 sessions off the price table, factor: the same factor in nearly every session of this model"
    assert line in html_of(found)
    assert any(line in str(part) for part in render(found))


def test_one_is_no_plural(found):
    alone = replace(found, sessions=1, calls=1, left_out={"no model is named": 1})
    assert "1 call of 1 session\n" in shown(alone)
    assert "! 1 row left out: no model is named" in shown(alone)
    assert "1 call of 1 session<" in html_of(alone)
    assert "1 row left out: no model is named" in html_of(alone)
