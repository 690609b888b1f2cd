"""Operators on integers that stand for numbers: scales and zero points, and exact sums.

Sums of products of 8 bits are taken in float64, which is exact below 2**53, and wrapped to int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._arrays import Array
from fastconv.onnx._checks import FLOATS, as_type, axis_of, rank, require, room, single
from fastconv.onnx._operators_convolution import correlate, window_of
from fastconv.onnx._table import operator
from fastconv.onnx._tensors import dtype_of

QUANTIZED = ("uint8", "int8", "uint16", "int16")
"""The dtypes that stand for numbers."""


def _spread(values: Array, x: Array, axis: int, block_size: int = 0) -> Array:
    """Broadcast scales or zero points: of all elements, of an axis, or of blocks along it."""
    if values.size == 1 and values.ndim <= 1 and not block_size:
        return values.reshape(())
    at = axis_of(axis, x.ndim)
    if block_size:
        blocks = list(x.shape)
        blocks[at] = -(-x.shape[at] // block_size) if block_size > 0 else -1
        if list(values.shape) != blocks:
            raise ValueError(f"blocks of {block_size} in {x.shape} have no scales {values.shape}")
        room((*blocks[:at], blocks[at] * block_size, *blocks[at + 1 :]), values.dtype)
        whole = np.repeat(values, block_size, at)
        return whole[(slice(None),) * at + (slice(x.shape[at]),)]
    if values.shape != (x.shape[at],):
        raise ValueError(f"scales of shape {values.shape} are not for axis {axis} of {x.shape}")
    return values.reshape([-1 if i == at else 1 for i in range(x.ndim)])


def _saturated(y: Array, dtype: np.dtype[Any]) -> Array:
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(y, limits.min, limits.max).astype(dtype))


def _quantize(
    x: Array, scale: Array, zero: Array | None, axis: int, block: int, code: int, precision: int
) -> Array:
    """Divide by scales, round to the nearest even, add zero points and saturate."""
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    if code:
        wanted = dtype_of(code, "the result")
        if zero is not None and wanted != dtype:
            raise ValueError(f"output_dtype is {wanted}, but the zero points are {dtype}")
        dtype = wanted
    if dtype.name not in QUANTIZED:
        raise NotImplementedError(f"results of dtype {dtype} are not supported")
    if zero is not None and zero.shape != scale.shape:
        raise ValueError(f"scales have shape {scale.shape}, zero points {zero.shape}")
    computed = dtype_of(precision, "the precision") if precision else require(scale, FLOATS).dtype
    divisor = _spread(scale, x, axis, block).astype(computed)
    y = np.rint(x.astype(computed) / divisor)
    y = np.where(np.isnan(y), 0, y).astype(np.float64)
    if zero is not None:
        y = y + _spread(zero, x, axis, block)
    return _saturated(y, dtype)


@operator("QuantizeLinear", 10)
def quantize_all(x: Array, scale: Array, zero: Array | None = None) -> Array:
    """Quantize with one scale."""
    single(scale, "the scale")
    return _quantize(x, scale, zero, 0, 0, 0, 0)


@operator("QuantizeLinear", 13)
def quantize_axis(x: Array, scale: Array, zero: Array | None = None, *, axis: int = 1) -> Array:
    """Quantize with one scale, or one of every index of an axis."""
    return _quantize(x, scale, zero, axis, 0, 0, 0)


@operator("QuantizeLinear", 19)
def quantize_saturated(
    x: Array, scale: Array, zero: Array | None = None, *, axis: int = 1, saturate: int = 1
) -> Array:
    """Quantize with one scale or several; not saturating concerns floats of 8 bits only."""
    return _quantize(x, scale, zero, axis, 0, 0, 0)


@operator("QuantizeLinear", 21)
def quantize_blocks(
    x: Array,
    scale: Array,
    zero: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    saturate: int = 1,
) -> Array:
    """Quantize with one scale, several, or one of every block."""
    return _quantize(x, scale, zero, axis, block_size, output_dtype, 0)


@operator("QuantizeLinear", 23, 24, 25, 28)
def quantize(
    x: Array,
    scale: Array,
    zero: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Array:
    """Quantize with one scale, several, or one of every block, and divide in some precision."""
    return _quantize(x, scale, zero, axis, block_size, output_dtype, precision)


def _dequantize(
    x: Array, scale: Array, zero: Array | None, axis: int, block: int, code: int
) -> Array:
    """Subtract zero points and multiply by scales."""
    if x.dtype.name not in (*QUANTIZED, "int32"):
        raise NotImplementedError(f"it is not supported for elements of dtype {x.dtype}")
    require(scale, FLOATS)
    if zero is not None and (zero.shape != scale.shape or zero.dtype != x.dtype):
        raise ValueError(f"scales {scale.shape}, zero points {zero.shape} of {zero.dtype}")
    dtype = dtype_of(code, "the result") if code else scale.dtype
    offset = 0 if zero is None else _spread(zero, x, axis, block).astype(np.int64)
    factors = _spread(scale, x, axis, block)
    y = (x.astype(np.int64) - offset).astype(np.float32 if dtype != np.float64 else dtype)
    return as_type(y * factors.astype(y.dtype), dtype)


@operator("DequantizeLinear", 10)
def dequantize_all(x: Array, scale: Array, zero: Array | None = None) -> Array:
    """Turn integers back to numbers with one scale."""
    single(scale, "the scale")
    return _dequantize(x, scale, zero, 0, 0, 0)


@operator("DequantizeLinear", 13, 19)
def dequantize_axis(x: Array, scale: Array, zero: Array | None = None, *, axis: int = 1) -> Array:
    """Turn integers back to numbers with one scale, or one of every index of an axis."""
    return _dequantize(x, scale, zero, axis, 0, 0)


@operator("DequantizeLinear", 21)
def dequantize_blocks(
    x: Array, scale: Array, zero: Array | None = None, *, axis: int = 1, block_size: int = 0
) -> Array:
    """Turn integers back to numbers with one scale, several, or one of every block."""
    return _dequantize(x, scale, zero, axis, block_size, 0)


@operator("DequantizeLinear", 23, 24, 25, 28)
def dequantize(
    x: Array,
    scale: Array,
    zero: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Array:
    """Turn integers back to numbers with one scale, several, or one of every block."""
    return _dequantize(x, scale, zero, axis, block_size, output_dtype)


@operator("DynamicQuantizeLinear", 11)
def quantize_by_range(x: Array) -> tuple[Array, Array, Array]:
    """Quantize to uint8 with the scale and zero point of the range of the input."""
    require(x, FLOATS)
    low, high = min(0.0, float(x.min(initial=0))), max(0.0, float(x.max(initial=0)))
    scale = np.float32((high - low) / 255)
    zero = np.uint8(np.clip(np.rint(-low / scale) if scale else 0, 0, 255))
    y = _quantize(x, np.asarray(scale), np.asarray(zero), 0, 0, 0, 0) if scale else None
    return (np.zeros(x.shape, np.uint8) if y is None else y), np.asarray(scale), np.asarray(zero)


def _shifted(x: Array, zero: Array | None, axis: int) -> Array:
    """Subtract zero points, and return float64."""
    if x.dtype.name not in ("uint8", "int8"):
        raise NotImplementedError(f"it is not supported for elements of dtype {x.dtype}")
    y = x.astype(np.float64)
    if zero is not None:
        if zero.dtype != x.dtype:
            raise ValueError(f"zero points are {zero.dtype}, but elements {x.dtype}")
        y -= _spread(zero, x, axis)
    return y


def _wrapped(sums: Array) -> Array:
    """Return exact sums as int32, of which the highest bits are lost if they are larger."""
    return sums.astype(np.int64).astype(np.int32)


def _integer_convolution(
    x: Array,
    w: Array,
    x_zero: Array | None,
    w_zero: Array | None,
    group: int,
    window: tuple[object, ...],
) -> Array:
    """Correlate integers; the padding is their zero point. Return exact sums as float64."""
    axes = window_of(x, w, *window)  # type: ignore[arg-type]
    # Tiles would round, so every product is taken.
    return correlate(_shifted(x, x_zero, 1), _shifted(w, w_zero, 0), None, axes, group, "direct")


@operator("ConvInteger", 10)
def conv_integer(
    x: Array,
    w: Array,
    x_zero: Array | None = None,
    w_zero: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Correlate integers, and return exact sums."""
    window = auto_pad, dilations, kernel_shape, pads, strides
    return _wrapped(_integer_convolution(x, w, x_zero, w_zero, group, window))


@operator("QLinearConv", 10)
def quantized_conv(
    x: Array,
    x_scale: Array,
    x_zero: Array,
    w: Array,
    w_scale: Array,
    w_zero: Array,
    y_scale: Array,
    y_zero: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Correlate integers that stand for numbers; the bias is of int32."""
    window = auto_pad, dilations, kernel_shape, pads, strides
    sums = _integer_convolution(x, w, x_zero, w_zero, group, window)
    if bias is not None:
        sums += bias.reshape(-1, *[1] * (x.ndim - 2))
    factor = _spread(w_scale, sums, 1) * single(x_scale, "x_scale") / single(y_scale, "y_scale")
    return _requantized(sums, np.asarray(factor), y_zero)


def _requantized(sums: Array, factor: Array, zero: Array) -> Array:
    """Scale exact sums, round to the nearest even, and saturate to the dtype of the zero point."""
    if zero.dtype.name not in ("uint8", "int8"):
        raise NotImplementedError(f"results of dtype {zero.dtype} are not supported")
    y = np.rint(sums * factor.astype(np.float64))
    return _saturated(y + single(zero, "y_zero_point"), zero.dtype)


def _matrix_zero(zero: Array | None, x: Array, is_left: bool) -> Array | None:
    """Give zero points of rows of the left matrix, or columns of the right one, their places."""
    if zero is None or zero.ndim == 0 or zero.shape == (1,):
        return None if zero is None else zero.reshape(())
    if zero.ndim == 1:
        return zero[:, None] if is_left else zero
    return zero


def _integer_product(a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
    rank(a, 1)
    rank(b, 1)
    parts = []
    for x, zero, is_left in ((a, a_zero, True), (b, b_zero, False)):
        y = _shifted(x, None, 0)
        offset = _matrix_zero(zero, x, is_left)
        if offset is not None:
            if offset.dtype != x.dtype:
                raise ValueError(f"zero points are {offset.dtype}, but elements {x.dtype}")
            y = y - offset
        parts.append(y)
    return np.asarray(np.matmul(*parts))


@operator("MatMulInteger", 10)
def matmul_integer(
    a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
) -> Array:
    """Multiply matrices of integers, and return exact sums."""
    return _wrapped(_integer_product(a, b, a_zero, b_zero))


@operator("QLinearMatMul", 10, 21)
def quantized_matmul(
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    y_scale: Array,
    y_zero: Array,
) -> Array:
    """Multiply matrices of integers that stand for numbers."""
    for scale in (a_scale, b_scale, y_scale):
        require(scale, FLOATS)
    sums = _integer_product(a, b, a_zero, b_zero)
    left = a_scale[:, None] if a_scale.ndim == 1 and a_scale.size > 1 else a_scale
    factor = left.astype(np.float64) * b_scale.astype(np.float64)
    if factor.size == 1:
        factor = factor.reshape(())
    return _requantized(sums, np.asarray(factor / float(single(y_scale, "y_scale"))), y_zero)
