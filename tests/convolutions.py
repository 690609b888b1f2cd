"""What tests of convolution share: cases, what they should give, and the comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

import numpy as np
import reference
from helpers import Array, Shape, assert_same, guarded, integer_values
from numpy.typing import DTypeLike

import fastconv


@dataclass(frozen=True)
class Case:
    """One convolution: what it is given, but for the values."""

    shape: Shape
    filters: int
    kernel: tuple[int, int]
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    pad_mode: str = "constant"

    def __str__(self) -> str:
        return str(astuple(self))

    @property
    def window(self) -> dict[str, Any]:
        names = ("stride", "padding", "dilation", "groups", "pad_mode")
        return {name: getattr(self, name) for name in names}

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What can compute it."""
        steps = reference.pair(self.stride), reference.pair(self.dilation)
        fits = self.kernel == (3, 3) and steps == ((1, 1), (1, 1))
        return ("direct", "winograd") if fits else ("direct",)

    @property
    def output(self) -> Shape:
        height, width = self.shape[2:]
        window = (self.kernel, self.stride, self.dilation, self.padding, self.pad_mode)
        rows, cols = reference.axes(height, width, *window)
        return (self.shape[0], self.filters, len(rows.taps), len(cols.taps))

    @property
    def transposed(self) -> dict[str, Any]:
        """What conv_transpose2d is given to lead from the output's size to the image's."""
        spans = [d * (k - 1) + 1 for d, k in zip(reference.pair(self.dilation), self.kernel)]
        pads = map(sum, reference.sides(self.padding))
        steps = reference.pair(self.stride)
        rest = [
            (size + pad - span) % step
            for size, pad, span, step in zip(self.shape[2:], pads, spans, steps)
        ]
        window = self.window
        del window["pad_mode"]
        return {**window, "output_padding": tuple(rest)}

    def arrays(self, fill: Callable[..., Array], dtype: DTypeLike = np.float32) -> list[Array]:
        """Make an input, a weight, a bias and a gradient of the output."""
        channels = self.shape[1] // self.groups
        weight = (self.filters, channels, *self.kernel)
        shapes = [self.shape, weight, (self.filters,), self.output]
        return [fill(shape, dtype, seed) for seed, shape in enumerate(shapes)]


Known = tuple[Array, Array, Array, Array]
"""The output, and the gradients of input, weight and bias."""


@cache
def definition(case: Case) -> Known:
    images, weight, bias, grad = case.arrays(integer_values, np.float64)
    output = reference.conv2d(images, weight, bias, **case.window)
    return (output, *reference.conv2d_backward(grad, images, weight, **case.window))


@cache
def textbook(case: Case) -> Known:
    """Compute the same with products of matrices, for images that are large for loops."""
    images, weight, bias, grad = case.arrays(integer_values, np.float64)
    window = (case.stride, case.padding)
    output = reference.textbook_conv2d(images, weight, *window) + bias[:, None, None]
    return (output, *reference.textbook_conv2d_backward(grad, images, weight, *window))


def check(case: Case, dtype: DTypeLike = np.float32, known: Known | None = None) -> None:
    """Results are those of the definition, to the last bit; nothing beside out= is written."""
    known = definition(case) if known is None else known
    for algorithm in case.algorithms:
        _check(case, dtype, known, {**case.window, "algorithm": algorithm})


def _check(case: Case, dtype: DTypeLike, known: Known, window: dict[str, Any]) -> None:
    output, grad_input, *grads_of_parameters = [(array + 0.0).astype(dtype) for array in known]
    images, weight, bias, grad = case.arrays(integer_values, dtype)
    with guarded(output.shape, dtype) as out:
        assert fastconv.conv2d(images, weight, bias, **window, out=out) is out
        assert_same(out, output)
    without_bias = output - bias[:, None, None]
    assert_same(fastconv.conv2d(images, weight, **window), without_bias)
    results = fastconv.conv2d_backward(grad, images, weight, **window)
    for result, expected in zip(results, (grad_input, *grads_of_parameters)):
        assert_same(result, expected)
    if case.pad_mode == "constant" and case.padding != "same":
        window = {**case.transposed, "algorithm": window["algorithm"]}
        bias = integer_values((case.shape[1],), dtype, seed=4)
        with guarded(case.shape, dtype) as out:
            fastconv.conv_transpose2d(grad, weight, bias, **window, out=out)
            assert_same(out, grad_input + bias[:, None, None])
        assert_same(fastconv.conv_transpose2d(grad, weight, **window), grad_input)


def results_of(case: Case, arrays: list[Array], algorithm: str = "auto") -> list[Any]:
    """Compute everything: output, the three gradients, and a transposed convolution."""
    images, weight, bias, grad = arrays
    window, transposed = case.window, case.transposed
    window["algorithm"] = transposed["algorithm"] = algorithm
    return [
        fastconv.conv2d(images, weight, bias, **window),
        *fastconv.conv2d_backward(grad, images, weight, **window),
        fastconv.conv_transpose2d(grad, weight, images[0, :, 0, 0], **transposed),
    ]


def rms(array: Array) -> float:
    return float(np.sqrt(np.square(array, dtype=np.float64).mean()))
