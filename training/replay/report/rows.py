"""Entries as rows of the answer: intervals of money over sessions, savings beside the logged policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec import to_builtins

from training.replay.logged import lengths
from training.replay.quality.bootstrap import spread
from training.replay.quality.differences import Pairs
from training.replay.report.result import Row

if TYPE_CHECKING:
    from training.replay.cost.factors import Factors
    from training.replay.options import Options
    from training.replay.policies.entries import Entry
    from training.replay.quality.bootstrap import Ends
    from training.replay.quality.clusters import Clusters
    from training.replay.quality.quoted import Quality


class Over(NamedTuple):
    """What intervals of money are over, what its factors add to them, and how often it is drawn again."""

    clusters: Clusters
    factors: Factors | None
    options: Options
    lengths: np.ndarray | None = None  # (k,) relative errors of those of answers

    def paid(self, entry: Entry) -> np.ndarray:
        """USD (C,) of each cluster, with its share of the router's own."""
        return self.clusters.sums(entry.usd + entry.router_usd / len(entry.usd))

    def felt(self, entry: Entry) -> np.ndarray:
        """What factors and lengths of answers add to each cluster's USD (C,) as these are drawn again."""
        felt = 0.0 if self.factors is None else self.factors.felt(entry.lent)
        billed = self.clusters.sums(np.broadcast_to(felt, len(entry.usd)))
        return billed + lengths.felt(entry.wrote, self.lengths, self.clusters.many)


def rows_of(entries: list[Entry], base: str, over: Over, calls: int) -> list[Row]:
    """Rows in the order of the entries; savings are beside the entry named `base`.

    Who refuses all `calls` saves nothing: nobody was answered.
    """
    known = [entry for entry in entries if np.isfinite(entry.usd).all()]
    known.sort(key=lambda entry: entry.name != base)
    drawn = np.stack([over.paid(entry) + over.felt(entry) for entry in known])
    ends = spread(drawn, over.options.draws, over.options.seed)
    place = {id(entry): i for i, entry in enumerate(known)}
    today = known[0].total
    rows = []
    for entry in entries:
        i = place.get(id(entry))
        total = None if i is None else _ends(ends.total[i]) if ends else None
        saving = None if i is None else _ends(ends.saving[i]) if ends else None
        row = _row(entry, today, total, saving)
        if entry.refused >= calls:
            row.saving = row.saving_ci = None
        if row.missing is not None and (row.missing.get("pairs") or 0) > calls:
            row.missing["calls_there"] = calls  # each can be asked once
        rows.append(row)
    return rows


def pairs_of(entries: list[Entry], over: Over) -> Pairs:
    """What differences of any two of the entries are told from."""
    known = [entry for entry in entries if np.isfinite(entry.usd).all()]
    return Pairs(
        scores={e.name: e.quality.scores for e in entries if e.quality.scores is not None},
        usd={entry.name: over.paid(entry) for entry in known},
        spread={entry.name: over.felt(entry) for entry in known},
        draws=over.options.draws,
        seed=over.options.seed,
    )


def _ends(pair: np.ndarray) -> Ends | None:
    low, high = float(pair[0]), float(pair[1])
    return (low, high) if np.isfinite([low, high]).all() else None


def _row(entry: Entry, today: float, total: Ends | None, saving: Ends | None) -> Row:
    said: Quality = entry.quality
    cost = entry.total if np.isfinite(entry.total) else None
    return Row(
        name=entry.name,
        role=entry.role,
        said=entry.said,
        cost_usd=cost,
        cost_usd_ci=total,
        saving=None if cost is None or not today > 0 else 1 - cost / today,
        saving_ci=saving,
        quality=said.quality,
        quality_ci=said.ci,
        quality_how=said.how,
        quality_gain=said.gain,
        quality_gain_ci=said.gain_ci,
        by_session=None if said.by_session is None else said.by_session._asdict(),
        switches=entry.switches,
        unsafe_switches=entry.unsafe,
        ess=said.ess,
        supported=said.supported,
        why=said.why if cost is not None else said.why or "no price is known of a candidate in it",
        missing=None if said.missing is None else to_builtins(said.missing),
        share=dict(sorted(entry.share.items(), key=lambda item: -item[1])),
        parts=entry.parts,
        refused=entry.refused,
        cached_tokens=entry.read,
        router_usd=entry.router_usd,
    )
