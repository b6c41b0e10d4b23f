"""nearshot's command line: the group; each command lies in a file of its own under commands/."""

from __future__ import annotations

import click

from commands.backbones import backbones
from commands.calibrate import calibrate
from commands.caption import caption
from commands.evaluate import evaluate
from commands.export import export
from commands.feedback import label, reject
from commands.forget import forget
from commands.importing import import_
from commands.index import index
from commands.keys import keys
from commands.lint import lint
from commands.mark import mark
from commands.next import next_command
from commands.query import query
from commands.replay import replay
from commands.search import search
from commands.serve import serve
from commands.status import status
from commands.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nearshot")
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

if __name__ == "__main__":
    main()
