"""The gradients of mini-batches, computed by the workers of a Dask cluster.

Training images are dealt to shards like cards, image i to shard ``i % shards``, and the images of a
shard stay together, on one worker. A mini-batch takes the same number from each (give or take one).
What a worker computes for a shard depends on nothing but the network's arrays, the shard's images
and the key of its random numbers. What shards give is added in the order of one binary tree over
the numbers of shards. Only where sums of the tree are computed, and which of them within one task,
depends on the workers, and that does not change the numbers.

What travels in a step is one flat array of the network to each worker and one array of the same
size for every sum that two workers have parts in.
"""

from __future__ import annotations

import pickle
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import cloudpickle
import numpy as np
from dask import annotate, delayed

from fastconv import _precision, _threads
from fastconv._arrays import Array
from fastconv._errors import argument_error, reason
from fastconv._layer import walk
from fastconv.dask._chunks import is_lazy
from fastconv.training._mini_batch import gradients
from fastconv.training._network import Network, state_of

try:
    import distributed
except ImportError:
    raise ImportError(
        'training on a cluster needs dask.distributed: pip install "fastconv[dask]"'
    ) from None

__all__ = ["Cluster"]

Part: TypeAlias = tuple[Array, Array, Array | None]
"""The images of a shard, their labels, and their weights, if images are weighted."""
Value = TypeVar("Value")
ATTEMPTS = 8
"""How often the same is computed in vain, because workers that die take data with them."""
BRANCHES = 4
"""How many workers fetch the network's arrays from the same one."""


class Layout:
    """Where the arrays of a network are in one flat array of floats, which holds all exactly."""

    def __init__(self, state: Mapping[str, Array]) -> None:
        self.shapes = {name: array.shape for name, array in state.items()}
        dtypes = [array.dtype for array in state.values()]
        self.dtype = np.result_type(np.float32, *dtypes)
        self.size = sum(array.size for array in state.values())

    def flat(self, arrays: Mapping[str, Array]) -> Array:
        """Return a new flat array of arrays."""
        whole = np.empty(self.size, self.dtype)
        for name, piece in self.pieces(whole).items():
            piece[...] = arrays[name]
        return whole

    def pieces(self, whole: Array) -> dict[str, Array]:
        """View the arrays in a flat one."""
        found, at = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            found[name] = whole[at : at + size].reshape(shape)
            at += size
        return found


class Job:
    """What one shard contributes to a step."""

    def __init__(self, rows: Array, factor: float, key: tuple[int, ...]) -> None:
        self.rows, self.factor, self.key = rows, factor, key
        """Which images of the shard, their share of the mini-batch, and what its random numbers
        are drawn from."""


# ---- on the workers ----------------------------------------------------------------------------


class Replicas(distributed.WorkerPlugin):  # type: ignore[misc]
    """Gives every thread of every worker, also of those that come later, a copy of the network."""

    def __init__(self, network: Network, augment: Any, precision: str) -> None:
        self.name = f"fastconv-{uuid.uuid4().hex}"
        self.pickled = cloudpickle.dumps((network, augment))  # It may be a lambda.
        self.precision = precision

    def setup(self, worker: Any) -> None:
        """Begin without a copy; each thread makes its own when it needs one."""
        self.own = threading.local()

    @staticmethod
    def get(name: str, flat: Array) -> tuple[Any, Any]:
        """Return this thread's network, with the arrays that are given, and its augmentation."""
        plugin = distributed.get_worker().plugins[name]
        own = plugin.own
        if not hasattr(own, "network"):
            own.network, own.augment = pickle.loads(plugin.pickled)
        state = state_of(own.network)
        for of, piece in Layout(state).pieces(flat).items():
            state[of][...] = piece
        return own.network, own.augment


def _summed(
    first: int,
    last: int,
    leaf: Callable[[int, int], Value | None],
    is_leaf: Callable[[int, int], bool],
    add: Callable[[Value, Value], Value],
) -> Value | None:
    """Add what shards give, in the order of a binary tree; None stands for nothing to add."""
    if is_leaf(first, last):
        return leaf(first, last)
    middle = (first + last) // 2
    left = _summed(first, middle, leaf, is_leaf, add)
    right = _summed(middle, last, leaf, is_leaf, add)
    if left is None or right is None:
        return right if left is None else left
    return add(left, right)


def _gradients(
    name: str,
    flat: Array,
    parts: list[Part | None],
    jobs: list[Job | None],
    first: int,
    threads: int | None,
) -> tuple[Array, float]:
    """Compute the sum that shards from the number `first` on contribute to a step."""

    def leaf(shard: int, _: int) -> tuple[Array, float] | None:
        part, job = parts[shard - first], jobs[shard - first]
        return None if part is None or job is None else _contribution(name, flat, part, job)

    def add(left: tuple[Array, float], right: tuple[Array, float]) -> tuple[Array, float]:
        return np.add(left[0], right[0], out=left[0]), left[1] + right[1]

    with _settings(name, threads):
        found = _summed(first, first + len(jobs), leaf, lambda a, b: b - a == 1, add)
    assert found is not None  # There are no tasks without images.
    return found


def _contribution(name: str, flat: Array, part: Part, job: Job) -> tuple[Array, float]:
    """Return a shard's gradients and new running statistics, and its loss, times its share.

    The shard before has changed the network's running statistics, so that all arrays are set anew.
    """
    images, labels, weights = part
    network, augment = Replicas.get(name, flat)
    rng = np.random.default_rng(job.key)
    _draw_from(network, rng)
    own = None if weights is None else weights[job.rows]
    batch = images[job.rows], labels[job.rows], own
    grads, loss = gradients(network, *batch, augment, rng)
    state = state_of(network)
    result = Layout(state).flat({**state, **grads})
    result *= result.dtype.type(job.factor)
    return result, loss * job.factor


@contextmanager
def _settings(name: str, threads: int | None) -> Iterator[None]:
    """Compute with the client's precision, and on so many threads."""
    precision = distributed.get_worker().plugins[name].precision
    with (
        _threads.num_threads(threads or _threads.count()),
        _precision.precision(precision),
        np.errstate(all="ignore"),
    ):
        yield


def _draw_from(network: Any, rng: np.random.Generator) -> None:
    """Let a network and all its layers draw random numbers from one generator."""
    layers = getattr(network, "layers", ())
    layers = layers.values() if isinstance(layers, Mapping) else layers
    for holder in (network, *(part for layer in layers for part in walk(layer))):
        if hasattr(holder, "rng"):
            holder.rng = rng


def _same(flat: Array) -> Array:
    """Have an array, for others to fetch it from here."""
    return flat


def _sum_of_two(left: tuple[Array, float], right: tuple[Array, float]) -> tuple[Array, float]:
    return left[0] + right[0], left[1] + right[1]


def _right(
    name: str, flat: Array, parts: list[Part], counts: list[int], threads: int | None
) -> int:
    """Count how many of the first images of each shard are classified correctly."""
    network, _ = Replicas.get(name, flat)
    right = 0
    with _settings(name, threads):
        for (images, labels, _), count in zip(parts, counts, strict=True):
            if count:
                right += round(network.accuracy(images[:count], labels[:count]) * count)
    return right


def _part(images: Array, labels: Array, weights: Array | None) -> Part:
    """Put together what belongs to a shard; images in chunks come as one array."""
    return np.ascontiguousarray(images), labels, weights


def _described(part: Part) -> tuple[int, bool]:
    """Return a checksum of a shard's images, and whether all are finite."""
    images = np.ascontiguousarray(part[0])
    return zlib.crc32(images.data), images.dtype.kind != "f" or bool(np.isfinite(images).all())


# ---- at the client -----------------------------------------------------------------------------


class Cluster:
    """Workers that hold the training images and compute gradients.

    Parameters
    ----------
    client : distributed.Client
        Where the workers are.
    shards : int
        How many parts every mini-batch is cut into.
    network : network
        What is trained; the workers have copies.
    images : ndarray or dask.array.Array
        All training images.
    labels : ndarray
        Their labels.
    weights : ndarray or None
        Their weights.
    augment : callable or None
        What changes images before the network sees them.
    """

    def __init__(
        self,
        client: Any,
        shards: int,
        network: Network,
        images: Any,
        labels: Array,
        weights: Array | None,
        augment: Any,
    ) -> None:
        if not isinstance(client, distributed.Client):
            raise argument_error(
                TypeError,
                f"client must be a dask.distributed.Client, got {type(client).__name__}",
            )
        if client.asynchronous:
            raise argument_error(ValueError, "client must not be asynchronous")
        if shards > len(images):
            raise argument_error(
                ValueError, f"shards must be at most {len(images)}, one an image, got {shards}"
            )
        self.client, self.shards, self.network = client, shards, network
        self.images, self.labels, self.weights = images, labels, weights
        self.layout = Layout(state_of(network))
        self.replicas = Replicas(network, augment, _precision.get_precision())
        self.is_open = False
        self.workers: dict[str, int] = {}
        self.owners: list[tuple[str, int]] = []
        """For each shard, a thread of a worker: its address and a number."""
        self.parts: list[Any] = []
        """For each shard, the future of its images."""
        self.latest: Any = None
        """The futures of the latest step."""
        try:
            self.checksum = self._retried(self._describe)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the workers forget images and networks, which they get again if need be."""
        self.parts, self.latest = [], None
        if self.is_open:
            self.client.unregister_worker_plugin(self.replicas.name)
            self.is_open = False

    def gradients(self, places: Array, key: tuple[int, ...]) -> tuple[dict[str, Array], float]:
        """Compute a mini-batch's gradients and loss, and set the network's running statistics.

        Parameters
        ----------
        places : ndarray
            Which of the training images the mini-batch consists of.
        key : tuple of int
            What the random numbers of this step are drawn from.
        """
        jobs: list[Job | None] = []
        for shard in range(self.shards):
            rows = places[places % self.shards == shard] // self.shards
            job = Job(rows, len(rows) / len(places), (*key, shard))
            jobs.append(job if len(rows) else None)
        whole, loss = self._retried(lambda: self._sum(jobs))
        found, state = self.layout.pieces(whole), state_of(self.network)
        for name in state.keys() - self.network.params.keys():
            state[name][...] = found[name]
        return {name: found[name] for name in self.network.params}, loss

    def accuracy(self, count: int | None) -> float:
        """Return how much of the training images, or of the first ones, is classified correctly."""
        total = len(self.images) if count is None else min(count, len(self.images))
        counts = [len(range(shard, total, self.shards)) for shard in range(self.shards)]
        right: int = self._retried(lambda: self._count(counts))
        return right / total

    # ---- tasks ---------------------------------------------------------------------------------

    def _sum(self, jobs: list[Job | None]) -> Any:
        """Return the sum of a step. One task computes what one thread's shards give."""
        self._assign()
        flat = self._send_state()

        def task(first: int, last: int) -> Any:
            own = jobs[first:last]
            if not any(own):
                return None
            parts = [part if job else None for part, job in zip(self.parts[first:last], own)]
            return self._task(first, _gradients, flat, parts, own, first)

        def is_leaf(first: int, last: int) -> bool:
            return len(set(self.owners[first:last])) == 1

        # All goes to the scheduler in one message, and what the step before has left is let go of
        # behind it, as the client waits for 10 ms after each message before it sends another.
        root = _summed(0, self.shards, task, is_leaf, delayed(_sum_of_two, pure=False))
        future = self.client.compute(root, optimize_graph=False)
        self.latest = flat, future
        return future.result()

    def _count(self, counts: list[int]) -> int:
        """Return how many of the first images of each shard are classified correctly."""
        self._assign()
        flat = self._send_state()
        tasks = []
        for owner in dict.fromkeys(self.owners):
            own = [shard for shard in range(self.shards) if self.owners[shard] == owner]
            parts, numbers = [self.parts[i] for i in own], [counts[i] for i in own]
            tasks.append(self._task(own[0], _right, flat, parts, numbers))
        return sum(self.client.gather(self.client.compute(tasks, optimize_graph=False)))

    def _task(
        self, shard: int, function: Callable[..., Any], flat: dict[str, Any], *arguments: Any
    ) -> Any:
        """Call a function where a shard is or, if that worker has died, elsewhere."""
        address, _ = self.owners[shard]
        threads = self._kernel_threads(address)
        with annotate(workers=[address], allow_other_workers=True):
            call = delayed(function, pure=False)
            return call(self.replicas.name, flat[address], *arguments, threads)

    def _kernel_threads(self, address: str) -> int | None:
        """Return 1 if several tasks share a machine, otherwise None for the worker's setting."""
        host = urlsplit(address).hostname
        tasks = [n for other, n in self.workers.items() if urlsplit(other).hostname == host]
        return 1 if sum(tasks) > 1 else None

    def _send_state(self) -> dict[str, Any]:
        """Send the network's arrays to a worker, and say where each worker gets them.

        Workers make a tree, in which each gets them from the one above it.
        """
        flat = self.layout.flat(state_of(self.network))
        addresses = list(dict.fromkeys(address for address, _ in self.owners))
        held = [self._scattered(flat, addresses[0])]
        for i in range(1, (len(addresses) - 2) // BRANCHES + 1):
            with annotate(workers=[addresses[i]], allow_other_workers=True):
                held.append(delayed(_same, pure=False)(held[(i - 1) // BRANCHES]))
        return {address: held[max(0, i - 1) // BRANCHES] for i, address in enumerate(addresses)}

    # ---- workers that come and go --------------------------------------------------------------

    def _retried(self, compute: Callable[[], Value]) -> Value:
        """Compute again if a worker has died and taken what only it had.

        Tasks have no effects, and depend on nothing that changes before they are complete.
        """
        for attempt in range(ATTEMPTS):
            try:
                return compute()
            except CancelledError:
                if attempt == ATTEMPTS - 1:
                    raise
                self.parts = []
                time.sleep(0.1 * 2**attempt)  # The scheduler may not know of the death yet.
        raise AssertionError("unreachable")

    def _assign(self) -> None:
        """Give shards to the threads of the workers that there are, and images to new owners."""
        workers = self.client.nthreads()
        while not workers:  # A cluster that adapts to its tasks starts workers when there is one.
            self.client.submit(abs, 0, pure=False).result()
            workers = self.client.nthreads()
        if workers != self.workers:
            self.workers = dict(workers)
            slots = [(address, i) for address, n in sorted(workers.items()) for i in range(n)]
            number = range(self.shards)
            self.owners = [slots[shard * len(slots) // self.shards] for shard in number]
        if not self.is_open:
            self.client.register_plugin(self.replicas)
            self.is_open = True
        if not self.parts:
            self.parts = self._placed()

    def _placed(self) -> list[Any]:
        """Send every shard's images to its owner."""
        shards = [slice(shard, None, self.shards) for shard in range(self.shards)]
        if is_lazy(self.images):
            # Asked for together, each chunk is loaded once. An optimisation of the graph might
            # load it for every shard, where it joins loading and slicing.
            pieces = [self.images[shard] for shard in shards]
            images = self.client.compute(pieces, optimize_graph=False)
        else:
            images = [self.images[shard] for shard in shards]
        placed = []
        for shard, own, (address, _) in zip(shards, images, self.owners):
            weights = None if self.weights is None else self.weights[shard]
            rest = self.labels[shard].copy(), weights
            if is_lazy(self.images):
                where = {"workers": [address], "allow_other_workers": True}
                placed.append(self.client.submit(_part, own, *rest, pure=False, **where))
            else:
                placed.append(self._scattered(_part(own, *rest), address))
        return placed

    def _scattered(self, data: Any, address: str) -> Any:
        """Return the future of data on a worker."""
        try:
            return self.client.scatter([data], workers=[address], hash=False)[0]
        except (KeyError, OSError) as error:  # The scheduler has lost a worker, or is about to.
            raise CancelledError(f"a worker was lost: {reason(error)}") from error

    def _describe(self) -> int:
        """Return a checksum of the images, which are checked to be finite."""
        self._assign()
        found = self.client.gather(self.client.map(_described, self.parts, pure=False))
        if not all(finite for _, finite in found):
            raise argument_error(ValueError, "x_train must be finite, it holds NaN or infinity")
        return zlib.crc32(np.array([checksum for checksum, _ in found], np.uint32).tobytes())
