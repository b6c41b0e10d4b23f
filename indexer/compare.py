"""Comparison: what changed between what the store knows and what lies on the disk. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nearshot.indexer.discover import Discovery
from nearshot.schema.images import FoundImage, KnownImage


@dataclass(slots=True)
class Changes:
    """Changes that a run has to deal with.

    `new` and `touched` (another state than before, or a failure whose decoder changed) must be read. `failing` cannot be
    read; `still_failed` were tried before and have not changed. `gone` are known images that were not found; `hidden`
    ones lie in directories that could not be read, or came after discovery, and are left as they are.
    """

    new: list[FoundImage] = field(default_factory=list)
    touched: list[tuple[FoundImage, KnownImage]] = field(default_factory=list)
    unchanged: list[KnownImage] = field(default_factory=list)
    failing: list[FoundImage] = field(default_factory=list)
    still_failed: list[KnownImage] = field(default_factory=list)
    gone: list[KnownImage] = field(default_factory=list)
    hidden: list[KnownImage] = field(default_factory=list)
    relabelled: dict[int, str | None] = field(default_factory=dict)


def compare(discovery: Discovery, known: Mapping[str, KnownImage], *, decoder: str, as_of: int) -> Changes:
    """Sort every image found or known into what must be done with it; `decoder` is the one that would read it now.

    `as_of` is the store's revision before discovery: what has come into the store since may well be on the disk.
    """
    changes = Changes()
    seen = set()
    for image in discovery.images:
        seen.add(image.path)
        before = known.get(image.path)
        if before is not None and not before.present:
            before = None
        if image.failure is not None:
            if before is not None and before.failure == image.failure:
                changes.still_failed.append(before)
            else:
                changes.failing.append(image)
        elif before is None:
            changes.new.append(image)
        elif before.state != image.state or (before.failure is not None and before.decoder != decoder):
            changes.touched.append((image, before))
        elif before.failure is not None:
            changes.still_failed.append(before)
        else:
            changes.unchanged.append(before)
            if before.label != image.label:
                changes.relabelled[before.id] = image.label
    for path, before in known.items():
        if before.present and path not in seen:
            unseen = before.revision > as_of or (discovery.hides(path) and not before.failure)
            (changes.hidden if unseen else changes.gone).append(before)
    return changes
