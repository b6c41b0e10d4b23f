"""Random histories: files and commands in any order, against a model in memory that knows what must be there.

`NEARSHOT_HISTORIES=500 pytest tests/faults/test_histories.py` takes as many histories as that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image

from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.indexer.intents import finish_intents
from nearshot.indexer.run import IndexRun
from nearshot.indexer.verify import Remedy, verify
from nearshot.schema.errors import UsageError
from nearshot.schema.known_images import present_contents
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Action, VectorKind
from tests.conftest import HOG, run_index

Done = TypeVar("Done")
HISTORIES = int(os.environ.get("NEARSHOT_HISTORIES", "8"))
PATHS = [
    *(f"things/2.support-set/{label}/shot{number}.png" for label in ("cat", "cup") for number in (1, 2, 3)),
    *(f"{category}/6.preprocessed/{name}.png" for category in ("things", "more") for name in "abc"),
    *(f"more/2.support-set/dog/shot{number}.png" for number in (1, 2)),
]
QUERIES = [path for path in PATHS if "/6.preprocessed/" in path]


def picture(number: int) -> bytes:
    """The bytes of the n-th of six small pictures."""
    pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    with tempfile.SpooledTemporaryFile() as file:
        Image.fromarray(pixels).save(file, "PNG")
        file.seek(0)
        return file.read()


def attempt(work: Callable[[], Done]) -> tuple[Done | None, str]:
    """Do some work; what it gave, or None and why it was refused."""
    try:
        return work(), ""
    except UsageError as error:
        return None, str(error)


PICTURES = [picture(number) for number in range(6)]


class Histories(RuleBasedStateMachine):
    """A data directory that moves between two places, a store, and what must be in them.

    `files` are the bytes on the disk by path, `seen` what the store knows of them; `labelled` the shots that labels made, by
    content and category; `rejected` what was rejected.
    """

    @initialize()
    def begin(self) -> None:
        """An empty data directory and store."""
        self.top = Path(tempfile.mkdtemp(prefix="histories-"))
        self.root = self.top / "data"
        (self.root / "things/2.support-set").mkdir(parents=True)
        self.store = Store(self.top / "store", create=True)
        self.files: dict[str, bytes] = {}
        self.seen: dict[str, bytes] = {}
        self.labelled: dict[tuple[bytes, str], str] = {}
        self.rejected: set[tuple[bytes, str]] = set()

    def teardown(self) -> None:
        """Leave nothing."""
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.top)

    @rule(path=st.sampled_from(PATHS), number=st.integers(0, 5))
    def write(self, path: str, number: int) -> None:
        """Add a file, or change one."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(PICTURES[number])
        self.files[path] = PICTURES[number]

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove a file."""
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.root / path).unlink()
        del self.files[path]

    @precondition(lambda self: self.files)
    @rule(data=st.data(), destination=st.sampled_from(PATHS))
    def move(self, data: st.DataObject, destination: str) -> None:
        """Move a file, over another perhaps."""
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.root / destination).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).rename(self.root / destination)
        self.files[destination] = self.files.pop(path)

    @rule(once=st.sampled_from([None, None, VectorKind.FLOAT16]))
    def index(self, once: VectorKind | None) -> None:
        """Index to the end, perhaps keeping vectors once from now on; the store knows what is there, and all is well."""
        report = run_index(self.store, self.root, replace(HOG, vectors=once))
        assert report.failed == 0
        self.seen = dict(self.files)
        assert [finding for finding in verify(self.store) if finding.remedy != Remedy.FORGET] == []

    @precondition(lambda self: self.files)
    @rule(batches=st.integers(1, 3))
    def index_and_die(self, batches: int) -> None:
        """Index, and end after some batches: what was committed is so, and no more is known of it than that."""
        run = iter(IndexRun(self.store, self.root, replace(HOG, batch_size=1)))
        for _ in range(batches):
            next(run, None)
        run.close()  # type: ignore[attr-defined]
        self.seen = {}

    @precondition(lambda self: self._queries())
    @rule(data=st.data(), label=st.sampled_from(["cat", "cup", "new"]))
    def label(self, data: st.DataObject, label: str) -> None:
        """Turn a query into a shot."""
        path = data.draw(st.sampled_from(self._queries()))
        content, category = self.files[path], path.split("/")[0]
        shot, refused = attempt(lambda: add_shot(self.store, self.root / path, label))
        if shot is None:
            assert (content, category) in self.labelled or (content, category) in self.rejected, refused
            return
        assert (content, category) not in self.labelled
        assert (content, category) not in self.rejected
        assert isinstance(shot, Path)
        inside = shot.relative_to(self.root.resolve()).as_posix()
        assert inside not in self.files
        self.files[inside] = self.seen[inside] = content
        self.labelled[content, category] = inside

    @precondition(lambda self: self._queries())
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        """Take a label back, if there is one."""
        path = data.draw(st.sampled_from(self._queries()))
        content, category = self.files[path], path.split("/")[0]
        undone, refused = attempt(lambda: undo(self.store, self.root / path, Action.LABEL))
        assert (undone is not None) == ((content, category) in self.labelled), refused
        if undone is None:
            return
        shot = self.labelled.pop((content, category))
        if self.files.get(shot) == content:
            del self.files[shot]
            self.seen.pop(shot, None)

    @precondition(lambda self: self._queries())
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        """Reject a query."""
        path = data.draw(st.sampled_from(self._queries()))
        content, category = self.files[path], path.split("/")[0]
        rejected, refused = attempt(lambda: reject(self.store, self.root / path))
        decided = (content, category) in self.rejected or (content, category) in self.labelled
        assert (rejected is None) == decided, refused
        if rejected is not None:
            self.rejected.add((content, category))

    @rule()
    def repair(self) -> None:
        """Verify and repair: what is left is for an index run."""
        findings = [finding for finding in verify(self.store, repair=True) if not finding.repaired]
        assert all(finding.remedy in (Remedy.INDEX, Remedy.FORGET) for finding in findings), findings

    @rule()
    def move_the_data_directory(self) -> None:
        """Rename the data directory; the next index run finds everything again."""
        elsewhere = self.top / ("other" if self.root.name == "data" else "data")
        self.root = self.root.rename(elsewhere)
        run_index(self.store, self.root)
        self.seen = dict(self.files)

    @invariant()
    def what_is_known_is_there(self) -> None:
        """The store holds what it was told, and the disk what the model says."""
        if not hasattr(self, "store"):
            return
        assert finish_intents(self.store) == []
        on_disk = {
            path.relative_to(self.root).as_posix(): path.read_bytes() for path in self.root.rglob("*") if path.is_file()
        }
        assert on_disk == self.files
        if self.seen == self.files and self.files:
            known = self._known()
            assert known == {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()}

    def _known(self) -> dict[str, str]:
        with self.store.reading() as catalog:
            root_id = catalog.root_id(str(self.root.resolve()))
            known = present_contents(catalog, root_id) if root_id is not None else ()
            return {path: sha256 for path, _, sha256 in known}

    def _queries(self) -> list[str]:
        """The queries that the store knows as they are."""
        return [path for path in QUERIES if path in self.files and self.seen.get(path) == self.files[path]]


Histories.TestCase.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=HISTORIES <= 12,
)
TestHistories = Histories.TestCase
