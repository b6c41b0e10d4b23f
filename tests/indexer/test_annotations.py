"""Importing what was annotated: boxes of COCO, YOLO, Label Studio and CVAT are cut out where they were drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from nearshot.indexer.annotations import Annotation, read_annotated
from nearshot.indexer.importing import ImportOptions, read_annotations, write_contract
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import AnnotationFormat
from tests.conftest import Outcome, counts, run_index
from tests.indexer.test_importing import files

Run = Callable[..., Outcome]

WIDTH, HEIGHT = 60, 40
BOXES = {"red": (4, 6, 14, 26), "blue": (30, 8, 50, 20)}
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}
PICTURES = 6


def draw(path: Path, number: int) -> None:
    """A grey picture with a red and a blue rectangle, whose shades tell which picture it is."""
    picture = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    for name, (left, top, right, bottom) in BOXES.items():
        picture[top:bottom, left:right] = np.maximum(np.array(COLOURS[name]) - 10 * number, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def write_coco(root: Path) -> Path:
    names = list(BOXES)
    pictures = [{"id": 7 + n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(PICTURES)]
    said = [
        {"image_id": 7 + n, "category_id": 3 + k, "bbox": [left, top, right - left, bottom - top], "iscrowd": 0}
        for n in range(PICTURES)
        for k, (left, top, right, bottom) in enumerate(BOXES.values())
    ]
    crowd = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1}
    data = {
        "images": [*pictures, {"id": 99, "file_name": "nothing was said.png", "width": 1, "height": 1}],
        "annotations": [*said, crowd],
        "categories": [{"id": 3 + k, "name": name} for k, name in enumerate(names)],
    }
    for number in range(PICTURES):
        draw(root / f"train2017/{number}.png", number)
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(data))
    return root / "annotations/instances_train2017.json"


def write_yolo(root: Path) -> Path:
    for number in range(PICTURES):
        draw(root / f"train/images/{number}.png", number)
        lines = []
        for k, (left, top, right, bottom) in enumerate(BOXES.values()):
            x, y = (left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT
            if k == 0:
                lines.append(f"{k} {x} {y} {(right - left) / WIDTH} {(bottom - top) / HEIGHT}")
            else:  # a polygon
                corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
                lines.append(f"{k} " + " ".join(f"{a / WIDTH} {b / HEIGHT}" for a, b in corners))
        text = root / f"train/labels/{number}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(lines) + "\n")
    draw(root / "train/images/unlabelled.png", 0)
    (root / "data.yaml").write_text("train: train/images\nnames:\n  0: red\n  1: blue\n")
    return root


def write_label_studio(root: Path) -> Path:
    tasks = []
    for number in range(PICTURES):
        draw(root / f"uploads/{number}.png", number)
        results: list[dict[str, Any]] = [
            {
                "type": "rectanglelabels",
                "original_width": WIDTH,
                "original_height": HEIGHT,
                "value": {
                    **{"x": 100 * left / WIDTH, "y": 100 * top / HEIGHT, "rotation": 0, "rectanglelabels": [name]},
                    **{"width": 100 * (right - left) / WIDTH, "height": 100 * (bottom - top) / HEIGHT},
                },
            }
            for name, (left, top, right, bottom) in BOXES.items()
        ]
        names = (f"/data/upload/1/0123abcd-{number}.png", f"/data/local-files/?d=somewhere%20else/{number}.png")
        said = [{"result": results}, {"was_cancelled": True, "result": [{"value": {"choices": ["wrong"]}}]}]
        tasks.append({"data": {"text": "a task", "image": names[number % 2]}, "annotations": said})
    (root / "project.json").write_text(json.dumps(tasks))
    return root / "project.json"


def write_cvat(root: Path) -> Path:
    parts = ["<annotations><version>1.1</version>"]
    for number in range(PICTURES):
        draw(root / f"images/sub/{number}.png", number)
        boxes = "".join(
            f'<box label="{name}" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" occluded="0"/>'
            for name, (left, top, right, bottom) in BOXES.items()
        )
        parts.append(f'<image id="{number}" name="sub/{number}.png" width="60" height="40">{boxes}</image>')
    (root / "annotations.xml").write_text("".join([*parts, "</annotations>"]))
    return root


WRITERS = {"coco": write_coco, "yolo": write_yolo, "labelstudio": write_label_studio, "cvat": write_cvat}


@pytest.mark.parametrize("kind", AnnotationFormat)
def test_boxes_become_images_where_they_were_drawn(nearshot: Run, tmp_path: Path, store: Store, kind: str) -> None:
    (tmp_path / "set").mkdir()
    source = WRITERS[kind](tmp_path / "set")
    where = ("--images", tmp_path / "set/uploads") if kind == "labelstudio" else ()
    done = nearshot("import", kind, source, "data", "--shots", 2, "--queries", 3, *where)
    assert done.stdout.startswith(f"data/{kind}: 2 labels, 4 shots, "), done.stderr
    assert done.stderr == ""
    seen: dict[str, set[str]] = {"2.support-set": set(), "6.preprocessed": set()}
    for path in sorted((tmp_path / "data").rglob("*.png")):
        role, label = path.relative_to(tmp_path / f"data/{kind}").parts[:2]
        left, top, right, bottom = BOXES[label]
        with Image.open(path) as crop:
            assert crop.size == (right - left, bottom - top)
            colours = np.unique(np.asarray(crop).reshape(-1, 3), axis=0)
        assert len(colours) == 1, "all of it is of the one rectangle"
        assert colours[0].argmax() == np.argmax(COLOURS[label])
        seen[role].add(str(colours.max()))
    assert not seen["2.support-set"] & seen["6.preprocessed"], "no query is of a picture that a shot is of"
    report = run_index(store, tmp_path / "data")
    assert set(counts(report)) == {"added"}


def test_an_import_adds_to_a_category_and_can_be_done_again(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    source = read_annotations(AnnotationFormat.COCO, write_coco(tmp_path / "set"))
    data = tmp_path / "data"
    write_contract(source, data, ImportOptions(category="things", shots=1, queries=1))
    kept = files(data)
    with pytest.raises(UsageError, match="is there already; add to it with add, or choose another category"):
        write_contract(source, data, ImportOptions(category="things"))
    more = ImportOptions(category="things", shots=3, queries=2, add=True)
    added = write_contract(source, data, more)
    now = files(data)
    assert kept.items() <= now.items(), "nothing was replaced"
    assert (added.shots, added.there) == (6, 2 + sum("6.pre" in path for path in kept if kept[path] in now.values()))
    assert {path for path in now if "2.support-set/red" in path} == {
        f"things/2.support-set/red/shot{n}.png" for n in (1, 2, 3)
    }
    assert len(set(now.values())) == len(now)
    again = write_contract(source, data, more)
    assert files(data) == now
    assert again.there == again.shots + again.queries


def test_what_lies_outside_or_cannot_be_read_is_passed_over_and_said(nearshot: Run, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    file = write_coco(tmp_path / "set")
    data = json.loads(file.read_text())
    data["annotations"][0]["bbox"] = [100, 100, 5, 5]
    (tmp_path / "set/train2017/1.png").write_bytes(b"no picture")
    (tmp_path / "set/train2017/2.png").unlink()
    with Image.open(tmp_path / "set/train2017/3.png") as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(tmp_path / "set/train2017/3.png", exif=exif)  # it was annotated as it lies in the file
    file.write_text(json.dumps(data))
    done = nearshot("import", "coco", file, "data", "--shots", 1)
    assert "names and that are not there: 1\n" in done.stderr
    assert "or of what cannot be read): 5\n" in done.stderr
    said = json.loads(nearshot("import", "coco", file, "more", "--shots", 1, "--json").stdout)
    assert (said["missing"], said["unusable"]) == (1, 5)
    assert "too few for 9 shots" in nearshot("import", "coco", file, "other", "--shots", 9).stderr
    assert not (tmp_path / "other/coco").exists()


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("coco", "{}", "is no file of COCO instances: KeyError: 'categories'"),
        ("coco", "no JSON", "is no file of COCO instances: JSONDecodeError"),
        ("coco", '{"images": [], "annotations": [], "categories": []}', "says of no picture what it shows"),
        ("labelstudio", '[{"data": {"text": "x"}, "annotations": []}]', "says of no picture what it shows"),
        ("labelstudio", '[{"image": "a.png", "label": "x"}]', "export as JSON, not as JSON-MIN"),
        ("labelstudio", "[" * 100_000, "is no export of Label Studio as JSON: RecursionError"),
        ("coco", '{"categories": [], "annotations": [{"bbox": ["a"]}], "images": []}', "ValueError: could not convert"),
        ("cvat", "<annotations><track/></annotations>", "is of a video; export it as `CVAT for images`"),
        ("cvat", "<html/>", "is no export of `CVAT for images`: ValueError: it is a document of html"),
        ("cvat", "<annotations>", "is no export of `CVAT for images`: ParseError"),
        (
            "cvat",
            '<annotations><image name="../a.png" width="1" height="1"><tag label="x"/></image></annotations>',
            "names 1 pictures, of which none is in",
        ),
        ("yolo", "red\nblue\n", "says of no picture what it shows"),
    ],
)
def test_what_is_something_else_is_said(nearshot: Run, tmp_path: Path, kind: str, text: str, message: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "a.png").mkdir()
    suffix = {"cvat": "xml", "yolo": "txt"}.get(kind, "json")
    (tmp_path / f"set/classes.{suffix}").write_text(text)
    outcome = nearshot("import", kind, f"set/classes.{suffix}", "data")
    assert outcome.status == 2
    assert message in " ".join(outcome.stderr.split())
    assert not (tmp_path / "data").exists()
    assert "has neither data.yaml nor classes.txt" in nearshot("import", "yolo", tmp_path / "a.png", "data").stderr


def test_a_line_of_yolo_that_is_neither_box_nor_polygon_and_a_class_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("red\n")
    draw(tmp_path / "a.png", 0)
    for line in ("0 0.5 0.5", "1 0.5 0.5 0.1 0.1", "red 0.5 0.5 0.1 0.1"):
        (tmp_path / "a.txt").write_text(line)
        with pytest.raises(UsageError, match="is no directory of YOLO labels"):
            read_annotated(AnnotationFormat.YOLO, tmp_path)


def test_turned_rectangles_and_choices_of_label_studio(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 0)
    value = {"x": 50, "y": 25, "width": 50, "height": 25, "rotation": 90, "rectanglelabels": ["red"]}
    turned = {"original_width": WIDTH, "original_height": HEIGHT, "value": value}
    result = [turned, {"value": {"choices": ["indoors"]}}]
    (tmp_path / "tasks.json").write_text(
        json.dumps([{"data": {"image": "http://host/a.png"}, "annotations": [{"result": result}]}])
    )
    [picture] = read_annotated(AnnotationFormat.LABELSTUDIO, tmp_path / "tasks.json").pictures
    box, whole = picture.annotations
    assert box.box == pytest.approx((20, 10, 30, 40)), "30 x 10 pixels at (30, 10), clockwise about that corner"
    assert whole == Annotation("indoors", None, None)


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "/tmp/x", "../../evil", ".hid", "x\0", "\ud800", "x" * 300, "shot3", "a.png"]
)
def test_a_class_of_such_a_name_writes_nothing_anywhere(nearshot: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    file = write_coco(tmp_path / "set")
    data = json.loads(file.read_text())
    data["categories"][0]["name"] = name
    file.write_text(json.dumps(data))
    before = files(tmp_path)
    for more in ((), ("--unknown", name)):
        done = nearshot("import", "coco", file, "data", "--shots", 1, *more)
        assert done.status == 2
        assert "a class cannot be named" in done.stderr
    assert files(tmp_path) == before


def test_no_two_pictures_are_taken_for_one_file(tmp_path: Path) -> None:
    for subset in ("Train", "Val"):
        draw(tmp_path / f"images/{subset}/0.png", subset == "Val")
    draw(tmp_path / "0.png", 5)

    def read(names: list[str], images: Path | None = None) -> tuple[list[str], int]:
        said = "".join(f'<image {name} width="60" height="40"><tag label="x"/></image>' for name in names)
        (tmp_path / "a.xml").write_text(f"<annotations>{said}</annotations>")
        annotated = read_annotated(AnnotationFormat.CVAT, tmp_path / "a.xml", images)
        return [str(picture.path.relative_to(tmp_path)) for picture in annotated.pictures], annotated.missing

    both = ["images/Train/0.png", "images/Val/0.png"]
    assert read(['name="Train/0.png"', 'name="Val/0.png"']) == (both, 0)
    assert read(['name="0.png" subset="Train"', 'name="0.png" subset="Val"']) == (both, 0)
    assert read(['name="Train/0.png"', 'name="Val/0.png"'], tmp_path / "images") == (both, 0)
    (tmp_path / "images/Train/1.png").write_bytes(b"")
    by_last_part = read(['name="other/0.png"', 'name="somewhere/1.png"'], tmp_path / "images/Train")
    assert by_last_part == (["images/Train/0.png", "images/Train/1.png"], 0), "no two are called so"
    with pytest.raises(UsageError, match="names 2 pictures, of which none is in"):
        read(['name="A/0.png"', 'name="B/0.png"'], tmp_path / "images/Train")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", ["as it is shown", "as it lies", "without a size"])
def test_a_turned_picture_is_cut_right_or_not_at_all(tmp_path: Path, orientation: int, annotated: str) -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture[:20, :20] = 255
    image = Image.fromarray(picture)
    image.getexif()[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=image.getexif())
    with Image.open(tmp_path / "a.png") as saved:
        shown = ImageOps.exif_transpose(saved)
    pixels = np.asarray(shown)[:, :, 0]
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    upright = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    left, top, right, bottom = upright if annotated == "as it is shown" else (0, 0, 20, 20)
    width, height = shown.size if annotated == "as it is shown" else (WIDTH, HEIGHT)
    size = {} if annotated == "without a size" else {"width": width, "height": height}
    data = {
        "images": [{"id": 1, "file_name": "a.png", **size}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [int(left), int(top), int(right - left), int(bottom - top)]}
        ],
        "categories": [{"id": 1, "name": "white"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    source = read_annotations(AnnotationFormat.COCO, tmp_path / "a.json")
    used = source.shots["white"][0].save(tmp_path / "out")
    assert used == (orientation == 1 or (annotated == "as it is shown" and orientation >= 5))
    if used:
        with Image.open(tmp_path / "out.png") as crop:
            assert np.asarray(crop).min() == 255


def test_shapes_that_are_turned_polygons_and_what_is_no_box(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 0)
    (tmp_path / "a.xml").write_text(
        '<annotations><image name="a.png" width="60" height="40">'
        '<box label="r" xtl="20" ytl="10" xbr="40" ybr="20" rotation="90"/>'
        '<polygon label="p" points="1.0,2.0;5.0,3.0;4,9"/><polyline label="l" points="0,0;1,1"/></image></annotations>'
    )
    [picture] = read_annotated(AnnotationFormat.CVAT, tmp_path / "a.xml").pictures
    turned, polygon, line = picture.annotations
    assert turned.box == pytest.approx((25, 5, 35, 25)), "about its middle"
    assert polygon.box == (1, 2, 5, 9)
    assert line.box is not None
    assert np.isnan(line.box).all()
    results = [
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        {"value": {"x": 1, "y": 1, "width": 2, "height": 2, "choices": ["occluded"]}},
        {
            "value": {"points": [[10, 10], [20, 50]], "polygonlabels": ["p"]},
            "original_width": 60,
            "original_height": 40,
        },
    ]
    tasks = [
        {"data": {"image": "https://host/get?id=5"}, "annotations": []},
        {"data": {"image": "a.png"}, "annotations": [{"result": results}]},
    ]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    [picture] = read_annotated(AnnotationFormat.LABELSTUDIO, tmp_path / "a.json").pictures
    [polygon] = picture.annotations
    assert polygon.box == pytest.approx((6, 4, 12, 20))


def test_yolo_elsewhere_with_poses_and_a_byte_order_mark(tmp_path: Path) -> None:
    draw(tmp_path / "ds/images/a.png", 0)
    (tmp_path / "ds/labels").mkdir()
    (tmp_path / "ds/labels/a.txt").write_text("\ufeff0 0.5 0.5 0.2 0.4 " + "0.1 0.1 2.0 " * 4 + "\n\n")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/data.yaml").write_text("\ufeffpath: ../ds\nkpt_shape: [4, 3]\nnames: [red]\n")
    [picture] = read_annotated(AnnotationFormat.YOLO, tmp_path / "conf/data.yaml").pictures
    assert picture.annotations[0].name == "red"
    assert picture.annotations[0].box == pytest.approx((0.4, 0.3, 0.6, 0.7))
    (tmp_path / "ds/images").rename(tmp_path / "ds/imgs")
    (tmp_path / "ds/classes.txt").write_text("red\n")
    assert len(read_annotated(AnnotationFormat.YOLO, tmp_path / "conf/data.yaml", tmp_path / "ds/imgs").pictures) == 1
    (tmp_path / "conf/data.yaml").write_text("names: [&a [x, x], *a]\n")
    with pytest.raises(UsageError, match="a class's name is no text"):
        read_annotated(AnnotationFormat.YOLO, tmp_path / "conf")


def test_what_is_a_query_already_is_no_shot_and_a_shot_may_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    source, data = read_annotations(AnnotationFormat.CVAT, write_cvat(tmp_path / "set")), tmp_path / "data"
    write_contract(source, data, ImportOptions(category="things", shots=1))
    with pytest.raises(UsageError, match=r"too few for 6 shots \(\d more are in .*things already, as queries or under"):
        write_contract(source, data, ImportOptions(category="things", shots=6, add=True))
    shot = data / "things/2.support-set/red/shot1.png"
    shot.parent.joinpath("shot1").mkdir()
    shot.rename(shot.parent / "shot1/0.png")
    write_contract(source, data, ImportOptions(category="things", shots=2, queries=0, add=True))
    assert sorted(path.name for path in shot.parent.iterdir()) == ["shot1", "shot2.png"]
