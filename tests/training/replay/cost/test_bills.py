"""Sessions whose bill is off the table's: each is counted once, by the calls that are played."""

from decimal import Decimal

from replay_logs import write_log

from router.gateway.settings import Settings
from training.replay.cost.bills import bills_of
from training.replay.options import Options
from training.replay.stage import set_up


def test_sessions_of_two_models_are_counted_once(tmp_path):
    log = write_log(tmp_path / "log", sessions=20, epsilon=0.9, cost_usd=Decimal("0.5"))
    reasons = bills_of(log, set_up(log, Options(), Settings()).worlds).reasons
    assert reasons
    assert max(reasons.values()) <= 20


def test_calls_that_are_left_out_explain_nothing(tmp_path):
    """Only the first calls are played, and by them every session is off."""
    log = write_log(tmp_path / "log", sessions=20, turns=2, arms=("claude-opus-4-6",))
    whole = set_up(log, Options(), Settings()).worlds
    assert bills_of(log, whole).reasons == {}
    until = int(whole.at(0).calls.ts_ms[10])
    early = set_up(log, Options(until_ms=until), Settings()).worlds
    assert sum(bills_of(log, early).reasons.values()) <= early.sessions
