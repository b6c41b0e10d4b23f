"""Compiled backbones: torch's vectors without torch, and never anything that was not checked."""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import select

from nearshot.backbones.compiled import RECORD, CompiledCache, compiled_cache
from nearshot.backbones.compiling import compile_backbone
from nearshot.backbones.onnx_backbone import FEW_IN_ALL, OnnxBackbone, OnnxClip
from nearshot.backbones.preparation import Preparation
from nearshot.backbones.protocol import Backbone, TextEncoder
from nearshot.backbones.resolve import Resolved, resolve
from nearshot.backbones.spec import parse_spec
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.commands.main import main
from nearshot.indexer.options import IndexOptions
from nearshot.schema import tables
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from nearshot.schema.vectors import every_vector
from nearshot.schema.vocabulary import Precision
from nearshot.service.batcher import BatchedBackbone, Batcher
from tests import tiny
from tests.conftest import run_index, save_crop
from tests.photographs import NAMES, photograph

FILES = ("image.onnx", "image.bin")


@pytest.fixture(scope="module")
def compiled_once(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which `dinov2` and `clip` are compiled."""
    root = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEARSHOT_CACHE", str(root))
        patch.setenv("NEARSHOT_RUNTIME", "auto")
        for name in ("dinov2", "clip"):
            assert isinstance(choice(name, weights).load("cpu", compiling=lambda _: None), OnnxBackbone)
    return root


@pytest.fixture
def cache(compiled_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be damaged, that commands find."""
    root = tmp_path / "cache"
    shutil.copytree(compiled_once, root)
    monkeypatch.setenv("NEARSHOT_CACHE", str(root))
    monkeypatch.setenv("NEARSHOT_RUNTIME", "auto")
    return root


@pytest.fixture
def other_weights(weights: Path, tmp_path: Path) -> Path:
    """The same CLIP, and a DINOv2 that is not compiled."""
    root = tmp_path / "other-weights"
    root.mkdir()
    (root / "clip").symlink_to(weights / "clip")
    tiny.save_dinov2(root / "dinov2", seed=5)
    return root


def choice(name: str, weights: Path, precision: Precision | None = None) -> Resolved:
    return resolve(parse_spec(name), weights=weights, precision=precision)


def by_torch(name: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    with monkeypatch.context() as patch:
        patch.setenv("NEARSHOT_RUNTIME", "torch")
        backbone = choice(name, weights).load("cpu")
    assert isinstance(backbone, TorchBackbone)
    return backbone


def embed(backbone: Backbone) -> NDArray[np.float32]:
    pictures = [Image.open(photograph(name)).convert("RGB") for name in NAMES]
    return backbone.encode([backbone.prepare(picture) for picture in pictures])


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left.astype(np.float64) * right).sum(axis=1) / lengths)


def directory_of(cache: Path, backbone: Backbone) -> Path:
    [directory] = (cache / "compiled").glob(f"{backbone.description.fingerprint}-*")
    return directory


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["dinov2", "clip"])
def test_its_vectors_are_torchs_on_photographs(name: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_backbone, compiled = by_torch(name, weights, monkeypatch), choice(name, weights).load("cpu")
    assert isinstance(compiled, OnnxBackbone)
    assert compiled.description == torch_backbone.description
    wanted = embed(torch_backbone)
    one_by_one = np.concatenate(
        [compiled.encode([compiled.prepare(Image.open(photograph(name)).convert("RGB"))]) for name in NAMES]
    )
    together = embed(compiled)  # more than a few: the weights are packed from here on
    for vectors in (one_by_one, together):
        assert vectors.shape == wanted.shape
        assert cosines(vectors, wanted).min() > 0.999999


@pytest.mark.usefixtures("cache")
def test_its_pictures_are_prepared_bit_for_bit_as_before(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_backbone, compiled = by_torch("dinov2", weights, monkeypatch), choice("dinov2", weights).load("cpu")
    for name in NAMES:
        picture = Image.open(photograph(name)).convert("RGB")
        np.testing.assert_array_equal(compiled.prepare(picture), torch_backbone.prepare(picture))


@pytest.mark.usefixtures("cache")
def test_words_are_compiled_too(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_backbone, compiled = by_torch("clip", weights, monkeypatch), choice("clip", weights).load("cpu")
    assert isinstance(compiled, OnnxClip)
    assert isinstance(torch_backbone, TextEncoder)
    texts = ["a cat", "A motorcycle's wheel, größer", "word " * 100]
    assert cosines(compiled.encode_text(texts), torch_backbone.encode_text(texts)).min() > 0.999999


@pytest.mark.usefixtures("cache")
def test_many_single_images_are_worth_packing_the_weights(weights: Path) -> None:
    compiled = choice("dinov2", weights).load("cpu")
    assert isinstance(compiled, OnnxBackbone)
    picture = compiled.prepare(Image.open(photograph("coffee")).convert("RGB"))
    first = compiled.encode([picture])
    session = compiled._session
    for _ in range(FEW_IN_ALL):
        last = compiled.encode([picture])
    assert compiled._session is not session
    assert cosines(first, last).min() > 0.999999


def test_a_cache_that_goes_while_it_is_used_changes_no_answer(cache: Path, weights: Path) -> None:
    backbone = choice("dinov2", weights).load("cpu")
    assert isinstance(backbone, OnnxBackbone)
    picture = backbone.prepare(Image.open(photograph("coffee")).convert("RGB"))
    before = backbone.encode([picture])
    shutil.rmtree(cache)
    np.testing.assert_allclose(backbone.encode([picture] * 6), before.repeat(6, axis=0), atol=1e-5)


def test_what_cannot_be_opened_for_lack_of_memory_is_kept(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise RuntimeError("std::bad_alloc")

    with monkeypatch.context() as patch:
        patch.setattr("nearshot.backbones.onnx_backbone.onnxruntime.InferenceSession", no_memory)
        assert isinstance(choice("dinov2", weights).load("cpu"), TorchBackbone)
    assert "bad_alloc" in caplog.text
    assert isinstance(choice("dinov2", weights).load("cpu"), OnnxBackbone)


@pytest.mark.parametrize("damaged", [*FILES, RECORD])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_what_is_damaged_is_deleted_and_torch_takes_its_place(
    damaged: str,
    how: str,
    cache: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch_backbone = by_torch("dinov2", weights, monkeypatch)
    file = directory_of(cache, torch_backbone) / damaged
    content = bytearray(file.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif how == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
    with caplog.at_level(logging.WARNING):
        backbone = choice("dinov2", weights).load("cpu")
    assert isinstance(backbone, TorchBackbone)
    np.testing.assert_array_equal(embed(backbone), embed(torch_backbone))
    if (damaged, how) == (RECORD, "gone"):  # as if it had never been compiled
        return
    assert "torch encodes in its place" in caplog.text
    assert not list((cache / "compiled").glob(f"{backbone.description.fingerprint}-*"))


@pytest.mark.parametrize("garbage", ["", "../../etc", "0" * 64, "\x00"])
def test_an_identity_that_names_nothing_is_as_good_as_none(garbage: str, cache: Path, weights: Path) -> None:
    resolved = choice("dinov2", weights)
    (cache / "identities" / resolved.signature).write_text(garbage)
    backbone = resolved.load("cpu")  # by torch, which tells who it is
    assert isinstance(backbone, OnnxBackbone)
    assert (cache / "identities" / resolved.signature).read_text() == backbone.description.fingerprint


@pytest.mark.usefixtures("cache")
def test_weights_that_were_touched_are_known_again_once_they_were_loaded(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "weights"
    shutil.copytree(weights / "dinov2", copy / "dinov2")
    resolved = choice("dinov2", copy)
    assert not resolved.is_compiled
    assert isinstance(resolved.load("cpu"), OnnxBackbone)
    assert resolved.is_compiled


@pytest.mark.usefixtures("cache")
def test_other_weights_in_the_same_place_are_not_taken_for_the_old_ones(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "weights"
    shutil.copytree(weights / "dinov2", copy / "dinov2")
    before = choice("dinov2", copy).load("cpu")
    shutil.rmtree(copy / "dinov2")
    tiny.save_dinov2(copy / "dinov2", seed=4)
    os.utime(copy / "dinov2/model.safetensors", ns=(1, 1))
    after = choice("dinov2", copy).load("cpu")
    assert isinstance(after, TorchBackbone)
    assert after.description.fingerprint != before.description.fingerprint


@pytest.mark.usefixtures("cache")
def test_other_precisions_and_devices_are_torchs_affair(weights: Path) -> None:
    assert isinstance(choice("dinov2", weights, Precision.BF16).load("cpu"), TorchBackbone)
    assert choice("dinov2", weights)._cache("cuda") is None


def test_the_environment_can_ask_for_torch(cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled_cache() is not None
    monkeypatch.setenv("NEARSHOT_RUNTIME", "onnx")
    with pytest.raises(UsageError, match="NEARSHOT_RUNTIME is 'onnx'; it can be auto or torch"):
        compiled_cache()
    monkeypatch.setenv("NEARSHOT_RUNTIME", "torch")
    assert compiled_cache() is None
    assert isinstance(choice("dinov2", weights).load("cpu"), TorchBackbone)


def test_what_cannot_be_compiled_stays_with_torch_and_is_not_tried_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = by_torch("dinov2", weights, monkeypatch)
    assert isinstance(backbone, TorchBackbone)
    backbone.preparation = Preparation(backbone.preparation.values)  # type: ignore[arg-type]
    monkeypatch.setenv("NEARSHOT_RUNTIME", "auto")
    monkeypatch.setenv("NEARSHOT_CACHE", str(tmp_path / "cache"))
    cache = CompiledCache(tmp_path / "cache")
    compiled = compile_backbone(backbone, cache)
    assert compiled.refused == "its pictures are prepared by its library alone"
    resolved, begun = choice("dinov2", weights), list[str]()
    assert not resolved.is_uncompiled(backbone, "cpu")
    assert isinstance(resolved.load("cpu"), TorchBackbone)
    assert isinstance(
        resolved.load("cpu", compiling=begun.append), OnnxBackbone
    )  # unless it is asked for: it works now
    assert begun == ["dinov2"]


def test_what_encodes_otherwise_than_torch_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = by_torch("dinov2", weights, monkeypatch)
    assert isinstance(backbone, TorchBackbone)
    honest = backbone.encode
    chance = np.random.default_rng(0)

    def other(batch: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        vectors = honest(batch)
        noise = chance.standard_normal(vectors.shape, dtype=np.float32)
        return np.asarray(vectors + 0.01 * np.abs(vectors).mean() * noise, dtype=np.float32)

    monkeypatch.setattr(backbone, "encode", other)
    refused = compile_backbone(backbone, CompiledCache(tmp_path / "cache")).refused
    assert refused is not None
    assert "below 0.99999" in refused


def test_a_full_disk_is_no_reason_to_refuse_it_for_good(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NEARSHOT_RUNTIME", "auto")
    monkeypatch.setenv("NEARSHOT_CACHE", str(tmp_path / "cache"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nearshot.backbones.compiling._export", full)
    resolved = choice("dinov2", weights)
    backbone = resolved.load("cpu", compiling=lambda _: None)
    assert isinstance(backbone, TorchBackbone)
    assert "No space left on device" in caplog.text
    assert resolved.is_uncompiled(backbone, "cpu")
    assert not [path for path in (tmp_path / "cache/compiled").iterdir() if path.is_dir()]


def test_what_was_compiled_for_the_runtime_before_stays_and_for_older_ones_goes(tmp_path: Path) -> None:
    cache, print_ = CompiledCache(tmp_path), "a" * 64
    for age, runtime in enumerate(("old", "before", "older")):
        other = tmp_path / "compiled" / f"{print_}-{runtime}"
        other.mkdir(parents=True)
        os.utime(other, (1_000_000 - age, 1_000_000 - age))
    os.utime(tmp_path / "compiled" / f"{print_}-before")
    with cache.held():
        cache.keep(print_, lambda directory: {"refused": "a test"})
    left = {path.name for path in (tmp_path / "compiled").iterdir() if path.is_dir()}
    assert f"{print_}-before" in left
    assert len(left) == 2


def test_whoever_is_killed_while_compiling_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    cache, print_ = CompiledCache(tmp_path), "a" * 64

    def die(directory: Path) -> dict[str, object]:
        (directory / "image.onnx").write_bytes(b"half")
        os._exit(9)

    child = os.fork()
    if child == 0:
        with cache.held():
            cache.keep(print_, die)
    os.waitpid(child, 0)
    assert cache.of(print_) is None
    with cache.held():  # the lock died with its holder
        cache.keep(print_, lambda directory: {"refused": "a test"})
    assert [path.name[:8] for path in (tmp_path / "compiled").iterdir() if path.is_dir()] == ["a" * 8]


def test_a_cache_that_cannot_be_written_is_said_and_stops_nobody(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("no directory")
    monkeypatch.setenv("NEARSHOT_RUNTIME", "auto")
    monkeypatch.setenv("NEARSHOT_CACHE", str(tmp_path / "cache"))
    backbone = choice("dinov2", weights).load("cpu", compiling=lambda _: None)
    assert isinstance(backbone, TorchBackbone)
    assert "the cache of compiled backbones cannot be written" in caplog.text


def test_what_is_compiled_is_used_from_a_cache_that_cannot_be_written(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(cache / "identities")
    (cache / "identities").write_text("no directory")
    assert isinstance(choice("dinov2", weights).load("cpu"), OnnxBackbone)
    assert "cannot be written" in caplog.text


def test_what_was_refused_does_not_count_as_compiled(cache: Path, weights: Path) -> None:
    resolved = choice("dinov2", weights)
    assert resolved.is_compiled
    fingerprint = resolved.load("cpu").description.fingerprint
    CompiledCache(cache).keep(fingerprint, lambda directory: {"refused": "a test"})
    assert not resolved.is_compiled
    assert isinstance(resolved.load("cpu"), TorchBackbone)


def test_a_query_and_a_small_index_run_import_no_library_of_models(
    cache: Path, weights: Path, small: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    script = (
        "import sys; from nearshot.commands.main import main\n"
        f"for line in {[*_lines(small, store, weights)]!r}:\n"
        "    main(line, standalone_mode=False)\n"
        "names = ('torch', 'torchvision', 'transformers', 'open_clip', 'timm', 'onnx')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "dinov2: 6 embedded" in done.stdout
    assert "verdict" in done.stdout
    assert "mode image (images by clip)" in done.stdout


def _lines(small: Path, store: Path, weights: Path) -> Iterator[list[str]]:
    where = f"--store {store} --weights {weights} --device cpu"
    yield shlex.split(f"index {small} {where} --backbone dinov2 --backbone clip --no-captions")
    yield shlex.split(f"query {small}/things/6.preprocessed/cat/a.png {where} --backbone dinov2 --threshold 0.1")
    yield shlex.split(f"search cat {where} --mode image")


def test_the_first_index_run_tells_what_could_be_compiled_and_later_ones_do_not(
    store: Store, small: Path, other_weights: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = IndexOptions(backbones=("dinov2", "clip"), weights=other_weights, device="cpu", workers=2)
    report = run_index(store, small, options)
    assert report.uncompiled == ["dinov2"]
    assert report.as_json()["uncompiled"] == ["dinov2"]
    assert run_index(store, small, options).uncompiled == []  # nothing was loaded
    monkeypatch.setenv("NEARSHOT_RUNTIME", "torch")
    with Store(tmp_path / "other", create=True) as other:
        assert run_index(other, small, replace(options, backbones=("dinov2",))).uncompiled == []


def test_compiling_goes_on_in_the_background_unless_it_is_not_wanted(
    cache: Path, small: Path, other_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    popen = subprocess.Popen

    def begin(arguments: list[str], **options: Any) -> Any:
        if "backbones" not in arguments:  # torch asks the system where its libraries are
            return popen(arguments, **options)
        return begun.append(arguments)

    monkeypatch.setattr(subprocess, "Popen", begin)
    line = f"index {small} --weights {other_weights} --device cpu --backbone dinov2 --no-captions"
    told = CliRunner().invoke(main, shlex.split(f"{line} --store {tmp_path}/a --no-compile")).output
    assert (begun, "compiled" in told) == ([], False)
    told = CliRunner().invoke(main, shlex.split(f"{line} --store {tmp_path}/b")).output
    assert "dinov2: being compiled in the background" in told
    [arguments] = begun
    command: click.Command = main
    words = arguments[arguments.index("backbones") :]
    while isinstance(command, click.Group) and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context("compile", words, parent=click.Context(main))
    assert context.params["names"] == ("dinov2",)
    assert json.loads(CliRunner().invoke(main, ["backbones", "--json", "--store", f"{tmp_path}/b"]).output)


def test_the_command_says_what_is_compiled_and_takes_it_away(cache: Path, weights: Path, tmp_path: Path) -> None:
    def told(line: str, status: int = 0) -> str:
        done = CliRunner().invoke(
            main, shlex.split(f"backbones compile {line} --weights {weights} --store {tmp_path}/no")
        )
        assert done.exit_code == status
        return done.output

    assert "dinov2: is compiled, " in told("dinov2")
    assert told("hog") == "hog: has no weights to compile\n"
    assert "nothing is indexed" in told("", 2)
    mixed = told("timm:vit_tiny_patch16_224 dinov2", 2)  # what has no weights here keeps nobody else from it
    assert "dinov2: is compiled, " in mixed
    assert "or give --weights DIR where DIR/vit_tiny_patch16_224/ has" in mixed
    assert told("--remove dinov2") == "dinov2: deleted\n"
    assert told("--remove dinov2") == "dinov2: was not compiled\n"


@pytest.mark.usefixtures("cache")
def test_what_a_service_keeps_is_made_as_an_index_run_makes_it(cache: Path, weights: Path) -> None:
    compiled, packed = (choice("dinov2", weights).load("cpu") for _ in range(2))
    assert isinstance(packed, OnnxBackbone)
    packed.pack()
    batcher = Batcher(capacity=8, gather=0.0)
    shared = BatchedBackbone(compiled, batcher)
    picture = shared.prepare(Image.open(photograph("coffee")).convert("RGB"))
    shared.encode([picture])
    shared.pack()
    np.testing.assert_array_equal(shared.encode([picture]), packed.encode([picture]))
    batcher.close()


def test_index_runs_come_to_the_same_bits_in_whatever_order_and_batches(
    compiled: None, small: Path, tmp_path: Path
) -> None:
    options = IndexOptions(backbones=("lite0",), device="cpu", workers=2)
    for number in range(40):
        save_crop(small / f"things/6.preprocessed/many/{number}.png", f"rocket:{number % 40}")
    stored: list[dict[str, bytes]] = []
    for name, batch_size in (("whole", 16), ("pieces", 3)):
        with Store(tmp_path / name, create=True) as store:
            if name == "pieces":
                aside = [path.rename(path.with_suffix(".aside")) for path in sorted(small.rglob("*.png"))[::2]]
                run_index(store, small, replace(options, batch_size=batch_size))
                for path in aside:
                    path.rename(path.with_suffix(".png"))
            run_index(store, small, replace(options, batch_size=batch_size))
            with store.reading() as catalog:
                hashes = dict(iter(catalog.connection.execute(select(tables.contents.c.id, tables.contents.c.sha256))))
                blobs = dict(every_vector(catalog, catalog.backbones()[0]))
            stored.append({hashes[content_id]: blob for content_id, blob in blobs.items()})
    assert len(stored[0]) > 30
    assert stored[0] == stored[1]
