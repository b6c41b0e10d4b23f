"""`nearshot verify`: files against rows against segments."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from nearshot.commands.common import json_option, printable, reports_errors, store_option
from nearshot.schema.location import Location


@click.command("verify")
@click.option("--repair", is_flag=True, help="Rebuild what can be rebuilt from the database.")
@json_option
@store_option
@reports_errors
def verify_command(store_location: Location, *, repair: bool, as_json: bool) -> None:
    """Check the database, every indexed file, every vector and every segment.

    Reads all files. Repair never deletes what cannot be rebuilt. Exit status 1 while something remains wrong.
    """
    from nearshot.indexer.verify import verify
    from nearshot.schema.store import Store

    findings = []
    with Store(store_location) as store:
        for finding in verify(store, repair=repair):
            findings.append(finding)
            if not as_json:
                remedy = "repaired" if finding.repaired else f"remedy: {finding.remedy}"
                click.echo(f"{printable(finding.subject)}: {finding.problem} ({remedy})")
    left = sum(not finding.repaired for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": not left, "findings": [asdict(finding) for finding in findings]}))
    elif not findings:
        held = "vectors and segments" if store.has_segments else "words and vectors"
        click.echo(f"all is well: files, rows, {held} agree")
    else:
        click.echo(f"{len(findings)} found, {len(findings) - left} repaired")
    if left:
        sys.exit(1)
