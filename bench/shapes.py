"""What is measured, as data: named workloads, the operations on them, and the targets."""

from dataclasses import dataclass, replace
from itertools import product
from math import isqrt


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

    def with_fewer_images(self) -> "Workload":
        return replace(self, n=max(1, self.n // 4))

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


@dataclass(frozen=True)
class NetworkTask:
    what: str  # "step" or "inference"
    network: str
    dtype: str

    @property
    def operation(self) -> str:
        return f"network {self.what}"

    @property
    def workload(self) -> str:
        return f"{self.network} {self.dtype}"


@dataclass(frozen=True)
class Target:
    """The best contender's time divided by ours (both in these modes) must reach `at_least`.

    Of several limits the one that binds counts.
    """

    operation: str
    mode: str
    contenders: tuple[str, ...]  # those of them that take part
    contender_mode: str
    at_least: float | None  # None: only shown
    over: str  # "mean": the geometric mean over the workloads; "worst": every one of them
    workloads: tuple[Workload, ...] = ()  # all

    def covers(self, workload: str) -> bool:
        own = [w.name for v in self.workloads for w in (v, v.with_fewer_images())]
        return not own or workload in own


@dataclass(frozen=True)
class SmallCall:
    workload: Workload
    at_most_us: float | None = 5.0  # None: only shown


@dataclass(frozen=True)
class Memory:
    """Operations and their budget beyond inputs, outputs and one copy of the weights."""

    operations: tuple[str, ...]
    workloads: tuple[Workload, ...]
    mib_per_thread: float


@dataclass(frozen=True)
class Accuracy:
    """A convolution whose result number `index`, called `result`, sums so many `terms`."""

    result: str
    operation: str
    index: int
    terms: int
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
OPERATIONS = {
    "im2col": COLUMNS,
    "col2im": COLUMNS,
    "max_pool2d_indices": POOLING,
    "max_pool2d_backward": POOLING,
    "conv2d": LAYERS,
    "conv2d_backward": LAYERS,
}

NETWORKS = tuple(
    NetworkTask(*names)
    for names in product(("step", "inference"), ("simple", "deep"), ("float32", "float64"))
)

SMALL = Workload(1, 1, 8, 3, 1, 0)
SMALL_POOLING = Workload(1, 1, 8, 3, 3, 0)
SMALL_LAYER = Workload(1, 1, 8, 3, 1, 0, filters=1)
SMALL_CALLS = {
    "im2col": SmallCall(SMALL),
    "unfold": SmallCall(SMALL),
    "col2im": SmallCall(SMALL),
    "fold": SmallCall(SMALL),
    "max_pool2d": SmallCall(SMALL_POOLING),
    "max_pool2d_indices": SmallCall(SMALL_POOLING),
    "max_pool2d_backward": SmallCall(SMALL_POOLING),
    "max_unpool2d": SmallCall(SMALL_POOLING),
    "avg_pool2d": SmallCall(SMALL_POOLING),
    "avg_pool2d_backward": SmallCall(SMALL_POOLING),
    "conv2d": SmallCall(SMALL_LAYER, at_most_us=6.0),
    "conv2d_backward": SmallCall(SMALL_LAYER, at_most_us=None),
    "conv_transpose2d": SmallCall(SMALL_LAYER, at_most_us=None),
}

MEMORY = (
    Memory(("im2col", "col2im"), COLUMNS, 1.0),
    Memory(
        (
            "max_pool2d",
            "max_pool2d_indices",
            "max_pool2d_backward",
            "avg_pool2d",
            "avg_pool2d_backward",
        ),
        POOLING,
        1.0,
    ),
    Memory(("conv2d", "conv2d_backward"), LAYERS[1:8], 4.0),
)

ACCURACY_CHANNELS = (1, 8, 32, 64, 128, 256, 512, 1024, 2222)
ACCURACY = (
    *(
        Accuracy("output", "conv2d", 0, 9 * c, Workload(2, c, 14, 3, 1, 0, filters=32))
        for c in ACCURACY_CHANNELS
    ),
    *(
        Accuracy("grad_input", "conv2d_backward", 0, 9 * f, Workload(2, 32, 14, 3, 1, 0, filters=f))
        for f in ACCURACY_CHANNELS
    ),
    *(
        Accuracy(
            "grad_weight", "conv2d_backward", 1, side**2, Workload(1, 32, side, 3, 1, 1, filters=32)
        )
        for side in (isqrt(9 * c) for c in ACCURACY_CHANNELS)
    ),
)
ERROR_BESIDE_NUMPY = 1.1  # at most

TORCH_LAYOUTS = ("torch", "torch channels_last")
CONV_PEERS = (*TORCH_LAYOUTS, "onnxruntime")
TARGETS = (
    Target("im2col", "fresh", ("numpy",), "fresh", 20.0, "mean"),
    Target("im2col", "fresh", ("torch",), "fresh", 5.0, "mean"),
    Target("im2col", "out=", ("parallel copy",), "limit", 0.6, "mean"),
    Target("col2im", "fresh", ("numpy",), "fresh", 20.0, "mean"),
    Target("col2im", "fresh", ("torch",), "fresh", 4.0, "mean"),
    Target("max_pool2d_indices", "fresh", ("torch",), "fresh", 8.0, "mean"),
    Target("max_pool2d_indices", "fresh", ("onnxruntime, no indices",), "fresh", 1.0, "worst"),
    Target("max_pool2d_backward", "fresh", ("torch",), "fresh", 1.0, "worst"),
    Target("conv2d", "fresh", ("numpy",), "fresh", 10.0, "worst"),
    Target("conv2d", "fresh", CONV_PEERS, "fresh", 1.0, "mean"),
    Target("conv2d", "fresh", CONV_PEERS, "fresh", 0.85, "worst"),
    Target("conv2d", "fresh", ("FMA peak",), "limit", 0.8, "worst", LAYERS[2:5]),
    Target("conv2d", "fresh", ("FMA peak", "parallel copy"), "limit", None, "mean"),
    Target("conv2d_backward", "fresh", ("numpy",), "fresh", 10.0, "worst"),
    Target("conv2d_backward", "fresh", ("torch",), "fresh", 1.3, "mean"),
    Target("conv2d_backward", "fresh", ("torch",), "fresh", 1.0, "worst"),
    Target("conv2d_backward", "fresh", TORCH_LAYOUTS, "fresh", None, "worst"),
    Target("conv2d_backward", "fresh", ("FMA peak", "parallel copy"), "limit", None, "mean"),
    Target("network step", "fresh", ("torch",), "fresh", 1.5, "worst"),
    Target("network step", "fresh", ("numpy",), "fresh", 15.0, "worst"),
    Target("network inference", "fresh", ("torch",), "fresh", 1.5, "worst"),
    Target("network inference", "fresh", ("numpy",), "fresh", 15.0, "worst"),
)
