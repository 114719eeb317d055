"""A progress bar with a rate and an ETA, on stderr, and only for work that takes over two seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

AFTER_S = 2.0

Item = TypeVar("Item")


class Progress:
    """A bar for one piece of work, as a context manager; silent where stderr is no terminal.

    `total` is in bytes or in things (`unit`); None = unknown. Works without a terminal as a plain counter.
    """

    def __init__(
        self, about: str, total: int | None = None, unit: Literal["bytes", "things"] = "things"
    ) -> None:
        self.about = about
        self.total = total
        self.unit = unit
        self.done = 0
        self._started = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, amount: int = 1, about: str | None = None) -> None:
        """Note that so much more is done; the bar appears at the first note after two seconds."""
        self.done += amount
        self.about = about or self.about
        if self._bar is None:
            if time.monotonic() - self._started < AFTER_S:
                return
            self._open()
        if self._bar is not None and self._task is not None:
            rate = self.done / max(time.monotonic() - self._started, 1e-9)
            self._bar.update(self._task, completed=self.done, rate=f"{rate:,.3g}/s", description=self.about)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        amount: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        if self.unit == "bytes":
            amount = (DownloadColumn(), TransferSpeedColumn())
        columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(self.about, total=self.total, rate="")
        self._bar.start()


def track(things: Iterable[Item], about: str, total: int | None = None) -> Iterator[Item]:
    """Go through things with a progress bar."""
    with Progress(about, total) as progress:
        for thing in things:
            yield thing
            progress.advance()
