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


REASONS = (
    Reason(
        "onnxruntime without indices neither finds nor writes them: two thirds of the bytes of "
        "the results.",
        operations=("max_pool2d_indices",),
        contenders=("onnxruntime, no indices",),
    ),
    Reason(
        "In PyTorch's channels_last layout a 1×1 convolution reads its image as the matrix that "
        "it multiplies; ours is NumPy's NCHW.",
        operations=("conv2d",),
        contenders=("torch channels_last",),
        workload=lambda workload: workload.kernel == 1,
    ),
)


def reason_for(theirs: Row) -> Reason | None:
    """Give the first one that applies to a row that is faster than ours."""
    return next((reason for reason in REASONS if reason.applies(theirs)), None)
