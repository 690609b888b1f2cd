"""What is to be reached, as data, and the one function that checks it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import shapes
from bench.peers import HIGH, OURS, TORCH_COMPILE, TORCH_LAYOUTS
from bench.shapes import NetworkTask, Task, Workload


class Target(NamedTuple):
    """The best contender's time divided by ours, both in this mode, must reach `at_least`.

    Ours may be in another mode, `own_mode`. Without contenders what counts is the share that we
    reach of the limit that binds.
    """

    operation: str
    workloads: tuple[Task, ...]
    contenders: tuple[str, ...]  # Only those that take part count.
    at_least: float | None  # None: the ratio is shown, but not judged.
    over: str  # "mean": the geometric mean over the workloads; "worst": every one of them
    mode: str = "fresh"
    own_mode: str = ""
    of: str = ""  # Names the workloads where several targets differ in nothing else.

    @property
    def name(self) -> str:
        what = " ".join(filter(None, (self.operation, self.own_mode or self.mode, self.of)))
        return f"{what} beside {'/'.join(self.contenders) or 'the limit'}"


class Memory(NamedTuple):
    """Operations and their budget beyond inputs, outputs and one copy of the weights."""

    operations: tuple[str, ...]
    workloads: tuple[Workload, ...]
    mib_per_thread: float


@dataclass(frozen=True)
class Accuracy:
    """A convolution whose result number `index`, called `result`, is of sums of `terms` terms."""

    result: str
    operation: str
    index: int
    terms: int
    workload: Workload


POOLED = tuple(name for name in shapes.POOLING_OPERATIONS if name != "max_unpool2d")
MEMORY = (
    Memory(("im2col", "col2im"), shapes.COLUMNS, 1.0),
    Memory(POOLED, shapes.POOLING, 1.0),
    Memory(shapes.CONVOLUTION_OPERATIONS, shapes.LAYERS[1:8], 4.0),
)

# The networks in use whose peak memory is measured, also with --quick. Ours may be at most that of
# the peers.
PEAKS = (NetworkTask("resnet50", "float32", 16),)
QUICK_PEAKS = (NetworkTask("resnet20", "float32", 2),)
PEAK_PEERS = ("onnxruntime",)

# Results sum about 9 terms per channel, those of gradients of weights one per pixel.
CHANNELS = (1, 8, 32, 64, 128, 256, 512, 1024, 2222)
ACCURACY = (
    *(
        Accuracy("output", "conv2d", 0, 9 * c, Workload(2, c, 14, 3, 1, 0, filters=32))
        for c in CHANNELS
    ),
    *(
        Accuracy("grad_input", "conv2d_backward", 0, 9 * c, Workload(2, 32, 14, 3, 1, 0, filters=c))
        for c in CHANNELS
    ),
    *(
        Accuracy("grad_weight", "conv2d_backward", 1, n**2, Workload(1, 32, n, 3, 1, 1, filters=32))
        for n in (isqrt(9 * c) for c in CHANNELS)
    ),
)
# Our errors may be at most this many times NumPy's.
ERROR_BESIDE_NUMPY = 1.1
# Small calls of these operations may take this number of microseconds.
SMALL_CALL_US = {5.0: (*shapes.COLUMN_OPERATIONS, *shapes.POOLING_OPERATIONS), 6.0: ("conv2d",)}

CONV_PEERS = (*TORCH_LAYOUTS, "onnxruntime")
PREDICTION_PEERS = (*CONV_PEERS, TORCH_COMPILE)
# (n, c, size, filters) of 3x3 windows, and what is wanted with the default precision and "high".
WINOGRAD = (
    (((8, 256, 56, 256),), 1.6, 2.2),
    (((16, 128, 28, 128),), 1.3, 1.8),
    (((16, 64, 56, 64), (4, 64, 224, 64)), 1.15, 1.5),
    (((16, 256, 14, 256),), 1.5, 1.6),
)
TARGETS = (
    Target("im2col", shapes.COLUMNS, ("numpy",), 20.0, "mean"),
    Target("im2col", shapes.COLUMNS, ("torch",), 5.0, "mean"),
    Target("im2col", shapes.COLUMNS, (), 0.6, "mean", mode="out="),
    Target("col2im", shapes.COLUMNS, ("numpy",), 20.0, "mean"),
    Target("col2im", shapes.COLUMNS, ("torch",), 4.0, "mean"),
    Target("max_pool2d_indices", shapes.POOLING, ("torch",), 8.0, "mean"),
    Target("max_pool2d_indices", shapes.POOLING, ("onnxruntime, no indices",), 1.0, "worst"),
    Target("max_pool2d_backward", shapes.POOLING, ("torch",), 1.0, "worst"),
    *(
        Target(operation, shapes.NORMALIZED, contenders, at_least, "worst")
        for operation in shapes.NORMALIZATION_OPERATIONS
        for contenders, at_least in ((TORCH_LAYOUTS, 1.0), ((), 0.6))
    ),
    Target("conv2d", shapes.LAYERS, ("numpy",), 10.0, "worst"),
    Target("conv2d", shapes.LAYERS, CONV_PEERS, 1.0, "mean"),
    Target("conv2d", shapes.LAYERS, CONV_PEERS, 0.85, "worst"),
    Target("conv2d", shapes.LAYERS[2:5], (), 0.8, "worst"),
    Target("conv2d", shapes.LAYERS, (), None, "mean"),
    Target("conv1d", shapes.SIGNALS, ("torch",), 2.5, "mean"),
    Target("conv1d", shapes.SIGNALS, ("torch",), 1.0, "worst"),
    Target("conv2d_backward", shapes.LAYERS, ("numpy",), 10.0, "worst"),
    Target("conv2d_backward", shapes.LAYERS, ("torch",), 1.3, "mean"),
    Target("conv2d_backward", shapes.LAYERS, ("torch",), 1.0, "worst"),
    Target("conv2d_backward", shapes.LAYERS, TORCH_LAYOUTS, None, "worst"),
    Target("conv2d_backward", shapes.LAYERS, (), None, "mean"),
    Target("network_step", shapes.TASKS, TORCH_LAYOUTS, 1.5, "worst"),
    Target("network_step", shapes.TASKS, ("numpy",), 15.0, "worst"),
    Target("network_inference", shapes.TASKS, TORCH_LAYOUTS, 1.5, "worst"),
    Target("network_inference", shapes.TASKS, ("numpy",), 15.0, "worst"),
    Target("network_prediction", shapes.PREDICTED, PREDICTION_PEERS, 1.2, "mean"),
    Target("network_prediction", shapes.PREDICTED, PREDICTION_PEERS, 1.0, "worst"),
    Target("network_training", shapes.TRAINED, TORCH_LAYOUTS, 1.3, "mean"),
    Target("network_training", shapes.TRAINED, TORCH_LAYOUTS, 1.0, "worst"),
    Target("adam_update", shapes.UPDATES, ("torch",), 1.0, "worst"),
    Target("adam_update", shapes.UPDATES[:1], (), 0.6, "worst"),
    *(
        Target(
            "conv2d",
            tuple(Workload(n, c, size, 3, 1, 1, filters=f) for n, c, size, f in shapes),
            CONV_PEERS,
            wanted,
            "worst",
            own_mode=own_mode,
            of=", ".join(f"3x3 {shape}" for shape in shapes),
        )
        for shapes, *both in WINOGRAD
        for own_mode, wanted in zip(("fresh", HIGH), both, strict=True)
    ),
)


def verdicts(
    table: pd.DataFrame,
    memory: Sequence[Any],
    accuracy: Sequence[Any],
    peaks: Sequence[Any] = (),
) -> pd.DataFrame:
    """Say how far every target was reached that was measured.

    mean: of ratios the geometric one; worst; wanted: the condition; met; cases: their number.
    """
    found = [
        _verdict(target.name, _ratios(table, target), target.at_least, target.over, ">=")
        for target in TARGETS
    ]
    ours = table[(table["contender"] == OURS) & (table["mode"] != HIGH)]
    cases = ours.set_index(["operation", "workload"])["seconds"]
    for limit, operations in SMALL_CALL_US.items():
        calls = [(operation, shapes.SMALL_CALLS[operation].name) for operation in operations]
        found.append(_verdict("small calls, us", cases[cases.index.isin(calls)] * 1e6, limit))
    for limit in dict.fromkeys(use.at_most for use in memory):
        uses = [use.mib_per_thread for use in memory if use.at_most == limit]
        found.append(_verdict("extra memory, MiB a thread", uses, limit))
    beside_peers = f"peak memory of networks beside {'/'.join(PEAK_PEERS)}"
    found.append(_verdict(beside_peers, [row.ratio for row in peaks], 1.0, sign=">="))
    errors = [row.beside_numpy for row in accuracy]
    found.append(_verdict("error / numpy's error", errors, ERROR_BESIDE_NUMPY))
    columns = ["target", "mean", "worst", "wanted", "met", "cases"]
    return pd.DataFrame([verdict for verdict in found if verdict], columns=columns)


def _ratios(table: pd.DataFrame, target: Target) -> Any:
    names = [workload.name for workload in target.workloads]
    cases = table[(table["operation"] == target.operation) & table["workload"].isin(names)]
    ours = cases[(cases["contender"] == OURS) & (cases["mode"] == (target.own_mode or target.mode))]
    if not target.contenders:
        return ours["share"]
    theirs = cases[cases["contender"].isin(target.contenders) & (cases["mode"] == target.mode)]
    return theirs.groupby("workload")["seconds"].min() / ours.set_index("workload")["seconds"]


def _verdict(
    name: str, values: Any, wanted: float | None, over: str = "worst", sign: str = "<="
) -> tuple[Any, ...]:
    """Judge values that must be large (">=") or small ("<="); give nothing if there are none."""
    values = pd.Series(values, dtype=float).dropna()
    if values.empty:
        return ()
    large = sign == ">="
    mean = float(np.exp(np.log(values).mean()) if large else values.mean())
    worst = float(values.min() if large else values.max())
    judged = worst if over == "worst" else mean
    met = wanted is None or (judged >= wanted if large else judged <= wanted)
    condition = "" if wanted is None else f"{over} {sign} {wanted:g}"
    return name, mean, worst, condition, met, len(values)
