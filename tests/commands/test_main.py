"""All commands: their options, their help and their refusals."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from nearshot.commands.common import StoreLocation
from nearshot.commands.main import main
from tests.conftest import Outcome
from tests.schema.freeze import thaw

Run = Callable[..., Outcome]
README = Path(__file__).parents[2] / "README.md"
CAT = "data/things/6.preprocessed/cat/a.png"


def commands(group: click.Group = main, *path: str) -> dict[tuple[str, ...], click.Command]:
    """Every command by its words, groups' subcommands included."""
    by_words: dict[tuple[str, ...], click.Command] = {}
    for name, command in group.commands.items():
        by_words[(*path, name)] = command
        if isinstance(command, click.Group):
            by_words |= commands(command, *path, name)
    return by_words


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_takes_a_store_and_is_in_the_docs(words: tuple[str, ...]) -> None:
    command = commands()[words]
    assert any(isinstance(parameter.type, StoreLocation) for parameter in command.params)
    assert command.help
    written = "".join(page.read_text() for page in (README, *README.parent.glob("docs/*.md")))
    assert f"nearshot {' '.join(words)}" in written
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("query --category t", ["things"]),
        ("search --label ", ["cat", "coffee"]),
        ("search --category things --label co", ["coffee"]),
        ("query --backbone h", ["hog"]),
        ("query --store elsewhere --category ", []),
    ],
)
def test_a_shell_is_offered_what_is_indexed(
    words: str, offered: list[str], nearshot: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearshot("index", "data", "--backbone", "hog")
    *before, incomplete = words.split(" ")
    completed = ShellComplete(main, {}, "nearshot", "_NEARSHOT_COMPLETE").get_completions(before, incomplete)
    assert [item.value for item in completed] == offered


def test_alone_it_says_where_you_are_and_what_comes_next(nearshot: Run, small: Path) -> None:
    before = nearshot()
    assert before.status == 0
    assert "Nothing is indexed here yet." in before.stdout
    assert "nearshot index data/" in before.stdout
    assert "`nearshot --help` lists all commands" in before.stdout
    nearshot("index", "data", "--backbone", "hog")
    after = nearshot().stdout
    assert f"Indexed with hog, from {small}:" in after
    assert "things: 2 labels, 4 shots, 2 queries; not calibrated" in after
    assert re.search(r"nearshot calibrate +set thresholds", after)
    (small.parent / ".nearshot/nearshot.db").write_bytes(b"no database")
    assert "cannot be read" in nearshot().stdout


def test_neither_that_nor_completion_upgrades_a_store(nearshot: Run, tmp_path: Path) -> None:
    (tmp_path / ".nearshot").mkdir()
    file = thaw("0015", tmp_path / ".nearshot")
    with sqlite3.connect(file) as connection:
        before = list(connection.iterdump())
    assert "`nearshot status` brings an earlier one up to date" in nearshot().stdout
    completed = ShellComplete(main, {}, "nearshot", "_NEARSHOT_COMPLETE").get_completions(["query", "--category"], "")
    assert completed == []
    with sqlite3.connect(file) as connection:
        assert list(connection.iterdump()) == before
    assert nearshot("status").status == 0
    assert "cannot be read" not in nearshot().stdout


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from nearshot.commands.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'faiss', 'numpy', 'PIL', 'sqlalchemy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=README.parent)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", CAT, "--score", "lad"], "'lad' is not one of 'auto', 'max_sim', 'prototype', 'knn_vote', 'lda'"),
        (["calibrate", "--false-accept", "1"], "1.0 is not in the range"),
        (["calibrate", "--false-accept", "nan"], "nan is not in the range"),
        (["query", CAT, "--threshold", "nan"], "nan is not in the range"),
        (["replay", "--margin", "nan"], "nan is not in the range"),
        (["search", "cat", "--limit", "99999999999999999999"], "is not in the range"),
        (["calibrate", "--category", "dogs"], "no category 'dogs' has shots; there are things"),
        (["calibrate", "--backbone", "clip"], "nothing is indexed with clip; take hog"),
        (["evaluate", "--category", "dogs"], "no category 'dogs' has shots; there are things"),
        (["evaluate", "--store", "nowhere"], "no store at nowhere"),
    ],
)
def test_a_wrong_request_is_exit_2_and_says_what_is_right(
    nearshot: Run, labelled: Path, arguments: list[str], message: str
) -> None:
    outcome = nearshot(*arguments)
    assert (outcome.status, message in outcome.stderr) == (2, True)


def test_a_store_may_be_named_before_the_command(nearshot: Run, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / ".nearshot").rename(tmp_path / "elsewhere")
    assert nearshot("status").status == 2
    assert nearshot("--store", "elsewhere", "status").stdout.startswith(f"store {tmp_path / 'elsewhere'}, revision")
    assert "Indexed with hog" in nearshot("--store", "elsewhere").stdout
    assert nearshot("--store", "nowhere", "status", "--store", "elsewhere").status == 0, "the nearer one counts"
