"""The law of ingestion: read = kept + duplicates + refused, whatever happens to the bytes."""

import gzip
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import BadInput
from training.account import IngestResult
from training.ingest import ingest
from training.log import LogStore
from training.sources import FORMATS, base, values
from training.sources.base import ReadOptions, SourceFile

RECORDED = Path(__file__).parents[2] / "sample" / "logs"
NOW = 1_795_000_000_000


def journal_lines() -> list[bytes]:
    record = {"session_id": "s", "ts_ms": NOW, "source": "journal"}
    pairs = [{"kind": "request", "record": {**record, "request_id": f"r{n}"}} for n in range(6)]
    return [msgspec.json.encode(pair) for pair in pairs]


def table_lines() -> list[bytes]:
    return [
        b"session,ts_ms,model,input_tokens_uncached,output_tokens",
        *(b"s,179000000000%d,m,1,2" % n for n in range(6)),
    ]


SAMPLES: dict[str, list[bytes]] = {
    "journal": journal_lines(),
    "table": table_lines(),
    "claude_code": max(RECORDED.rglob("claude_code/**/*.jsonl"), key=lambda f: f.stat().st_size)
    .read_bytes()
    .split(b"\n"),
    "codex": next(RECORDED.rglob("codex/**/*.jsonl")).read_bytes().split(b"\n"),
}

junk = st.binary(max_size=40) | st.sampled_from(
    [b"\x00", b"{}", b"[]", b'{"type": "user"}', b"null", b'"', b"\xff\xfe"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """Lines of a real format: doubled, cut, with bytes and values changed, maybe packed and cut."""
    name = draw(st.sampled_from(sorted(SAMPLES)))
    lines = [line for line in SAMPLES[name] if line]
    first = draw(st.integers(0, max(0, len(lines) - 12)))
    lines = lines[first : first + 12]
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                lines[at] = lines[at][: draw(st.integers(0, max(1, len(lines[at]))))]
            case 1:
                lines.insert(at, draw(junk))
            case 2:
                lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
            case 3 if lines[at]:
                place = draw(st.integers(0, len(lines[at]) - 1))
                lines[at] = (
                    lines[at][:place] + draw(st.binary(min_size=1, max_size=2)) + lines[at][place + 1 :]
                )
            case _:
                lines[at] = change_value(draw, lines[at])
    raw = b"\n".join(lines) + draw(st.sampled_from([b"", b"\n"]))
    if draw(st.booleans()):
        raw = gzip.compress(raw)
        raw = raw[: draw(st.integers(len(raw) // 2, len(raw)))]
    return name, raw


def change_value(draw: st.DrawFn, line: bytes) -> bytes:
    """Put any JSON value in the place of one of the line's, at the top or one level down."""
    try:
        item = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return line
    target = item
    for _ in range(draw(st.integers(0, 3))):
        inner = [
            value
            for value in (target.values() if isinstance(target, dict) else ())
            if isinstance(value, dict)
        ]
        target = draw(st.sampled_from(inner)) if inner else target
    if not isinstance(target, dict) or not target:
        return line
    target[draw(st.sampled_from(sorted(target)))] = draw(json_values)
    return msgspec.json.encode(item)


def adds_up(result: IngestResult, folder: Path) -> None:
    assert result.read == result.kept + result.duplicates + result.refused
    assert result.refused == sum(why.count for why in result.refused_by_reason.values())
    for name in ("read", "kept", "duplicates", "refused"):
        parts = sum(getattr(count, name) for count in result.formats.values())
        assert parts == getattr(result, name)
    stored = sum(LogStore(folder).scan(kind).collect().height for kind in ("request", "decision", "outcome"))
    assert stored == result.kept == sum(result.kinds.values())


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_every_row_is_accounted_for(case):
    name, raw = case
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "in.log"
        file.write_bytes(raw)
        if not raw:
            return
        try:
            result = ingest([file], Path(folder) / "log", form=name, now_ms=NOW)
        except BadInput:  # a table whose header was hit; any other error fails the test
            assert name == "table"
            return
        adds_up(result, Path(folder) / "log")
        again = ingest([file], Path(folder) / "log", form=name, now_ms=NOW)
        assert again.kept == 0


KEYS = [
    "type", "payload", "message", "sessionId", "uuid", "request_id", "startTime", "model", "attributes",
    "spans", "resourceSpans", "request", "response", "body", "messages", "usage", "kind", "record", "session",
    "ts_ms",
    "timestamp", "metadata", "input_tokens_uncached", "output_tokens", "context",
]  # fmt: skip
objects = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.lists(json_values | objects, max_size=5))
def test_no_json_makes_a_reader_fall_over(name, items):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "in.jsonl"
        file.write_bytes(b"".join(msgspec.json.encode(item) + b"\n" for item in items))
        try:
            for item in FORMATS[name].read(SourceFile(file, "in.jsonl"), ReadOptions()):
                assert isinstance(item, base.Refusal) or item.source
        except BadInput:
            assert name == "table"


@given(json_values)
def test_values_are_read_or_unknown_and_never_raise(value):
    for read in (
        values.count,
        values.number,
        values.usd,
        values.ms,
        values.text,
        values.identity,
        values.basename,
    ):
        read(value)
    moment = values.ms(value)
    assert moment is None or values.EARLIEST_MS <= moment <= values.LATEST_MS


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1_790_000_000, 1_790_000_000_000),
        (1_790_000_000_000, 1_790_000_000_000),
        (1_790_000_000_000_000, 1_790_000_000_000),
        ("1790000000000000000", 1_790_000_000_000),
        ("2026-09-21T14:13:20Z", 1_790_000_000_000),
        ("2026-09-21 14:13:20", 1_790_000_000_000),
        ("2026-09-21T16:13:20+02:00", 1_790_000_000_000),
        (0, None),
        (-5, None),
        ("yesterday", None),
        (True, None),
        (float("nan"), None),
    ],
)
def test_times_in_any_unit(value, moment):
    assert values.ms(value) == moment
