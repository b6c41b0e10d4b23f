"""What all commands share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from nearshot.commands.common import near, print_table
from tests.conftest import Outcome

Run = Callable[..., Outcome]
CAT = "data/things/6.preprocessed/cat/a.png"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_number_of_a_table_is_cut_off_however_narrow_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ("score", *(f"a long heading {number}" for number in range(6)))
    rows = [[f"row {row}", *(f"{row}{number}.{row}{number}5\n(10 to 20)" for number in range(6))] for row in range(3)]
    monkeypatch.setattr("nearshot.commands.common.output", lambda: Console(width=width, highlight=False))
    print_table(columns, rows, ("score",))
    printed = capsys.readouterr().out
    assert all(len(line.rstrip()) <= width for line in printed.splitlines())
    assert all(number.split("\n")[0] in printed for row in rows for number in row)
    assert "…" not in printed
    assert printed.count("a long heading 3") == (1 if width == 200 else 3)


def test_colours_are_as_the_environment_says(nearshot: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[32mmatch" in nearshot("query", CAT).stdout
    assert "\x1b" not in nearshot("query", CAT, "--json").stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in nearshot("query", CAT).stdout


def test_names_and_words_stay_on_their_line_and_do_nothing_to_a_terminal(nearshot: Run, indexed: Path) -> None:
    queries = indexed / "things/6.preprocessed"
    bad = os.fsdecode(os.fsencode(queries) + b"/bad\xff.png")
    for name in ("new\nline.png", "red\x1b[31m.png", "日本.png"):
        shutil.copy(queries / "cat/a.png", queries / name)
    shutil.copy(queries / "cat/a.png", bad)
    (queries / "日本.txt").write_text("a cat\x1b]0;title\x07")
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    named = nearshot("query", queries, "--no-hits")
    lines = named.stdout.splitlines()
    assert len(lines) == 8, "a heading, six images, what it rests on"
    shown = "\n".join(lines)
    assert all(name in shown for name in ("new\\nline.png", "red\\x1b[31m.png", "日本.png", "bad\\xff.png"))
    paths = [line["path"] for line in nearshot("query", queries, "--json").objects]
    assert [path.encode() for path in paths], "no lone surrogates"
    for command in (
        ("query", CAT, "--against", "all", "--caption"),
        ("search", "cat", "--mode", "captions"),
        ("lint", "data"),
        ("status",),
        ("query", "no\x1b[31m\nfile.png"),
        ("index", "no\x1b[31m\nfile"),
    ):
        outcome = nearshot(*command)
        assert "\x1b" not in outcome.stdout + outcome.stderr, command
        assert "\x07" not in outcome.stdout
    for stored in queries.glob("*line*"):
        assert nearshot("label", stored, "cat").stdout == "now a shot of cat: data/things/2.support-set/cat/shot3.png\n"


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_in_the_c_locale_nothing_is_lost(locale: str, indexed: Path, tmp_path: Path) -> None:
    shutil.copy(indexed / "things/6.preprocessed/cat/a.png", indexed / "things/6.preprocessed/日本.png")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    program = str(Path(sys.executable).with_name("nearshot"))
    command = [program, "query", str(indexed / "things/6.preprocessed"), "--no-hits"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert any(shown in done.stdout for shown in ("日本.png".encode(), b"\\u65e5\\u672c.png")), done.stdout


def test_paths_are_shown_as_seen_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(str(tmp_path / "store/a.png")) == "store/a.png"
    assert near("/elsewhere/a.png") == "/elsewhere/a.png"
    monkeypatch.chdir(tmp_path.anchor)
    assert near(str(tmp_path)) == str(tmp_path), "a service has no working directory to speak of"
