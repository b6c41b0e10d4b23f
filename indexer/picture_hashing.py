"""Hashing pictures: what a category's contents show, in bits that are compared with each other; each content once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress

from nearshot.backbones.cores import number_of_cores
from nearshot.backbones.decode import decode
from nearshot.backbones.in_order import batches, in_order
from nearshot.backbones.picture_hash import RULES, picture_hash
from nearshot.schema.errors import ImageError, StoreError
from nearshot.schema.files import files_of, read_content
from nearshot.schema.picture_hashes import put_picture_hashes, unhashed
from nearshot.schema.store import Store

AT_ONCE = 256
"""Pictures whose hashes are recorded together."""


def hash_pictures(store: Store, categories: Collection[str]) -> Iterator[tuple[int, int]]:
    """Hash what usable images of some categories show and was not hashed before, yielding (done, total) now and then.

    They are recorded batch by batch: whoever interrupts it loses little. What is gone or has changed is passed over. Of a
    store that cannot be written the hashes are lost again.
    """
    with store.reading() as catalog:
        due = unhashed(catalog, categories, RULES)
    yield 0, len(due)
    done = 0
    for batch in batches(due, AT_ONCE):
        with store.reading() as catalog:
            files = files_of(catalog, [sha256 for _, sha256 in batch])

        def hashed(content: tuple[int, str]) -> tuple[int, bytes | None] | None:
            try:
                data = read_content(files.get(content[1], []), content[1])  # noqa: B023 (used before the next batch)
                return None if data is None else (content[0], picture_hash(decode(data).picture))
            except (ImageError, MemoryError):
                return None

        threads = number_of_cores()
        rows = [row for _, row in in_order(hashed, batch, workers=threads, ahead=2 * threads) if row is not None]
        with suppress(StoreError), store.writing() as editor:
            put_picture_hashes(editor, rows, RULES)
        done += len(batch)
        yield done, len(due)
