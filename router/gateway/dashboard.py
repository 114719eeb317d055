"""The page at /: what is served, what it decided last, without a word of any prompt."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from router.gateway.call import chosen_arm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from features.records import DecisionRecord
    from router.gateway.service import Gateway

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>samediff</title>
<meta http-equiv="refresh" content="10">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0 2rem }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums }}
.notice {{ background: #fff6d6; padding: .5rem .8rem }}
</style></head><body>
<h1>samediff</h1>
{notice}
<table>{facts}</table>
<h2>Last decisions</h2>
<table><tr><th>Time (UTC)</th><th>Session</th><th>Asked for</th><th>Chosen</th><th>Expected USD</th>
<th>Decided in</th><th>Why</th></tr>{decisions}</table>
</body></html>
"""


def page(gateway: Gateway) -> str:
    """Write the page."""
    decider, counters = gateway.decider, gateway.metrics
    unknown = counters.total("samediff_cost_unknown_total")
    facts = [
        ("Bundle", f"{decider.bundle.kind}, {decider.bundle.digest[:12]}"),
        ("Policy", decider.policy.name),
        ("Catalogue", f"{len(decider.catalog.candidates)} candidates, {decider.catalog.digest}"),
        ("Requests", f"{counters.total('samediff_requests_total'):.0f}"),
        (
            "Cost",
            f"${counters.total('samediff_cost_usd_total'):.4f} and {unknown:.0f} requests of unknown cost",
        ),
        ("Journal", f"{gateway.journal.written} records written, {gateway.journal.dropped} dropped"),
    ]
    notice = ""
    if decider.bundle.kind == "prior":
        notice = (
            '<p class="notice">Runs on the prior that ships: nothing has been learned from your logs yet.</p>'
        )
    if gateway.refused:
        notice += f'<p class="notice">{escape(gateway.refused)}</p>'
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts)
    return _PAGE.format(notice=notice, facts=rows, decisions="".join(_rows(gateway.recent)))


def _rows(recent: Iterable[DecisionRecord]) -> Iterable[str]:
    for receipt in reversed(list(recent)):
        when = datetime.fromtimestamp(receipt.ts_ms / 1000, tz=UTC).strftime("%H:%M:%S")
        usd = chosen_arm(receipt).cost_usd
        cost = "unknown" if usd is None else f"{usd:.5f}"
        asked = next((c.partition("=")[2] for c in receipt.constraints if c.startswith("model=")), "")
        cells = [when, receipt.session_id[:18], asked, receipt.chosen]
        took = "" if receipt.decide_ms is None else f"{receipt.decide_ms:.2f} ms"
        yield (
            "<tr>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + f'<td class="n">{cost}</td><td class="n">{took}</td>'
            + f"<td>{escape(receipt.reasons[0] if receipt.reasons else '')}</td></tr>"
        )
