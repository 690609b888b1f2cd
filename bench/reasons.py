"""Why peers win where they win, as data: the first reason that applies counts."""

# ruff: noqa: RUF001 - signs that the reader is to see

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Row
from bench.shapes import (
    CURVES,
    SECTIONS,
    SMALL_CALLS,
    THREADED,
    NetworkTask,
    Workload,
)

# What rows call by name.
WORKLOADS: dict[str, Workload | NetworkTask] = {
    workload.name: workload
    for workload in (
        *(m.workload for section in SECTIONS for m in (*section.measurements, *section.quick)),
        *(m.workload for m in THREADED),
        *(workload for curve in CURVES for _, workload in curve.points),
        *SMALL_CALLS.values(),
    )
}


@dataclass(frozen=True)
class Reason:
    """Applies to rows of these contenders; where a field is empty, of any."""

    text: str
    operations: tuple[str, ...] = ()
    contenders: tuple[str, ...] = ()  # beginnings of names
    modes: tuple[str, ...] = ()
    workload: Callable[[Workload], bool] | None = None

    def applies(self, theirs: Row) -> bool:
        workload = WORKLOADS.get(theirs.workload)
        return (
            (not self.operations or theirs.operation in self.operations)
            and (not self.contenders or theirs.contender.startswith(self.contenders))
            and (not self.modes or theirs.mode in self.modes)
            and (
                self.workload is None
                or (isinstance(workload, Workload) and self.workload(workload))
            )
        )


def _is_depthwise(workload: Workload) -> bool:
    return workload.groups == workload.c > 1


def _is_tiny(workload: Workload) -> bool:
    return workload.n * workload.c * workload.size**2 <= 4096


REASONS = (
    Reason(
        "onnxruntime without indices neither finds nor writes them: two thirds of the bytes of "
        "the results.",
        operations=("max_pool2d_indices",),
        contenders=("onnxruntime, no indices",),
    ),
    Reason(
        "What is measured is the call. Ours checks its arguments in Python, 2 to 6 µs; PyTorch "
        "does in C++, and OpenCV's network was given its input before.",
        workload=_is_tiny,
    ),
    Reason(
        "Depthwise, the channels_last layout has a pixel's channels side by side: lanes are "
        "channels, and no plane needs a frame of zeros. Ours copies every plane into one, which "
        "for a plane of 7×7 takes as long as its arithmetic.",
        operations=("conv2d", "conv2d_backward"),
        contenders=("torch channels_last",),
        workload=_is_depthwise,
    ),
    Reason(
        "Depthwise planes of a few pixels: a call of the tile and a copy into a frame of zeros a "
        "plane, 0.1 to 0.2 µs of a thread.",
        operations=("conv2d", "conv2d_backward"),
        workload=_is_depthwise,
    ),
    Reason(
        "One image, and weights that are packed in every call, as they come as a NumPy array. "
        "onnxruntime has packed them when its session was made, and keeps images in a blocked "
        "layout of its own.",
        operations=("conv2d",),
        contenders=("onnxruntime",),
        workload=lambda workload: workload.n == 1 and workload.c > 3,
    ),
    Reason(
        "In PyTorch's channels_last layout a 1×1 convolution and its gradients read their images "
        "as the matrices that they multiply; ours is NumPy's NCHW.",
        operations=("conv2d", "conv2d_backward"),
        contenders=("torch channels_last",),
        workload=lambda workload: workload.kernel == 1,
    ),
    Reason(
        "Three channels make short sums, so that results are dear: ours are transposed to NCHW in "
        "registers and stored row by row; channels_last stores them as they are.",
        operations=("conv2d", "conv2d_backward"),
        contenders=("torch channels_last",),
        workload=lambda workload: workload.c <= 3,
    ),
    Reason(
        "11×11 taps of three channels: a block of 32 filters has 46 KB of weights, as much as L1 "
        "holds, so that the tile reads them from L2 and reaches 126 of its 182 GFLOP/s a core.",
        operations=("conv2d",),
        workload=lambda workload: workload.kernel == 11,
    ),
    Reason(
        "With a stride, rows are dealt to even and odd columns as they are copied: 4 % of the time "
        "of 16 images of 256 channels, 28×28, and 8 % of one's, of which packing the weights takes "
        "another 9 %; the tile itself runs at nine tenths of the multiply-add peak.",
        operations=("conv2d", "conv2d_backward"),
        workload=lambda workload: workload.kernel > 1 and workload.stride > 1,
    ),
    Reason(
        "A 1×1 convolution of stride 2 leaves out three quarters of the pixels. Its adjoint writes "
        "zeros there row by row, 7 or 14 numbers at a time.",
        operations=("conv2d", "conv2d_backward"),
        workload=lambda workload: workload.kernel == 1 and workload.stride == 2,
    ),
    Reason(
        "1×1 on small planes: 49 pixels are cut into pieces of 12 and 13 where the tile holds 14, "
        "196 into pieces of 13 and 14, and megabytes of weights come from beyond L2, once for as "
        "many images as lie there.",
        operations=("conv2d", "conv2d_backward"),
        workload=lambda workload: workload.kernel == 1,
    ),
    Reason(
        "Our tile alone runs at the multiply-add peak. Around it, copying bands takes 3-6 % of "
        "the time, transposing and writing results 5-15 %, uneven ends of threads 3-8 %; layouts "
        "with channels innermost have less of the second. 3×3 windows have a way with fewer "
        "multiplications, which small images and few channels leave too little for.",
        operations=("conv2d", "conv2d_backward"),
        contenders=("torch", "onnxruntime"),
        workload=lambda workload: workload.kernel > 1 and workload.stride == 1,
    ),
    Reason(
        "Ours finds even and odd columns of every plane by shuffles; in the channels_last layout, "
        "and in OpenCV's blocks of channels, a window's pixels are whole vectors.",
        operations=("max_pool2d", "max_pool2d_indices"),
        contenders=("torch channels_last", "opencv dnn"),
    ),
)


# Beginnings of targets' names, and why they are missed where they are.
MISSED = (
    (
        "im2col out= beside the limit",
        "The limit is the faster of moving the bytes through the caches and past them, mostly past "
        "them, at twice the rate. Of a plain copy it is 0.6 to 1.2 where the columns leave the "
        "caches, 0.2 to 0.4 where they do not: rows of 12 bytes are many short copies.",
    ),
    (
        "max_pool2d_indices fresh beside onnxruntime, no indices",
        "It writes a third of the bytes.",
    ),
    (
        "conv2d fresh beside numpy",
        "Where channels are many and images small, NumPy's time is its product's, which runs at "
        "the multiply-add peak on all threads, too.",
    ),
    ("conv2d_backward fresh beside numpy", "Likewise."),
    (
        "network_step fresh beside torch",
        "DeepConvNet in float32: eight tenths of the step are convolutions, of 16 filters, which "
        "use one vector a tile, and of planes of 8×8, with much to copy and to transpose beside "
        "few multiplications.",
    ),
    (
        "small calls",
        "Python reads and checks the arguments; the times vary with the processor's clock by half.",
    ),
)


def why_missed(target: str) -> str:
    return next((text for name, text in MISSED if target.startswith(name)), "not explained yet")


def reason_for(theirs: Row) -> Reason | None:
    """Give the first one that applies to a row that is faster than ours."""
    return next((reason for reason in REASONS if reason.applies(theirs)), None)
