"""Stored vectors: in the order that they are asked for, however many, and none in the place of one that is lost."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import delete

from nearshot.schema import tables
from nearshot.schema.editor import Embedding, NewContent
from nearshot.schema.errors import StoreError
from nearshot.schema.store import Store
from nearshot.schema.vectors import stored_vectors
from nearshot.vectors.normalise import normalise
from tests.schema.test_lacking import use

pytestmark = pytest.mark.both_stores

COUNT = 5000
"""More than are read at a time."""


def test_vectors_come_in_the_order_of_their_contents_and_a_lost_one_is_told(store: Store) -> None:
    chance = np.random.default_rng(0)
    vectors = normalise(chance.standard_normal((COUNT, 4)))
    with store.writing() as editor:
        row = use(editor, "hog")
        ids = list(editor.add_contents(NewContent(f"{i}", 7, 8, 8, "PNG") for i in range(COUNT)).values())
        editor.put_embeddings(Embedding(content, row.id, vector) for content, vector in zip(ids, vectors, strict=True))
    some = chance.integers(0, COUNT, size=COUNT)
    with store.reading() as catalog:
        read = list(stored_vectors(catalog, row, np.array(ids)[some]))
    assert [len(part) for part in read] == [4096, COUNT - 4096]
    np.testing.assert_array_equal(np.concatenate(read), vectors[some])
    lost = ids[some[-1]]
    with store.writing() as editor:
        editor.connection.execute(delete(tables.embeddings).where(tables.embeddings.c.content_id == lost))
    with store.reading() as catalog, pytest.raises(StoreError, match="verify --repair"):
        list(stored_vectors(catalog, row, np.array(ids)[some]))
    with store.reading() as catalog, pytest.raises(StoreError, match="verify --repair"):
        list(stored_vectors(catalog, row, np.array([lost])))
    with store.reading() as catalog:
        assert list(stored_vectors(catalog, row, np.array([], dtype=np.int64))) == []
