"""Jobs in the database: the runs of all services over a store, and how far each is."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Editor

jobs = tables.jobs.c

SILENT = timedelta(seconds=30)
"""How long after it was last told of a run that has not ended is taken for dead: its service tells every second."""

PROCESS = "process"
"""What is told with each run: the process that does it."""


class JobRow(NamedTuple):
    """A run: its kind, what was told of it last, whether it has ended, and whether whoever does it is silent."""

    id: int
    kind: str
    told: dict[str, Any]
    ended: bool
    silent: bool


def add_job(editor: Editor, kind: str, told: dict[str, Any], *, most: int) -> int:
    """Record a run that begins; its id. Of those that have ended, only the newest are kept, so that there are `most`."""
    values = {
        "kind": kind,
        "told": json.dumps(told | {PROCESS: this_process()}),
        "ended": False,
        "told_at": _now(editor.connection).isoformat(),
    }
    job_id = int(editor.connection.execute(insert(tables.jobs).values(**values).returning(jobs.id)).scalar_one())
    editor.connection.execute(delete(tables.jobs).where(jobs.id <= job_id - most, jobs.ended))
    return job_id


def tell_job(editor: Editor, job_id: int, told: dict[str, Any], *, ended: bool) -> None:
    """Record how far a run is."""
    values = {
        "told": json.dumps(told | {PROCESS: this_process()}),
        "ended": ended,
        "told_at": _now(editor.connection).isoformat(),
    }
    editor.connection.execute(update(tables.jobs).where(jobs.id == job_id).values(**values))


def _said(editor: Editor, told: dict[str, Any]) -> dict[str, str]:
    """What is told, by whom, and when."""
    return {
        "told": json.dumps(told | {PROCESS: this_process()}),
        "told_at": _now(editor.connection).isoformat(),
    }


def job(catalog: Catalog, job_id: int) -> JobRow | None:
    """A run, as it was told last."""
    return next(iter(_rows(catalog, jobs.id == job_id)), None)


def job_at_work(catalog: Catalog) -> JobRow | None:
    """The run that some service is at, if any."""
    return next((row for row in _rows(catalog, ~jobs.ended) if not row.silent), None)


def this_process() -> list[str]:
    """What tells this process from every other: the machine's boot, its own namespace of processes, its number and when it
    began. Empty where the system does not say.
    """
    return _process(os.getpid())


def _process(pid: int) -> list[str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        began = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return [boot, str(Path("/proc/self/ns/pid").readlink()), str(pid), began]
    except (OSError, IndexError):
        return []


def _has_died(process: list[str]) -> bool:
    """Tell whether a process of this machine and this namespace is no more; of another's it cannot be told."""
    here = this_process()
    if not here or process[:2] != here[:2]:
        return False
    return _process(int(process[2])) != process


def _now(connection: Connection) -> datetime:
    """The time by the clock that all who write have in common: the database server's, or this machine's."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now


def _rows(catalog: Catalog, *conditions: ColumnElement[bool]) -> list[JobRow]:
    now = _now(catalog.connection)
    query = select(tables.jobs).where(*conditions).order_by(jobs.id.desc())
    told = []
    for row in catalog.connection.execute(query):
        of = json.loads(row.told)
        process = of.pop(PROCESS)
        silent = now - datetime.fromisoformat(row.told_at) > SILENT or _has_died(process)
        told.append(JobRow(row.id, row.kind, of, bool(row.ended), silent and not row.ended))
    return told
