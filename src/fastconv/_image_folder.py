"""Folders of images, one for every class, decoded by several processes.

Decoding takes far longer than all else: a processor decodes and resizes a few hundred photographs
a second. So the list of files is cut into chunks, and a process makes an array of a chunk. Results
and errors do not depend on the number of processes: arrays are taken in the order of the files, and
the first file that cannot be read is the one that is told.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastconv._arrays import Array, Shape
from fastconv._bar import open_bar
from fastconv._errors import argument_error
from fastconv._pictures import PictureError, converted, pixels_of, read_picture
from fastconv._threads import get_num_threads
from fastconv._window import Pair

__all__ = ["EXTENSIONS", "find_images", "read_images"]

EXTENSIONS = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""How the names of files of images end, in small or capital letters."""
CHUNK = 32
"""The number of files that a process decodes before it passes an array on."""


@dataclass(frozen=True)
class _Task:
    """What every image becomes."""

    mode: str
    """The mode of Pillow's: "L" or "RGB"."""
    size: Pair | None
    """The height and the width that images are resized to."""
    first: str = ""
    """The image whose size all others must have if they are not resized."""
    shape: Shape = ()
    """The shape of all images, (height, width, channels)."""


def find_images(path: str) -> tuple[list[str], Array, tuple[str, ...]]:
    """List the images of a folder of classes, by class and name, with their labels.

    Returns
    -------
    files : list of str
        The paths.
    labels : ndarray of int64
        The place of the class of each file among the names.
    names : tuple of str
        The names of the classes, sorted.
    """
    root = Path(path)
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise argument_error(
            ValueError, f"{root}: no folders in this folder, where one for every class is expected"
        )
    files, counts = [], []
    for name in names:
        found = [
            os.path.join(folder, file)
            for folder, _, inside in sorted(os.walk(root / name, onerror=_raise))
            for file in sorted(inside)
            if file.lower().endswith(EXTENSIONS) and not file.startswith(".")
        ]
        if not found:
            raise argument_error(
                ValueError,
                f"{root / name}: no images in this folder, files called *{', *'.join(EXTENSIONS)}",
            )
        files += found
        counts.append(len(found))
    return files, np.repeat(np.arange(len(names)), counts), tuple(names)


def _raise(error: OSError) -> NoReturn:
    raise error


def read_images(
    files: Sequence[str], size: Pair | None, gray: bool, workers: int | None, progress: bool
) -> NDArray[np.uint8]:
    """Decode files to images (N, C, H, W).

    Raises
    ------
    OSError
        If a file cannot be opened.
    ValueError
        If a file cannot be decoded, or if images differ in size and are not resized.
    RuntimeError
        If a process has ended before its work was done.
    """
    task = _Task("L" if gray else "RGB", size)
    try:
        shape = (*size, 1 if gray else 3) if size else _decoded(files[0], task).shape
        task = _Task(task.mode, size, files[0], shape)
        images = np.empty((len(files), shape[2], *shape[:2]), np.uint8)
        chunks = [files[first : first + CHUNK] for first in range(0, len(files), CHUNK)]
        if workers is None:
            workers = min(get_num_threads(), len(chunks))
            workers *= workers > 1  # A single process would do what this one can do.
        bar = open_bar(len(files), "image") if progress else None
        parts = _decoded_chunks(chunks, task, workers)
        with contextlib.closing(parts), contextlib.nullcontext() if bar is None else bar:
            done = 0
            for part in parts:
                images[done : done + len(part)] = part.transpose(0, 3, 1, 2)
                done += len(part)
                if bar is not None:
                    bar.update(len(part))
    except PictureError as error:
        raise argument_error(ValueError, str(error)) from error
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a process that decoded images has ended early. Where processes are not forked, a "
            "script must do its work below \"if __name__ == '__main__':\". If memory is short, "
            "fewer workers need less, and workers=0 starts none."
        ) from error
    return images


def _decoded_chunks(
    chunks: Sequence[Sequence[str]], task: _Task, workers: int
) -> Generator[NDArray[np.uint8], None, None]:
    """Yield the arrays of chunks in their order; closing it ends the processes promptly."""
    if not workers:
        yield from map(partial(_decoded_chunk, task), chunks)
        return
    context = multiprocessing.get_context()
    stop = context.Event()
    executor = ProcessPoolExecutor(
        min(workers, len(chunks)), context, initializer=_start, initargs=(stop,)
    )
    try:
        with _interrupts_later():
            parts = executor.map(partial(_decoded_chunk, task), chunks)
        yield from parts
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Let Ctrl-C wait for the end of a block, and keep it from processes that the block starts.

    They inherit that the signal is blocked. Otherwise it could end a process that has just been
    started, and does not ignore it yet, with a traceback of its own.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none.
        yield
        return
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)


# --- In the processes -----------------------------------------------------------------------

_stop: Any = None
"""The event that tells this process to leave what it has begun; None if it is the user's."""


def _start(stop: Any) -> None:
    """Prepare a process, which Ctrl-C reaches too: it is the user's process that ends all."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _decoded_chunk(task: _Task, files: Sequence[str]) -> NDArray[np.uint8]:
    """Decode files to (N, H, W, C)."""
    images = np.empty((len(files), *task.shape), np.uint8)
    for image, file in zip(images, files):
        if _stop is not None and _stop.is_set():
            break  # Nobody waits for the result any more.
        pixels = _decoded(file, task)
        if pixels.shape != task.shape:
            raise PictureError(
                f"images must have one size or be resized, give size: {task.first} has "
                f"{_size(task.shape)}, {file} has {_size(pixels.shape)}"
            )
        image[...] = pixels
    return images


def _size(shape: Shape) -> str:
    return "{} x {} pixels".format(*shape)


def _decoded(file: str, task: _Task) -> NDArray[np.uint8]:
    """Decode a file to (H, W, C)."""
    path = Path(file)
    picture, _ = read_picture(path)
    Image = importlib.import_module("PIL.Image")
    if picture.mode[0] in "IF":  # 65535, the largest of 16 bits, becomes 255.
        wide = pixels_of(path, picture).astype(np.uint32)
        picture = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    picture = converted(path, picture, task.mode)
    if task.size is not None:
        picture = picture.resize(task.size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], -1)
