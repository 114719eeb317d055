"""A log in parts of whole sessions: what is made of each part waits in a file, so one is in memory at a time.

A log that is one part stays in memory as it is.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CALLS = 50_000  # of a part, unless one session has more

Thing = TypeVar("Thing")
Other = TypeVar("Other")


class Parts(Generic[Thing]):
    """One thing for each part of a log, in the order of the parts; files go when nobody needs them."""

    def __init__(self, things: Iterable[Thing] = (), *, many: bool = False) -> None:
        self._held: list[Thing] = []
        self._count = 0
        self._folder: Path | None = None
        if many:
            self._folder = Path(tempfile.mkdtemp(prefix="samediff-what-if-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for thing in things:
            self.add(thing)

    @property
    def many(self) -> bool:
        """Whether they are kept in files."""
        return self._folder is not None

    def add(self, thing: Thing) -> None:
        """Put the next part's thing behind the others."""
        if self._folder is None:
            self._held.append(thing)
        else:
            with (self._folder / str(self._count)).open("wb") as file:
                pickle.dump(thing, file, protocol=5)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> Thing:
        if self._folder is None:
            return self._held[at]
        with (self._folder / str(at)).open("rb") as file:
            found: Thing = pickle.load(file)  # noqa: S301 — written by this run, in a folder that is its own
        return found

    def __iter__(self) -> Iterator[Thing]:
        return (self[at] for at in range(self._count))

    def map(self, change: Callable[[Thing], Other]) -> Parts[Other]:
        """What becomes of each."""
        return Parts((change(thing) for thing in self), many=self.many)
