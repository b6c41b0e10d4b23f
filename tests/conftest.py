"""What the tests share: data directories of real files, stores, tiny weights, and the command line."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from filelock import FileLock
from PIL import Image

from nearshot.indexer.options import IndexOptions
from nearshot.indexer.report import Report
from nearshot.indexer.run import IndexRun
from nearshot.schema.location import Location
from nearshot.schema.paths import AnyPath
from nearshot.schema.store import Store
from tests.objects import Environment, serving_s3
from tests.photographs import photograph
from tests.postgres import Server, serving

HOG = IndexOptions(backbones=("hog",), workers=2)

Writer = Callable[[Mapping[str, str]], Path]


SLOW = (
    *(
        "faults/test_faults.py",
        "indexer/test_ray.py",
        "test_readme.py",
        "service/test_abuse.py",
        "service/test_client.py",
        "service/test_page.py",
        "service/test_review.py",
    ),
    *("faults/test_flips.py", "test_reproduce.py", "service/test_openapi.py", "door/test_notebook.py"),
)
"""The files that take longest, longest first: begun first, so that no worker waits for another at the end."""


gc.set_threshold(200_000)  # going through all that torch and models make takes a tenth of the time of the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    tests = Path(__file__).parent
    order = {tests / file: number for number, file in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the tests away from the user's store, weights and caches, and from the network."""
    for name in ("STORE", "SERVER", "API_KEY"):
        monkeypatch.delenv(f"NEARSHOT_{name}", raising=False)
    monkeypatch.delenv("NEARSHOT_WEIGHTS", raising=False)
    monkeypatch.setenv("NEARSHOT_RUNTIME", "torch")
    monkeypatch.setenv("NEARSHOT_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-hub-cache"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was made and closed: copying it takes a thirtieth of the time of making another."""
    directory = tmp_path_factory.mktemp("empty") / "store"
    Store(directory, create=True).close()
    return directory


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `both_stores` on SQLite and on PostgreSQL."""
    marked = {mark.name for mark in metafunc.definition.iter_markers()}
    if "both_stores" in marked and "of_segments" not in marked and "store_kind" in metafunc.fixturenames:
        metafunc.parametrize("store_kind", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def store_kind(request: pytest.FixtureRequest) -> str:
    """Which database the store of a test is in."""
    return str(getattr(request, "param", os.environ.get("NEARSHOT_STORE_KIND", "sqlite")))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL of this worker's own. The path of a socket may be 107 bytes long, so it is a short one."""
    with tempfile.TemporaryDirectory(prefix="nearshot-") as directory, serving(Path(directory, "server")) as server:
        yield server


@pytest.fixture(scope="session")
def empty_database(postgres_server: Server) -> str:
    """The name of a database with a store that was made and closed, to copy."""
    Store(postgres_server.new_database(name="empty"), create=True).close()
    return "empty"


@pytest.fixture
def location(store_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Location:
    """Where a store may be made; there is none yet."""
    if store_kind == "sqlite":
        return tmp_path / "store"
    server: Server = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest.fixture
def store(store_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A new store."""
    if store_kind == "sqlite":
        where: Location = shutil.copytree(request.getfixturevalue("empty_store"), tmp_path / "store")
    else:
        template: str = request.getfixturevalue("empty_database")
        server: Server = request.getfixturevalue("postgres_server")
        where = server.new_database(template)
    with Store(where) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3() -> Iterator[Environment]:
    """The environment in which S3 is a server of this worker's own."""
    with serving_s3() as environment:
        yield environment


@pytest.fixture
def write_data(tmp_path: Path) -> Writer:
    """Write a data directory: path to the name of a photograph, `NAME:N` for the N-th crop of it."""

    def write(files: Mapping[str, str]) -> Path:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        for path, source in files.items():
            save_crop(root / path, source)
        return root

    return write


def save_crop(path: Path, source: str) -> None:
    """Save the N-th crop of a photograph, at most 160 pixels wide."""
    name, _, number = source.partition(":")
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(photograph(name)) as image:
        offset = 10 * int(number or 0)
        box = (offset, offset, image.width - 80 + offset, image.height - 80 + offset)
        crop = image.convert("RGB").crop(box)
        crop.thumbnail((160, 160))
        crop.save(path)


SMALL = {
    "things/2.support-set/cat/shot1.png": "chelsea:0",
    "things/2.support-set/cat/shot2.png": "chelsea:4",
    "things/2.support-set/coffee/shot1.png": "coffee:0",
    "things/2.support-set/coffee/shot2.png": "coffee:4",
    "things/6.preprocessed/cat/a.png": "chelsea:2",
    "things/6.preprocessed/Unknown/b.png": "hubble_deep_field:1",
}
"""A small data set: two labels of two shots, a query of each kind."""


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data set, to copy."""
    root = tmp_path_factory.mktemp("small") / "data"
    for path, source in SMALL.items():
        save_crop(root / path, source)
    return root


@pytest.fixture
def small(tmp_path: Path, small_data: Path) -> Path:
    """The small data set on disk."""
    return Path(shutil.copytree(small_data, tmp_path / "data"))


def run_index(store: Store, root: AnyPath, options: IndexOptions = HOG, **more: Any) -> Report:
    """Index to the end; the report."""
    run = IndexRun(store, root, options, **more)
    for _ in run:
        pass
    return run.report


def counts(report: Report) -> dict[str, int]:
    """The report's counts that are not zero."""
    names = ("added", "changed", "moved", "removed", "unchanged", "failed", "outside_contract")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --weights directory with tiny (ResNet-50: full-size) random models for clip, resnet50 and dinov2."""
    from tests import tiny

    root = tmp_path_factory.mktemp("weights")
    tiny.save_clip(root / "clip")
    tiny.save_resnet50(root / "resnet50")
    tiny.save_dinov2(root / "dinov2")
    return root


@pytest.fixture(scope="session")
def compiled_lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which `lite0` is compiled, as it is on a user's machine from the second command on; once for all workers."""
    from nearshot.backbones.resolve import resolve
    from nearshot.backbones.spec import parse_spec

    here = tmp_path_factory.getbasetemp()
    cache = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "compiled-lite0"
    with FileLock(f"{cache}.lock"), pytest.MonkeyPatch.context() as patch:
        if not cache.exists():
            patch.setenv("NEARSHOT_CACHE", f"{cache}.part")
            patch.setenv("NEARSHOT_RUNTIME", "auto")
            resolve(parse_spec("lite0")).load("cpu", compiling=lambda _: None)
            Path(f"{cache}.part").rename(cache)
    return cache


@pytest.fixture
def compiled(compiled_lite0: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands find `lite0` compiled."""
    monkeypatch.setenv("NEARSHOT_CACHE", str(compiled_lite0))
    monkeypatch.setenv("NEARSHOT_RUNTIME", "auto")


@pytest.fixture(scope="session")
def florence2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --weights directory with a tiny random Florence-2."""
    from nearshot.backbones.florence2 import LENGTHS
    from nearshot.schema.vocabulary import CaptionTask
    from tests import tiny

    LENGTHS.update(dict.fromkeys(CaptionTask, 24))  # random weights never come to an end by themselves
    root = tmp_path_factory.mktemp("captioner")
    tiny.save_florence2(root / "florence2")
    return root


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit status."""

    status: int
    stdout: str
    stderr: str

    @property
    def objects(self) -> list[Any]:
        """Standard output as JSON, one object per line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


@pytest.fixture
def nearshot(
    store_kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., Outcome]:
    """Run the command line in this process, in `tmp_path`."""
    from nearshot.commands.main import main

    monkeypatch.chdir(tmp_path)
    if store_kind == "postgres":
        monkeypatch.setenv("NEARSHOT_STORE", str(request.getfixturevalue("location")))

    def run(*arguments: object, stdin: bytes | None = None) -> Outcome:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@contextmanager
def as_nobody(*writable: Path) -> Iterator[None]:
    """Without root's right to read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    for top in writable:
        for path in (top, *top.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
