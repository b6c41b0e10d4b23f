"""A copy of a store in another place: from a directory into PostgreSQL, the other way, or from one to another of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location, is_address, shown_location
from nearshot.schema.store import Store, is_there
from nearshot.schema.store_copy import StoreCopy, require_whole
from nearshot.vectors.segments import write_segments


@dataclass
class CopyReport:
    """What a copy has in it: `rows` of each table; `contents` of `total`, of which some `already` were there before."""

    total: int = 0
    contents: int = 0
    already: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False

    def as_json(self) -> dict[str, object]:
        """The report as JSON has it."""
        return vars(self)


class CopyRun:
    """A run that copies one state of a store; the source may be read and written meanwhile. Iterating it does the work."""

    def __init__(self, source: Location, target: Location, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        """UsageError where both are the same, or there is none to copy; what else can be wrong is told when it is run."""
        if str(source) == str(target) or _is_same_directory(source, target):
            raise UsageError("a store cannot be copied onto itself")
        if not is_there(source):
            raise UsageError(f"no store at {shown_location(source)}: there is nothing to copy")
        self.source, self.target, self.report = source, target, CopyReport()
        self._should_stop = should_stop

    def __iter__(self) -> Iterator[CopyReport]:
        """Copy; the report as it is after each chunk. What was read back and is the same is committed.

        Raises UsageError where the target is a store, StoreError where something of the source is damaged.
        """
        report = self.report
        with ExitStack() as stack:
            source = stack.enter_context(Store(self.source))
            catalog = stack.enter_context(source.reading())
            require_whole(source, catalog)
            target = stack.enter_context(Store(self.target, create=True, unfinished=True))
            with target.held("nearshot copy"):
                copy = StoreCopy(source, catalog, target)
                report.total = copy.total
                yield report
                with closing(copy.chunks()) as chunks:
                    for contents, already in chunks:
                        report.contents += contents
                        report.already += already
                        yield report
                        if self._should_stop():
                            report.interrupted = True
                            return
                report.rows = copy.copy_others()
                write_segments(target, copy.backbones.values())
                copy.finish()


def _is_same_directory(source: Location, target: Location) -> bool:
    if is_address(source) or is_address(target):
        return False
    return source.resolve() == target.resolve()  # type: ignore[union-attr]
