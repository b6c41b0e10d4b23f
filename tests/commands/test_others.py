"""`nearshot status`, `verify`, `backbones`, and what all commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from nearshot.commands.common import near
from nearshot.commands.main import main
from tests.conftest import Outcome, save_crop

Run = Callable[..., Outcome]
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def indexed(nearshot: Run, small: Path) -> Path:
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    return small


def commands(group: click.Group = main, *path: str) -> dict[tuple[str, ...], click.Command]:
    """Every command by its words, groups' subcommands included."""
    found: dict[tuple[str, ...], click.Command] = {}
    for name, command in group.commands.items():
        found[(*path, name)] = command
        if isinstance(command, click.Group):
            found |= commands(command, *path, name)
    return found


def test_paths_are_shown_as_seen_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(str(tmp_path / "store/a.png")) == "store/a.png"
    assert near("/elsewhere/a.png") == "/elsewhere/a.png"
    monkeypatch.chdir(tmp_path.anchor)
    assert near(str(tmp_path)) == str(tmp_path), "a service has no working directory to speak of"


def test_status_shows_each_category_and_role(nearshot: Run, indexed: Path) -> None:
    [status] = nearshot("status", "--json").objects
    counted = {(c["category"], c["role"]): (c["images"], c["labels"], c["shots"]) for c in status["categories"]}
    assert counted == {("things", "support"): (4, 2, 4), ("things", "query"): (2, 2, 0)}
    assert status["categories"][0]["backbones"]["hog"] == {"vectors": 4, "lacking": 0, "failed": 0, "behind": 0}
    assert status["last_run"]["outcome"] == "finished"
    printed = nearshot("status").stdout
    assert "data: up to date" in printed
    assert "things    support       4       2      4          4 vectors" in printed


def test_status_says_what_is_stale_and_what_failed_and_why(nearshot: Run, indexed: Path) -> None:
    save_crop(indexed / "things/2.support-set/cat/shot3.png", "chelsea:6")
    (indexed / "things/2.support-set/cat/shot1.png").unlink()
    printed = nearshot("status").stdout
    assert f"1 new, 1 removed since it was indexed; run `nearshot index {indexed}`" in printed
    (indexed / "things/2.support-set/cat/shot4.png").write_bytes(b"")
    nearshot("index", "data", "--backbone", "hog")
    assert "shot4.png: the file is empty" in nearshot("status").stdout


def test_verify_is_exit_0_when_all_is_well_and_1_when_not(nearshot: Run, indexed: Path) -> None:
    well = nearshot("verify")
    assert (well.status, well.stdout) == (0, "all is well: files, rows, vectors and snapshots agree\n")
    for path in Path(".nearshot/snapshots").iterdir():
        path.unlink()
    assert nearshot("verify").status == 1
    assert nearshot("verify", "--repair").status == 0
    assert nearshot("verify", "--json").objects == [{"ok": True, "findings": []}]


def test_backbones_lists_where_weights_come_from_and_whether_they_are_here(nearshot: Run, weights: Path) -> None:
    rows = {row["name"]: row for row in nearshot("backbones", "--json").objects[0]}
    assert {name: row["available"] for name, row in rows.items()} == {
        "dinov2": False,
        "clip": False,
        "resnet50": False,
        "lite0": True,
        "hog": True,
        "florence2": False,
    }
    assert (rows["clip"]["dimension"], rows["clip"]["source"]) == (512, "open_clip:ViT-B-32-quickgelu/openai")
    here = {row["name"]: row for row in nearshot("backbones", "--json", "--weights", weights).objects[0]}
    assert here["dinov2"]["weights"] == str(weights / "dinov2")
    assert "missing" in nearshot("backbones").stdout


def test_pull_without_a_network_is_one_clear_line(nearshot: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("nearshot.backbones.weights.NETWORK_PATIENCE_S", 0.5)
    outcome = nearshot("backbones", "pull", "clip")
    assert outcome.status == 2
    [line] = outcome.stderr.splitlines()
    assert line == (
        "nearshot: clip: http://127.0.0.1:9 cannot be reached from here; "
        "copy the weights from another machine and give --weights DIR"
    )
    assert nearshot("backbones", "pull", "hog").stdout == "hog: needs no weights\n"


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_takes_a_store_and_is_in_the_docs(words: tuple[str, ...]) -> None:
    command = commands()[words]
    assert any("--store" in parameter.opts for parameter in command.params)
    assert command.help
    written = "".join(page.read_text() for page in (README, *README.parent.glob("docs/*.md")))
    assert f"nearshot {' '.join(words)}" in written
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from nearshot.commands.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'faiss', 'numpy', 'PIL', 'sqlalchemy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=README.parent)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_data_directory_can_be_forgotten_and_comes_back_at_no_cost(nearshot: Run, indexed: Path) -> None:
    gone = indexed.rename(indexed.with_name("gone"))
    assert "mount it again, or nearshot forget" in nearshot("verify").stdout
    assert nearshot("forget", "data").stdout == f"forgot 6 images of {indexed}\n"
    assert nearshot("verify").status == 0
    assert nearshot("query", gone / "things/6.preprocessed/cat/a.png", "--json").objects[0]["verdict"] == "no_support"
    gone.rename(indexed)
    [report] = nearshot("index", "data", "--backbone", "hog", "--json").objects
    assert (report["added"], report["backbones"]["hog"]["embedded"]) == (6, 0)
    assert nearshot("forget", "nowhere").status == 2


def test_status_knows_a_store_indexed_under_another_cap_as_current(nearshot: Run, indexed: Path) -> None:
    (indexed / "things/2.support-set/cat/shot9.png").write_bytes(b"")
    nearshot("index", "data", "--backbone", "hog", "--max-pixels", 10**6)
    assert "up to date" in nearshot("status").stdout


def test_names_in_brackets_survive(nearshot: Run, indexed: Path) -> None:
    save_crop(indexed / "mugs [old]/2.support-set/:cat:/shot1.png", "coffee")
    nearshot("index", "data", "--backbone", "hog")
    assert "mugs [old]" in nearshot("status").stdout
