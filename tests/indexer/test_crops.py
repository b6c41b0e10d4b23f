"""Cropping: incremental, remembered, safe against whoever edits, deletes or kills; in pixels of the upright picture."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nearshot.detectors.cutting import Cutting
from nearshot.indexer import crops
from nearshot.indexer.crop_names import crop_name
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crop_report import CropReport
from nearshot.indexer.crops import CropRun
from nearshot.indexer.verify import verify
from nearshot.schema import tables
from nearshot.schema.contract import place_file
from nearshot.schema.errors import StoreBusyError, UsageError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Masked, Precision, Role
from tests.conftest import run_index
from tests.videos import write_video

COLOURS = {"red": (210, 40, 30), "green": (30, 160, 60), "blue": (40, 60, 200)}
RIGHT, LEFT = (260, 80, 360, 200), (40, 60, 120, 180)


def draw(path: Path, *boxes: tuple[str, tuple[int, int, int, int]], size: tuple[int, int] = (400, 300)) -> None:
    """A picture of coloured rectangles on a pale ground."""
    picture = Image.new("RGB", size, (228, 226, 220))
    for colour, box in boxes:
        ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=COLOURS[colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A data directory with three raw pictures, two of them in a label's directory, and one shot."""
    root = tmp_path / "data"
    draw(root / "things/1.raw/two.png", ("red", LEFT), ("blue", RIGHT))
    draw(root / "things/1.raw/Green/one.png", ("green", RIGHT))
    draw(root / "things/1.raw/Green/none.png")
    draw(root / "things/2.support-set/Red/shot1.png", ("red", (0, 0, 400, 300)))
    return root


def crop(store: Store | None, root: Path, *, dry: bool = False, preview: Path | None = None, **more: Any) -> CropReport:
    run = CropRun(store, root, CropOptions(**more), dry=dry, preview=preview)
    for _ in run:
        pass
    return run.report


def files(root: Path, below: str = "things") -> dict[str, bytes]:
    """Every file but the raw pictures."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted((root / below).rglob("*"))
        if path.is_file() and "1.raw" not in path.parts
    }


def rows(store: Store) -> list[Any]:
    """What is recorded, without ids and times."""
    with store.reading() as catalog:
        crops, croppings = tables.crops, tables.croppings
        query = crops.join(croppings, crops.c.cropping_id == croppings.c.id).select().order_by(crops.c.path)
        kept = [column.name for column in (*crops.c, *croppings.c)]
        wanted = [index for index, name in enumerate(kept) if not name.endswith(("id", "_ns", "created", "digest"))]
        return [tuple(row[index] for index in wanted) for row in catalog.connection.execute(query)]


def test_crops_are_cut_once_become_queries_and_tell_where_they_came_from(store: Store, raw: Path) -> None:
    report = crop(store, raw)
    assert (report.cropped, report.empty, report.written, report.failures) == (3, 1, 3, [])
    written = [path for path in files(raw) if "6.preprocessed" in path]
    assert written == [
        "things/6.preprocessed/Green/one.png.1.png",
        "things/6.preprocessed/two.png.1.png",
        "things/6.preprocessed/two.png.2.png",
    ]
    assert all(not isinstance(place_file(path.split("/")), str) for path in written)
    again = crop(store, raw)
    assert (again.cropped, again.unchanged, again.written) == (0, 3, 0)
    indexed = run_index(store, raw)
    assert (indexed.added, indexed.outside_contract) == (
        4,
        0,
    )  # the raw pictures are within the contract, and not indexed
    with store.reading() as catalog:
        known = catalog.connection.execute(tables.images.select()).mappings().all()
        ids = {row["path"]: row["id"] for row in known}
        told = {path: catalog.shown([image_id])[image_id].origin for path, image_id in ids.items()}
    assert {path for path, origin in told.items() if origin is not None} == set(written)
    origin = told[written[0]]
    assert origin is not None
    assert origin.picture == str(raw / "things/1.raw/Green/one.png")
    assert np.abs(np.subtract(origin.box, RIGHT)).max() <= 12
    assert list(verify(store)) == []


def test_a_picture_that_changed_replaces_exactly_its_crops_and_one_that_is_gone_takes_them_along(
    store: Store, raw: Path
) -> None:
    crop(store, raw)
    before = files(raw)
    draw(raw / "things/1.raw/two.png", ("blue", LEFT))
    (raw / "things/1.raw/Green/one.png").touch()
    report = crop(store, raw)
    assert (report.cropped, report.written, report.deleted, report.unchanged) == (1, 1, 1, 2)
    after = files(raw)
    assert {path for path in before if before[path] != after.get(path)} == {
        "things/6.preprocessed/two.png.1.png",
        "things/6.preprocessed/two.png.2.png",
    }
    (raw / "things/1.raw/Green/one.png").unlink()
    report = crop(store, raw)
    assert (report.gone, report.deleted) == (1, 1)
    assert not (raw / "things/6.preprocessed/Green").exists()
    assert list(verify(store)) == []


def test_other_options_replace_the_crops_and_what_people_changed_deleted_or_moved_stays(
    store: Store, raw: Path
) -> None:
    crop(store, raw)
    queries = raw / "things/6.preprocessed"
    draw(queries / "two.png.1.png", ("red", LEFT))  # edited
    (queries / "two.png.2.png").rename(queries / "mine.png")
    (queries / "Green/one.png.1.png").unlink()
    edited = (queries / "two.png.1.png").read_bytes()
    assert crop(store, raw).unchanged == 3
    assert not list((queries / "Green").iterdir())
    report = crop(store, raw, cutting=Cutting(square=True))
    assert [failure.path for failure in report.failures] == ["things/1.raw/two.png"]
    assert "no cropping run wrote it" in report.failures[0].reason
    assert (queries / "two.png.1.png").read_bytes() == edited
    assert (queries / "mine.png").exists()
    with Image.open(queries / "Green/one.png.1.png") as image:
        assert image.width == image.height


def test_crops_for_a_support_set_are_shots_of_the_label_one_a_picture(store: Store, raw: Path) -> None:
    report = crop(store, raw, role=Role.SUPPORT)
    written = sorted(path for path in files(raw) if path.endswith(".1.png"))
    assert report.written == 2
    assert written == [
        "things/2.support-set/Green/shot1/one.png.1.png",
        "things/2.support-set/shot1/two.png.1.png",
    ]
    crop(store, raw, role=Role.SUPPORT, label="Red")
    assert (raw / "things/2.support-set/Red/shot2/one.png.1.png").exists()
    assert (raw / "things/2.support-set/Red/shot3/two.png.1.png").exists()
    assert (raw / "things/2.support-set/Red/shot1.png").exists()
    assert run_index(store, raw).outside_contract == 0
    with pytest.raises(UsageError, match="is for shots"):
        CropRun(store, raw, CropOptions(label="Red"))
    with pytest.raises(UsageError, match="cannot be a label"):
        CropRun(store, raw, CropOptions(label="Unknown", role=Role.SUPPORT))


def test_boxes_are_in_pixels_of_the_upright_picture_and_crops_have_those_pixels(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(root / "a/1.raw/upright.png", ("red", RIGHT))
    with Image.open(root / "a/1.raw/upright.png") as picture:
        exif = Image.Exif()
        exif[274] = 6  # to be turned by a quarter, clockwise
        picture.transpose(Image.Transpose.ROTATE_90).save(root / "a/1.raw/turned.png", exif=exif)
    crop(store, root)
    written = files(root, "a")
    assert written["a/6.preprocessed/turned.png.1.png"] == written["a/6.preprocessed/upright.png.1.png"]
    boxes = {row[2:6] for row in rows(store)}
    assert len(boxes) == 1


def test_a_picture_of_many_megapixels_is_cut_at_its_own_resolution(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "data"
    draw(root / "a/1.raw/large.jpg", ("red", (3000, 2000, 4000, 3000)), size=(6000, 4000))
    report = crop(store, root)
    assert report.failures == []
    [path] = files(root, "a")
    with Image.open(root / path) as image:
        assert 1000 <= image.width <= 1400


def test_what_cannot_be_read_is_named_each_time_and_tried_again_when_it_changes(store: Store, raw: Path) -> None:
    broken = raw / "things/1.raw/broken.jpg"
    broken.write_bytes(b"no image at all")
    for _ in range(2):
        report = crop(store, raw)
        assert [failure.path for failure in report.failures] == ["things/1.raw/broken.jpg"]
    draw(broken.with_suffix(".png"), ("blue", LEFT))
    broken.with_suffix(".png").replace(broken)
    report = crop(store, raw)
    assert (report.failures, report.written) == ([], 1)


def test_a_dry_run_draws_and_counts_and_needs_no_store(raw: Path, tmp_path: Path) -> None:
    before = files(raw)
    report = crop(None, raw, dry=True, preview=tmp_path / "sheets")
    assert (report.written, len(report.previews)) == (3, 1)
    with Image.open(report.previews[0]) as sheet:
        assert sheet.format == "JPEG"
    assert files(raw) == before


def test_wrong_places_are_refused(store: Store, raw: Path) -> None:
    with pytest.raises(UsageError, match=r"has a directory 0\.photos"):
        crop(store, raw, source="0.photos")
    with pytest.raises(UsageError, match="cannot hold raw pictures"):
        crop(store, raw, source="6.preprocessed")
    with store.held("somebody"), pytest.raises(StoreBusyError):
        crop(store, raw)


def test_a_long_name_and_two_phrases_that_read_alike_give_names_of_their_own() -> None:
    assert crop_name("a/1.raw/cups.jpg", (), 2) == "cups.jpg.2.png"
    assert crop_name("a/1.raw/cups.jpg", ("a red mug",), 1) == "cups.jpg.a-red-mug.1.png"
    names = {
        crop_name("cups.jpg", words, 1) for words in (("a red mug",), ("a red-mug",), ("A red mug",), ("a red", "mug"))
    }
    assert len(names) == 4
    long = {crop_name(f"{'ä' * 120}{end}.jpg", (), 1) for end in "ab"}
    assert len(long) == 2
    assert all(len(name.encode()) < 250 for name in long)


def test_runs_killed_at_random_moments_end_in_the_crops_and_rows_of_an_undisturbed_run(tmp_path: Path) -> None:
    chance = random.Random(5)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for number in range(12):
        draw(undisturbed / f"data/a/1.raw/{number}.png", ("red", LEFT), ("blue", RIGHT), size=(400 + number, 300))
    pictures = [undisturbed / f"data/a/1.raw/{number}.png" for number in (0, 11)]
    write_video(
        undisturbed / "data/a/1.raw/000.mp4",
        [(pictures[number % 2], 5) if number % 2 else (None, 5) for number in range(6)],
    )
    shutil.copytree(undisturbed, disturbed)
    with Store(undisturbed / "store", create=True) as store:
        crop(store, undisturbed / "data")
        expected = files(undisturbed / "data", "a"), rows(store)
        assert len([path for path in expected[0] if "000.mp4" in path]) == 6, "two in each scene that shows some"
    script = (
        "import sys; from pathlib import Path; from nearshot.schema.store import Store\n"
        "from nearshot.indexer.crops import CropRun; from nearshot.indexer.crop_options import CropOptions\n"
        "from nearshot.detectors.regions import Regions; Regions.batch_size = 1\n"
        "import scipy.ndimage, skimage.measure\n"
        "store = Store(Path(sys.argv[1]) / 'store', create=True); print('ready', flush=True)\n"
        "for _ in CropRun(store, Path(sys.argv[1]) / 'data', CropOptions()): pass\n"
    )
    killed = 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", script, str(disturbed)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.05, 0.8))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
    assert killed
    with Store(disturbed / "store") as store:
        crop(store, disturbed / "data")
        assert (files(disturbed / "data", "a"), rows(store)) == expected
        assert list(verify(store)) == []
    assert not list(disturbed.rglob("*.part"))


def test_pictures_that_would_wait_in_too_much_memory_come_out_the_same(
    store: Store, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(raw, tmp_path / "other")
    crop(store, raw)
    monkeypatch.setattr(crops, "AHEAD", 400 * 300)  # one picture waits decoded, the others as they were read
    with Store(tmp_path / "other-store", create=True) as other:
        crop(other, tmp_path / "other")
    assert files(tmp_path / "other") == files(raw)


def test_a_detector_is_known_again_whatever_was_used_in_between(
    store: Store, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import tiny

    tiny.save_rt_detr(tmp_path / "rt-detr")
    options: dict[str, Any] = {"detector": f"hf:{tmp_path / 'rt-detr'}", "min_score": 0.0, "device": "cpu"}
    for precision in (Precision.FP32, Precision.BF16, Precision.FP32):
        assert crop(store, raw, precision=precision, **options).cropped == 3
    monkeypatch.setattr(crops, "load_detector", lambda *_, **__: pytest.fail("it is known, and nothing is due"))
    assert crop(store, raw, precision=Precision.FP32, **options).unchanged == 3
    monkeypatch.undo()
    (tmp_path / "rt-detr" / "config.json").touch()  # another signature, the same fingerprint
    assert crop(store, raw, precision=Precision.FP32, **options).unchanged == 3
    with pytest.raises(UsageError, match="no masks"):
        crop(store, raw, **options, cutting=Cutting(mask=Masked.WHITE))


def test_small_things_in_a_large_picture_are_cut_where_it_is_looked_at_in_tiles(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "data"
    places = [(300, 220), (2500, 260), (1400, 1300), (2700, 1650)]
    small = [("red", (left, top, left + 40, top + 40)) for left, top in places]
    draw(root / "things/1.raw/large.png", *small, ("blue", (600, 300, 1300, 1100)), size=(3000, 2000))
    whole = crop(store, root, dry=True)
    report = crop(store, root, tiles=640)
    assert whole.written < report.written
    with store.reading() as catalog:
        cut = catalog.connection.execute(tables.crops.select()).mappings().all()
    centres = [((row["box_left"] + row["box_right"]) / 2, (row["box_top"] + row["box_bottom"]) / 2) for row in cut]
    for left, top in places:
        assert any(abs(x - left - 20) < 10 and abs(y - top - 20) < 10 for x, y in centres), (left, top)
    assert crop(store, root, tiles=640).unchanged == 1
    assert crop(store, root, tiles=800).cropped == 1, "other tiles may show other things"
