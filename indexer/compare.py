"""Comparison: what changed between what the store knows and what lies on the disk. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nearshot.schema.images import FoundImage, KnownImage


@dataclass(slots=True)
class Changes:
    """Changes that a run has to deal with.

    `new` and `touched` (another state than before, or a failure whose decoder changed) must be read. `failing` cannot be
    read; `still_failed` were tried before and have not changed. `gone` are known images that were not found; `hidden`
    ones lie in directories that could not be read, or came after discovery, and are left as they are. `returned` ones were
    taken out of the store, and lie there as they did. Of `unchanged` and `returned` ones there may be millions: these are ids.
    """

    found: int = 0
    new: list[FoundImage] = field(default_factory=list)
    touched: list[tuple[FoundImage, KnownImage]] = field(default_factory=list)
    unchanged: array[int] = field(default_factory=lambda: array("q"))
    returned: array[int] = field(default_factory=lambda: array("q"))
    failing: list[FoundImage] = field(default_factory=list)
    still_failed: list[KnownImage] = field(default_factory=list)
    gone: list[KnownImage] = field(default_factory=list)
    hidden: list[KnownImage] = field(default_factory=list)
    relabelled: dict[int, str | None] = field(default_factory=dict)


class Comparison:
    """Sorts every image found or known into what must be done with it; `decoder` is the one that would read it now.

    `as_of` is the store's revision before discovery: what has come into the store since may well be on the disk. `seen` are
    the ids of the images that were found.
    """

    def __init__(self, *, decoder: str, as_of: int) -> None:
        self.changes = Changes()
        self.seen = array("q")
        self._decoder, self._as_of = decoder, as_of

    def find(self, images: Iterable[FoundImage], known: Mapping[str, KnownImage]) -> None:
        """Sort images that were found, with what is known of each, by path."""
        for image in images:
            self.changes.found += 1
            before = known.get(image.path)
            if before is not None and not before.present:
                if self._is_as_it_was(image, before):
                    self._take_as_it_is(image, before, self.changes.returned)
                    continue
                before = None
            if before is not None:
                self.seen.append(before.id)
            self._sort(image, before)

    def miss(self, known: KnownImage, *, hidden: bool) -> None:
        """Sort an image that is known and was not found; `hidden` where nobody could look."""
        unseen = known.revision > self._as_of or (hidden and not known.failure)
        (self.changes.hidden if unseen else self.changes.gone).append(known)

    def _sort(self, image: FoundImage, before: KnownImage | None) -> None:
        changes = self.changes
        if image.failure is not None:
            if before is not None and before.failure == image.failure:
                changes.still_failed.append(before)
            else:
                changes.failing.append(image)
        elif before is None:
            changes.new.append(image)
        elif before.state != image.state or (before.failure is not None and before.decoder != self._decoder):
            changes.touched.append((image, before))
        elif before.failure is not None:
            changes.still_failed.append(before)
        else:
            self._take_as_it_is(image, before, changes.unchanged)

    def _is_as_it_was(self, image: FoundImage, before: KnownImage) -> bool:
        """Tell whether an image that is not in the store any more need not be read to be there again."""
        usable = before.content_id is not None and before.failure is None and image.failure is None
        return usable and before.state == image.state and before.revision <= self._as_of

    def _take_as_it_is(self, image: FoundImage, before: KnownImage, taken: array[int]) -> None:
        taken.append(before.id)
        if before.label != image.label:
            self.changes.relabelled[before.id] = image.label
