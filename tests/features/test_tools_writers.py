"""Shell commands that write files are told from those that read, build or test."""

from __future__ import annotations

import pytest

from features.diffs.calls import edit_of_calls, edit_of_text
from features.diffs.judge import judge
from features.tools import edits_in_shell


@pytest.mark.parametrize(
    "command",
    [
        "python - <<E\nopen('m.py','w').write('x')\nE",
        "python3 -c \"from pathlib import Path; Path('m.py').write_text('x')\"",
        "node -e \"require('fs').writeFileSync('a.js', 'x')\"",
        "ed m.py <<E\n1d\nw\nE",
        "ed -s m.py",
        "truncate -s0 m.py",
        "dd if=/dev/null of=m.py",
        "ruby -i -pe 'x' m.rb",
        "ruby -pi -e 'x' m.rb",
        "awk -i inplace '{print}' m.py",
        "ln -sf a b",
        "black .",
        "cd src && python -m black .",
        "python3 fix.py && black .",
        "npx prettier --write .",
        "prettier -w a.js",
        "ruff format",
        "ruff check --fix .",
        "npx eslint . --fix",
        "gofmt -w a.go",
        "cargo fmt",
        "go fmt ./...",
        "python fix_imports.py",
        "bash -lc 'black m.py'",
        "sed -i s/a/b/ m.py",
    ],
)
def test_writers_are_seen(command):
    assert edits_in_shell(command)
    edit = edit_of_calls([("Bash", {"command": command})])
    assert judge(edit, edit).level == "unknown"


@pytest.mark.parametrize(
    "command",
    [
        "pytest -q tests",
        "ls -la",
        "grep -rn black src",
        "cat m.py",
        "git status",
        "npm test",
        "npm run build",
        "python -c 'print(1)'",
        "python - <<E\nprint(open('m.py').read())\nE",
        "python reproduce.py",
        "python tests/test_fix.py",
        "black --check .",
        "ruff check .",
        "ruff format --check .",
        "gofmt -l .",
        "cargo fmt --check",
        "npx eslint .",
        "prettier --check .",
        "awk '{print $1}' m.py",
        "sed -n 1,5p m.py",
        "echo black",
        "dd if=a of=/dev/null",
        "ruby -e 'puts 1'",
        "pip install black",
        "python -m pip install -e .",
    ],
)
def test_readers_are_harmless(command):
    assert not edits_in_shell(command)


def test_a_block_or_an_envelope_within_a_diff_is_text_of_the_diff():
    def diff(limit, inside):
        body = f"-LIMIT = 1\n+LIMIT = {limit}\n" + "".join(f" {line}\n" for line in inside)
        size = len(inside) + 1
        return f"--- a/p.py\n+++ b/p.py\n@@ -1,{size} +1,{size} @@\n{body}"

    block = ["app.py", "<<<<<<< SEARCH", "import a", "=======", "import b", ">>>>>>> REPLACE"]
    for inside in (block, ['b = "*** Begin Patch"']):
        two, many = edit_of_text(diff(2, inside)), edit_of_text(diff(999, inside))
        assert [file.path for file in two.files] == ["p.py"]
        assert not judge(two, many).same
        assert judge(two, two).level == "L0"
    assert edit_of_text(diff(2, ["x"]) + "\n" + "\n".join(block)).problem
    assert edit_of_text("\n".join(block)).files[0].path == "app.py"
