"""Whether a calibration is stale: told by the number of shots and by what has changed, without reading all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearshot.retriever import searcher
from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.schema.calibrations import CalibrationRow
from nearshot.schema.store import Store
from tests.conftest import run_index, save_crop

SHOTS = "things/2.support-set"


@pytest.fixture
def calibrated(store: Store, small: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for number in range(4, 12):
        save_crop(small / f"{SHOTS}/cat/shot{number}.png", f"chelsea:{number}")
        save_crop(small / f"{SHOTS}/coffee/shot{number}.png", f"coffee:{number}")
    run_index(store, small)
    kept = list(calibrate_all(store, CalibrationOptions()))
    assert kept
    refuse(monkeypatch)
    return store


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(*_: object) -> str:
        raise AssertionError("the shots need not be read")

    monkeypatch.setattr(searcher, "support_digest", digest)


def stale(store: Store) -> list[str]:
    return Retriever(store, QueryOptions(category="things")).searcher.stale


def test_where_nothing_has_changed_no_shot_is_read(calibrated: Store, small: Path) -> None:
    assert stale(calibrated) == []
    save_crop(small / "others/2.support-set/rocket/shot1.png", "rocket:1")
    run_index(calibrated, small)
    assert stale(calibrated) == [], "another category"


def test_one_more_shot_or_one_less_is_told_by_the_number(calibrated: Store, small: Path) -> None:
    save_crop(small / f"{SHOTS}/cat/shot20.png", "chelsea:20")
    run_index(calibrated, small)
    assert stale(calibrated) == ["things"]
    (small / f"{SHOTS}/cat/shot20.png").unlink()
    (small / f"{SHOTS}/cat/shot11.png").unlink()
    run_index(calibrated, small)
    assert stale(calibrated) == ["things"]


def test_as_many_others_are_told_by_their_digest(
    calibrated: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    path = small / f"{SHOTS}/cat/shot11.png"
    path.rename(small / f"{SHOTS}/cat/shot20.png")
    run_index(calibrated, small)
    assert stale(calibrated) == ["things"]
    (small / f"{SHOTS}/cat/shot20.png").rename(path)
    run_index(calibrated, small)
    assert stale(calibrated) == [], "as it was"


def test_a_calibration_of_an_earlier_version_is_told_by_the_digest(
    calibrated: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = CalibrationRow.about
    monkeypatch.setattr(CalibrationRow, "about", lambda row: about(row) | {"seen": None})
    with pytest.raises(AssertionError, match="need not be read"):
        stale(calibrated)
    monkeypatch.undo()
    assert stale(calibrated) == []
