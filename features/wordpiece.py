"""WordPiece in plain Python: the pieces that a lower-casing BERT tokenizer would give, at serving speed.

Equal to the Hugging Face tokenizer on ordinary text, code and prose alike (a test holds it to that). Known
deviations: about 500 rare marks and punctuation characters that the two sides' Unicode tables class
differently, nearly all of them recent; special tokens written out in the text, such as "[SEP]", which are
plain text here; and text beyond MAX_CHARS, which is cut off.
"""

from __future__ import annotations

import re
import string
import unicodedata

import numpy as np

from features.bytewords import set_apart

MAX_CHARS = 32_768  # more is cut off: the salient text is far shorter, and sums stay inside 32 bits
_MAX_WORD = 100  # a longer word is unknown, as in BERT
_WORDS_KEPT = 65_536
_FOREIGN_KEPT = 16_384

# All but the marks of ASCII, which are set apart from the words around; other punctuation has been before.
_NO_MARKS = bytes(set(range(256)).difference(string.punctuation.encode()))
_CONTROL = bytes(
    code for code in range(128) if chr(code) not in "\t\n\r" and unicodedata.category(chr(code)) == "Cc"
)
_LOWER = bytes(range(256)).lower()  # of UTF-8, only what is ASCII
_ABROAD = re.compile(r"[^\x00-\x7f]+")
_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class _Foreign(dict[int, str]):
    """For `str.translate`: what BERT's normaliser makes of one character, worked out on first sight."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _FOREIGN_KEPT:
            self.clear()
        self[code] = made = _normal(chr(code))
        return made


def _normal(char: str) -> str:
    """Clean, set CJK and punctuation apart, strip accents, lower-case: in BERT's order."""
    if char in "\t\n\r":
        return " "
    if char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs"):
        return ""
    if char.isspace():
        return " "
    if any(low <= ord(char) <= high for low, high in _CJK):
        return f" {unicodedata.normalize('NFD', char)} "  # a compatibility form becomes the ideograph itself
    bare = "".join(c for c in unicodedata.normalize("NFD", char) if unicodedata.category(c) != "Mn").lower()
    return "".join(f" {c} " if not c.isascii() and unicodedata.category(c)[0] == "P" else c for c in bare)


class WordPiece:
    """A tokenizer over a fixed vocabulary, with a bounded cache of the words seen."""

    def __init__(self, vocab: list[str], unknown: str = "[UNK]") -> None:
        self.vocab = vocab
        self._foreign = _Foreign()
        self._cache = _PieceCache({piece: i for i, piece in enumerate(vocab)}, unknown)

    def words(self, text: str) -> list[str]:
        """Cut the text into lower-case words and single punctuation marks."""
        text = text[:MAX_CHARS]
        if not text.isascii():
            text = _ABROAD.sub(self._normalised, text)
        said = text.encode().translate(_LOWER, _CONTROL)  # several times as fast as a str's
        return set_apart(said, _NO_MARKS).decode().split()

    def _normalised(self, run: re.Match[str]) -> str:
        """What BERT's normaliser makes of characters beyond ASCII: in lower case, no surrogates."""
        return run[0].translate(self._foreign)

    def ids(self, text: str) -> list[int]:
        """List the indices into the vocabulary of the text's pieces, in order, without special tokens."""
        found: list[int] = self.rows(text).tolist()
        return found

    def rows(self, text: str) -> np.ndarray:
        """Return the same as an array (n,) int32."""
        return np.frombuffer(b"".join(map(self._cache.__getitem__, self.words(text))), np.int32)

    def forget(self) -> None:
        """Empty the word cache, as after a cold start."""
        self._cache.clear()


class _PieceCache(dict[str, bytes]):
    """word -> indices of its pieces, as bytes of int32; started anew when full: cheaper than an order."""

    def __init__(self, index: dict[str, int], unknown: str) -> None:
        super().__init__()
        self._index = index
        self._unknown = _packed([index[unknown]])
        self._longest = max(map(len, index))

    def __missing__(self, word: str) -> bytes:
        if len(self) >= _WORDS_KEPT:
            self.clear()
        self[word] = pieces = self._split(word)
        return pieces

    def _split(self, word: str) -> bytes:
        """Greedy longest match from the left; a word with an unmatched rest is unknown as a whole."""
        index, found, start, size = self._index, [], 0, len(word)
        if size > _MAX_WORD:
            return self._unknown
        while start < size:
            prefix = "##" if start else ""
            for end in range(min(size, start + self._longest), start, -1):
                piece = index.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return self._unknown
            found.append(piece)
            start = end
        return _packed(found)


def _packed(ids: list[int]) -> bytes:
    return np.array(ids, np.int32).tobytes()
