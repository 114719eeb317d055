"""What tool calls do, by the names and commands that real agents use."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.tools import is_mcp, patched_files, tool_kind, understand, understand_command


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("Read NotebookRead LS read read_file list_dir view_image", "read"),
        ("Grep Glob grep codebase_search grep_search", "search"),
        (
            "Edit MultiEdit Write NotebookEdit apply_patch edit write str_replace_editor replace_in_file",
            "edit",
        ),
        (
            "Bash BashOutput shell local_shell exec_command bash run_terminal_cmd write_stdin execute_bash",
            "shell",
        ),
        ("WebFetch WebSearch web_search webfetch browser_action", "web"),
        ("TodoWrite update_plan ExitPlanMode todowrite AskUserQuestion", "plan"),
        ("Task Agent spawn_agent task Skill", "agent"),
        ("mcp__fs__read_file", "read"),
        ("mcp__github__create_issue frobnicate", "other"),
        ("my_custom_grep_tool", "search"),
        ("super-edit.v2", "edit"),
    ],
)
def test_tool_kinds(names, kind):
    assert {name: tool_kind(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


def test_mcp_by_prefix():
    assert is_mcp("mcp__github__create_issue")
    assert not is_mcp("Read")


@pytest.mark.parametrize(
    ("command", "kind", "tests"),
    [
        ("cat src/a.py", "read", False),
        ("cd /repo && sed -n '1,80p' a.py", "read", False),
        ("rg -n foo src", "search", False),
        ("git log --oneline | head", "read", False),
        ("git -C x grep foo", "search", False),
        ("git commit -am x", "shell", False),
        ("sed -i 's/a/b/' a.py", "edit", False),
        ("cat > a.py <<'EOF'\nx = 1\nEOF", "edit", False),
        ("echo x >> notes.md", "edit", False),
        ("echo x 2>/dev/null", "read", False),
        ("apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: a.py\nEOF", "edit", False),
        ("pip install pytest", "shell", False),
        ("grep -rn pytest .", "search", False),
        ("cat test_calc.py", "read", False),
        ("ls tests/", "read", False),
        ("python3 test_calc.py", "shell", True),
        ("cd /repo && FOO=1 timeout 60 python -m pytest -q tests 2>&1 | tail -5", "shell", True),
        ("uv run pytest", "shell", True),
        ("npx jest --ci", "shell", True),
        ("npm test", "shell", True),
        ("npm run test:unit", "shell", True),
        ("go test ./...", "shell", True),
        ("cargo test -p x", "shell", True),
        ("./gradlew :app:testDebug", "shell", True),
        ("mvn -q -Dtest=A test", "shell", True),
        ("bundle exec rspec", "shell", True),
        ("make test", "shell", True),
        ("./vendor/bin/phpunit", "shell", True),
        ("python manage.py test app", "shell", True),
        ("node --test", "shell", True),
        ("", "shell", False),
    ],
)
def test_commands(command, kind, tests):
    action = understand_command(command)
    assert (action.kind, action.tests) == (kind, tests)


def test_calls():
    assert understand("Bash", '{"command":"pytest -q | tail -3"}').piped
    assert not understand("Bash", '{"command":"pytest -q || true"}').piped
    assert understand("shell", '{"command":["bash","-lc","rg foo"]}').kind == "search"
    assert understand("local_shell", '{"type":"exec","command":["cat","a.py"]}').kind == "read"
    assert understand("Edit", '{"file_path":"/a/b.py"}').paths == ("/a/b.py",)
    assert understand("edit", '{"filePath":"/a/b.py"}').paths == ("/a/b.py",)
    assert understand("apply_patch", "*** Begin Patch\n*** Add File: x/y.go\n+a").paths == ("x/y.go",)
    assert understand("str_replace_editor", '{"command":"view","path":"a"}').kind == "read"
    assert understand("frob_it", "not json").kind == "other"
    assert understand_command("sed -i s/a/b/ src/x.py").paths == ("src/x.py",)
    assert understand_command("cat > 'b.py' <<EOF").paths == ("b.py",)


def test_patched_files():
    patch = "*** Update File: a.py\n@@\n*** Delete File: b.py\n--- a/c.py\n+++ b/c.py\n"
    assert patched_files(patch) == ("a.py", "b.py", "c.py")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.text(max_size=200))
def test_any_call_is_understood(name, arguments):
    assert understand(name, arguments).kind


@pytest.mark.parametrize(
    "piece", ["|", "/", "a/", "cd x && ", "A=1 ", "python -m ", "> ", "cat ", "sed -n ", "-x ", "\n"]
)
def test_hostile_commands(piece):
    """Only the head is read: patterns that blew up would hang this test."""
    for command in (piece * 100_000, "make " + piece * 100_000, "python " + piece * 100_000):
        assert understand_command(command).kind == understand_command(command[:2_000]).kind
