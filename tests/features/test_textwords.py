"""What is counted of words: the same token by token as for all of a text, and bounded."""

from hypothesis import given, settings
from hypothesis import strategies as st

from features import textwords
from features.textwords import Tokens, _identifiers

TELLING = frozenset(("fix", "and", "a"))
texts = st.text(max_size=60) | st.text(alphabet="aFix_.0 9\n-é٣and", max_size=80)


def counted(tokens, text):
    """Words, numbers, capitals, identifiers and telling words with their places."""
    words = numbers = capitals = 0
    identifiers, telling = set(), []
    for token in tokens.of(text):
        if token is None:
            words += 1
            continue
        telling += [(words + at, word) for at, word in token.telling]
        words, numbers, capitals = words + token.words, numbers + token.numbers, capitals + token.capitals
        identifiers |= token.identifiers
    return words, numbers, capitals, identifiers, telling


def by_the_pattern(text):
    """The same from the words of all of a text."""
    words = textwords._WORD.findall(text)
    return (
        len(words),
        sum(word[0] <= "9" for word in words),
        sum("A" <= word[0] <= "Z" for word in words),
        _identifiers(words),
        [(at, word.lower()) for at, word in enumerate(words) if word.lower() in TELLING],
    )


@settings(max_examples=300)
@given(texts)
def test_tokens_hold_what_the_pattern_finds_in_all_of_a_text(text):
    tokens = Tokens(TELLING)
    assert counted(tokens, text) == by_the_pattern(text)
    assert counted(tokens, text) == by_the_pattern(text)  # known again
    assert counted(tokens, text.replace(" ", "é ")) == by_the_pattern(text.replace(" ", "é "))


def test_words_of_every_kind():
    assert counted(Tokens(TELLING), "Fix a.b, 3.4 and 2nd foo_bar... OK camelCase .x") == (
        10,
        2,
        2,
        {"a.b", "foo_bar", "camelCase"},
        [(0, "fix"), (3, "and")],
    )


def test_what_is_remembered_is_bounded(monkeypatch):
    tokens = Tokens(TELLING)
    monkeypatch.setattr(textwords, "KEPT", 3)
    for n in range(20):
        list(tokens.of(f"w{n} {'x' * (textwords.TOKEN_CHARS + 1)}"))
        assert 0 < len(tokens) <= 3
        assert max(map(len, tokens)) <= textwords.TOKEN_CHARS
