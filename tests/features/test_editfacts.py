"""Facts of an edit: sizes and agreement as told, any bytes are survived, no text kept."""

import json
import re
from pathlib import PurePosixPath

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.answerfacts import AGREEMENT, after_vector
from features.diffs.answers import open_and_digests
from features.diffs.patches import parse_patch
from features.editfacts import _ending, _names, _tokens, facts_of_answer, facts_of_edit, kept_of_answer
from features.wire.types import Part

PATCH = (
    b"--- a/src/a.py\n+++ b/src/a.py\n@@ -1,3 +1,4 @@\n def f(x):\n-    y = x + 1\n"
    b"+    # two\n+    y = x + 2\n     return y\n"
    b"--- a/tests/test_a.py\n+++ b/tests/test_a.py\n@@ -1,1 +1,2 @@\n import a\n+assert a\n"
)
OLD, NEW = "    y = x + 1\n", "    y = x + 2\n"


def edit_call(old=OLD, new=NEW, path="src/a.py"):
    arguments = json.dumps({"file_path": path, "old_string": old, "new_string": new})
    return Part(kind="tool_call", name="Edit", text=arguments)


def test_sizes_are_of_the_code_and_roles_of_all_files():
    facts = facts_of_edit(parse_patch(PATCH))
    assert (facts.files, facts.code_files, facts.test_files, facts.folders) == (2, 1, 1, 1)
    assert (facts.added_lines, facts.removed_lines, facts.net_lines, facts.hunks) == (2, 1, 1, 1)
    assert (facts.added_tokens, facts.removed_tokens) == (5, 5)  # the comment isn't counted
    assert facts.comment_share == 0.5
    assert facts.kept_share == pytest.approx(0.8)
    assert facts.largest_share == 1.0
    assert all(getattr(facts, name) is None for name in AGREEMENT)


def test_another_that_brings_the_same_tokens_is_the_same_whatever_its_form():
    mine = [edit_call()]
    told = facts_of_answer(mine, [mine, [edit_call(new="    y  =  x+2\n")], [edit_call(new="    y = 0\n")]])
    assert told is not None
    assert told.others == 3
    assert told.others_same == pytest.approx(2 / 3)
    assert told.others_alike_best == 1.0
    assert 0 < told.others_alike < 1
    assert (told.others_touch, told.others_overlap, told.others_place) == (1.0, 1.0, 1.0)
    elsewhere = facts_of_answer(mine, [[edit_call(path="src/b.py")]])
    assert elsewhere is not None
    assert (elsewhere.others_same, elsewhere.others_alike, elsewhere.others_touch) == (0, 0, 0)


def test_edits_without_a_token_agree_on_nothing():
    gone = parse_patch(
        b"diff --git a/x.bin b/y.bin\nsimilarity index 100%\nrename from x.bin\nrename to y.bin\n"
    )
    assert facts_of_edit(gone, [gone]).others_same in (0.0, None)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [Part(kind="text", text="all done")],
        [Part(kind="tool_call", name="Read", text='{"file_path": "a"}')],
        [Part(kind="tool_call", name="Edit", text="{")],
        [edit_call(new="x" * (300 << 10))],
        [edit_call(new="\udcff")],
    ],
)
def test_an_answer_that_edits_nothing_readable_has_no_facts(parts):
    assert facts_of_answer(parts) is None
    assert facts_of_answer([edit_call()], [parts]).others is None


texts = st.text(max_size=200) | st.sampled_from(
    [edit_call().text, '{"command": "apply_patch <<E\\n*** Begin Patch"}', PATCH.decode(), "<<<<<<< SEARCH"]
)
names = st.sampled_from(["Edit", "apply_patch", "Write", "shell", "Read", "MultiEdit", "", "x"])
parts = st.lists(
    st.builds(Part, kind=st.sampled_from(["tool_call", "text"]), name=names | st.none(), text=texts),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(parts, st.lists(parts, max_size=3))
def test_any_answer_is_survived_and_finite(answer, others):
    facts = facts_of_answer(answer, others)
    vector = after_vector([facts], [None])
    assert not np.isinf(vector).any()
    plain = msgspec.to_builtins(facts) or {}
    assert all(isinstance(value, float) for value in plain.values())  # no text in them
    assert kept_of_answer(answer) == (open_and_digests(answer)[1] or None, facts_of_answer(answer))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=80).map(lambda tail: PATCH[:-20] + tail))
def test_any_patch_is_survived(raw):
    edit = parse_patch(raw)
    facts = facts_of_edit(edit, [edit, parse_patch(PATCH)])
    assert not np.isinf(after_vector([facts], [None])).any()


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"a_1 = b(x9)\t2ab", b"# no", b"\xc3\xa9.x"])))
def test_tokens_are_words_and_marks(lines):
    code = b"\n".join(
        line for line in lines if not line.startswith((b"#", b"//", b"/*", b"*", b'"""', b"'''", b"--"))
    )
    tokens = re.findall(rb"\w+|[^\w\s]", code)
    assert _tokens(lines) == tokens
    assert _names(tokens) == {token for token in tokens if re.fullmatch(rb"[A-Za-z_]\w{2,}", token)}


def test_names_around_are_those_that_begin_with_no_digit():
    around = facts_of_answer([edit_call(old="x = 1abc + 22_de\n", new="x = abc + _de + 3fgh + fgh\n")])
    assert around.fresh_names == 1  # fgh: the others stand in what was there


@given(st.text(alphabet="ab./", max_size=8).filter(lambda path: not path.endswith(("/", "/."))))
def test_a_files_ending_is_that_of_its_path(path):
    assert _ending(path) == PurePosixPath(path).suffix
