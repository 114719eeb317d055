"""Every row of the cache rules says what its source says, and is found by seller, model, date and mode."""

# ruff: noqa: E501 (a row of the table a line)
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.cache import CacheRequest, CacheState, after, read, read_rules, rules_for, why_no_rules
from features.cache.rules import DOUBT, plain_name
from features.errors import BadInput

FACTS = "FACTS 1"


def ms(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp() * 1000


# id, seller, a model it holds for, explicit, then what FACTS 1 says of it: floor, block, match, read share,
# (class, seconds, write share) of each lifetime, scope.
PAID = [("5m", 300, 1.25), ("1h", 3600, 2.0)]
QWEN4 = [("5m", 300, 1.25), ("1h", 3600, 1.25)]
IDLE = [("idle", 300, None), ("24h", 86400, None)]
IMPLICIT = [("implicit", 300, None)]
OWN = [("own", 3600, 1.0)]
REGION = "account and region"
SAID = [
    ("anthropic", "anthropic", "claude-opus-5", False, 512, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic", "anthropic", "claude-fable-5", False, 512, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-opus-5-5", "anthropic", "claude-opus-5-5", False, 512, 1, "marked", 0.05, PAID, "workspace"),
    ("anthropic-1024", "anthropic", "claude-sonnet-4-5-20250929", False, 1024, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-1024", "anthropic", "claude-sonnet-4-6", False, 1024, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-1024", "anthropic", "claude-sonnet-5", False, 1024, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-1024", "anthropic", "claude-opus-4-1", False, 1024, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-1024", "anthropic", "claude-opus-4-8", False, 1024, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-sonnet-5-5", "anthropic", "claude-sonnet-5-5", False, 1024, 1, "marked", 0.05, PAID, "workspace"),
    ("anthropic-opus-4-7", "anthropic", "claude-opus-4-7", False, 4096, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-4096", "anthropic", "claude-opus-4-5-20251101", False, 4096, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-4096", "anthropic", "claude-opus-4-6", False, 4096, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-4096", "anthropic", "claude-haiku-4-5", False, 4096, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-haiku-5-5", "anthropic", "claude-haiku-5-5", False, 4096, 1, "marked", 0.1, PAID, "workspace"),
    ("anthropic-other", "anthropic", "claude-3-opus", False, 1024, 1, "marked", 0.1, PAID, "workspace"),
    ("openai-5-6", "openai", "gpt-5.6", False, 1024, 1, "marked", 0.1, [("30m", 1800, 1.25)], "organisation"),
    ("openai-5-6", "openai", "gpt-6-codex", False, 1024, 1, "marked", 0.1, [("30m", 1800, 1.25)], "organisation"),
    ("openai-5", "openai", "gpt-5.4", False, 1024, 128, "prefix", 0.1, IDLE, "organisation"),
    ("openai-4o", "openai", "gpt-4o-mini", False, 1024, 128, "prefix", 0.5, IDLE, "organisation"),
    ("gemini-flash", "google", "gemini-3.5-flash", False, 1024, 1, "prefix", 0.1, IMPLICIT, "project"),
    ("gemini-pro", "google", "gemini-3.1-pro", False, 4096, 1, "prefix", 0.1, IMPLICIT, "project"),
    ("gemini-explicit-flash", "google", "gemini-3.5-flash", True, 1024, 1, "named", 0.1, OWN, "project"),
    ("gemini-explicit-pro", "google", "gemini-3.1-pro", True, 4096, 1, "named", 0.1, OWN, "project"),
    ("deepseek", "deepseek", "deepseek-v4-pro", False, 64, 64, "prefix", 0.033, [("disk", 7200, None)], "account"),
    ("moonshot-k2", "moonshotai", "kimi-k2.6", False, 1, 1, "prefix", 0.2, IMPLICIT, "account"),
    ("kimi-k3", "moonshotai", "kimi-k3", False, 1, 1, "prefix", 0.1, [("5m", 300, 1.0), ("1h", 3600, 2.0)], "account"),
    ("qwen-explicit", "alibaba", "qwen3.7-max", True, 1024, 1, "marked", 0.1, [("5m", 300, 1.25)], REGION),
    ("qwen4-explicit", "alibaba", "qwen4-max", True, 1024, 1, "marked", 0.1, QWEN4, REGION),
    ("qwen-implicit", "alibaba", "qwen3.7-max", False, 1024, 1, "prefix", 0.2, [("5m", 300, None)], REGION),
    ("vllm", "vllm", "qwen3-coder-30b", False, 16, 16, "prefix", 0.0, [("lru", None, None)], "replica"),
]  # fmt: skip


@pytest.mark.parametrize("said", SAID, ids=[f"{row[0]}:{row[2]}" for row in SAID])
def test_a_row_says_what_its_source_says(said) -> None:
    row_id, seller, model, explicit, floor, block, match, read_x, lifetimes, scope = said
    row = rules_for(seller, model, ms(2026, 11, 21), explicit=explicit)
    assert row is not None
    assert row.id == row_id
    assert row.source.startswith(FACTS)
    assert (row.floor_tokens, row.block_tokens, row.match, row.read_x) == (floor, block, match, read_x)
    assert [(kept.name, kept.ttl_s, kept.write_x) for kept in row.lifetimes] == lifetimes
    assert row.scope_of(seller) == scope
    # What the row says is what the simulator does, on both sides of the floor.
    assert read(row, CacheState(), CacheRequest("k", floor - 1), 0).why == "below_floor"
    warm = after(row, CacheState(), CacheRequest("k", floor + block), None, 0)
    assert read(row, warm, CacheRequest("k", floor + block), 1).read >= floor
    if (ttl := row.lifetimes[0].ttl_s) is not None:
        gone = (row.lifetimes[0].gone_s or ttl) * 1000
        assert read(row, warm, CacheRequest("k", floor + block), ttl * 1000).hit > 0
        assert read(row, warm, CacheRequest("k", floor + block), gone + 1).why == "ttl_expired"


def test_every_row_is_named_above() -> None:
    missing = {row.id for row in read_rules()} - {row[0] for row in SAID} - {"anthropic-sonnet-5-5-before"}
    assert not missing


def test_sonnet_5_5_reads_got_cheaper_in_october() -> None:
    before = rules_for("anthropic", "claude-sonnet-5-5", ms(2026, 10, 6, 23, 59))
    since = rules_for("anthropic", "claude-sonnet-5-5", ms(2026, 10, 7))
    assert before is not None
    assert since is not None
    assert (before.id, before.read_x) == ("anthropic-sonnet-5-5-before", 0.1)
    assert (since.id, since.read_x) == ("anthropic-sonnet-5-5", 0.05)


def test_what_anthropic_and_qwen_allow_of_markers() -> None:
    for seller, model in (("anthropic", "claude-opus-5"), ("alibaba", "qwen3.7-max")):
        row = rules_for(seller, model, explicit=True)
        assert row is not None
        assert (row.marks_max, row.lookback_blocks, row.automatic) == (4, 20, False)


def test_what_invalidates_at_anthropic() -> None:
    row = rules_for("anthropic", "claude-opus-4-6")
    assert row is not None
    assert row.invalidators == ("tools", "tool_choice", "images", "thinking", "model")


def test_bedrock_and_vertex_share_by_organisation() -> None:
    for seller in ("bedrock", "aws", "vertex"):
        row = rules_for(seller, "us.anthropic.claude-opus-4-6-20260205-v1:0")
        assert row is not None
        assert row.scope_of(seller) == "organisation"


def test_openai_before_5_6_is_best_effort() -> None:
    row = rules_for("openai", "gpt-5.3-codex")
    assert row is not None
    assert row.hits == (9 + 550, 14 + 589)  # published and measured
    assert row.lifetimes[0].alive(5 * 60_000) == 1
    assert row.lifetimes[0].alive(60 * 60_000) == 0
    assert 0 < row.lifetimes[0].alive(10 * 60_000) < 1


def test_qwen_caches_exist_only_after_the_response() -> None:
    row = rules_for("alibaba", "qwen3.7-max", explicit=True)
    assert row is not None
    assert row.visible == "ended"


def test_a_doubt_lowers_the_certainty() -> None:
    sure, unsure = (rules_for("anthropic", m) for m in ("claude-opus-4-6", "claude-opus-4-7"))
    assert sure is not None
    assert unsure is not None
    assert sure.certainty() == 1
    assert unsure.certainty() == DOUBT
    resold = rules_for("openrouter", "anthropic/claude-opus-4.6")
    assert resold is not None
    assert resold.id == "anthropic-4096"
    assert resold.certainty() == DOUBT


def test_unknown_is_unknown_and_says_where_to_put_it() -> None:
    assert rules_for("nobody", "no-such-model") is None
    assert rules_for(None, "no-such-model") is None
    assert rules_for("anthropic", "gpt-5.4") is None
    said = why_no_rules("nobody", "no-such-model")
    assert "features/cache/rules.toml" in said
    split = read(None, CacheState(), CacheRequest("k", 5_000), 0)
    assert (split.fresh, split.sure, split.why) == (5_000, 0, "no_rules")


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("anthropic/claude-opus-4.6", "claude-opus-4-6"),
        ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("openai/gpt-5.4-2026-03-05", "gpt-5-4"),
        ("gpt-5.4@high", "gpt-5-4"),
        ("Claude-3-5-Sonnet-Latest", "claude-3-5-sonnet"),
    ],
)
def test_names_are_matched_plain(said: str, plain: str) -> None:
    assert plain_name(said) == plain


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[[rules]]\nid = 'a'\n", "a: Object missing required field"),
        ("[[rules]]\nid = 'a'\nlike = 'b'\n", "a.like: no row 'b' above it"),
        ("[[rules]\n", "cache rules own.toml"),
        ("[[rules]]\nid = 'a'\nlifetime = 3\n", "unknown field `lifetime`"),
    ],
)
def test_a_broken_table_names_its_row(tmp_path: Path, text: str, names: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_rules(own)
    assert names in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("ttl_s = 1800", "ttl_s = 1800, gone_s = 60", "gone_s is not after ttl_s"),
        ("hits = [559, 603]", "hits = [604, 603]", "hits"),
        ("block_tokens = 128", "block_tokens = 0", "at least 1"),
    ],
)
def test_a_row_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, names: str) -> None:
    from features.cache.rules import TABLE

    own = tmp_path / "own.toml"
    own.write_text(TABLE.read_text().replace(old, new))
    with pytest.raises(BadInput, match=names):
        read_rules(own)


@given(
    row=st.sampled_from(read_rules()),
    at=st.integers(0, 3),
    ages=st.lists(st.floats(-1e6, 1e9) | st.sampled_from([0.0, 300e3, 1800e3, 3600e3, 86400e3]), max_size=6),
)
def test_those_that_live_are_those_with_a_chance(row, at, ages) -> None:
    lifetime, now = row.lifetimes[at % len(row.lifetimes)], 2.0**41
    entries = [(n, now - age) for n, age in enumerate(ages)]
    assert lifetime.living(entries, now) == [e for e in entries if lifetime.alive(now - e[1]) > 0]
