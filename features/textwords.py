"""The words of a text and what is counted of them; remembered, as most of a text's are those of others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from features.bytewords import IN_WORDS, blanked
from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

_WORD = re.compile(r"[A-Za-z_]\w*+(?:\.\w++)*+|\d[\d.]*+")
_APART = blanked(IN_WORDS + b".")
KEPT = 16_384  # tokens remembered,
TOKEN_CHARS = 64  # if they are no longer


class Token(Value, frozen=True):
    """What a stretch of a text holds that no blank parts."""

    words: int
    numbers: int
    capitals: int  # words that begin with one
    identifiers: frozenset[str]
    telling: tuple[tuple[int, str], ...]  # place among its words, and the word in lower case


class Tokens(dict[str, Token | None]):
    """Token -> what it holds, None for one word with nothing to tell; started anew when full."""

    def __init__(self, telling: AbstractSet[str]) -> None:
        super().__init__()
        self._telling = telling  # words, in lower case

    def of(self, text: str) -> Iterable[Token | None]:
        """What the tokens of a text hold, in order."""
        if (
            text.isascii()
        ):  # between blanks and marks stand the same words, sooner than the pattern finds them
            return map(self.__getitem__, text.encode().translate(_APART).decode().split())
        return map(self.__getitem__, _WORD.findall(text))

    def __missing__(self, token: str) -> Token | None:
        """Read a token, and remember it unless it is long."""
        found = self._read(token)
        if len(token) <= TOKEN_CHARS:
            if len(self) >= KEPT:
                self.clear()
            self[token] = found
        return found

    def _read(self, token: str) -> Token | None:
        words = _WORD.findall(token)
        lower = [word.lower() for word in words]
        found = Token(
            words=len(words),
            numbers=sum([word[0] <= "9" for word in words]),
            capitals=sum(["9" < word[0] <= "Z" for word in words]),
            identifiers=_identifiers(words),
            telling=tuple([(at, word) for at, word in enumerate(lower) if word in self._telling]),
        )
        return None if found == _PLAIN else found


_PLAIN = Token(words=1, numbers=0, capitals=0, identifiers=frozenset(), telling=())


def _identifiers(words: Sequence[str]) -> frozenset[str]:
    """Words in snake_case or camelCase, or dotted; a capitalised word is none of them, nor a number."""
    return frozenset(
        [
            word
            for word in words
            if word[0] > "9"
            and ("_" in word or "." in word or not (word.islower() or word.isupper() or word.istitle()))
        ]
    )
