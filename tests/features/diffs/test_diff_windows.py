"""Stretches of a file whose base isn't known."""

from hypothesis import given
from hypothesis import strategies as st

from features.diffs.edits import FileEdit, Replace
from features.diffs.postimage import Window
from features.diffs.windows import windows


@given(st.binary(min_size=1, max_size=20), st.binary(max_size=20), st.booleans())
def test_one_replacement_is_its_own_stretch(old, new, every):
    file = FileEdit(path="a.py", ops=(Replace(old, new, every),))
    assert windows(file, None) == [Window(0, old, new, old)]
    assert windows(file, file) == [Window(0, old, new, new)]  # the general way
