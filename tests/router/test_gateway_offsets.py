"""Offsets in the gateway: an outcome moves its repository, in receipts that are made again byte for byte."""

import json

import httpx2
import msgspec
import pytest
from router_servers import journal_of, start_gateway, start_upstream, wait_for

from features.records import DecisionRecord, OutcomeRecord
from models.bundle import Bundle
from models.offset import Offsets
from router.catalog import Catalog
from router.decide import Decider
from router.gateway import offsets as live
from router.gateway.idempotency import IdempotencySettings
from router.gateway.service import Gateway, read_request
from router.gateway.settings import LogSettings, Settings
from router.policy import parse_policy
from router.receipt import recompute

POLICY = "learned:max_loss=0.05"
BODY = {"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": "Fix the bug"}]}
NO_FILE = IdempotencySettings(disk=False)  # a gateway that is never served closes none
REPO = {"x-samediff-repo": "acme/app"}


@pytest.fixture
def gateway(tmp_path, bundle_folder):
    return _gateway(tmp_path, bundle_folder)


def _gateway(place, bundle):
    journal = LogSettings(journal=str(place / "journal"))
    return Gateway(Settings(bundle=str(bundle), policy=POLICY, log=journal, idempotency=NO_FILE))


def ask(gateway, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    reading = read_request("anthropic_messages", json.dumps(BODY).encode())
    return gateway.decide(reading, {**REPO, **headers}, "127.0.0.1").receipt


def outcome(value=0.0, **more):
    return OutcomeRecord(outcome_id="o", ts_ms=0, source="api", value=value, **more)


def p_of(receipt):
    return {arm.candidate: arm.p_success for arm in receipt.arms if arm.p_success is not None}


def test_failures_of_a_repository_lower_its_success_and_no_others(gateway):
    before = ask(gateway)
    assert before.offset is None
    for _ in range(10):
        assert gateway.offsets.learn([outcome(request_id=ask(gateway).request_id)]) == 1
    receipt, other = ask(gateway), ask(gateway, x_samediff_repo="acme/else")
    assert (receipt.offset.outcomes, other.offset) == (10.0, None)
    assert receipt.offset.log_odds < -0.3
    assert p_of(other) == p_of(before)
    assert all(p_of(receipt)[name] < p for name, p in p_of(before).items())
    again = msgspec.json.decode(msgspec.json.encode(receipt), type=DecisionRecord)
    assert msgspec.json.encode(recompute(again, gateway.decider)) == msgspec.json.encode(receipt)


def test_what_is_no_verdict_on_a_known_answer_moves_nothing(gateway):
    receipt = ask(gateway)
    name = {"request_id": receipt.request_id}
    said = [
        outcome(request_id="req_unknown"),
        outcome(None, level="different", **name),
        outcome(1.0, level="L0", **name),
        outcome(0.0, level="signal", **name),
        outcome(candidate="someone-else", **name),
    ]
    assert gateway.offsets.learn(said) == 0
    assert gateway.offsets.learn([outcome(**name), outcome(1.0, **name)]) == 1  # the first one counts
    assert ask(gateway).offset.outcomes == 1


def test_outcomes_of_one_session_hang_together(gateway):
    for n in range(4):
        receipt = ask(gateway, x_samediff_session_id=f"s{n}")
        assert gateway.offsets.learn([outcome(session_id=f"s{n}")]) == 1
        assert gateway.offsets.learn([outcome(request_id=receipt.request_id)]) == 0
    for _ in range(3):
        gateway.offsets.learn([outcome(request_id=ask(gateway, x_samediff_task_id="t").request_id)])
    assert gateway.offsets.learn([outcome(task_id="t")]) == 0
    assert ask(gateway).offset.outcomes == 7
    long = Gateway(gateway.settings)
    for _ in range(4):
        long.offsets.learn([outcome(request_id=_within(long).request_id)])
    assert ask(long).offset.outcomes == pytest.approx(1 + 1 / 2 + 1 / 3 + 1 / 4, abs=1e-3)


def _within(gateway):
    receipt = ask(gateway, x_samediff_session_id="long")
    pending = gateway.offsets._decisions[f"request {receipt.request_id}"]
    pending.session = "long"  # a session's conversations, told apart by the answers between them
    return receipt


async def test_offsets_outlive_the_process_and_are_shared_with_others(tmp_path, bundle_folder):
    one, two = _gateway(tmp_path, bundle_folder), _gateway(tmp_path, bundle_folder)
    for gateway, count in ((one, 3), (two, 4)):
        for _ in range(count):
            gateway.offsets.learn([outcome(request_id=ask(gateway).request_id)])
    await one.offsets.sync()
    await two.offsets.sync()
    await one.offsets.sync()
    assert [ask(g).offset.outcomes for g in (one, two, _gateway(tmp_path, bundle_folder))] == [7, 7, 7]
    assert not list(tmp_path.glob("*.lock")) + list(tmp_path.glob(".*.lock"))


async def test_a_file_that_is_broken_or_forbidden_costs_no_answer(tmp_path, bundle_folder, caplog):
    file = tmp_path / "journal.offsets.json"
    file.write_text("{")
    gateway = _gateway(tmp_path, bundle_folder)
    gateway.offsets.learn([outcome(request_id=ask(gateway).request_id)])
    await gateway.offsets.sync()
    assert "begun anew" in caplog.text
    assert ask(_gateway(tmp_path, bundle_folder)).offset.outcomes == 1
    file.unlink()
    file.mkdir()
    gateway.offsets.learn([outcome(request_id=ask(gateway).request_id)])
    await gateway.offsets.sync()
    await gateway.offsets.sync()
    assert caplog.text.count("can't be kept") == 1
    file.rmdir()
    await gateway.offsets.sync()
    assert ask(_gateway(tmp_path, bundle_folder)).offset.outcomes == 2


async def test_another_bundle_goes_on_with_what_it_does_not_say_better(gateway, bundle_folder):
    gateway.offsets.learn([outcome(request_id=ask(gateway).request_id)])
    pending = ask(gateway)
    gateway.swap(gateway.decider)
    assert ask(gateway).offset.outcomes == 1
    assert gateway.offsets.learn([outcome(request_id=pending.request_id)]) == 0
    await gateway.offsets.sync()
    assert len(live._flat(live._read(gateway.offsets._file).states)) == 1


def test_decisions_and_repositories_are_bounded(gateway, monkeypatch):
    monkeypatch.setattr(live, "REMEMBERED", 6)
    gateway.offsets._offsets = Offsets(limit=2)
    for n in range(5):
        receipt = ask(gateway, x_samediff_repo=f"r{n}")
        gateway.offsets.learn([outcome(request_id=receipt.request_id)])
    assert (len(gateway.offsets), len(gateway.offsets._decisions)) == (2, 6)


def test_a_served_outcome_is_in_the_next_receipts_also_after_a_restart(tmp_path, bundle_folder):
    upstream = start_upstream({"steps": [{"text": "ok"}]}, tmp_path)
    receipts = []
    for _ in range(2):
        server = start_gateway(tmp_path, bundle_folder, upstream.url, "--policy", POLICY)
        answer = httpx2.post(f"{server.url}/v1/messages", json=BODY, headers=REPO)
        name = answer.headers["x-samediff-request-id"]
        posted = httpx2.post(f"{server.url}/v1/outcomes", json={"request_id": name, "success": False})
        assert posted.status_code == 202
        lost = httpx2.post(f"{server.url}/v1/outcomes", json={"request_id": "gone", "success": False})
        assert lost.status_code == 202
        text = httpx2.get(f"{server.url}/metrics").text
        assert "samediff_offset_outcomes_total 1" in text
        assert "samediff_offset_unmatched_total 1" in text
        asked = httpx2.post(f"{server.url}/v1/route", json=BODY, headers=REPO)
        receipts.append(msgspec.json.decode(asked.content, type=DecisionRecord))
        server.stop()
    upstream.stop()
    assert [receipt.offset.outcomes for receipt in receipts] == [1, 2]
    kept = wait_for(lambda: [r for k, r in journal_of(tmp_path) if k == "decision" and r.get("offset")])
    decider = Decider(
        Bundle.load(bundle_folder), Catalog.load(tmp_path / "catalog.toml"), parse_policy(POLICY), environ={}
    )
    for plain in kept:
        receipt = msgspec.convert(plain, DecisionRecord, strict=False)
        assert recompute(receipt, decider).offset == receipt.offset
