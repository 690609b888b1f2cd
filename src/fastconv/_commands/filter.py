"""``fastconv filter``: an image, filtered with a kernel or one of SciPy's filters.

The image stays in Pillow's hands and is filtered in bands of rows, so that the arrays of a large
photograph never lie beside it as a whole: 90 megapixels in colour take 0.8 GB, most of it for
Pillow's image and its result.
"""

from __future__ import annotations

import argparse
import importlib
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import ndimage
from fastconv._commands.images import read_picture
from fastconv._commands.operations import LARGEST_KERNEL, NAMES, Clock, Operation, read_operation
from fastconv._commands.shared import CommandError, cannot_write, count_to, path, positive_number
from fastconv._files import replacing
from fastconv._filter_bank import around_gray, as_pixels
from fastconv._pictures import GRAY_MODES, MOST_PIXELS
from fastconv._window import PAD_MODES
from fastconv.ndimage._borders import CONSTANT, source_indices

__all__ = ["add_command"]

Array = NDArray[Any]

BAND_PIXELS = 1 << 18
"""The number of pixels per band. The float64 arrays of a band in colour take 20 MiB."""
OUTPUT_MODES = {
    "L": ("L",),
    "RGB": ("RGB",),
    "LA": ("LA", "RGBA", "L"),
    "RGBA": ("RGBA", "RGB"),
    "I;16": ("I;16", "L"),
    "F": ("F", "L"),
}
"""The modes that a result may have, by the mode of the image, in Pillow's words. The first one
that the format holds is taken, or else the last."""
DTYPES = {"I;16": np.uint16, "F": np.float32}
"""The dtypes of pixels that do not have 8 bits, by mode."""
MODES = dict(zip(PAD_MODES, ("constant", "nearest", "mirror", "reflect", "wrap")))
"""What numpy.pad's modes are called in SciPy."""
PROFILED_MODES = ("L", "LA", "P", "PA", "RGB", "RGBA", "I;16")
"""The modes whose numbers mean the same colours in the result, as an ICC profile says."""


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``filter`` to the command line."""
    parser = subparsers.add_parser(
        "filter",
        help="filter an image: blur, sharpen, find edges, take medians",
        description="Filter every channel of an image and write an image of the same size. "
        "Photographs are turned upright as their EXIF data says; transparency and colour profiles "
        "are kept as they are. Kernels that look for edges are shown around a mid-gray, and sobel, "
        "the magnitude of the gradient, from black to white, both scaled to the largest response; "
        "what the others give is clipped to the range of pixels.",
        epilog="The result has 8 bits a channel. Of grayscale images with 16 bits it has 16 in "
        "formats that hold them (PNG, TIFF). Of float images (TIFF) it is the response itself, as "
        "floats, in a TIFF file; in other formats the smallest pixel of the image is black and "
        "the largest white. Exit code: 0 if the image is written, 2 for an error; then no file is "
        "changed.",
    )
    parser.add_argument(
        "image",
        metavar="IMAGE",
        type=path,
        help=f"an image file of at most {MOST_PIXELS:,} pixels, or an MNIST-style IDX file (plain "
        "or .gz); of several images in a file, the first is taken",
    )
    parser.add_argument(
        "--kernel",
        required=True,
        metavar="KERNEL",
        help=f"what to do: {', '.join(NAMES)}; an .npy file with a kernel of two dimensions; or "
        'its rows as text, such as "0,1,0;1,-4,1;0,1,0". Kernels are not flipped',
    )
    parser.add_argument(
        "--sigma",
        type=positive_number,
        help="the standard deviation of gaussian in pixels (default: 1)",
    )
    parser.add_argument(
        "--size",
        type=count_to(LARGEST_KERNEL),
        help="the rows and columns of the window of median, maximum and minimum (default: 3)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=path,
        required=True,
        help="where to write; the extension says in which format (needs Pillow: "
        "pip install 'fastconv[images]')",
    )
    _add_borders(parser)
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also filter with SciPy, and print both times and the largest difference",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the image if OUT is IMAGE itself"
    )
    parser.set_defaults(run=run)


def _add_borders(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what lies around the image."""
    borders = parser.add_mutually_exclusive_group()
    borders.add_argument(
        "--mode",
        choices=MODES.values(),
        help="what lies around the image, in SciPy's words (default: constant, which is 0, for "
        "kernels, and reflect for gaussian, median, maximum, minimum and sobel)",
    )
    borders.add_argument(
        "--pad-mode",
        choices=PAD_MODES,
        help="the same in the words of numpy.pad, where symmetric is SciPy's reflect",
    )


def run(args: argparse.Namespace) -> int:
    """Filter one image; returns the exit code."""
    operation = read_operation(args.kernel, args.sigma, args.size)
    clock = Clock(operation) if args.compare else None
    image_format = _format(args.output)
    if Path(args.image).is_dir():
        raise CommandError(f"{args.image}: a folder, not an image")
    if not args.overwrite and _is_same_file(args.image, args.output):
        raise CommandError(
            f"{args.output} is the image itself: add --overwrite to replace it, or name another "
            "file"
        )
    picture, count = read_picture(args.image)
    border = args.mode or MODES.get(args.pad_mode, operation.mode)
    source = _Source(args.image, picture, _mode(args.image, picture), operation, border)
    modes = OUTPUT_MODES[source.mode]
    mode = next((mode for mode in modes if _holds(image_format, mode)), modes[-1])
    result = _filtered(source, mode, clock)
    width, height = picture.size
    channels = f"{source.colours}{' and transparency' * source.has_alpha}"
    notes = [f"the first of {count} images"] * (count > 1)
    if source.has_alpha and not mode.endswith("A"):
        notes.append(f"transparency is left out: {image_format} does not hold it")
    profile = picture.info.get("icc_profile") if picture.mode in PROFILED_MODES else None
    del source, picture  # Encoding takes as much memory as the image did.
    _write(result, args.output, image_format, profile)
    print(
        f"{args.output}: {width} x {height} pixels, channels: {channels}, "
        f"kernel: {operation.name}, mode: {border}" + "".join(f" ({note})" for note in notes)
    )
    if clock is not None:
        print(clock.report())
    return 0


def _is_same_file(image: str, output: str) -> bool:
    """Tell whether two paths lead to one file, through links too."""
    try:
        return os.path.samefile(image, output)
    except OSError:  # One of them does not exist.
        return False


# ---- filtering ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """An image that is read in bands."""

    name: str
    picture: Any
    mode: str
    """The mode in which the picture is read: one of the keys of OUTPUT_MODES."""
    operation: Operation
    border: str
    """How the image continues beyond its borders, as SciPy's modes say it."""

    @property
    def has_alpha(self) -> bool:
        return self.mode.endswith("A")

    @property
    def colours(self) -> int:
        return 3 if self.mode.startswith("RGB") else 1

    @property
    def dtype(self) -> type[Any]:
        return DTYPES.get(self.mode, np.uint8)

    def rows(self, top: int, bottom: int) -> Array:
        """Read rows as (C, rows, W), transparency as the last channel."""
        part = self.picture.crop((0, top, self.picture.width, bottom))
        if self.mode not in DTYPES:
            part = part.convert(self.mode)
        pixels = np.atleast_3d(np.asarray(part)).transpose(2, 0, 1)
        return pixels.astype(self.dtype, copy=False)

    def bands(self) -> Iterator[tuple[int, Array]]:
        """Yield the first row of each band, and its pixels with the rows that it depends on."""
        width, height = self.picture.size
        above, below = self.operation.rows_above, self.operation.rows_below
        sources = source_indices(height, above, below, self.border)
        # At most half of what is filtered are rows around a band.
        step = max(1, BAND_PIXELS // width, above + below)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            before = [self._row(row) for row in sources[top : top + above]]
            behind = [self._row(row) for row in sources[above + bottom : above + bottom + below]]
            yield top, np.concatenate([*before, self.rows(top, bottom), *behind], axis=1)

    def inner(self, pixels: Array) -> Array:
        """Return the rows of a band without those that lie around it."""
        return pixels[:, self.operation.rows_above : pixels.shape[1] - self.operation.rows_below]

    def _row(self, row: int) -> Array:
        """Read one row, or zeros beyond the borders."""
        return np.zeros_like(self.rows(0, 1)) if row == CONSTANT else self.rows(row, row + 1)


def _mode(name: str, picture: Any) -> str:
    """Choose the mode in which a picture is read."""
    mode = picture.mode
    if mode[0] == "F":
        return "F"
    if mode == "I":
        low, high = picture.getextrema()
        if low < 0 or high > np.iinfo(np.uint16).max:
            raise CommandError(
                f"{name}: pixels that are integers must be from 0 to 65535, got {low} to {high}"
            )
    if mode[0] == "I":
        return "I;16"
    alpha = mode[-1] in "Aa" or "transparency" in picture.info
    chosen = ("L" if mode in GRAY_MODES else "RGB") + "A" * alpha
    try:
        picture.crop((0, 0, 1, 1)).convert(chosen)
    except ValueError as error:  # Some versions of Pillow lack some conversions.
        raise CommandError(f"{name}: cannot read an image of mode {mode}: {error}") from error
    return chosen


def _filtered(source: _Source, mode: str, clock: Clock | None) -> Any:
    """Filter a picture to one of another mode."""
    Image = importlib.import_module("PIL.Image")
    shown = None if mode == "F" else _Shown(source, DTYPES.get(mode, np.uint8))
    result = Image.new(mode, source.picture.size)
    for top, pixels in source.bands():
        response = _response(source, pixels, clock)
        if shown is not None:
            response = shown.pixels(response)
        if source.has_alpha:
            response = np.concatenate([response, source.inner(pixels)[-1:]])
        rows = np.ascontiguousarray(response.transpose(1, 2, 0))
        band = Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)
        result.paste(band if band.mode == mode else band.convert(mode), (0, top))
    return result


def _response(source: _Source, pixels: Array, clock: Clock | None = None) -> Array:
    """Filter the colours of a band, which brings the rows around it along."""
    colours = pixels[: source.colours]
    if clock is None:
        response = source.operation.apply(ndimage, colours, source.border)
    else:
        response = clock.run(colours, source.border)
    return source.inner(response)


class _Shown:
    """How responses become integer pixels, which depends on the image as a whole."""

    def __init__(self, source: _Source, dtype: type[Any]) -> None:
        self.shown, self.dtype = source.operation.shown, dtype
        self.low, self.high = 0.0, 0.0
        if source.mode == "F":
            self.low, self.high = _range_of_floats(source)
        else:
            self.high = float(np.iinfo(source.dtype).max)
        if self.shown != "pixels":
            self.low, self.high = (
                0.0,
                max(float(np.abs(_response(source, pixels)).max()) for _, pixels in source.bands()),
            )

    def pixels(self, response: Array) -> Array:
        """Map a part of the response."""
        if self.shown == "around gray":
            return around_gray(response, self.high, self.dtype)
        return as_pixels(response, self.low, self.high, self.dtype)


def _range_of_floats(source: _Source) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for _, pixels in source.bands():
        inner = source.inner(pixels)
        if not np.isfinite(inner).all():
            raise CommandError(
                f"{source.name}: it holds NaN or infinity, which only a TIFF file can show"
            )
        low, high = min(low, float(inner.min())), max(high, float(inner.max()))
    return low, high


# ---- files -------------------------------------------------------------------------------------


def _format(target: str) -> str:
    """Return Pillow's name of the format that a file's extension stands for."""
    try:
        Image = importlib.import_module("PIL.Image")  # It is untyped, so that mypy needs no Pillow.
    except ImportError:
        raise CommandError(
            "writing an image needs Pillow: pip install 'fastconv[images]'"
        ) from None
    extension = Path(target).suffix.lower()
    image_format: str = Image.registered_extensions().get(extension, "")
    if image_format not in Image.SAVE:
        raise CommandError(
            f"cannot write {target}: its extension must be that of an image format that Pillow "
            f"writes, such as .png, got {extension!r}"
        )
    return image_format


def _holds(image_format: str, mode: str) -> bool:
    """Try whether a format gives back images of a mode as they were; some convert silently."""
    Image = importlib.import_module("PIL.Image")
    encoded = io.BytesIO()
    try:
        Image.new(mode, (1, 1)).save(encoded, image_format)
        found: str = Image.open(encoded).mode
    except Exception:  # Encoders raise almost anything for what they cannot hold.
        return False
    return found == mode or found[0] == mode[0] == "I"


def _write(picture: Any, target: str, image_format: str, profile: bytes | None) -> None:
    """Write an image, whole or not at all, with its ICC profile in formats that have them."""
    # Some formats seek, and an error of an encoder must not look like one of the disk.
    encoded = io.BytesIO()
    try:
        picture.save(encoded, image_format, icc_profile=profile)
    except MemoryError:
        raise
    except Exception as error:  # Encoders raise almost anything for what they cannot hold.
        raise CommandError(f"cannot write {target} as {image_format}: {error}") from error
    try:
        with replacing(target) as file:
            file.write(encoded.getbuffer())
    except OSError as error:
        raise cannot_write(target, error) from error
