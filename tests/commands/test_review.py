"""`nearshot review`: a list for programs, one key a picture for a person at a terminal."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from nearshot.commands.terminal_picture import drawn
from nearshot.evaluation.review import review
from nearshot.schema.store import Store
from tests.conftest import Outcome, run_index, save_crop
from tests.evaluation.test_review import data

__all__ = ["data"]

CLI = Path(__file__).parents[2] / "cli.py"
ASKED = "Q quit"


class Terminal:
    """A command at a terminal of 80 columns, and what it printed."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        environment = {**os.environ, "NEARSHOT_RUNTIME": "torch", **environment}
        self.process = subprocess.Popen(
            [sys.executable, str(CLI), *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            close_fds=True,
        )
        os.close(theirs)
        self._ours, self.printed = ours, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def until(self, words: str) -> str:
        """Wait for words after those that were waited for; what was printed until then."""
        before = len(self.printed)
        while words not in self.printed[before:]:
            ready, _, _ = select.select([self._ours], [], [], 60)
            assert ready, self.printed
            try:
                self.printed += self._decoder.decode(os.read(self._ours, 4096))
            except OSError:  # it has ended
                break
        assert words in self.printed[before:], self.printed
        return self.printed[before:].replace("\r\n", "\n")

    def press(self, keys: str, words: str = ASKED) -> str:
        while not keys.endswith("\r") and termios.tcgetattr(self._ours)[3] & termios.ICANON:
            time.sleep(
                0.01
            )  # what is typed before a key is read is dropped, as nobody has seen what it would be said of
        os.write(self._ours, keys.encode())
        return self.until(words)

    def end(self) -> int:
        status = self.process.wait(timeout=30)
        os.close(self._ours)
        return status


def test_programs_get_a_list(nearshot: Callable[..., Outcome], data: Path) -> None:
    nearshot("index", data, "--backbone", "hog", "--no-captions", "--no-compile")
    listed = nearshot("review").stdout
    assert re.search(r"^0\.\d+  data/things/6\.preprocessed/strange\d?\.png  \(things: unknown, nearest ", listed)
    assert ", and 2 that are nearly the same\n" in listed
    waiting = json.loads(nearshot("review", "--json", "--all").stdout)
    assert waiting["keys"] == {"things": {"1": "cat", "2": "coffee"}}
    assert waiting["images"] == sum(len(group["ids"]) for group in waiting["groups"])
    beyond = waiting["images"] - len(waiting["groups"][0]["ids"])
    assert f"{beyond} more wait; name more with --limit" in nearshot("review", "--all", "--limit", "1").stdout
    for group in waiting["groups"]:
        nearshot("reject", *group["paths"])
    assert nearshot("review").stdout == "nothing to decide: every query is known, or clear\n"


def test_a_key_decides_and_can_be_taken_back(store: Store, data: Path) -> None:
    save_crop(data / "things/6.preprocessed/other.png", "page:3")
    run_index(store, data)
    terminal = Terminal("review", "--store", str(store.directory), COLORTERM="truecolor", NO_COLOR="")
    shown = terminal.until(ASKED)
    assert "[0 of 4]  things: unknown, nearest" in shown
    assert "1 cat   2 coffee" in shown
    assert "\x1b[38;2;" in shown, "the picture"
    if "nearly the same" not in shown:
        terminal.press("s")
    assert "[0 of 4]" in terminal.press("."), "one by one"
    terminal.press("x", "x says nothing here")
    assert "-> cat\n" in terminal.press("1")
    shown = terminal.press("n")
    assert "-> none of these\n" in shown
    assert "[2 of 4]" in shown
    assert "taken back\n" in terminal.press("u")
    terminal.press("/", "label: ")
    shown = terminal.press("Unknown\r")
    assert "cannot be a label" in shown
    assert "[1 of 4]" in shown, "it is asked again"
    terminal.press("/", "label: ")
    assert "-> page\n" in terminal.press("page\r")
    terminal.press("q", " wait")
    assert terminal.end() == 0
    assert re.search(r"2 labelled, 0 of none of these, [01] skipped; 2 wait", terminal.printed)
    with Store(store.location) as again, again.reading() as catalog:
        labels = catalog.support_labels("things")
    assert labels == {"cat": 5, "coffee": 4, "page": 1}


def test_what_was_skipped_keeps_nothing_from_being_shown(store: Store, data: Path) -> None:
    run_index(store, data)
    groups = len(review(store, every=True).groups)
    assert groups > 1
    terminal = Terminal("review", "--store", str(store.directory), "--all", "--limit", "1")
    terminal.until(ASKED)
    for _ in range(groups - 1):
        terminal.press("s")
    terminal.press("s", "skipped")
    assert terminal.end() == 0


def test_ctrl_c_loses_nothing_that_was_said(store: Store, data: Path) -> None:
    run_index(store, data)
    terminal = Terminal("review", "--store", str(store.directory), "--all", NO_COLOR="1", COLORTERM="truecolor")
    assert "\x1b[38;2;" not in terminal.until(ASKED)
    terminal.press(" ")
    terminal.press("\x03", "labelled")
    assert terminal.end() == 130
    with Store(store.location) as again, again.reading() as catalog:
        assert sum(catalog.support_labels("things").values()) > 8


@pytest.mark.parametrize(("size", "lines"), [((40, 40), 10), ((200, 100), 10), ((1, 3), 2)])
def test_a_picture_is_drawn_in_so_many_lines(size: tuple[int, int], lines: int) -> None:
    picture = drawn(Image.new("RGB", size, (255, 0, 9)), 60, 10)
    assert picture.count("\n") + 1 <= lines
    assert "\x1b[38;2;255;0;9;48;2;255;0;9m" in picture
    assert all(line.count("\N{UPPER HALF BLOCK}") <= 60 for line in picture.splitlines())
