"""Jobs in the database: the runs of all services over a store, and how far each is."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select, update

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Editor
from nearshot.schema.store import utc_now

jobs = tables.jobs.c

SILENT = timedelta(seconds=30)
"""How long after it was last told of a run that has not ended is taken for dead: its service tells every second."""

PROCESS = "process"
"""What is told with each run: the machine and the process that do it."""


class JobRow(NamedTuple):
    """A run: its kind, what was told of it last, whether it has ended, and whether whoever does it is silent."""

    id: int
    kind: str
    told: dict[str, Any]
    ended: bool
    silent: bool


def add_job(editor: Editor, kind: str, told: dict[str, Any], *, most: int) -> int:
    """Record a run that begins; its id. Of those that have ended, only the newest are kept, so that there are `most`."""
    values = {"kind": kind, "told": json.dumps(told | {PROCESS: this_process()}), "ended": False, "told_at": utc_now()}
    job_id = int(editor.connection.execute(insert(tables.jobs).values(**values).returning(jobs.id)).scalar_one())
    editor.connection.execute(delete(tables.jobs).where(jobs.id <= job_id - most, jobs.ended))
    return job_id


def tell_job(editor: Editor, job_id: int, told: dict[str, Any], *, ended: bool) -> None:
    """Record how far a run is."""
    values = {"told": json.dumps(told | {PROCESS: this_process()}), "ended": ended, "told_at": utc_now()}
    editor.connection.execute(update(tables.jobs).where(jobs.id == job_id).values(**values))


def job(catalog: Catalog, job_id: int) -> JobRow | None:
    """A run, as it was told last."""
    row = catalog.connection.execute(select(tables.jobs).where(jobs.id == job_id)).one_or_none()
    return None if row is None else _row(row)


def job_at_work(catalog: Catalog) -> JobRow | None:
    """The run that some service is at, if any."""
    rows = catalog.connection.execute(select(tables.jobs).where(~jobs.ended).order_by(jobs.id.desc()))
    return next((row for row in map(_row, rows) if not row.silent), None)


def this_process() -> list[str | int]:
    """The machine and the process that this is."""
    return [platform.node(), os.getpid()]


def _row(row: Any) -> JobRow:
    told = json.loads(row.told)
    process = told.pop(PROCESS)
    silent = datetime.now(UTC) - datetime.fromisoformat(row.told_at) > SILENT or _has_died(process)
    return JobRow(row.id, row.kind, told, bool(row.ended), silent and not row.ended)


def _has_died(process: list[Any]) -> bool:
    """Tell whether a process of this machine is no more; of another machine's it cannot be told."""
    host, pid = process
    if host != platform.node() or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
