"""How far float32 convolutions of standard normal variates are from float64's."""

from dataclasses import replace
from typing import Any

import numpy as np

from bench import peers
from bench.cases import Array, Case
from bench.shapes import Workload

COL_ELEMENTS = 1 << 25  # float64's columns have at most so many, or one image's


def errors(taking_part: list[Any], operation: str, workload: Workload) -> dict[str, list[float]]:
    """Give the relative rms errors of every contender's results, by its name."""
    w = workload
    images = COL_ELEMENTS // (w.out_size**2 * w.c * w.kernel**2)
    case = Case(operation, replace(w, n=min(w.n, max(1, images))), normal=True)
    exact = case.convolved(np.float64)
    implementations = [peer for peer in taking_part if not isinstance(peer, peers.Limits)]
    return {
        contender.name: [
            _relative_rms(got, want)
            for got, want in zip(contender.results(contender.call()), exact, strict=True)
        ]
        for contender in peers.contenders(implementations, case)
    }


def _relative_rms(got: Array, want: Array) -> float:
    return float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)))
