"""Several services and index runs on one database in PostgreSQL, many clients, and kills: every answer is of a committed state.

    python -m tests.faults.replicas [SECONDS [SERVICES [CLIENTS]]]

Clients ask about queries, label some and reject some, each at a service of its own, while two processes index shots that keep
coming into two other data directories. A third of the way a service is killed with SIGKILL and begun again, two thirds of
the way the database's server. Afterwards:

- each answer is, to 6 decimals and in order, what its revision of the rows gives, summed up anew;
- what was acknowledged is there once, and nothing is there that was not said; three seconds after it was, it counts in each
  service, but for times when something was killed (what took more than one is printed);
- each index run came to its end, but for such times;
- no request had another status than 200, 409 for what was said already, or 503 while something was down.
"""

from __future__ import annotations

import json
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.indexer.verify import verify
from nearshot.schema.store import Store
from tests.conftest import run_index
from tests.postgres import Server, serving
from tests.service import test_serve
from tests.service.test_serve import Served

LABELS, SHOWN = 4, 5
QUERIES = 600
AT_ONCE = 8
"""Shots that come into a data directory before it is indexed again."""

SAYING = 0.08
"""The share of what clients do that is to say something."""

VISIBLE_S = 1.0
"""How long what was said may take to count everywhere."""

LATE_S = 3.0
"""How long it takes at most, where clients and services share two cores and nothing was killed."""

RECOVERY_S = 30.0
"""How long what was said may take to count, whatever was killed meanwhile."""

EXCUSED_S = 12.0
"""How long after a kill requests and index runs may fail, or labels be late."""


def draw(path: Path, chance: np.random.Generator) -> None:
    """A picture like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(chance.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((64, 64)).save(path)


def write_data(root: Path) -> list[Path]:
    """Three data directories: one whose queries are asked about, and two into which shots come; all three."""
    chance = np.random.default_rng(0)
    for category in ("things", "birds", "cars"):
        for label in range(LABELS):
            draw(root / category / category / f"2.support-set/label{label}/shot1.png", chance)
    for number in range(QUERIES):
        draw(root / f"things/things/6.preprocessed/{number}.png", chance)
    return [root / category for category in ("things", "birds", "cars")]


def keep_indexing(root: Path, address: str) -> None:
    """Add shots and index them, until the process is stopped; what a server that is down cut off is indexed the next time."""
    chance = np.random.default_rng(sum(root.name.encode()))
    number = 0
    print("begun", flush=True)
    while True:
        for _ in range(AT_ONCE):
            number += 1
            draw(root / root.name / f"2.support-set/label{number % LABELS}/shot{1 + number}.png", chance)
        try:
            with Store(address) as store:
                run_index(store, root)
            print(f"done {time.monotonic()}", flush=True)
        except Exception as error:
            print(f"told {time.monotonic()} {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
            time.sleep(0.5)


@dataclass
class Heard:
    """What clients heard: answers, what was acknowledged, what else there was."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    said: list[tuple[str, str | None]] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)
    late: list[tuple[float, float]] = field(default_factory=list)
    statuses: Counter[int | str] = field(default_factory=Counter)


class Replica:
    """A service that may be killed, and begun again at the same port."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.served = Served(address, "--backbone", "hog")
        self.url = self.served.url

    def kill(self) -> None:
        """Kill it, and begin it again."""
        self.served.process.send_signal(signal.SIGKILL)
        self.served.process.communicate()
        self.served = Served(self.address, "--backbone", "hog", "--port", self.url.rpartition(":")[2])

    def end(self) -> None:
        """End it, where it still runs."""
        if self.served.process.poll() is None:
            self.served.end(signal.SIGKILL)

    def send(self, path: str, heard: Heard, data: bytes, kind: str) -> Any:
        """Ask until there is an answer; its JSON, or None where it was said already."""
        while True:
            request = urllib.request.Request(self.url + path, data, {"Content-Type": kind}, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    answer = json.loads(response.read())
                heard.statuses[200] += 1
                return answer
            except urllib.error.HTTPError as error:
                heard.statuses[error.code] += 1
                if error.code == 409:
                    return None
                if error.code != 503:
                    raise AssertionError(f"{path}: {error.code} {error.read()!r}") from error
                heard.refused.append((time.monotonic(), json.loads(error.read())["detail"]))
            except (OSError, HTTPException) as error:
                heard.statuses[type(error).__name__] += 1
            time.sleep(0.05)

    def ask(self, image: Path, category: str | None, heard: Heard) -> dict[str, Any]:
        """Ask about a query, and keep what is answered."""
        asked: dict[str, Any] = {"backbone": "hog", "top_k": SHOWN, **({"category": category} if category else {})}
        body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="i"\r\n\r\n%b\r\n--x--\r\n'
        kind = "multipart/form-data; boundary=x"
        given = self.send(f"/v1/query?{urllib.parse.urlencode(asked)}", heard, body % image.read_bytes(), kind)
        answer: dict[str, Any] = given["answers"][0] | {"revision": given["revision"], "of": image.name, "in": category}
        heard.answers.append(answer)
        return answer

    def say(self, image_id: int, label: str | None, heard: Heard) -> None:
        """Label a query, or reject it."""
        said = {"image_id": image_id, **({"label": label} if label else {})}
        path = "/v1/label" if label else "/v1/reject"
        self.send(path, heard, urllib.parse.urlencode(said).encode(), "application/x-www-form-urlencoded")


class Client:
    """Somebody who asks one service about queries, and now and then says what one shows, and sees that it counts everywhere."""

    def __init__(self, number: int, replicas: list[Replica], pool: list[Path], heard: Heard) -> None:
        self._chance = random.Random(number)
        self._own, self._replicas = replicas[number % len(replicas)], replicas
        self._pool, self._heard = pool, heard

    def run(self, waiting: queue.SimpleQueue[tuple[int, Path]], until: float) -> None:
        """Go on until a time; what is said of is taken from those that wait."""
        while time.monotonic() < until:
            if self._chance.random() < SAYING:
                with suppress(queue.Empty):
                    self._say(*waiting.get_nowait())
            else:
                category = self._chance.choice(["things", "birds", "cars", None])
                self._own.ask(self._chance.choice(self._pool), category, self._heard)

    def _say(self, image_id: int, path: Path) -> None:
        label = None if self._chance.random() < 0.3 else f"label{image_id % LABELS}"
        self._own.say(image_id, label, self._heard)
        said_at = time.monotonic()
        self._heard.said.append((path.name, label))
        time.sleep(VISIBLE_S)
        for replica in self._replicas:
            while not is_counted(replica.ask(path, "things", self._heard), label):
                waited = time.monotonic() - said_at
                self._heard.late.append((said_at, waited))
                assert waited < RECOVERY_S, f"{label} of {path.name} does not count at {replica.url}"


def is_counted(answer: dict[str, Any], label: str | None) -> bool:
    """Tell whether what was said of a query (None: that it shows nothing known) shows in an answer about it."""
    if label is None:
        return bool(answer["negative_score"] == 1.0)
    return bool(answer["hits"]) and (answer["hits"][0]["score"], answer["hits"][0]["label"]) == (1.0, label)


class Expected:
    """What answers are by the rows: those of a revision are those that were written until then, for no shot changes or goes."""

    def __init__(self, store: Store) -> None:
        with store.reading() as catalog:
            shots = catalog.connection.exec_driver_sql(
                "SELECT i.id, i.category, greatest(i.revision, e.revision), e.vector::real[] FROM images i "
                "JOIN embeddings e ON e.content_id = i.content_id WHERE i.role = 'support' AND i.present ORDER BY i.id"
            ).fetchall()
            queries = catalog.connection.exec_driver_sql(
                "SELECT i.path, e.vector::real[] FROM images i JOIN embeddings e ON e.content_id = i.content_id "
                "WHERE i.role = 'query'"
            ).fetchall()
        self._ids, self._categories, self._revisions = (
            np.array(column) for column in list(zip(*shots, strict=True))[:3]
        )
        vectors = np.array([shot[3] for shot in shots], dtype=np.float64)
        names = {Path(path).name: np.array(vector, dtype=np.float64) for path, vector in queries}
        self._cosines: dict[str, NDArray[np.float64]] = {name: vectors @ vector for name, vector in names.items()}

    def hits(self, answer: dict[str, Any]) -> list[tuple[int, float]]:
        """The ids and scores of the nearest shots, best first."""
        there = self._revisions <= answer["revision"]
        if answer["in"] is not None:
            there &= self._categories == answer["in"]
        ids, scores = self._ids[there], self._cosines[answer["of"]][there].astype(np.float32)
        best = np.lexsort((ids, -scores))[:SHOWN]
        return [(int(ids[each]), float(scores[each])) for each in best]


def check_answers(expected: Expected, answers: list[dict[str, Any]]) -> int:
    """Hold each answer against the rows; how many revisions they were of."""
    for answer in answers:
        told = [(hit["id"], hit["score"]) for hit in answer["hits"]]
        right = expected.hits(answer)
        where = f"revision {answer['revision']}, {answer['of']} in {answer['in']}: {told}, and not {right}"
        assert [image_id for image_id, _ in told] == [image_id for image_id, _ in right], where
        assert np.allclose([score for _, score in told], [score for _, score in right], atol=1.5e-6, rtol=0), where
    return len({answer["revision"] for answer in answers})


def check_said(store: Store, heard: Heard, root: Path) -> None:
    """What was acknowledged is there, once, and no more than that."""
    with store.reading() as catalog:
        rows = catalog.connection.exec_driver_sql(
            "SELECT path, action, label FROM feedback WHERE undone IS NULL"
        ).fetchall()
    there = Counter((Path(path).name, label if action == "label" else None) for path, action, label in rows)
    assert there == Counter(heard.said), "what was said is there once, and nothing else"
    shots = {str(path) for path in (root / "2.support-set").rglob("*") if path.is_file()}
    with store.reading() as catalog:
        said = "SELECT shot_path FROM feedback WHERE undone IS NULL AND action = 'label'"
        copies = set(catalog.connection.exec_driver_sql(said).scalars())
    first = {str(path) for path in root.glob("2.support-set/*/shot1.png")}
    assert shots - first == copies, "each is a file, and there is no other"


@contextmanager
def indexing(roots: list[Path], address: str, told: list[list[str]]) -> Iterator[None]:
    """Two processes that index, stopped in the end, and what each told."""
    line = [sys.executable, "-m", "tests.faults.replicas", "--index"]
    processes = [subprocess.Popen([*line, str(root), address], stdout=subprocess.PIPE, text=True) for root in roots]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        yield
    finally:
        for process in processes:
            process.terminate()
            told.append(process.communicate()[0].splitlines())


def check_indexed(store: Store, told: list[list[str]], struck: list[float]) -> list[int]:
    """Each index run went on, and failed only where something had been killed; how many were done by each process."""
    with store.reading() as catalog:
        for category in ("birds", "cars"):
            assert sum(catalog.support_labels(category).values()) > LABELS + AT_ONCE, (
                f"nothing came into {category}: {told}"
            )
    for line in (line for lines in told for line in lines if line.startswith("told")):
        assert is_beside(float(line.split()[1]), struck), line
    done = [[float(line.split()[1]) for line in lines if line.startswith("done")] for lines in told]
    assert min(max(times, default=0) for times in done) > struck[-1], "each went on after the server was killed"
    return list(map(len, done))


def is_beside(at: float, struck: list[float]) -> bool:
    """Tell whether something had been killed a while before."""
    return any(when <= at < when + EXCUSED_S for when in struck)


def strike(server: Server, replicas: list[Replica], began: float, seconds: float) -> list[float]:
    """Kill a service, and then the server, each in its time, and begin them again; when that was."""
    when = []
    time.sleep(max(0, began + seconds / 3 - time.monotonic()))
    when.append(time.monotonic())
    replicas[0].kill()
    time.sleep(max(0, began + seconds * 2 / 3 - time.monotonic()))
    when.append(time.monotonic())
    server.kill()
    time.sleep(1)
    server.start()
    return when


def main(seconds: float = 60.0, services: int = 4, clients: int = 64) -> None:
    """Run, and print what came of it."""
    test_serve.PATIENCE_S = int(seconds) + 300
    heard = Heard()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rep-")))
        directory.chmod(0o755)
        roots = write_data(directory / "data")
        server = stack.enter_context(serving(directory / "pg", durable=True))
        address = server.new_database()
        with Store(address, create=True) as store:
            for root in roots:
                run_index(store, root)
            with store.reading() as catalog:
                rows = catalog.connection.exec_driver_sql("SELECT id, path FROM images WHERE role = 'query'").fetchall()
        replicas = []
        for _ in range(services):
            replicas.append(Replica(address))
            stack.callback(replicas[-1].end)
        waiting: queue.SimpleQueue[tuple[int, Path]] = queue.SimpleQueue()
        for image_id, path in rows:
            waiting.put((image_id, roots[0] / path))
        pool = [roots[0] / path for _, path in rows]
        told: list[list[str]] = []
        with indexing(roots[1:], address, told):
            began = time.monotonic()
            asking = [Client(number, replicas, pool, heard) for number in range(clients)]
            failed: list[BaseException] = []

            def run(client: Client) -> None:
                try:
                    client.run(waiting, began + seconds)
                except BaseException as error:
                    failed.append(error)

            threads = [threading.Thread(target=run, args=(client,)) for client in asking]
            for thread in threads:
                thread.start()
            struck = strike(server, replicas, began, seconds)
            for thread in threads:
                thread.join()
        for replica in replicas:
            replica.end()
        with Store(address) as store:
            assert list(verify(store)) == []
            revisions = check_answers(Expected(store), heard.answers)
            check_said(store, heard, roots[0] / "things")
            runs = check_indexed(store, told, struck)
    assert not failed, failed
    odd = [why for at, why in heard.refused if not is_beside(at, struck)]
    assert not odd, odd
    late = [wait for at, wait in heard.late if not is_beside(at + wait, struck)]
    assert max(late, default=0) < LATE_S, late
    beside = [wait for _, wait in heard.late]
    print(f"{services} services, {clients} clients, {seconds:g} s")
    print(f"{len(heard.answers)} answers, of {revisions} revisions: each is what its revision gives")
    print(
        f"{len(heard.said)} labels and rejections, each there once; later than {VISIBLE_S:g} s where nothing was killed: "
        f"{len(late)}, at most {max(late, default=0):.2f} s; where something was: at most {max(beside, default=0):.2f} s"
    )
    print(f"index runs: {runs}; statuses: {dict(heard.statuses)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--index"]:
        keep_indexing(Path(sys.argv[2]), sys.argv[3])
    else:
        main(*(kind(given) for kind, given in zip((float, int, int), sys.argv[1:], strict=False)))
