"""An answer and the run behind it as plain numbers, and those numbers as the vector that heads are fitted on.

Like the facts of a request they hold no text, so a log may keep those of a private answer. What isn't known is
None, and NaN in the vector. One definition serves one answer and many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from features.diffs.calls import edit_of_calls, edit_of_text
from features.diffs.edits import Edit
from features.diffs.fingerprint import same_level
from features.editfacts import agreement_facts, edit_facts
from features.tools import tool_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.facts import Facts
    from features.wire.types import Part

_F = float | None
MAX_ANSWER_BYTES = 256 << 10  # of edit calls that are looked at; of a larger answer nothing is known


class AnswerFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The numbers of one answer's edit. Shares are in 0..1, all others are counts, flags are 0 or 1."""

    files: _F = None  # all that it touches; 0: it edits nothing
    code_files: _F = None
    test_files: _F = None
    doc_files: _F = None
    scratch_files: _F = None
    new_files: _F = None
    gone_files: _F = None
    folders: _F = None  # of the files that count, as everything below
    languages: _F = None
    hunks: _F = None
    added_lines: _F = None
    removed_lines: _F = None
    added_tokens: _F = None
    removed_tokens: _F = None
    net_lines: _F = None
    only_adds: _F = None
    only_removes: _F = None
    largest_share: _F = None  # of the tokens, that stand in the file changed most
    added_branches: _F = None  # words of the language among the tokens that come
    added_guards: _F = None
    added_raises: _F = None
    added_returns: _F = None
    added_definitions: _F = None
    added_imports: _F = None
    added_loops: _F = None
    added_calls: _F = None
    comment_share: _F = None  # of the lines that come
    kept_share: _F = None  # likeness of what goes and what comes: a small rewriting or a new piece
    fresh_names: _F = None  # that come and stand nowhere in the lines around
    changed_names: _F = None
    longest_line: _F = None
    symbols: _F = None  # declarations edited; this and the next need a grammar
    parses: _F = None  # share of the files
    paths_named: _F = None  # shares of what the salient text names: the files by path,
    modules_named: _F = None  # by name,
    symbols_named: _F = None
    added_named: _F = None  # the names that come,
    removed_named: _F = None
    fresh_named: _F = None  # those that come and didn't go,
    lines_said: _F = None  # and whole lines
    fixes_in_text: _F = None  # the text shows a diff
    # beside the edits of other candidates for the same request
    others: _F = None
    others_same: _F = None  # share of them that the judge calls the same diff
    others_close: _F = None  # the same, or the same symbols
    others_alike: _F = None  # mean similarity
    others_alike_best: _F = None
    others_alike_worst: _F = None
    others_touch: _F = None  # mean over our files of the share of others that touch it
    others_touch_least: _F = None
    others_overlap: _F = None  # files in common of all files
    others_files: _F = None
    others_added_tokens: _F = None
    others_removed_tokens: _F = None


class RunTotals(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run took until it answered. Normalised within a harness before anything is learned from it."""

    run_steps: _F = None
    run_reads: _F = None
    run_searches: _F = None
    run_edits: _F = None
    run_shells: _F = None
    run_other_calls: _F = None
    run_tool_errors: _F = None
    run_edit_failures: _F = None
    run_files_edited: _F = None
    run_tests: _F = None
    run_tests_passed: _F = None  # the last of them: 1 or 0
    run_tests_failed: _F = None
    run_repeats: _F = None
    run_since_progress: _F = None
    run_corrections: _F = None
    run_context_tokens: _F = None
    run_output_tokens: _F = None
    run_cost_usd: _F = None
    run_seconds: _F = None


EDIT_NAMES: tuple[str, ...] = AnswerFacts.__struct_fields__
RUN_NAMES: tuple[str, ...] = RunTotals.__struct_fields__
AFTER_NAMES: tuple[str, ...] = EDIT_NAMES + RUN_NAMES

_FROM_REQUEST = {  # run total -> the fact of the session so far that it is
    "run_steps": "n_assistant_messages",
    "run_reads": "calls_read",
    "run_searches": "calls_search",
    "run_edits": "calls_edit",
    "run_shells": "calls_shell",
    "run_other_calls": "calls_other",
    "run_tool_errors": "n_tool_errors",
    "run_edit_failures": "n_edit_failures",
    "run_files_edited": "n_files_edited",
    "run_tests": "n_test_runs",
    "run_tests_passed": "last_tests_passed",
    "run_tests_failed": "last_tests_failed_count",
    "run_repeats": "repeated_actions",
    "run_since_progress": "turns_since_progress",
    "run_corrections": "user_corrections",
    "run_context_tokens": "context_tokens_est",
}
_LIMIT = 1e30


def facts_of_edit(
    edit: Edit, text: str = "", others: Sequence[Edit] = (), *, grammar: bool = True
) -> AnswerFacts:
    """Facts of an edit beside the salient text it answers and other candidates' edits for the same request.

    Without `grammar` no native parser sees it, and what needs one is unknown; comparing with others needs one.
    """
    return AnswerFacts(**edit_facts(edit, text, grammar=grammar), **agreement_facts(edit, others))


def facts_of_answer(parts: Sequence[Part], text: str = "") -> AnswerFacts | None:
    """Facts of the edit in an answer's parts, cheap and safe enough for every one served; None without one."""
    calls = [part for part in parts if part.kind == "tool_call" and part.name]
    editing = [call for call in calls if tool_kind(call.name or "") in ("edit", "shell")]
    said = "\n".join(part.text for part in parts if part.kind == "text" and "<<<<<<< SEARCH" in part.text)
    if sum(len(call.text) for call in editing) + len(said) > MAX_ANSWER_BYTES:
        return None
    edit = edit_of_calls((call.name or "", call.text) for call in editing) if editing else edit_of_text(said)
    if edit.problem or not edit.files:
        return None
    return facts_of_edit(edit, text, grammar=False)


def agreement_of_digests(mine: Sequence[str], others: Sequence[Sequence[str]]) -> dict[str, float]:
    """`others` and `others_same` of an answer known by its digests alone; {} where there are none."""
    known = [other for other in others if other]
    if not mine or not known:
        return {}
    same = sum(same_level(mine, other) is not None for other in known)
    return {"others": float(len(known)), "others_same": same / len(known)}


def totals_of(facts: Facts) -> RunTotals:
    """Run totals as the facts of the run's last request tell them."""
    return RunTotals(**{ours: getattr(facts, theirs) for ours, theirs in _FROM_REQUEST.items()})


def after_vector(answers: Sequence[AnswerFacts | None], runs: Sequence[RunTotals | None]) -> np.ndarray:
    """Features (n, len(AFTER_NAMES)) float32 of n answers and their runs; unknown is NaN.

    Counts are on a log scale, keeping their sign, and what is absurd is cut, so that no value is infinite.
    """
    none, idle = AnswerFacts(), RunTotals()
    rows = [
        (*msgspec.structs.astuple(answer or none), *msgspec.structs.astuple(run or idle))
        for answer, run in zip(answers, runs, strict=True)
    ]
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(AFTER_NAMES))
    return scaled(values)


def scaled(values: np.ndarray) -> np.ndarray:
    """sign(x) · log1p|x| of any numbers, as float32; NaN stays NaN."""
    cut = np.clip(values, -_LIMIT, _LIMIT)
    result: np.ndarray = (np.sign(cut) * np.log1p(np.abs(cut))).astype(np.float32)
    return result
