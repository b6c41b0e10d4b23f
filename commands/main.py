"""The command line: the group of all commands, each in a file of its own."""

from __future__ import annotations

import click

from nearshot.commands.backbones import backbones
from nearshot.commands.calibrate import calibrate
from nearshot.commands.caption import caption
from nearshot.commands.evaluate import evaluate
from nearshot.commands.export import export
from nearshot.commands.feedback import label, reject
from nearshot.commands.forget import forget
from nearshot.commands.importing import import_
from nearshot.commands.index import index
from nearshot.commands.keys import keys
from nearshot.commands.lint import lint
from nearshot.commands.mark import mark
from nearshot.commands.next import next_command
from nearshot.commands.query import query
from nearshot.commands.replay import replay
from nearshot.commands.search import search
from nearshot.commands.serve import serve
from nearshot.commands.status import status
from nearshot.commands.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nearshot", prog_name="nearshot")
def main() -> None:
    """Recognise images from a few labelled shots, say Unknown when it should, and find images by example or by words."""


for command in (
    index,
    query,
    calibrate,
    evaluate,
    replay,
    lint,
    label,
    reject,
    mark,
    next_command,
    search,
    caption,
    status,
    verify,
    forget,
    export,
    import_,
    backbones,
    serve,
    keys,
):
    main.add_command(command)
