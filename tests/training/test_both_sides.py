"""A feature means the same in a transcript and in the gateway: one real session, held from both sides.

The fixture is made by tests/fixtures/record_both_sides.py: the clients' transcripts, and the numbers that the
gateway noted of the bodies that the same clients sent.
"""

import json
from pathlib import Path

import msgspec
import pytest

from features.facts import Facts
from features.records import RequestRecord
from training.ingest import ingest
from training.log import LogStore
from training.sources import claude_code, codex
from training.sources.base import ReadOptions, SourceFile
from training.sources.describe import ENVELOPE

KEPT = Path(__file__).parents[1] / "fixtures" / "both_sides"
READERS = {"claude_code": claude_code, "codex": codex}
SESSIONS = sorted(path.name for path in KEPT.iterdir())

# What a transcript doesn't tell, beside the envelope.
UNKNOWN = {
    "claude_code": {"effort", "provider_bound"},  # each only where the gateway has more than a 0
    "codex": set(),
}
# Only the first request of a conversation: later ones go by the usage of the one before.
AT_FIRST = {"context_tokens_est"}


def sides(name: str) -> list[tuple[RequestRecord, Facts]]:
    reader = READERS[name.removesuffix("_routed")]
    sent = json.loads((KEPT / name / "facts.json").read_bytes())
    records = [
        record
        for file in sorted((KEPT / name).glob("*.jsonl"))
        for record in reader.read(SourceFile(file, file.name), ReadOptions())
    ]
    return [(r, msgspec.convert(sent[r.provider_response_id], Facts)) for r in records]


@pytest.mark.parametrize("name", SESSIONS)
def test_no_fact_of_a_transcript_differs_from_the_bodies(name):
    held = sides(name)
    assert len(held) == (11 if name.startswith("claude") else 7)
    unknown_here = set()
    for record, sent in held:
        for field in Facts.__struct_fields__:
            told, was = getattr(record.facts, field), getattr(sent, field)
            if told is None and was is not None:
                unknown_here.add(field)
                assert field not in AT_FIRST or sent.turn == 0
            else:
                assert told == was, (record.turn, field)
    allowed = {*ENVELOPE, *AT_FIRST, *UNKNOWN[name.removesuffix("_routed")]}
    assert unknown_here <= allowed, unknown_here - allowed


@pytest.mark.parametrize("name", SESSIONS)
def test_an_alias_is_never_what_was_served(name):
    records = [record for record, _ in sides(name)]
    routed = name.endswith("_routed")
    assert "auto" not in {record.model_served for record in records}
    assert all(record.candidate is None for record in records)
    if name.startswith("claude"):  # the answer names its model
        assert {r.model_served for r in records if r.parent_session_id is None} == {
            "claude-opus-5-5" if routed else "claude-sonnet-4-5-20250929"
        }
    else:
        asked, served = ("auto", None) if routed else ("gpt-5.2-codex", "gpt-5.2-codex")
        assert {(r.model_requested, r.model_served) for r in records} == {(asked, served)}


def journal_lines(records: list[RequestRecord]) -> bytes:
    """The same calls as our gateway writes them down."""
    ours = [
        msgspec.structs.replace(
            record, request_id=f"req_{n:032x}", source="journal", source_file=None, source_row=None
        )
        for n, record in enumerate(records, start=1)
    ]
    return b"".join(msgspec.json.encode({"kind": "request", "record": r}) + b"\n" for r in ours)


def test_a_call_in_the_journal_and_in_a_transcript_is_counted_once(tmp_path):
    records = [record for record, _ in sides("claude_code")]
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1.jsonl").write_bytes(journal_lines(records))
    transcripts, journal = KEPT / "claude_code", tmp_path / "journal"
    alone = ingest([journal], tmp_path / "alone", form=None)
    both = ingest([transcripts, journal], tmp_path / "both")
    assert (both.kept, both.duplicates) == (11, 11)
    assert both.cost_usd == pytest.approx(alone.cost_usd)
    assert both.cost_usd > 0
    frame = LogStore(tmp_path / "both").scan("request").collect()
    assert set(frame["source"]) == {"journal"}  # whichever order the sources are named in
    later = ingest([transcripts], tmp_path / "alone")  # in a run of its own: known from the log on disk
    assert (later.kept, later.duplicates) == (0, 11)


def test_two_lines_of_the_journal_are_two_calls(tmp_path):
    """Local servers answer under ids that come again, such as chatcmpl-417, and so do scripted ones."""
    (record, _), *_ = sides("codex")
    (tmp_path / "1.jsonl").write_bytes(journal_lines([record, record]))
    assert ingest([tmp_path / "1.jsonl"], tmp_path / "log").kept == 2


def test_a_counting_answer_id_makes_no_two_calls_one(tmp_path):
    (record, _), *_ = sides("codex")
    local = [msgspec.structs.replace(record, provider_response_id="chatcmpl-417", source=s) for s in "ab"]
    store = LogStore(tmp_path / "log")
    named = [msgspec.structs.replace(r, request_id=r.source) for r in local]
    assert store.append("request", named).added == 2
