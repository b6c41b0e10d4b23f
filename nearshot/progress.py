"""Progress: a bar for whoever waits, in terminals and notebooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(verb: str, noun: str, *, shown: bool | None = None) -> Iterator[Callable[[int, int, int], None]]:
    """A bar on standard error with rate and time left, to be told (done, total, failed).

    `shown` tells whether there is one, in notebooks, too; by default on terminals alone.
    """
    if not (sys.stderr.isatty() if shown is None else shown):
        yield lambda _done, _total, _failed: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(verb),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[rate]}} {noun}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed"),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bars:
        bar = bars.add_task(verb, total=None, rate="-", failed=0)

        def advance(done: int, total: int, failed: int) -> None:
            elapsed = bars.tasks[0].elapsed or 0.0
            rate = f"{done / elapsed:.1f}" if done and elapsed else "-"
            bars.update(bar, completed=done, total=total, failed=failed, rate=rate)

        yield advance
