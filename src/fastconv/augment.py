"""Changes of images that multiply what there is to learn from, and those that prepare images.

Every transform is called with a batch of images (N, C, H, W) of any dtype of numbers and, if it is
random, with a generator: ``transform(images, rng)``. It draws anew for every image, leaves what it
is given as it was, and returns a new array of the same dtype (`Normalize` gives floats). A function
of the same arguments can stand wherever a transform can.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._arguments import (
    IntPair,
    Padding,
    extra_pair,
    generator,
    is_sequence,
    number,
    one_of,
    pair,
    sides,
)
from fastconv._arrays import NUMBERS, Array, batch_shape, computed_dtype, read
from fastconv._errors import argument_error, named, shown
from fastconv._window import LARGEST, PAD_MODES, Pair, Pairs

__all__ = [
    "CenterCrop",
    "Compose",
    "Normalize",
    "Pad",
    "PadTo",
    "RandomCrop",
    "RandomFlip",
    "RandomShift",
]

Transform: TypeAlias = Callable[[Array, np.random.Generator], Array]
"""What changes a batch of images."""
Numbers: TypeAlias = SupportsFloat | Sequence[SupportsFloat] | Array

MEASURED = 1 << 20
"""The number of pixels whose mean and deviation are measured at once, in float64."""


@named
class _Base(ABC):
    """What all transforms here share: how they are called, and how they are shown."""

    def __init_subclass__(cls) -> None:
        """Let errors of the transform begin with its name."""
        super().__init_subclass__()
        named(cls)

    def __call__(
        self, images: npt.ArrayLike, rng: np.random.Generator | int | None = None
    ) -> Array:
        """Change a batch of images.

        Parameters
        ----------
        images : array_like (N, C, H, W)
            The images, of any dtype of numbers. They are not changed.
        rng : numpy.random.Generator or int, optional
            What a random transform draws from, or a seed; without it, no two calls are alike.

        Returns
        -------
        ndarray
            A new array.

        Raises
        ------
        TypeError, ValueError
            If `images` are no batch of images of numbers, or do not fit.
        """
        array = read(images, "images", NUMBERS)
        batch_shape(array.shape, "images", 4, unbatched=False)
        return self._changed(array, rng)

    @abstractmethod
    def _changed(self, images: Array, rng: Any) -> Array:
        """Change images that are known to be a batch."""

    def __repr__(self) -> str:
        """Show the constructor's arguments that are not the defaults."""
        parts = []
        for i, (name, parameter) in enumerate(inspect.signature(type(self)).parameters.items()):
            value = _collapsed(getattr(self, name))
            if value != parameter.default:
                by_position = parameter.default is parameter.empty or i == 0
                parts.append(f"{value!r}" if by_position else f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _collapsed(value: Any) -> Any:
    """Write an int once that is the same on both axes or on all sides."""
    if not isinstance(value, tuple):
        return value
    parts = tuple(map(_collapsed, value))
    if not all(type(part) is int for part in parts):
        return value
    return parts[0] if parts == 2 * parts[:1] else parts


# --- Borders and windows --------------------------------------------------------------------


class _Padded(_Base):
    """A transform that shows what lies around images."""

    pad_mode: str
    fill: float

    def _read_border(self, pad_mode: str, fill: SupportsFloat) -> None:
        self.pad_mode = one_of(pad_mode, "pad_mode", PAD_MODES)
        self.fill = number(fill, "fill")
        if self.fill and pad_mode != "constant":
            raise argument_error(
                ValueError, f'fill is for pad_mode "constant", got {shown(fill)} and {pad_mode!r}'
            )

    def _with_border(self, images: Array, padding: Pairs) -> Array:
        """Return images with a border, in an array that is a new one if there is any border."""
        if padding == ((0, 0), (0, 0)):
            return images
        size = tuple(n + sum(around) for n, around in zip(images.shape[2:], padding))
        if max(size) > LARGEST:
            raise argument_error(
                ValueError, f"padded images {size} are too large: the limit is {LARGEST} positions"
            )
        mode: Any = self.pad_mode
        width = ((0, 0), (0, 0), *padding)
        if mode != "constant":
            return np.pad(images, width, mode)
        return np.pad(images, width, mode, constant_values=_representable(self.fill, images.dtype))


def _representable(fill: float, dtype: np.dtype[Any]) -> Any:
    """Return a number as one of a dtype, or refuse it if an integer dtype does not hold it."""
    if dtype.kind == "f":
        return fill
    lowest, highest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not (lowest <= fill <= highest and fill == math.floor(fill)):
        raise argument_error(
            ValueError,
            f"fill must be an integer from {lowest} to {highest} for images of dtype {dtype}, got "
            f"{fill}",
        )
    return int(fill)


def _windows(images: Array, size: Pair, rng: Any) -> Array:
    """Cut a window out of every image, at a place of its own that is drawn."""
    h, w = images.shape[2:]
    draws, count = generator(rng, "rng"), len(images)
    tops = draws.integers(h - size[0], size=count, endpoint=True)
    lefts = draws.integers(w - size[1], size=count, endpoint=True)
    # An index for every image copies its window row by row, which takes a tenth of the time that
    # an index for every pixel does.
    places = np.lib.stride_tricks.sliding_window_view(images, size, axis=(2, 3))
    windows: Array = places[np.arange(count), :, tops, lefts]
    return windows


def _check_room(size: Pair, images: Pair, advice: str) -> None:
    if size[0] > images[0] or size[1] > images[1]:
        raise argument_error(
            ValueError,
            f"size {size} is larger than the images, which are {images} with their padding: "
            f"{advice}",
        )


class Pad(_Padded):
    """Put a border around images.

    Parameters
    ----------
    padding : int, pair, or ((top, bottom), (left, right))
        How many pixels wide the border is; a pair is (vertical, horizontal).
    pad_mode : str, default "constant"
        What the border shows: "constant", "edge", "reflect", "symmetric" or "wrap", as in
        `numpy.pad`.
    fill : float, default 0
        The value of the border's pixels in the mode "constant".

    Raises
    ------
    TypeError, ValueError
        If an argument is refused or, by a call, if the images' dtype does not hold `fill`.

    See Also
    --------
    PadTo : Pad to a size.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augment import Pad
    >>> Pad((0, 1), fill=9)(np.array([[[[1, 2]]]]))
    array([[[[9, 1, 2, 9]]]])
    """

    def __init__(
        self, padding: Padding, pad_mode: str = "constant", fill: SupportsFloat = 0
    ) -> None:
        self.padding = sides(padding, "padding")
        self._read_border(pad_mode, fill)

    def _changed(self, images: Array, rng: Any) -> Array:
        padded = self._with_border(images, self.padding)
        return padded.copy() if padded is images else padded


class PadTo(_Padded):
    """Put a border around images that makes them of one size, with the image in the middle.

    Parameters
    ----------
    size : int or pair of ints
        The size after padding; an int stands for both height and width. Where the border cannot
        be as wide on both sides, it is one pixel wider below or on the right.
    pad_mode : str, default "constant"
        What the border shows: "constant", "edge", "reflect", "symmetric" or "wrap", as in
        `numpy.pad`.
    fill : float, default 0
        The value of the border's pixels in the mode "constant".

    Raises
    ------
    TypeError, ValueError
        If an argument is refused or, by a call, if the images are larger than `size` or of a dtype
        that does not hold `fill`.

    See Also
    --------
    CenterCrop : The way back.

    Examples
    --------
    >>> from fastconv.augment import PadTo
    >>> from fastconv.datasets import load_digits
    >>> (x_train, t_train), _ = load_digits()
    >>> x_train.shape, PadTo(32)(x_train).shape
    ((1438, 1, 8, 8), (1438, 1, 32, 32))
    """

    def __init__(self, size: IntPair, pad_mode: str = "constant", fill: SupportsFloat = 0) -> None:
        self.size = pair(size, "size")
        self._read_border(pad_mode, fill)

    def _changed(self, images: Array, rng: Any) -> Array:
        h, w = (wanted - n for wanted, n in zip(self.size, images.shape[2:]))
        if h < 0 or w < 0:
            raise argument_error(
                ValueError,
                f"size {self.size} is smaller than the images, which are {images.shape[2:]}: "
                "CenterCrop and RandomCrop make them smaller",
            )
        padded = self._with_border(images, ((h // 2, h - h // 2), (w // 2, w - w // 2)))
        return padded.copy() if padded is images else padded


class CenterCrop(_Base):
    """Cut out the middle of images.

    Parameters
    ----------
    size : int or pair of ints
        The size of the part; an int stands for both height and width. Where there is no middle, it
        is the part that is half a pixel nearer to the top or to the left.

    Raises
    ------
    TypeError, ValueError
        If `size` is refused or, by a call, larger than the images.

    See Also
    --------
    PadTo : Pad smaller images to a size.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augment import CenterCrop
    >>> CenterCrop((1, 2))(np.arange(12).reshape(1, 1, 3, 4))
    array([[[[5, 6]]]])
    """

    def __init__(self, size: IntPair) -> None:
        self.size = pair(size, "size")

    def _changed(self, images: Array, rng: Any) -> Array:
        height, width = images.shape[2:]
        _check_room(self.size, (height, width), "PadTo makes images larger")
        (h, w) = self.size
        top, left = (height - h) // 2, (width - w) // 2
        return images[:, :, top : top + h, left : left + w].copy()


class RandomCrop(_Padded):
    """Cut a part of one size out of every image, at a place that is drawn.

    Parameters
    ----------
    size : int or pair of ints
        The size of the part; an int stands for both height and width.
    padding : int, pair, or ((top, bottom), (left, right)), default 0
        How many pixels wide a border is put around images before, for instance 4 for parts of
        32 x 32 pixels [1]_; a pair is (vertical, horizontal).
    pad_mode : str, default "constant"
        What the border shows: "constant", "edge", "reflect", "symmetric" or "wrap", as in
        `numpy.pad`.
    fill : float, default 0
        The value of the border's pixels in the mode "constant".

    Raises
    ------
    TypeError, ValueError
        If an argument is refused or, by a call, if the images are smaller than `size` or of a dtype
        that does not hold `fill`.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, https://arxiv.org/abs/1512.03385

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augment import RandomCrop
    >>> RandomCrop(32, padding=4)(np.zeros((100, 3, 32, 32), np.uint8), rng=0).shape
    (100, 3, 32, 32)
    """

    def __init__(
        self,
        size: IntPair,
        padding: Padding = 0,
        pad_mode: str = "constant",
        fill: SupportsFloat = 0,
    ) -> None:
        self.size = pair(size, "size")
        self.padding = sides(padding, "padding")
        self._read_border(pad_mode, fill)

    def _changed(self, images: Array, rng: Any) -> Array:
        h, w = (n + sum(around) for n, around in zip(images.shape[2:], self.padding))
        _check_room(self.size, (h, w), "padding makes them larger")
        return _windows(self._with_border(images, self.padding), self.size, rng)


class RandomShift(_Padded):
    """Move every image by whole pixels, in a direction that is drawn; its size stays.

    Parameters
    ----------
    pixels : int or pair of ints
        How far images move at most, up as well as down and left as well as right; a pair is
        (vertical, horizontal). All distances are equally likely.
    pad_mode : str, default "constant"
        What moves in at the other side: "constant", "edge", "reflect", "symmetric" or "wrap", as in
        `numpy.pad`.
    fill : float, default 0
        The value of what moves in in the mode "constant".

    Raises
    ------
    TypeError, ValueError
        If an argument is refused or, by a call, if the images' dtype does not hold `fill`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augment import RandomShift
    >>> RandomShift((0, 2))(np.full((3, 1, 1, 4), [1, 2, 3, 4]), rng=0)[:, 0, 0]
    array([[3, 4, 0, 0],
           [2, 3, 4, 0],
           [1, 2, 3, 4]])
    """

    def __init__(
        self, pixels: IntPair, pad_mode: str = "constant", fill: SupportsFloat = 0
    ) -> None:
        self.pixels = extra_pair(pixels, "pixels")
        self._read_border(pad_mode, fill)

    def _changed(self, images: Array, rng: Any) -> Array:
        vertical, horizontal = self.pixels
        padding = (vertical, vertical), (horizontal, horizontal)
        h, w = images.shape[2:]
        return _windows(self._with_border(images, padding), (h, w), rng)


# --- Mirror images and values ---------------------------------------------------------------


class RandomFlip(_Base):
    """Turn some images into their mirror images.

    Parameters
    ----------
    p : float, default 0.5
        The probability of each flip, from 0 to 1.
    horizontal : bool, default True
        Exchange left and right.
    vertical : bool, default False
        Exchange top and bottom; with both, an image is flipped in each way, in one or in none.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augment import RandomFlip
    >>> RandomFlip()(np.full((3, 1, 1, 4), [1, 2, 3, 4]), rng=0)[:, 0, 0]
    array([[1, 2, 3, 4],
           [4, 3, 2, 1],
           [4, 3, 2, 1]])
    """

    def __init__(
        self, p: SupportsFloat = 0.5, horizontal: bool = True, vertical: bool = False
    ) -> None:
        self.p = number(p, "p", "a number from 0 to 1")
        if not 0 <= self.p <= 1:
            raise argument_error(ValueError, f"p must be a number from 0 to 1, got {shown(p)}")
        self.horizontal, self.vertical = bool(horizontal), bool(vertical)
        if not (self.horizontal or self.vertical):
            raise argument_error(
                ValueError, "horizontal or vertical must be true, or nothing is ever flipped"
            )

    def _changed(self, images: Array, rng: Any) -> Array:
        draws, result = generator(rng, "rng"), images.copy()
        for axis, is_flipped in ((3, self.horizontal), (2, self.vertical)):
            if is_flipped:
                flipped = draws.random(len(images)) < self.p
                result[flipped] = np.flip(result[flipped], axis)
        return result


class Normalize(_Base):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Floats keep their dtype; from integers float32 is made. Images to train with and images to test
    with need the same numbers, so that this is for the data, before training, and not for the
    augmentation of mini-batches.

    Parameters
    ----------
    mean, std : float or sequence of floats
        Numbers for every channel, or one for all, in the unit of the images: those of pixels from 0
        to 255 are 255 times as large as those of pixels from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused or, by a call, if there are not as many channels.

    Examples
    --------
    >>> from fastconv.augment import Normalize
    >>> from fastconv.datasets import load_digits
    >>> (x_train, t_train), (x_test, t_test) = load_digits()
    >>> normalize = Normalize.of(x_train)
    >>> Normalize([0.5, 0.5, 0.5], 0.25)  # of three channels
    Normalize((0.5, 0.5, 0.5), 0.25)
    >>> x_train, x_test = normalize(x_train), normalize(x_test)
    >>> abs(float(x_train.mean())) < 1e-5, round(float(x_train.std()), 3)
    (True, 1.0)
    """

    def __init__(self, mean: Numbers, std: Numbers) -> None:
        self.mean, self.std = _numbers(mean, "mean"), _numbers(std, "std")
        deviations = self.std if isinstance(self.std, tuple) else (self.std,)
        if min(deviations) <= 0:
            raise argument_error(ValueError, f"std must be positive, got {shown(std)}")
        if isinstance(self.mean, tuple) and isinstance(self.std, tuple):
            means = len(self.mean)
            if means != len(self.std):
                raise argument_error(
                    ValueError,
                    f"mean and std must be of as many channels, got {means} and {len(self.std)}",
                )

    @classmethod
    def of(cls, images: npt.ArrayLike) -> Normalize:
        """Measure the mean and the standard deviation of every channel of images.

        Parameters
        ----------
        images : array_like (N, C, H, W)
            The images, of any dtype of numbers; those to train with, and not those to test with.

        Returns
        -------
        Normalize
            The transform that gives these images mean 0 and standard deviation 1.

        Raises
        ------
        TypeError, ValueError
            If `images` are no batch of images, hold NaN or infinity, or a channel is constant.
        """
        array = read(images, "images", NUMBERS)
        batch_shape(array.shape, "images", 4, unbatched=False)
        if not len(array):
            raise argument_error(ValueError, f"images must not be empty, got shape {array.shape}")
        mean, std = _measured(array)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise argument_error(ValueError, "images must be finite, they hold NaN or infinity")
        constant = np.flatnonzero(std == 0)
        if constant.size:
            channel = int(constant[0])
            raise argument_error(
                ValueError,
                f"images must differ in every channel, channel {channel} is {mean[channel]:g} "
                "everywhere",
            )
        return cls(mean, std)

    def _changed(self, images: Array, rng: Any) -> Array:
        channels = images.shape[1]
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and len(value) != channels:
                raise argument_error(
                    ValueError, f"{name} is of {len(value)} channels, images have {channels}"
                )
        is_float = images.dtype.kind == "f"
        dtype = computed_dtype(images.dtype) if is_float else np.dtype(np.float32)
        mean, std = (np.reshape(np.array(v, dtype), (-1, 1, 1)) for v in (self.mean, self.std))
        result: Array = np.subtract(images, mean, dtype=dtype)
        result /= std
        return result


def _numbers(value: Any, name: str) -> float | tuple[float, ...]:
    """Read a finite number or a sequence of them."""
    accepted = "a finite number or a sequence of them"
    found = [number(n, name, accepted) for n in (value if is_sequence(value) else (value,))]
    if not found or not all(map(math.isfinite, found)):
        raise argument_error(ValueError, f"{name} must be {accepted}, got {shown(value)}")
    return tuple(found) if is_sequence(value) else found[0]


def _measured(images: Array) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of every channel, in a few MiB of memory."""
    channels = images.shape[1]
    step = max(1, MEASURED // images[0].size)
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    with np.errstate(over="ignore", invalid="ignore"):  # The caller looks for infinities.
        for first in range(0, len(images), step):
            part = images[first : first + step].astype(np.float64)
            size = part.size // channels
            part_mean = part.mean(axis=(0, 2, 3))
            part -= part_mean.reshape(-1, 1, 1)
            # Deviations are from the part's own mean, whose distance to that of all is added.
            distance = part_mean - mean
            squares += np.square(part, out=part).sum(axis=(0, 2, 3))
            squares += distance**2 * (count * size / (count + size))
            count += size
            mean += distance * (size / count)
    return mean, np.sqrt(squares / count)


# --- Several --------------------------------------------------------------------------------


class Compose(_Base):
    """Apply transforms one after the other.

    Parameters
    ----------
    *transforms : callable
        Transforms of this module, or functions of images and a generator, in their order. All draw
        from the one generator.

    Raises
    ------
    TypeError
        If one of them cannot be called.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augment import Compose, RandomCrop, RandomFlip
    >>> augment = Compose(RandomCrop(32, padding=4), RandomFlip())
    >>> augment
    Compose(RandomCrop(32, padding=4), RandomFlip())
    >>> augment(np.zeros((100, 3, 32, 32), np.float32), rng=0).shape
    (100, 3, 32, 32)
    """

    def __init__(self, *transforms: Transform) -> None:
        for transform in transforms:
            if not callable(transform):
                hint = "; write Compose(*transforms)" if is_sequence(transform) else ""
                raise argument_error(
                    TypeError,
                    f"transforms must be callables of images and rng, got {shown(transform)}{hint}",
                )
        self.transforms = transforms

    def _changed(self, images: Array, rng: Any) -> Array:
        draws = generator(rng, "rng")
        for transform in self.transforms:
            images = transform(images, draws)
        return images if self.transforms else images.copy()

    def __repr__(self) -> str:
        """Show the transforms."""
        return f"Compose({', '.join(map(repr, self.transforms))})"
