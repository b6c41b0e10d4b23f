"""`nearshot lint`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Outcome

Run = Callable[..., Outcome]


def test_lint_says_what_is_wrong_and_exits_1_for_errors(nearshot: Run, small: Path) -> None:
    nearshot("index", "data", "--backbone", "hog")
    assert nearshot("lint", "data").stdout.endswith("errors: 0, warnings: 0 (nearness by hog)\n")
    shot = small / "things/2.support-set/cat/shot1.png"
    (small / "things/2.support-set/coffee/shot3.png").write_bytes(shot.read_bytes())
    nearshot("index", "data", "--backbone", "hog")
    printed = nearshot("lint", "data")
    assert printed.status == 1
    assert printed.stdout.startswith(
        "error: the same image under different labels\n  things/2.support-set/cat/shot1.png, "
    )
    [report] = nearshot("lint", "data", "--json").objects
    assert report["errors"] == 1
    assert report["findings"][0]["rule"] == "two-labels"
    assert nearshot("lint", "nowhere").status == 2
