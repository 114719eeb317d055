"""The table of a what-if for people: what is refused, and why a quality is unknown, stand in it."""

import pytest
from replay_answers import shown
from replay_logs import CHEAP, write_log
from typer.testing import CliRunner

import samediff


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("show") / "log", sessions=40, epsilon=0.1)


def test_refused_calls_have_a_column_where_there_are_any(log):
    assert "refused" not in shown(log).split("cost is simulated")[0].split("what it would")[1]
    tables = shown(log, "--budget", "0.1/session").split("cost is simulated")[0].split("what it would")[1]
    assert "refused" in tables


def test_refused_calls_stand_on_the_page(log, tmp_path):
    file = tmp_path / "page.html"
    shown(log, "--budget", "0.1/session", "--html", str(file))
    assert "<th>refused</th>" in file.read_text(encoding="utf-8").replace(' scope="col"', "")


def test_why_a_quality_is_unknown_is_said_below_the_table(log):
    printed = " ".join(shown(log).split())
    assert "? quality unknown of" in printed
    assert f"pin:{CHEAP}" in printed.split("? quality unknown of", 1)[1]


def test_each_state_of_the_bill_has_a_mark_of_its_own(log, tmp_path):
    assert "✓ billed" in shown(log)
    unpaid = write_log(tmp_path / "unpaid", sessions=20, cost_source="priced")
    assert "○ no recorded bill" in shown(unpaid)
    factor = write_log(tmp_path / "factor", sessions=40, turns=3, epsilon=0.0, dearer=(2.0, 1))
    assert "≈ billed" in shown(factor)
    assert "✗ not met" in shown(factor)


def test_who_refuses_everything_saves_nothing(log):
    rows = shown(log, "--budget", "0.000001/session").split("what it would")[1].split("cost is simulated")[0]
    assert "+100" not in rows
    assert "refuses all" in rows


def test_what_is_watched_is_said(log):
    printed = " ".join(shown(log).split())
    assert "however often one looks (40 sessions, betting)" in printed


@pytest.mark.parametrize("columns", ["60", "80", "100", "200"])
def test_no_column_is_lost_however_narrow_the_screen(log, columns):
    done = CliRunner().invoke(
        samediff.app,
        ["what-if", str(log), "--no-frontier", "--budget", "0.1/session"],
        env={"COLUMNS": columns},
    )
    heads = done.stdout.split("cost is simulated")[0]
    assert all(name in heads for name in ("saves", "quality", "ESS", "switches", "refused"))
