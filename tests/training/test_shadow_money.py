"""The cap holds whatever happens, and what was sent is never forgotten."""

import os
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from features.errors import BadInput
from router.catalog import Catalog
from training.shadow.ledger import Closed, Item, Ledger, Plan, PlannedCall, Sent, Settled
from training.shadow.money import Purse, prompt_bound, prompt_estimate, worst_case

CENT = st.integers(0, 500).map(lambda cents: Decimal(cents) / 100)


@given(
    cap=CENT,
    moves=st.lists(st.tuples(CENT, st.fractions(0, 1), st.integers(0, 5), st.booleans()), max_size=60),
)
def test_the_purse_is_never_passed(cap, moves):
    """Calls open and close in any order; none costs more than was set aside for it."""
    purse, open_ = Purse(cap), []
    for amount, share, place, closes in moves:
        if purse.reserve(amount, room=Decimal("0.10")):
            open_.append((amount, amount * share.numerator / share.denominator))
        if closes and open_:
            purse.settle(*open_.pop(place % len(open_)))
        assert purse.spent + purse.reserved <= cap
        assert purse.reserved == sum((amount for amount, _ in open_), Decimal(0))
    for settled in open_:
        purse.settle(*settled)
    assert purse.reserved == 0
    assert purse.spent <= cap


def test_room_is_kept_for_the_dearest():
    purse = Purse(Decimal(1))
    assert purse.reserve(Decimal("0.5"), room=Decimal("0.6"))
    assert not purse.reserve(Decimal("0.1"), room=Decimal("0.6"))
    assert purse.left == Decimal("0.5")


def test_the_worst_case_is_every_token_at_its_dearest():
    found = Catalog.load().deployments["anthropic/claude-opus-4-6/anthropic_messages"]
    assert worst_case(found, 1_000_000, 0, 1_795_000_000_000, hourly=False) >= Decimal("6.25")
    hourly = worst_case(found, 100_000, 1000, 1_795_000_000_000, hourly=True)
    assert hourly == (100_000 * Decimal(10) + 1000 * Decimal(25)) / 1_000_000
    assert worst_case(replace(found, model="nobody-knows"), 1, 1, 1_795_000_000_000, hourly=False) is None


def test_another_tokenizer_may_cut_finer():
    logged = ("gpt-5.4", 10_000)
    assert prompt_estimate("gpt-5.4", 999, logged) == 10_000
    assert prompt_estimate("claude-opus-5-5", 999, logged) == pytest.approx(10_000 * 4.2 / 3.3)
    assert prompt_bound(prompt_estimate("claude-opus-5-5", 33_000, None)) == 16_024


PLAN = Plan(
    run="0-x",
    created_ms=1,
    reference="a",
    candidates=["b"],
    seed=0,
    self_share=0.5,
    max_output_tokens=10,
    requests=1,
    not_replayable={},
    frame=1,
    biggest_usd=Decimal(1),
)
ITEM = Item(
    request_id="r",
    session_id="s",
    dialect="openai_chat",
    rank=0.5,
    size=1.0,
    calls=[PlannedCall(role="candidate", candidate="b", deployment="d")],
)
SENT = Sent(
    call="c",
    attempt=1,
    request_id="r",
    role="candidate",
    candidate="b",
    deployment="d",
    reserved_usd=Decimal("0.3"),
    ts_ms=2,
)
SETTLED = Settled(call="c", attempt=1, status="ok", usd=Decimal("0.1"), counted="usage")


def _opened(file, *lines):
    with Ledger(file) as ledger:
        if ledger.plan is None:
            ledger.start(PLAN, [ITEM])
        for line in lines:
            ledger.write(line)
    with Ledger(file) as ledger:
        return ledger


def test_a_call_that_never_came_back_is_spent_and_not_sent_again(tmp_path):
    ledger = _opened(tmp_path / "run.jsonl", SENT)
    assert ledger.spent_usd == Decimal("0.3")
    assert ledger.to_send("c", retry_unsettled=False) is None
    assert ledger.to_send("c", retry_unsettled=True) == 2
    assert ledger.to_send("new", retry_unsettled=False) == 1


def test_both_attempts_count(tmp_path):
    ledger = _opened(tmp_path / "run.jsonl", SENT, replace(SENT, attempt=2), replace(SETTLED, attempt=2))
    assert ledger.spent_usd == Decimal("0.4")
    assert ledger.result("c").attempt == 2


def test_a_refused_call_costs_nothing_and_may_go_again(tmp_path):
    refused = replace(SETTLED, status="refused", usd=Decimal(0), counted="nothing", http_status=401)
    ledger = _opened(tmp_path / "run.jsonl", SENT, refused)
    assert ledger.spent_usd == 0
    assert ledger.to_send("c", retry_unsettled=False) == 2
    ledger = _opened(tmp_path / "other.jsonl", SENT, replace(refused, http_status=400))
    assert ledger.to_send("c", retry_unsettled=True) is None


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_torn_line_is_cut_off(tmp_path, cut):
    file = tmp_path / "run.jsonl"
    _opened(file, SENT, SETTLED)
    os.truncate(file, file.stat().st_size - cut)
    assert _opened(file).spent_usd == Decimal("0.3")  # sent, and its answer lost: the reservation
    ledger = _opened(file, Closed(ts_ms=3))
    assert ledger.closed == Closed(ts_ms=3)
    assert msgspec.json.decode(file.read_bytes().splitlines()[-1])["type"] == "closed"


def test_a_broken_or_foreign_file_is_refused(tmp_path):
    file = tmp_path / "run.jsonl"
    file.write_bytes(b'{"type":"sent"}\n')
    with pytest.raises(BadInput, match="line 1 can't be read"):
        _opened(file)
    file.write_bytes(b"torn")
    with pytest.raises(BadInput, match="holds no plan"):
        _opened(file)


def test_one_run_at_a_time(tmp_path):
    with Ledger(tmp_path / "run.jsonl"), pytest.raises(BadInput, match="another samediff shadow"):
        Ledger(tmp_path / "run.jsonl").__enter__()
