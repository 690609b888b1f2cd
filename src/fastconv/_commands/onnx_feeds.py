"""What ``fastconv onnx run`` gives to a model: arrays in files, and pictures made into arrays."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _pictures
from fastconv._commands.images import read_picture
from fastconv._commands.shared import CommandError
from fastconv.onnx._model import ValueInfo

__all__ = ["Feeds", "Picture", "read_feeds"]

Array = NDArray[Any]

ARRAYS = (".npy", ".npz")
"""The extensions of files of arrays; all others are pictures."""
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class Picture:
    """How the pixels of a picture become the numbers that a model takes.

    Attributes
    ----------
    scale : float
        What pixels are multiplied with, first.
    mean, std : tuple of float
        What is subtracted then, and what is divided by: one number, or one for each channel in the
        order in which the model takes them.
    size : tuple of int or None
        Height and width; None is what the model takes, or those of the picture if it takes any.
    crop : float
        Which part of the shorter side is kept.
    layout : str or None
        One of LAYOUTS; None to tell it by the number of channels.
    bgr : bool
        Whether the model takes blue, green, red.
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, int] | None = None
    crop: float = 1.0
    layout: str | None = None
    bgr: bool = False

    def read(self, path: str, value: ValueInfo) -> Array:
        """Return a picture as an input (1, C, H, W) or (1, H, W, C)."""
        layout, channels, height, width = self._wanted(value)
        picture, _ = read_picture(path)
        if picture.mode[0] in "IF":
            raise CommandError(
                f"{path}: only pixels of 8 bits are read; give others as an .npy file"
            )
        gray = channels == 1 or (channels is None and picture.mode in _pictures.GRAY_MODES)
        try:
            picture = _pictures.converted(Path(path), picture, "L" if gray else "RGB")
        except _pictures.PictureError as error:
            raise CommandError(str(error)) from error
        wanted = self.size or (height or picture.height, width or picture.width)
        pixels = np.atleast_3d(np.asarray(_fitted(path, picture, wanted, self.crop)))
        if self.bgr:
            pixels = pixels[..., ::-1]
        numbers = self._normalized(pixels, value.dtype)
        if layout == "nchw":
            numbers = numbers.transpose(2, 0, 1)
        return np.ascontiguousarray(numbers[np.newaxis])

    def layout_of(self, value: ValueInfo) -> str:
        """Return the layout of an input of images."""
        last_are_channels = value.shape[1:2] not in ([1], [3]) and value.shape[3:] in ([1], [3])
        return self.layout or ("nhwc" if last_are_channels else "nchw")

    def _wanted(self, value: ValueInfo) -> tuple[str, Any, Any, Any]:
        """Return layout, channels, height and width of an input, None for those that may vary."""
        shape = [size if isinstance(size, int) else None for size in value.shape]
        if len(shape) != 4:
            shape_text = tuple(value.shape) if value.has_shape else "unknown"
            raise CommandError(
                f"the input {value.name!r} takes no pictures: its shape is {shape_text}; "
                "give an .npy file"
            )
        layout = self.layout_of(value)
        channels, height, width = shape[1:] if layout == "nchw" else (shape[3], *shape[1:3])
        if channels not in (None, 1, 3):
            raise CommandError(
                f"the input {value.name!r} has {channels} channels in the layout {layout}, but "
                "pictures have 1 or 3; give an .npy file, or another --layout"
            )
        return layout, channels, height, width

    def _normalized(self, pixels: Array, dtype: np.dtype[Any]) -> Array:
        """Scale pixels (H, W, C); integers stay what they are."""
        for name, numbers in (("--mean", self.mean), ("--std", self.std)):
            if len(numbers) not in (1, pixels.shape[-1]):
                raise CommandError(
                    f"{name} must be 1 number or {pixels.shape[-1]}, one for each channel, "
                    f"got {len(numbers)}"
                )
        if dtype.kind != "f":
            return pixels.astype(dtype)
        numbers = pixels * self.scale - np.array(self.mean)
        normalized: Array = numbers / np.array(self.std)
        return normalized.astype(dtype)


def _fitted(path: str, picture: Any, size: tuple[int, int], crop: float) -> Any:
    """Resize a picture such that it covers a size, and cut out its middle.

    Both are rounded as in torchvision's `Resize` and `CenterCrop`, so that models see what they
    were trained with.
    """
    height, width = size
    factor = max(height / picture.height, width / picture.width) / crop
    larger = (
        max(width, int(picture.width * factor + 1e-6)),
        max(height, int(picture.height * factor + 1e-6)),
    )
    if larger[0] * larger[1] > _pictures.MOST_PIXELS:
        raise CommandError(
            f"{path}: {picture.width} x {picture.height} pixels would be enlarged to "
            f"{larger[0]} x {larger[1]}, more than {_pictures.MOST_PIXELS:,} pixels"
        )
    if larger != picture.size:
        bilinear = importlib.import_module("PIL.Image").Resampling.BILINEAR
        picture = picture.resize(larger, bilinear)
    left, top = round((larger[0] - width) / 2), round((larger[1] - height) / 2)
    return picture.crop((left, top, left + width, top + height))


@dataclass
class Feeds:
    """The arrays of a run, and what its rows are called."""

    arrays: dict[str, Array]
    names: list[str]
    """The files that the arrays are made of."""


def read_feeds(files: Sequence[str], inputs: Sequence[ValueInfo], picture: Picture) -> list[Feeds]:
    """Read the files of a command line: a run for each picture, or one run of arrays.

    Parameters
    ----------
    files : sequence of str
        Pictures, ``.npy`` and ``.npz`` files; ``NAME=FILE`` is for the input of a name.
    inputs : sequence of ValueInfo
        What the model takes.
    picture : Picture
        What is done to pictures.

    Raises
    ------
    CommandError
        If a file cannot be read, or inputs are missing, given twice or unknown.
    """
    by_name = {value.name: value for value in inputs}
    given = [_named(text, by_name) for text in files]
    if not inputs:
        raise CommandError(f"the model takes no input, so that {files[0]} is for none")
    if len(inputs) == 1 and len(given) > 1:
        (value,) = inputs
        return [Feeds(dict([_read(path, value, picture)]), [path]) for _, path in given]
    found: dict[str, Array] = {}
    for name, path in given:
        for key, array in _arrays_of(name, path, by_name, picture):
            if key in found:
                raise CommandError(f"the input {key!r} is given twice, again by {path}")
            found[key] = array
    missing = [name for name in by_name if name not in found]
    if missing:
        raise CommandError(
            f"nothing is given for the input {missing[0]!r}: add {missing[0]}=FILE "
            f"(the model takes {', '.join(by_name)})"
        )
    return [Feeds(found, [path for _, path in given])]


def _named(text: str, known: dict[str, ValueInfo]) -> tuple[str | None, str]:
    """Split ``NAME=FILE``; what is not the name of an input is a part of the file's name."""
    name, equals, path = text.rpartition("=")
    while equals and name not in known:
        name, equals, rest = name.rpartition("=")
        path = f"{rest}={path}"
    if not equals:
        return None, text
    if not path:
        raise CommandError(f"there is no file behind {text!r}")
    return name, path


def _read(path: str, value: ValueInfo, picture: Picture) -> tuple[str, Array]:
    (found,) = _arrays_of(None, path, {value.name: value}, picture)
    return found


def _arrays_of(
    name: str | None, path: str, inputs: dict[str, ValueInfo], picture: Picture
) -> Iterator[tuple[str, Array]]:
    """Yield what a file has for inputs: an archive may have arrays for several."""
    extension = Path(path).suffix.lower()
    if extension == ".npz":
        yield from _members(name, path, inputs)
        return
    if name is None:
        if len(inputs) != 1:
            raise CommandError(
                f"{path}: the model takes {', '.join(inputs)}: write NAME={path} to say which "
                "input it is for"
            )
        (name,) = inputs
    value = inputs[name]
    if extension == ".npy":
        yield name, _converted(path, _loaded(path), value)
    else:
        yield name, picture.read(path, value)


def _members(
    name: str | None, path: str, inputs: dict[str, ValueInfo]
) -> Iterator[tuple[str, Array]]:
    """Read the arrays of an archive, which are called as the inputs, or the only one."""
    arrays = _loaded(path)
    if isinstance(arrays, np.ndarray):
        raise CommandError(f"{path}: it is one array; call it .npy")
    target = name or (next(iter(inputs)) if len(inputs) == 1 else None)
    if target is not None and len(arrays) == 1:
        (array,) = arrays.values()
        yield target, _converted(path, array, inputs[target])
        return
    for key, array in arrays.items():
        if key not in inputs or name not in (None, key):
            raise CommandError(
                f"{path}: there is an array {key!r}, but the model takes {', '.join(inputs)}"
            )
        yield key, _converted(path, array, inputs[key])


def _loaded(path: str) -> Any:
    """Read an array, or a dict of those of an archive; nothing in them is run."""
    try:
        with open(path, "rb") as file:
            if file.peek(4)[:4] not in (b"\x93NUM", b"PK\x03\x04", b"PK\x05\x06"):
                raise ValueError("it is no file of NumPy's")
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return {key: loaded[key] for key in loaded.files}
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CommandError(f"{path}: cannot read the arrays: {error}") from error


def _converted(path: str, array: Any, value: ValueInfo) -> Array:
    """Return an array as the dtype of an input, if its numbers are of the same kind."""
    if not isinstance(array, np.ndarray):
        raise CommandError(f"{path}: it is an archive of arrays; call it .npz")
    if not np.can_cast(array.dtype, value.dtype, "same_kind"):
        raise CommandError(
            f"{path}: the input {value.name!r} takes {value.dtype}, got {array.dtype}"
        )
    return array.astype(value.dtype, copy=False)
