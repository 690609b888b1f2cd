"""Sliding windows: how window arguments are read, the one size formula, and its errors."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

IntPair: TypeAlias = int | Sequence[int] | npt.NDArray[np.integer[Any]]
Padding: TypeAlias = int | str | Sequence[int] | Sequence[Sequence[int]] | npt.NDArray[np.integer[Any]]
Pairs: TypeAlias = tuple[tuple[int, int], tuple[int, int]]

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")  # the order window.h numbers them

# Kernels compute positions in signed 64-bit integers and multiply them by element sizes.
LARGEST = 2**40


class Window:
    """The geometry of a window sliding over an image of a given size.

    Attributes
    ----------
    out_h, out_w : int
        Output size, ``floor((size + before + after - dilation*(kernel - 1) - 1) / stride) + 1``
        (rounded up with ``ceil_mode``, less the windows that would start in the padding behind).
    kernel : (int, int)
        Kernel size.
    packed : ndarray of intp
        The same numbers for the kernels, in the order of ``struct Window`` in ``window.h``.
    """

    __slots__ = ("kernel", "out_h", "out_w", "packed")

    def __init__(
        self,
        size: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        padding: int | str | Pairs,
        pad_mode: str,
        ceil_mode: bool,
    ) -> None:
        span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
        if isinstance(padding, int):
            padding = (padding, padding), (padding, padding)
        elif padding == "valid":
            padding = (0, 0), (0, 0)
        elif padding == "same":
            padding = tuple(  # type: ignore[assignment]
                _same_padding(*axis) for axis in zip(size, stride, span)
            )
        padded = tuple(n + sum(p) for n, p in zip(size, padding))
        if max(padded) > LARGEST or max(span) > LARGEST or max(stride) > LARGEST:
            raise ValueError(
                f"window too large: padded input {padded}, kernel {kernel} with dilation "
                f"{dilation}, stride {stride}; the limit of each is {LARGEST}"
            )
        if any(n < s for n, s in zip(padded, span)):
            raise ValueError(
                f"kernel {kernel} with dilation {dilation} does not fit the padded input {padded}"
            )
        out = []
        for n, p, k, s, e in zip(size, padding, kernel, stride, span):
            steps = n + sum(p) - e
            o = steps // s + 1
            if ceil_mode and steps % s and o * s < n + p[0]:
                o += 1
            out.append(o)
        self.kernel = kernel
        self.out_h, self.out_w = out
        axes = zip(size, out, kernel, stride, dilation, padding)
        mode = PAD_MODES.index(pad_mode)
        self.packed = np.array(
            [(n, o, k, s, d, *p, mode) for n, o, k, s, d, p in axes], dtype=np.intp
        )
        self.packed.flags.writeable = False


def _same_padding(size: int, stride: int, span: int) -> tuple[int, int]:
    """Padding that makes ceil(size / stride) outputs, the odd pixel behind."""
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def window(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: IntPair,
    padding: Padding,
    dilation: IntPair = 1,
    pad_mode: str = "constant",
    *,
    padding_name: str = "padding",
) -> Window:
    """Return the window of a convolution over an image of `size` (height, width)."""
    if type(pad_mode) is not str or pad_mode not in PAD_MODES:
        raise _not_one_of("pad_mode", pad_mode, PAD_MODES)
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
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Window:
    """Return the window of a pooling, all of which hold a real pixel; a None stride is the kernel."""
    return _pooling_window(
        size,
        kernel,
        kernel if stride is None else pair(stride, "stride"),
        pair(dilation, "dilation"),
        _padding(padding, "padding"),
        "constant",
        bool(ceil_mode),
    )


def unpooled_size(
    shape: tuple[int, ...],
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    output_size: IntPair | None,
) -> tuple[int, int]:
    """Return the size of the image that was pooled to `shape`: the least one, or the one given."""
    kernel = pair(kernel_size, "kernel_size")
    steps = kernel if stride is None else pair(stride, "stride")
    pads = _padding(padding, "padding")
    if pads == "same":
        raise ValueError('padding must not be "same" here: it does not tell the size')
    if output_size is not None:
        if _is_sequence(output_size) and len(output_size) == len(shape) != 2:  # type: ignore[arg-type]
            *batch, h, w = _integers(output_size, "output_size", "a size or a whole shape")
            if tuple(batch) != shape[:-2]:
                raise ValueError(
                    f"output_size must begin with {shape[:-2]} as the input does, "
                    f"got {output_size!r}"
                )
            output_size = h, w
        return pair(output_size, "output_size")
    if not isinstance(pads, tuple):
        pads = ((pads, pads),) * 2 if isinstance(pads, int) else ((0, 0),) * 2
    h, w = ((n - 1) * s - sum(p) + k for n, s, p, k in zip(shape[-2:], steps, pads, kernel))
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
        size, _, kernel, stride, dilation, before, after, _ = axis
        if max(before, after) > dilation * (kernel - 1):
            raise ValueError(
                f"padding must be smaller than dilation*(kernel_size - 1) + 1 on each side for "
                f"pooling, got {(before, after)} with kernel {kernel} and dilation {dilation} "
                f"({name})"
            )
        # A window starts in the padding at -before + o*stride; its first tap at or behind 0
        # is at that modulo dilation. (The padding's bound keeps all other windows real.)
        starts = range(-before, 0, stride)
        if dilation > size and any(start % dilation >= size for start in starts):
            raise ValueError(
                f"every window of a pooling must hold a pixel: with dilation {dilation} and "
                f"padding {(before, after)} one lies beside all {size} ({name})"
            )
    return found


def pair(value: IntPair, name: str) -> tuple[int, int]:
    """Read a positive int or a pair of them, (vertical, horizontal)."""
    if type(value) is int and value > 0:
        return value, value
    accepted = "a positive int or a pair of them"
    if _is_sequence(value):
        numbers = _integers(value, name, accepted)
    else:
        numbers = (_integer(value, name, accepted),) * 2
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(f"{name} must be {accepted}, got {value!r}")
    return numbers[0], numbers[1]


def positive(value: int, name: str) -> int:
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
    if not _is_sequence(value):
        sides = [(_integer(value, name, accepted),) * 2] * 2
    elif any(map(_is_sequence, value)):
        sides = [_integers(side, name, accepted) if _is_sequence(side) else () for side in value]
    else:
        sides = [(n, n) for n in _integers(value, name, accepted)]
    if len(sides) != 2 or any(len(side) != 2 or min(side) < 0 for side in sides):
        raise ValueError(f"{name} must be {accepted}, got {value!r}")
    (top, bottom), (left, right) = sides
    return (top, bottom), (left, right)


def _is_sequence(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _integers(values: Any, name: str, accepted: str) -> tuple[int, ...]:
    return tuple(_integer(value, name, accepted, values) for value in values)


def _integer(value: Any, name: str, accepted: str, shown: Any = None) -> int:
    """Convert to int what is an integer: neither a float, even 1.0, nor a bool."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        shown = value if shown is None else shown
        raise TypeError(f"{name} must be {accepted}, got {shown!r}") from None


def _not_one_of(name: str, value: object, choices: tuple[str, ...]) -> Exception:
    kind = ValueError if isinstance(value, str) else TypeError
    return kind(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
