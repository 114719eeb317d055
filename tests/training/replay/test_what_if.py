"""`samediff what-if`: the bill first, controls in every answer, nothing told that the log can't support."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from replay_answers import row, what_if
from replay_logs import CHEAP, STRONG, TRUTH, write_log, write_matrix

import samediff
from features.errors import BadInput
from training.replay.cost.reproduction import status_of

CONTRACT = {
    "billed_usd", "replayed_usd", "relative_error", "session_median_error", "cached_tokens_billed",
    "cached_tokens_replayed", "policies",
}  # fmt: skip
ROW = {
    "cost_usd", "cost_usd_ci", "quality", "quality_ci", "switches", "unsafe_switches", "ess", "supported",
}  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("replay") / "log", sessions=250)


@pytest.fixture(scope="module")
def answer(log):
    return what_if(log)


def test_the_answer_has_the_keys_of_the_contract(answer):
    assert answer.keys() >= CONTRACT
    assert all(r.keys() >= ROW for r in answer["policies"])


def test_the_logged_policy_reproduces_the_bill(answer):
    assert answer["reproduction"] == "met"
    assert abs(answer["relative_error"]) < 0.01
    assert answer["session_median_error"] < 0.05
    assert answer["cached_tokens_replayed"] == pytest.approx(answer["cached_tokens_billed"], rel=0.02)
    assert row(answer, "logged")["cost_usd"] == pytest.approx(answer["replayed_usd"])


def test_controls_are_in_every_answer(answer):
    names = {r["name"] for r in answer["policies"]}
    assert names >= {
        "logged", "reference", "best_single", "cheapest", "random_mix", "cascade", "sticky_session", "blind",
        "learned", f"pin:{STRONG}", f"pin:{CHEAP}",
    }  # fmt: skip


def test_quality_of_a_pin_is_estimated_near_the_truth(answer):
    pin = row(answer, f"pin:{STRONG}")
    assert pin["supported"]
    assert pin["quality_ci"][0] < TRUTH[STRONG] < pin["quality_ci"][1]
    assert pin["switches"] == 0


def test_a_cheaper_pin_that_is_as_good_is_advised(tmp_path):
    log = write_log(tmp_path / "log", sessions=900, turns=2, epsilon=0.8)
    result = what_if(log)
    assert result["advised"] == f"pin:{CHEAP}"
    pin = row(result, f"pin:{CHEAP}")
    assert result["recommendation"].startswith(f"Pin {CHEAP}: it saves {pin['saving']:.0%}")
    assert pin["saving_ci"][0] > 0


def test_a_cheaper_pin_that_is_worse_is_not(tmp_path):
    log = write_log(tmp_path / "log", sessions=600, turns=2, epsilon=0.8, truth={STRONG: 0.9, CHEAP: 0.6})
    result = what_if(log)
    assert result["advised"] == "logged"
    assert result["recommendation"].startswith("Stay with what is logged")


def test_without_outcomes_there_is_not_enough_evidence(tmp_path):
    result = what_if(write_log(tmp_path / "log", labelled=False))
    assert result["advised"] is None
    assert result["recommendation"].startswith("Not enough evidence")
    assert all(r["quality"] is None and not r["supported"] and r["why"] for r in result["policies"])
    assert any("no outcomes" in line for line in result["caveats"])


def test_without_propensities_cost_is_told_and_quality_of_what_was_logged(tmp_path):
    result = what_if(write_log(tmp_path / "log", decided=False))
    assert row(result, "logged")["supported"]
    pin = row(result, f"pin:{CHEAP}")
    assert pin["cost_usd"] > 0
    assert pin["quality"] is None
    assert "chances of 0 of" in pin["why"]
    assert any(line.startswith("no propensities") for line in result["caveats"])
    assert pin["missing"]["pairs"] > 0
    assert pin["missing"]["usd"] > 0


def test_shadow_pairs_tell_quality_without_propensities(tmp_path):
    log = write_log(
        tmp_path / "log", sessions=400, epsilon=0.0, decided=False, pairs=0.5, truth={STRONG: 0.9, CHEAP: 0.7}
    )
    pin = row(what_if(log), f"pin:{CHEAP}")
    assert pin["quality_how"] == "paired"
    assert pin["quality"] == pytest.approx(0.7, abs=0.05)


def test_a_bill_that_is_not_met_stands_alone(tmp_path):
    from decimal import Decimal

    log = write_log(tmp_path / "log", sessions=20, cost_usd=Decimal("0.5"))
    result = what_if(log, code=1)
    assert result["reproduction"] == "failed"
    assert result["policies"] == []
    assert result["recommendation"] is None


def test_one_session_has_no_interval(tmp_path):
    result = what_if(write_log(tmp_path / "log", sessions=1))
    assert row(result, "logged")["cost_usd_ci"] is None
    assert any(line.startswith("one session") for line in result["caveats"])


@pytest.mark.parametrize(
    ("errors", "ends", "sessions", "status"),
    [
        ((0.01, 0.01, 0.0), (0.0, 0.02), 50, "met"),
        ((-0.04, -0.01, -0.04), (-0.06, -0.03), 50, "explained"),  # the rest is sold by others
        ((0.06, 0.06, 0.0), None, 1, "within_noise"),  # by its counts it is met, and one can't tell of caches
        ((0.06, 0.06, 0.05), None, 1, "failed"),  # not even by its counts
        ((0.40, 0.40, 0.0), None, 1, "failed"),
        ((0.06, 0.06, 0.0), (-0.01, 0.13), 50, "within_noise"),
        ((0.06, 0.06, 0.0), (0.05, 0.07), 50, "failed"),
        ((0.06, 0.06, 0.05), (-0.01, 0.13), 50, "failed"),  # prices are off, and no few sessions excuse that
        ((None, None, None), None, 5, "failed"),
    ],
)
def test_when_a_bill_counts_as_met(errors, ends, sessions, status):
    assert status_of(errors, ends, sessions) == status


def test_one_arm_is_said(tmp_path):
    result = what_if(write_log(tmp_path / "log", arms=(STRONG,)))
    assert any("one candidate answered everything" in line for line in result["caveats"])
    assert row(result, "reference")["supported"]


def test_an_outcome_matrix_is_exact(tmp_path):
    folder, usd, reward = write_matrix(tmp_path / "log")
    result = what_if(folder)
    for j, arm in enumerate((STRONG, CHEAP, "gpt-5.4")):
        pin = row(result, f"pin:{arm}")
        assert pin["cost_usd"] == pytest.approx(usd[:, j].sum(), rel=1e-9)
        assert pin["quality"] == pytest.approx(reward[:, j].mean(), rel=1e-9)
    best = reward.max(axis=1)
    cheapest = np.where(reward == best[:, None], usd, np.inf).min(axis=1)
    oracle = row(result, "oracle")
    assert oracle["quality"] == pytest.approx(best.mean(), rel=1e-9)
    assert oracle["cost_usd"] == pytest.approx(cheapest.sum(), rel=1e-9)
    assert result["billed_usd"] == pytest.approx(usd.sum(), rel=1e-9)


def test_options_change_what_they_say(log, answer, tmp_path):
    pin = f"pin:{STRONG}"
    before = row(answer, pin)["cost_usd"]
    assert row(what_if(log, "--cache", "off"), pin)["cost_usd"] > 1.1 * before
    assert row(what_if(log, "--cache", "ttl=5s"), pin)["cached_tokens"] == 0
    assert f"pin:{CHEAP}" not in {r["name"] for r in what_if(log, "--without", CHEAP)["policies"]}
    brought = what_if(log, "--with", "gpt-5.4-mini")
    assert row(brought, "pin:gpt-5.4-mini")["cost_usd"] < before
    own = tmp_path / "prices.toml"
    own.write_text(f'[[price]]\nmodels = ["{STRONG}"]\ntimes = 2\nsource = "made up"\nchecked = 2026-11-01\n')
    dear = what_if(log, "--prices", str(own))
    assert row(dear, pin)["cost_usd"] == pytest.approx(2 * before, rel=1e-6)
    assert dear["billed_usd"] == pytest.approx(answer["billed_usd"])
    assert row(what_if(log, "--prices", "2026-06-01"), pin)["cost_usd"] == pytest.approx(before, rel=1e-6)


def test_a_budget_is_re_applied_in_the_order_of_the_log(log, answer):
    whole = row(answer, "logged")["cost_usd"]
    result = row(what_if(log, "--budget", f"{whole / 2}"), "logged")
    assert result["cost_usd"] <= whole / 2
    assert result["cost_usd"] > 0.45 * whole
    assert result["refused"] > 0
    assert row(what_if(log, "--budget", "1000/user/day"), "logged")["refused"] == 0


def test_groups_add_up_to_the_whole(log):
    result = what_if(log, "--group-by", "repo")
    for r in result["policies"]:
        assert sum(g["cost_usd"] for g in r["groups"].values()) == pytest.approx(r["cost_usd"], rel=1e-3)
    assert set(row(result, "logged")["groups"]) == {"repo0", "repo1", "repo2"}


def test_policies_are_played_as_asked(log, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\npolicy = "mix:claude-opus-4-6=1,claude-haiku-4-5=1"\n')
    result = what_if(
        log, "--policy", f"pin:{CHEAP}", "--policy", str(file), "--policy", f"cascade:{CHEAP},{STRONG}",
        "--policy", "learned:max_loss=0.3",
    )  # fmt: skip
    mine = row(result, "mine")
    assert mine["share"][CHEAP] == pytest.approx(0.5, abs=0.1)
    assert mine["switches"] == 0  # a session keeps what it drew
    cascade = row(result, f"cascade:{CHEAP},{STRONG}")
    assert cascade["cost_usd"] > row(result, f"pin:{CHEAP}")["cost_usd"]
    assert cascade["quality"] is None
    assert row(result, "learned:max_loss=0.3")["router_usd"] > 0
    assert "add up to 2, not 1: they are read as shares, claude-opus-4-6 50%" in result["caveats"][0]
    assert not any("add up to" in line for line in what_if(log, "--policy", f"pin:{CHEAP}")["caveats"])


@pytest.mark.parametrize(
    "more", [("--group-by", "mood"), ("--cluster-by", "mood"), ("--cache", "warm"), ("--budget", "much")]
)
def test_what_no_log_can_be_asked_is_refused_before_one_is_read(more):
    with pytest.raises(BadInput, match=f"^{more[0]} {more[1]}: say"):
        what_if("no-such-log", *more)


def test_the_answer_is_written_though_the_reader_of_the_tables_leaves(log, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    answer = tmp_path / "answer.json"
    command = [sys.executable, samediff.__file__, "what-if", str(log), "--no-frontier", "--json", str(answer)]
    try:
        subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    finally:
        os.close(writer)
    assert row(json.loads(answer.read_text()), "logged")["supported"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--policy", "pin:nobody-9"], "nobody-9: no candidate of the catalogue, and no price is known"),
        (["--policy", "best"], "neither a file, nor a bundle's folder, nor a policy"),
        (["--policy", "cascade:a"], "a cascade names two candidates"),
        (["--policy", "cascade:a,a"], "a cascade goes on to another candidate"),
        (["--policy", "cascade:claude-opus-4.6,anthropic/claude-opus-4-6"], "both are claude-opus-4.6"),
        (["--check-noise", "7"], "--check-noise 7: a share from 0 to 1"),
        (["--check-noise", "nan"], "--check-noise nan: a share from 0 to 1"),
        (["--router-usd", "nan"], "--router-usd nan: USD, 0 or more"),
        (["--router-usd=-3"], "--router-usd -3: USD, 0 or more"),
        (["--since", "2026-06-02", "--until", "2026-06-01"], "isn't before --until 2026-06-01T00:00"),
        (["--policy", "none.toml"], "no such file"),
        (["--policy", f"pin:{CHEAP}", "--without", CHEAP], "can't be played: --without takes it away"),
        (["--without", "nobody"], "there is no such candidate among"),
        (["--without", STRONG], "takes the reference away"),
        (["--cache", "warm"], "say on, off, or ttl=300s"),
        (["--budget", "much"], "say USD such as"),
        (["--group-by", "mood"], "say one of repo, user, client, task"),
        (["--prices", "cheap"], "neither a date such as"),
        (["--since", "yesterday"], "say a date or time"),
        (["--since", "2030-01-01"], "no requests in it"),
        (["--bundle", "no-such-bundle"], "no-such-bundle"),
    ],
)
def test_bad_input_is_one_clear_line(log, more, said):
    with pytest.raises(BadInput, match=said) as caught:
        what_if(log, *more)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_log_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such log"):
        what_if(tmp_path / "nothing")


def test_the_page_needs_nothing_else(log, tmp_path):
    file = tmp_path / "page.html"
    what_if(log, "--html", str(file), "--group-by", "user", "--frontier", "--policy", f"pin:{CHEAP}")
    page = file.read_text(encoding="utf-8")
    assert page.count("<svg") >= 3
    assert "http" not in page
    assert "Sessions that gain most" in page
    assert "<script" not in page
