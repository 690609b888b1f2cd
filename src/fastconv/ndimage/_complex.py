"""Complex arrays and weights: their real and imaginary parts are filtered, and then combined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastconv._arrays import native_dtype
from fastconv._errors import argument_error, shown
from fastconv._memory import new_array
from fastconv.ndimage._arguments import Array, read_scalar

Weights = TypeVar("Weights")


class Part(NamedTuple):
    """The real or the imaginary part of a filter's input."""

    array: Array
    cval: float
    """What lies beyond the borders of this part."""


def input_parts(array: Array, cval: Any, out: Array) -> list[Part]:
    """Return the real part of a filter's input and, if it is complex, its imaginary part.

    A complex output is written part by part, so that an input that overlaps it is copied.
    """
    is_complex = array.dtype.kind == "c"
    if not is_complex and out.dtype.kind == "c" and np.iscomplexobj(cval):
        raise argument_error(
            ValueError, f"cval must be a real number for a real input, got {shown(cval)}"
        )
    if out.dtype.kind == "c" and np.may_share_memory(array, out):
        array = array.copy()
    if not is_complex:
        return [Part(array, read_scalar(cval))]
    beyond = np.real(cval), np.imag(cval)
    return [Part(part, read_scalar(each)) for part, each in zip((array.real, array.imag), beyond)]


def weight_parts(weights: Array) -> list[Array]:
    """Return the real part of weights and, if they are complex, their imaginary part."""
    return [weights.real, weights.imag] if weights.dtype.kind == "c" else [weights]


def combine(
    apply: Callable[[Part, Weights, Array], None],
    parts: Sequence[Part],
    weights: Sequence[Weights],
    out: Array,
) -> None:
    """Filter all parts of an input with all parts of the weights, and write the complex result.

    Parameters
    ----------
    apply : callable
        Filters a part of the input with a part of the weights, and writes the result to an array.
    parts : sequence of Part
        The real and, if there is one, the imaginary part of the input.
    weights : sequence
        The real and, if there is one, the imaginary part of the weights, as `apply` takes them.
    out : ndarray
        The output. If neither input nor weights are complex, `apply` writes to it directly.
    """
    if len(parts) == len(weights) == 1:
        apply(parts[0], weights[0], out)
        return
    written: set[int] = set()
    for i, part in enumerate(parts):
        for j, taps in enumerate(weights):
            is_imaginary = (i + j) % 2
            into = out.imag if is_imaginary else out.real
            if is_imaginary not in written:
                apply(part, taps, into)
                written.add(is_imaginary)
                continue
            product = new_array(out.shape, native_dtype(part.array))
            apply(part, taps, product)
            if i and j:
                into -= product  # The square of the imaginary unit is -1.
            else:
                into += product
