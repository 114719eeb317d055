"""--prices: dates before any known price are refused; what a file's rows leave alone is said."""

import pytest
from replay_answers import what_if
from replay_logs import CHEAP, write_log

from features.errors import BadInput
from router import prices
from training.replay.cost.pricing import check_prices
from training.replay.policies.specs import parse_spec

ROW = '[[price]]\nmodels = ["{}"]\ninput = "3"\noutput = "15"\nsource = "x"\nchecked = 2026-11-01\n'


@pytest.mark.parametrize("said", ["1990-01-01", "2400-01-01", "nowhere.toml"])
def test_what_nothing_can_be_priced_by_is_refused_in_one_line(said):
    with pytest.raises(BadInput, match="--prices") as found:
        check_prices(said)
    assert "\n" not in str(found.value)


def test_the_first_known_price_may_be_asked_for():
    check_prices(f"{prices.known_since():%Y-%m-%d}")


def test_what_a_row_leaves_alone_and_the_file_itself_are_named(tmp_path):
    log = write_log(tmp_path / "log", sessions=12)
    file = tmp_path / "own.toml"
    file.write_text(ROW.format(CHEAP) + ROW.format("nobodys-model"), encoding="utf-8")
    found = what_if(log, "--prices", str(file))
    assert found["price_version"].endswith(f"with {file}")
    alone, nobody = (
        next(c for c in found["caveats"] if word in c) for word in ("leave prices", "change nothing")
    )
    assert CHEAP in alone
    assert "cached, write, write_1h" in alone
    assert "nobodys-model" in nobody
    assert CHEAP not in nobody


def test_a_slip_in_a_policys_kind_is_told_all_kinds():
    with pytest.raises(BadInput, match=r"'lerned'; use one of pin, mix, learned, cascade"):
        parse_spec("lerned:max_loss=0.02")
