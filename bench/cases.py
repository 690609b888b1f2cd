"""The inputs of one measurement, the result that every contender must give, and the textbook's way.

Values are small integers, so that sums are exact in any order and results can be compared for
equality; maxima are taken over normal variates, so that ties do not make the search easier. Errors
of convolutions are measured on normal variates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import textbook
from bench.shapes import Signals, Workload

Array = npt.NDArray[Any]
Call = Callable[[], Any]

# Convolutions are computed of as many images at once as have this number of columns, or of one.
COL_ELEMENTS = 1 << 25
# Contenders that need all columns at once take no part where these are larger.
MOST_COLUMN_BYTES = 2 << 30
# Errors of filters of a single image are measured on an image of this size.
ERROR_SIZE = 512


@dataclass(frozen=True)
class Contender:
    """One way to do a case's operation; what `mode` may be is said at `results.Row`."""

    name: str
    mode: str
    call: Call
    results: Callable[[Any], tuple[Array, ...]]  # Brings what `call` returns into our layout.
    operations: float = 1  # One call does the operation this number of times.
    warm_up: Call | None = None  # A shorter call, which warms up as well.


class Case:
    """The arrays of an operation on a workload, each made when it is first asked for."""

    def __init__(
        self, operation: str, workload: Workload, normal: bool = False, dtype: str = "float32"
    ) -> None:
        self.operation, self.workload = operation, workload
        self.normal, self.dtype = normal, dtype
        self.shape, self.groups = workload.image_shape, workload.groups
        self.dilation = workload.dilation if isinstance(workload, Signals) else 1
        self.k, self.s, self.p = self.window = (workload.kernel, workload.stride, workload.pad)

    @cached_property
    def image(self) -> Array:
        return self._values(self.shape, 0, self.normal or self.operation.startswith("max_"))

    @cached_property
    def col(self) -> Array:
        return self._values(self.workload.col_shape, 0, self.normal)

    @cached_property
    def grad(self) -> Array:
        return self._values(self.workload.output_shape, 1, self.normal)

    @cached_property
    def weight(self) -> Array:
        return self._values(self.workload.weight_shape, 2, self.normal)

    @cached_property
    def bias(self) -> Array:
        return self._values((self.workload.filters,), 3, self.normal)

    @cached_property
    def gamma(self) -> Array:
        return self._values((self.workload.c,), 4, self.normal)

    @cached_property
    def beta(self) -> Array:
        return self._values((self.workload.c,), 5, self.normal)

    @cached_property
    def normalized(self) -> tuple[Array, Array]:
        """What the textbook's batch normalisation keeps for its backward pass."""
        return textbook.normalize(self.image)

    def _values(self, shape: tuple[int, ...], seed: int, normal: bool) -> Array:
        rng = np.random.default_rng(seed)
        if normal:
            return rng.standard_normal(shape, np.float32).astype(self.dtype, copy=False)
        return rng.integers(-8, 9, shape, np.int8).astype(self.dtype)

    @cached_property
    def unfolded(self) -> Array:
        """`col` in the layout of torch's fold: (N, C*KH*KW, OH*OW)."""
        return np.ascontiguousarray(rows_to_unfolded(self.col, self.workload))

    @property
    def unfolded_shape(self) -> tuple[int, int, int]:
        return (self.workload.n, self.workload.col_shape[1], self.workload.out_size**2)

    @cached_property
    def saved_col(self) -> Array:
        """What the textbook's convolution keeps for its backward pass."""
        return textbook.im2col(self.image, *self.window)

    @cached_property
    def pooled(self) -> tuple[Array, Array]:
        return textbook.max_pool(self.image, *self.window)

    @cached_property
    def indices(self) -> Array:
        """The maxima's flat positions in their planes."""
        return textbook.plane_indices(self.pooled[1], self.workload.size, *self.window)

    @property
    def has_columns(self) -> bool:
        """Whether all columns together are small enough to be made."""
        return 4 * prod(self.workload.col_shape) <= MOST_COLUMN_BYTES

    @property
    def result_shape(self) -> tuple[int, ...]:
        """The shape of the first result, which `out=` has."""
        of_images = "col2im", "fold", "max_unpool2d", "conv_transpose2d"
        if self.operation in of_images or self.operation.endswith("_backward"):
            return self.shape
        return self.workload.col_shape if self.operation == "im2col" else self.workload.output_shape

    @property
    def expected(self) -> tuple[Array, ...]:
        """Compute the results as the textbook does, convolutions in runs that fit into memory."""
        w, compute = self.workload, TEXTBOOK[self.operation]
        if not w.filters:
            return from_textbook(self, compute(self)())
        if self.operation == "conv2d" and w.is_single_image:
            return (textbook.filtered(self.image, self.weight, self.bias, self.s, self.p),)
        run = max(1, COL_ELEMENTS // self._col_elements)
        parts = [
            from_textbook(self, compute(self._part(slice(first, first + run)))())
            for first in range(0, w.n, run)
        ]
        images, *of_weights = zip(*parts, strict=True)
        return (np.concatenate(images), *(np.sum(part, axis=0) for part in of_weights))

    def _part(self, images: slice) -> "Case":
        image = self.image[images]
        part = Case(self.operation, self.workload.of(len(image)), self.normal, self.dtype)
        part.image = image
        if self.operation not in ("conv1d", "conv2d"):
            part.grad = self.grad[images]
        return part

    @property
    def _col_elements(self) -> int:
        """The number of elements that one image's columns have."""
        return prod(self.workload.col_shape) // self.workload.n

    def for_errors(self, dtype: str = "float32") -> "Case":
        """Give the same on normal variates, and as few images as tell the error."""
        w, images = self.workload, COL_ELEMENTS // self._col_elements
        size = min(w.size, ERROR_SIZE) if w.is_single_image else w.size
        fewer = replace(w, n=min(w.n, 4, max(1, images)), size=size)
        return Case(self.operation, fewer, normal=True, dtype=dtype)

    def errors(self, results: tuple[Array, ...], exact: tuple[Array, ...]) -> list[float]:
        return list(map(relative_rms, results, exact))

    def agrees(self, results: tuple[Array, ...], expected: tuple[Array, ...]) -> bool:
        """Whether `results`, or as many of them as the contender computes, are as expected."""
        return all(map(self._equal, results, expected))

    def _equal(self, got: Array, want: Array) -> bool:
        if self.operation.startswith("avg_"):  # Quotients are rounded.
            return got.shape == want.shape and np.allclose(got, want, rtol=1e-6, atol=1e-6)
        if self.operation.startswith("batch_norm"):  # So are means, and sums of quotients.
            scale = float(np.abs(want).max())
            return got.shape == want.shape and np.allclose(got, want, rtol=0, atol=1e-4 * scale)
        if self.workload.filters:  # Fourier's and Winograd's transforms round.
            return np.array_equal(np.rint(got), want)
        return np.array_equal(got, want)

    @cached_property
    def moved(self) -> tuple[int, int]:
        """Bytes of the operation's inputs and of its results, each once."""
        w = self.workload
        shapes = (w.image_shape, w.output_shape, w.col_shape, w.weight_shape)
        image, output, col, weight = (4 * prod(shape) for shape in shapes)
        indices = 2 * output  # An index has 8 bytes.
        return {
            "im2col": (image, col),
            "unfold": (image, col),
            "col2im": (col, image),
            "fold": (col, image),
            "max_pool2d": (image, output),
            "max_pool2d_indices": (image, output + indices),
            "max_pool2d_backward": (output + indices, image),
            "max_unpool2d": (output + indices, image),
            "avg_pool2d": (image, output),
            "avg_pool2d_backward": (output, image),
            "batch_norm": (image, output),
            "batch_norm_backward": (output + image, image),
            "conv1d": (image + weight, output),
            "conv2d": (image + weight, output),
            "conv2d_backward": (output + image + weight, image + weight),
            "conv_transpose2d": (output + weight, image),
        }[self.operation]

    @cached_property
    def flops(self) -> int:
        """Operations of a convolution, a multiplication and an addition being two; otherwise 0."""
        if not self.workload.filters:
            return 0
        passes = 2 if self.operation == "conv2d_backward" else 1
        return passes * 2 * prod(self.workload.output_shape) * prod(self.workload.weight_shape[1:])


Calls = Mapping[str, Callable[[Case], Call]]

# How a course on NumPy computes each operation, which is what every contender is compared with.
TEXTBOOK: Calls = {
    "im2col": lambda c: partial(textbook.im2col, c.image, *c.window),
    "col2im": lambda c: partial(textbook.col2im, c.col, c.shape, *c.window),
    "unfold": lambda c: lambda: rows_to_unfolded(textbook.im2col(c.image, *c.window), c.workload),
    "fold": lambda c: lambda: textbook.col2im(unfolded_to_rows(c.unfolded), c.shape, *c.window),
    "max_pool2d": lambda c: lambda: textbook.max_pool(c.image, *c.window)[0],
    "max_pool2d_indices": lambda c: partial(textbook.max_pool, c.image, *c.window),
    "max_pool2d_backward": lambda c: partial(
        textbook.max_pool_backward, c.grad, c.pooled[1], c.shape, *c.window
    ),
    "max_unpool2d": lambda c: partial(textbook.max_unpool, c.grad, c.indices, c.shape),
    "avg_pool2d": lambda c: partial(textbook.avg_pool, c.image, *c.window),
    "avg_pool2d_backward": lambda c: partial(
        textbook.avg_pool_backward, c.grad, c.shape, *c.window
    ),
    "batch_norm": lambda c: partial(textbook.batch_normalization, c.image, c.gamma, c.beta),
    "batch_norm_backward": lambda c: partial(
        textbook.batch_normalization_backward, c.grad, *c.normalized, c.gamma
    ),
    "conv1d": lambda c: partial(
        textbook.convolution_of_signals, c.image, c.weight, c.bias, c.s, c.p, c.dilation
    ),
    "conv2d": lambda c: partial(textbook.convolution, c.image, c.weight, c.bias, c.s, c.p),
    "conv2d_backward": lambda c: partial(
        textbook.convolution_backward, c.grad, c.saved_col, c.weight, c.shape, c.s, c.p
    ),
    "conv_transpose2d": lambda c: partial(
        textbook.convolution_transpose, c.grad, c.weight, c.shape, c.s, c.p
    ),
}


def from_textbook(case: Case, returned: Any) -> tuple[Array, ...]:
    """Give results in our layout: the textbook counts a maximum's place within its window."""
    if case.operation == "max_pool2d_indices":
        values, pixels = returned
        return values, textbook.plane_indices(pixels, case.workload.size, *case.window)
    return as_tuple(returned)


def as_tuple(returned: Any) -> tuple[Array, ...]:
    return tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)


def relative_rms(got: Array, want: Array) -> float:
    """Give the root mean square of the error, relative to that of the numbers."""
    power = float(np.mean(np.square(want, dtype=np.float64)))
    error = float(np.mean(np.square(got - want, dtype=np.float64)))
    return sqrt(error / power) if power else sqrt(error)


def rows_to_unfolded(col: Array, workload: Workload) -> Array:
    return col.reshape(workload.n, -1, col.shape[1]).transpose(0, 2, 1)


def unfolded_to_rows(col: Array) -> Array:
    return col.transpose(0, 2, 1).reshape(-1, col.shape[1])
