"""Are recorded bills met? Three sets of recorded sessions, ingested and priced again under their own route.

    python tests/bench/bench_bill.py DATA [--every]

DATA holds agent_sessions_per_turn, vexp_claude_code_100 and rails_app_benchmark_runs as Parquet. The rails
runs name their models for people ("Claude Opus 4.6 (Claude Code)"): a price file's [names] is made of these
by rule, and what the rule doesn't find is named. `--every` lists all sessions that are off by more than 5 %.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import polars as pl
from genai_prices.data_snapshot import get_snapshot

from router import prices
from training.ingest import run as ingest
from training.spend.agree import REASONS, Agreement, agreement
from training.spend.calls import read_calls

AGENTS, VEXP, RAILS = "agent_sessions_per_turn", "vexp_claude_code_100", "rails_app_benchmark_runs"
SOURCES = {  # set -> how its columns are named
    AGENTS: (),
    VEXP: ("session=task_id", "ts_ms=@file", "input_tokens_uncached=input_tokens"),
    RAILS: ("session=run", "ts_ms=@file", "n_turns=n_phases"),
}
SELLERS = (  # how a rails run was billed -> whose list its cost goes by
    ("openrouter", "openrouter"),
    ("claude", "anthropic"),
    ("chatgpt", "openai"),
    ("gemini", "google"),
    ("z.ai", "zai"),
    ("kimi", "moonshotai"),
)
FIRST = 12  # sessions shown


def main() -> None:
    """Compare the sets one by one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for name, maps in SOURCES.items():
            source, log = options.data / f"{name}.parquet", Path(place) / name
            if not source.is_file():
                parser.error(f"{source}: no such file")
            own = rails_names(source, Path(place)) if name == RAILS else None
            prices.use(own)
            ingest([source], log, form="table", maps=maps)
            show(name, agreement(read_calls(log)), FIRST if not options.every else 10**6)


def show(name: str, found: Agreement, most: int) -> None:
    """Print one set's errors, and the sessions that are off with what explains them."""

    def share(value: float | None) -> str:
        return "unknown" if value is None else f"{value:+.2%}"

    print(f"\n{name}: {found.calls:,} rows of {found.sessions} sessions have a recorded cost and a price")
    print(
        f"  recorded ${found.recorded_usd:.4f}, by the table ${found.listed_usd:.4f}: "
        f"total {share(found.relative_error)}, median session {share(found.session_median_error)}, "
        f"with the explanations put right {share(found.explained_relative_error)}"
    )
    print(f"  off by more than 5 %: {found.sessions_off}, unexplained {found.sessions_unexplained}")
    for reason, count in found.reasons.items():
        print(f"    {count:3}  {reason}: {REASONS[reason]}")
    for off in found.off[:most]:
        money = f"${off.recorded_usd:9.4f} -> ${off.listed_usd:9.4f} {share(off.error):>9}"
        print(f"    {off.session[:36]:36} {money}  {off.reason}: {off.detail}")


def rails_names(source: Path, place: Path) -> Path:
    """Write the price file that says which model each run's name stands for."""
    runs = pl.read_parquet(source).filter(pl.col("cost_usd") > 0).select("model", "label", "billing").unique()
    names, lost = {}, []
    for model, label, billing in runs.sort("model").iter_rows():
        seller = next((ours for mark, ours in SELLERS if mark in billing.lower()), None)
        found = listed(seller, label) if seller else None
        if found is None:
            lost.append(label.partition(" (")[0])
        else:
            names[model] = f"{seller}/{found}"
    print(
        f"rails: {len(names)} of {len(runs)} names found in the price table, not {', '.join(lost) or 'one'}"
    )
    file = place / "prices.toml"
    file.write_text("[names]\n" + "".join(f'"{name}" = "{target}"\n' for name, target in names.items()))
    return file


def listed(seller: str, label: str) -> str | None:
    """The seller's name for a model that people call so."""
    said = _letters(re.sub(r"@.*|xhigh", "", label.partition(" (")[0].lower()))
    wanted = {said, said.removeprefix("xiaomi"), said.replace("coding", "code")}
    provider = next(p for p in get_snapshot().providers if p.id == seller)
    spelled = {_letters(model.id.lower().rpartition("/")[2]): model.id for model in provider.models}
    undated = {re.sub(r"(preview|\d{8})$", "", spelling): name for spelling, name in spelled.items()}
    return next((names[w] for names in (spelled, undated) for w in wanted if w in names), None)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)


if __name__ == "__main__":
    main()
