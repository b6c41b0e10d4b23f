"""Cold commands against the script that one would write: whole processes in turn, their seconds and their peak memory.

    python -m benchmarks.cold [--runs 5] [--backbone dinov2 ...] [--weights DIR] [--torch]

Full-size models with random weights, 100 shots. The script loads the model by its own library, embeds one image, and takes the
nearest of vectors that it finds in a file. Both find their files in the page cache. nearshot's backbones are compiled before,
in a cache of their own; with `--torch` they are not used.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.material import machine, save_jpegs, save_weights
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec

CLI = Path(__file__).parents[1] / "cli.py"
SHOTS, LABELS = 100, 10
TARGETS = {"dinov2": 1.3, "clip": 1.0, "resnet50": 1.0, "lite0": 0.6}

BEGIN = """
import sys
import numpy as np
import torch
from PIL import Image
weights, shots, image = sys.argv[1:]
"""
END = """
unit = torch.nn.functional.normalize(vector).numpy()[0]
print(int(np.argmax(np.load(shots) @ unit)))
"""
SCRIPTS = {
    "dinov2": """
from transformers import AutoImageProcessor, AutoModel
processor = AutoImageProcessor.from_pretrained(weights + "/dinov2")
model = AutoModel.from_pretrained(weights + "/dinov2").eval()
with torch.inference_mode():
    vector = model(**processor(images=Image.open(image).convert("RGB"), return_tensors="pt")).pooler_output
""",
    "clip": """
import open_clip
model, preprocess = open_clip.create_model_from_pretrained("local-dir:" + weights + "/clip")
model.eval()
with torch.inference_mode():
    vector = model.encode_image(preprocess(Image.open(image).convert("RGB"))[None])
""",
    "resnet50": """
import torchvision
from safetensors.torch import load_file
model = torchvision.models.resnet50()
model.load_state_dict(load_file(weights + "/resnet50/resnet50.safetensors"))
model.fc = torch.nn.Identity()
model.eval()
preprocess = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
with torch.inference_mode():
    vector = model(preprocess(Image.open(image).convert("RGB"))[None])
""",
    "lite0": """
import timm
model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
preprocess = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
with torch.inference_mode():
    vector = model(preprocess(Image.open(image).convert("RGB"))[None])
""",
}


@dataclass(frozen=True, slots=True)
class Process:
    """What a process took, its children included."""

    seconds: float
    mib: float


def main() -> None:
    """Print a line per backbone, and one for a search by words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--backbone", nargs="+", default=list(SCRIPTS))
    parser.add_argument(
        "--weights", type=Path, help="keep the random weights, and what is compiled, here for the next time"
    )
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    print(f"{machine()}; median (range) of {arguments.runs} pairs in turn, whole processes")
    with tempfile.TemporaryDirectory() as directory:
        weights, root = arguments.weights or Path(directory, "weights"), Path(directory)
        if not weights.exists():
            save_weights(weights)
        os.environ |= {"NEARSHOT_RUNTIME": "torch" if arguments.torch else "auto", "NEARSHOT_CACHE": f"{weights}/cache"}
        save_shots(root / "data")
        here = ["--store", root / "store", "--weights", weights, "--device", "cpu"]
        for name in arguments.backbone:
            resolve(parse_spec(name), weights=weights).load(
                "cpu", compiling=lambda name: print(f"compiling {name}", flush=True)
            )
        names = [part for name in arguments.backbone for part in ("--backbone", name)]
        nearshot("index", root / "data", *names, "--no-captions", "--no-compile", *here)
        image = min((root / "data/photos/6.preprocessed").iterdir())
        for name in arguments.backbone:
            dimension = parse_spec(name).dimension or 1
            vectors = np.random.default_rng(0).standard_normal((SHOTS, dimension), dtype=np.float32)
            np.save(root / f"{name}.npy", vectors)
            script = [sys.executable, "-c", BEGIN + SCRIPTS[name] + END, weights, root / f"{name}.npy", image]
            query = [sys.executable, CLI, "query", image, "--backbone", name, *here]
            compare(f"query --backbone {name}", query, script, arguments.runs, TARGETS[name])
        if "clip" in arguments.backbone:
            search = [sys.executable, CLI, "search", "a cat on a chair", "--mode", "image", *here]
            runs = [run(search) for _ in range(arguments.runs + 1)][1:]
            print(f"{'search --mode image':26} {told(runs)}, target 1.0 s")


def compare(title: str, ours: list[object], theirs: list[object], runs: int, target: float) -> None:
    """Run both in turn, and print what each took; the first pair does not count."""
    pairs = [(run(ours), run(theirs)) for _ in range(runs + 1)][1:]
    ratio = statistics.median(their.seconds / our.seconds for our, their in pairs)
    memory = statistics.median(our.mib / their.mib for our, their in pairs)
    print(
        f"{title:26} {told([our for our, _ in pairs])}, target {target} s; script {told([their for _, their in pairs])}; "
        f"{ratio:.1f} times as fast, {memory:.2f} of the memory",
        flush=True,
    )


def told(runs: list[Process]) -> str:
    """Seconds and memory in words."""
    seconds = [each.seconds for each in runs]
    mib = statistics.median(each.mib for each in runs)
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {mib:.0f} MiB"


def run(arguments: list[object]) -> Process:
    """Run a process to its end."""
    started = time.perf_counter()
    process = subprocess.Popen([str(each) for each in arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"it failed: {' '.join(map(str, arguments))}")
    return Process(seconds, usage.ru_maxrss / 1024)


def nearshot(*arguments: object) -> None:
    """Run a command."""
    subprocess.run([sys.executable, str(CLI), *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def save_shots(root: Path) -> None:
    """A category of shots, and one query."""
    save_jpegs(root, SHOTS + 1)
    for number, path in enumerate(sorted((root / "photos/6.preprocessed").iterdir())[1:]):
        shot = root / f"photos/2.support-set/label{number % LABELS}/shot{number // LABELS + 1}.jpg"
        shot.parent.mkdir(parents=True, exist_ok=True)
        path.rename(shot)


if __name__ == "__main__":
    main()
