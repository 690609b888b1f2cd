"""The choice between the direct kernel and Winograd's tiles, and of the size of the tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from fastconv import _precision
from fastconv._arguments import one_of
from fastconv._errors import argument_error
from fastconv._window import Pair, Window

ALGORITHMS = ("auto", "direct", "winograd")


@dataclass(frozen=True)
class Cost:
    """Cost of tiles of one size, in multiplications of the direct kernel.

    `docs/winograd.md` fits these numbers to measurements.
    """

    product: float
    """Cost of a multiplication of transformed tiles."""
    pixels: int
    """Transforming the input of a tile costs as much as this many filters more."""
    outputs: int
    """Transforming the outputs of a tile costs as much as this many channels more."""
    weights: int
    """Transforming the weights costs as much as this many tiles more."""


@dataclass(frozen=True, eq=False)
class Task:
    """A result of a convolution, and the number of terms for which its sums may be on tiles.

    Terms are channels or, for the gradient of the weight, the outputs that the tap in a corner of
    the window sees.
    """

    costs: dict[int, Cost]
    """Costs by the number of rows of a tile of outputs."""
    call: float
    """Cost of a call, which is the same on tiles and directly."""
    least: int
    """With fewer terms, the transforms err more than NumPy's sums do."""
    least_high: int
    """With fewer terms, the transforms err more than precision "high" allows."""
    most: float
    """With more terms, the short sums on tiles add up to a long one, which errs too much."""


FORWARD_COSTS = {2: Cost(1.3, 2, 8, 50), 4: Cost(1.4, 24, 16, 100)}
GRADIENT_COSTS = {2: Cost(1.44, 4, 4, 36), 4: Cost(1.83, 7, 7, 10)}

FORWARD = Task(FORWARD_COSTS, 12e6, least=16, least_high=16, most=2048)
ADJOINT = Task(FORWARD_COSTS, 12e6, least=128, least_high=16, most=2048)
"""NumPy adds up the taps of the adjoint one by one, so its errors are smaller than those of the
convolution, and tiles need more terms to err as little."""
WEIGHT_GRADIENT = Task(GRADIENT_COSTS, 2e6, least=1024, least_high=1, most=math.inf)

GAIN = 1.07
"""Tiles are taken if they are expected to be faster than the direct kernel by this factor."""
LEAST_FILTERS = 5
"""For fewer filters the direct kernel works along pixels, which tiles do not beat."""


def tile_size(
    task: Task,
    algorithm: str,
    batch: int,
    channels: int,
    filters: int,
    groups: int,
    outputs: Pair,
    win: Window,
) -> int:
    """Return the number of rows, and of columns, of a tile of outputs, or 0 for the direct kernel.

    `channels` and `filters` are numbers per group. For the adjoint, which maps filters to channels,
    `channels` is the number of filters of the convolution and `filters` that of its channels.
    """
    algorithm = one_of(algorithm, "algorithm", ALGORITHMS)
    if algorithm == "auto" and (not win.is_dense_3x3 or filters < LEAST_FILTERS):
        return 0
    if algorithm == "direct":
        return 0
    if not win.is_dense_3x3:
        (_, _, *h), (_, _, *w) = win.packed.tolist()
        raise argument_error(
            ValueError,
            'algorithm "winograd" is for windows of 3x3 with stride and dilation 1, got kernel '
            f"{h[0], w[0]}, stride {h[1], w[1]} and dilation {h[2], w[2]}",
        )
    high = _precision.get_precision() == "high"
    terms = batch * (outputs[0] - 1) * (outputs[1] - 1) if task is WEIGHT_GRADIENT else channels
    if terms > task.most:
        return 0
    if algorithm == "winograd":
        return _best_tile(task, batch, channels, filters, groups, outputs, high)[0]
    if terms < (task.least_high if high else task.least):
        return 0
    size, gain = _best_tile(task, batch, channels, filters, groups, outputs, high)
    return size if gain > GAIN else 0


@lru_cache(maxsize=512)
def _best_tile(
    task: Task, batch: int, channels: int, filters: int, groups: int, outputs: Pair, high: bool
) -> tuple[int, float]:
    """Return the size of the cheapest tiles, and the factor by which they are cheaper."""

    def work(m: int) -> float:
        cost, tiles = task.costs[m], batch * -(-outputs[0] // m) * -(-outputs[1] // m)
        products = channels * (filters + cost.pixels) + cost.outputs * filters
        products = tiles * products + cost.weights * channels * filters
        return cost.product * groups * (m + 2) ** 2 * products + task.call

    size = min((2, 4) if high else (2,), key=work)
    direct = 9.0 * batch * groups * channels * filters * outputs[0] * outputs[1] + task.call
    return size, direct / work(size)
