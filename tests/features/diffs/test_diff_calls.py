"""Edit tool calls of each agent give the same edit as the others, and bad calls are unknown."""

# ruff: noqa: E501 - tables of patches, calls and node types read best one to a line
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.diffs.calls import edit_of_calls, edit_of_text
from features.diffs.judge import judge
from features.diffs.postimage import after
from features.tools import _EXACT as EXACT_NAMES

BASE = {"src/a.py": b"def f(x):\n    y = x + 1\n    return y\n\n\ndef g():\n    return 1\n"}
NOW = BASE["src/a.py"].replace(b"x + 1", b"x + 2")
OLD, NEW = "    y = x + 1\n", "    y = x + 2\n"
ENVELOPE = "*** Begin Patch\n*** Update File: src/a.py\n@@ def f(x):\n-    y = x + 1\n+    y = x + 2\n     return y\n*** End Patch"
BLOCK = "src/a.py\n```python\n<<<<<<< SEARCH\n    y = x + 1\n=======\n    y = x + 2\n>>>>>>> REPLACE\n```\n"
CALLS = {
    "claude edit": [("Edit", {"file_path": "/repo/src/a.py", "old_string": OLD, "new_string": NEW})],
    "claude multi": [("MultiEdit", {"file_path": "/repo/src/a.py", "edits": [{"old_string": "x + 1", "new_string": "x + 3"}, {"old_string": "x + 3", "new_string": "x + 2"}]})],
    "claude write": [("Write", {"file_path": "/repo/src/a.py", "content": NOW.decode()})],
    "json text": [("Edit", json.dumps({"file_path": "/repo/src/a.py", "old_string": OLD, "new_string": NEW}))],
    "codex": [("apply_patch", {"input": ENVELOPE})],
    "codex custom": [("apply_patch", ENVELOPE)],
    "codex shell": [("shell", {"command": ["apply_patch", ENVELOPE]})],
    "codex heredoc": [("shell", {"command": ["bash", "-lc", f"cd /repo && apply_patch <<'EOF'\n{ENVELOPE}\nEOF"]})],
    "str_replace": [("str_replace_editor", {"command": "str_replace", "path": "/repo/src/a.py", "old_str": "x + 1", "new_str": "x + 2"})],
    "insert": [
        ("str_replace_based_edit_tool", {"command": "insert", "path": "/repo/src/a.py", "insert_line": 2, "insert_text": NEW}),
        ("str_replace_based_edit_tool", {"command": "str_replace", "path": "/repo/src/a.py", "old_str": OLD}),
    ],
    "opencode": [("edit", {"filePath": "/repo/src/a.py", "oldString": OLD, "newString": NEW})],
    "cline": [("replace_in_file", {"path": "src/a.py", "diff": BLOCK.split("```python\n")[1].split("```")[0]})],
    "gemini": [("replace", {"file_path": "/repo/src/a.py", "old_string": OLD, "new_string": NEW})],
    "mcp": [("mcp__files__edit_file", {"path": "src/a.py", "edits": [{"old_text": OLD, "new_text": NEW}]})],
}  # fmt: skip
PATCH = "--- a/src/a.py\n+++ b/src/a.py\n@@ -1,3 +1,3 @@\n def f(x):\n-    y = x + 1\n+    y = x + 2\n     return y\n"


@pytest.mark.parametrize("name", CALLS)
def test_every_agent_s_call_means_the_same_edit(name):
    edit = edit_of_calls([("Read", {"file_path": "/repo/src/a.py"}), *CALLS[name]], root="/repo")
    (file,) = edit.files
    assert file.path == "src/a.py"
    assert after(file, BASE) == NOW
    assert judge(edit, edit_of_text(PATCH), BASE).level == "L0"


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"claude write", "insert"}))
def test_without_the_base_they_still_meet(name):
    edit = edit_of_calls(CALLS[name], root="/repo")
    verdict = judge(edit, edit_of_text(PATCH))
    assert verdict.level == "L0", verdict
    other = edit_of_text(PATCH.replace("+    y = x + 2", "+    y = x - 2"))
    assert not judge(edit, other).same


@pytest.mark.parametrize("text", [ENVELOPE, BLOCK, PATCH, f"Here you are:\n```diff\n{PATCH}```\n"])
def test_edits_written_in_plain_text(text):
    (file,) = edit_of_text(text).files
    assert after(file, BASE) == NOW


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (("Edit", {"file_path": "src/a.py", "old_string": "return", "new_string": "yield"}), "isn't unique (2 places)"),
        (("Edit", {"file_path": "src/a.py", "old_string": "nowhere", "new_string": "x"}), "isn't found"),
        (("Edit", {"file_path": "src/a.py", "old_string": "x"}), "without its old and new text"),
        (("Edit", {"old_string": "x", "new_string": "y"}), "without a path"),
        (("Edit", "not json"), "aren't a JSON object"),
        (("Write", {"file_path": "src/a.py"}), "without content"),
        (("MultiEdit", {"file_path": "src/a.py", "edits": ["x"]}), "can't be read"),
        (("NotebookEdit", {"notebook_path": "a.ipynb"}), "notebook"),
        (("str_replace_editor", {"command": "undo_edit", "path": "src/a.py"}), "can't be replayed"),
        (("str_replace_editor", {"command": "insert", "path": "src/a.py", "insert_line": 99, "new_str": "x"}), "outside the file"),
        (("apply_patch", {"input": ENVELOPE.replace("*** End Patch", "")}), "truncated"),
        (("apply_patch", {"input": ENVELOPE.replace("x + 1", "z")}), "aren't found"),
        (("apply_patch", {"input": "*** Begin Patch\n*** Update File: src/a.py\nnonsense\n*** End Patch"}), "can't be read"),
        (("Edit", {"file_path": "../../x", "old_string": "x", "new_string": "y"}), "leaves the tree"),
    ],
)  # fmt: skip
def test_bad_calls_are_unknown_with_the_reason(call, reason):
    verdict = judge(edit_of_text(PATCH), edit_of_calls([call]), BASE)
    assert verdict.level == "unknown"
    assert reason in (verdict.reason or "")


def test_added_deleted_and_moved_files_of_an_envelope():
    text = (
        "*** Begin Patch\n*** Add File: new.py\n+a = 1\n*** Delete File: src/b.py\n*** Update File: src/a.py\n"
        "*** Move to: src/c.py\n@@\n-    return 1\n+    return 2\n*** End Patch"
    )
    files = edit_of_text(text).by_path()
    assert after(files["new.py"], {}) == b"a = 1\n"
    assert after(files["src/b.py"], {"src/b.py": b"x"}) is None
    assert after(files["src/c.py"], BASE) == BASE["src/a.py"].replace(b"return 1", b"return 2")


@given(st.text(max_size=60), st.dictionaries(st.sampled_from(["path", "file_path", "old_string", "new_string", "edits", "diff", "command", "input", "content", "insert_line"]), st.one_of(st.text(max_size=30), st.integers(), st.none(), st.lists(st.text(max_size=5), max_size=2)), max_size=5))  # fmt: skip
def test_no_arguments_raise(text, arguments):
    for name in (
        "Edit",
        "MultiEdit",
        "Write",
        "apply_patch",
        "shell",
        "str_replace_editor",
        "replace_in_file",
        "patch",
    ):
        edit = edit_of_calls([(name, arguments), (name, text)])
        assert judge(edit, edit, BASE).level in ("L0", "L1", "unknown")


EDIT = ("Edit", {"file_path": "a.py", "old_string": "x", "new_string": "y"})


@pytest.mark.parametrize(
    "call",
    [
        ("Bash", {"command": "rm -rf src"}),
        ("Bash", {"command": "cd src && pytest; sed -i s/a/b/ y.py"}),
        ("shell", {"command": ["bash", "-lc", "cat > x.py <<E\nx\nE"]}),
        ("run_terminal_cmd", {"command": "git checkout -- ."}),
        ("insert_content", {"path": "a.py", "line": 1, "content": "z"}),
        ("mcp__fs__search_and_replace", {"path": "a.py", "search": "a", "replace": "b"}),
        ("edit_notebook", {"path": "a.ipynb"}),
    ],
)
def test_an_edit_that_cannot_be_read_makes_the_whole_unknown(call):
    whole = edit_of_calls([EDIT, call])
    assert whole.problem
    assert judge(edit_of_calls([EDIT]), whole).level == "unknown"
    assert judge(whole, whole).level == "unknown"


@pytest.mark.parametrize(
    "command",
    ["pytest -q 2>/dev/null", "ls | head; git status", "git diff > /dev/null", "mkdir -p a", "grep -rn x"],
)
def test_commands_that_edit_nothing_are_passed_over(command):
    assert edit_of_calls([EDIT, ("Bash", {"command": command})]) == edit_of_calls([EDIT])


def test_every_tool_that_edits_has_a_reader_or_a_problem():
    names = [name for name, kind in EXACT_NAMES.items() if kind == "edit"]
    assert len(names) > 20
    for name in names:
        edit = edit_of_calls([(name, {"path": "a.py"})])
        assert (
            edit.problem
            or edit.files
            or name in ("strreplaceeditor", "strreplacebasededittool", "texteditor")
        )


@pytest.mark.parametrize("every", ["maybe", 2, [], {"a": 1}, ""])
def test_replace_all_is_yes_or_no_or_the_call_was_never_run(every):
    call = ("Edit", {**EDIT[1], "replace_all": every})
    assert judge(edit_of_calls([EDIT]), edit_of_calls([call]), {"a.py": b"x"}).level == "unknown"


def test_replace_all_may_be_written_out():
    said = [edit_of_calls([("Edit", {**EDIT[1], "replace_all": no})]) for no in (False, "false", None)]
    assert {judge(edit, said[0], {"a.py": b"x x"}).level for edit in said} == {"unknown"}  # not unique
    assert judge(said[1], edit_of_calls([EDIT]), {"a.py": b"x"}).level == "L0"


def test_an_editor_s_new_text_of_another_type_deletes_nothing():
    call = {"command": "str_replace", "path": "a.py", "old_str": "x"}
    gone, odd = (edit_of_calls([("str_replace_editor", {**call, **new})]) for new in ({}, {"new_str": []}))
    assert judge(gone, odd, {"a.py": b"x"}).level == "unknown"


def test_files_made_and_taken_away_by_calls():
    made = edit_of_calls([("create_new_file", {"path": "a.py", "content": "x"})])
    assert not judge(made, edit_of_calls([("Write", {"path": "a.py", "content": "y"})])).same
    gone = edit_of_calls([("delete_file", {"path": "a.py"})])
    assert judge(gone, edit_of_calls([("delete_file", {"path": "b.py"})])).level == "unknown"
    assert judge(gone, edit_of_calls([("removefile", {"path": "a.py"})])).level == "L0"


def test_a_text_replaced_that_occurs_twice_is_unknown_without_the_base_too():
    twice = (
        "MultiEdit",
        {
            "file_path": "a.py",
            "edits": [
                {"old_string": "x = 1\nx = 1\n", "new_string": "y = 1\ny = 1\n"},
                {"old_string": "y = 1", "new_string": "z = 1"},
            ],
        },
    )
    assert judge(edit_of_calls([twice]), edit_of_calls([EDIT])).level == "unknown"
