"""Activations, sums and products of numbers by themselves, on all threads, for the layers.

These functions are not public, and take arrays that were read already. `add` and `add_relu` leave
shapes that differ, and dtypes that the kernels do not know, to NumPy.
"""

from __future__ import annotations

from math import nan
from typing import Literal, TypeGuard, overload

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arrays import FLOATS, Array, computed_dtype, contiguous
from fastconv._epilogue import ACTIVATIONS, IDENTITY, Activation
from fastconv._memory import new_array
from fastconv.activation import relu

Mask = npt.NDArray[np.bool_]
Bounds = tuple[float, float]

BOOL = np.dtype(np.bool_)
NOT_POSITIVE: Bounds = (0.0, nan)
"""The bounds of what rectification passes on. A bound of NaN is none."""

DRAWN_FROM = 1 << 10
"""To read and write a generator's state takes as long as drawing this many numbers with NumPy."""


def activate(x: Array, function: Activation, *, out: Array | None = None) -> Array:
    """Apply an activation of floats; return it in `out` if it is given, which may be `x` itself."""
    return _finish(x, None, function, None, out)


def activate_masked(x: Array, function: Activation, bounds: Bounds) -> tuple[Array, Mask]:
    """Apply an activation, and mask results up to the lower bound or from the upper one on."""
    mask = new_array(x.shape, BOOL)
    return _finish(x, None, function, (mask, bounds), None), mask


def activate_backward(grads: Array, kept: Array, function: Activation) -> Array:
    """Multiply by a derivative: that of a sigmoid at its results, of silu or hardswish at x."""
    out = new_array(grads.shape, grads.dtype)
    grads, kept = contiguous(grads, out.dtype), contiguous(kept, out.dtype)
    _kernels.activation.differentiate(grads, kept, function, out, _threads.count())
    return out


def scale(x: Array, mask: Mask, marked: float, others: float) -> Array:
    """Multiply by `marked` where the mask is set, and by `others` elsewhere."""
    out = new_array(x.shape, x.dtype)
    x, mask = contiguous(x, out.dtype), contiguous(mask, BOOL)
    _kernels.activation.scale(x, mask, marked, others, out, _threads.count())
    return out


def add(a: Array, b: Array, *, out: Array | None = None) -> Array:
    """Return ``a + b``, in `out` if it is given, which may be `a` or `b` itself."""
    plain = out is None or (out.dtype == a.dtype and out.shape == a.shape and out.flags.carray)
    if plain and _adds(a, b):
        return _finish(a, b, IDENTITY, None, out)
    return np.asarray(np.add(a, b, out=out, casting="same_kind"))


@overload
def add_relu(a: Array, b: Array, return_mask: Literal[False] = ...) -> Array: ...
@overload
def add_relu(a: Array, b: Array, return_mask: Literal[True]) -> tuple[Array, Mask]: ...
def add_relu(a: Array, b: Array, return_mask: bool = False) -> Array | tuple[Array, Mask]:
    """Return ``relu(a + b)`` in one pass, and with `return_mask` what `relu_backward` needs.

    The gradient of both inputs is ``relu_backward(grad, mask)``.
    """
    if not _adds(a, b):
        total = np.asarray(a + b)
        return relu(total.astype(computed_dtype(total.dtype), copy=False), return_mask)
    if not return_mask:
        return _finish(a, b, ACTIVATIONS["relu"], None, None)
    mask = new_array(a.shape, BOOL)
    return _finish(a, b, ACTIVATIONS["relu"], (mask, NOT_POSITIVE), None), mask


def drop(
    x: Array, ratio: float, factor: float, rng: np.random.Generator | None
) -> tuple[Array, Mask]:
    """Multiply by `factor` what a random number larger than `ratio` falls to, and by 0 the others.

    The numbers are those of ``rng.random(x.shape)``, or of `numpy.random` without a generator.
    Also return the mask of what is kept.
    """
    if not _is_pcg64(rng) or x.size < DRAWN_FROM:
        draw = np.random.random_sample if rng is None else rng.random
        mask = np.asarray(draw(x.shape) > ratio)
        return scale(x, mask, factor, 0.0), mask
    out, mask = new_array(x.shape, x.dtype), new_array(x.shape, BOOL)
    x, threads = contiguous(x, out.dtype), _threads.count()
    bits = rng.bit_generator
    with bits.lock:
        state = bits.state
        known = state["state"]
        known["state"] = _kernels.activation.drop(
            x, mask, ratio, factor, known["state"], known["inc"], out, threads
        )
        bits.state = state
    return out, mask


def _is_pcg64(rng: object) -> TypeGuard[np.random.Generator]:
    """Tell whether the kernel can draw what a generator would draw: that of `default_rng`."""
    return (
        type(rng) is np.random.Generator
        and type(rng.bit_generator) is np.random.PCG64
        and _kernels.activation.draws_pcg64
    )


def _adds(a: Array, b: Array) -> bool:
    """Tell whether the kernel adds two arrays."""
    return (
        isinstance(a, np.ndarray)
        and isinstance(b, np.ndarray)
        and a.shape == b.shape
        and a.dtype == b.dtype
        and a.dtype.isnative
        and a.dtype.char in FLOATS
    )


def _finish(
    x: Array,
    added: Array | None,
    function: Activation,
    masked: tuple[Mask, Bounds] | None,
    out: Array | None,
) -> Array:
    """Return ``function(x + added)``, and write the mask of what is not within bounds."""
    if out is None:
        out = new_array(x.shape, x.dtype)
    x = contiguous(x, out.dtype)
    added = None if added is None else contiguous(added, out.dtype)
    mask, (low, high) = (None, (nan, nan)) if masked is None else masked
    _kernels.activation.finish(x, added, function, mask, low, high, out, _threads.count())
    return out
