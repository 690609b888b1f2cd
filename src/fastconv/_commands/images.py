"""Images that a user names: MNIST-style IDX files, and whatever Pillow reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _pictures
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

__all__ = ["read_each", "read_images", "read_picture"]


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
    skipped: list[str] = []
    parts = list(read_each(paths, skipped))
    first, images = parts[0]
    for name, part in parts:
        if part.shape[2:] != images.shape[2:]:
            raise CommandError(
                "all images of one call must have one size, but "
                f"{first} has {_size(images)} and {name} has {_size(part)}"
            )
    channels = max(part.shape[1] for _, part in parts)
    return np.concatenate([part.repeat(channels // part.shape[1], 1) for _, part in parts]), skipped


def read_each(
    paths: Sequence[str], skipped: list[str] | None = None
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Read images of any size, one file after the other.

    Parameters
    ----------
    paths : sequence of str
        As in `read_images`.
    skipped : list of str, optional
        Where the files of the folders that are not images are added.

    Yields
    ------
    name : str
        The file.
    images : ndarray of uint8 or uint16, shape (N, C, H, W)
        All images of an IDX file, or the one of another.

    Raises
    ------
    CommandError
        If anything cannot be read.
    """
    for path in map(Path, paths):
        with _errors_of(path):
            if path.is_dir():
                yield from _read_folder(path, [] if skipped is None else skipped)
            else:
                yield str(path), _read_file(path)


def _read_folder(folder: Path, skipped: list[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    is_empty = True
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            try:
                images = _read_file(path)
            except _NotAnImageError:
                skipped.append(str(path))
            else:
                is_empty = False
                yield str(path), images
    if is_empty:
        raise CommandError(f"{folder}: no images in this folder")


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
    """Import Pillow for a command."""
    try:
        return _pictures.pillow(need)
    except ImportError as error:
        raise CommandError(str(error)) from None


def _load_picture(path: Path) -> tuple[Any, int]:
    """Decode the first image of a file of another kind than IDX, and count its images."""
    with path.open("rb") as file:
        start = file.peek(_pictures.START_BYTES)[: _pictures.START_BYTES]
    what = (
        f"{path}: not an IDX file (it begins with {hexadecimal(start[:4])}, expected "
        f"{expected_start(IMAGES)})"
    )
    if _pictures.kind_of(start) is None:
        _pillow(f"{what}; reading other image files")
    try:
        return _pictures.read_picture(path)
    except _pictures.OtherFileError:
        raise _NotAnImageError(f"{what}, nor an image that Pillow can read") from None
    except (_pictures.PictureError, ImportError) as error:
        raise CommandError(str(error)) from error


def _pixels_of(path: Path, picture: Any) -> NDArray[Any]:
    """Give a picture as (1, C, H, W): grayscale as one channel, all else as RGB."""
    try:
        pixels = _pictures.pixels_of(path, picture)
    except _pictures.PictureError as error:
        raise CommandError(str(error)) from error
    return np.atleast_3d(pixels).transpose(2, 0, 1)[np.newaxis]
