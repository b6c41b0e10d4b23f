"""`nearshot replay`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Outcome

Run = Callable[..., Outcome]


def test_replay_shows_what_flips_and_changes_nothing(nearshot: Run, labelled: Path) -> None:
    same = nearshot("replay").stdout
    assert same.startswith("0 of 10 queries flip by hog\n")
    strict = nearshot("replay", "--threshold", "1").stdout
    assert "things/6.preprocessed/cat/a.png: match cat 0.9" in strict
    assert " -> unknown (cat) 0.9" in strict
    assert "(truth: cat)" in strict
    flips = nearshot("replay", "--threshold", "1", "--json").objects
    assert {(flip["before"]["verdict"], flip["after"]["verdict"]) for flip in flips} == {("match", "unknown")}
    assert flips[0]["after"]["label"] is None
    assert nearshot("replay").stdout == same
