"""Rows that sum up several calls: found, flagged, and never priced as one very long prompt."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from spend_logs import START_MS

from training.ingest import run as ingest
from training.log import LogStore

ROW = {"session": "s", "ts_ms": START_MS, "model": "gpt-5.4", "cached_tokens": 0, "output_tokens": 1_000}
SHORT, LONG = Decimal("2.5"), Decimal(5)  # USD per million of input up to 272,000 tokens, and beyond


def requests(tmp_path, *rows):
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in rows))
    ingest([table], tmp_path / "log", form="table", prompts="none")
    columns = ("cost_usd", "flags", "attempts")
    return LogStore(tmp_path / "log").scan("request").sort("turn").select(columns).collect().rows()


@pytest.mark.parametrize(
    ("row", "rate", "flag", "attempts"),
    [
        ({"input_tokens_uncached": 272_000}, SHORT, None, None),
        ({"input_tokens_uncached": 272_001}, LONG, None, None),
        ({"input_tokens_uncached": 400_000, "n_turns": 1}, LONG, None, 1),
        ({"input_tokens_uncached": 400_000, "n_turns": 9}, SHORT, ["run_totals"], 9),
        ({"input_tokens_uncached": 24_000_000}, SHORT, ["over_window"], None),
    ],
)
def test_only_one_calls_length_sets_its_price(tmp_path, row, rate, flag, attempts) -> None:
    ((cost, flags, calls),) = requests(tmp_path, row)
    output = Decimal("0.0225") if rate is LONG else Decimal("0.015")
    assert cost == row["input_tokens_uncached"] * rate / 1_000_000 + output
    assert (flags, calls) == (flag, attempts)
