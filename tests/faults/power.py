"""Power: it is lost at each operation of each scenario, with any of what was not yet synced.

    python -m tests.faults.power [SCENARIO ...]

A name in a directory is there for good once the directory was synced, the bytes of a file once the file was; until then the
disk may have the old, the new, or half of the bytes, in any order. The database's commits are taken from SQLite, which is told
to sync its log at each of them; its shared memory is lost. Once a command has said that it is done, what it did holds without
being done again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.faults.faults import operations
from tests.faults.runs import forked, mended, warm
from tests.faults.scenarios import SCENARIOS, Scenario, copy, difference, state

OF_SQLITE = ("nearshot.db", "nearshot.db-wal")
NOT_KEPT = ("nearshot.db-shm", "lock", "holder.json")
"""Shared memory, and what only tells who holds the store: no promise rests on them."""

TORN = (0.0, 0.5, 1.0)
"""Shares of a file's bytes that reach the disk without a sync."""


@dataclass(eq=False)
class Node:
    """A file or a directory: what it has now, and what it has on the disk for good."""

    content: bytes | None
    names: dict[str, Node] = field(default_factory=dict)
    synced_content: bytes = b""
    synced_names: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Change:
    """What happened to names of a directory and was not synced; both names of a renamed file, for they change together."""

    directory: Node
    names: dict[str, Node | None]


class Disk:
    """A directory whose power may be lost."""

    def __init__(self, top: Path) -> None:
        """Take what is there as synced."""
        self._top = top
        self._nodes: dict[int, Node] = {}
        self._root = self._look(top)
        for node in self._nodes.values():
            node.synced_content, node.synced_names = node.content or b"", dict(node.names)

    def _look(self, path: Path) -> Node:
        """See what is there now."""
        status = path.lstat()
        node = self._nodes.setdefault(status.st_ino, Node(None))
        if path.is_dir():
            ours = [child for child in path.iterdir() if child.name not in (*OF_SQLITE, *NOT_KEPT)]
            node.names = {child.name: self._look(child) for child in ours}
        else:
            node.content = path.read_bytes()
        return node

    def sync(self, descriptor: int) -> None:
        """Bring what a descriptor has open onto the disk."""
        self._look(self._top)
        node = self._nodes.get(os.fstat(descriptor).st_ino)
        if node is not None:
            node.synced_content, node.synced_names = node.content or b"", dict(node.names)

    def forget(self, path: Path) -> None:
        """Give the number of a file that goes to whatever comes next."""
        if path.is_relative_to(self._top) and os.path.lexists(path):
            self._nodes.pop(path.lstat().st_ino, None)

    def left(self) -> Iterator[dict[str, bytes | None]]:
        """All that a loss of power may leave now, by relative path; directories have no bytes. What is there is left out."""
        self._look(self._top)
        changes = list(self._changes(self._root, set()))
        selections = [
            set(),
            set(changes),
            *({change} for change in changes),
            *({*changes} - {each} for each in changes),
        ]
        is_there = dict(_files(self._root, set(changes), 1.0))
        seen = [is_there]
        for chosen in selections:
            for share in TORN:
                files = dict(_files(self._root, chosen, share))
                if files not in seen:
                    seen.append(files)
                    yield files

    def _changes(self, node: Node, seen: set[Node]) -> Iterator[Change]:
        if node in seen:
            return
        seen.add(node)
        names = {
            name
            for name in {*node.names, *node.synced_names}
            if node.names.get(name) is not node.synced_names.get(name)
        }
        while names:
            name = names.pop()
            moved = {other for other in names if node.synced_names.get(other, node) is node.names.get(name)}
            moved |= {other for other in names if node.names.get(other, node) is node.synced_names.get(name)}
            names -= moved
            yield Change(node, {each: node.names.get(each) for each in (name, *moved)})
        for child in (*node.names.values(), *node.synced_names.values()):
            yield from self._changes(child, seen)


def _files(node: Node, chosen: set[Change], share: float, at: str = "") -> Iterator[tuple[str, bytes | None]]:
    if node.content is not None:
        whole = node.content == node.synced_content or share == 1
        yield at, node.content if whole else node.synced_content or node.content[: int(len(node.content) * share)]
        return
    yield at, None
    names: dict[str, Node | None] = dict(node.synced_names)
    for change in chosen:
        if change.directory is node:
            names |= change.names
    for name, child in sorted(names.items()):
        if child is not None:
            yield from _files(child, chosen, share, f"{at}/{name}")


@contextmanager
def recorded(here: Path, spool: Path) -> Iterator[None]:
    """Put what a loss of power would leave of a directory into numbered directories of `spool`, ahead of each operation.

    Those of after the last operation, when all was said to be done, have a name that ends in 'done'.
    """
    disk, numbers, seen = Disk(here), count(), set()

    def keep(suffix: str) -> None:
        database = {name: path.read_bytes() for name in OF_SQLITE if (path := here / "store" / name).is_file()}
        for files in disk.left():
            digest = hashlib.sha256(repr((sorted(files.items()), sorted(database.items()))).encode()).digest()
            if (digest, suffix) in seen:
                continue
            seen.add((digest, suffix))
            image = spool / f"{next(numbers):06}{suffix}"
            for relative, content in files.items():
                target = image / relative.lstrip("/")
                if content is None:
                    target.mkdir()
                else:
                    target.write_bytes(content)
            if (image / "store").is_dir():
                for name, pages in database.items():
                    (image / "store" / name).write_bytes(pages)

    busy = False

    def before(operation: str, *arguments: Any) -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        try:
            keep("")
            if operation == "fsync":
                disk.sync(arguments[0])
            elif operation in ("unlink", "rmdir"):
                disk.forget(Path(arguments[0]))
            elif operation in ("replace", "rename"):
                disk.forget(Path(arguments[1]))
        finally:
            busy = False

    with operations(before):
        yield
    keep("done")


def run(name: str) -> int:
    """Lose the power at every operation of a scenario; how many states of the disk came of it, and were mended."""
    scenario = SCENARIOS[name]
    warm()
    top = Path(tempfile.mkdtemp(prefix="power-"))
    done = Scenario(scenario.prepare, lambda _: None)
    try:
        template, here, spool = top / "template", top / "here", top / "spool"
        template.mkdir()
        spool.mkdir()
        assert forked(lambda: scenario.prepare(template)) == 0
        copy(template, here)

        def work() -> None:
            with recorded(here, spool):
                scenario.do(here)

        assert forked(work) == 0
        assert mended(done if name != "forget" else scenario, here) == 0
        expected = state(here)
        states = sorted(spool.iterdir())
        for at in states:
            shutil.rmtree(here)
            at.rename(here)
            acknowledged = at.name.endswith("done") and name != "forget"
            assert mended(done if acknowledged else scenario, here) == 0, f"{name}, {at.name}: not mended"
            assert state(here) == expected, f"{name}, {at.name}: another state\n{difference(expected, state(here))}"
        return len(states)
    finally:
        shutil.rmtree(top)


def main() -> None:
    """Run all scenarios, or some, and print the counts."""
    total = 0
    for name in sys.argv[1:] or SCENARIOS:
        total += (states := run(name))
        print(f"{name:<20} {states}", flush=True)
    print(f"{total} states of the disk after a loss of power; every one was mended")


if __name__ == "__main__":
    main()
