"""The algorithms of convolution, and the choice among them.

An algorithm says why it is not for a problem, whether "auto" may take it, what it costs, and how it
runs. A new one is a class here, with its place in `ALGORITHMS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Protocol

import numpy as np

from fastconv import _kernels, _precision, _threads
from fastconv._arguments import one_of
from fastconv._arrays import Array
from fastconv._epilogue import Epilogue
from fastconv._errors import argument_error
from fastconv._memory import RECYCLED_BYTES, new_array
from fastconv._problem import Kind, Problem
from fastconv.packing import Packs

FLOAT32_PIXELS = 1 << 18
"""The number of pixels whose float16 gradients are computed together in float32, in 1 MiB."""

GAIN = 1.07
"""The factor by which tiles must be expected to be faster for "auto" to prefer them."""


class Algorithm(Protocol):
    """A way to compute a convolution, its adjoint and the gradient of its weight."""

    @property
    def name(self) -> str:
        """What `algorithm=` calls it."""

    @property
    def tile(self) -> int:
        """Rows and columns of outputs that are computed together."""

    def refusal(self, problem: Problem) -> str | None:
        """Say why the algorithm is not for a problem; None if it is."""

    def applies(self, problem: Problem, precision: str, asked: bool) -> bool:
        """Whether the algorithm is exact enough or, if it is asked for by name, works at all."""

    def cost(self, problem: Problem) -> float:
        """Return the expected time, in multiplications of the direct kernel."""

    def plan(self, problem: Problem, first: Array, second: Array, out: Array) -> tuple[int, int]:
        """Return the bytes that a forward convolution allocates, and the FLOPs of its products."""

    def run(
        self,
        problem: Problem,
        first: Array,
        second: Array,
        out: Array,
        epilogue: Epilogue | None = None,
        packs: Packs | None = None,
    ) -> None:
        """Write the result of source and weight; the weight's gradient of grad and source.

        `packs` keeps what is packed of the weight.
        """


class Direct:
    """Sums over all taps, for every problem."""

    name = "direct"
    tile = 1

    def refusal(self, problem: Problem) -> str | None:
        """Refuse nothing."""
        return None

    def applies(self, problem: Problem, precision: str, asked: bool) -> bool:
        """Return True: sums are taken in blocks, so that they err no more than NumPy's."""
        return True

    def cost(self, problem: Problem) -> float:
        """Count the multiplications of 3x3 windows: there are no alternatives for others."""
        h, w = problem.plane
        products = 9.0 * problem.batch * problem.groups * problem.channels * problem.filters * h * w
        return products + _COSTS[problem.kind].call

    def plan(self, problem: Problem, first: Array, second: Array, out: Array) -> tuple[int, int]:
        """Return the bytes that a forward convolution allocates, and the FLOPs of its products."""
        window = problem.window.packed
        if problem.window.turned is not None:
            window, first, second, out = _turned(problem, first, second, out)
        workspace = _kernels.convolution.workspace(
            first, second, out, window, problem.groups, _threads.count()
        )
        return workspace, problem.definition_flops

    def run(
        self,
        problem: Problem,
        first: Array,
        second: Array,
        out: Array,
        epilogue: Epilogue | None = None,
        packs: Packs | None = None,
        marks: Array | None = None,
        way: int = 0,
    ) -> None:
        """Write the result, of all images or of those with a mark that is not 0.

        Of parts of images, `way` is what `way_of` returns for the whole ones.
        """
        window, groups, threads = problem.window.packed, problem.groups, _threads.count()
        if problem.window.turned is not None:
            window, first, second, out = _turned(problem, first, second, out)
            if epilogue is not None:
                bias, residual, activation = epilogue
                epilogue = bias, None if residual is None else _row(residual), activation
        if problem.kind == "forward":
            _kernels.convolution.forward(
                first, second, out, window, groups, epilogue, packs, marks, threads, way
            )
        elif problem.kind == "adjoint":
            _kernels.convolution.transposed(
                first, second, out, window, groups, epilogue, packs, marks, threads
            )
        else:
            _kernels.gradients.weight_gradient(first, second, out, window, groups, threads)


def _row(column: Array) -> Array:
    """View images of one column as images of one row."""
    n, c, h, w = column.shape
    return column.reshape(n, c, w, h)


def _turned(problem: Problem, *columns: Array) -> tuple[Any, ...]:
    """Return the window of a problem of one column, and its arrays, as those of one row.

    Kernels compute neighbouring pixels of a row together: signals of 3000 samples with 384
    channels, as one column of 2-D images, took 2.7 times as long as on one row.
    """
    return problem.window.turned, *map(_row, columns)


@dataclass(frozen=True)
class Cost:
    """What tiles cost, in multiplications of the direct kernel, as `docs/winograd.md` fits it."""

    product: float
    """The cost of a product at one position of a tile."""
    pixels: int
    """The number of additional filters that cost as much as the transform of a tile's pixels."""
    outputs: int
    """The number of additional channels that cost as much as the transform of a tile's outputs."""
    weights: int
    """The number of additional tiles that cost as much as the transform of a filter's weights."""


@dataclass(frozen=True)
class Costs:
    """What tiles cost for one kind of result, and which numbers of terms they are exact for.

    Terms are channels or, of the weight's gradient, the outputs that a corner's tap sees. With
    fewer than `least` the transforms err more than NumPy's sums (`least_high`: with precision
    "high"); with more than `most`, short sums, added up, become a long one.
    """

    tiles: dict[int, Cost]
    """By the size of a tile."""
    call: float
    """A call of either kernel."""
    least: int
    least_high: int
    most: float


_FORWARD_TILES = {2: Cost(1.3, 2, 8, 50), 4: Cost(1.4, 24, 16, 100)}
_GRADIENT_TILES = {2: Cost(1.44, 4, 4, 36), 4: Cost(1.83, 7, 7, 10)}

_COSTS: dict[Kind, Costs] = {
    "forward": Costs(_FORWARD_TILES, 12e6, least=16, least_high=16, most=2048),
    # NumPy sums the adjoint's taps apart.
    "adjoint": Costs(_FORWARD_TILES, 12e6, least=128, least_high=16, most=2048),
    "weight_gradient": Costs(_GRADIENT_TILES, 2e6, least=1024, least_high=1, most=math.inf),
}

LEAST_FILTERS = 5
"""The direct kernel has another way for fewer filters per group, which tiles do not beat."""


@dataclass(frozen=True, eq=False)
class Winograd:
    """Fewer multiplications on tiles of outputs, for 3x3 windows of stride and dilation 1."""

    tile: int
    name = "winograd"

    def refusal(self, problem: Problem) -> str | None:
        """Refuse other windows."""
        if problem.window.is_dense_3x3:
            return None
        if len(problem.window.out) == 1:
            return "is for images, not for signals"
        (_, _, *h), (_, _, *w) = problem.window.packed.tolist()
        return (
            f"is for windows of 3x3 with stride and dilation 1, got kernel {h[0], w[0]}, stride "
            f"{h[1], w[1]} and dilation {h[2], w[2]}"
        )

    def applies(self, problem: Problem, precision: str, asked: bool) -> bool:
        """Compare the number of terms with what the errors of transforms and sums allow."""
        costs, terms, high = _COSTS[problem.kind], _terms(problem), precision == "high"
        if terms > costs.most or (self.tile == 4 and not high):
            return False
        least = costs.least_high if high else costs.least
        return asked or (terms >= least and problem.filters >= LEAST_FILTERS)

    def cost(self, problem: Problem) -> float:
        """Count products and transforms.

        The transform of weights counts even where it is kept from call to call. In a network the
        weights of all layers push each other out of the caches, and then reading transformed ones
        takes as long as transforming them: in ResNet-50, (1,256,14) to 256 takes 0.51 ms on tiles
        and 0.47 directly, though alone it is 0.31 and 0.45.
        """
        costs = _COSTS[problem.kind]
        cost, (h, w) = costs.tiles[self.tile], problem.plane
        tiles = problem.batch * -(-h // self.tile) * -(-w // self.tile)
        channels, filters = problem.channels, problem.filters
        products = channels * (filters + cost.pixels) + cost.outputs * filters
        products = tiles * products + cost.weights * channels * filters
        positions = (self.tile + 2) ** 2
        return cost.product * problem.groups * positions * products + costs.call

    def plan(self, problem: Problem, first: Array, second: Array, out: Array) -> tuple[int, int]:
        """Return the bytes that a forward convolution allocates, and the FLOPs of its products."""
        workspace, flops = _kernels.winograd.plan(
            first,
            second,
            out,
            problem.window.packed,
            problem.groups,
            self.tile,
            _threads.count(),
        )
        return workspace, flops

    def run(
        self,
        problem: Problem,
        first: Array,
        second: Array,
        out: Array,
        epilogue: Epilogue | None = None,
        packs: Packs | None = None,
    ) -> None:
        """Write the result; tiles with numbers that are not finite are computed again, directly.

        A tile's numbers depend on its own pixels alone, so that a part of an image gives the
        numbers that the whole gives.
        """
        window, groups, threads = problem.window.packed, problem.groups, _threads.count()
        if problem.kind == "weight_gradient":
            if not _kernels.winograd_gradient.weight_gradient(
                first, second, out, window, groups, self.tile, threads
            ):
                DIRECT.run(problem, first, second, out)
            return
        if epilogue is not None:
            bias, residual, activation = epilogue
            epilogue = bias, _kept(residual, out), activation
        tiles = (-(-size // self.tile) for size in out.shape[2:])
        marks = np.zeros((problem.batch, *tiles), np.uint8)
        adjoint = problem.kind == "adjoint"
        _kernels.winograd.convolve_tiles(
            first,
            second,
            out,
            window,
            groups,
            epilogue,
            packs,
            self.tile,
            adjoint,
            marks,
            threads,
        )
        if adjoint:
            _kernels.convolution.fold_padding(first, second, out, window, groups, threads)
        images = np.asarray(marks.any(axis=(1, 2)))
        if not images.any():
            return
        if adjoint and problem.window.folds:  # Padding brings what is not finite to other tiles.
            DIRECT.run(problem, first, second, out, epilogue, packs, images.view(np.uint8))
            return
        exact = new_array(out.shape, out.dtype)
        DIRECT.run(problem, first, second, exact, epilogue, packs, images.view(np.uint8))
        _, _, h, w = out.shape
        for n in np.flatnonzero(images):
            rows = marks[n].repeat(self.tile, axis=0)[:h]
            np.copyto(out[n], exact[n], where=rows.repeat(self.tile, axis=1)[:, :w].view(np.bool_))


def _kept(residual: Array | None, out: Array) -> Array | None:
    """Return a residual that is still there when tiles have overwritten `out`.

    Images with NaN are computed again, and need what `out` held. The copy is made as large as
    memory must be to be recycled, because new memory would take longer than the copy itself.
    """
    if residual is None or not np.may_share_memory(residual, out):
        return residual
    size = max(out.size, RECYCLED_BYTES // out.itemsize)
    kept = new_array((size,), out.dtype)[: out.size].reshape(out.shape)
    np.copyto(kept, out)
    return kept


def _terms(problem: Problem) -> int:
    """Return the number of terms of a sum on tiles."""
    if problem.kind == "weight_gradient":
        h, w = problem.plane
        return problem.batch * (h - 1) * (w - 1)
    return problem.channels


DIRECT = Direct()
ALGORITHMS: tuple[Algorithm, ...] = (Winograd(2), Winograd(4), DIRECT)
"""All algorithms; of those that cost the same, the first is taken."""

NAMES = ("auto", "direct", "winograd")


def choose(problem: Problem, name: str | Direct | Winograd) -> Algorithm:
    """Return the algorithm of a name, or the one that "auto" takes with the precision in use.

    Parts of images come with the algorithm that was chosen for the whole ones.
    """
    if isinstance(name, (Direct, Winograd)):
        return name
    return _choose(problem, one_of(name, "algorithm", NAMES), _precision.get_precision())


@lru_cache(maxsize=1024)
def _choose(problem: Problem, name: str, precision: str) -> Algorithm:
    named = [one for one in ALGORITHMS if name in ("auto", one.name)]
    fitting = [one for one in named if one.refusal(problem) is None]
    if not fitting:
        raise argument_error(ValueError, f'algorithm "{name}" {named[0].refusal(problem)}')
    asked = name != "auto"
    return min(
        (one for one in fitting if one.applies(problem, precision, asked)),
        key=lambda one: one.cost(problem) / (GAIN if one is DIRECT else 1.0),
        default=DIRECT,
    )


def run_adjoint(
    algorithm: Algorithm, problem: Problem, grads: Array, weight: Array, out: Array
) -> None:
    """Write the gradient of a convolution's source, whatever its padding shows.

    What padding adds to a pixel must be added before the sum is rounded to float16: some channels
    at a time are computed in float32.
    """
    _, _, h, w = out.shape
    if out.dtype != np.float16 or not problem.window.folds:
        algorithm.run(problem, grads, weight, out)
        return
    f, c = problem.channels, problem.filters
    some = max(1, min(c, FLOAT32_PIXELS // (h * w)))
    wide = np.empty((1, some, h, w), np.float32)
    for n, g in product(range(problem.batch), range(problem.groups)):
        own = slice(g * f, (g + 1) * f)
        for first in range(0, c, some):
            last = min(first + some, c)
            some_grads, some_weights = grads[n : n + 1, own], weight[own, first:last]
            part = wide[:, : last - first]
            target = (1, f, *problem.target[2:])
            some_problem = Problem("adjoint", part.shape, target, 1, problem.window)
            algorithm.run(some_problem, some_grads, some_weights, part)
            with np.errstate(over="ignore"):
                out[n, g * c + first : g * c + last] = part[0]
