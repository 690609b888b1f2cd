"""How exact convolutions must be, which decides how few multiplications they may take."""

from __future__ import annotations

from fastconv._arguments import one_of
from fastconv._errors import named
from fastconv._setting import Block, Setting

PRECISIONS = ("highest", "high")

_setting = Setting("fastconv.precision", "highest")


@named
def set_precision(precision: str) -> None:
    """Set how exact convolutions must be, for the whole process but within blocks of `precision`.

    Parameters
    ----------
    precision : {"highest", "high"}
        "highest", the default: the error is not larger than 1.1 times that of NumPy's
        ``im2col(...) @ weight``. "high": a relative root-mean-square error of at most 1.2e-6 in
        float32, which lets 3x3 convolutions of stride 1 multiply a quarter as often, instead of
        at most half as often. Where few of a sum's terms count, as most are zero or much smaller,
        both may be exceeded: ``docs/winograd.md`` tells by how much.

    Raises
    ------
    TypeError
        If `precision` is not a string.
    ValueError
        If it is none of those named.

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
        That of the block of `precision` around the call; or what `set_precision` set last, at first
        "highest".

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

    It holds in the context of the block, as of `numpy.errstate`: in its thread, or in its asyncio
    task and those that this one starts. Other threads keep theirs.

    Parameters
    ----------
    precision : {"highest", "high"}
        As for `set_precision`.

    Raises
    ------
    TypeError
        If `precision` is not a string.
    ValueError
        If it is none of those named.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.precision("high"):
    ...     fastconv.get_precision()
    'high'
    """

    def __init__(self, precision: str) -> None:
        super().__init__(_setting, one_of(precision, "precision", PRECISIONS))
