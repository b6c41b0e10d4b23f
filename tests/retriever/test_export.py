"""Export."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from pyarrow.json import read_json

from nearshot.indexer.annotations import read_annotated
from nearshot.indexer.captions import set_caption
from nearshot.indexer.options import IndexOptions
from nearshot.retriever.export import export
from nearshot.schema.errors import UsageError
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import AnnotationFormat, ExportFormat, Role
from nearshot.vectors.segments import read_rows
from tests.conftest import run_index, save_crop

CAT = "things/2.support-set/cat/shot1.png"
ALL = ImageFilter()


def lines(store: Store, wanted: ImageFilter = ALL, **more: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    count = export(store, stream, ExportFormat.JSONL, wanted=wanted, **more)
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(records) == count
    return records


def stored(store: Store, root: Path) -> dict[str, np.ndarray]:
    """The vectors of hog, as the catalog has them, by path."""
    with store.reading() as catalog:
        [row] = catalog.backbones()
        vectors: dict[str, np.ndarray] = {}
        for role in Role:
            held = read_rows(catalog, row, role)
            shown = catalog.shown(held.ids().tolist())
            vectors |= {shown[i].path: held.vectors(np.array([i]))[0] for i in shown}
    return vectors


def test_all_three_formats_hold_the_same_and_vectors_to_the_last_bit(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    set_caption(store, small / CAT, 'a "ginger" cat,\twith, commas; 猫')
    expected = stored(store, small)
    objects = lines(store, with_vectors=True)
    assert [line["path"] for line in objects] == sorted(expected)
    for line in objects:
        assert np.array_equal(np.array(line["embeddings"]["hog"]["vector"], dtype=np.float32), expected[line["path"]])
    table = tmp_path / "out.csv"
    assert export(store, table, ExportFormat.CSV, wanted=ALL, with_vectors=True) == 6
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = tmp_path / "out.parquet"
    assert export(store, columns, ExportFormat.PARQUET, wanted=ALL, with_vectors=True) == 6
    records = parquet.read_table(columns).to_pylist()
    for line, row, record in zip(objects, rows, records, strict=True):
        fields = {name: value for name, value in line.items() if name != "embeddings"}
        assert {name: record[name] for name in fields} == fields
        assert {name: row[name] for name in fields} == {
            name: "" if value is None else str(value) for name, value in fields.items()
        }
        assert record["hog_fingerprint"] == row["hog_fingerprint"] == line["embeddings"]["hog"]["fingerprint"]
        assert np.array_equal(np.array(record["hog_vector"], dtype=np.float32), expected[line["path"]])
        assert np.array_equal(np.array(json.loads(row["hog_vector"]), dtype=np.float32), expected[line["path"]])
    assert records[0]["caption"] == 'a "ginger" cat, with, commas; 猫'
    assert records[0]["caption_task"] == "by-hand"


def test_the_file_is_the_same_whatever_the_order_of_indexing(small: Path, tmp_path: Path) -> None:
    written = []
    for name in ("forwards", "backwards"):
        with Store(tmp_path / name, create=True) as store:
            if name == "backwards":
                images = sorted(small.rglob("*.png"))[1:]
                aside = [image.rename(image.with_suffix(".aside")) for image in images]
                run_index(store, small)
                for image in reversed(aside):
                    image.rename(image.with_suffix(".png"))
                    run_index(store, small)
            else:
                run_index(store, small)
            for form in ExportFormat:
                export(store, tmp_path / f"{name}.{form}", form, wanted=ALL, with_vectors=True)
        folder = f"{name}.{ExportFormat.IMAGEFOLDER}"
        files = [tmp_path / f"{name}.{form}" for form in ExportFormat if form != ExportFormat.IMAGEFOLDER]
        files += sorted(path for path in (tmp_path / folder).rglob("*") if path.is_file())
        written.append([(str(path).replace(name, ""), path.read_bytes()) for path in files])
    assert written[0] == written[1]


def test_filters_and_images_that_no_backbone_has_seen(store: Store, small: Path) -> None:
    run_index(store, small)
    assert [line["label"] for line in lines(store, ImageFilter(role=Role.QUERY))] == ["Unknown", "cat"]
    with pytest.raises(UsageError, match="no image is indexed with category 'none'; the categories are things"):
        lines(store, ImageFilter(category="none"))
    assert all("vector" not in line["embeddings"]["hog"] for line in lines(store))
    (small / CAT).unlink()
    save_crop(small / "things/6.preprocessed/broken.png", "rocket")
    (small / "things/6.preprocessed/broken.png").write_bytes(b"broken")
    run_index(store, small)
    assert len(lines(store)) == 5


def test_wrong_requests_and_a_full_disk_leave_the_old_file(
    store: Store, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    with pytest.raises(UsageError, match="nothing is indexed with clip; take hog"):
        lines(store, backbones=["clip"])
    with pytest.raises(UsageError, match="parquet does not go to a stream; give output"):
        export(store, io.StringIO(), ExportFormat.PARQUET, wanted=ALL)
    target = tmp_path / "out.jsonl"
    target.write_text("old")

    def full(_record: object) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nearshot.retriever.export._facts", full)
    with pytest.raises(OSError, match="No space left"):
        export(store, target, ExportFormat.JSONL, wanted=ALL)
    assert target.read_text() == "old"
    assert list(tmp_path.glob("*.part")) == []


def test_an_image_folder_has_copies_of_the_images_and_what_is_known_of_them(
    store: Store, small: Path, tmp_path: Path
) -> None:
    run_index(store, small)
    (small / "things/6.preprocessed/more").mkdir()
    shutil.copy(small / "things/6.preprocessed/cat/a.png", small / "things/6.preprocessed/more/a.png")
    run_index(store, small)
    set_caption(store, small / CAT, "a cat; 猫")
    folder = tmp_path / "folder"
    assert export(store, folder, ExportFormat.IMAGEFOLDER, wanted=ALL, with_vectors=True) == 7
    rows = {}
    for split in ("train", "test"):
        for line in (folder / split / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[split, row["file_name"]] = row
            assert hashlib.sha256((folder / split / row["file_name"]).read_bytes()).hexdigest() == row["sha256"]
            assert len(row["hog_vector"]) == 708
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    assert files == {f"{split}/{name}" for split, name in rows}
    [cat] = [row for (split, name), row in rows.items() if name.startswith("things/cat/shot1-") and split == "train"]
    assert (cat["label"], cat["category"], cat["shot"], cat["caption"]) == ("cat", "things", "shot1", "a cat; 猫")
    assert {row["label"] for (split, _), row in rows.items() if split == "test"} == {"cat", "Unknown", ""}
    assert {row["shot"] for (split, _), row in rows.items() if split == "test"} == {""}, "of one type in both splits"
    with pytest.raises(UsageError, match="is there already; remove it, or choose another output"):
        export(store, folder, ExportFormat.IMAGEFOLDER, wanted=ALL)
    save_crop(small / CAT, "rocket:9")
    with pytest.raises(UsageError, match="has changed since it was indexed"):
        export(store, tmp_path / "other", ExportFormat.IMAGEFOLDER, wanted=ALL)
    (small / CAT).unlink()
    with pytest.raises(UsageError, match="is not there; `nearshot index` brings the store up to date"):
        export(store, tmp_path / "other", ExportFormat.IMAGEFOLDER, wanted=ALL)
    assert {path.name for path in tmp_path.iterdir()} & {"other", ".other.part"} == set()


def test_tasks_for_label_studio_come_back_as_they_went(store: Store, small: Path, tmp_path: Path) -> None:
    (small / "things/6.preprocessed/cat/a.png").rename(small / "things/6.preprocessed/cat/ä & b.png")
    run_index(store, small)
    tasks = tmp_path / "tasks.json"
    assert export(store, tasks, ExportFormat.LABELSTUDIO, wanted=ALL) == 6
    first = json.loads(tasks.read_text(encoding="utf-8"))[0]
    assert first["data"]["image"] == f"/data/local-files/?d={CAT}"
    assert (first["data"]["category"], first["data"]["role"]) == ("things", "support")
    pictures = read_annotated(AnnotationFormat.LABELSTUDIO, tasks, small).pictures
    told = {str(path): [each.name for each in annotations] for path, annotations in pictures}
    assert told == {line["path"]: [line["label"]] for line in lines(store)}
    stream = io.StringIO()
    assert export(store, stream, ExportFormat.LABELSTUDIO, wanted=ImageFilter(label="cat", role=Role.SUPPORT)) == 2
    assert len(json.loads(stream.getvalue())) == 2


def test_a_column_of_vectors_is_of_one_type_where_some_are_lacking_and_names_are_not_too_long(
    store: Store, small: Path, tmp_path: Path
) -> None:
    long = small / f"things/6.preprocessed/{'ä' * 124}.png"
    save_crop(long, "rocket:1")
    run_index(store, small)
    other = Path(shutil.copytree(small, tmp_path / "other"))
    for path in other.rglob("*.png"):
        save_crop(path, f"brick:{len(path.name)}{len(path.parent.name)}")
    run_index(store, other, IndexOptions(backbones=("lite0",), workers=2))
    export(store, tmp_path / "folder", ExportFormat.IMAGEFOLDER, wanted=ALL, with_vectors=True)
    for split in ("train", "test"):
        table = read_json(tmp_path / f"folder/{split}/metadata.jsonl")
        assert {str(table.schema.field(f"{name}_vector").type) for name in ("hog", "lite0")} == {"list<item: double>"}
    with store.writing() as editor:
        editor.forget_root(editor.root_id(str(other)) or 0)
    tasks = tmp_path / "tasks.json"
    export(store, tasks, ExportFormat.LABELSTUDIO, wanted=ALL)
    assert json.loads(tasks.read_text())[0]["data"]["image"] == f"/data/local-files/?d={CAT}"


def test_fiftyone_is_told_each_images_label_where_it_lies(store: Store, small: Path, tmp_path: Path) -> None:
    save_crop(small / "things/6.preprocessed/plain \u00e9.png", "rocket:1")
    run_index(store, small)
    assert export(store, tmp_path / "labels.json", ExportFormat.FIFTYONE, wanted=ALL) == 7
    told = json.loads((tmp_path / "labels.json").read_text())
    root = small.resolve()
    assert told["classes"] is None
    assert told["labels"][f"{root}/things/6.preprocessed/plain \u00e9.png"] is None
    assert told["labels"][f"{root}/things/2.support-set/cat/shot1.png"] == "cat"
    assert all(Path(path).is_file() for path in told["labels"])
    save_crop(small / "more/2.support-set/shot1.png", "retina:1")
    run_index(store, small)
    export(store, tmp_path / "labels.json", ExportFormat.FIFTYONE, wanted=ALL)
    labels = json.loads((tmp_path / "labels.json").read_text())["labels"]
    assert set(labels.values()) == {"more/more", "things/cat", "things/coffee", "things/Unknown", None}
