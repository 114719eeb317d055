"""An answer and the run behind it as plain numbers, and those as the vector that heads are fitted on.

Like the facts of a request they hold no text, so a log may keep those of a private answer. What isn't known
is None, and NaN in the vector. One definition serves one answer and many; features/editfacts.py reads them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.facts import Facts

_F = float | None


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
    comment_share: _F = None  # of the lines that come
    kept_share: _F = None  # likeness of what goes and what comes: a small rewriting or a new piece
    fresh_names: _F = None  # that come and stand nowhere in the lines around
    changed_names: _F = None
    longest_line: _F = None
    # beside the edits of other candidates for the same request
    others: _F = None
    others_same: _F = None  # share of them that bring and take the same tokens
    others_alike: _F = None  # mean similarity
    others_alike_best: _F = None
    others_touch: _F = None  # mean over our files of the share of others that touch it
    others_overlap: _F = None  # files in common of all files
    others_place: _F = None  # lines in common, of those around and under the changes
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


EDIT_NAMES: tuple[str, ...] = AnswerFacts.__struct_fields__
RUN_NAMES: tuple[str, ...] = RunTotals.__struct_fields__
AFTER_NAMES: tuple[str, ...] = EDIT_NAMES + RUN_NAMES
AGREEMENT: tuple[str, ...] = tuple(name for name in EDIT_NAMES if name.startswith("others"))

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
_DEFINITION = 1  # counts up when a feature of the same name comes to mean something else


def after_hash() -> str:
    """Digest of the ordered features and their definitions; what is learned of them is bound to it."""
    return hashlib.sha256(msgspec.json.encode([_DEFINITION, AFTER_NAMES])).hexdigest()[:16]


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
