"""Labelled vectors: many are mapped from a file, and their digest is of what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearshot.schema import labelled, spill
from nearshot.schema.errors import StoreError
from nearshot.schema.labelled import json_parts, labelled_vectors
from nearshot.schema.spill import gathered
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from tests.conftest import run_index

pytestmark = pytest.mark.both_stores


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_json_comes_in_parts_and_is_the_same(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "CHUNK", 3)
    items = [("a, b]", None, i) for i in range(count)]
    assert b"".join(json_parts(items)) == json.dumps(items).encode()


def test_many_vectors_are_mapped_and_are_the_same(
    store: Store, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)

    def held(most: int) -> labelled.LabelledVectors:
        monkeypatch.setattr(spill, "HELD", most)
        with store.reading() as catalog:
            [row] = catalog.backbones()
            return labelled_vectors(catalog, row, "things", Role.SUPPORT)

    in_memory, mapped = held(1 << 20), held(0)
    assert in_memory.vectors.flags.owndata
    assert not mapped.vectors.flags.owndata
    assert mapped.paths == in_memory.paths
    np.testing.assert_array_equal(mapped.vectors, in_memory.vectors)
    assert not list(directory.iterdir()), "the file has no name"


def test_no_room_for_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "HELD", 0)
    monkeypatch.setenv("TMPDIR", "/dev")
    monkeypatch.setattr("tempfile.tempdir", None)

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, _: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(
        StoreError, match=r"no room in .* \(No space left on device\); name another directory in TMPDIR"
    ):
        gathered([np.ones((2, 3), dtype=np.float32)], 2, 3)
