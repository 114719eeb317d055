"""The hard law: a mutant is never the same; and a twin is, at its level."""

from __future__ import annotations

import difflib
import random
from pathlib import Path

import pytest

from features.diffs.calls import edit_of_tree
from features.diffs.fingerprint import agreement, fingerprint
from features.diffs.judge import judge
from features.diffs.languages import LANGUAGES, language_of
from features.diffs.patches import parse_patch
from tests.bench.mutations import mutants
from tests.bench.twins import rewritten

SAMPLES = sorted((Path(__file__).parents[2] / "fixtures" / "diffs").iterdir())


def as_patch(path: str, before: str, now: str, context: int):
    lines = difflib.unified_diff(
        before.splitlines(True), now.splitlines(True), f"a/{path}", f"b/{path}", n=context
    )
    return parse_patch("".join(lines))


def test_every_language_has_a_sample():
    assert {language_of(path.name).name for path in SAMPLES} == {language.name for language in LANGUAGES}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_no_mutant_is_called_the_same(sample):
    source, path = sample.read_bytes(), f"src/{sample.name}"
    language = language_of(sample.name).name
    found = mutants(source, language, random.Random(7), limit=60)
    assert len(found) > 10
    digests = fingerprint(edit_of_tree({path: source}), {})
    for mutant in found:
        edit = edit_of_tree({path: mutant.source})
        assert not judge(edit_of_tree({path: source}), edit).same, mutant.kind
        assert agreement(digests, fingerprint(edit, {})).level is None, mutant.kind


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_no_mutant_is_called_the_same_from_hunks(sample):
    """Base = the sample without some of its lines; A puts them back, B puts a mutant of them back."""
    text, path = sample.read_text(), f"src/{sample.name}"
    lines = text.splitlines(True)
    language = language_of(sample.name).name
    rng = random.Random(3)
    for mutant in mutants(text.encode(), language, rng, limit=40):
        now = mutant.source.decode()
        row = next(
            (n for n, (x, y) in enumerate(zip(lines, now.splitlines(True), strict=False)) if x != y), None
        )
        if row is None:
            continue
        base = "".join(lines[:row] + lines[row + 1 :])
        for context in (1, 3):
            a, b = as_patch(path, base, text, context), as_patch(path, base, now, context)
            verdict = judge(a, b)
            assert not verdict.same, (mutant.kind, now.splitlines()[row], verdict)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_twins_are_recognised_at_their_level(sample):
    source = sample.read_bytes()
    path = f"src/{sample.name}"
    for twin in rewritten(source, language_of(sample.name).name, random.Random(5)):
        level = judge(edit_of_tree({path: source}), edit_of_tree({path: twin.source})).level
        assert level in ("L0", "L1", twin.level), (twin.kind, level)
