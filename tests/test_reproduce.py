"""`make reproduce` from end to end, with stand-ins for the archives and weights: everything but the figures is the same."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from benchmarks import reproduce
from benchmarks.reproduce import Figure, main, prompts

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and where it is served."""
    directory = tmp_path / "remote"
    directory.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield directory, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def pack(base: Path, remote: tuple[Path, str], reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive where its authors would have it, with the checksums of its own files."""
    archive = remote[0] / reader.filename
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(base, base.name)
    monkeypatch.setattr(reader, "url", f"{remote[1]}/{reader.filename}")
    monkeypatch.setattr(reader, "tgz_md5", md5(archive))


@pytest.fixture
def published(tmp_path: Path, remote: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 and STL-10 in their published layouts: ten classes of a few made-up images each."""
    chance = np.random.default_rng(0)
    base = tmp_path / "made/cifar-10-batches-py"
    base.mkdir(parents=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name in names:
        pixels = chance.integers(0, 256, size=(10, 3072), dtype=np.uint8)
        (base / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10)}))
    checked = [[name, md5(base / name)] for name in names]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", checked[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", checked[5:])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(base / "batches.meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    pack(base, remote, datasets.CIFAR10, monkeypatch)

    base = tmp_path / "made/stl10_binary"
    base.mkdir()
    for split, count in (("train", 50), ("test", 10)):
        (base / f"{split}_X.bin").write_bytes(chance.integers(0, 256, 3 * 96 * 96 * count, dtype=np.uint8).tobytes())
        (base / f"{split}_y.bin").write_bytes(bytes(number % 10 + 1 for number in range(count)))
    (base / "unlabeled_X.bin").write_bytes(b"")
    (base / "class_names.txt").write_text("\n".join(CIFAR10))
    (base / "fold_indices.txt").write_text("")
    kept = {
        name: md5(base / name) for name in ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin")
    }
    monkeypatch.setattr(
        datasets.STL10,
        "train_list",
        [[name, kept[name]] for name in ("train_X.bin", "train_y.bin", "unlabeled_X.bin")],
    )
    monkeypatch.setattr(datasets.STL10, "test_list", [[name, kept[name]] for name in ("test_X.bin", "test_y.bin")])
    pack(base, remote, datasets.STL10, monkeypatch)


@pytest.mark.usefixtures("published")
def test_everything_is_done_and_a_figure_that_is_off_is_a_failure(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    in_process(monkeypatch)
    arguments = ["--weights", str(weights), "--device", "cpu", "--shots", "5"]
    assert main([*arguments, "--directory", "a"]) == 1, "random weights know no aeroplanes"
    printed = capfd.readouterr().out
    assert printed.count("fetching http://") == 2
    assert printed.count("  TOO FAR") == 3
    [alike] = [line for line in printed.splitlines() if line.startswith("ResNet-50 V1")]
    assert alike.split()[-3:] == ["100.0", "100.00", "0"], (
        "the classifier names our vectors as torchvision names the images"
    )
    assert "3 of 4 figures are further off than they should be" in printed
    assert (tmp_path / "a/report/report.html").is_file()
    assert (tmp_path / "a/data/cifar10/2.support-set/ship/shot5.png").is_file()

    monkeypatch.setattr(reproduce, "nearshot", lambda *_: None)  # all of that is done
    figures = iter([98.0, 89.4, 97.5])
    monkeypatch.setattr(reproduce, "nearest_neighbours", lambda *_: next(figures))
    monkeypatch.setattr(reproduce, "by_words", lambda *_: next(figures))
    assert main([*arguments, "--directory", "a"]) == 0
    printed = capfd.readouterr().out
    assert "all figures hold" in printed
    assert "fetching" not in printed


def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands run here, where the archives' checksums are those of the stand-ins."""
    from click.testing import CliRunner

    from nearshot.commands.main import main as cli

    def run(*arguments: str) -> None:
        result = CliRunner().invoke(cli, list(arguments))
        assert result.exit_code == 0, result.output

    monkeypatch.setattr(reproduce, "nearshot", run)


def test_a_figure_holds_within_its_tolerance() -> None:
    assert Figure("x", 98.7, 97.7, 1.0).holds
    assert not Figure("x", 98.7, 97.6, 1.0).holds
    assert not Figure("x", 89.8, 99.0, 0.5).holds, "far better is off, too: something is not what it seems"


def test_a_command_that_fails_ends_it() -> None:
    with pytest.raises(SystemExit, match="nearshot index failed"):
        reproduce.nearshot("index", "nowhere")


def test_prompts_are_those_of_the_benchmark_in_number_and_kind() -> None:
    assert len(set(prompts("cifar10", "cat"))) == 18
    assert "a blurry photo of the cat." in prompts("cifar10", "cat")
    assert "a photo of a small cat." in prompts("cifar10", "cat")
    assert prompts("stl10", "cat") == ["a photo of a cat.", "a photo of the cat."]
