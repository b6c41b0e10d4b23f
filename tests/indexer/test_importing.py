"""Importing: classes become labels, strangers stay strangers, and the same arguments give the same files."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from nearshot.indexer.importing import ImportOptions, read_folder, write_contract
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from tests.conftest import Outcome, counts, run_index, save_crop

Run = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for photo in ("chelsea", "coffee", "rocket"):
        for number in range(8):
            save_crop(tmp_path / f"source/{photo}/{number // 4}/{number}.JPG", f"{photo}:{number}")
    (tmp_path / "source/notes.txt").write_text("hello")
    return tmp_path / "source"


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_folder_a_class_becomes_labels_and_strangers(nearshot: Run, folder: Path, store: Store) -> None:
    options = ("--shots", 2, "--queries", 4, "--unknown", "rocket", "--category", "things")
    done = nearshot("import", "folder", "source", "data", *options)
    assert done.stdout == (
        "data/things: 2 labels, 4 shots, 8 labelled queries, 4 queries that show none of them\n"
        "next: nearshot index data\n"
    )
    written = files(folder.parent / "data")
    assert len(set(written.values())) == len(written), "no query is a shot"
    assert "things/2.support-set/chelsea/shot2.jpg" in written
    assert "things/6.preprocessed/Unknown/rocket-00003.jpg" in written
    assert set(written.values()) <= set(files(folder).values())
    report = run_index(store, folder.parent / "data")
    assert counts(report) == {"added": 16}


def test_copies_are_one_image_and_a_class_must_be_a_label(folder: Path, tmp_path: Path) -> None:
    for path in sorted((folder / "coffee").rglob("*.JPG")):
        path.with_name(f"copy-of-{path.name}").write_bytes(path.read_bytes())
    options = ImportOptions(category="things", shots=3)
    write_contract(read_folder(folder), tmp_path / "data", options)
    written = files(tmp_path / "data")
    assert len(set(written.values())) == len(written) == 24
    (folder / "rocket").rename(folder / "Unknown")
    imported = write_contract(read_folder(folder), tmp_path / "again", options)
    assert (imported.labels, imported.unknown) == (2, 8), "a class of that name is what it says"
    (folder / "coffee").rename(folder / "shot3")
    with pytest.raises(UsageError, match="a class cannot be named 'shot3' in the directory contract"):
        write_contract(read_folder(folder), tmp_path / "more", options)


def test_the_same_arguments_give_the_same_files_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    written = []
    for attempt, seed in enumerate((0, 0, 1)):
        options = ImportOptions(category="things", shots=2, queries=3, seed=seed)
        write_contract(read_folder(folder), tmp_path / str(attempt), options)
        written.append(files(tmp_path / str(attempt)))
    assert written[0] == written[1] != written[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["folder", "source", "data", "--shots", "9"], "'chelsea' has 8 images: too few for 9 shots"),
        (["folder", "source", "data", "--unknown", "dog"], "no class 'dog'; there are chelsea, coffee, rocket"),
        (["folder", "source/chelsea/0", "data"], "holds no directories with images"),
        (["folder", "nowhere", "data"], "is not a directory"),
        (["folder", "source", "data", "--category", "a/b"], "'a/b' is no name for a category"),
        (["cifar10", "source", "data"], "holds neither cifar-10-python.tar.gz nor what is in it"),
        (["stl10", "source", "data"], "holds neither stl10_binary.tar.gz nor what is in it"),
    ],
)
def test_what_cannot_be_imported_is_said_and_nothing_is_written(
    nearshot: Run, folder: Path, arguments: list[str], message: str
) -> None:
    outcome = nearshot("import", *arguments)
    assert (outcome.status, message in outcome.stderr) == (2, True)
    assert not (folder.parent / "data/source").exists()


def test_what_is_there_is_never_written_over_and_a_full_disk_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ImportOptions(category="things", shots=2)
    write_contract(read_folder(folder), tmp_path / "data", options)
    before = files(tmp_path / "data")
    with pytest.raises(UsageError, match="is there already"):
        write_contract(read_folder(folder), tmp_path / "data", options)

    def full(_source: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        write_contract(read_folder(folder), tmp_path / "data", ImportOptions(category="more", shots=2))
    assert files(tmp_path / "data") == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["things"]


def test_cifar10_is_read_from_the_archive_as_published(
    nearshot: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive of the published layout with 40 made-up images; the checksums are those of its own files."""
    chance = np.random.default_rng(0)
    base = tmp_path / "made/cifar-10-batches-py"
    base.mkdir(parents=True)
    names = [[f"data_batch_{n}" for n in range(1, 6)], ["test_batch"]]
    for name in names[0] + names[1]:
        pixels = chance.integers(0, 256, size=(20, 3072), dtype=np.uint8)
        (base / name).write_bytes(pickle.dumps({"data": pixels, "labels": [n % 10 for n in range(20)]}))
    classes = [f"class{n}" for n in range(10)]
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))
    (tmp_path / "archive").mkdir()
    with tarfile.open(tmp_path / "archive/cifar-10-python.tar.gz", "w:gz") as packed:
        packed.add(base, "cifar-10-batches-py")

    def checksum(name: str) -> str:
        return hashlib.md5((base / name).read_bytes()).hexdigest()

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, checksum(name)] for name in names[0]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [[name, checksum(name)] for name in names[1]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": checksum("batches.meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    [imported] = nearshot(
        *("import", "cifar10", "archive", "data", "--shots", 5, "--queries", 2),
        *("--unknown", "class8", "--unknown", "class9", "--json"),
    ).objects
    assert imported == {"category": "cifar10", "labels": 8, "shots": 40, "queries": 16, "unknown": 4} | {
        "there": 0,
        "unusable": 0,
        "missing": 0,
    }
    test = pickle.loads((base / "test_batch").read_bytes())["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    with Image.open(tmp_path / "data/cifar10/6.preprocessed/class3/class3-00000.png") as image:
        shown = np.asarray(image)
    assert any(np.array_equal(shown, test[index]) for index in (3, 13)), "a query is a test image of its class"
    (tmp_path / "archive/cifar-10-batches-py/test_batch").write_bytes(b"torn")
    torn = nearshot("import", "cifar10", "archive", "data", "--category", "again")
    assert (torn.status, "holds neither" in torn.stderr) == (2, True)
