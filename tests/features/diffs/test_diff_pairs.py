"""Two files compared without walking what they share: the same answer as comparing the whole of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.diffs.grammars import Unparsable
from features.diffs.languages import LANGUAGES, language_of
from features.diffs.normal import equal_level
from features.diffs.python_form import python_form
from features.diffs.python_pair import python_equal
from features.diffs.tree_pair import TreePair
from features.diffs.trees import form

PYTHON = language_of("a.py")
SAMPLES = sorted((Path(__file__).parents[2] / "fixtures" / "diffs").iterdir())
LONG = "    total = sum(value for value in values if value is not None and value > 0 and other)\n"
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
        "a = 1; b = 2\n",
        "a = 1;  b = 2;\n",
        "def f():\n    return 1  # one\n",
        "def f():\n\n    return 1\n",
        "def g(values, other):\n" + LONG + "    return total\n",
        "def g(values, other):\n" + LONG.replace("total", "result") + "    return result\n",
        "def g(values, other):\n" + LONG.replace(">", ">=") + "    return total\n",
        "class A:\n    def g(self, values):\n    " + LONG + "        return total\n\n    y = 1\n",
        "class A:\n    def g(self, values):\n    " + LONG + "        return total\n\n    y = 2\n",
        "if x:\n    pass\nelse:\n    y\n",
        "'''text\n  in lines'''\n",
        "s = '''a\r\nb'''\r\n",
        "s = 'a'\rt = 2\n",
        "@d\nclass A:\n    x = 1\n",
        "def broken(:\n",
        "é = 'ü'\n",
    ]
)
SOURCES = st.lists(STATEMENTS, max_size=6).map("".join)


def answer(compare):
    try:
        return compare()
    except Unparsable:
        return None


@given(st.lists(STATEMENTS, max_size=4), SOURCES, SOURCES, st.lists(STATEMENTS, max_size=4))
def test_the_quick_way_is_the_whole_way(head, a, b, tail):
    one, other = ("".join([*head, middle, *tail]).encode() for middle in (a, b))
    for level in (1, 2):
        quick = answer(lambda n=level: TreePair(one, other, PYTHON, {}).equal(n))
        assert quick == answer(lambda n=level: form(one, PYTHON, n) == form(other, PYTHON, n))
    assert answer(lambda: python_equal(one, other)) == answer(lambda: python_form(one) == python_form(other))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_in_each_language_one_dropped_line_is_judged_as_by_the_whole(path):
    source, language = path.read_bytes(), language_of(path.name)
    assert language in LANGUAGES
    lines = source.split(b"\n")
    for number in range(0, len(lines), max(1, len(lines) // 20)):
        other = b"\n".join([*lines[:number], lines[number].replace(b" ", b"  ", 2), *lines[number + 2 :]])
        for level in (1, 2):
            quick = answer(lambda b=other, n=level: TreePair(source, b, language, {}).equal(n))
            assert quick == answer(lambda b=other, n=level: form(source, language, n) == form(b, language, n))


def test_a_comment_counts_and_import_order_does_not():
    assert equal_level(b"x = 1\ny = 2\n", b"x = 1\ny = 2  # two\n", PYTHON) == "L2"
    assert equal_level(b"import b\nimport a\nx = 1\n", b"import a\nimport b\nx = 1\n", PYTHON) == "L1"


def test_equal_bytes_in_other_encodings_are_not_shared():
    body = b"x = '\xc3\xa4'\n"
    assert not python_equal(b"# coding: latin-1\n" + body, b"# coding: utf-8\n" + body)


def test_functions_in_another_order_are_the_same_though_shared():
    f, g = (f"def {name}(values, other):\n{LONG}    return total\n".encode() for name in "fg")
    assert equal_level(f + g, g + f, PYTHON) == "L2"
    assert equal_level(f + g + f, g + f + f, PYTHON) is None
