"""The command line: the group of all commands, each in a file of its own."""

from __future__ import annotations

import os

import click

from nearshot.commands.backbones import backbones
from nearshot.commands.calibrate import calibrate_command
from nearshot.commands.caption import caption_command
from nearshot.commands.common import store_option
from nearshot.commands.copy import copy_command
from nearshot.commands.crop import crop_command
from nearshot.commands.evaluate import evaluate_command
from nearshot.commands.export import export_command
from nearshot.commands.feedback import label_command, reject_command
from nearshot.commands.forget import forget_command
from nearshot.commands.importing import import_command
from nearshot.commands.index import index_command
from nearshot.commands.keys import keys
from nearshot.commands.lint import lint_command
from nearshot.commands.mark import mark_command
from nearshot.commands.mirror import mirror_command
from nearshot.commands.move import move_command
from nearshot.commands.next import next_command
from nearshot.commands.policy import policy_command
from nearshot.commands.query import query_command
from nearshot.commands.replay import replay_command
from nearshot.commands.review import review_command
from nearshot.commands.search import search_command
from nearshot.commands.serve import serve_command
from nearshot.commands.status import status_command
from nearshot.commands.verify import verify_command
from nearshot.commands.watch import watch_command
from nearshot.commands.where import where_you_are
from nearshot.schema.location import Location


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="nearshot", prog_name="nearshot")
@store_option
@click.pass_context
def main(context: click.Context, store_location: Location) -> None:
    """Recognise images from a few labelled shots, say Unknown when it should, and find images by example or by words."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org; rich's tables know both by themselves
        context.color = False
    elif os.environ.get("FORCE_COLOR"):
        context.color = True
    if context.invoked_subcommand is None:
        click.echo(where_you_are(store_location))
        click.echo("\n`nearshot --help` lists all commands, and `nearshot COMMAND --help` what each can do.")


for command in (
    crop_command,
    index_command,
    query_command,
    watch_command,
    calibrate_command,
    evaluate_command,
    policy_command,
    replay_command,
    lint_command,
    label_command,
    reject_command,
    mark_command,
    next_command,
    review_command,
    search_command,
    caption_command,
    status_command,
    verify_command,
    forget_command,
    mirror_command,
    move_command,
    copy_command,
    export_command,
    import_command,
    backbones,
    serve_command,
    keys,
):
    main.add_command(command)
