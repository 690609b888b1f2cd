"""Read images: the packaged digits, MNIST-style IDX files, and whatever Pillow reads."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastconv._command import CommandError
from fastconv._idx import (
    IMAGES,
    IdxError,
    IdxKindError,
    expected_start,
    hexadecimal,
    is_idx,
    read_idx,
)

__all__ = ["load_digits", "read_images"]


class _NotAnImageError(CommandError):
    """The file is of another kind: an error if it was named, skipped if found in a folder."""


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Load the packaged handwritten digits.

    Returns
    -------
    images : ndarray of uint8, shape (1797, 1, 8, 8)
        Pixels from 0 (paper) to 16 (ink).
    labels : ndarray of uint8, shape (1797,)
        The digit that each image shows.

    Notes
    -----
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49, CC BY 4.0; see ``data/ATTRIBUTION.md``.
    """
    packed = resources.files("fastconv").joinpath("data", "digits.npz")
    with packed.open("rb") as file, np.load(file) as archive:
        return archive["images"][:, np.newaxis], archive["labels"]


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
        try:
            if path.is_dir():
                found, others = _read_folder(path)
                parts += found
                skipped += others
            else:
                parts.append((str(path), _read_file(path)))
        except OSError as error:
            raise CommandError(f"{error.filename or path}: {error.strerror or error}") from error

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


def _read_file(path: Path) -> NDArray[Any]:
    """Read one file of any supported kind, as (N, C, H, W)."""
    with path.open("rb") as file:
        start = file.peek(4)[:4]
        if not is_idx(start):
            return _read_picture(path, file, start)
    try:
        return read_idx(path, IMAGES)[:, np.newaxis]
    except IdxKindError as error:
        raise _NotAnImageError(str(error)) from error
    except IdxError as error:
        raise CommandError(str(error)) from error


def _read_picture(path: Path, file: IO[bytes], magic: bytes) -> NDArray[Any]:
    """Read a PNG, JPEG, ... through Pillow: grayscale as one channel, all else as RGB."""
    what = (
        f"{path}: not an IDX file (it begins with {hexadecimal(magic)}, expected "
        f"{expected_start(IMAGES)})"
    )
    try:
        Image = importlib.import_module("PIL.Image")  # untyped: mypy needs no Pillow
    except ImportError:
        raise CommandError(
            f"{what}; reading other image files needs Pillow: pip install 'fastconv[images]'"
        ) from None
    try:
        with Image.open(file) as picture:
            if picture.mode[0] in "IF":  # more than 8 bits
                pixels = np.asarray(picture)
                whole = pixels.astype(np.uint16)
                if not np.array_equal(whole, pixels):
                    raise CommandError(f"{path}: only pixels of 8 or 16 bits are read")
                pixels = whole
            else:
                gray = picture.mode in ("1", "L", "LA")
                pixels = np.asarray(picture.convert("L" if gray else "RGB"))
    except Image.UnidentifiedImageError:
        raise _NotAnImageError(f"{what}, nor an image that Pillow can read") from None
    except (CommandError, MemoryError):
        raise
    except Exception as error:  # decoders raise almost anything for damaged data
        raise CommandError(f"{path}: cannot read the image: {error}") from error
    return np.atleast_3d(pixels).transpose(2, 0, 1)[np.newaxis]
