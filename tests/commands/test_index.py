"""`nearshot index` as a user and as a program meets it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearshot.commands.index import _in_words
from nearshot.indexer.report import Report
from nearshot.schema.store import Store
from tests import tiny
from tests.conftest import SMALL, Outcome, save_crop

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]
KEYS = {
    "added",
    "changed",
    "moved",
    "removed",
    "unchanged",
    "failed",
    "outside_contract",
    "backbones",
    "skipped_backbones",
}


def nearshot_process(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_json_is_one_object_with_every_count(nearshot: Run, small: Path) -> None:
    (small / "stray.txt").write_text("")
    (small / "things/2.support-set/cat/shot9.jpg").write_text("words")
    [report] = nearshot("index", "data", "--backbone", "hog", "--json").objects
    assert report.keys() >= KEYS
    assert {name: report[name] for name in ("added", "failed", "outside_contract")} == {
        "added": 6,
        "failed": 1,
        "outside_contract": 1,
    }
    assert report["backbones"]["hog"].items() >= {"embedded": 6, "reused": 0}.items()
    assert report["skipped_backbones"] == {}


@pytest.mark.of_segments
def test_without_a_backbone_the_offline_default_works_and_the_others_are_named(nearshot: Run, small: Path) -> None:
    outcome = nearshot("index", "data")
    assert outcome.status == 0
    assert "images: 6 added, 0 unchanged" in outcome.stdout
    assert (
        "without dinov2, clip, resnet50: no weights on this machine; `nearshot backbones pull dinov2" in outcome.stdout
    )
    assert Path(".nearshot/nearshot.db").is_file()


@pytest.mark.parametrize("name", ["clip", "resnet50", "dinov2"])
def test_missing_weights_of_a_backbone_asked_for_are_one_line_and_exit_2(
    name: str, small: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "empty"), "TORCH_HOME": str(tmp_path / "empty")}
    environment.pop("HF_HUB_OFFLINE")
    started = time.monotonic()
    child = nearshot_process("index", small, "--backbone", name, cwd=tmp_path, env=environment)
    output, errors = child.communicate(timeout=60)
    assert time.monotonic() - started < 15
    assert (child.returncode, output) == (2, b"")
    [line] = errors.decode().splitlines()
    assert line.startswith(f"nearshot: {name}: the weights of ")
    for part in (
        "are not on this machine (looked in ",
        f"`nearshot backbones pull {name}`",
        f"--weights DIR where DIR/{name}/",
    ):
        assert part in line


def test_failures_and_what_is_outside_are_listed_with_their_reasons(nearshot: Run, small: Path) -> None:
    (small / "things/2.support-set/cat/shot9.jpg").write_text("words")
    (small / "things/0.photos").mkdir()
    (small / "things/0.photos/a.png").write_bytes(b"")
    (small / "things/0.photos/b.png").write_bytes(b"")
    printed = nearshot("index", "data", "--backbone", "hog").stdout
    assert "  things/2.support-set/cat/shot9.jpg: not an image in any known format" in printed
    assert "  things/0.photos/ (2 files): neither 2.support-set/ nor 6.preprocessed/" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a directory"),
        (["data/things"], "is a category, not the data directory; give "),
        (["data", "--category", "dogs"], "no category 'dogs' in "),
        (["data", "--backbone", "vgg"], "no backbone is called 'vgg'; there are dinov2, clip, resnet50, lite0, hog"),
        (["data", "--weights", "nowhere", "--backbone", "clip"], "--weights nowhere is not a directory"),
        (["data", "--batch-size", "0"], "0 is not in the range"),
    ],
)
def test_a_wrong_request_is_exit_2_and_says_what_is_right(
    nearshot: Run, small: Path, arguments: list[str], message: str
) -> None:
    outcome = nearshot("index", *arguments)
    assert outcome.status == 2
    assert message in outcome.stderr
    assert outcome.stdout == ""


def test_a_device_that_is_not_there_is_exit_2(nearshot: Run, small: Path, weights: Path) -> None:
    for device, message in [("cuda:99", "is not available here"), ("tpu", "is not a device")]:
        outcome = nearshot("index", "data", "--backbone", "dinov2", "--weights", weights, "--device", device)
        assert outcome.status == 2
        assert message in outcome.stderr


@pytest.mark.of_segments
def test_an_empty_directory_says_how_to_begin(nearshot: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/things").mkdir()
    outcome = nearshot("index", "data", "--backbone", "hog")
    assert outcome.status == 1
    assert "nothing to index in data: put shots in <category>/2.support-set/<label>/shot1.jpg" in outcome.stdout
    assert not (tmp_path / ".nearshot").exists()
    Store(tmp_path / ".nearshot", create=True).close()
    assert nearshot("index", "data", "--backbone", "hog").status == 1
    linted = nearshot("lint", "data")
    assert (linted.status, "nothing to index in data: put shots in" in linted.stderr) == (2, True)


def test_what_was_likely_meant_is_named(nearshot: Run, small: Path) -> None:
    things = small / "things"
    for path in ("2.support-set/cat/shot 3.png", "2.support-set/cat/SHOT_04.png", "2.Support_Set/dog/shot1.png"):
        save_crop(things / path, "chelsea:7")
    printed = nearshot("index", "data", "--backbone", "hog").stdout
    for wrong, right in (
        ("2.support-set/cat/shot 3.png", "2.support-set/cat/shot3.png"),
        ("2.support-set/cat/SHOT_04.png", "2.support-set/cat/shot4.png"),
        ("2.Support_Set/", "2.support-set"),
    ):
        assert re.search(rf"things/{wrong}.*; did you mean things/{right}\?", printed), wrong


@pytest.mark.parametrize("below", ["", "train/"])
def test_a_folder_with_one_directory_per_class_is_told_from_a_data_directory(
    below: str, nearshot: Run, tmp_path: Path
) -> None:
    for name in ("cat:chelsea", "coffee:coffee"):
        for number in range(8):
            save_crop(tmp_path / f"photos/{below}{name.split(':')[0]}/{number}.png", f"{name.split(':')[1]}:{number}")
    outcome = nearshot("index", "photos", "--backbone", "hog")
    assert outcome.status == 1
    [command] = re.findall(r"`nearshot (import folder .*)` makes a data directory of it", outcome.stdout)
    assert nearshot(*command.split()).status == 0
    assert nearshot("index", command.split()[-1], "--backbone", "hog").status == 0
    assert nearshot("query", "photos", "--no-hits", "--category", command.split()[2].split("/")[-1]).status == 0


def test_a_category_that_changes_its_backbone_alone_says_what_is_left_behind(
    nearshot: Run, small: Path, weights: Path, tmp_path: Path
) -> None:
    save_crop(small / "other/2.support-set/cat/shot1.png", "chelsea:9")
    assert nearshot("index", "data", "--backbone", "dinov2", "--weights", weights).stderr == ""
    tiny.save_dinov2(tmp_path / "others/dinov2", seed=9)
    changed = ("index", "data", "--backbone", "dinov2", "--weights", "others")
    outcome = nearshot(*changed, "--category", "other", "--json")
    assert "dinov2 has changed, and 6 images of other categories have vectors by the former one only" in outcome.stderr
    assert outcome.objects[0]["left_behind"] == {"dinov2": 6}
    assert nearshot(*changed, "--category", "other").stderr.count("has changed") == 0, "there is nothing to do"
    assert nearshot(*changed).stderr == ""


def test_a_dry_run_makes_no_store(nearshot: Run, small: Path, tmp_path: Path) -> None:
    outcome = nearshot("index", "data", "--dry-run")
    assert "would be 6 added" in outcome.stdout
    assert not (tmp_path / ".nearshot").exists()


@pytest.mark.of_segments
def test_the_second_run_on_a_store_is_told_who_holds_it(nearshot: Run, small: Path) -> None:
    nearshot("index", "data", "--backbone", "hog")
    with Store(Path(".nearshot")) as store, store.held("nearshot index elsewhere"):
        outcome = nearshot("index", "data", "--backbone", "hog")
        assert outcome.status == 1
        assert f"is in use by `nearshot index elsewhere`, process {os.getpid()}" in outcome.stderr
        assert nearshot("query", "data/things/6.preprocessed/cat/a.png").status == 0


def count_images(store: Path) -> int:
    try:
        with sqlite3.connect(f"file:{store / 'nearshot.db'}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM images").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.of_segments
@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_commits_what_is_done_and_the_same_command_goes_on(
    small: Path, tmp_path: Path, wish: signal.Signals
) -> None:
    for number in range(300):
        save_crop(small / f"things/2.support-set/rocket/shot{number}.bmp", f"rocket:{number % 8}")
        with (small / f"things/2.support-set/rocket/shot{number}.bmp").open("ab") as file:
            file.write(number.to_bytes(4, "big"))
    arguments = ("index", "data", "--backbone", "hog", "--batch-size", 1, "--json")
    child = nearshot_process(*arguments, cwd=tmp_path)
    while not count_images(tmp_path / ".nearshot"):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(wish)
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"committing what is done" in errors
    assert b"Traceback" not in errors
    report = json.loads(output)
    assert report["interrupted"]
    done = report["added"]
    assert 0 < done < 300 + len(SMALL)
    assert count_images(tmp_path / ".nearshot") == done
    again, _ = nearshot_process(*arguments, cwd=tmp_path).communicate(timeout=120)
    assert json.loads(again)["added"] == 300 + len(SMALL) - done


def test_a_terminal_sees_progress_and_a_pipe_sees_none(small: Path, tmp_path: Path) -> None:
    arguments = ("index", "data", "--backbone", "hog", "--batch-size", 1, "--json", "--store")
    piped, errors = nearshot_process(*arguments, "one", cwd=tmp_path).communicate(timeout=60)
    assert (json.loads(piped)["added"], errors) == (6, b"")
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments), "two"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path) as child:
        seen = b""
        while child.poll() is None or select.select([ours], [], [], 0.1)[0]:
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65536)
        assert child.stdout is not None
        assert json.loads(child.stdout.read())["added"] == 6
    os.close(ours)
    os.close(theirs)
    assert b"/6" in seen
    assert b"images/s" in seen


def test_a_run_with_nothing_to_do_imports_neither_torch_nor_faiss(
    nearshot: Run, small: Path, tmp_path: Path, weights: Path
) -> None:
    arguments = ["index", "data", "--backbone", "hog", "--backbone", "dinov2", "--weights", str(weights)]
    assert nearshot(*arguments, "--device", "cpu").status == 0
    script = (
        "import sys; from nearshot.commands.main import main; main(sys.argv[1:], standalone_mode=False); "
        "print([name for name in ('torch', 'faiss', 'transformers', 'skimage') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )
    assert "6 unchanged" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_wrong_name_leaves_no_store_behind(nearshot: Run, small: Path) -> None:
    assert nearshot("index", "data", "--backbone", "vgg").status == 2
    assert not Path(".nearshot").exists()


def test_a_labels_file_that_is_no_csv_is_reported(nearshot: Run, small: Path) -> None:
    (small / "things/labels.csv").write_text('"' + "x" * 200_000)
    [report] = nearshot("index", "data", "--backbone", "hog", "--json").objects
    assert report["added"] == 6
    assert "cannot be read" in report["outside"][0]["rule"]


def test_a_run_that_is_stopped_before_its_first_batch_is_not_told_that_there_is_nothing() -> None:
    said = _in_words(
        Report(interrupted=True), None, Path("data"), Path(".nearshot"), dry_run=False, in_background=False, ann=None
    )
    assert said.splitlines()[-1] == "run the same command to go on from here"
    assert "nothing to index" not in said
