"""Discovery: what lies in a data directory, without opening an image."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nearshot.indexer.remarks import Remarks
from nearshot.indexer.walk import Walk
from nearshot.schema.contract import QUERY_DIRECTORY, SUPPORT_DIRECTORY, Breach
from nearshot.schema.errors import UsageError
from nearshot.schema.images import FoundImage, Sidecar
from nearshot.schema.paths import AnyPath, is_object, named, resolved

if TYPE_CHECKING:
    from nearshot.indexer.listing import Listing


class Discovery:
    """A walk over a data directory (or some categories of it), in the order of names: iterate over it, once, for its images.

    Nothing is kept of an image that was passed on. What lies outside the contract (`breaches`), the directories that could not
    be read (`unread`) and the caption files (`sidecars`, by the path of the image that they lie beside) are complete when the
    iteration ends; `categories` are known from the start.
    """

    def __init__(
        self, root: AnyPath, categories: Collection[str] = (), *, follow_links: bool = False, raw: str | None = None
    ) -> None:
        """Raise UsageError where it is no data directory, or has no such category.

        With `raw`, the name of a directory in the categories, what is walked over are the raw pictures in those.
        """
        self._remarks = Remarks()
        self._walk: Walk | Listing
        if isinstance(root, Path):
            if not root.is_dir():
                raise UsageError(_no_directory(root))
            if (root / SUPPORT_DIRECTORY).is_dir() or (root / QUERY_DIRECTORY).is_dir():
                raise UsageError(_is_category(root))
            self._walk = Walk(str(root), self._remarks, follow_links=follow_links, raw=raw)
        else:
            from nearshot.indexer.listing import Listing

            self._walk = Listing(root, self._remarks)
        names = self._walk.top()
        if is_object(root) and not (names or self._remarks.breaches):
            raise UsageError(_no_directory(root))
        if is_object(root) and (SUPPORT_DIRECTORY in names or QUERY_DIRECTORY in names):
            raise UsageError(_is_category(root))
        if missing := sorted(set(categories) - set(names)):
            raise UsageError(f"no category '{missing[0]}' in {root}; there are {', '.join(names) or 'none'}")
        self.categories = [name for name in names if not categories or name in categories]

    def __iter__(self) -> Iterator[FoundImage]:
        """Walk."""
        for name in self.categories:
            yield from self._walk.category(name)

    @property
    def breaches(self) -> list[Breach]:
        """What lies outside the contract."""
        return self._remarks.breaches

    @property
    def unread(self) -> list[str]:
        """Directories that could not be read."""
        return self._remarks.unread

    @property
    def sidecars(self) -> dict[str, Sidecar]:
        """Caption files by the path of the image that they lie beside."""
        return self._remarks.sidecars

    def hides(self, path: str) -> bool:
        """Tell whether a path lies in a directory that could not be read, so that its absence proves nothing."""
        return any(path.startswith(f"{directory}/") for directory in self.unread)


def _is_category(root: AnyPath) -> str:
    return f"{root} is a category, not the data directory; give {named(resolved(root).parent)}"


def _no_directory(root: AnyPath) -> str:
    return f"{root} is not a directory; give the data directory that holds <category>/{SUPPORT_DIRECTORY}/"
