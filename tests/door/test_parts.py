"""Parts of a picture are recognised as the same pixels in a file of their own are, from every door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nearshot
from nearshot.index import Index
from nearshot.schema.errors import ImageError, UsageError
from tests.conftest import SMALL, Outcome

Run = Callable[..., Outcome]
CAT, COFFEE = "things/6.preprocessed/cat/a.png", "things/2.support-set/coffee/shot1.png"
FIRST, SECOND = (60, 40), (420, 180)


@pytest.fixture
def scene(small: Path, tmp_path: Path) -> Path:
    """The cat and the coffee on one plain ground."""
    picture = Image.new("RGB", (800, 600), (235, 235, 230))
    for path, corner in ((CAT, FIRST), (COFFEE, SECOND)):
        with Image.open(small / path) as image:
            picture.paste(image.convert("RGB"), corner)
    picture.save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


@pytest.fixture
def index(small: Path, tmp_path: Path) -> Iterator[Index]:
    with nearshot.open(tmp_path / ".nearshot", create=True) as opened:
        opened.add(small, backbones=["hog"])
        assert len(SMALL) == 6
        yield opened


def box_of(small: Path, path: str, corner: tuple[int, int]) -> tuple[int, int, int, int]:
    with Image.open(small / path) as image:
        return (*corner, *image.size)


def test_a_box_is_answered_as_its_pixels_in_a_file_are(index: Index, small: Path, scene: Path) -> None:
    cat, coffee = box_of(small, CAT, FIRST), box_of(small, COFFEE, SECOND)
    answer = index.query(scene, box=cat)
    alone = index.query(small / CAT)
    assert (answer.label, answer.score, answer.margin) == (alone.label, alone.score, alone.margin)
    assert answer.box == (cat[0], cat[1], cat[0] + cat[2], cat[1] + cat[3])
    assert alone.box is None
    both = list(index.answers([scene, small / CAT], box=[cat, coffee]))
    assert [each.label for each in both[:2]] == ["cat", "coffee"]
    assert dict(both[1].as_json())["box"] == [coffee[0], coffee[1], coffee[0] + coffee[2], coffee[1] + coffee[3]]
    picture = Image.open(scene)
    for form in (picture, np.asarray(picture), scene.read_bytes()):
        assert index.query(form, box=cat).score == answer.score


def test_boxes_are_those_of_the_upright_picture_at_its_own_size(index: Index, small: Path, tmp_path: Path) -> None:
    large = Image.new("RGB", (5000, 4000), "white")  # more than is kept whole of a picture
    with Image.open(small / CAT) as image:
        large.paste(image.convert("RGB"), (4000, 3000))
    large.save(tmp_path / "large.png")
    exif = Image.Exif()
    exif[274] = 8
    large.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png", exif=exif)
    box = box_of(small, CAT, (4000, 3000))
    expected = index.query(small / CAT).score
    assert expected is not None
    for form in (tmp_path / "large.png", tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert index.query(form, box=box).score == expected


def test_objects_are_detected_and_answered_one_by_one(index: Index, small: Path, scene: Path, nearshot: Run) -> None:
    answers = list(index.answers([scene], objects=True))
    assert {answer.label or getattr(answer, "nearest", None) for answer in answers} == {"cat", "coffee"}
    best = index.query(scene, objects=False, box=())
    assert best.box is None
    with pytest.raises(UsageError, match="answers"):
        index.query(scene, objects=True)
    printed = nearshot("query", scene, "--objects", "--json")
    assert printed.objects == [answer.as_json() for answer in answers]
    table = nearshot("query", scene, "--objects")
    assert table.stdout.count(f"{scene}  [") == 2
    assert "box" in nearshot("query", scene, "--objects", "--csv").stdout.splitlines()[0]


def test_where_nothing_is_detected_and_what_makes_no_sense_is_told(
    index: Index, small: Path, tmp_path: Path, nearshot: Run
) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (300, 200), "white").save(plain)
    printed = nearshot("query", plain, "--objects")
    assert printed.status == 1
    assert "nothing was detected in it" in printed.stdout
    with pytest.raises(ImageError, match="300,10,5,5 lies outside the picture of 300 x 200"):
        index.query(plain, box=(300, 10, 5, 5))
    assert index.query(plain, box=(290, 10, 50, 50)).box == (290, 10, 300, 60)
    wrong = {
        "--box 1,2,3": "give x,y,width,height",
        "--box 1,2,0,9": "is none",
        "--box 1,2,3,4 --objects": "leave --find and --objects out",
        "--detector regions": "is for --find or --objects",
        "--find mug --detector regions": "cannot look for words",
        "--find mug": "the weights of hf:florence-community/Florence-2-base are not on this machine",
        "--objects --detector yolo": "no detector is called 'yolo'",
    }
    for flags, told in wrong.items():
        outcome = nearshot("query", plain, *flags.split())
        assert outcome.status == 2, flags
        assert told in outcome.stderr, outcome.stderr
    with pytest.raises(UsageError, match="in whole pixels"):
        index.query(plain, box=(1, 2, 3))  # type: ignore[arg-type]


def test_words_are_looked_for_by_florence2(
    index: Index, scene: Path, florence2: Path, monkeypatch: pytest.MonkeyPatch, nearshot: Run
) -> None:
    from nearshot.detectors import florence2 as detector

    monkeypatch.setattr(detector, "LENGTH", 60)
    outcome = nearshot("query", scene, "--find", "a mug", "--objects", "--weights", florence2, "--json")
    assert outcome.objects
    for answer in outcome.objects:
        if "error" not in answer:
            left, top, right, bottom = answer["box"]
            assert 0 <= left < right <= 800
            assert 0 <= top < bottom <= 600


def test_crops_are_cut_from_python_as_from_the_command_line(
    index: Index, small: Path, scene: Path, nearshot: Run
) -> None:
    raw = small / "things/1.raw/scene.png"
    raw.parent.mkdir()
    scene.rename(raw)
    report = index.crop(small, min_size=40, most=2)
    assert (report.cropped, report.written) == (1, 2)
    printed = nearshot("crop", small, "--min-size", 40, "--most", 2, "--json").objects
    assert [(each["cropped"], each["unchanged"]) for each in printed] == [(0, 1)]
    outcome = nearshot("crop", small / "things")
    assert (outcome.status, "is a category, not the data directory" in outcome.stderr) == (2, True)
    with pytest.raises(UsageError, match="mask cannot be 'grey'; take white, blur"):
        index.crop(small, mask="grey")
    with pytest.raises(UsageError, match="is not within 0 and 1"):
        index.crop(small, padding=2)
    added = index.add(small, backbones=["hog"])
    assert added.added == 2
    with Image.open(small / "things/6.preprocessed/scene.png.1.png") as crop:
        assert max(crop.size) < 400
