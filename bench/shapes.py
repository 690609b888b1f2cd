"""What is measured, as data: named workloads and the sections that they are measured in."""

from collections.abc import Iterator
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
    def image_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.size, self.size)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.filters or self.c, self.out_size, self.out_size)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
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
class NetworkTask:
    """A training step, or the scores of many images, of a network of `fastconv.models`."""

    what: str  # "step" or "inference"
    network: str
    dtype: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.network} {self.dtype} batch {self.batch}"


class Measurement(NamedTuple):
    operation: str
    workload: Workload | NetworkTask


@dataclass(frozen=True)
class Section:
    title: str
    measurements: tuple[Measurement, ...]
    quick: tuple[Measurement, ...]  # These are measured instead with --quick.


class Layer(NamedTuple):
    """A convolution or pooling of a network, on one image, and how often the network has it."""

    times: int
    operation: str
    workload: Workload


@dataclass(frozen=True)
class Curve:
    """Workloads that differ in one number, the one that gives its name to the axis."""

    axis: str
    operation: str
    points: tuple[tuple[int, Workload], ...]


def _layers(*rows: tuple[int, ...], pooling: str = "max_pool2d") -> tuple[Layer, ...]:
    workloads = [(times, Workload(1, *numbers)) for times, *numbers in rows]
    return tuple(Layer(times, "conv2d" if w.filters else pooling, w) for times, w in workloads)


def _measurements(
    operations: tuple[str, ...], workloads: tuple[Workload, ...]
) -> tuple[Measurement, ...]:
    return tuple(Measurement(*both) for both in product(operations, workloads))


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

# These are all distinct convolutions and poolings of well-known networks. A row is how often the
# network has it, channels, image size, window, stride, padding, filters (0: a pooling), groups.
LAYERS_OF_NETWORKS = {
    "LeNet-5": _layers(
        (1, 1, 28, 5, 1, 2, 6),
        (1, 6, 14, 5, 1, 0, 16),
        (1, 6, 28, 2, 2, 0),
        (1, 16, 10, 2, 2, 0),
        pooling="avg_pool2d",
    ),
    "AlexNet": _layers(
        (1, 3, 227, 11, 4, 0, 96),
        (1, 96, 27, 5, 1, 2, 256, 2),
        (1, 256, 13, 3, 1, 1, 384),
        (1, 384, 13, 3, 1, 1, 384, 2),
        (1, 384, 13, 3, 1, 1, 256, 2),
        (1, 96, 55, 3, 2, 0),
        (1, 256, 27, 3, 2, 0),
        (1, 256, 13, 3, 2, 0),
    ),
    "VGG-16": _layers(
        (1, 3, 224, 3, 1, 1, 64),
        (1, 64, 224, 3, 1, 1, 64),
        (1, 64, 112, 3, 1, 1, 128),
        (1, 128, 112, 3, 1, 1, 128),
        (1, 128, 56, 3, 1, 1, 256),
        (2, 256, 56, 3, 1, 1, 256),
        (1, 256, 28, 3, 1, 1, 512),
        (2, 512, 28, 3, 1, 1, 512),
        (3, 512, 14, 3, 1, 1, 512),
        (1, 64, 224, 2, 2, 0),
        (1, 128, 112, 2, 2, 0),
        (1, 256, 56, 2, 2, 0),
        (1, 512, 28, 2, 2, 0),
        (1, 512, 14, 2, 2, 0),
    ),
    # As in PyTorch, the 3x3 convolutions of the bottlenecks have the strides.
    "ResNet-50": _layers(
        (1, 3, 224, 7, 2, 3, 64),
        (1, 64, 56, 1, 1, 0, 64),
        (3, 64, 56, 3, 1, 1, 64),
        (4, 64, 56, 1, 1, 0, 256),
        (2, 256, 56, 1, 1, 0, 64),
        (1, 256, 56, 1, 1, 0, 128),
        (1, 128, 56, 3, 2, 1, 128),
        (1, 256, 56, 1, 2, 0, 512),
        (4, 128, 28, 1, 1, 0, 512),
        (3, 512, 28, 1, 1, 0, 128),
        (3, 128, 28, 3, 1, 1, 128),
        (1, 512, 28, 1, 1, 0, 256),
        (1, 256, 28, 3, 2, 1, 256),
        (1, 512, 28, 1, 2, 0, 1024),
        (6, 256, 14, 1, 1, 0, 1024),
        (5, 1024, 14, 1, 1, 0, 256),
        (5, 256, 14, 3, 1, 1, 256),
        (1, 1024, 14, 1, 1, 0, 512),
        (1, 512, 14, 3, 2, 1, 512),
        (1, 1024, 14, 1, 2, 0, 2048),
        (3, 512, 7, 1, 1, 0, 2048),
        (2, 2048, 7, 1, 1, 0, 512),
        (2, 512, 7, 3, 1, 1, 512),
        (1, 64, 112, 3, 2, 1),
    ),
    "MobileNetV1": _layers(
        (1, 3, 224, 3, 2, 1, 32),
        (1, 32, 112, 3, 1, 1, 32, 32),
        (1, 32, 112, 1, 1, 0, 64),
        (1, 64, 112, 3, 2, 1, 64, 64),
        (1, 64, 56, 1, 1, 0, 128),
        (1, 128, 56, 3, 1, 1, 128, 128),
        (1, 128, 56, 1, 1, 0, 128),
        (1, 128, 56, 3, 2, 1, 128, 128),
        (1, 128, 28, 1, 1, 0, 256),
        (1, 256, 28, 3, 1, 1, 256, 256),
        (1, 256, 28, 1, 1, 0, 256),
        (1, 256, 28, 3, 2, 1, 256, 256),
        (1, 256, 14, 1, 1, 0, 512),
        (5, 512, 14, 3, 1, 1, 512, 512),
        (5, 512, 14, 1, 1, 0, 512),
        (1, 512, 14, 3, 2, 1, 512, 512),
        (1, 512, 7, 1, 1, 0, 1024),
        (1, 1024, 7, 3, 1, 1, 1024, 1024),
        (1, 1024, 7, 1, 1, 0, 1024),
    ),
}
BATCHES = (1, 16)

SCALED = Workload(8, 64, 56, 3, 1, 1, filters=64)
CURVES = (
    Curve("batch", "conv2d", tuple((n, SCALED.of(n)) for n in (1, 2, 4, 8, 16, 32))),
    Curve(
        "image size",
        "conv2d",
        tuple((size, replace(SCALED, size=size)) for size in (7, 14, 28, 56, 112, 224)),
    ),
    Curve(
        "channels",
        "conv2d",
        tuple((c, replace(SCALED, c=c, filters=c)) for c in (4, 8, 16, 32, 64, 128, 256)),
    ),
    Curve(
        "kernel size",
        "conv2d",
        tuple((k, replace(SCALED, kernel=k, pad=k // 2)) for k in (1, 3, 5, 7, 9, 11)),
    ),
)
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
CONVOLUTION_OPERATIONS = ("conv2d", "conv2d_backward")


def _network_layers(batch: int, *names: str) -> tuple[Measurement, ...]:
    """Give what the layers of networks are, each once."""
    layers = (layer for name in names for layer in LAYERS_OF_NETWORKS[name])
    return tuple(
        dict.fromkeys(Measurement(layer.operation, layer.workload.of(batch)) for layer in layers)
    )


def _network_gradients(batch: int) -> tuple[Measurement, ...]:
    return tuple(
        Measurement("conv2d_backward", workload)
        for operation, workload in _network_layers(batch, *LAYERS_OF_NETWORKS)
        if operation == "conv2d"
    )


def _tasks(*tasks: NetworkTask) -> tuple[Measurement, ...]:
    return tuple(Measurement(f"network_{task.what}", task) for task in tasks)


SMALL = Workload(1, 1, 8, 3, 1, 0)
SMALL_POOLING = Workload(1, 1, 8, 3, 3, 0)
SMALL_LAYER = Workload(1, 1, 8, 3, 1, 0, filters=1)
# With less than 8 KiB, what is measured is the call, not the kernel.
SMALL_CALLS = {
    **dict.fromkeys(COLUMN_OPERATIONS, SMALL),
    **dict.fromkeys(POOLING_OPERATIONS, SMALL_POOLING),
    **dict.fromkeys((*CONVOLUTION_OPERATIONS, "conv_transpose2d"), SMALL_LAYER),
}

SECTIONS = (
    Section(
        "columns",
        _measurements(COLUMN_OPERATIONS, COLUMNS),
        _measurements(COLUMN_OPERATIONS, (COLUMNS[5].of(10),)),
    ),
    Section(
        "pooling",
        _measurements(POOLING_OPERATIONS, POOLING),
        _measurements(POOLING_OPERATIONS, (POOLING[0].of(10),)),
    ),
    Section(
        "convolution",
        _measurements(CONVOLUTION_OPERATIONS, LAYERS),
        _measurements(CONVOLUTION_OPERATIONS, (LAYERS[1].of(4), LAYERS[7].of(1))),
    ),
    Section(
        "images",
        _measurements(("conv2d",), IMAGES),
        _measurements(("conv2d",), (replace(IMAGES[0], size=256),)),
    ),
    *(
        Section(
            f"layers of networks, batch {batch}",
            _network_layers(batch, *LAYERS_OF_NETWORKS),
            _network_layers(batch, "LeNet-5") if batch == 1 else (),
        )
        for batch in BATCHES
    ),
    Section("gradients of convolutions of networks, batch 16", _network_gradients(16), ()),
    *(
        Section(
            f"time against {curve.axis}",
            tuple(Measurement(curve.operation, workload) for _, workload in curve.points),
            (),
        )
        for curve in CURVES
    ),
    Section(
        "small calls",
        tuple(Measurement(*both) for both in SMALL_CALLS.items()),
        tuple(Measurement(*both) for both in SMALL_CALLS.items()),
    ),
    Section(
        "networks",
        _tasks(
            *(
                NetworkTask(what, network, dtype, 100)
                for what, network, dtype in product(
                    ("step", "inference"), ("simple", "deep"), ("float32", "float64")
                )
            ),
            NetworkTask("step", "lenet", "float32", 100),
            NetworkTask("step", "alexnet", "float32", 8),
            NetworkTask("step", "vgg16", "float32", 2),
        ),
        _tasks(
            NetworkTask("step", "simple", "float32", 10),
            NetworkTask("inference", "simple", "float64", 10),
        ),
    ),
)


def thread_counts(most: int) -> Iterator[int]:
    """Give the powers of two below, and `most` itself."""
    count = 1
    while count < most:
        yield count
        count *= 2
    yield most


# Rows of results have names of workloads only.
WORKLOADS: dict[str, Workload | NetworkTask] = {
    measured.workload.name: measured.workload
    for measured in (*(m for s in SECTIONS for m in (*s.measurements, *s.quick)), *THREADED)
}
