"""Unified diffs: what they say is what stands there afterwards, and bad ones are unknown with a reason."""

# ruff: noqa: E501 - tables of patches, calls and node types read best one to a line
from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.diffs.edits import MAX_HUNKS, MAX_PATCH_BYTES, Whole
from features.diffs.judge import judge
from features.diffs.patches import parse_patch
from features.diffs.postimage import CannotApply, after

BASE = b"one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n"
LINES = st.lists(
    st.sampled_from(["a\n", "b\n", "c\n", "\n", "  d\n", "--- x\n", "+++ y\n", "-- z\n", "@@ -1 +1 @@\n"]),
    max_size=30,
)


def unified(before: list[str], now: list[str], context: int = 3) -> str:
    return "".join(difflib.unified_diff(before, now, "a/f.txt", "b/f.txt", n=context))


@given(LINES, LINES, st.integers(0, 4))
def test_a_patch_made_by_difflib_gives_back_the_after_image(before, now, context):
    edit = parse_patch(unified(before, now, context))
    if before == now:
        assert edit.files == ()
        return
    (file,) = edit.files
    assert file.problem is None
    assert after(file, {"f.txt": "".join(before).encode()}) == "".join(now).encode()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_an_edit_or_a_problem_of_it(data):
    assert parse_patch(data) == parse_patch(data)
    headed = parse_patch(b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n" + data)
    assert headed.files


@given(st.integers(0, 400), st.binary(max_size=3))
def test_a_damaged_patch_is_never_called_different(cut, noise):
    now = BASE.replace(b"two", b"TWO").replace(b"nine", b"NINE")
    text = unified(BASE.decode().splitlines(True), now.decode().splitlines(True)).encode()
    damaged = text[:cut] + noise
    verdict = judge(parse_patch(text), parse_patch(damaged), {"f.txt": BASE})
    whole = parse_patch(damaged)
    if whole.problem or any(file.problem for file in whole.files):
        assert verdict.level == "unknown"
        assert verdict.reason


def test_git_headers_are_read():
    text = (
        'diff --git "a/a \\303\\244.py" "b/a \\303\\244.py"\nindex 1..2 100644\n--- "a/a \\303\\244.py"\n'
        '+++ "b/a \\303\\244.py"\n@@ -1 +1 @@ def f():\n-a\n+b\n'
        "diff --git a/old.py b/new.py\nsimilarity index 90%\nrename from old.py\nrename to new.py\n"
        "--- a/old.py\n+++ b/new.py\n@@ -1 +1 @@\n-a\n+b\n"
        "diff --git a/gone.py b/gone.py\ndeleted file mode 100644\n--- a/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
        "diff --git a/made.py b/made.py\nnew file mode 100644\n--- /dev/null\n+++ b/made.py\n@@ -0,0 +1 @@\n+a\n"
        "\\ No newline at end of file\n"
        "diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n"
    )
    files = parse_patch(text).by_path()
    assert set(files) == {"a ä.py", "new.py", "gone.py", "made.py", "run.sh"}
    assert files["new.py"].old_path == "old.py"
    assert files["gone.py"].ops == (Whole(None),)
    assert files["made.py"].ops == (Whole(b"a"),)
    assert files["run.sh"].mode == "100755"
    assert after(files["new.py"], {"old.py": b"a\n"}) == b"b\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no diff at all", "no diff found"),
        ("--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n a\n-b\n+c\n", "truncated hunk"),
        ("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n+d\n", "longer than its header"),
        ("--- a/x\n+++ b/x\n@@ nonsense @@\n a\n", "header that can't be read"),
        ("diff --git a/i.png b/i.png\nindex 1..2\nBinary files a/i.png and b/i.png differ\n", "binary"),
        ("diff --git a/i.png b/i.png\nGIT binary patch\nliteral 3\nKcmb\n", "binary"),
        (
            "diff --git a/sub b/sub\nindex 1..2 160000\n--- a/sub\n+++ b/sub\n@@ -1 +1 @@\n-Subproject commit 1\n+Subproject commit 2\n",
            "submodule",
        ),
        ("--- a/../../etc/passwd\n+++ b/../../etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "leaves the tree"),
        ("diff --cc x\n--- a/x\n+++ b/x\n@@@ -1 -1 +1 @@@\n--a\n++b\n", "combined"),
        (
            "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n" * 1 + "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-not there\n+c\n",
            "doesn't apply",
        ),
    ],
)
def test_bad_patches_are_unknown_with_the_reason(text, reason):
    good = parse_patch("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+c\n")
    verdict = judge(good, parse_patch(text), {"x": b"a\n"})
    assert verdict.level == "unknown"
    assert reason in (verdict.reason or "")


def test_limits_answer_at_once():
    assert "limit" in (parse_patch(b"-" * (MAX_PATCH_BYTES + 1)).problem or "")
    many = "--- a/x\n+++ b/x\n" + "@@ -1 +1 @@\n-a\n+b\n" * (MAX_HUNKS + 1)
    assert "hunks" in (parse_patch(many).problem or "")


def test_a_hunk_finds_its_only_place_when_lines_have_moved():
    edit = parse_patch("--- a/x\n+++ b/x\n@@ -2,3 +2,3 @@\n two\n-three\n+THREE\n four\n")
    assert after(edit.files[0], {"x": b"zero\n" * 5 + BASE}) == b"zero\n" * 5 + BASE.replace(
        b"three", b"THREE"
    )
    with pytest.raises(CannotApply, match="several places"):
        after(edit.files[0], {"x": b"zero\n" + BASE + BASE})


def test_crlf_files_take_lf_patches():
    edit = parse_patch("--- a/x\n+++ b/x\n@@ -2,2 +2,2 @@\n two\n-three\n+THREE\n")
    crlf = BASE.replace(b"\n", b"\r\n")
    assert after(edit.files[0], {"x": crlf}) == crlf.replace(b"three", b"THREE")


def test_blank_context_that_was_stripped_is_put_back_and_checked():
    text = "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n-a\n+b\n \n \n"
    stripped = parse_patch(text.rstrip() + "\n")
    assert after(stripped.files[0], {"x": b"a\n\n\n"}) == b"b\n\n\n"
    with pytest.raises(CannotApply):
        after(stripped.files[0], {"x": b"a\nnot blank\n\n"})
