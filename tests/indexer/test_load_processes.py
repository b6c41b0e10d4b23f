"""Loading in processes: what threads do, and a death costs its image."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

from nearshot.backbones import memory_budget
from nearshot.backbones.hog import HogBackbone
from nearshot.backbones.limits import MAX_PIXELS
from nearshot.backbones.protocol import Prepared, PreparedElsewhere
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.indexer import embedding_here
from nearshot.indexer.load import Loaded, Skipped
from nearshot.indexer.load_processes import ENDED, LoadProcesses
from nearshot.indexer.load_worker import OWN_BYTES, Setup
from nearshot.indexer.run import IndexRun
from nearshot.schema.errors import IndexingError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Loading
from tests.conftest import HOG, Writer, counts, run_index
from tests.indexer.conftest import support

PROCESSES = replace(HOG, loading=Loading.PROCESSES, workers=2)


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "load_worker" in " ".join(each.cmdline())]


def test_they_come_to_what_threads_come_to(tmp_path: Path, small: Path, write_data: Writer) -> None:
    (small / "things/6.preprocessed/broken.png").write_bytes(b"no image")
    write_data({"things/6.preprocessed/copy.png": "chelsea:1"})
    reports = []
    vectors = []
    for loading in (Loading.THREADS, Loading.PROCESSES):
        with Store(tmp_path / loading, create=True) as store:
            reports.append(run_index(store, small, replace(PROCESSES, loading=loading)))
            vectors.append(support(store))
    assert counts(reports[0]) == counts(reports[1])
    assert reports[0].failures == reports[1].failures
    assert vectors[0] == vectors[1]
    assert children() == []


def setup(store: Store) -> Setup:
    return Setup({"hog": HogBackbone().preparation}, {"hog": 1}, store.location, MAX_PIXELS)


def test_one_that_dies_is_replaced_and_its_files_are_read_again(store: Store, small: Path) -> None:
    paths = sorted(small.rglob("*.png"))
    with LoadProcesses(setup(store), 1) as processes:
        assert all(isinstance(each, Loaded) for each in processes.load(paths))
        [child] = children()
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert all(isinstance(each, Loaded) for each in processes.load(paths))
    assert children() == []


def die_of_a_red_one(picture: Image.Image) -> Prepared:
    if picture.getpixel((0, 0)) == (255, 0, 0):
        os.kill(os.getpid(), signal.SIGSEGV)
    return HogBackbone().prepare(picture)


def test_a_file_that_kills_whoever_reads_it_costs_itself(store: Store, small: Path) -> None:
    deadly = small / "things/6.preprocessed/deadly.png"
    Image.new("RGB", (20, 20), "red").save(deadly)
    paths = sorted(small.rglob("*.png"))
    dying = replace(setup(store), preparers={"hog": die_of_a_red_one})
    with LoadProcesses(dying, 1) as processes:
        results = dict(zip(paths, processes.load(paths), strict=True))
    lost = results.pop(deadly)
    assert isinstance(lost, Skipped)
    assert lost.reason == ENDED
    assert all(isinstance(each, Loaded) for each in results.values())


def test_what_cannot_be_handed_over_stays_on_threads(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HogBackbone, "preparation", property(lambda self: lambda picture: self.prepare(picture)))

    def refuse(*_: object) -> None:
        raise AssertionError("a lambda cannot be pickled")

    monkeypatch.setattr(embedding_here, "LoadProcesses", refuse)
    assert counts(run_index(store, small, PROCESSES)) == {"added": 6}


def test_a_large_picture_waits_for_its_share_of_the_one_budget(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (6000, 5000)).save(large, compress_level=1)
    asked: list[int] = []
    real = memory_budget.MemoryBudget.share

    def share(self: memory_budget.MemoryBudget, size: int) -> AbstractContextManager[memory_budget.Share]:
        asked.append(size)
        return real(self, size)

    monkeypatch.setattr(memory_budget.MemoryBudget, "share", share)
    with LoadProcesses(setup(store), 1) as processes:
        [first] = processes.load([large])
        assert isinstance(first, Loaded)
        assert [size > OWN_BYTES for size in asked] == [True]
        large.write_bytes(large.read_bytes()[:-5000])  # it fails in the middle
        cut, again = processes.load([large, large])
        assert isinstance(cut, Skipped)
        assert isinstance(again, Skipped)
    assert len(asked) == 3
    assert memory_budget.DECODING.used == 0


def test_a_picture_for_which_there_is_no_share_says_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (6000, 5000)).save(tmp_path / "large.png", compress_level=1)
    monkeypatch.setattr("nearshot.indexer.load_processes.DECODING", memory_budget.MemoryBudget(1 << 20))
    with LoadProcesses(setup(store), 1) as processes:
        [result] = processes.load([tmp_path / "large.png"])
    assert isinstance(result, Skipped)
    assert "all together may take 1 MiB" in result.reason


def test_a_run_that_is_stopped_leaves_none(store: Store, small: Path) -> None:
    run = iter(IndexRun(store, small, replace(PROCESSES, batch_size=2)))
    next(run)
    next(run)
    assert len(children()) == 2
    run.close()  # type: ignore[attr-defined]
    assert children() == []
    assert counts(run_index(store, small, PROCESSES))["unchanged"] == 2


def test_a_worker_needs_no_library_of_models() -> None:
    """It would take each of sixteen processes many seconds."""
    lite0 = resolve(parse_spec("lite0")).load("cpu")
    assert isinstance(lite0, PreparedElsewhere)
    script = (
        "import pickle, sys; import nearshot.indexer.load_worker; pickle.loads(sys.stdin.buffer.read()); "
        "print([name for name in ('torch', 'torchvision', 'timm', 'transformers', 'faiss') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(lite0.preparation), capture_output=True)
    assert (done.stdout, done.stderr) == (b"[]\n", b"")


def test_processes_that_cannot_start_are_a_clear_error(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearshot.indexer.load_processes.WORKER", "raise SystemExit(1)")
    with pytest.raises(IndexingError, match="cannot be started here"):
        run_index(store, small, PROCESSES)
    assert children() == []
    assert counts(run_index(store, small)) == {"added": 6}


def wait_for(what: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_they_end_when_whoever_asks_is_killed(tmp_path: Path, small: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import time
        from pathlib import Path
        from nearshot.indexer.run import IndexRun
        from nearshot.schema.store import Store
        from tests.indexer.test_load_processes import PROCESSES, replace
        store = Store(Path({str(tmp_path / "s")!r}), create=True)
        run = iter(IndexRun(store, Path({str(small)!r}), replace(PROCESSES, batch_size=2)))
        next(run), next(run)
        print("ready", flush=True)
        time.sleep(60)
        """)
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root}
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        workers = psutil.Process(parent.pid).children()
        assert len(workers) == 2
        parent.kill()
        parent.wait()
    assert wait_for(lambda: not any(each.is_running() and each.status() != "zombie" for each in workers))
