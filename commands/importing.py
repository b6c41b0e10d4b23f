"""`nearshot import`: published data sets in the directory contract."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from nearshot.commands.common import FilePath, json_option, naming_store, reports_errors, store_option
from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location
from nearshot.schema.vocabulary import AnnotationFormat

ANNOTATED = tuple(form.value for form in AnnotationFormat)


@click.command("import")
@click.argument("kind", type=click.Choice(["folder", "cifar10", "stl10", *ANNOTATED]))
@click.argument("source", type=FilePath(on_disk=True))
@click.argument("data", type=FilePath(on_disk=True, file_okay=False))
@click.option("--category", help="Name of the category to write. Default: the kind, or the folder's name.")
@click.option("--shots", type=click.IntRange(min=1), default=5, show_default=True, help="Shots per class.")
@click.option(
    "--queries", type=click.IntRange(min=0), default=100, show_default=True, help="Queries per class, at most."
)
@click.option("--unknown", multiple=True, metavar="CLASS", help="A class to be unknown: queries only (repeatable).")
@click.option("--seed", type=int, default=0, show_default=True, help="Which images are chosen.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the pictures that were annotated are. Default: around SOURCE.",
)
@click.option("--add", is_flag=True, help="Add to a category that is there.")
@json_option
@store_option
@reports_errors
def import_command(
    kind: str,
    source: Path,
    data: Path,
    store_location: Location,
    *,
    category: str | None,
    shots: int,
    queries: int,
    unknown: tuple[str, ...],
    seed: int,
    images: Path | None,
    add: bool,
    as_json: bool,
) -> None:
    """Write a category into DATA from SOURCE: a folder with one directory per class, the archive of CIFAR-10 or STL-10, or
    what was annotated: instances of COCO (JSON), a directory of YOLO labels, an export of Label Studio (JSON) or of CVAT for
    images (XML). Boxes are cut out, and are images of their own.

    Shots and queries are never the same image, nor parts of one picture. The store is left alone: run `nearshot index DATA`
    afterwards.
    """
    from nearshot.indexer.importing import (
        ImportOptions,
        read_annotations,
        read_folder,
        read_torchvision,
        write_contract,
    )

    name = category or (source.resolve().name if kind == "folder" else kind)
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(f"'{name}' is no name for a category")
    if images is not None and kind not in ANNOTATED:
        raise UsageError(f"--images is for what was annotated: {', '.join(ANNOTATED)}")
    if kind == "folder":
        given = read_folder(source)
    else:
        given = (
            read_annotations(AnnotationFormat(kind), source, images)
            if kind in ANNOTATED
            else read_torchvision(kind, source)
        )
    options = ImportOptions(category=name, add=add, shots=shots, queries=queries, unknown=unknown, seed=seed)
    imported = write_contract(given, data, options)
    if as_json:
        click.echo(json.dumps({"category": name, **asdict(imported), "missing": given.missing}))
    else:
        click.echo(
            f"{data / name}: {imported.labels} labels, {imported.shots} shots, {imported.queries} labelled queries, "
            f"{imported.unknown} queries that show none of them"
            + (f"; {imported.there} of them were there already" if imported.there else "")
        )
        if given.missing:
            click.echo(f"pictures that {source} names and that are not there: {given.missing}", err=True)
        if imported.unusable:
            click.echo(
                f"parts passed over (no boxes, outside, turned by EXIF, or of what cannot be read): {imported.unusable}",
                err=True,
            )
        where = naming_store(store_location)
        click.echo(f"next: nearshot index {data}{where}")
