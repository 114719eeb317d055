"""Comparing only where two Python sources part says what comparing the whole of them says."""

from hypothesis import given
from hypothesis import strategies as st

from features.diffs.languages import language_of
from features.diffs.python_pair import python_equal_with_comments
from features.diffs.trees import Unparsable, form

PYTHON = language_of("a.py")
STATEMENTS = st.sampled_from(
    [
        "import os\n",
        "import sys  # why\n",
        "# about b\nimport b\n",
        "from a import (x,\n    y)\n",
        "\n",
        "x = 1\n",
        "x  =  1\n",
        "x = 2  # two\n",
        "x = 2\n",
        "# a word\n",
        "a = 1; b = 2\n",
        "a = 1;  b = 2;\n",
        "def f():\n    return 1  # one\n",
        "def f():\n\n    return 1\n",
        "if x:\n    pass\nelse:\n    y\n",
        "'''text\n  in lines'''\n",
        "s = '''a\r\nb'''\r\n",
        "@d\nclass A:\n    x = 1\n",
        "def broken(:\n",
        "é = 'ü'\n",
    ]
)
SOURCES = st.lists(STATEMENTS, max_size=8).map("".join)


def whole(a: bytes, b: bytes) -> bool | None:
    try:
        return form(a, PYTHON, 1) == form(b, PYTHON, 1)
    except Unparsable:
        return None


def quick(a: bytes, b: bytes) -> bool | None:
    try:
        return python_equal_with_comments(a, b, PYTHON)
    except Unparsable:
        return None


@given(st.lists(STATEMENTS, max_size=5), SOURCES, SOURCES, st.lists(STATEMENTS, max_size=5))
def test_the_quick_way_is_the_whole_way(head, a, b, tail):
    one, other = ("".join([*head, middle, *tail]).encode() for middle in (a, b))
    assert quick(one, other) == whole(one, other)
    assert quick(one, one) == whole(one, one)


def test_a_comment_counts_and_import_order_does_not():
    assert not python_equal_with_comments(b"x = 1\ny = 2\n", b"x = 1\ny = 2  # two\n", PYTHON)
    assert python_equal_with_comments(b"import b\nimport a\nx = 1\n", b"import a\nimport b\nx = 1\n", PYTHON)
