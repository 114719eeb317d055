"""Answers with their diffs as rows: each beside the reference's diff, its own facts, and others' answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from features.answerfacts import after_vector, facts_of_edit
from features.diffs.judge import judge
from features.diffs.verdicts import SAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from features.answerfacts import AnswerFacts
    from features.diffs.edits import Edit


class Request(NamedTuple):
    """One request that several candidates answered: its text, its group, the reference's edit, theirs."""

    text: str
    group: str
    reference: Edit
    answers: Mapping[str, Edit]  # by candidate


class Answered(NamedTuple):
    """One candidate's answer: its facts, and whether it is the reference's diff; None where unknown."""

    request: int
    group: str
    candidate: str
    facts: AnswerFacts
    same: bool | None


def answered(
    requests: Sequence[Request], others: Mapping[int, Mapping[str, Sequence[str]]] | None = None
) -> list[Answered]:
    """Every answer; `others[i][candidate]` names whose answers to request i it may be compared with."""
    found = []
    for number, request in enumerate(requests):
        chosen = (others or {}).get(number, {})
        for candidate, edit in request.answers.items():
            beside = [request.answers[name] for name in chosen.get(candidate, ())]
            verdict = judge(request.reference, edit)
            same = None if verdict.level == "unknown" else verdict.level in SAME
            facts = facts_of_edit(edit, request.text, beside)
            found.append(Answered(number, request.group, candidate, facts, same))
    return found


def features_of(rows: Sequence[Answered]) -> np.ndarray:
    """Features (n, d) float32 of answers, without anything of their runs."""
    return after_vector([row.facts for row in rows], [None] * len(rows))
