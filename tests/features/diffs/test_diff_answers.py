"""Digests of served answers: the fingerprint's where no grammar is needed, bounded, and without any text."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.diffs.answers import GIT_REVERT, MAX_BYTES, open_and_digests
from features.diffs.calls import edit_of_calls
from features.diffs.fingerprint import agreement, fingerprint
from features.wire import Part


def call(name, **arguments):
    return Part(kind="tool_call", name=name, text=json.dumps(arguments), call_id="1")


def edit(old, new, path="/repo/shop.py"):
    return call("Edit", file_path=path, old_string=old, new_string=new)


def digests_of(parts):
    return open_and_digests(parts)[1]


def named(digests):
    return dict(entry.split(":", 1) for entry in digests)


FIX = edit("def total(a):\n    return a\n", "def total(a):\n    return a + 1\n")


@pytest.mark.parametrize(
    "parts",
    [
        [FIX],
        [FIX, edit("x = 1\n", "x = 2\n", "/repo/other.py")],
        [call("Write", file_path="notes.txt", content="one\r\ntwo")],
        [call("apply_patch", input="*** Begin Patch\n*** Update File: a.py\n@@\n-a\n+b\n*** End Patch\n")],
    ],
)
def test_they_agree_with_the_fingerprint_at_the_levels_that_need_no_grammar(parts):
    whole = set(fingerprint(edit_of_calls((part.name, part.text) for part in parts)))
    mine = [entry for entry in digests_of(parts) if entry.lstrip("~")[:2] in ("L0", "L1")]
    assert len(mine) == 2
    assert set(mine) <= whole


def test_line_ends_are_no_difference_at_l1_and_are_one_at_l0():
    a = digests_of([call("Write", file_path="a.py", content="x = 1\ny = 2\n")])
    b = digests_of([call("Write", file_path="a.py", content="x = 1\r\ny = 2")])
    assert agreement(a, b).level == "L1"


def test_an_edit_knows_the_edit_that_takes_it_back():
    back = edit("def total(a):\n    return a + 1\n", "def total(a):\n    return a\n")
    assert named(digests_of([FIX]))["undo"] == named(digests_of([back]))["~L0"]


CHANGES = """
import json
from features.diffs.answers import open_and_digests
from features.wire import Part

old = [{"file_path": "a.py", "old_string": f"x = {n}\\n", "new_string": f"y = {n}\\n"} for n in range(6)]
parts = [Part(kind="tool_call", name="Edit", text=json.dumps(arguments)) for arguments in old]
for order in (parts, parts[::-1]):
    print(*(one for one in open_and_digests(order)[1] if one.startswith(("~L0:", "~L1:", "undo:"))))
"""


def test_changes_of_one_length_are_the_same_in_any_order_and_process():
    told = [
        subprocess.run(
            [sys.executable, "-c", CHANGES],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed in "012"  # by which a process puts the bytes of a set in order
    ]
    assert all(len(line.split()) == 3 for line in told[0])
    assert {line for lines in told for line in lines} == {told[0][0]}


def test_the_same_lines_elsewhere_are_another_call():
    here = digests_of([edit("def a():\n    x = 1\n", "def a():\n    x = 2\n")])
    there = digests_of([edit("def b():\n    x = 1\n", "def b():\n    x = 2\n")])
    assert named(here)["call"] != named(there)["call"]
    assert agreement(here, there).level == "L0"  # which is why "~" means weak


@pytest.mark.parametrize(
    ("command", "reverts"),
    [
        ("git checkout -- shop.py", True),
        ("git checkout HEAD -- shop.py", True),
        ("cd shop && git restore shop.py", True),
        ("git reset --hard HEAD~1", True),
        ("git stash", True),
        ("git -C shop revert HEAD", True),
        ("git stash pop", False),
        ("git checkout main", False),
        ("git log -- revert", False),
    ],
)
def test_git_commands_that_take_work_back(command, reverts):
    assert (GIT_REVERT in digests_of([call("Bash", command=command)])) is reverts


def test_work_taken_back_beside_an_edit_is_told_with_its_digests():
    patch = "apply_patch <<'E'\n*** Begin Patch\n*** Update File: a.py\n@@\n-a\n+b\n*** End Patch\nE\n"
    alone, beside = (digests_of([call("Bash", command=more + patch)]) for more in ("", "git restore a.py\n"))
    assert set(named(alone)) >= {"~L0", "~L1"}
    assert beside == [*alone, GIT_REVERT]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [Part(kind="text", text="nothing is edited here")],
        [call("Read", file_path="a.py")],
        [Part(kind="tool_call", name="Edit", text="[" * 100_000)],
        [Part(kind="tool_call", name="Edit", text="not json")],
        [edit("a" * MAX_BYTES, "b")],
        [Part(kind="text", text="<<<<<<< SEARCH\n" * 15_000)],
        [call("apply_patch", input="*** Begin Patch\n*** Update File: a\n" + "@@\n-a\n+b\n" * 20_000)],
        [call("Edit", file_path="../../etc/passwd", old_string="a", new_string="b")],
    ],
)
def test_what_cannot_be_read_cheaply_has_no_digest_of_a_level(parts):
    assert digests_of(parts) == []


_NAMES = st.sampled_from(["Edit", "Write", "apply_patch", "Bash", "str_replace_editor", "MultiEdit", "edit"])
_KEYS = st.sampled_from(
    ["file_path", "path", "old_string", "new_string", "content", "input", "command", "edits"]
)
_VALUES = st.one_of(
    st.text(),
    st.sampled_from(["*** Begin Patch\n*** Update File: a\n@@\n", "str_replace", "git stash"]),
    st.none(),
)


@given(_NAMES, st.one_of(st.text(), st.dictionaries(_KEYS, _VALUES | st.lists(_VALUES)).map(json.dumps)))
def test_no_arguments_break_it(name, arguments):
    assert isinstance(digests_of([Part(kind="tool_call", name=name, text=arguments)]), list)


@pytest.mark.parametrize("new", ["\ud800", "\\ud800"])
def test_undecodable_text_has_no_digest(new):
    text = '{"path":"a","old_str":"x","new_str":"' + new + '"}'
    assert digests_of([Part(kind="tool_call", name="Edit", text=text)]) == []
