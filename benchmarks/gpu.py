"""Indexing on a GPU: images per second from JPEG to committed vectors, against the bare forward loop in the same run.

    python -m benchmarks.gpu [--images 8000] [--threads-images 1000] [--backbone clip ...] [--precision fp32 bf16 fp16]

`bare` are forward passes over prepared batches that lie on the device, `compiled` the same by torch.compile (`--compile`);
`one` is a prepared image alone, in milliseconds: its kernels launched one by one, and as it is encoded, recorded as a CUDA
graph. `loaded` is reading, decoding and preparing alone, in processes; `indexed` a whole run into a new store, models loaded
before the clock starts, processes started after it; `steady` its second three quarters, and `threads` a run that loads on
threads (0 images: none). `nvJPEG` is decoding and resizing on the GPU, which gives other pixels. The JPEGs are 400 photographs
of 500 x 375 under as many digests as there are images. Runs where FAISS and SQLite's command line are not.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from benchmarks.material import machine, save_jpegs, save_weights
from nearshot.backbones.decode import decode
from nearshot.backbones.device import choose_device
from nearshot.backbones.in_order import batches, in_order
from nearshot.backbones.loading import load_backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.indexer.embedding_here import AT_A_TIME
from nearshot.indexer.load_processes import LoadProcesses
from nearshot.indexer.load_worker import Setup
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Loading, Precision

NAMES = ("lite0", "clip", "resnet50", "dinov2")
DISTINCT = 400
BARE_SECONDS = 1.5
MIB = 1 << 20


def main() -> None:
    """Print a row per precision and backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--threads-images", type=int, default=1000)
    parser.add_argument("--backbone", nargs="+", default=list(NAMES))
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16", "fp16"])
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well; some 20 s a row")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--weights", type=Path, help="keep the random weights here for the next time")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"{machine()}; {card}; {arguments.images} JPEGs", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        weights = arguments.weights or Path(directory, "weights")
        if not weights.exists():
            save_weights(weights)
        root, few = Path(directory, "data"), Path(directory, "few")
        write_images(root, arguments.images)
        if arguments.threads_images:
            write_images(few, arguments.threads_images)
        if device.type == "cuda":
            print(
                f"nvJPEG: decoded {nvjpeg_rate(root, resized=False):.0f}, and resized {nvjpeg_rate(root, resized=True):.0f}"
            )
        for precision in map(Precision, arguments.precision):
            for name in arguments.backbone:
                row(name, precision, root, few, weights, arguments)


def row(name: str, precision: Precision, root: Path, few: Path, weights: Path, arguments: argparse.Namespace) -> None:
    """Measure one backbone, and print it."""
    choice = resolve(parse_spec(name), weights=weights, precision=precision)
    backbone = load_backbone(choice.spec, choice.location, device=arguments.device, precision=precision)
    assert isinstance(backbone, TorchBackbone)
    bare = bare_rate(backbone, root, backbone._forward)
    compiled = ""
    if arguments.compile:
        started = time.perf_counter()
        quick = torch.compile(backbone.image_model)
        rate_of_compiled = bare_rate(backbone, root, quick)
        compiled = f"compiled {rate_of_compiled:.0f} (in {time.perf_counter() - started - BARE_SECONDS:.0f} s)  "
    by_one, recorded = single_ms(backbone, root)
    loaded = loaded_rate(backbone, root)
    del backbone
    options = IndexOptions(backbones=(name,), weights=weights, device=arguments.device, precision=precision)
    indexed, steady, grown, allocated = indexed_rates(root, options, Loading.PROCESSES)
    on_threads = indexed_rates(few, options, Loading.THREADS)[0] if arguments.threads_images else 0.0
    print(
        f"{precision.value} {name:9} bare {bare:7.0f}  {compiled}one {by_one:.1f}, {recorded:.1f} ms  "
        f"loaded {loaded:6.0f}  indexed {indexed:6.0f}  steady {steady:6.0f}  "
        f"ratio {steady / bare:.2f}, of the slower of bare and loaded {steady / min(bare, loaded):.2f}; "
        f"threads {on_threads:5.0f}; resident {grown:+.0f} MiB, allocated {allocated:+.1f} MiB",
        flush=True,
    )


def single_ms(backbone: TorchBackbone, root: Path) -> tuple[float, float]:
    """Milliseconds from a prepared image to its vector in host memory: kernel by kernel, and as `encode` does it."""
    path = min((root / "photos/6.preprocessed").iterdir())
    prepared = [backbone.prepare(decode(path.read_bytes()).picture)]

    def kernel_by_kernel() -> None:
        with torch.inference_mode():
            backbone._forward(backbone.on_device(prepared)).float().cpu()

    for _ in range(3):
        kernel_by_kernel()
        backbone.encode(prepared)
    return 1000 / rate(kernel_by_kernel, 1), 1000 / rate(lambda: backbone.encode(prepared), 1)


def nvjpeg_rate(root: Path, *, resized: bool) -> float:
    """JPEGs per second that torchvision decodes on the GPU, and resizes to 224 there one by one."""
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms.v2 import functional

    paths = sorted((root / "photos/6.preprocessed").iterdir())[:128]
    files = [read_file(str(path)) for path in paths]

    def work() -> None:
        for picture in decode_jpeg(files, mode=ImageReadMode.RGB, device="cuda"):
            if resized:
                functional.resize(picture, [224], functional.InterpolationMode.BICUBIC, antialias=True)
        torch.cuda.synchronize()

    work()
    return rate(work, len(files))


def bare_rate(backbone: TorchBackbone, root: Path, model: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Images per second of forward passes, results brought to the host."""
    paths = sorted((root / "photos/6.preprocessed").iterdir())[: 2 * backbone.batch_size]
    prepared = [backbone.prepare(decode(path.read_bytes()).picture) for path in paths]
    size = backbone.batch_size
    batches = [backbone.on_device(prepared[at : at + size]) for at in range(0, len(prepared), size)]

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch).float().cpu()

    forward()
    return rate(forward, len(prepared))


def rate(work: Callable[[], object], images: int) -> float:
    """Images per second over some seconds."""
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < BARE_SECONDS:
        work()
        done += images
    return done / (time.perf_counter() - started)


def loaded_rate(backbone: TorchBackbone, root: Path) -> float:
    """Images per second that processes load, once they have started."""
    paths = sorted((root / "photos/6.preprocessed").iterdir())
    options = IndexOptions()
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory), create=True):
        setup = Setup({"x": backbone.preparation}, {"x": 1}, Path(directory), options.max_pixels)
        with LoadProcesses(setup, options.threads) as processes:
            started, first = 0.0, len(paths) // 4
            few = batches(paths, AT_A_TIME)
            loaded = in_order(processes.load, few, workers=options.threads, ahead=2 * options.threads)
            for number, _ in enumerate(loaded):
                if number == first // AT_A_TIME:
                    started = time.perf_counter()
            return (len(paths) - first) / (time.perf_counter() - started)


def indexed_rates(root: Path, options: IndexOptions, loading: Loading) -> tuple[float, float, float, float]:
    """Images per second of a run and of its last three quarters; MiB by which memory and that of the GPU grew in these."""
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory), create=True) as store:
        run = iter(IndexRun(store, root, replace(options, loading=loading)))
        total = next(run).total  # models are loaded now
        started = later = time.perf_counter()
        done_then, memory = 0, (0, 0)
        for progress in run:
            if not done_then and progress.done >= total // 4:
                later, done_then, memory = time.perf_counter(), progress.done, held()
            latest, ended = held(), time.perf_counter()
        whole = time.perf_counter() - started
        grown, allocated = ((new - old) / MIB for new, old in zip(latest, memory, strict=True))
        return total / whole, (total - done_then) / (ended - later), grown, allocated


def held() -> tuple[int, int]:
    """Bytes of this process, and of the GPU as torch has allocated them."""
    allocated = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    return psutil.Process().memory_info().rss, allocated


def write_images(root: Path, count: int) -> None:
    """So many files, each with bytes of its own after the end of the picture."""
    save_jpegs(root, min(count, DISTINCT))
    queries = root / "photos/6.preprocessed"
    for number in range(DISTINCT, count):
        copy = queries / f"{number:06}.jpg"
        shutil.copyfile(queries / f"{number % DISTINCT:06}.jpg", copy)
        with copy.open("ab") as file:
            file.write(number.to_bytes(4))


if __name__ == "__main__":
    main()
