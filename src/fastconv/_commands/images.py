"""Images that a user names: MNIST-style IDX files, and whatever Pillow reads."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._commands.shared import CommandError
from fastconv._idx import (
    IMAGES,
    IdxError,
    IdxKindError,
    expected_start,
    hexadecimal,
    is_idx,
    read_idx,
)

__all__ = ["GRAY_MODES", "MOST_PIXELS", "read_images", "read_picture"]

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


class _NotAnImageError(CommandError):
    """The file is of another kind: an error if it was named, skipped if found in a folder."""


def read_images(paths: Sequence[str]) -> tuple[NDArray[Any], list[str]]:
    """Read images of one size from files and folders.

    Parameters
    ----------
    paths : sequence of str
        IDX files, image files, or folders that hold such files (sub-folders and hidden files
        are not read).

    Returns
    -------
    images : ndarray of uint8 or uint16, shape (N, C, H, W)
        ``C`` is 1 if all images are grayscale, else 3.
    skipped : list of str
        The files of the folders that are not images.

    Raises
    ------
    CommandError
        If anything cannot be read, or if the images differ in size.
    """
    parts: list[tuple[str, NDArray[Any]]] = []
    skipped: list[str] = []
    for path in map(Path, paths):
        with _errors_of(path):
            if path.is_dir():
                found, others = _read_folder(path)
                parts += found
                skipped += others
            else:
                parts.append((str(path), _read_file(path)))

    first, images = parts[0]
    for name, part in parts:
        if part.shape[2:] != images.shape[2:]:
            raise CommandError(
                "all images of one call must have one size, but "
                f"{first} has {_size(images)} and {name} has {_size(part)}"
            )
    channels = max(part.shape[1] for _, part in parts)
    return np.concatenate([part.repeat(channels // part.shape[1], 1) for _, part in parts]), skipped


def _read_folder(folder: Path) -> tuple[list[tuple[str, NDArray[Any]]], list[str]]:
    found, others = [], []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            try:
                found.append((str(path), _read_file(path)))
            except _NotAnImageError:
                others.append(str(path))
    if not found:
        raise CommandError(f"{folder}: no images in this folder")
    return found, others


def _size(images: NDArray[Any]) -> str:
    return "{} x {} pixels".format(*images.shape[2:])


def read_picture(path: str) -> tuple[Any, int]:
    """Read the first image of a file through Pillow, the way up that its EXIF data says.

    Parameters
    ----------
    path : str
        An IDX file or an image file.

    Returns
    -------
    picture : PIL.Image.Image
        The image.
    count : int
        The number of images in the file.

    Raises
    ------
    CommandError
        If it cannot be read.
    """
    place = Path(path)
    with _errors_of(place):
        if (idx := _read_idx_file(place)) is None:
            return _load_picture(place)
        return _pillow("reading an image").fromarray(idx[0, 0]), len(idx)


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into the error of a command."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"{error.filename or path}: {error.strerror or error}") from error


def _read_file(path: Path) -> NDArray[Any]:
    """Read one file of any supported kind, as (N, C, H, W)."""
    images = _read_idx_file(path)
    return _pixels_of(path, _load_picture(path)[0]) if images is None else images


def _read_idx_file(path: Path) -> NDArray[np.uint8] | None:
    """Read an IDX file as (N, 1, H, W); None if the file is of another kind."""
    with path.open("rb") as file:
        if not is_idx(file.peek(4)[:4]):
            return None
    try:
        return read_idx(path, IMAGES)[:, np.newaxis]
    except IdxKindError as error:
        raise _NotAnImageError(str(error)) from error
    except IdxError as error:
        raise CommandError(str(error)) from error


def _pillow(need: str) -> Any:
    """Import Pillow, which is untyped here so that mypy needs no Pillow."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        raise CommandError(f"{need} needs Pillow: pip install 'fastconv[images]'") from None


def _load_picture(path: Path) -> tuple[Any, int]:
    """Decode a PNG, JPEG, ..., turn it the way up that its EXIF data says, and count its images."""
    with path.open("rb") as file:
        start = file.peek(16)[:16]
        kind = next((name for magic, name in SIGNATURES.items() if start.startswith(magic)), None)
        what = (
            f"{path}: not an IDX file (it begins with {hexadecimal(start[:4])}, expected "
            f"{expected_start(IMAGES)})"
        )
        Image = _pillow(
            f"{what}; reading other image files"
            if kind is None
            else f"{path}: reading {kind} files"
        )
        try:
            with _pixels_limited(Image):
                picture = Image.open(file)
                picture.load()
                _turn_upright(picture)
                return picture, _count(Image, file)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise CommandError(
                f"{path}: the image is too large: it has more than {MOST_PIXELS:,} pixels"
            ) from None
        except Image.UnidentifiedImageError:
            if kind is None:
                raise _NotAnImageError(f"{what}, nor an image that Pillow can read") from None
            raise CommandError(
                f"{path}: a damaged {kind} file: it begins as one, but what follows cannot be "
                "read; make or download it again"
            ) from None
        except MemoryError:
            raise
        except Exception as error:  # Decoders raise almost anything for damaged data.
            raise CommandError(f"{path}: {_fault(kind, error)}") from error


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


def _pixels_of(path: Path, picture: Any) -> NDArray[Any]:
    """Give a picture as (1, C, H, W): grayscale as one channel, all else as RGB."""
    if picture.mode[0] in "IF":  # Pixels have more than 8 bits.
        pixels = np.asarray(picture)
        whole = pixels.astype(np.uint16)
        if not np.array_equal(whole, pixels):
            raise CommandError(f"{path}: only pixels of 8 or 16 bits are read")
        pixels = whole
    else:
        gray = picture.mode in GRAY_MODES
        pixels = np.asarray(picture.convert("L" if gray else "RGB"))
    return np.atleast_3d(pixels).transpose(2, 0, 1)[np.newaxis]
