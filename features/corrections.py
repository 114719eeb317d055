"""Whether a person says that what was done is wrong: phrases in what they type after the first answer."""

from __future__ import annotations

import re

_OBJECTS = re.compile(
    r"(?:no|nope|wrong|stop|undo|revert|that'?s not|that is not|not what|why did you|don'?t|do not"
    r"|actually,?|wait,?|hmm,? no|instead|you (?:broke|forgot|missed|deleted|removed|didn'?t|did not))\b",
    re.IGNORECASE,
)
_CORRECTS = re.compile(
    r"\bstill (?:fail|broken|not|doesn'?t|does not|get|see|the same|error|wrong|happen|crash)"
    r"|\b(?:doesn'?t|does not|didn'?t|did not) (?:work|compile|build|fix|help)"
    r"|\bnot what i (?:asked|wanted|meant)|\b(?:try|do it) again\b|\bsame (?:error|problem|issue)\b"
    r"|\b(?:revert|undo|roll ?back) (?:this|that|it|your|the)|\byou (?:broke|forgot|missed)\b",
    re.IGNORECASE,
)
# Without one of these the pattern above finds nothing in ASCII text, and takes much longer to say so.
_HINTS = (
    *("still ", "doesnt ", "doesn't ", "does not ", "didnt ", "didn't ", "did not ", "not what i "),
    *("try again", "do it again", "same error", "same problem", "same issue"),
    *("revert ", "undo ", "rollback ", "roll back ", "you broke", "you forgot", "you missed"),
)
_CHARS = 400  # that are looked at


def corrects(text: str) -> bool:
    """Whether a person says that what was done is wrong; the pattern finds nothing without a hint."""
    text = text[:_CHARS]
    if _OBJECTS.match(text):
        return True
    lower = text.lower()
    if text.isascii() and not [hint for hint in _HINTS if hint in lower]:
        return False
    return _CORRECTS.search(text) is not None
