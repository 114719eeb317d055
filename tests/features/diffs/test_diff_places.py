"""Where an edit stands counts too: anchors, line numbers, modes of new files; damaged hunks are unknown."""

from __future__ import annotations

import pytest

from features.diffs.calls import edit_of_calls, edit_of_text
from features.diffs.fingerprint import agreement, fingerprint
from features.diffs.judge import judge


def codex(anchor, end=""):
    body = f"*** Begin Patch\n*** Update File: m.py\n@@{anchor}\n-    x = 1\n+    x = 2\n{end}*** End Patch\n"
    return edit_of_text(body)


def claude(old, new):
    return edit_of_calls([("Edit", {"file_path": "m.py", "old_string": old, "new_string": new})])


def added(line, text="b"):
    return edit_of_text(f"--- a/m.py\n+++ b/m.py\n@@ -{line},1 +{line},2 @@\n a\n+{text}\n")


@pytest.mark.parametrize(
    "other", [codex(" def g():"), codex(""), codex(" def f():", "*** End of File\n"), codex(" class A:")]
)
def test_other_anchors_need_the_base(other):
    one = codex(" def f():")
    assert judge(one, other).level == "unknown"
    assert agreement(fingerprint(one), fingerprint(other)).level is None


def test_an_anchor_and_a_text_that_stands_once_meet_weakly():
    verdict = judge(codex(" def f():"), claude("    x = 1\n", "    x = 2\n"))
    assert (verdict.level, verdict.weak) == ("L0", True)
    assert judge(codex(" def f():"), codex(" def f():")).level == "L0"


def test_equal_texts_without_line_numbers_are_weak_at_l0():
    block = edit_of_text("m.py\n<<<<<<< SEARCH\nx = 1\ny\n=======\nx = 2\ny\n>>>>>>> REPLACE\n")
    verdict = judge(claude("x = 1\n", "x = 2\n"), block)
    assert (verdict.level, verdict.weak) == ("L0", True)


def test_weak_fingerprints_know_the_place_of_a_line():
    assert agreement(fingerprint(added(10)), fingerprint(added(10))).level == "L0"
    assert agreement(fingerprint(added(10)), fingerprint(added(50))).level is None
    first, second = claude("def f():\n", "def f():\n    x\n"), claude("def g():\n", "def g():\n    x\n")
    assert agreement(fingerprint(first), fingerprint(second)).level is None


@pytest.mark.parametrize("mode", ["100755", "120000"])
@pytest.mark.parametrize("base", [None, {}])
def test_new_files_of_other_modes_are_unknown(mode, base):
    def new(kind):
        head = f"diff --git a/s b/s\nnew file mode {kind}\n--- /dev/null\n+++ b/s\n@@ -0,0 +1 @@\n+x\n"
        return edit_of_text(head)

    assert judge(new("100644"), new(mode), base).level == "unknown"
    assert judge(new("100644"), new("100644"), base).level == "L0"
    whole = edit_of_calls([("Write", {"file_path": "s", "content": "x\n"})])
    assert judge(whole, new("100644"), base).level == "L0"
    assert judge(whole, new(mode), base).level == "unknown"


@pytest.mark.parametrize(
    "body", ["", "@@ -1,3 +1,3 @@\n", "@@ -1,3 +1,3 @@\n-a\n+b\n", "@@ -1,3 +1,3 @@\n a\n"]
)
def test_a_hunk_shorter_than_its_header_is_unknown(body):
    head = "--- a/m.py\n+++ b/m.py\n"
    whole = edit_of_text(head + "@@ -1,3 +1,3 @@\n-a\n+b\n \n \n")
    short = edit_of_text(head + body)
    assert judge(short, whole).level == "unknown"
    assert judge(short, short).level == "unknown"
    assert fingerprint(short) == []


def test_a_literal_of_thousands_of_digits_is_judged_without_a_crash():
    one, other = (
        edit_of_calls([("Write", {"file_path": "h.py", "content": f"x = 0x{'f' * 5000}\ny = {n}\n"})])
        for n in (1, 2)
    )
    assert not judge(one, other).same
    assert agreement(fingerprint(one), fingerprint(other)).level is None
