"""`nearshot export`: images, labels, captions and vectors for other tools."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nearshot.commands import completion
from nearshot.commands.common import FilePath, one_of, reports_errors, store_option
from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location
from nearshot.schema.vocabulary import ExportFormat, Role

FORMATS = tuple(form.value for form in ExportFormat)


@click.command("export")
@click.option("--format", "form", type=one_of(ExportFormat), help="Default: by the name of --output, else jsonl.")
@click.option("--output", type=FilePath(on_disk=True, dir_okay=False), help="Write here; default: standard output.")
@click.option("--vectors", "with_vectors", is_flag=True, help="Write the vectors too.")
@click.option(
    "--backbone",
    "backbones",
    shell_complete=completion.backbones,
    multiple=True,
    help="Only vectors of this backbone (repeatable). Default: all.",
)
@click.option("--category", shell_complete=completion.categories, help="Only images of this category.")
@click.option("--label", shell_complete=completion.labels, help="Only images of this label.")
@click.option("--role", type=one_of(Role), help="Only images of this role.")
@store_option
@reports_errors
def export_command(
    store_location: Location,
    *,
    form: str | None,
    output: Path | None,
    with_vectors: bool,
    backbones: tuple[str, ...],
    category: str | None,
    label: str | None,
    role: str | None,
) -> None:
    """Write what the store knows of every usable image: place, label, content, caption, and which backbones have seen it.

    `imagefolder` is a new directory with copies of the images, as Hugging Face's datasets read it; `labelstudio` are tasks;
    `fiftyone` is the labels.json of a dataset of images that stay where they are.

    The same store gives the same file, whatever the order of indexing. A file is replaced only when the new one is whole.
    """
    from nearshot.retriever.export import export as write
    from nearshot.schema.image_filter import ImageFilter
    from nearshot.schema.store import Store

    named = output.suffix.lower().removeprefix(".") if output else ""
    chosen = form or (named if named in FORMATS else "jsonl" if not named or output is None else "")
    if not chosen:
        raise UsageError(f"{output} names no format; give --format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    wanted = ImageFilter(category=category, label=label, role=Role(role) if role else None)
    with Store(store_location) as store:
        count = write(
            store,
            output or sys.stdout,
            ExportFormat(chosen),
            wanted=wanted,
            backbones=backbones,
            with_vectors=with_vectors,
        )
    click.echo(f"{count} images written to {output or 'standard output'}", err=True)
