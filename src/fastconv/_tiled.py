"""Networks over images that do not fit in memory, tile by tile."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import prod
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastconv import _kernels, _precision, _threads
from fastconv._arguments import is_sequence, per_axis
from fastconv._arrays import Array, Shape
from fastconv._bar import open_bar
from fastconv._errors import argument_error, named, shown
from fastconv._version import __version__

if TYPE_CHECKING:
    from fastconv.inference._graph import Graph
    from fastconv.inference._parts import Box, Part, Parts

__all__ = ["predict_tiled"]

UNITS = {"B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZES = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 16)
"""The heights and widths that tiles of the result may have if nobody asks for others."""
ENOUGH_BYTES = 96 << 20
"""The memory of a tile that larger tiles do not make faster.

Of a network of five convolutions over 2048x2048 pixels, tiles of 384 (75 MiB) took 0.28 s, of 512
(134 MiB) 0.33 s and of 1024 0.30 s; those of 128 took 0.37 s, and of 32 0.51 s.
"""
ENOUGH_PIXELS = 128
"""The height and width of tiles of which smaller ones are taken only for lack of memory."""
THREAD_BYTES = 8 << 20
"""The memory of a thread: scratch and packed weights of the kernels."""
BATCH_PIXELS = 256 * 256
"""Equal tiles are computed together until they read this many pixels."""
FLUSH_SECONDS = 1.0
"""How long finished tiles may wait until they are written to the file and to the manifest."""


@named
def predict_tiled(
    network_or_session: Any,
    image: Any,
    *,
    tile: Any = "auto",
    out: Any = None,
    max_memory: int | str = "1 GiB",
    progress: bool = False,
    manifest: str | os.PathLike[str] | None = "auto",
) -> Any:
    """Compute what a fully convolutional network gives for an image, tile by tile.

    The result is that of the whole image, bit for bit, for every size of tiles: each tile is
    computed from exactly the pixels that it depends on, and padded only where the image ends.

    Parameters
    ----------
    network_or_session : Sequential, InferenceNetwork or InferenceSession
        The network. Heights and widths in its ``input_dim`` do not matter. A session must have one
        input and one output.
    image : array-like with a shape, of shape (C, H, W) or (N, C, H, W)
        What is read tile by tile: anything that slices into arrays, as NumPy's memory maps and the
        arrays of zarr and h5py do.
    tile : int, pair of int or "auto", default "auto"
        Height and width of the tiles of the result. By default the largest that `max_memory` and
        the caches allow.
    out : object with a shape, optional
        What the result is written to, of its shape and dtype: anything whose slices can be
        assigned. By default a new array.
    max_memory : int or str, default "1 GiB"
        How many bytes tiles, and all that is computed of them, may take, such as ``"300 MiB"``. It
        does not count the weights, what the file system keeps of files, and a new `out`.
    progress : bool, default False
        Whether to show a bar on a terminal, if tqdm is installed.
    manifest : path-like or None, default "auto"
        A file that tells which tiles are finished. If it is there, those are not computed again, so
        that a process that was killed can go on. It is removed in the end. By default it lies
        beside the file of `out`, with ``.fastconv`` appended, if `out` is a memory map or an array
        of zarr or h5py in a file. None keeps none.

    Returns
    -------
    object
        `out`.

    Raises
    ------
    TypeError
        If the network or the image is none, or a dtype does not fit.
    ValueError
        If some output depends on all pixels, shapes do not match, `max_memory` is not enough for
        the smallest tiles, or the manifest is that of another call.

    Notes
    -----
    The result of a `Sequential` is that of ``network.optimized().predict``, if its ``input_dim``
    were the image's shape, and that of a session is what ``run`` returns. A thread reads the next
    tiles while the others compute.

    A finished tile survives the end of the process, but not that of the machine: what the operating
    system has not yet written to the disk is then lost.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> from fastconv.layers import Pooling, Relu
    >>> from fastconv.models import Sequential
    >>> net = Sequential((1, 32, 32), seed=0).convolution(8, 3, pad=1).add(Relu())
    >>> net.add(Pooling(2, 2, stride=2)).convolution(1, 1)  # doctest: +ELLIPSIS
    Sequential(...
    >>> image = np.random.default_rng(0).random((1, 300, 400), np.float32)
    >>> result = fastconv.predict_tiled(net, image, tile=64)
    >>> result.shape
    (1, 150, 200)
    >>> bool((result == fastconv.predict_tiled(net, image, tile=100)).all())
    True
    """
    budget = _bytes(max_memory)
    shape = _shape_of(image, "image")
    job = Job(network_or_session, image, shape)
    size = job.tile_size(tile, budget)
    result, made = job.result(out)
    tiles = list(job.tiles(size))
    path = None if made else _manifest_path(manifest, result)
    with Manifest(path, job.description(size)) as done:
        left = [i for i in range(len(tiles)) if i not in done]
        bar = open_bar(len(tiles), "tile", len(tiles) - len(left)) if progress else None
        for numbers, parts, arrays in job.computed(tiles, left):
            for i, part, array in zip(numbers, parts, arrays):
                job.write(result, tiles[i], part, array)
            done.add(numbers, result)
            if bar is not None:
                bar.update(len(numbers))
        if bar is not None:
            bar.close()
    return result


class Tile(NamedTuple):
    """A box of the result of one image."""

    image: int
    box: Box


class Job:
    """A network and an image, and how parts of the result are computed."""

    def __init__(self, network: Any, image: Any, shape: Shape) -> None:
        self.image, self.shape = image, shape
        self.parts, self.axes = _parts_of(network, image, shape)
        graph = self.parts.graph
        self.batched = len(shape) == self.axes + 2
        self.batch = shape[0] if self.batched else 1
        self.dtype, self.out_shape = graph.dtype, graph.output.shape
        self.threads = getattr(network, "_threads", None)

    def result(self, out: Any) -> tuple[Any, bool]:
        """Return what the result is written to, and whether it is new."""
        shape = (self.batch, *self.out_shape) if self.batched else self.out_shape
        if out is None:
            return np.empty(shape, self.dtype), True
        if _shape_of(out, "out") != shape:
            raise argument_error(ValueError, f"out must have shape {shape}, got {tuple(out.shape)}")
        if getattr(out, "dtype", self.dtype) != self.dtype:
            raise argument_error(ValueError, f"out must be of dtype {self.dtype}, got {out.dtype}")
        return out, False

    def tile_size(self, tile: Any, budget: int) -> tuple[int, ...]:
        """Return the height and width of tiles that fit in some bytes."""
        sizes: Sequence[tuple[int, ...]] = [(size,) * self.axes for size in SIZES]
        if not (isinstance(tile, str) and tile == "auto"):
            if isinstance(tile, str):
                raise argument_error(
                    ValueError, f'tile must be "auto", an int or a pair of them, got {shown(tile)}'
                )
            sizes = [per_axis(tile, "tile", self.axes)]
        least = 0
        for size, smaller in zip(sizes, [*sizes[1:], (0,)]):
            least = self.bytes_of(size)
            is_large = least > ENOUGH_BYTES and smaller[0] >= ENOUGH_PIXELS
            if least <= budget and not is_large:
                return size
        raise argument_error(
            ValueError,
            f"max_memory is not enough: tiles of {sizes[-1]} take {least / 2**20:.0f} MiB, "
            f"max_memory is {budget / 2**20:.0f} MiB",
        )

    def bytes_of(self, size: tuple[int, ...]) -> int:
        """Estimate the memory of a tile in the middle of the image, and of the next one."""
        box = []
        for whole, one in zip(self.out_shape[1:], size):
            first = max(0, min((whole - one) // 2, whole - one))
            box.append((first, min(whole, first + one)))
        part = self.parts.part(tuple(box))
        read = 2 * self.pixels(part) * self.parts.graph.input.shape[0] * self.dtype.itemsize
        scratch = THREAD_BYTES * _threads.count()
        return self.together(part) * (self.parts.peak_bytes(part) + read) + scratch

    def pixels(self, part: Part) -> int:
        """Return how many pixels of the image a tile depends on."""
        return prod(b - a for a, b in part.boxes[self.parts.graph.input])

    def together(self, part: Part) -> int:
        """Return how many equal tiles are computed together."""
        return max(1, BATCH_PIXELS // self.pixels(part))

    def tiles(self, size: tuple[int, ...]) -> Iterator[Tile]:
        """Cut the result into tiles, rows of them from the top."""
        axes = [
            [(first, min(whole, first + one)) for first in range(0, whole, one)]
            for whole, one in zip(self.out_shape[1:], size)
        ]
        for n in range(self.batch):
            for box in product(*axes):
                yield Tile(n, box)

    def computed(
        self, tiles: Sequence[Tile], left: Sequence[int]
    ) -> Iterator[tuple[list[int], list[Part], Array]]:
        """Compute tiles, while a thread reads the next ones."""
        groups = self.groups(tiles, left)
        with ThreadPoolExecutor(1, "fastconv-read") as reader:
            coming = _next(groups)
            read = None if coming is None else reader.submit(self.read, tiles, *coming)
            while coming is not None and read is not None:
                numbers, parts = coming
                x = read.result()
                coming = _next(groups)
                read = None if coming is None else reader.submit(self.read, tiles, *coming)
                yield numbers, parts, self.run(parts[0], x)

    def groups(
        self, tiles: Sequence[Tile], left: Sequence[int]
    ) -> Iterator[tuple[list[int], list[Part]]]:
        """Put equal tiles that follow each other together."""
        numbers: list[int] = []
        parts: list[Part] = []
        for i in left:
            part = self.parts.part(tiles[i].box)
            if parts and (part.key != parts[0].key or len(parts) >= self.together(part)):
                yield numbers, parts
                numbers, parts = [], []
            numbers.append(i)
            parts.append(part)
        if parts:
            yield numbers, parts

    def read(self, tiles: Sequence[Tile], numbers: list[int], parts: list[Part]) -> Array:
        """Read the pixels that tiles depend on."""
        source = self.parts.graph.input
        first = parts[0].boxes[source]
        x = np.empty((len(parts), source.shape[0], *(b - a for a, b in first)), self.dtype)
        for array, i, part in zip(x, numbers, parts):
            index = (slice(None), *(slice(a, b) for a, b in part.boxes[source]))
            array[...] = self.image[(tiles[i].image, *index) if self.batched else index]
        return x

    def run(self, part: Part, x: Array) -> Array:
        """Compute equal tiles."""
        if self.threads is None:
            return self._run(part, x)
        with _threads.num_threads(self.threads):
            return self._run(part, x)

    def _run(self, part: Part, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return self.parts.run(part, x)

    def write(self, out: Any, tile: Tile, part: Part, array: Array) -> None:
        """Write a tile to its place."""
        index = (slice(None), *(slice(a, b) for a, b in tile.box))
        out[(tile.image, *index) if self.batched else index] = array

    def description(self, size: tuple[int, ...]) -> dict[str, Any]:
        """Describe all that the bits of tiles depend on, but the image."""
        return {
            "fastconv": __version__,
            "network": digest_of(self.parts.graph),
            "image": list(self.shape),
            "dtype": str(self.dtype),
            "tile": list(size),
            "precision": _precision.get_precision(),
            "level": _kernels.level,
        }


def digest_of(graph: Graph) -> str:
    """Return a digest of the steps of a graph, and of all numbers that they hold."""
    digest = hashlib.sha256()
    for step in graph.steps:
        digest.update(f"{step.name} {step.shape} {graph.dtype}".encode())
        for array in _arrays_of(step.operation):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _arrays_of(value: Any, depth: int = 3) -> Iterator[Array]:
    """Find the arrays that an operation holds."""
    if isinstance(value, np.ndarray):
        yield value
    elif depth and isinstance(value, (list, tuple)):
        for element in value:
            yield from _arrays_of(element, depth - 1)
    elif depth and type(value).__module__.startswith("fastconv."):
        for name, element in sorted(getattr(value, "__dict__", {}).items()):
            if name != "_packs":
                yield from _arrays_of(element, depth - 1)


def _next(groups: Iterator[Any]) -> Any:
    return next(groups, None)


def _parts_of(network: Any, image: Any, shape: Shape) -> tuple[Parts, int]:
    """Return what computes parts of a network's result for an image, and its number of axes."""
    from fastconv.inference import _whole
    from fastconv.inference._parts import Parts

    graph, locals, axes = _whole.graph_for(network, image, shape)
    batch = shape[0] if len(shape) == axes + 2 else 1
    return Parts(graph, locals, batch), axes


def _shape_of(array: Any, name: str) -> Shape:
    shape: Any = getattr(array, "shape", None)
    if not is_sequence(shape) or not hasattr(array, "__getitem__"):
        raise argument_error(
            TypeError, f"{name} must be an array, or something like it, got {type(array).__name__}"
        )
    return tuple(map(int, shape))


def _bytes(value: int | str) -> int:
    """Read a number of bytes, such as 1000, "300 MiB" or "1.5 GB"."""
    accepted = 'a positive number of bytes such as 2**30 or "300 MiB"'
    if isinstance(value, bool) or not isinstance(value, (int, np.integer, str)):
        raise argument_error(TypeError, f"max_memory must be {accepted}, got {shown(value)}")
    found = int(value) if not isinstance(value, str) else 0
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        if match and (match[2].upper() or "B") in UNITS:
            found = int(float(match[1]) * UNITS[match[2].upper() or "B"])
    if found < 1:
        raise argument_error(ValueError, f"max_memory must be {accepted}, got {shown(value)}")
    return found


# ---- the manifest ------------------------------------------------------------------------------


def _manifest_path(manifest: Any, out: Any) -> Path | None:
    if manifest is None:
        return None
    if manifest != "auto":
        return Path(os.fspath(manifest))
    name = getattr(out, "filename", None)  # numpy.memmap
    if name is None and hasattr(getattr(out, "file", None), "filename"):  # h5py.Dataset
        name = f"{out.file.filename}{str(out.name).replace('/', '.')}"
    root: Any = getattr(getattr(out, "store", None), "root", None)
    if name is None and root is not None:  # zarr.Array in a folder
        name = os.fspath(root) + (f".{out.path.replace('/', '.')}" if out.path else "")
    return None if name is None else Path(f"{os.fspath(name)}.fastconv")


class Manifest:
    """The file that tells which tiles are finished: a line of what they are of, then numbers.

    A line is appended after a tile has been written, so that what is listed is there. A last line
    without an end is one that a kill has cut; its tiles are computed again.
    """

    def __init__(self, path: Path | None, description: dict[str, Any]) -> None:
        self._path, self._description = path, description
        self._done: set[int] = set()
        self._waiting: list[int] = []
        self._out: Any = None
        self._since = monotonic()

    def __enter__(self) -> Manifest:
        if self._path is None:
            return self
        if self._path.exists():
            lines = self._path.read_text("utf-8").split("\n")[:-1]
            if lines and json.loads(lines[0]) != self._description:
                raise argument_error(
                    ValueError,
                    f"the manifest {self._path} is that of another network, image, tile or "
                    "precision: remove it to begin again",
                )
            self._done = {int(number) for line in lines[1:] for number in line.split()}
        if not self._done:
            self._path.write_text(json.dumps(self._description) + "\n", "utf-8")
        else:  # Without the line that was cut.
            text = " ".join(map(str, sorted(self._done)))
            self._path.write_text(f"{json.dumps(self._description)}\n{text}\n", "utf-8")
        return self

    def __exit__(self, kind: Any, *others: Any) -> None:
        self._write()
        if kind is None and self._path is not None:
            flush = getattr(self._out, "flush", None)
            if flush is not None:
                flush()
            self._path.unlink()

    def __contains__(self, number: int) -> bool:
        return number in self._done

    def add(self, numbers: Sequence[int], out: Any) -> None:
        """Note that tiles have been written to `out`."""
        self._out = out
        self._waiting += numbers
        if monotonic() - self._since >= FLUSH_SECONDS or not hasattr(out, "file"):
            self._write()

    def _write(self) -> None:
        """Append tiles that have been handed to the operating system."""
        if self._path is not None and self._waiting:
            if hasattr(self._out, "file"):  # h5py keeps some of what is written to itself.
                self._out.file.flush()
            with self._path.open("a", encoding="utf-8") as file:
                file.write(" ".join(map(str, self._waiting)) + "\n")
        self._waiting, self._since = [], monotonic()
