"""`nearshot lint`: what is wrong with the shots."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from typing import TYPE_CHECKING

import click

from nearshot.commands import completion
from nearshot.commands.common import (
    FilePath,
    json_option,
    printable,
    reports_errors,
    store_option,
)
from nearshot.progress import progress_bar
from nearshot.schema.location import Location
from nearshot.schema.paths import AnyPath

if TYPE_CHECKING:
    from nearshot.evaluation.lint import LintFinding

SHOWN = 10
COLOURS = {"error": "red", "warning": "yellow"}


@click.command("lint")
@click.argument("data", type=FilePath())
@click.option(
    "--backbone",
    shell_complete=completion.backbones,
    help="Whose vectors tell what is nearer. Default: the best one indexed.",
)
@json_option
@store_option
@reports_errors
def lint_command(data: AnyPath, store_location: Location, *, backbone: str | None, as_json: bool) -> None:
    """Find faults in the support sets of DATA, which must be indexed: copies, misplaced shots, leaks, odd counts and sizes.

    Copies are found though they were scaled or encoded anew; each picture is looked at once for that, and remembered.
    Exit status 1 if there are errors.
    """
    from nearshot.evaluation.lint import as_json as everything
    from nearshot.evaluation.lint import lint as find
    from nearshot.schema.store import Store

    with Store(store_location) as store, progress_bar("looking", "images") as advance:
        judge, findings = find(store, data, backbone, told=lambda done, total: advance(done, total, 0))
    report = everything(judge, findings)
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        for _, same in groupby(findings, key=lambda finding: finding.rule):
            _print_rule(list(same))
        click.echo(f"errors: {report['errors']}, warnings: {report['warnings']} (nearness by {judge})")
    if report["errors"]:
        sys.exit(1)


def _print_rule(findings: list[LintFinding]) -> None:
    first = findings[0]
    click.echo(f"{click.style(first.severity.value, fg=COLOURS[first.severity])}: {first.rule.value}")
    for finding in findings[:SHOWN]:
        files = printable(", ".join(finding.files) or finding.category or "")
        click.echo(f"  {files}" + (f" ({finding.detail})" if finding.detail else ""))
    if len(findings) > SHOWN:
        click.echo(f"  ... and {len(findings) - SHOWN} more; --json lists all")
