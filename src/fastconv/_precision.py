"""How exact convolutions must be, which decides how few multiplications they may take."""

from __future__ import annotations

from fastconv._arguments import one_of
from fastconv._errors import named
from fastconv._setting import Block, Setting

PRECISIONS = ("highest", "high")

_setting = Setting("fastconv.precision", "highest")


@named
def set_precision(precision: str) -> None:
    """Set how exact convolutions must be, for the whole process except in `precision` blocks.

    Parameters
    ----------
    precision : {"highest", "high"}
        "highest", the default, bounds the error to 1.1 times that of NumPy's
        ``im2col(...) @ weight``. "high" bounds the relative root-mean-square error in float32 to
        1.2e-6, which lets 3x3 convolutions of stride 1 do with a quarter of the multiplications,
        rather than with half of them. Both may be exceeded where most terms of a sum are zero or
        much smaller than the others; ``docs/winograd.md`` tells by how much.

    Raises
    ------
    TypeError
        If `precision` is not a string.
    ValueError
        If `precision` is none of those named.

    See Also
    --------
    plan_conv2d : Tells which algorithm runs.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.set_precision("high")
    >>> fastconv.get_precision()
    'high'
    >>> fastconv.set_precision("highest")
    """
    _setting.everywhere = one_of(precision, "precision", PRECISIONS)


def get_precision() -> str:
    """Return how exact convolutions must be.

    Returns
    -------
    str
        Precision of the `precision` block around the call. Outside of blocks it is the one that
        `set_precision` set last, and "highest" at first.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_precision()
    'highest'
    """
    return _setting.get()


@named
class precision(Block[str]):
    """Set how exact convolutions must be within a ``with`` block.

    The setting holds in the context of the block, as that of `numpy.errstate` does: in the thread
    or in the asyncio task of the block, and in tasks that this one starts. Other threads keep their
    own.

    Parameters
    ----------
    precision : {"highest", "high"}
        As for `set_precision`.

    Raises
    ------
    TypeError
        If `precision` is not a string.
    ValueError
        If `precision` is none of those named.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.precision("high"):
    ...     fastconv.get_precision()
    'high'
    """

    def __init__(self, precision: str) -> None:
        super().__init__(_setting, one_of(precision, "precision", PRECISIONS))
