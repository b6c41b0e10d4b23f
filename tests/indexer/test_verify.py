"""Verification: what it finds, what it mends, and what it leaves for lack of a way to rebuild it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from nearshot.indexer.verify import Finding, Remedy, verify
from nearshot.schema.errors import StoreError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.segments import open_vectors
from tests.conftest import counts, run_index, save_crop

SHOT = "things/2.support-set/cat/shot1.png"


def findings_of(store: Store, *, repair: bool = False) -> list[Finding]:
    return list(verify(store, repair=repair))


def test_a_sound_store_has_no_findings(store: Store, small: Path) -> None:
    run_index(store, small)
    assert findings_of(store) == []


def test_a_file_that_changed_or_went_is_a_case_for_indexing(store: Store, small: Path) -> None:
    run_index(store, small)
    save_crop(small / SHOT, "rocket")
    (small / "things/2.support-set/cat/shot2.png").unlink()
    problems = {Path(finding.subject).name: finding.problem for finding in findings_of(store, repair=True)}
    assert problems == {
        "shot1.png": "has changed since it was indexed",
        "shot2.png": "cannot be read: No such file or directory",
    }
    run_index(store, small)
    assert findings_of(store) == []


def test_a_flipped_bit_in_a_segment_is_found_and_mended(store: Store, small: Path) -> None:
    run_index(store, small)
    file = next(store.segment_directory.glob("*support*"))
    content = bytearray(file.read_bytes())
    content[-400] ^= 1
    file.write_bytes(content)
    (store.segment_directory / "left-over.partial").write_text("")
    first = findings_of(store)
    assert [finding.problem for finding in first] == [
        "its bytes are not those that were written",
        "is named by no record",
    ]
    assert [finding.repaired for finding in findings_of(store, repair=True)] == [True, True]
    assert findings_of(store) == []


def harm_vector(store: Store, blob: bytes) -> None:
    with store.writing() as editor:
        editor.connection.execute(sa.text("UPDATE embeddings SET vector = :blob WHERE content_id = 1"), {"blob": blob})


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (b"1234", "is 4 bytes, which are not 708 numbers"),
        (np.full(708, np.nan, "<f4").tobytes(), "has values that are not finite"),
        (np.ones(708, "<f4").tobytes(), "has not length 1"),
    ],
)
def test_a_damaged_vector_is_dropped_and_computed_again(store: Store, small: Path, blob: bytes, problem: str) -> None:
    run_index(store, small)
    harm_vector(store, blob)
    assert (findings_of(store)[0].problem, findings_of(store)[0].remedy) == (problem, Remedy.REPAIR)
    assert {(finding.problem, finding.repaired) for finding in findings_of(store, repair=True)} == {
        (problem, True),
        ("was damaged and dropped, and is not there again", False),
    }
    assert run_index(store, small).backbones["hog"].embedded == 1
    assert findings_of(store) == []


def test_a_damaged_vector_whose_file_is_gone_is_left_where_it_is(store: Store, small: Path) -> None:
    run_index(store, small)
    harm_vector(store, b"1234")
    for path in small.rglob("*.png"):
        path.unlink()
    findings = [finding for finding in findings_of(store, repair=True) if finding.subject.startswith("vector")]
    assert [(finding.remedy, finding.repaired) for finding in findings] == [(Remedy.NONE, False)]
    with store.reading() as catalog:
        assert (
            catalog.connection.execute(sa.text("SELECT vector FROM embeddings WHERE content_id = 1")).scalar()
            == b"1234"
        )


def test_a_damaged_vector_stops_a_query_with_advice(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.writing() as editor:
        editor.connection.execute(sa.text("DELETE FROM segments"))
    harm_vector(store, b"1234" * 708)
    with store.reading() as catalog:
        first = catalog.shown([1])[1]
        with pytest.raises(StoreError, match="nearshot verify --repair"):
            open_vectors(store, catalog, catalog.backbones()[0], Role(first.role))


def test_a_row_that_disagrees_with_its_segment_is_found(store: Store, small: Path) -> None:
    run_index(store, small)
    other = np.zeros(708, "<f4")
    other[0] = 1
    harm_vector(store, other.tobytes())
    assert [finding.problem for finding in findings_of(store)] == ["hold other vectors than the database"]
    findings_of(store, repair=True)
    assert findings_of(store) == []
    assert counts(run_index(store, small)) == {"unchanged": 6}
