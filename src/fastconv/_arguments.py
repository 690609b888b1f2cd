"""Readers of arguments: ints, pairs, paddings, shapes, words, and the windows they describe.

Every reader takes what the user passed and the argument's name, and returns it in one form, or
raises a TypeError (another type) or ValueError (out of range) that says what is accepted.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from fastconv import _window
from fastconv._errors import argument_error, shown
from fastconv._window import PAD_MODES, Pads, Pair, Pairs, Sizes, Window

IntPair: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | npt.NDArray[np.integer[Any]]
Padding: TypeAlias = IntPair | str | Sequence[Sequence[int]]
OneInt: TypeAlias = IntPair
"""What tells the window of a signal: an int, or a sequence of one as PyTorch's modules hold it."""

SIDES = "a non-negative int, a pair (vertical, horizontal), ((top, bottom), (left, right))"
"""What padding in numbers may be, as errors tell it."""
WORDS = '"valid" or "same"'
ENDS = "a non-negative int, a pair (before, after)"
"""What the padding of a signal may be in numbers, as errors tell it."""


def pair(value: IntPair, name: str) -> Pair:
    """Read a positive int or a pair of them, (vertical, horizontal)."""
    if type(value) is int and value > 0:
        return value, value
    if is_plain_pair(value) and value[0] > 0 and value[1] > 0:
        return value
    return _pair(value, name, 1, "a positive int or a pair of them")


def extra_pair(value: IntPair, name: str) -> Pair:
    """Read a non-negative int or a pair of them."""
    return _pair(value, name, 0, "a non-negative int or a pair of them")


def per_axis(value: IntPair, name: str, axes: int) -> Sizes:
    """Read a positive int for each axis: as `pair` does or, for one axis, one of them."""
    if axes == 2:
        return pair(value, name)
    return _single(value, name, 1, "a positive int")


def extra_per_axis(value: IntPair, name: str, axes: int) -> Sizes:
    """Read an int for each axis that is not negative."""
    if axes == 2:
        return extra_pair(value, name)
    return _single(value, name, 0, "a non-negative int")


def _single(value: OneInt, name: str, least: int, accepted: str) -> Sizes:
    """Read an int, or a sequence of one, into a sequence of one."""
    if is_sequence(value):
        numbers = integers(value, name, accepted)
    else:
        numbers = (_integer(value, name, accepted),)
    if len(numbers) != 1 or numbers[0] < least:
        raise argument_error(ValueError, f"{name} must be {accepted}, got {shown(value)}")
    return numbers


def is_plain_pair(value: object) -> TypeGuard[Pair]:
    """Tell whether `value` is a tuple of two of Python's own ints."""
    return type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int


def _pair(value: IntPair, name: str, least: int, accepted: str) -> Pair:
    if is_sequence(value):
        numbers = integers(value, name, accepted)
    else:
        numbers = (_integer(value, name, accepted),) * 2
    if len(numbers) != 2 or min(numbers) < least:
        raise argument_error(ValueError, f"{name} must be {accepted}, got {shown(value)}")
    return numbers[0], numbers[1]


def positive(value: SupportsIndex, name: str) -> int:
    """Read one positive int."""
    if type(value) is int and value > 0:
        return value
    number = _integer(value, name, "a positive int")
    if number < 1:
        raise argument_error(ValueError, f"{name} must be a positive int, got {shown(value)}")
    return number


def not_negative(value: SupportsIndex, name: str) -> int:
    """Read one int that is not negative."""
    number = _integer(value, name, "a non-negative int")
    if number < 0:
        raise argument_error(ValueError, f"{name} must be a non-negative int, got {shown(value)}")
    return number


def _padding(value: Padding, name: str, axes: int = 2) -> Pads:
    """Read padding into an int, "valid", "same" or the sides of each axis."""
    if type(value) is int and value >= 0:
        return value
    if axes == 2 and is_plain_pair(value) and value[0] >= 0 and value[1] >= 0:
        return (value[0], value[0]), (value[1], value[1])
    accepted = f"{SIDES if axes == 2 else ENDS}, {WORDS}"
    if isinstance(value, str):
        if value not in ("valid", "same"):
            raise argument_error(ValueError, f"{name} must be {accepted}, got {shown(value)}")
        return str(value)
    return sides(value, name, accepted) if axes == 2 else (_ends(value, name, accepted),)


def _ends(value: Padding, name: str, accepted: str) -> Pair:
    """Read the padding of a signal that is told in numbers into (before, after)."""
    values: Any = value
    if is_sequence(values) and len(values) == 1:  # As PyTorch's modules hold it, or as it is kept.
        values = values[0]
    if is_sequence(values):
        ends = integers(values, name, accepted)
    else:
        ends = (_integer(values, name, accepted, value),) * 2
    if len(ends) != 2 or min(ends) < 0:
        raise argument_error(ValueError, f"{name} must be {accepted}, got {shown(value)}")
    return ends[0], ends[1]


def sides(value: Padding, name: str, accepted: str = SIDES) -> Pairs:
    """Read padding that is told in numbers into ((top, bottom), (left, right))."""
    found: list[tuple[int, ...]]
    values: Any = value
    if not is_sequence(value):
        found = [(_integer(value, name, accepted),) * 2] * 2
    elif any(map(is_sequence, values)):
        found = [integers(side, name, accepted) if is_sequence(side) else () for side in values]
    else:
        found = [(n, n) for n in integers(values, name, accepted)]
    if len(found) != 2 or any(len(side) != 2 or min(side) < 0 for side in found):
        raise argument_error(ValueError, f"{name} must be {accepted}, got {shown(value)}")
    (top, bottom), (left, right) = found
    return (top, bottom), (left, right)


def number(value: SupportsFloat, name: str, accepted: str = "a number") -> float:
    """Read a number as a float."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except TypeError:
        kind: type[Exception] = TypeError
    except OverflowError:  # An int is beyond the largest float.
        kind = ValueError
    raise argument_error(kind, f"{name} must be {accepted}, got {shown(value)}")


def generator(seed: Any, name: str = "seed") -> np.random.Generator:
    """Read a generator of random numbers, or what NumPy makes one of."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        kind = ValueError if isinstance(seed, SupportsIndex) else TypeError
    accepted = "a non-negative int or a numpy.random.Generator"
    raise argument_error(kind, f"{name} must be {accepted}, got {shown(seed)}")


def is_sequence(value: Any) -> bool:
    """Tell whether `value` has elements to read: a tuple, a list, an array of one dimension."""
    if isinstance(value, (tuple, list)):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def integers(values: Any, name: str, accepted: str) -> tuple[int, ...]:
    """Read the elements of a sequence as ints."""
    return tuple([v if type(v) is int else _integer(v, name, accepted, values) for v in values])


def _integer(value: Any, name: str, accepted: str, whole: Any = None) -> int:
    """Convert to int what is an integer: neither a float, even 1.0, nor a bool."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        given = value if whole is None else whole
        raise argument_error(TypeError, f"{name} must be {accepted}, got {shown(given)}") from None


def one_of(value: str, name: str, choices: tuple[str, ...]) -> str:
    """Read one of several words."""
    if type(value) is str and value in choices:
        return value
    kind = ValueError if isinstance(value, str) else TypeError
    raise argument_error(
        kind, f"{name} must be one of {', '.join(map(repr, choices))}, got {shown(value)}"
    )


def image_shape(value: Sequence[int], name: str, ndim: int, axes: int = 2) -> tuple[int, ...]:
    """Read a shape of positive ints, of which only a batch, before channels and axes, may be 0."""
    accepted = "a sequence of positive ints"
    if not is_sequence(value):
        raise argument_error(TypeError, f"{name} must be {accepted}, got {shown(value)}")
    shape = integers(value, name, accepted)
    if len(shape) != ndim or min(shape) < 0 or 0 in shape[-1 - axes :]:
        raise argument_error(
            ValueError, f"{name} must be {accepted} and of length {ndim}, got {shown(value)}"
        )
    return shape


def array_shape(value: Sequence[int], name: str) -> tuple[int, ...]:
    """Read a shape of any length, of ints that are not negative."""
    if not is_sequence(value):
        raise argument_error(TypeError, f"{name} must be a sequence of ints, got {shown(value)}")
    shape = integers(value, name, "a sequence of ints")
    if min(shape, default=0) < 0:
        raise argument_error(ValueError, f"{name} must not have negative sizes, got {shown(value)}")
    return shape


def bools(value: Sequence[bool], name: str, count: int) -> tuple[bool, ...]:
    """Read a sequence of `count` bools."""
    flags: tuple[Any, ...] = tuple(value) if is_sequence(value) else (None,)
    are_bools = all(isinstance(flag, (bool, np.bool_)) for flag in flags)
    if are_bools and len(flags) == count:
        return flags
    kind = ValueError if are_bools else TypeError
    raise argument_error(kind, f"{name} must be a sequence of {count} bools, got {shown(value)}")


def steps(
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    padding_name: str = "padding",
    axes: int = 2,
) -> tuple[Sizes, Pads, Sizes]:
    """Read how a window steps over an image, in forms that can be keys of a cache.

    Faces keep what they computed from shapes and window arguments. They pass plain ints on as they
    are, and read everything else first: a cache would find 1.0, True or (1.0, 1) where 1 or (1, 1)
    was kept, and never refuse them.
    """
    return (
        per_axis(stride, "stride", axes),
        _padding(padding, padding_name, axes),
        per_axis(dilation, "dilation", axes),
    )


def window(
    size: Sizes,
    kernel: Sizes,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair = 1,
    pad_mode: str = "constant",
    *,
    padding_name: str = "padding",
) -> Window:
    """Read the window of a convolution over an image, or a signal, of `size`."""
    pad_mode = one_of(pad_mode, "pad_mode", PAD_MODES)
    strides, pads, dilations = steps(stride, padding, dilation, padding_name, len(size))
    return Window(size, kernel, strides, dilations, pads, pad_mode)


def pooling_window(
    size: Sizes,
    kernel: Sizes,
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Window:
    """Read the window of a pooling, whose stride is the kernel's size if it is None."""
    strides, pads, dilations = steps(
        kernel if stride is None else stride, padding, dilation, axes=len(size)
    )
    return _window.pooling_window(size, kernel, strides, dilations, pads, ceil_mode)


def transposed_window(
    shape: Sizes,
    kernel: Sizes,
    stride: IntPair,
    padding: Padding,
    output_padding: IntPair,
    dilation: IntPair,
) -> tuple[Sizes, Window]:
    """Read the size that `shape` is spread to, and the window that brings it back."""
    strides, pads, dilations = steps(stride, padding, dilation, axes=len(shape))
    extra = extra_per_axis(output_padding, "output_padding", len(shape))
    return _window.transposed_window(shape, kernel, strides, pads, extra, dilations)


def unpooled_size(
    shape: tuple[int, ...],
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    output_size: IntPair | None,
    axes: int = 2,
) -> Sizes:
    """Read the size of the image that was pooled to `shape`: the least one, or the one given."""
    kernel = per_axis(kernel_size, "kernel_size", axes)
    strides = kernel if stride is None else per_axis(stride, "stride", axes)
    pads = _padding(padding, "padding", axes)
    _window.check_unpooled(kernel, strides, pads)
    if output_size is None:
        return _window.unpooled_size(shape[-axes:], kernel, strides, pads)
    whole = tuple(output_size) if is_sequence(output_size) else ()  # type: ignore[arg-type]
    if len(whole) == len(shape):
        sizes = integers(whole, "output_size", "a size or a whole shape")
        if sizes[:-axes] != shape[:-axes]:
            raise argument_error(
                ValueError,
                f"output_size must begin with {shape[:-axes]} as the input does, got "
                f"{shown(output_size)}",
            )
        output_size = sizes[-axes:]
    return per_axis(output_size, "output_size", axes)
