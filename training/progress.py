"""Progress on stderr, with a rate and the time left, for work of more than two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

SHOW_AFTER_S = 2.0

T = TypeVar("T")


@contextmanager
def progress(total: float | None, description: str) -> Iterator[Callable[[float], None]]:
    """Yield `advance(n)`; a bar appears once the work has taken two seconds, and goes when it is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.speed:.3g}/s")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(description, total=total)
    started = time.monotonic()
    shown = False

    def advance(n: float = 1.0) -> None:
        nonlocal shown
        bar.advance(task, n)
        if not shown and time.monotonic() - started > SHOW_AFTER_S:
            bar.start()
            shown = True

    try:
        yield advance
    finally:
        bar.stop()


def track(items: Iterable[T], description: str) -> Iterator[T]:
    """Yield the items, counting them on the bar."""
    with progress(len(items) if isinstance(items, Sized) else None, description) as advance:
        for item in items:
            yield item
            advance(1)
