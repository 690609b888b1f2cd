"""Where the time of a network goes: a line for every step."""

from __future__ import annotations

import statistics
import time
from math import prod
from typing import Any

import numpy as np

from fastconv._text import table
from fastconv.inference._network import InferenceNetwork
from fastconv.inference._program import Program

ROUNDS = 5
"""The number of runs, of whose times the median is shown, if they do not take long."""
SECONDS = 2.0
"""No further run is begun after this time."""


def report(network: InferenceNetwork, batch: int) -> str:
    """Run a network on random inputs, and write a table of its steps."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *network.input_dim), np.float32).astype(network.dtype)
    program = network.take_program(batch)
    try:
        seconds = seconds_by_step(program, x)
    finally:
        network.give_back(program)
    rows = []
    for prepared, spent in zip(program.steps, seconds, strict=True):
        step, operation = prepared.step, prepared.step.operation
        shapes = [source.shape for source in step.inputs]
        flops = 2 * batch * operation.multiply_adds(*shapes)
        rows.append(
            (
                step.name,
                operation.describe(batch, *shapes),
                str(step.shape),
                f"{spent * 1e3:.3f}",
                f"{flops / spent / 1e9:.0f}" if flops else "",
                f"{prod(step.shape) * batch * network.dtype.itemsize / 2**20:.2f}",
            )
        )
    total = sum(seconds)
    flops = 2 * batch * network.multiply_adds()
    speed = f"{flops / total / 1e9:.0f}" if flops else ""
    last = ("total", "", "", f"{total * 1e3:.3f}", speed, "")
    heads = ("step", "algorithm", "result", "ms", "GFLOP/s", "MiB")
    memory = (
        f"Results share {program.memory_bytes / 2**20:.1f} MiB; "
        f"weights take {network.nbytes / 2**20:.1f} MiB."
    )
    return f"{table(heads, [*rows, last], left=3)}\n{memory}"


def seconds_by_step(program: Program, x: Any, rounds: int = ROUNDS) -> list[float]:
    """Return the median time of each step, after a run that is not counted."""
    program.run(x)
    times: list[list[float]] = []
    end = time.perf_counter() + SECONDS
    while not times or (len(times) < rounds and time.perf_counter() < end):
        arrays, spent = program.arrays_for(x), []
        for _, run, inputs, out in program.steps:
            begin = time.perf_counter()
            run([arrays[i] for i in inputs], arrays[out])
            spent.append(time.perf_counter() - begin)
        times.append(spent)
    return [statistics.median(column) for column in zip(*times, strict=True)]
