"""A small convolution beside processes that keep the processors busy, and behind NumPy's products.

What a call takes depends on the pause before it, too: threads that have waited for longer than
OpenMP waits busily have to be woken. Each row is a process of its own, as callers learn from calls.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

import fastconv
from fastconv._text import table

PAUSES = (0.0, 0.0005, 0.002, 0.005, 0.03)  # Seconds.
BUSY = "while True: pass"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--neighbours", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads(), metavar="N")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure")


def main(options: argparse.Namespace) -> int:
    rows = []
    for pause in PAUSES:
        idle = _measured(pause, options)
        with _neighbours(options.neighbours):
            busy = _measured(pause, options)
        rows.append(
            [f"{1e3 * pause:g} ms", *map(_shown, (idle, busy)), f"{busy[0] / idle[0]:.1f}x"]
        )
    titles = ["pause", "idle: mean, median, p90 in ms", f"beside {options.neighbours}", "means"]
    print(table(titles, rows))
    print("behind a product of NumPy's in each turn:", _shown(_measured(-1.0, options)))
    return 0


@contextlib.contextmanager
def _neighbours(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _measured(pause: float, options: argparse.Namespace) -> list[float]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_times, pause, options.threads, options.seconds).result()


def _shown(times: list[float]) -> str:
    return " ".join(f"{1e3 * seconds:.2f}" for seconds in times)


def _times(pause: float, threads: int, seconds: float) -> list[float]:
    """Return mean, median and 90th percentile of a call; a negative pause is a product instead."""
    fastconv.set_num_threads(threads)
    rng = np.random.default_rng(0)
    image = rng.random((1, 64, 40, 56), np.float32)
    weight = rng.random((64, 64, 3, 3), np.float32)
    out = fastconv.conv2d(image, weight)
    factor = rng.random((400, 400), np.float32)
    product = np.empty_like(factor)
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if pause > 0:
            time.sleep(pause)
        elif pause < 0:
            np.matmul(factor, factor, out=product)
        start = time.perf_counter()
        fastconv.conv2d(image, weight, out=out)
        times.append(time.perf_counter() - start)
    return [float(np.mean(times)), float(np.median(times)), float(np.percentile(times, 90))]
