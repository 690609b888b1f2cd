"""Sliding windows: how window arguments are read, the one size formula, and its errors."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from math import gcd
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

IntPair: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | npt.NDArray[np.integer[Any]]
Padding: TypeAlias = IntPair | str | Sequence[Sequence[int]]
Pair: TypeAlias = tuple[int, int]
Pairs: TypeAlias = tuple[Pair, Pair]

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")  # the order window.h numbers them

# Kernels compute positions, and products of a few of them, in signed 64-bit integers.
LARGEST = 2**40


class Window:
    """The geometry of a window sliding over an image of a given size.

    Attributes
    ----------
    out_h, out_w : int
        Output size, ``floor((size + before + after - dilation*(kernel - 1) - 1) / stride) + 1``
        (rounded up with ``ceil_mode``, less a window that would start in the padding behind).
    is_dense_3x3 : bool
        Whether it has 3x3 taps, and stride and dilation are 1.
    packed : ndarray of intp, shape (2, 8)
        All numbers of both axes for the kernels, in the order of ``struct Axis`` in ``window.h``.
    """

    __slots__ = ("is_dense_3x3", "out_h", "out_w", "packed")

    def __init__(
        self,
        size: Pair,
        kernel: Pair,
        stride: Pair,
        dilation: Pair,
        padding: int | str | Pairs,
        pad_mode: str,
        ceil_mode: bool = False,
        out: Pair | None = None,
    ) -> None:
        span = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
        if padding == "same":
            pads = (
                _same_padding(size[0], stride[0], span[0]),
                _same_padding(size[1], stride[1], span[1]),
            )
        else:
            pads = _explicit_padding(padding)
        padded = size[0] + sum(pads[0]), size[1] + sum(pads[1])
        if max(*padded, *span, *stride) > LARGEST:
            raise ValueError(
                f"padded input {padded}, kernel {kernel} with dilation {dilation} or stride "
                f"{stride} is too large: the limit is {LARGEST} positions"
            )
        if padded[0] < span[0] or padded[1] < span[1]:
            raise ValueError(
                f"kernel {kernel} with dilation {dilation} does not fit the padded input {padded}"
            )
        if out is None:
            out = (
                _out_size(size[0], pads[0], stride[0], span[0], ceil_mode),
                _out_size(size[1], pads[1], stride[1], span[1], ceil_mode),
            )
        self.out_h, self.out_w = out
        mode = PAD_MODES.index(pad_mode)
        self.packed = np.array(
            [
                # The stride of a single output and the dilation of a single tap mean nothing, and
                # must cost nothing.
                (n, o, k, s if o > 1 else 1, d if k > 1 else 1, *pad, mode)
                for n, o, k, s, d, pad in zip(size, out, kernel, stride, dilation, pads)
            ],
            dtype=np.intp,
        )
        self.packed.flags.writeable = False
        self.is_dense_3x3 = bool((self.packed[:, 2:5] == (3, 1, 1)).all())


def _out_size(size: int, padding: Pair, stride: int, span: int, ceil_mode: bool) -> int:
    """Return how many places a window has."""
    steps, rest = divmod(size + sum(padding) - span, stride)
    return steps + 1 + (ceil_mode and rest > 0 and (steps + 1) * stride < size + padding[0])


def _same_padding(size: int, stride: int, span: int) -> Pair:
    """Return padding that makes ceil(size / stride) outputs, the odd pixel behind."""
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def _explicit_padding(padding: int | str | Pairs) -> Pairs:
    """Return ((top, bottom), (left, right)) of padding that is not "same"."""
    if isinstance(padding, tuple):
        return padding
    pixels = padding if isinstance(padding, int) else 0  # "valid"
    return (pixels, pixels), (pixels, pixels)


def window(
    size: Pair,
    kernel: Pair,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair = 1,
    pad_mode: str = "constant",
    *,
    padding_name: str = "padding",
) -> Window:
    """Return the window of a convolution over an image of `size` (height, width)."""
    pad_mode = one_of(pad_mode, "pad_mode", PAD_MODES)
    return _window(
        size,
        kernel,
        pair(stride, "stride"),
        pair(dilation, "dilation"),
        _padding(padding, padding_name),
        pad_mode,
        False,
    )


def pooling_window(
    size: Pair,
    kernel: Pair,
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Window:
    """Return the window of a pooling, which always holds a real pixel; None: stride is kernel."""
    return _pooling_window(
        size,
        kernel,
        kernel if stride is None else pair(stride, "stride"),
        pair(dilation, "dilation"),
        _padding(padding, "padding"),
        "constant",
        bool(ceil_mode),
    )


def transposed_window(
    shape: Pair,
    kernel: Pair,
    stride: IntPair,
    padding: Padding,
    output_padding: IntPair,
    dilation: IntPair,
) -> tuple[Pair, Window]:
    """Return the size that `shape` is spread to, and the window that brings it back."""
    return _transposed_window(
        shape,
        kernel,
        pair(stride, "stride"),
        _padding(padding, "padding"),
        _pair(output_padding, "output_padding", 0, "a non-negative int or a pair of them"),
        pair(dilation, "dilation"),
    )


@lru_cache(maxsize=512)
def _transposed_window(
    shape: Pair,
    kernel: Pair,
    stride: Pair,
    padding: int | str | Pairs,
    output_padding: Pair,
    dilation: Pair,
) -> tuple[Pair, Window]:
    if padding == "same":
        raise ValueError('padding must not be "same" here: it does not tell the size')
    for extra, s, d in zip(output_padding, stride, dilation):
        if extra >= max(s, d):
            raise ValueError(
                f"output_padding must be smaller than stride or dilation, got {output_padding} "
                f"with stride {stride} and dilation {dilation}"
            )
    sides = _explicit_padding(padding)
    span = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
    h, w = (
        spread + extra
        for spread, extra in zip(_spread_size(shape, stride, sides, span), output_padding)
    )
    if h < 1 or w < 1:
        raise ValueError(
            f"padding {padding!r} leaves nothing: the output for input {shape}, kernel {kernel}, "
            f"stride {stride} and dilation {dilation} would be {h, w}"
        )
    return (h, w), Window((h, w), kernel, stride, dilation, sides, "constant", out=shape)


def _spread_size(shape: Pair, stride: Pair, padding: Pairs, span: Pair) -> Pair:
    """Return the least size over which a window has `shape` places; the size formula, inverted."""
    h, w = ((n - 1) * s - sum(p) + k for n, s, p, k in zip(shape, stride, padding, span))
    return h, w


def unpooled_size(
    shape: tuple[int, ...],
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    output_size: IntPair | None,
) -> Pair:
    """Return the size of the image that was pooled to `shape`: the least one, or the one given."""
    kernel = pair(kernel_size, "kernel_size")
    steps = kernel if stride is None else pair(stride, "stride")
    pads = _padding(padding, "padding")
    if pads == "same":
        raise ValueError('padding must not be "same" here: it does not tell the size')
    sides = _explicit_padding(pads)
    if max(*kernel, *steps, *sides[0], *sides[1]) > LARGEST:
        raise ValueError(
            f"kernel {kernel}, stride {steps} or padding {padding!r} is too large: the limit is "
            f"{LARGEST} positions"
        )
    if output_size is not None:
        whole = tuple(output_size) if is_sequence(output_size) else ()  # type: ignore[arg-type]
        if len(whole) == len(shape):
            *batch, h, w = integers(whole, "output_size", "a size or a whole shape")
            if tuple(batch) != shape[:-2]:
                raise ValueError(
                    f"output_size must begin with {shape[:-2]} as the input does, "
                    f"got {output_size!r}"
                )
            output_size = h, w
        return pair(output_size, "output_size")
    h, w = _spread_size((shape[-2], shape[-1]), steps, sides, kernel)
    if h < 1 or w < 1:
        raise ValueError(
            f"padding {padding!r} leaves nothing: the size for input {shape}, kernel_size "
            f"{kernel} and stride {steps} would be {h, w}"
        )
    return h, w


_window = lru_cache(maxsize=512)(Window)


@lru_cache(maxsize=512)
def _pooling_window(*arguments: Any) -> Window:
    found = Window(*arguments)
    for axis, name in zip(found.packed.tolist(), ("vertical", "horizontal")):
        size, out, kernel, stride, dilation, before, after, _ = axis
        if max(before, after) > dilation * (kernel - 1):
            raise ValueError(
                f"padding must be smaller than dilation*(kernel_size - 1) + 1 on each side for "
                f"pooling, got {(before, after)} with kernel {kernel} and dilation {dilation} "
                f"({name})"
            )
        # A window starts in the padding at -before + o*stride; its first tap at or behind 0 is at
        # that modulo dilation, which repeats. (The padding's bound keeps all other windows real.)
        starts = range(-before, min(0, -before + out * stride), stride)
        starts = starts[: dilation // gcd(dilation, stride)]
        if dilation > size and any(start % dilation >= size for start in starts):
            raise ValueError(
                f"every window of a pooling must hold a pixel: with dilation {dilation} and "
                f"padding {(before, after)} one lies beside all {size} ({name})"
            )
    return found


def pair(value: IntPair, name: str) -> Pair:
    """Read a positive int or a pair of them, (vertical, horizontal)."""
    if type(value) is int and value > 0:
        return value, value
    return _pair(value, name, 1, "a positive int or a pair of them")


def _pair(value: IntPair, name: str, least: int, accepted: str) -> Pair:
    if is_sequence(value):
        numbers = integers(value, name, accepted)
    else:
        numbers = (_integer(value, name, accepted),) * 2
    if len(numbers) != 2 or min(numbers) < least:
        raise ValueError(f"{name} must be {accepted}, got {value!r}")
    return numbers[0], numbers[1]


def positive(value: SupportsIndex, name: str) -> int:
    """Read one positive int."""
    if type(value) is int and value > 0:
        return value
    number = _integer(value, name, "a positive int")
    if number < 1:
        raise ValueError(f"{name} must be a positive int, got {value!r}")
    return number


def _padding(value: Padding, name: str) -> int | str | Pairs:
    """Read padding into an int, "valid", "same" or ((top, bottom), (left, right))."""
    if type(value) is int and value >= 0:
        return value
    accepted = (
        "a non-negative int, a pair (vertical, horizontal), ((top, bottom), (left, right)), "
        '"valid" or "same"'
    )
    if isinstance(value, str):
        if value not in ("valid", "same"):
            raise ValueError(f"{name} must be {accepted}, got {value!r}")
        return str(value)
    sides: list[tuple[int, ...]]
    values: Any = value
    if not is_sequence(value):
        sides = [(_integer(value, name, accepted),) * 2] * 2
    elif any(map(is_sequence, values)):
        sides = [integers(side, name, accepted) if is_sequence(side) else () for side in values]
    else:
        sides = [(n, n) for n in integers(value, name, accepted)]
    if len(sides) != 2 or any(len(side) != 2 or min(side) < 0 for side in sides):
        raise ValueError(f"{name} must be {accepted}, got {value!r}")
    (top, bottom), (left, right) = sides
    return (top, bottom), (left, right)


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


def _integer(value: Any, name: str, accepted: str, shown: Any = None) -> int:
    """Convert to int what is an integer: neither a float, even 1.0, nor a bool."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        shown = value if shown is None else shown
        raise TypeError(f"{name} must be {accepted}, got {shown!r}") from None


def one_of(value: str, name: str, choices: tuple[str, ...]) -> str:
    """Read one of several words."""
    if type(value) is str and value in choices:
        return value
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
