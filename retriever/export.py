"""Export: the store's images, labels, captions and vectors as a file that other tools read."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.choose_backbone import choose_rows
from nearshot.schema.captions import require_some
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.disk import sha256_of, written_whole
from nearshot.schema.errors import UsageError, option
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.paths import is_url, path_of, read_file
from nearshot.schema.records import ImageRecord, image_records
from nearshot.schema.spreadsheet import cell
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import ExportFormat, Role

COLUMNS = (
    *("path", "category", "role", "label", "shot", "sha256", "size", "width", "height", "format"),
    *("caption", "caption_task"),
)
SPLITS = {Role.SUPPORT: "train", Role.QUERY: "test"}
NO_LABEL = "unlabelled"
"""The directory of images without a label."""

LONGEST_STEM = 200
"""Bytes of a file's name that are kept before its digest."""

ROW_GROUP = 1000
"""Rows that Parquet keeps together, and that are held in memory at once."""


class Export:
    """Rows to be exported from one state of a store. The same store gives the same rows in the same order.

    Every image has its facts and, for each backbone, the fingerprint under which it has a vector (null if it has none); with
    `with_vectors` also the vectors, L2-normalised float32.
    """

    def __init__(self, catalog: Catalog, wanted: ImageFilter, names: Sequence[str], *, with_vectors: bool) -> None:
        """Choose the backbones, by default all in use; UsageError for one that was not indexed with."""
        self._backbones = choose_rows(catalog, names)
        self._catalog, self._wanted, self._with_vectors = catalog, wanted, with_vectors

    def write_jsonl(self, stream: TextIO) -> int:
        """Write one object per line; returns how many."""
        count = 0
        for record in self._records():
            stream.write(json.dumps(self._as_object(record), ensure_ascii=False) + "\n")
            count += 1
        return count

    def write_csv(self, stream: TextIO) -> int:
        """Write a header and one row per image, vectors as JSON arrays; returns how many."""
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*COLUMNS, *chain.from_iterable(self._columns(row) for row in self._backbones)])
        count = 0
        for record in self._records():
            cells = self._as_row(record).values()
            writer.writerow(
                [json.dumps(_shortest(value)) if isinstance(value, np.ndarray) else cell(value) for value in cells]
            )
            count += 1
        return count

    def write_parquet(self, path: Path) -> int:
        """Write a Parquet file of row groups of 1,000; returns how many rows. UsageError where pyarrow is not installed."""
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise UsageError(
                f"Parquet needs pyarrow; `pip install pyarrow`, or take {option('format')} jsonl"
            ) from error
        whole = {"size": pa.int64(), "width": pa.int32(), "height": pa.int32()}
        fields = [pa.field(name, whole.get(name, pa.string())) for name in COLUMNS]
        for row in self._backbones:
            fingerprint, *vector = self._columns(row)
            fields.append(pa.field(fingerprint, pa.string()))
            fields += [pa.field(name, pa.list_(pa.float32(), row.dimension)) for name in vector]
        schema = pa.schema(fields)
        count = 0
        with parquet.ParquetWriter(path, schema) as writer:
            records = self._records()
            while group := list(islice(records, ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist([self._as_row(record) for record in group], schema))
                count += len(group)
        return count

    def write_image_folder(self, directory: Path) -> int:
        """Write copies of the images, shots below `train` and queries below `test`, and a metadata.jsonl for each; returns how
        many; what has the same content, label and name is written once. What is not known is empty, and not null: `datasets`
        would give a column of nulls alone another type in each split. UsageError for a file that is not what was indexed.
        """
        count = 0
        with ExitStack() as stack:
            about: dict[Role, TextIO] = {}
            names: set[Path] = set()
            for record in self._records():
                split = directory / SPLITS[record.role]
                suffix = f"-{record.sha256[:12]}{Path(record.path).suffix.lower()}"
                stem = Path(record.path).stem.encode()[:LONGEST_STEM].decode(errors="ignore")
                name = Path(record.category, record.label or NO_LABEL, stem + suffix)
                if split / name in names:
                    continue
                names.add(split / name)
                _copy(record, split / name)
                if record.role not in about:
                    about[record.role] = stack.enter_context((split / "metadata.jsonl").open("w", encoding="utf-8"))
                cells = {"file_name": name.as_posix(), **self._as_row(record)}
                del cells["path"]
                row = {
                    key: _shortest(value) if isinstance(value, np.ndarray) else _empty(key) if value is None else value
                    for key, value in cells.items()
                }
                about[record.role].write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        return count

    def write_tasks(self, stream: TextIO) -> int:
        """Write an array of Label Studio's tasks, labels as choices; returns how many. Paths are relative to the data
        directory, or to what several that have images have in common; objects go by their URLs.
        """
        roots = [path for root, path in self._catalog.roots().items() if self._catalog.has_images(root)]
        on_disk = [path for path in roots if not is_url(path)]
        base = os.path.commonpath(on_disk) if on_disk else ""
        count = 0
        for record in self._records():
            about = {name: value for name, value in _facts(record).items() if name not in ("path", "label")}
            where = record.path
            if not is_url(where):
                where = f"/data/local-files/?d={quote(os.path.relpath(where, base))}"
            said = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [record.label]}}
            annotations = [] if record.label is None else [{"result": [said]}]
            task = {"data": {"image": where, **about}, "annotations": annotations}
            stream.write(("[\n" if not count else ",\n") + json.dumps(task, ensure_ascii=False))
            count += 1
        stream.write("\n]\n")
        return count

    def write_labels(self, stream: TextIO) -> int:
        """Write the labels.json of a dataset of FiftyOne (`FiftyOneImageClassificationDataset`), images by their absolute
        paths; returns how many. Of several categories a label is called CATEGORY/LABEL.
        """
        several = len({category for role in Role for category in self._catalog.categories(role)}) > 1
        count = 0
        stream.write('{"classes": null, "labels": {')
        for record in self._records():
            label = f"{record.category}/{record.label}" if several and record.label is not None else record.label
            line = f"{json.dumps(record.path, ensure_ascii=False)}: {json.dumps(label, ensure_ascii=False)}"
            stream.write(f"{',' if count else ''}\n{line}")
            count += 1
        stream.write("\n}}\n")
        return count

    def _records(self) -> Iterator[ImageRecord]:
        return image_records(self._catalog, self._backbones, self._wanted, with_vectors=self._with_vectors)

    def _columns(self, row: BackboneRow) -> list[str]:
        return [f"{row.name}_fingerprint", *([f"{row.name}_vector"] if self._with_vectors else [])]

    def _as_row(self, record: ImageRecord) -> dict[str, Any]:
        cells = _facts(record)
        for row in self._backbones:
            cells[f"{row.name}_fingerprint"] = record.embedded.get(row.name)
            if self._with_vectors:
                cells[f"{row.name}_vector"] = record.vectors.get(row.name)
        return cells

    def _as_object(self, record: ImageRecord) -> dict[str, Any]:
        vectors = {name: {"vector": _shortest(vector)} for name, vector in record.vectors.items()}
        return _facts(record) | {
            "embeddings": {
                name: {"fingerprint": fingerprint, **vectors.get(name, {})}
                for name, fingerprint in record.embedded.items()
            }
        }


def export(
    store: Store,
    target: Path | TextIO,
    form: ExportFormat,
    *,
    wanted: ImageFilter,
    backbones: Sequence[str] = (),
    with_vectors: bool = False,
) -> int:
    """Write an export to a file, which is replaced only when it is whole, or to a stream; returns how many images.

    An image folder is a new directory. Raises UsageError for what cannot go where it is to go, for a backbone that was not
    indexed with, and where no image is wanted.
    """
    with store.reading() as catalog:
        require_some(catalog.connection, wanted)
        exporter = Export(catalog, wanted, backbones, with_vectors=with_vectors)
        texts = {
            ExportFormat.JSONL: exporter.write_jsonl,
            ExportFormat.CSV: exporter.write_csv,
            ExportFormat.LABELSTUDIO: exporter.write_tasks,
            ExportFormat.FIFTYONE: exporter.write_labels,
        }
        if not isinstance(target, Path):
            if form not in texts:
                raise UsageError(f"{form} does not go to a stream; give {option('output')}")
            return texts[form](target)
        if not target.parent.is_dir():
            raise UsageError(f"there is no directory {target.parent}; make it, or choose another {option('output')}")
        if form == ExportFormat.IMAGEFOLDER:
            return _write_directory(target, exporter.write_image_folder)
        if target.exists() and not target.is_file():  # a pipe, or /dev/null: it is written to, never replaced
            if form not in texts:
                raise UsageError(f"{target} is no file, which {form} needs; choose another {option('output')}")
            with target.open("w", encoding="utf-8", newline="") as stream:
                return texts[form](stream)
        with written_whole(target) as aside:
            if form not in texts:
                return exporter.write_parquet(aside)
            with aside.open("w", encoding="utf-8", newline="") as stream:
                return texts[form](stream)


def _write_directory(target: Path, write: Callable[[Path], int]) -> int:
    """Write a directory that is there when it is whole. UsageError where there is something already."""
    if target.exists():
        raise UsageError(f"{target} is there already; remove it, or choose another {option('output')}")
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        count = write(aside)
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return count


def _empty(column: str) -> str | list[float]:
    return [] if column.endswith("_vector") else ""


def _copy(record: ImageRecord, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        source = path_of(record.path)
        if isinstance(source, Path):
            shutil.copyfile(source, path)
        else:
            path.write_bytes(read_file(source))
    except FileNotFoundError as error:
        raise UsageError(f"{record.path} is not there; `nearshot index` brings the store up to date") from error
    if sha256_of(path) != record.sha256:
        raise UsageError(
            f"{record.path} has changed since it was indexed; `nearshot index` brings the store up to date"
        )


def _facts(record: ImageRecord) -> dict[str, Any]:
    values: Iterable[Any] = (
        *(record.path, record.category, record.role.value, record.label, record.shot, record.sha256, record.size),
        *(record.width, record.height, record.image_format, record.caption, record.caption_task),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _shortest(vector: NDArray[np.float32]) -> list[float]:
    """Numbers that print as shortly as float32 allows, and read back as the same float32."""
    return [float(str(value)) for value in vector]
