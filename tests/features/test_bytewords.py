"""Words and marks in bytes: what the patterns find that they stand for."""

import re

from hypothesis import given
from hypothesis import strategies as st

from features.bytewords import IN_WORDS, blanked, set_apart, tokens_of
from features.diffs.similarity import Change

texts = st.binary(max_size=60) | st.text(alphabet="a_1é \t\n\r\v\f\x1c.(+", max_size=40).map(str.encode)


@given(texts)
def test_tokens_are_those_of_the_pattern(text):
    assert tokens_of(text) == re.findall(rb"\w+|[^\w\s]", text)


@given(texts, texts)
def test_tokens_of_a_change_are_those_of_its_lines(before, after):
    change = Change(before, after)
    went = [b"-" + token for line in change.went for token in re.findall(rb"\w+|[^\w\s]", line)]
    assert change.tokens() == went + [
        token for line in change.came for token in re.findall(rb"\w+|[^\w\s]", line)
    ]


@given(texts)
def test_what_is_in_no_word_is_a_space(text):
    assert text.translate(blanked(IN_WORDS)) == re.sub(rb"\W", b" ", text)
    assert text.translate(blanked(IN_WORDS + b".")) == re.sub(rb"[^\w.]", b" ", text)


@given(texts)
def test_a_space_stands_on_either_side_of_each_mark(text):
    assert set_apart(text, bytes(set(range(256)) - set(b".("))) == re.sub(rb"[.(]", rb" \g<0> ", text)
