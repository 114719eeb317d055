"""What the judge says: a level per file and overall, a similarity, a reason."""

from __future__ import annotations

from typing import Literal

import msgspec

from features.diffs.roles import Role

VerdictLevel = Literal["L0", "L1", "L2", "L3", "different", "unknown"]
ORDER: tuple[VerdictLevel, ...] = ("L0", "L1", "L2", "L3", "different", "unknown")  # from best to last word
SAME_LEVELS: tuple[VerdictLevel, ...] = ("L0", "L1", "L2")  # these mean *same*
COMPARED: tuple[VerdictLevel, ...] = ORDER[:-1]  # all that says something of two edits


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first difference that counts: 1-based lines of both after-images, and the lines from there on."""

    line_a: int
    line_b: int
    text_a: str
    text_b: str


class FileVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one file. `weak`: the base wasn't known and only pieces were compared."""

    path: str
    level: VerdictLevel
    similarity: float | None = None  # in [0, 1]; None = unknown
    reason: str | None = None
    role: Role = "code"
    set_aside: bool = False  # doesn't count for the overall verdict
    weak: bool = False
    first_difference: Difference | None = None
    weight: int = msgspec.field(default=1, name="changed_tokens")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on two edits. L0 to L2 mean *same*; L3 is a similarity, not a verdict."""

    level: VerdictLevel
    similarity: float | None = None
    reason: str | None = None
    weak: bool = False
    files: list[FileVerdict] = []

    @property
    def same(self) -> bool:
        """Whether it is the same diff."""
        return self.level in SAME_LEVELS


def overall(files: list[FileVerdict]) -> Verdict:
    """The verdict on the whole: the last word of any file that counts, the similarity weighted by size."""
    counted = [file for file in files if not file.set_aside]
    if not counted:
        return Verdict(level="L0", similarity=1.0, reason="neither changes anything", files=files)
    worst = max(counted, key=lambda file: ORDER.index(file.level))
    similarity = None
    if worst.level != "unknown":
        total = sum(file.weight for file in counted)
        similarity = sum((file.similarity or 0.0) * file.weight for file in counted) / total
    return Verdict(
        level=worst.level,
        similarity=similarity,
        reason=None if worst.reason is None else f"{worst.path}: {worst.reason}",
        weak=any(file.weak for file in counted),
        files=files,
    )
