"""What is searched: vectors in this process, or elsewhere; whichever it is, the answers are the same."""

from __future__ import annotations

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.mirrors import open_mirror
from nearshot.vectors.nominated import NominatedStore
from nearshot.vectors.pgvector import Pgvector
from nearshot.vectors.segmented import SegmentedStore
from nearshot.vectors.segments import open_vectors

Searchable = SegmentedStore | NominatedStore


def open_searchable(
    store: Store,
    catalog: Catalog,
    backbone: BackboneRow,
    role: Role,
    *,
    category: str | None = None,
    label: str | None = None,
    whole: bool = True,
    once: bool = False,
) -> Searchable:
    """The vectors of a backbone and role (of a category, of a label) as the catalog's state has them, to be searched.

    Where the store has a mirror, that is asked. Where they are asked `once` and the rows are the index, the database compares:
    to read all of them for one answer takes longer. Else they are those of `open_vectors`, which takes the same options.
    """
    if store.mirror is not None:
        return open_mirror(store, catalog, backbone, role, category=category, label=label)
    if once and not store.has_segments:
        nominator = Pgvector(backbone, role)
        return NominatedStore(store, catalog, backbone, role, nominator, category=category, label=label)
    return open_vectors(store, catalog, backbone, role, category=category, label=label, whole=whole)
