"""Image files, decoded by Pillow in bounded memory and with errors that name the file."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "GRAY_MODES",
    "MOST_PIXELS",
    "OtherFileError",
    "PictureError",
    "converted",
    "kind_of",
    "pillow",
    "pixels_of",
    "read_picture",
]

MOST_PIXELS = 1 << 28
"""The most pixels that an image may have: in colour it then takes 1 GiB once it is decoded."""
GRAY_MODES = ("1", "L", "LA", "La")
"""Pillow's modes of grayscale images with at most 8 bits per channel."""
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
"""How image files begin, to tell damaged ones from files of other kinds."""
START_BYTES = 16


class PictureError(ValueError):
    """An image file cannot be read."""


class OtherFileError(PictureError):
    """A file is of another kind."""


def kind_of(start: bytes) -> str | None:
    """Name the format of a file that begins so; None for those that are not listed here."""
    return next((name for magic, name in SIGNATURES.items() if start.startswith(magic)), None)


def pillow(need: str) -> Any:
    """Import Pillow, which is untyped here so that mypy needs no Pillow."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        raise ImportError(f"{need} needs Pillow: pip install 'fastconv[images]'") from None


def read_picture(path: Path) -> tuple[Any, int]:
    """Decode a PNG, JPEG, ..., turn it the way up that its EXIF data says, and count its images.

    Parameters
    ----------
    path : Path
        The file, of any format that Pillow reads.

    Returns
    -------
    picture : PIL.Image.Image
        The first image.
    count : int
        The number of images in the file.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    OSError
        If the file cannot be opened.
    OtherFileError
        If Pillow knows no format that begins like it.
    PictureError
        If it is damaged, or has more than MOST_PIXELS pixels.
    """
    with path.open("rb") as file:
        kind = kind_of(file.peek(START_BYTES)[:START_BYTES])
        Image = pillow(f"{path}: reading {kind or 'image'} files")
        try:
            with _pixels_limited(Image):
                picture = Image.open(file)
                picture.load()
                _turn_upright(picture)
                return picture, _count(Image, file)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise PictureError(
                f"{path}: the image is too large: it has more than {MOST_PIXELS:,} pixels"
            ) from None
        except Image.UnidentifiedImageError:
            if kind is None:
                raise OtherFileError(f"{path}: not an image that Pillow can read") from None
            raise PictureError(
                f"{path}: a damaged {kind} file: it begins as one, but what follows cannot be "
                "read; make or download it again"
            ) from None
        except MemoryError:
            raise
        except Exception as error:  # Decoders raise almost anything for damaged data.
            raise PictureError(f"{path}: {_fault(kind, error)}") from error


def _fault(kind: str | None, error: Exception) -> str:
    """Say what is wrong with a file that Pillow began to decode, and what helps."""
    text = f"cannot read the {kind or 'image'} file: {error}"
    words = str(error).lower()
    if "truncated" in words or isinstance(error, EOFError):
        return f"{text}; its end is missing: copy or download it again"
    if "support" in words or "available" in words:
        return f"{text}; save it in another format, such as PNG"
    return f"{text}; it is damaged: make or download it again"


@contextlib.contextmanager
def _pixels_limited(Image: Any) -> Iterator[None]:
    """Put this module's limit in the place of Pillow's, and keep Pillow's warnings to itself.

    Pillow warns on standard error from 89 million pixels on, which large photographs have. Its
    check also looks at images within images, so that it is set to this limit rather than switched
    off.
    """
    usual = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def _turn_upright(picture: Any) -> None:
    """Apply the orientation that a camera wrote into the EXIF data, in place to save memory."""
    exif_transpose = importlib.import_module("PIL.ImageOps").exif_transpose
    try:
        exif_transpose(picture, in_place=True)
    except (MemoryError, TypeError):
        raise
    except Exception:
        return  # Pixels are worth showing even if the EXIF data is damaged.


def _count(Image: Any, file: Any) -> int:
    """Count the images of a file, such as an animation, of which the first has been read."""
    with contextlib.suppress(Exception):  # The first one is worth showing if others are damaged.
        file.seek(0)
        return int(getattr(Image.open(file), "n_frames", 1))
    return 1


def pixels_of(path: Path, picture: Any) -> NDArray[Any]:
    """Give a picture as (H, W) if it is grayscale, of uint8 or uint16, and else as (H, W, 3)."""
    if picture.mode[0] not in "IF":
        return np.asarray(converted(path, picture, "L" if picture.mode in GRAY_MODES else "RGB"))
    pixels = np.asarray(picture)  # They have more than 8 bits.
    with np.errstate(invalid="ignore"):  # NaN is no uint16, which is found below.
        whole = pixels.astype(np.uint16)
    if not np.array_equal(whole, pixels):
        raise PictureError(f"{path}: only pixels of 8 or 16 bits are read")
    return whole


def converted(path: Path, picture: Any, mode: str) -> Any:
    """Convert a picture to 8 bits a channel, where transparency and its colours are left out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow advises to keep the transparency of palettes.
            return picture.convert(mode)
    except ValueError as error:  # There is no conversion from some modes.
        raise PictureError(
            f"{path}: cannot read an image of mode {picture.mode}: {error}"
        ) from error
