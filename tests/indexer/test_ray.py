"""Index runs on the nodes of a Ray cluster: the same vectors and counts. More is killed in `tests.faults.ray_nodes`."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from sqlalchemy import select

import nearshot
from nearshot.indexer.embedding_on_ray import in_turn
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.ray_worker import MOST_TRIES, RayWorker, Refused, Setup, key_of, software
from nearshot.indexer.report import Report
from nearshot.indexer.run import IndexRun
from nearshot.indexer.verify import verify
from nearshot.schema import tables
from nearshot.schema.errors import IndexingError, UsageError
from nearshot.schema.paths import path_of
from nearshot.schema.store import Store
from nearshot.schema.vectors import vectors_of
from tests.conftest import HOG, Outcome, run_index, save_crop
from tests.objects import BUCKET, Environment, put
from tests.postgres import Server
from tests.test_readme import printed_in_postgresql, session

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 32}  # which Ray reads when it is imported
ray_cluster = pytest.importorskip("ray.cluster_utils", reason="Ray has no wheel for this machine")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself

QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
"""How soon a node that does not answer counts as dead: Ray takes 15 seconds."""

ONE = {"num_cpus": 1, "object_store_memory": 80 << 20}


class Nodes:
    """A cluster of two nodes on this machine."""

    def __init__(self) -> None:
        head = {**ONE, "include_dashboard": False, "_system_config": QUICK}
        self.cluster = ray_cluster.Cluster(initialize_head=True, head_node_args=head)
        self.second = self.cluster.add_node(**ONE)
        self.address = str(self.cluster.address)

    def kill_second(self) -> None:
        """Kill the second node and all of its processes."""
        self.cluster.remove_node(self.second, allow_graceful=False)

    def end(self, *, headless: bool = False) -> None:
        """End what is left."""
        if headless:  # which Ray's own way to end it asks
            for node in self.cluster.worker_nodes:
                node.kill_all_processes(check_alive=False)
        else:
            self.cluster.shutdown()


@pytest.fixture(scope="module")
def nodes(s3: Environment) -> Iterator[Nodes]:
    """A cluster that tests share, none of which harms it; its nodes may read what is in S3."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        shared = Nodes()
        yield shared
        shared.end()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-four images: one of them broken, some the same."""
    return draw(tmp_path_factory.mktemp("many") / "data")


def draw(root: Path) -> Path:
    """Draw them into a data directory."""
    for number in range(40):
        label = ("cat", "coffee", "rocket")[number % 3]
        photograph = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}[label]
        path = root / f"things/2.support-set/{label}/shot{number}.png"
        save_crop(path, f"{photograph}:{number % 5}")
        with Image.open(path) as image:
            image.putpixel((0, 0), (number, 0, 0))
            image.save(path)
    support = root / "things/2.support-set"
    for number in range(3):
        shutil.copy(support / f"cat/shot{3 * number}.png", support / f"cat/shot{900 + number}.png")
    (support / "cat/shot99.png").write_bytes(b"nothing")
    return root


def on(nodes: Nodes, **more: Any) -> IndexOptions:
    """What indexes on a cluster, few images at a time."""
    return replace(HOG, ray=nodes.address, batch_size=2, **more)


def contents(store: Store) -> dict[tuple[str, int], bytes]:
    """The bytes of all vectors of a store, by backbone and content."""
    with store.reading() as catalog:
        return {
            (row.name, content): vector.tobytes()
            for row in catalog.backbones()
            for content, vector in vectors_of(catalog, row, range(1, 1000)).items()
        }


def rows(store: Store) -> list[tuple[Any, ...]]:
    """The rows of images and contents, ids and revisions and all."""
    with store.reading() as catalog:
        return [
            tuple(row)
            for table in (tables.images, tables.contents)
            for row in catalog.connection.execute(
                select(*(column for column in table.c if column.name != "digest")).order_by(table.c.id)
            )
        ]


def counted(report: Report) -> dict[str, Any]:
    """What a report says, but for how long it took and in which order."""
    said = asdict(report)
    del said["seconds"]
    return said | {"failures": sorted(each["path"] for each in said["failures"])}


def test_vectors_and_counts_are_those_of_a_run_without_it_to_the_bit(
    nodes: Nodes, many: Path, store: Store, tmp_path: Path, weights: Path
) -> None:
    options = on(nodes, backbones=("hog", "clip"), weights=weights, device="cpu")
    with Store(tmp_path / "plain", create=True) as plain:
        expected = run_index(plain, many, replace(options, ray=None))
        report = run_index(store, many, options)
        assert counted(report) == counted(expected)
        assert report.added == 43
        assert {name: count.embedded for name, count in report.backbones.items()} == {"hog": 40, "clip": 40}
        assert contents(store) == contents(plain)
        assert rows(store) == rows(plain)
    assert list(verify(store)) == []
    assert run_index(store, many, replace(options, ray="127.0.0.1:1")).unchanged == 43, "nothing to do asks no cluster"


def test_its_session_in_the_docs_is_what_is_printed(nodes: Nodes, tmp_path: Path, postgres_server: Server) -> None:
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "empty"), "TORCH_HOME": str(tmp_path / "empty")}
    told = {"127.0.0.1:6379": nodes.address}
    printed = printed_in_postgresql("ray", tmp_path, environment, postgres_server.new_database(), **told)
    assert printed == session("ray")


def test_what_lies_in_a_store_of_objects_is_fetched_by_the_nodes(
    nodes: Nodes, many: Path, store: Store, tmp_path: Path
) -> None:
    put(many, f"s3://{BUCKET}/many")
    with Store(tmp_path / "plain", create=True) as plain:
        expected = run_index(plain, many)
        report = run_index(store, path_of(f"s3://{BUCKET}/many"), on(nodes))
        assert counted(report) == counted(expected)
        assert contents(store) == contents(plain)
    assert list(verify(store)) == []


def test_python_takes_a_cluster_as_well(nodes: Nodes, many: Path, tmp_path: Path) -> None:
    with nearshot.open(tmp_path / "own", create=True) as index:
        assert index.add(many, backbones=["hog"], ray=nodes.address).added == 43
        with pytest.raises(UsageError, match=r"^ray wants HOST:PORT"):
            index.add(many, backbones=["lite0"], ray="local")


def test_a_new_backbone_and_a_moved_file_cost_what_they_cost_without_it(
    nodes: Nodes, many: Path, store: Store, tmp_path: Path, weights: Path
) -> None:
    data = Path(shutil.copytree(many, tmp_path / "data"))
    run_index(store, data)
    (data / "things/2.support-set/coffee/shot1.png").rename(data / "things/2.support-set/coffee/shot777.png")
    shutil.copy(data / "things/2.support-set/cat/shot3.png", data / "things/2.support-set/cat/shot778.png")
    options = on(nodes, backbones=("hog", "clip"), weights=weights, device="cpu")
    report = run_index(store, data, options)
    assert (report.added, report.moved) == (1, 1)
    assert {name: count.embedded for name, count in report.backbones.items()} == {"hog": 0, "clip": 40}


def test_a_wish_to_stop_is_met_and_the_next_run_goes_on(nodes: Nodes, many: Path, store: Store) -> None:
    seen: list[int] = []
    run = IndexRun(store, many, on(nodes), should_stop=lambda: len(seen) > 2)
    for progress in run:
        seen.append(progress.done)
    assert run.report.interrupted
    assert seen[-1] == run.report.added < 44
    assert 0 < len(contents(store)) < 40
    assert run_index(store, many).added == 43 - run.report.added
    assert len(contents(store)) == 40


def killing(run: IndexRun, kill: Callable[[], None]) -> int:
    """Run to the end, and kill something once a batch is committed; how many steps came after."""
    steps = 0
    for progress in run:
        if progress.done:
            if steps == 0:
                kill()
            steps += 1
    return steps


def workers() -> list[psutil.Process]:
    """The processes of actors that embed, of clusters that this process has started."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and "MapWorker" in " ".join(process.cmdline())
    ]


def test_workers_that_are_killed_lose_and_double_nothing(nodes: Nodes, many: Path, store: Store) -> None:
    run = IndexRun(store, many, on(nodes))

    def kill() -> None:
        there = workers()
        assert there
        for process in there:
            process.kill()

    killing(run, kill)
    assert run.report.added == 43
    assert len(contents(store)) == 40
    assert list(verify(store)) == []


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "there is no Ray to be reached at 127.0.0.1:1: nobody listens there"),
        ("a..b:6379", "there is no Ray to be reached at a..b:6379: nobody listens there"),
        ("127.0.0.1:99999", "nobody listens there"),
        ("127.0.0.1:²", "--ray wants HOST:PORT"),
        ("", "--ray wants HOST:PORT"),
        ("local", "--ray wants HOST:PORT, where the head of a cluster listens, or auto; not 'local'"),
        ("ray://127.0.0.1:10001", "--ray wants HOST:PORT"),
    ],
)
def test_where_there_is_no_cluster_it_is_said(
    many: Path, store: Store, nearshot: Callable[..., Outcome], address: str, told: str
) -> None:
    said = nearshot("index", many, "--backbone", "hog", "--ray", address, "--store", store.location)
    assert said.status == 2
    assert told in said.stderr
    assert said.stderr.count("\n") == 1


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of somebody who listens, takes what is sent, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_wish_to_stop_is_met_while_connecting(many: Path, store: Store, mute: str) -> None:
    began = time.monotonic()
    run = IndexRun(store, many, replace(HOG, ray=mute), should_stop=lambda: time.monotonic() > began + 1)
    for _ in run:
        pass
    assert run.report.interrupted
    assert time.monotonic() < began + 20
    assert not drivers()


def test_an_interrupt_while_connecting_leaves_no_process(
    many: Path, store: Store, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> bool:
        if drivers():
            raise KeyboardInterrupt
        return False

    run = IndexRun(store, many, replace(HOG, ray=mute), should_stop=interrupted)
    with pytest.raises(KeyboardInterrupt):
        for _ in run:
            pass
    assert not drivers()


def drivers() -> list[psutil.Process]:
    """The processes of this one that speak with Ray."""
    return [each for each in psutil.Process().children() if "ray_driver" in " ".join(each.cmdline())]


def test_a_cluster_that_cannot_do_it_is_told(
    nodes: Nodes, many: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="has no GPU"):
        run_index(store, many, on(nodes, device="cuda"))


def test_without_ray_installed_it_is_said(many: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearshot.indexer.ray_cluster.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'nearshot\[ray\]'"):
        run_index(store, many, replace(HOG, ray="auto"))


def test_batches_that_come_in_any_order_are_taken_in_theirs() -> None:
    answers = [(number, b"%d" % number) for number in (2, 0, 1, 5, 4, 3, 6)]
    assert [number for number, _ in in_turn(answers)] == [0, 1, 2, 3, 4, 5, 6]
    assert dict(in_turn(answers)) == dict(answers)
    late = [(number, b"") for number in (1, 2, 3, 4, 0, 5)]
    assert [number for number, _ in in_turn(late, most=2)] == [1, 2, 0, 3, 4, 5]

    def ended() -> Iterator[tuple[int, bytes]]:
        yield from late[:2]
        raise IndexingError("the head answers no more")

    taken: list[int] = []
    with pytest.raises(IndexingError, match="answers no more"):
        taken.extend(number for number, _ in in_turn(ended()))
    assert taken == [1, 2], "what was done is kept"


@pytest.fixture
def setup(many: Path, store: Store) -> Setup:
    """What an actor works for, with one image known."""
    run_index(store, many)
    with store.reading() as catalog:
        [row] = catalog.backbones()
    return Setup(
        rows=(row,),
        weights=None,
        precision=None,
        device="cpu",
        threads=1,
        loading_threads=1,
        max_pixels=1 << 24,
        software=software(),
        known={"hog": np.array([key_of("0" * 64)])},
    )


def answer(setup: Setup, tries: int, *paths: Path) -> Any:
    """What an actor answers about some files."""
    return pickle.loads(RayWorker(setup, lambda _: tries)({"number": 3, "files": pickle.dumps(paths)})["answer"])


def test_an_actor_says_why_it_cannot_do_its_part(setup: Setup, many: Path) -> None:
    shot = many / "things/2.support-set/cat/shot0.png"
    [loaded], embedded = answer(setup, MOST_TRIES, shot)
    assert loaded.picture.prepared == {}
    assert [*embedded.vectors["hog"]] == [loaded.sha256]
    known = replace(setup, known={"hog": np.array([key_of(loaded.sha256)])})
    [again], nothing = answer(known, 1, shot)
    assert (again.picture, nothing.vectors) == (None, {})
    ended = answer(setup, MOST_TRIES + 1, shot)
    assert isinstance(ended, Refused)
    assert f"the process that reads 1 files ({shot}, ...) ended 3 times" in ended.reason
    other = answer(replace(setup, software="nearshot 0.0"), 1, shot)
    assert "install the same on all" in other.reason
    [row] = setup.rows
    weights = answer(replace(setup, rows=(row._replace(fingerprint="f" * 64),)), 1, shot)
    assert "the weights on this node are others than the run's" in weights.reason


def test_what_an_actor_says_ends_the_run(
    nodes: Nodes, many: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearshot.indexer.embedding_on_ray.software", lambda: "nearshot 0.0")
    with pytest.raises(IndexingError, match="install the same on all"):
        run_index(store, many, on(nodes))
