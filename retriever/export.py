"""Export: the store's images, labels, captions and vectors as a file that other tools read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.choose_backbone import choose_rows
from nearshot.schema.captions import require_some
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.disk import written_whole
from nearshot.schema.errors import UsageError, option
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.records import ImageRecord, image_records
from nearshot.schema.spreadsheet import cell
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import ExportFormat

COLUMNS = (
    *("path", "category", "role", "label", "shot", "sha256", "size", "width", "height", "format"),
    *("caption", "caption_task"),
)
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

    Raises UsageError for Parquet into a stream, for a backbone that was not indexed with, and where no image is wanted.
    """
    with store.reading() as catalog:
        require_some(catalog.connection, wanted)
        exporter = Export(catalog, wanted, backbones, with_vectors=with_vectors)
        if not isinstance(target, Path):
            if form == ExportFormat.PARQUET:
                raise UsageError(f"Parquet goes to a file; give {option('output')} FILE")
            return exporter.write_csv(target) if form == ExportFormat.CSV else exporter.write_jsonl(target)
        if not target.parent.is_dir():
            raise UsageError(f"there is no directory {target.parent}; make it, or choose another {option('output')}")
        if target.exists() and not target.is_file():  # a pipe, or /dev/null: it is written to, never replaced
            if form == ExportFormat.PARQUET:
                raise UsageError(f"{target} is no file, which Parquet needs; choose another {option('output')}")
            with target.open("w", encoding="utf-8", newline="") as stream:
                return exporter.write_csv(stream) if form == ExportFormat.CSV else exporter.write_jsonl(stream)
        with written_whole(target) as aside:
            if form == ExportFormat.PARQUET:
                return exporter.write_parquet(aside)
            with aside.open("w", encoding="utf-8", newline="") as stream:
                return exporter.write_csv(stream) if form == ExportFormat.CSV else exporter.write_jsonl(stream)


def _facts(record: ImageRecord) -> dict[str, Any]:
    values: Iterable[Any] = (
        *(record.path, record.category, record.role.value, record.label, record.shot, record.sha256, record.size),
        *(record.width, record.height, record.image_format, record.caption, record.caption_task),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _shortest(vector: NDArray[np.float32]) -> list[float]:
    """Numbers that print as shortly as float32 allows, and read back as the same float32."""
    return [float(str(value)) for value in vector]
