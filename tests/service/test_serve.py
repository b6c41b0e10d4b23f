"""`nearshot serve` as a process: it starts, answers, and finishes what it accepted."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nearshot.schema.store import Store
from tests.conftest import Outcome, run_index, save_crop

CLI = Path(__file__).parents[2] / "cli.py"


PATIENCE_S = 120
"""What is waited for and never comes ends with the service, not with the patience of whoever runs the tests."""


class Served:
    """A running service."""

    def __init__(self, store: Path | str, *options: str, program: Sequence[str] = (str(CLI),)) -> None:
        command = [sys.executable, *program, "serve", "--store", str(store), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watchdog = threading.Timer(PATIENCE_S, self.process.kill)
        watchdog.daemon = True
        watchdog.start()
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        match = re.search(r"http://\S+?(?=/ )", self.line)
        assert match, f"{self.line}{self.process.communicate()[1]}"
        self.url = match[0]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=20) as response:
            return json.loads(response.read())

    def ask(self, image: Path, **parameters: Any) -> Any:
        body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="i"\r\n\r\n%b\r\n--x--\r\n'
        request = urllib.request.Request(
            f"{self.url}/v1/query?{urllib.parse.urlencode(parameters)}",
            body % image.read_bytes(),
            {"Content-Type": "multipart/form-data; boundary=x"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.loads(response.read())["answers"][0]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=40)
        return self.process.returncode, said


@pytest.fixture
def served(store: Store, small: Path) -> Iterator[Served]:
    run_index(store, small)
    service = Served(store.directory)
    yield service
    if service.process.poll() is None:
        service.process.kill()
        service.process.communicate()


def test_it_answers_and_ends_in_order(served: Served, small: Path) -> None:
    assert " with hog at http://127.0.0.1:" in served.line
    assert served.ask(small / "things/6.preprocessed/cat/a.png")["label"] == "cat"
    status, said = served.end()
    assert (status, said) == (0, "")


def test_who_presses_ctrl_c_twice_reads_no_traceback(served: Served) -> None:
    served.get("/v1/categories")
    served.process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    assert served.end(signal.SIGINT) == (0, "")


SLOWLY = """
import time
import nearshot.service.api.feedback as feedback
import nearshot.evaluation.report as report

add_shot = feedback.add_shot

def say(what, seconds):
    print(what, flush=True)
    time.sleep(seconds)

report.render_report = lambda *_: say("drawing", 600)
feedback.add_shot = lambda *arguments: (say("labelling", 2), add_shot(*arguments))[1]

from nearshot.commands.main import main
main()
"""


@pytest.mark.parametrize("insisting", [False, True], ids=["once", "twice"])
def test_an_end_waits_for_what_is_written_and_for_no_report(store: Store, small: Path, insisting: bool) -> None:
    run_index(store, small)
    service = Served(store.directory, program=("-c", SLOWLY))
    assert service.process.stdout is not None
    [query] = service.get("/v1/images?role=query&label=Unknown")["images"]
    with (
        socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=20) as report,
        socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=20) as label,
    ):
        report.sendall(b"GET /v1/report HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert service.process.stdout.readline() == "drawing\n"
        form = b"image_id=%d&label=retina" % query["id"]
        head = b"POST /v1/label HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        label.sendall(head + b"Content-Length: %d\r\n\r\n%b" % (len(form), form))
        assert service.process.stdout.readline() == "labelling\n"
        started = time.monotonic()
        if insisting:
            service.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        status, said = service.end()
        assert time.monotonic() - started < 15
        if not insisting:
            assert b'"detail":"the service is shutting down"' in report.recv(1 << 16)
            assert label.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert (status, said) == (0, "")
    assert [path.name for path in (small / "things/2.support-set/retina").iterdir()] == ["shot1.png"]


def test_what_was_accepted_is_finished_when_it_ends(served: Served, small: Path, store: Store) -> None:
    for number in range(30):
        save_crop(small / f"things/6.preprocessed/new/{number}.png", f"retina:{number}")
    request = urllib.request.Request(f"{served.url}/v1/index", method="POST")
    with urllib.request.urlopen(request, timeout=20) as response:
        run = json.loads(response.read())
    answers: list[Any] = []

    def ask() -> None:
        with suppress(OSError):  # one that it had not accepted yet when it ended
            answers.append(served.ask(small / "things/6.preprocessed/cat/a.png")["label"])

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    while len(answers) < 2:
        pass
    status, _ = served.end(signal.SIGTERM)
    for thread in asking:
        thread.join()
    assert (run["state"], status) == ("running", 0)
    assert len(answers) >= 2
    assert set(answers) == {"cat"}
    with store.reading() as catalog:
        last = catalog.last_run()
    assert last is not None
    assert last.outcome in ("interrupted", "finished"), "the run committed what it had in hand"


def test_what_cannot_be_served_is_said_before_it_listens(
    nearshot: Callable[..., Outcome], store: Store, small: Path
) -> None:
    empty = nearshot("serve", "--store", store.location)
    assert (empty.status, "nothing is indexed yet; run `nearshot index DATA`" in empty.stderr) == (2, True)
    run_index(store, small)
    clip = nearshot("serve", "--store", store.location, "--backbone", "clip")
    assert "nothing is indexed with clip" in clip.stderr
    reachable = nearshot("serve", "--store", store.location, "--host", "0.0.0.0")
    assert (reachable.status, "0.0.0.0 can be reached by others: make keys" in reachable.stderr) == (2, True)
    keys = nearshot("serve", "--store", store.location, "--api-keys", "none.json")
    assert "cannot read none.json" in keys.stderr


def test_a_port_in_use_is_a_clear_error(nearshot: Callable[..., Outcome], served: Served, store: Store) -> None:
    port = served.url.rsplit(":", 1)[1]
    second = nearshot("serve", "--store", store.location, "--port", port)
    assert (second.status, f"127.0.0.1 port {port}: Address already in use; take another --port" in second.stderr) == (
        2,
        True,
    )
