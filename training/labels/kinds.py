"""The kinds of evidence as one table: how often each is right, and why we say so.

`good` is P(success) once it says good, `bad` once it says bad, both at even odds and alone. Figures are
measured or published where the reason says so; the others are stated, modest on purpose, and give way to what
a log shows as soon as its sources overlap enough.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Family = Literal["score", "tests", "person", "conduct", "diff"]


class Kind(NamedTuple):
    """One kind of evidence; of one family only the strongest word in each direction counts."""

    family: Family
    good: float
    bad: float
    reason: str


KINDS: dict[str, Kind] = {
    # reported to us
    "score": Kind("score", 1.0, 0.0, "it defines success where a data set brings it"),
    "tests": Kind(
        "tests", 0.80, 0.05, "19.8 % of passing patches fail stronger tests (SWE-ABS); failing: stated"
    ),
    "feedback": Kind("person", 0.90, 0.10, "stated: a person looked"),
    # two answers compared
    "same": Kind(
        "diff",
        0.985,
        0.5,
        "P(success | same as a right diff), 13 agents × 500 tasks; the reference counts as right",
    ),
    "same_lines": Kind(
        "diff", 0.90, 0.5, "stated: the same changed lines, but the base and so the place isn't known"
    ),
    "agreement": Kind(
        "diff", 0.71, 0.5, "two agents agree in 26 % if both succeed, 9 % if both fail, 2.3 % else; by Bayes"
    ),
    "similar": Kind("diff", 0.65, 0.5, "stated, at similarity 1; a likeness is no verdict"),
    # read out of the log
    "tests_after_edit": Kind("tests", 0.80, 0.25, "as tests; a failure may be older than the edit (stated)"),
    "tests_later": Kind("tests", 0.65, 0.40, "stated: another edit stands between this one and the run"),
    "edit_failed": Kind(
        "conduct", 0.5, 0.25, "stated: the edit was not made, though the next turn may mend it"
    ),
    "tool_call_broken": Kind(
        "conduct", 0.5, 0.30, "stated: its client can't carry the call out, though the next turn may mend it"
    ),
    "correction": Kind("conduct", 0.5, 0.30, "stated: the next message reads like a correction"),
    "rejection": Kind("conduct", 0.5, 0.25, "stated: the person refused the tool call"),
    "reverted": Kind("conduct", 0.5, 0.25, "stated: git took the work tree back"),
    "undone": Kind("conduct", 0.5, 0.25, "stated: the next edit puts the lines back"),
    "abandoned": Kind("conduct", 0.5, 0.42, "stated: it ended in the middle, for whatever reason"),
    "accepted": Kind("conduct", 0.55, 0.5, "stated: the person went on without a word against it"),
}

ANCHOR = "score"

# What `samediff label` reads out of the log; an outcome's source is then its kind.
DERIVED: dict[str, Literal["tests", "signal"]] = {
    "tests_after_edit": "tests",
    "tests_later": "signal",
    **{name: "signal" for name, kind in KINDS.items() if kind.family == "conduct"},
}
# Kinds that can say either, and mean it: what one may count on. Of the others one hears only when it went one
# way, so that learning from their rows alone would learn that everything does.
VERDICTS = ("score", "tests", "feedback", "tests_after_edit")
MIN_LABELLED = 50  # answers; below this neither a split nor a calibration means anything
PAIRS = "diff"  # the source of pairs of logged answers


def stated(kind: str, *, good: bool) -> float:
    """P(success) that one word of this kind stands for."""
    return KINDS[kind].good if good else KINDS[kind].bad
