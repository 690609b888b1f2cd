"""``fastconv filter``: an image, convolved with a well-known filter.

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

from fastconv._commands.images import read_picture
from fastconv._commands.shared import CommandError, cannot_write, path
from fastconv._files import replacing
from fastconv._filter_bank import FILTERS, convolve, is_around_zero, response_as_pixels
from fastconv._pictures import GRAY_MODES, MOST_PIXELS
from fastconv._window import PAD_MODES

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
PROFILED_MODES = ("L", "LA", "P", "PA", "RGB", "RGBA", "I;16")
"""The modes whose numbers mean the same colours in the result, as an ICC profile says."""


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``filter`` to the command line."""
    parser = subparsers.add_parser(
        "filter",
        help="convolve an image with a well-known filter",
        description="Convolve every channel of an image with a 3x3 filter and write an image of "
        "the same size. Photographs are turned upright as their EXIF data says; transparency and "
        "colour profiles are kept as they are. Filters that look for edges are shown around a "
        "mid-gray, scaled to the largest response; what the others give is clipped to the range of "
        "pixels.",
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
        "--kernel", required=True, choices=FILTERS, help="what to convolve the image with"
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
    parser.add_argument(
        "--pad-mode",
        default=PAD_MODES[0],
        choices=PAD_MODES,
        help="what lies around the image, as in numpy.pad (default: %(default)s, which is 0)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the image if OUT is IMAGE itself"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Filter one image; returns the exit code."""
    image_format = _format(args.output)
    if Path(args.image).is_dir():
        raise CommandError(f"{args.image}: a folder, not an image")
    if not args.overwrite and _is_same_file(args.image, args.output):
        raise CommandError(
            f"{args.output} is the image itself: add --overwrite to replace it, or name another "
            "file"
        )
    picture, count = read_picture(args.image)
    source = _Source(args.image, picture, _mode(args.image, picture), args.pad_mode)
    modes = OUTPUT_MODES[source.mode]
    mode = next((mode for mode in modes if _holds(image_format, mode)), modes[-1])
    result = _filtered(source, np.array(FILTERS[args.kernel]), mode)
    width, height = picture.size
    channels = f"{source.colours}{' and transparency' * source.has_alpha}"
    notes = [f"the first of {count} images"] * (count > 1)
    if source.has_alpha and not mode.endswith("A"):
        notes.append(f"transparency is left out: {image_format} does not hold it")
    profile = picture.info.get("icc_profile") if picture.mode in PROFILED_MODES else None
    del source, picture  # Encoding takes as much memory as the image did.
    _write(result, args.output, image_format, profile)
    print(
        f"{args.output}: {width} x {height} pixels, channels: {channels}, kernel: {args.kernel}, "
        f"pad mode: {args.pad_mode}" + "".join(f" ({note})" for note in notes)
    )
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
    pad_mode: str

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
        """Yield the first row of each band, and its pixels with a row more above and below."""
        width, height = self.picture.size
        step = max(1, BAND_PIXELS // width)
        before, behind = _rows_around(height, self.pad_mode)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            above = self._row(top - 1 if top > 0 else before)
            below = self._row(bottom if bottom < height else behind)
            yield top, np.concatenate([above, self.rows(top, bottom), below], axis=1)

    def _row(self, row: int | None) -> Array:
        """Read one row, or zeros for None."""
        return np.zeros_like(self.rows(0, 1)) if row is None else self.rows(row, row + 1)


def _rows_around(height: int, pad_mode: Any) -> tuple[int | None, int | None]:
    """Return which rows padding shows above and below the image, None for zeros."""
    if pad_mode == "constant":
        return None, None
    before, *_, behind = np.pad(np.arange(height), 1, pad_mode).tolist()
    return before, behind


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


def _filtered(source: _Source, kernel: Array, mode: str) -> Any:
    """Filter a picture to one of another mode."""
    Image = importlib.import_module("PIL.Image")
    if source.mode == "F":
        kernel = kernel.astype(np.float32)
    shown = None if mode == "F" else _Shown(source, kernel, DTYPES.get(mode, np.uint8))
    result = Image.new(mode, source.picture.size)
    for top, pixels in source.bands():
        response = _response(source, pixels, kernel)
        if shown is not None:
            response = shown.pixels(response)
        if source.has_alpha:
            response = np.concatenate([response, pixels[-1:, 1:-1]])
        rows = np.ascontiguousarray(response.transpose(1, 2, 0))
        band = Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)
        result.paste(band if band.mode == mode else band.convert(mode), (0, top))
    return result


def _response(source: _Source, pixels: Array, kernel: Array) -> Array:
    """Convolve the colours of a band, which brings its rows of padding along."""
    padding = (0, 0), (1, 1)
    return convolve(pixels[: source.colours], kernel, padding, source.pad_mode)


class _Shown:
    """How responses become integer pixels, which depends on the image as a whole."""

    def __init__(self, source: _Source, kernel: Array, dtype: type[Any]) -> None:
        self.kernel, self.dtype = kernel, dtype
        self.low, self.high = 0.0, 0.0
        self.magnitude = 0.0
        if source.mode == "F":
            self.low, self.high = _range_of_floats(source)
        else:
            self.high = float(np.iinfo(source.dtype).max)
        if is_around_zero(kernel):
            self.magnitude = max(
                float(np.abs(_response(source, pixels, kernel)).max())
                for _, pixels in source.bands()
            )

    def pixels(self, response: Array) -> Array:
        """Map a part of the response."""
        return response_as_pixels(
            response, self.kernel, self.low, self.high, self.dtype, self.magnitude
        )


def _range_of_floats(source: _Source) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for _, pixels in source.bands():
        inner = pixels[:, 1:-1]  # The first and the last row are padding.
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
