"""Verdicts: levels, what is set aside, what is unknown, weak verdicts, fingerprints."""

# ruff: noqa: E501 - tables of patches, calls and node types read best one to a line
from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.diffs.calls import edit_of_text, edit_of_tree
from features.diffs.fingerprint import agreement, fingerprint
from features.diffs.judge import judge
from features.diffs.patches import parse_patch
from features.diffs.similarity import lcs_length, ratio

if TYPE_CHECKING:
    from features.diffs.edits import Edit

BASE = {
    "src/a.py": b"import os\nimport sys\n\n\ndef f(x):\n    y = x + 1\n    return y\n\n\ndef g():\n    return os\n",
    "tests/test_a.py": b"def test():\n    assert 1\n",
    "README.md": b"# hello\n",
}


def patch(changes: dict[str, bytes | None], base: dict[str, bytes] = BASE, context: int = 3) -> Edit:
    """A git patch from the base to the given contents."""
    out = []
    for path, now in changes.items():
        before = base.get(path)
        old, new = [
            (text or b"").decode("utf-8", "surrogateescape").splitlines(True) for text in (before, now)
        ]
        lines = list(
            difflib.unified_diff(
                old,
                new,
                f"a/{path}" if before is not None else "/dev/null",
                f"b/{path}" if now is not None else "/dev/null",
                n=context,
            )
        )
        out.append(f"diff --git a/{path} b/{path}\n" + "".join(lines))
    return parse_patch("".join(out).encode("utf-8", "surrogateescape"))


def changed(path: str, old: bytes, new: bytes) -> dict[str, bytes]:
    assert old in BASE[path]
    return {path: BASE[path].replace(old, new)}


PLUS_TWO = changed("src/a.py", b"x + 1", b"x + 2")
LEVELS = {
    "L0": PLUS_TWO,
    "L1": {"src/a.py": PLUS_TWO["src/a.py"].replace(b"    return y\n\n", b"    return y\n").replace(b"import os\nimport sys", b"import sys\nimport os")},
    "L2": {"src/a.py": PLUS_TWO["src/a.py"].replace(b"    y = x + 2\n    return y", b"    z = (x + 2)  # more\n    return z")},
    "L3": changed("src/a.py", b"x + 1", b"x - 2"),
    "different": changed("src/a.py", b"return os", b"return os.name"),
}  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
def test_levels_with_the_base(level):
    verdict = judge(patch(PLUS_TWO), patch(LEVELS[level]), BASE)
    assert verdict.level == level
    assert not verdict.weak
    assert verdict.similarity is not None
    assert (verdict.similarity == 1) == verdict.same
    if not verdict.same:
        (file,) = verdict.files
        assert file.first_difference is not None
        assert "x + 2" in file.first_difference.text_a


@pytest.mark.parametrize("level", ["L0", "L2", "L3", "different"])
def test_levels_from_hunks_alone(level):
    verdict = judge(patch(PLUS_TWO), patch(LEVELS[level], context=1))
    assert verdict.level == level
    assert verdict.weak == (level != "L0")


def test_the_verdict_is_symmetric():
    for level, content in LEVELS.items():
        there, back = (
            judge(patch(PLUS_TWO), patch(content), BASE),
            judge(patch(content), patch(PLUS_TWO), BASE),
        )
        assert there.level == back.level == level
        assert there.similarity == pytest.approx(back.similarity)


def test_tests_and_documents_are_set_aside_and_reported():
    more = {**PLUS_TWO, **changed("tests/test_a.py", b"1", b"2"), **changed("README.md", b"hello", b"bye")}
    verdict = judge(patch(PLUS_TWO), patch(more), BASE)
    assert verdict.level == "L0"
    assert {file.path: (file.role, file.set_aside) for file in verdict.files} == {
        "README.md": ("doc", True),
        "src/a.py": ("code", False),
        "tests/test_a.py": ("test", True),
    }
    assert judge(patch(PLUS_TWO), patch(more), BASE, set_aside=False).level == "different"


def test_nothing_but_tests_is_compared_as_it_is():
    one, two = changed("tests/test_a.py", b"1", b"2"), changed("tests/test_a.py", b"1", b"3")
    assert judge(patch(one), patch(one), BASE).level == "L0"
    assert judge(patch(one), patch(two), BASE).level == "L3"
    assert judge(patch(PLUS_TWO), patch(one), BASE).level == "different"


def test_empty_edits():
    assert judge(parse_patch(""), parse_patch(" \n")).level == "L0"
    assert judge(parse_patch(""), patch(PLUS_TWO)).level == "different"


def test_a_comment_more_is_the_same_as_no_edit():
    verdict = judge(patch(changed("src/a.py", b"return os", b"return os  # the module")), patch({}), BASE)
    assert [file.level for file in verdict.files] == ["L2"]


@pytest.mark.parametrize("base", [BASE, None])
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("diff --git a/src/a.py b/src/a.py\nold mode 100644\nnew mode 100755\n", "mode"),
        (
            "diff --git a/src/a.py b/src/b.py\nsimilarity index 100%\nrename from src/a.py\nrename to src/b.py\n",
            "renamed",
        ),
        (
            "diff --git a/src/a.py b/src/a.py\ndeleted file mode 100644\n--- a/src/a.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n",
            "deleted",
        ),
        ("diff --git a/src/a.py b/src/a.py\nBinary files a/src/a.py and b/src/a.py differ\n", "binary"),
    ],
)
def test_what_one_side_alone_does_to_a_file_is_unknown(text, word, base):
    verdict = judge(patch(PLUS_TWO), parse_patch(text), base)
    assert verdict.level == "unknown"
    assert word in (verdict.reason or "")


def test_the_same_rename_mode_or_removal_on_both_sides_is_the_same():
    for text in (
        "diff --git a/src/a.py b/src/b.py\nsimilarity index 90%\nrename from src/a.py\nrename to src/b.py\n--- a/src/a.py\n+++ b/src/b.py\n@@ -1,2 +1,2 @@\n-import os\n+import io\n import sys\n",
        "diff --git a/src/a.py b/src/a.py\nold mode 100644\nnew mode 100755\n",
        "diff --git a/src/a.py b/src/a.py\ndeleted file mode 100644\n",
    ):
        for base in (BASE, None):
            assert judge(parse_patch(text), parse_patch(text), base).level == "L0"


def test_patches_for_two_different_bases_are_unknown():
    other = {"src/a.py": BASE["src/a.py"].replace(b"def f(x)", b"def f(x, z)")}
    now = {"src/a.py": other["src/a.py"].replace(b"x + 1", b"x + 2")}
    verdict = judge(patch(PLUS_TWO), patch(now, other))
    assert verdict.level == "unknown"
    assert "fit one base" in (verdict.reason or "")


def test_files_without_a_grammar_fall_back_to_lines():
    a, b = edit_of_tree({"x.unknown": b"a\r\nb"}), edit_of_tree({"x.unknown": b"a\nb\n"})
    assert judge(a, b).level == "L1"
    assert judge(a, edit_of_tree({"x.unknown": b"a\nb  \n"})).level == "L3"
    assert judge(edit_of_tree({"x.py": b"def ("}), edit_of_tree({"x.py": b"def  ("})).files[0].reason


def test_binary_and_invalid_files():
    assert judge(edit_of_tree({"x": b"\0a"}), edit_of_tree({"x": b"\0a"})).level == "L0"
    two = judge(edit_of_tree({"x.py": b"\0a"}), edit_of_tree({"x.py": b"\0b"}))
    assert (two.level, two.reason) == ("unknown", "x.py: binary files that differ")
    same_place = (b"--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+" + new + b"\n" for new in (b"b", b"b\0"))
    assert judge(*map(parse_patch, same_place)).level == "unknown"
    assert judge(edit_of_tree({"x.py": b"a = '\xff'"}), edit_of_tree({"x.py": b"a = '\xfe'"})).level == "L3"


@given(st.lists(st.integers(0, 5), max_size=40), st.lists(st.integers(0, 5), max_size=40))
def test_bit_parallel_lcs_equals_the_table(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert lcs_length(a, b) == table[-1][-1]
    assert 0 <= ratio(a, b) <= 1
    assert ratio(a, b) == ratio(b, a)
    assert ratio(a, a) == 1


def test_fingerprints_say_what_the_judge_says():
    mine = fingerprint(patch(PLUS_TWO), BASE)
    assert [entry.split(":")[0] for entry in mine] == ["L0", "L1", "L2"]
    for level, content in LEVELS.items():
        found = agreement(mine, fingerprint(patch(content), BASE)).level
        assert found == (level if level in ("L0", "L1", "L2") else None)
    tests_too = {**PLUS_TWO, **changed("tests/test_a.py", b"1", b"2")}
    assert agreement(mine, fingerprint(patch(tests_too), BASE)).level == "L0"


def test_fingerprints_without_the_base_are_weak_and_don_t_mix_with_strong_ones():
    weak = fingerprint(patch(PLUS_TWO))
    assert all(entry.startswith("~") for entry in weak)
    assert agreement(weak, fingerprint(patch(PLUS_TWO, context=1))).level == "L0"
    assert agreement(weak, fingerprint(patch(LEVELS["L3"]))).level is None
    assert agreement(weak, fingerprint(patch(PLUS_TWO), BASE)).level is None
    edit = edit_of_text("src/a.py\n<<<<<<< SEARCH\n    y = x + 1\n=======\n    y = x + 2\n>>>>>>> REPLACE\n")
    assert agreement(weak, fingerprint(edit)).level == "L0"
    assert fingerprint(parse_patch("nonsense")) == []


@pytest.mark.parametrize(
    "name", ["template.py", "validators.py", "attempts.py", "checkout.py", "temperature.py"]
)
def test_a_word_within_a_name_makes_no_file_scratch(name):
    def made(content):
        return edit_of_tree({"src/a.py": b"x = 1\n", name: content})

    base = {"src/a.py": b"x = 0\n"}
    for before in (base, {**base, name: b"t = 0\n"}):
        assert judge(made(b"t = 1\n"), made(b"t = 2\n"), before).level in ("L3", "different")
        prints = [fingerprint(made(text), before) for text in (b"t = 1\n", b"t = 2\n")]
        assert agreement(*prints).level is None


@pytest.mark.parametrize(
    "base", [None, {"src/a.py": b"x = 0\n"}, {"src/a.py": b"x = 0\n", "debug.py": b"d = 0\n"}]
)
def test_judge_and_fingerprint_set_the_same_files_aside(base):
    a, b = (edit_of_tree({"src/a.py": b"x = 1\n", "debug.py": text}) for text in (b"d = 1\n", b"d = 2\n"))
    same = agreement(fingerprint(a, base), fingerprint(b, base)).level is not None
    assert judge(a, b, base).same == same


def test_the_unfinished_statement_at_the_end_of_a_hunk_counts():
    text = "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n x = 1\n-g(0,\n+f({},\n"
    assert not judge(parse_patch(text.format(1)), parse_patch(text.format(2))).same


def test_similarity_is_weighted_by_what_was_changed():
    big, little = b"".join(b"a%d = 1\n" % n for n in range(200)), b"z = 1\n"
    a = edit_of_tree({"a.py": big, "z.py": little})
    b = edit_of_tree({"a.py": big.replace(b"a7 = 1", b"a7 = 2"), "z.py": b"import os\nprint(os)\n"})
    verdict = judge(a, b, {"a.py": b"", "z.py": b""})
    parts = {file.path: file.similarity for file in verdict.files}
    assert verdict.similarity is not None
    assert verdict.similarity > (parts["a.py"] + parts["z.py"]) / 2 + 0.2


def test_patches_that_delete_different_files_are_never_the_same():
    gone = (
        "diff --git a/{0} b/{0}\ndeleted file mode 100644\n--- a/{0}\n+++ /dev/null\n@@ -1 +0,0 @@\n-x = 1\n"
    )
    one, two = (parse_patch(gone.format(name)) for name in ("a.py", "b.py"))
    assert judge(one, two).level == "unknown"
    assert agreement(fingerprint(one), fingerprint(two)).level is None
    assert judge(one, one).level == "L0"
