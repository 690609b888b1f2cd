"""Weights that are packed once, for many calls."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._arrays import NUMBERS, Array, Shape, read, weight_shape
from fastconv._errors import named
from fastconv._memory import new_array

MOST_PACKS = 4
"""The largest number of packs of the same weights that are kept."""

Key: TypeAlias = tuple[Any, ...]


class Packs:
    """What kernels have packed of weights that never change: blocks of bytes, by key.

    A kernel makes the key of all that decides what its block contains. The mapping is replaced as a
    whole and never changed, so threads need no lock, which a forked child might find taken. Two
    threads that miss the same block both fill one, and the last one stays.
    """

    def __init__(self) -> None:
        self._blocks: dict[Key, Array] = {}

    @property
    def nbytes(self) -> int:
        """Number of bytes of all blocks."""
        return sum(block.nbytes for block in self._blocks.values())

    def find(self, key: Key) -> Array | None:
        """Return a block that was kept, or None."""
        return self._blocks.get(key)

    def new_block(self, n_bytes: int) -> Array:
        """Return memory for a block; it is the caller's until it is kept."""
        return new_array((n_bytes,), np.dtype(np.uint8))

    def keep(self, key: Key, block: Array) -> None:
        """Keep a block that is complete, and drop the oldest if there are too many."""
        kept = [*self._blocks.items(), (key, block)]
        self._blocks = dict(kept[-MOST_PACKS:])


@named
class PackedWeight:
    """Weights that are packed once, and used by many calls of `conv2d` or `conv_transpose2d`.

    Also `conv1d` and `conv_transpose1d` take them. These functions copy their weight to an order
    that suits the processor or transform it, each time they are called. A `PackedWeight`, passed as
    `weight`, keeps what the first call has made, so that later ones compute at once. The results
    are those of the plain weight, bit for bit.

    Parameters
    ----------
    weight : array_like, shape (F, C/groups, KH, KW) or (F, C/groups, K)
        Filters, or those of a transposed convolution. They are copied: what becomes of the array
        later does not matter.

    Raises
    ------
    TypeError
        If the weight is of none of the dtypes that `conv2d` accepts.
    ValueError
        If the weight has neither four dimensions nor three, or is empty.

    See Also
    --------
    conv2d : Takes it in place of an array.
    conv_transpose2d : Takes it in place of an array.

    Notes
    -----
    What is packed depends on the algorithm and its tiles, the dtype that is computed with, the
    groups, the CPU level and, for `conv_transpose2d`, the window. It depends neither on the size of
    the images nor on the batch nor on the number of threads. At most four packs are kept; the
    oldest makes room for a fifth. A pack of the direct algorithm is as large as the weight, with
    the filters of a group filled up to whole vectors. Those of "winograd" are 1.8 or 4 times as
    large, for tiles of 2x2 and 4x4 outputs, with up to 16 filters for 14. `nbytes` counts
    everything, and is freed with the object.

    Several threads may use one object at the same time. Copies and pickles contain the weights but
    no packs. Every other function takes a `PackedWeight` as the array that it holds.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> rng = np.random.default_rng(0)
    >>> weight = rng.standard_normal((64, 32, 3, 3), dtype=np.float32)
    >>> packed = fastconv.PackedWeight(weight)
    >>> for _ in range(3):  # Images arrive one by one.
    ...     image = rng.standard_normal((1, 32, 14, 14), dtype=np.float32)
    ...     features = fastconv.conv2d(image, packed, padding=1, activation="relu")
    >>> np.array_equal(features, fastconv.conv2d(image, weight, padding=1, activation="relu"))
    True
    >>> packed
    PackedWeight(<(64, 32, 3, 3) float32>)
    >>> packed.nbytes > weight.nbytes
    True
    """

    def __init__(self, weight: npt.ArrayLike) -> None:
        owner = np.array(read(weight, "weight", NUMBERS), order="C", subok=False)
        weight_shape(owner.shape, 1 if owner.ndim == 3 else 2)
        owner.setflags(write=False)
        # NumPy never makes a view of read-only memory writable, but would the owner of it.
        self._weight = owner[...]
        self._packs = Packs()

    @property
    def shape(self) -> Shape:
        """Shape of the weight."""
        return self._weight.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the weight."""
        return self._weight.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the weight and of all that is kept packed."""
        return self._weight.nbytes + self._packs.nbytes

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Return the weight, which is read-only unless it is copied."""
        if dtype is None and not copy:
            return self._weight
        return np.array(self._weight, dtype, copy=copy)

    def __reduce__(self) -> tuple[type[PackedWeight], tuple[Array]]:
        """Leave packs out of pickles and copies: the first call makes them again."""
        return type(self), (self._weight,)

    def __repr__(self) -> str:
        """Show the shape and dtype of the weight."""
        return f"{type(self).__name__}(<{self.shape} {self.dtype}>)"


def packs_of(weight: object) -> Packs | None:
    """Return where kernels keep what they pack of a weight; None if it is not a `PackedWeight`."""
    return weight._packs if isinstance(weight, PackedWeight) else None
