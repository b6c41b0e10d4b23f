"""What all commands share."""

from __future__ import annotations

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


def test_paths_are_shown_as_seen_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(str(tmp_path / "store/a.png")) == "store/a.png"
    assert near("/elsewhere/a.png") == "/elsewhere/a.png"
    monkeypatch.chdir(tmp_path.anchor)
    assert near(str(tmp_path)) == str(tmp_path), "a service has no working directory to speak of"
