"""A prompt as a cache sees it, what caches hold of a conversation, and how a prompt splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from features.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Why = Literal[
    "warm",  # all of what was sent before is read
    "cold_start",  # nothing of this was sent before, to any model
    "switched",  # sent before, to another model
    "ttl_expired",  # sent before, too long ago
    "broken_prefix",  # what was sent last is not the beginning of this prompt
    "invalidated",  # tools, thinking or another setting changed
    "not_visible",  # sent at the same time: the other's answer hasn't begun
    "lookback",  # the last marker is too many blocks back
    "missed",  # it should have been read, and the usage block says it wasn't (best effort, another upstream)
    "unmarked",  # the client marks nothing, and this cache wants marks
    "below_floor",  # too short to be cached
    "no_rules",  # nothing is known of this cache: all is fresh
    "not_followed",  # nobody followed the conversation, as offline: what is warm isn't known, all is fresh
]


class CacheRequest(Value, frozen=True):
    """A prompt as a cache sees it.

    `hashes` are chain hashes (equal = equal prefixes) and `sizes` how far each reaches, in any one unit: the
    last stands for all `tokens`. Without hashes the tokens alone speak: a prompt that isn't shorter than the
    last one (and its answer) extends it, unless `shared` says how many leading tokens are the same.
    """

    key: str
    tokens: int
    hashes: Sequence[int] = ()
    sizes: Sequence[int] = ()
    marks: tuple[int, ...] | None = None  # leading hashes before each marker; None = not known, () = none
    blocks: Sequence[int] = ()  # content blocks up to each hash, for look-backs; default one per hash
    lifetime: str | None = None  # class asked for; None = the default
    settings: Mapping[str, object] = {}  # what may invalidate: tools, tool_choice, thinking, images
    shared: int | None = None


class Sent(Value, frozen=True):
    """A prompt that a cache holds."""

    key: str
    tokens: int
    answer_tokens: int  # cached behind it, 0 where answers aren't
    hashes: Sequence[int]
    sizes: Sequence[int]
    marks: tuple[tuple[int, float], ...]  # leading hashes up to an entry, and when that was last used
    settings: Mapping[str, object]
    lifetime: str | None
    used_ms: float
    visible_ms: float


class CacheState(Value, frozen=True):
    """What was sent lately, oldest first, and how best effort has fared: (key, hits, warm calls)."""

    sent: tuple[Sent, ...] = ()
    trials: tuple[tuple[str, float, float], ...] = ()


class Split(Value, frozen=True):
    """A prompt by how it will be billed; read + write + write_1h + fresh = its tokens.

    `read` is what comes if the cache does what its rules say, with probability `hit`; `expected_read` is the
    mean. `sure` is the certainty of the whole answer in [0, 1]: the hit, the rules' doubts, the description.
    `lost` counts tokens that were sent before, or could have been, and aren't read, because of `why`.
    """

    read: int
    write: int
    write_1h: int
    fresh: int
    hit: float
    sure: float
    lost: int
    why: Why

    @property
    def tokens(self) -> int:
        """The whole prompt."""
        return self.read + self.write + self.write_1h + self.fresh

    @property
    def expected_read(self) -> float:
        """Mean tokens read, misses included."""
        return self.read * self.hit
