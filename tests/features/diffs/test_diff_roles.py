"""What a file is for, by its path."""

# ruff: noqa: E501 - tables read best with many to a line
import pytest

from features.diffs.roles import role_of


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("django/test/client.py", "code"), ("tests/test_x.py", "test"), ("pkg/tests/x.py", "test"),
        ("src/test/java/A.java", "test"), ("a/b.spec.ts", "test"), ("x_test.go", "test"), ("src/_pytest/a.py", "code"),
        ("docs/a.py", "doc"), ("README.rst", "doc"), ("requirements.txt", "code"), ("CMakeLists.txt", "code"),
        ("uv.lock", "lock"), ("go.sum", "lock"), ("package.json", "code"), ("testing/x.py", "test"),
        ("sympy/testing/runtests.py", "code"), ("src/contest.py", "code"), ("latest/a.py", "code"),
    ],
)  # fmt: skip
def test_roles(path, role):
    assert role_of(path) == role


def test_only_created_files_are_scratch():
    assert role_of("reproduce_bug.py", created=True) == "scratch"
    assert role_of("reproduce_bug.py") == "code"
    assert role_of("src/debug.py", created=True) == "code"


def test_a_role_is_the_same_for_a_path_too_long_to_remember():
    assert role_of("a/" * 300 + "test_x.py") == "test"
    assert role_of("a/" * 300 + "x.py") == role_of("x.py") == "code"
