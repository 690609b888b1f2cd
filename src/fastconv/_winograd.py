"""When a convolution takes Winograd's way, and on tiles of which size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastconv import _precision
from fastconv._arguments import one_of
from fastconv._errors import argument_error
from fastconv._window import Pair, Window

ALGORITHMS = ("auto", "direct", "winograd")


@dataclass(frozen=True)
class Cost:
    """What tiles take, in multiplications of the direct kernel, as `docs/winograd.md` fits it."""

    product: float  # at one position of a tile
    pixels: int  # of a tile: as much as so many more filters,
    outputs: int  # as so many more channels,
    weights: int  # as so many more tiles


@dataclass(frozen=True)
class Task:
    """A result of a convolution, and how many terms its sums may have on tiles.

    Terms are channels or, of the weight's gradient, the outputs that a corner's tap sees. With less
    than `least` the transforms err more than NumPy's sums (`least_high`: with precision "high"),
    with more than `most` short sums, added up, become a long one.
    """

    costs: dict[int, Cost]  # by the size of a tile
    call: float  # of tiles as of the direct kernel
    least: int
    least_high: int
    most: float


FORWARD_COSTS = {2: Cost(1.3, 2, 8, 50), 4: Cost(1.4, 24, 16, 100)}
GRADIENT_COSTS = {2: Cost(1.44, 4, 4, 36), 4: Cost(1.83, 7, 7, 10)}

# NumPy sums the adjoint's taps apart.
FORWARD = Task(FORWARD_COSTS, 12e6, least=16, least_high=16, most=2048)
ADJOINT = Task(FORWARD_COSTS, 12e6, least=128, least_high=16, most=2048)
WEIGHT_GRADIENT = Task(GRADIENT_COSTS, 2e6, least=1024, least_high=1, most=math.inf)

GAIN = 1.07  # that is expected where tiles are taken
LEAST_FILTERS = 5  # the direct kernel has another way for fewer


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
    """Return how many rows and columns of outputs a tile has; 0: no tiles, compute directly.

    `channels` and `filters` are a group's; of the adjoint, those of what it is given and of its
    result.
    """
    if one_of(algorithm, "algorithm", ALGORITHMS) == "direct":
        return 0
    high = _precision.get_precision() == "high"
    seen = batch * (outputs[0] - 1) * (outputs[1] - 1)
    terms = seen if task is WEIGHT_GRADIENT else channels
    if algorithm == "auto":
        least = task.least_high if high else task.least
        if not win.is_dense_3x3 or terms < least or filters < LEAST_FILTERS:
            return 0
    if not win.is_dense_3x3:
        (_, _, *h), (_, _, *w) = win.packed.tolist()
        raise argument_error(
            ValueError,
            'algorithm "winograd" is for windows of 3x3 with stride and dilation 1, got kernel '
            f"{h[0], w[0]}, stride {h[1], w[1]} and dilation {h[2], w[2]}",
        )

    if terms > task.most:
        return 0

    def work(m: int) -> float:
        cost, tiles = task.costs[m], batch * -(-outputs[0] // m) * -(-outputs[1] // m)
        products = channels * (filters + cost.pixels) + cost.outputs * filters
        products = tiles * products + cost.weights * channels * filters
        return cost.product * groups * (m + 2) ** 2 * products + task.call

    size = min((2, 4) if high else (2,), key=work)
    direct = 9.0 * batch * groups * channels * filters * outputs[0] * outputs[1] + task.call
    return size if algorithm == "winograd" or direct > GAIN * work(size) else 0
