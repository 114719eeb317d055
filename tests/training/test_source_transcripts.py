"""Transcripts of the real Claude Code and Codex, recorded by tests/fixtures/record_clients.py."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from features.records import RequestRecord
from training.ingest import ingest
from training.log import LogStore
from training.sources import claude_code, codex, detect
from training.sources.base import UNFINISHED, ReadOptions, Refusal, SourceFile

RECORDED = Path(__file__).parents[2] / "sample" / "logs"
CLAUDE = sorted((RECORDED / "claude_code").rglob("*.jsonl"))
(CODEX,) = (RECORDED / "codex").rglob("*.jsonl")


def main_file() -> Path:
    """The session in which the task was done, not its fork: the one that has a folder of sub-agents."""
    return next(file for file in CLAUDE if file.with_suffix("").is_dir())


def read(reader, path: Path, **options: object) -> list[RequestRecord]:
    items = list(reader.read(SourceFile(path, path.name), ReadOptions(**options)))
    assert not [item for item in items if isinstance(item, Refusal)]
    return items


def rewrite(path: Path, to: Path, change) -> Path:
    lines = [change(msgspec.json.decode(line)) for line in path.read_bytes().splitlines()]
    to.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines if line is not None))
    return to


def test_formats_are_told_by_content():
    assert {detect(file, ReadOptions()) for file in CLAUDE} == {"claude_code"}
    assert detect(CODEX, ReadOptions()) == "codex"


def test_claude_code_lines_of_one_message_are_one_request():
    records = read(claude_code, main_file())
    assert [record.turn for record in records] == list(range(9))
    first = records[0]
    assert first.tools_called == ["Read", "Read"]
    assert (first.input_tokens_uncached, first.cached_tokens, first.output_tokens) == (145, 0, 47)
    assert first.cache_write_tokens > 20_000
    assert first.finish_reason == "tool_use"
    assert (first.repo, first.branch, first.harness_version) == ("shop", "main", "2.1.197")
    assert first.parent_session_id is None
    assert len({record.request_id for record in records}) == 9


def test_claude_code_tells_the_session_so_far():
    facts = [record.facts for record in read(claude_code, main_file())]
    assert [f.n_test_runs for f in facts] == [0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert [f.last_tests_passed for f in facts] == [None, None, 0, 0, 0, 0, 1, 1, 1]
    assert [f.n_edit_failures for f in facts] == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert [f.user_corrections for f in facts] == [0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert facts[0].context_tokens_last is None
    assert all(f.context_tokens_est >= f.context_tokens_last for f in facts[1:])
    assert {f.provider_bound for f in facts} == {0, None}  # signed thinking: whether it was sent isn't told
    assert {f.body_bytes for f in facts} == {None}  # a transcript doesn't hold the request's envelope
    assert {f.n_tools for f in facts} == {None}


def test_claude_code_prefixes_chain():
    records = read(claude_code, main_file())
    for earlier, later in pairwise(records):
        assert later.prefix_hashes[: len(earlier.prefix_hashes)] == earlier.prefix_hashes


def test_claude_code_sub_agents_know_their_parent():
    (file,) = (file for file in CLAUDE if "subagents" in file.parts)
    records = read(claude_code, file)
    assert len(records) == 2
    assert {record.parent_session_id for record in records} == {main_file().stem}
    assert all(record.session_id.startswith(f"{main_file().stem}/") for record in records)
    assert {record.facts.is_subagent for record in records} == {1.0}
    assert {record.model_served for record in records} == {"claude-haiku-4-5-20251001"}


def test_claude_code_old_inline_side_chains_are_threads_of_their_own(tmp_path):
    (agent,) = (file for file in CLAUDE if "subagents" in file.parts)
    inline = rewrite(
        agent, tmp_path / "agent.jsonl", lambda line: {k: v for k, v in line.items() if k != "agentId"}
    )
    both = tmp_path / "both.jsonl"
    lines = main_file().read_bytes().splitlines(keepends=True)
    both.write_bytes(b"".join(lines[:16]) + inline.read_bytes() + b"".join(lines[16:]))
    records = read(claude_code, both)
    alone = {record.request_id: record for record in read(claude_code, main_file())}
    assert len(records) == len(alone) + 2
    assert sum(record.parent_session_id is not None for record in records) == 2
    for record in records:
        if record.parent_session_id is None:
            assert record.facts == alone[record.request_id].facts


def test_claude_code_refused_request_is_an_error_without_usage():
    (record,) = next(records for file in CLAUDE if len(records := read(claude_code, file)) == 1)
    assert (record.status, record.http_status) == ("error", 400)
    assert record.output_tokens is None
    assert record.cost_usd is None


def test_claude_code_edited_turn_goes_back(tmp_path):
    """A user who edits an earlier prompt starts over from there: the turns between leave the context."""
    lines = [msgspec.json.decode(line) for line in main_file().read_bytes().splitlines()]
    prompts = [
        line for line in lines if line["type"] == "user" and isinstance(line["message"]["content"], str)
    ]
    last_answer = [line for line in lines if line["type"] == "assistant"][-1]
    edited = {**prompts[1], "uuid": "edited", "parentUuid": prompts[1]["parentUuid"]}
    message = {**last_answer["message"], "id": "msg_again"}
    answer = {
        **last_answer,
        "message": message,
        "requestId": "req_again",
        "parentUuid": "edited",
        "uuid": "again",
    }
    file = tmp_path / "s.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in [*lines, edited, answer]))
    records = read(claude_code, file)
    assert records[-1].prefix_hashes == records[7].prefix_hashes
    assert records[-1].facts.n_messages == records[7].facts.n_messages
    assert records[-1].turn == records[7].turn == 7


def test_claude_code_compaction_starts_over(tmp_path):
    lines = [msgspec.json.decode(line) for line in main_file().read_bytes().splitlines()]
    boundary = {"type": "system", "subtype": "compact_boundary", "sessionId": main_file().stem, "uuid": "b"}
    at = next(
        n
        for n, line in enumerate(lines)
        if str(line.get("message", {}).get("content")).startswith("No, total")
    )
    file = tmp_path / "s.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(x) + b"\n" for x in [*lines[:at], boundary, *lines[at:]]))
    records = read(claude_code, file)
    assert records[7].facts.n_messages == 1
    assert records[7].turn == 0


def test_claude_code_answer_without_an_end_is_refused_and_counted(tmp_path):
    def unfinish(line):
        if line["type"] == "assistant" and line["uuid"] == last["uuid"]:
            line["message"]["stop_reason"] = None
        return line

    last = [msgspec.json.decode(x) for x in main_file().read_bytes().splitlines() if b'"assistant"' in x][-1]
    file = rewrite(main_file(), tmp_path / "s.jsonl", unfinish)
    items = list(claude_code.read(SourceFile(file, file.name), ReadOptions()))
    assert [item.reason for item in items if isinstance(item, Refusal)] == [UNFINISHED]
    assert len(items) == 9


def test_codex_counts_each_answer_once():
    records = read(codex, CODEX)
    assert [record.turn for record in records] == list(range(7))
    assert [record.input_tokens_uncached + record.cached_tokens for record in records][:2] == [9939, 10291]
    assert (records[0].output_tokens, records[0].reasoning_tokens) == (37, 11)
    assert {record.reasoning_in_output for record in records} == {True}
    assert {record.effort for record in records} == {"medium"}
    assert {record.model_served for record in records} == {"gpt-5.2-codex"}
    assert records[0].request_id.startswith("resp_")
    assert (records[0].repo, records[0].harness_version) == ("shop", "0.169.0")
    assert records[0].tools_called == ["exec_command", "exec_command"]
    assert [r.facts.last_tests_passed for r in records] == [None, None, 0, 0, 1, 1, 1]
    assert records[-1].facts.user_corrections == 1


def test_codex_of_older_versions_is_read_from_token_counts(tmp_path):
    new = read(codex, CODEX)
    old_file = rewrite(
        CODEX, tmp_path / "old.jsonl", lambda x: None if x["type"] == "token_usage_record" else x
    )
    old = read(codex, old_file)
    for one, other in zip(new, old, strict=True):
        assert one.output_tokens == other.output_tokens
        assert one.cached_tokens == other.cached_tokens
        assert one.facts == other.facts
    assert old[3].request_id == f"{old[3].session_id}#3"


def test_codex_repeated_token_counts_are_no_requests(tmp_path):
    lines = CODEX.read_bytes().splitlines(keepends=True)
    doubled = tmp_path / "d.jsonl"
    doubled.write_bytes(b"".join(line * (2 if b'"token_count"' in line else 1) for line in lines))
    assert len(read(codex, doubled)) == 7


@pytest.mark.parametrize("reader_file", [(claude_code, main_file()), (codex, CODEX)])
def test_no_text_leaves_unless_told_to(reader_file):
    reader, file = reader_file
    kept = msgspec.json.encode(read(reader, file))
    assert b"calc.py" not in kept
    assert b"empty list" not in kept
    assert b"/home/" not in kept
    full = read(reader, file, prompts="full")
    assert "calc.py" in full[0].prompt_text
    assert full[-1].response_text
    bare = read(reader, file, prompts="none")
    assert {record.facts for record in bare} == {None}
    assert {record.prefix_hashes for record in bare} == {None}
    assert [r.output_tokens for r in bare] == [r.output_tokens for r in full]


def test_a_folder_of_transcripts_is_ingested_once(tmp_path):
    result = ingest([RECORDED / "claude_code", RECORDED / "codex"], tmp_path / "log")
    assert (result.read, result.kept, result.duplicates, result.refused) == (29, 20, 9, 0)
    frame = LogStore(tmp_path / "log").scan("request").collect()
    assert frame["session_id"].n_unique() == 5
    own = frame.filter(frame["session_id"] == main_file().stem)
    assert own.height == 9  # the fork's copies of them are the duplicates
    assert frame["cost_usd"].null_count() == 1
    again = ingest([RECORDED / "claude_code", RECORDED / "codex"], tmp_path / "log")
    assert (again.read, again.files_unchanged, again.rows_unchanged) == (0, 5, 29)
