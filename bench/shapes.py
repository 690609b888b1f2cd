"""What is measured, as data: named workloads, the operations on them, and the targets."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Workload:
    """Square images (n, c, size, size) under square windows."""

    n: int
    c: int
    size: int
    kernel: int
    stride: int
    pad: int

    def with_fewer_images(self) -> "Workload":
        return replace(self, n=max(1, self.n // 4))

    @property
    def name(self) -> str:
        return f"{self.n},{self.c},{self.size} k{self.kernel} s{self.stride} p{self.pad}"

    @property
    def out_size(self) -> int:
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.size, self.size)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.out_size, self.out_size)

    @property
    def col_shape(self) -> tuple[int, int]:
        return (self.n * self.out_size**2, self.c * self.kernel**2)


@dataclass(frozen=True)
class Target:
    """`contender`'s median divided by ours (both in these modes) must reach `at_least`."""

    operation: str
    mode: str
    contender: str
    contender_mode: str
    at_least: float
    over: str  # "mean": the geometric mean over the workloads; "worst": every one of them


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
OPERATIONS = {
    "im2col": COLUMNS,
    "col2im": COLUMNS,
    "max_pool2d_indices": POOLING,
    "max_pool2d_backward": POOLING,
}

SMALL = Workload(1, 1, 8, 3, 1, 0)
SMALL_POOLING = Workload(1, 1, 8, 3, 3, 0)
SMALL_CALLS = {
    "im2col": SMALL,
    "unfold": SMALL,
    "col2im": SMALL,
    "fold": SMALL,
    "max_pool2d": SMALL_POOLING,
    "max_pool2d_indices": SMALL_POOLING,
    "max_pool2d_backward": SMALL_POOLING,
    "max_unpool2d": SMALL_POOLING,
    "avg_pool2d": SMALL_POOLING,
    "avg_pool2d_backward": SMALL_POOLING,
}
SMALL_CALL_US = 5.0

MEMORY = {
    "im2col": COLUMNS,
    "col2im": COLUMNS,
    "max_pool2d": POOLING,
    "max_pool2d_indices": POOLING,
    "max_pool2d_backward": POOLING,
    "avg_pool2d": POOLING,
    "avg_pool2d_backward": POOLING,
}
MEMORY_MIB_PER_THREAD = 1.0

TARGETS = (
    Target("im2col", "fresh", "numpy", "fresh", 20.0, "mean"),
    Target("im2col", "fresh", "torch", "fresh", 5.0, "mean"),
    Target("im2col", "out=", "parallel copy", "limit", 0.6, "mean"),
    Target("col2im", "fresh", "numpy", "fresh", 20.0, "mean"),
    Target("col2im", "fresh", "torch", "fresh", 4.0, "mean"),
    Target("max_pool2d_indices", "fresh", "torch", "fresh", 8.0, "mean"),
    Target("max_pool2d_indices", "fresh", "onnxruntime, no indices", "fresh", 1.0, "worst"),
    Target("max_pool2d_backward", "fresh", "torch", "fresh", 1.0, "worst"),
)
