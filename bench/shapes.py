"""What is measured, as data: named workloads and the sections that they are measured in."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple


@dataclass(frozen=True)
class Workload:
    """Square images (n, c, size, size) under square windows, of a convolution if with filters."""

    n: int
    c: int
    size: int
    kernel: int
    stride: int
    pad: int
    filters: int = 0
    groups: int = 1

    def of(self, n: int) -> "Workload":
        """Give the same with another number of images."""
        return replace(self, n=n)

    @property
    def name(self) -> str:
        text = f"{self.n},{self.c},{self.size} k{self.kernel} s{self.stride} p{self.pad}"
        text += f" f{self.filters}" if self.filters else ""
        return text + (f" g{self.groups}" if self.groups > 1 else "")

    @property
    def out_size(self) -> int:
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def image_shape(self) -> tuple[int, ...]:
        return (self.n, self.c, self.size, self.size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.n, self.filters or self.c, self.out_size, self.out_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.filters, self.c // self.groups, self.kernel, self.kernel)

    @property
    def col_shape(self) -> tuple[int, int]:
        return (self.n * self.out_size**2, self.c * self.kernel**2)

    @property
    def is_single_image(self) -> bool:
        """Whether one plane is convolved with one filter, as in image processing."""
        return self.n == self.c == self.filters == 1

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.c > 1


@dataclass(frozen=True)
class Signals(Workload):
    """Signals (n, c, size) under windows of one axis, of a convolution."""

    dilation: int = 1

    @property
    def name(self) -> str:
        return f"signals {super().name}" + (f" d{self.dilation}" if self.dilation > 1 else "")

    @property
    def out_size(self) -> int:
        span = self.dilation * (self.kernel - 1) + 1
        return (self.size + 2 * self.pad - span) // self.stride + 1

    @property
    def image_shape(self) -> tuple[int, ...]:
        return (self.n, self.c, self.size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.n, self.filters, self.out_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.filters, self.c // self.groups, self.kernel)

    @property
    def col_shape(self) -> tuple[int, int]:
        return (self.n * self.out_size, self.c * self.kernel)


@dataclass(frozen=True)
class NetworkTask:
    """A network of `fastconv.models` on batches of images, in training or in use."""

    network: str
    dtype: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.network} {self.dtype} batch {self.batch}"


@dataclass(frozen=True)
class UpdateTask:
    """All parameters of a network of `fastconv.models`, in float32, and their gradients."""

    network: str

    @property
    def name(self) -> str:
        return f"parameters of {self.network}"


@dataclass(frozen=True)
class FilterTask:
    """An image or a volume, and the size of a filter along each of its axes."""

    shape: tuple[int, ...]
    dtype: str
    size: int

    @property
    def name(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.dtype} size {self.size}"


Task = Workload | NetworkTask | UpdateTask | FilterTask


class Measurement(NamedTuple):
    operation: str
    workload: Task


class Section(NamedTuple):
    title: str
    measurements: tuple[Measurement, ...]
    quick: tuple[Measurement, ...] = ()  # These are measured instead with --quick.


class Layer(NamedTuple):
    """A convolution or pooling of a network, on one image, and how often the network has it."""

    times: int
    operation: str
    workload: Workload


COLUMNS = (
    Workload(100, 16, 32, 3, 1, 1),
    Workload(4, 64, 224, 3, 1, 1),
    Workload(8, 256, 56, 3, 1, 1),
    Workload(16, 256, 14, 3, 1, 1),
    Workload(8, 3, 224, 7, 2, 3),
    Workload(100, 1, 28, 5, 1, 0),
)
POOLING = (
    Workload(100, 30, 24, 2, 2, 0),
    Workload(8, 64, 112, 3, 2, 1),
    Workload(16, 64, 224, 2, 2, 0),
)
# Batch normalisation has no window; images are larger than the caches, or not.
NORMALIZED = (Workload(64, 64, 56, 1, 1, 0), Workload(128, 16, 32, 1, 1, 0))
LAYERS = (
    Workload(100, 1, 28, 5, 1, 0, filters=30),
    Workload(100, 16, 32, 3, 1, 1, filters=32),
    Workload(4, 64, 224, 3, 1, 1, filters=64),
    Workload(8, 256, 56, 3, 1, 1, filters=256),
    Workload(16, 256, 14, 3, 1, 1, filters=256),
    Workload(8, 3, 224, 7, 2, 3, filters=64),
    Workload(16, 256, 56, 1, 1, 0, filters=64),
    Workload(16, 256, 56, 3, 1, 1, filters=256, groups=256),
    Workload(1, 64, 56, 3, 1, 1, filters=64),
)
IMAGES = tuple(Workload(1, 1, 4096, k, 1, k // 2, filters=1) for k in (3, 5, 11, 31))


# The first layers of Whisper and of wav2vec 2.0, a layer of the latter on more samples, one of a
# temporal convolutional network, a depthwise one, and filters of long recordings.
SIGNALS = (
    Signals(1, 80, 3000, 3, 1, 1, filters=384),
    Signals(1, 384, 3000, 3, 2, 1, filters=384),
    Signals(1, 1, 160_000, 10, 5, 0, filters=512),
    Signals(1, 512, 31_999, 3, 2, 0, filters=512),
    Signals(1, 512, 1999, 2, 2, 0, filters=512),
    Signals(2, 512, 8000, 3, 2, 1, filters=512),
    Signals(16, 64, 1024, 3, 1, 8, filters=64, dilation=8),
    Signals(8, 256, 1000, 31, 1, 15, filters=256, groups=256),
    Signals(1, 1, 1_000_000, 64, 1, 0, filters=1),
    Signals(1, 1, 1_000_000, 64, 1, 0, filters=16),
)


def _layers(*rows: tuple[int, ...], pooling: str = "max_pool2d") -> tuple[Layer, ...]:
    """Count equal layers; a row is what `Workload` has after the number of images."""
    counts = Counter(Workload(1, *row) for row in rows)
    return tuple(Layer(n, "conv2d" if w.filters else pooling, w) for w, n in counts.items())


def _vgg16() -> tuple[Layer, ...]:
    convolutions, poolings = [], []
    c, size = 3, 224
    for filters, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            convolutions.append((c, size, 3, 1, 1, filters))
            c = filters
        poolings.append((c, size, 2, 2, 0))
        size //= 2
    return _layers(*convolutions, *poolings)


def _resnet50() -> tuple[Layer, ...]:
    """As in PyTorch, the 3x3 convolutions of the bottlenecks have the strides."""
    rows: list[tuple[int, ...]] = [(3, 224, 7, 2, 3, 64)]
    c, size = 64, 56
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 and width > 64 else 1
            rows += [(c, size, 1, 1, 0, width), (width, size, 3, stride, 1, width)]
            if block == 0:
                rows.append((c, size, 1, stride, 0, 4 * width))
            c, size = 4 * width, size // stride
            rows.append((width, size, 1, 1, 0, c))
    return _layers(*rows, (64, 112, 3, 2, 1))


def _mobilenet() -> tuple[Layer, ...]:
    rows: list[tuple[int, ...]] = [(3, 224, 3, 2, 1, 32)]
    c, size = 32, 112
    for stride, filters in (
        *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
        *[(1, 512)] * 5,
        *((2, 1024), (1, 1024)),
    ):
        rows.append((c, size, 3, stride, 1, c, c))
        size //= stride
        rows.append((c, size, 1, 1, 0, filters))
        c = filters
    return _layers(*rows)


# These are all distinct convolutions and poolings of well-known networks, by rows of channels,
# image size, window, stride, padding, filters (none: a pooling) and groups.
LAYERS_OF_NETWORKS = {
    "LeNet-5": _layers(
        *((1, 28, 5, 1, 2, 6), (6, 14, 5, 1, 0, 16), (6, 28, 2, 2, 0), (16, 10, 2, 2, 0)),
        pooling="avg_pool2d",
    ),
    "AlexNet": _layers(
        (3, 227, 11, 4, 0, 96),
        (96, 27, 5, 1, 2, 256, 2),
        (256, 13, 3, 1, 1, 384),
        (384, 13, 3, 1, 1, 384, 2),
        (384, 13, 3, 1, 1, 256, 2),
        (96, 55, 3, 2, 0),
        (256, 27, 3, 2, 0),
        (256, 13, 3, 2, 0),
    ),
    "VGG-16": _vgg16(),
    "ResNet-50": _resnet50(),
    "MobileNetV1": _mobilenet(),
}
BATCHES = (1, 16)

# Each curve is of convolutions that differ in the number that the axis has.
SCALED = Workload(8, 64, 56, 3, 1, 1, filters=64)
CURVES = {
    "batch": {n: SCALED.of(n) for n in (1, 2, 4, 8, 16, 32)},
    "image size": {size: replace(SCALED, size=size) for size in (7, 14, 28, 56, 112, 224)},
    "channels": {c: replace(SCALED, c=c, filters=c) for c in (4, 8, 16, 32, 64, 128, 256)},
    "kernel size": {k: replace(SCALED, kernel=k, pad=k // 2) for k in (1, 3, 5, 7, 9, 11)},
}
# These are timed with fewer threads, too: a kernel bound by multiply-adds, and two by memory.
THREADED = (
    Measurement("conv2d", SCALED),
    Measurement("im2col", COLUMNS[2]),
    Measurement("max_pool2d_indices", POOLING[1]),
)

COLUMN_OPERATIONS = ("im2col", "col2im", "unfold", "fold")
POOLING_OPERATIONS = (
    "max_pool2d_indices",
    "max_pool2d",
    "max_pool2d_backward",
    "max_unpool2d",
    "avg_pool2d",
    "avg_pool2d_backward",
)
NORMALIZATION_OPERATIONS = ("batch_norm", "batch_norm_backward")
CONVOLUTION_OPERATIONS = ("conv2d", "conv2d_backward")

SMALL_LAYER = Workload(1, 1, 8, 3, 1, 0, filters=1)
# With less than 8 KiB, what is measured is the call, not the kernel.
SMALL_CALLS = {
    **dict.fromkeys(COLUMN_OPERATIONS, Workload(1, 1, 8, 3, 1, 0)),
    **dict.fromkeys(POOLING_OPERATIONS, Workload(1, 1, 8, 3, 3, 0)),
    **dict.fromkeys((*CONVOLUTION_OPERATIONS, "conv_transpose2d"), SMALL_LAYER),
}

NETWORK_OPERATIONS = ("network_step", "network_inference")
TASKS = tuple(NetworkTask(*of, 100) for of in product(("simple", "deep"), ("float32", "float64")))
LARGE_TASKS = (
    NetworkTask("lenet", "float32", 100),
    NetworkTask("alexnet", "float32", 8),
    NetworkTask("vgg16", "float32", 2),
)
PREDICTED = tuple(
    NetworkTask(name, "float32", batch)
    for name in ("resnet50", "googlenet", "mobilenet", "vgg16")
    for batch in BATCHES
)
TRAINED = (
    NetworkTask("resnet20", "float32", 128),
    NetworkTask("vgg11", "float32", 16),
    NetworkTask("googlenet", "float32", 16),
)
UPDATES = (UpdateTask("vgg16"), UpdateTask("deep"))
FILTER_SIZES = {
    "gaussian_filter": (9, 25),
    "uniform_filter": (3, 9, 31),
    "maximum_filter": (3, 9, 31),
    "median_filter": (3, 5, 21),
    "sobel": (3,),
    "correlate": (3, 5, 9, 15),
    "convolve2d": (3, 9, 31, 63),
}
PLANES = tuple((side, side) for side in (512, 1024, 4096))
VOLUME = (128, 128, 128)
FILTERED_DTYPES = ("uint8", "float32", "float64")
MOST_TAPS = 32
"""Filters of a volume that are not separable cover at most this many pixels."""


def _each(operations: Iterable[str], workloads: Iterable[Task]) -> tuple[Measurement, ...]:
    return tuple(map(Measurement._make, product(operations, workloads)))


def _filters() -> Iterator[Measurement]:
    """Give the filters of planes, and those of a volume that take a reasonable time in SciPy."""
    for operation, sizes in FILTER_SIZES.items():
        for shape, dtype, size in product(PLANES, FILTERED_DTYPES, sizes):
            is_dense = operation in ("correlate", "convolve2d", "median_filter")
            if is_dense and shape == PLANES[-1] and size > 9:
                continue  # SciPy would take minutes.
            if operation == "convolve2d" and dtype == "uint8":
                continue  # Its sums wrap around.
            yield Measurement(operation, FilterTask(shape, dtype, size))
        for dtype, size in product(FILTERED_DTYPES, sizes):
            if operation == "convolve2d" or (is_dense and size**3 > MOST_TAPS):
                continue
            yield Measurement(operation, FilterTask(VOLUME, dtype, size))


def _network_layers(batch: int, *names: str) -> tuple[Measurement, ...]:
    """Give what the layers of networks are, each once."""
    layers = (layer for name in names for layer in LAYERS_OF_NETWORKS[name])
    return tuple(
        dict.fromkeys(Measurement(layer.operation, layer.workload.of(batch)) for layer in layers)
    )


def _sections() -> Iterator[Section]:
    few = COLUMNS[5].of(10)
    yield Section("columns", _each(COLUMN_OPERATIONS, COLUMNS), _each(COLUMN_OPERATIONS, [few]))
    few = POOLING[0].of(10)
    yield Section("pooling", _each(POOLING_OPERATIONS, POOLING), _each(POOLING_OPERATIONS, [few]))
    both, few = NORMALIZATION_OPERATIONS, NORMALIZED[1].of(8)
    yield Section("normalization", _each(both, NORMALIZED), _each(both, [few]))
    both, small = CONVOLUTION_OPERATIONS, (LAYERS[1].of(4), LAYERS[7].of(1))
    yield Section("convolution", _each(both, LAYERS), _each(both, small))
    small_image = replace(IMAGES[0], size=256)
    yield Section("images", _each(["conv2d"], IMAGES), _each(["conv2d"], [small_image]))
    few_signals = (
        Signals(2, 8, 300, 3, 2, 1, filters=16),
        replace(SIGNALS[6], n=1, c=8, filters=8),
    )
    signals = _each(["conv1d"], SIGNALS), _each(["conv1d"], few_signals)
    yield Section("one dimension", *signals)
    for batch in BATCHES:
        quick = _network_layers(batch, "LeNet-5") if batch == 1 else ()
        layers = _network_layers(batch, *LAYERS_OF_NETWORKS)
        yield Section(f"layers of networks, batch {batch}", layers, quick)
    convolutions = [m.workload for m in layers if m.operation == "conv2d"]
    gradients = _each(["conv2d_backward"], convolutions)
    yield Section(f"gradients of convolutions of networks, batch {batch}", gradients)
    for axis, points in CURVES.items():
        yield Section(f"time against {axis}", _each(["conv2d"], points.values()))
    calls = tuple(map(Measurement._make, SMALL_CALLS.items()))
    yield Section("small calls", calls, calls)
    tasks = _each(NETWORK_OPERATIONS, TASKS) + _each(["network_step"], LARGE_TASKS)
    step, inference = (replace(task, batch=10) for task in TASKS[:2])
    quick = Measurement("network_step", step), Measurement("network_inference", inference)
    yield Section("networks", tasks, quick)
    tasks = _each(["network_prediction"], PREDICTED)
    quick = _each(["network_prediction"], [NetworkTask("resnet20", "float32", 2)])
    yield Section("networks in use", tasks, quick)
    tasks = _each(["network_training"], TRAINED)
    quick = _each(["network_training"], [NetworkTask("resnet20", "float32", 4)])
    yield Section("networks in training", tasks, quick)
    few_parameters = UpdateTask("lenet")
    updates = _each(["adam_update"], UPDATES), _each(["adam_update"], [few_parameters])
    yield Section("updates of parameters", *updates)
    of_bytes, of_floats = (FilterTask((64, 64), dtype, 3) for dtype in ("uint8", "float32"))
    quick = _each(FILTER_SIZES, [of_floats])
    quick += _each(["median_filter", "maximum_filter"], [of_bytes])
    yield Section("filters", tuple(_filters()), quick)


SECTIONS = tuple(_sections())
SECTION_OF_THREADS = Section("time against threads", THREADED)


def thread_counts(most: int) -> list[int]:
    """Give the powers of two below, and `most` itself."""
    return [1 << bit for bit in range((most - 1).bit_length())] + [most]


# Rows of results have names of workloads only.
WORKLOADS = {
    measurement.workload.name: measurement.workload
    for section in (*SECTIONS, SECTION_OF_THREADS)
    for measurement in section.measurements + section.quick
}
