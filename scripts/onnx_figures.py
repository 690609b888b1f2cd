"""Measure the nine networks of the onnx package beside onnxruntime, for docs/onnx.md.

Each measurement is a process of its own, and the libraries take turns: the threads of one, which
wait busily for some time, would disturb the other. Needs onnx and onnxruntime.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

NAMES = {
    "bvlc_alexnet": "AlexNet",
    "densenet121": "DenseNet-121",
    "inception_v1": "GoogLeNet (Inception v1)",
    "inception_v2": "Inception v2",
    "resnet50": "ResNet-50",
    "shufflenet": "ShuffleNet",
    "squeezenet": "SqueezeNet",
    "vgg19": "VGG-19",
    "zfnet512": "ZFNet-512",
}
LIBRARIES = ("fastconv.onnx", "onnxruntime")
ROUNDS = 3
SECONDS, LEAST_RUNS = 0.4, 9
"""How long a network is run in each process, and how often at least."""


def measure(library: str, path: str) -> None:
    """Print the milliseconds of a run and of loading with the first run, and the peak in MiB."""
    module: Any = importlib.import_module(library)
    begin = time.perf_counter()
    session = module.InferenceSession(path)
    (value,) = session.get_inputs()
    x = np.random.default_rng(0).standard_normal(value.shape).astype(np.float32)
    session.run(None, {value.name: x})
    first = time.perf_counter() - begin
    times: list[float] = []
    while len(times) < LEAST_RUNS or sum(times) < SECONDS:
        begin = time.perf_counter()
        session.run(None, {value.name: x})
        times.append(time.perf_counter() - begin)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    print(float(np.median(times)) * 1e3, first * 1e3, int(peak) / 1024)


def main(names: list[str]) -> None:
    """Print a line of the table for every network that is named, or for all."""
    from light_networks import FOLDER, with_random_weights

    onnx: Any = importlib.import_module("onnx")
    ratios = []
    for name in names or NAMES:
        found: list[list[Any]] = [[] for _ in LIBRARIES]
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            file.write(with_random_weights(onnx.load(FOLDER / f"light_{name}.onnx")))
            file.flush()
            for _ in range(ROUNDS):
                for rows, library in zip(found, LIBRARIES):
                    command = [sys.executable, __file__, "--measure", library, file.name]
                    text = subprocess.run(command, capture_output=True, text=True, check=True)
                    rows.append([float(number) for number in text.stdout.split()])
        ours, theirs = (np.median(rows, axis=0) for rows in found)
        ratios.append(theirs[0] / ours[0])
        cells = [NAMES[name], f"{ours[0]:.1f}", f"{theirs[0]:.1f}", f"{ratios[-1]:.2f}"]
        cells += [f"{number:.0f}" for pair in zip(ours[1:], theirs[1:]) for number in pair]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"geometric mean of the ratios: {np.exp(np.mean(np.log(ratios))):.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        main(sys.argv[1:])
