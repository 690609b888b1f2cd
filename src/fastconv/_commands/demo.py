"""``fastconv demo``: a convolution layer on real images, in plain NumPy and with fastconv.

Both sides run im2col, the matrix product with a few well-known filters, max-pooling, and the
way back through pooling and col2im. Every result must be equal. That can be asked for because

* im2col and pooling only move and compare values;
* pixels are small whole numbers and the filters' weights whole numbers or sixteenths, so that
  the products are exact in float32, whatever order a BLAS library sums in;
* col2im adds the overlapping windows in the textbook's order, ascending (kh, kw).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastconv
from fastconv import _kernels, _textbook
from fastconv._commands.images import read_images
from fastconv._commands.shared import CommandError, count_to, open_report, path
from fastconv._filter_bank import FILTERS
from fastconv._text import table
from fastconv.datasets import packaged_digits

__all__ = ["FILTERS", "add_command"]

Array = NDArray[Any]

KERNEL = 3
PAD = 1
POOL = 2

CONTROL = "matrix product (*)"
CONTROL_NOTE = (
    "(*) NumPy's on both sides: a ratio far from 1.0x means that other programs disturb the times"
)

BATCH_BYTES = 128 << 20
"""The most bytes of columns per batch. A run needs about six times as much memory."""
PAUSE_SECONDS = 0.05
"""The pause before timing, in which the threads of the other library's pool fall asleep."""


# --- The comparison -------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One operation's line of the table."""

    operation: str
    shape: tuple[int, ...]
    numpy_seconds: float
    fastconv_seconds: float
    difference: float

    @property
    def ratio(self) -> float:
        """How many times faster fastconv is."""
        return self.numpy_seconds / max(self.fastconv_seconds, 1e-9)


class Comparison:
    """Run operations on both sides and collect the rows."""

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.rows: list[Row] = []

    def run(
        self,
        operation: str,
        in_numpy: Callable[[], Any],
        in_fastconv: Callable[[], Any],
        align: Callable[[Any], Any] = lambda result: result,
    ) -> tuple[Any, Any]:
        """Time both sides and compare their results, an array or a tuple of arrays each.

        `align` brings NumPy's result into fastconv's form, outside the timing. Returns both
        results; in place of a wrong one NumPy's, so that an error shows in its own row only.
        """
        expected, numpy_seconds = self._time(in_numpy)
        result, fastconv_seconds = self._time(in_fastconv)
        aligned = align(expected)
        difference, shape = _compare(aligned, result)
        self.rows.append(Row(operation, shape, numpy_seconds, fastconv_seconds, difference))
        return expected, aligned if difference else result

    def _time(self, function: Callable[[], Any]) -> tuple[Any, float]:
        time.sleep(PAUSE_SECONDS)
        result = function()  # warm-up
        seconds = []
        for _ in range(self.repeats):
            del result
            start = time.perf_counter()
            result = function()
            seconds.append(time.perf_counter() - start)
        return result, statistics.median(seconds)


def _compare(expected: Any, result: Any) -> tuple[float, tuple[int, ...]]:
    if not isinstance(expected, tuple):
        expected, result = (expected,), (result,)
    difference = max(largest_difference(a, b) for a, b in zip(expected, result, strict=True))
    return difference, expected[0].shape


def largest_difference(a: Array, b: Array) -> float:
    """Return the largest absolute difference: infinite for a wrong shape, dtype or NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    equal = a == b
    if a.dtype.kind == "f":
        equal |= np.isnan(a) & np.isnan(b)
    if equal.all():
        return 0.0
    distance = np.abs(a[~equal].astype(np.float64) - b[~equal].astype(np.float64))
    return float(np.nan_to_num(distance, nan=math.inf, posinf=math.inf).max())


def compare_product(compare: Comparison, images: Array, weights: Array) -> tuple[Array, Array]:
    """Run im2col and the matrix product; the large columns live no longer than this call."""
    n, _, h, w = images.shape

    def to_features(columns: Array) -> Array:
        return (columns @ weights).reshape(n, h, w, -1).transpose(0, 3, 1, 2)

    columns, fast_columns = compare.run(
        f"im2col {KERNEL}x{KERNEL}, pad {PAD}",
        lambda: _textbook.im2col(images, KERNEL, 1, PAD),
        lambda: fastconv.im2col(images, KERNEL, KERNEL, 1, PAD),
    )
    return compare.run(CONTROL, lambda: to_features(columns), lambda: to_features(fast_columns))


def compare_batch(images: Array, repeats: int) -> list[Row]:
    """Run the layer forward and backward on one batch, on both sides."""
    compare = Comparison(repeats)
    n, c, h, w = images.shape
    # Every filter looks at the sum of the channels: weights[(c, kh, kw), f].
    weights = np.array(list(FILTERS.values()), np.float32).reshape(len(FILTERS), -1)
    weights = np.tile(weights, c).T

    features, fast_features = compare_product(compare, images, weights)
    (_, places), (_, indices) = compare.run(
        f"max_pool2d {POOL}x{POOL}",
        lambda: _textbook.max_pool(features, POOL, POOL, 0),
        lambda: fastconv.max_pool2d(fast_features, POOL, return_indices=True),
        lambda pooled: (
            pooled[0],
            _textbook.plane_indices(pooled[1], features.shape[3], POOL, POOL, 0),
        ),
    )
    grad = np.random.default_rng(0).standard_normal(places.size, np.float32)
    grad = grad.reshape(n, len(FILTERS), h // POOL, w // POOL)
    grad_features, _ = compare.run(
        "max_pool2d_backward",
        lambda: _textbook.max_pool_backward(grad, places, features.shape, POOL, POOL, 0),
        lambda: fastconv.max_pool2d_backward(grad, indices, features.shape),
    )
    # These sums round, so both sides get the same ones.
    grad_columns = grad_features.transpose(0, 2, 3, 1).reshape(-1, len(FILTERS)) @ weights.T
    compare.run(
        f"col2im {KERNEL}x{KERNEL}, pad {PAD}",
        lambda: _textbook.col2im(grad_columns, images.shape, KERNEL, 1, PAD),
        lambda: fastconv.col2im(grad_columns, images.shape, KERNEL, KERNEL, 1, PAD),
    )
    return compare.rows


def combine(parts: Sequence[Row]) -> Row:
    """Add up one operation's rows of all batches."""
    return Row(
        parts[0].operation,
        (sum(part.shape[0] for part in parts), *parts[0].shape[1:]),
        sum(part.numpy_seconds for part in parts),
        sum(part.fastconv_seconds for part in parts),
        max(part.difference for part in parts),
    )


def compare_images(images: Array, repeats: int) -> list[Row]:
    """Run the layer on all images, in batches that need a limited amount of memory."""
    bytes_per_image = images[0].size * KERNEL * KERNEL * np.dtype(np.float32).itemsize
    batch = max(1, BATCH_BYTES // bytes_per_image)
    progress = len(images) > batch and sys.stderr is not None and sys.stderr.isatty()
    batches = []
    for start in range(0, len(images), batch):
        if progress:
            print(f"\r{start} of {len(images)} images", end="", file=sys.stderr, flush=True)
        batches.append(compare_batch(images[start : start + batch].astype(np.float32), repeats))
    if progress:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return [combine(parts) for parts in zip(*batches, strict=True)]


# --- The report -----------------------------------------------------------------------------


def as_table(rows: Sequence[Row]) -> str:
    """Format the rows as aligned text."""
    heads = ["operation", "result", "NumPy ms", "fastconv ms", "ratio", "largest difference"]
    cells = [
        [
            row.operation,
            row.shape,
            f"{row.numpy_seconds * 1e3:.2f}",
            f"{row.fastconv_seconds * 1e3:.2f}",
            f"{row.ratio:.1f}x",
            f"{row.difference:.3g}",
        ]
        for row in rows
    ]
    return table(heads, cells, left=2)


def summary(rows: Sequence[Row]) -> str:
    """Say in one line whether everything is equal, and what it took."""
    wrong = [row.operation for row in rows if row.difference]
    if wrong:
        return f"{len(wrong)} of {len(rows)} results DIFFER: {', '.join(wrong)}."
    total = combine([row for row in rows if row.operation != CONTROL])
    return (
        f"All {len(rows)} results are equal. Without the matrix product: "
        f"NumPy {total.numpy_seconds * 1e3:.1f} ms, "
        f"fastconv {total.fastconv_seconds * 1e3:.1f} ms ({total.ratio:.1f}x)."
    )


def as_json(facts: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Arrange the report for machines; an infinite difference (shape, dtype, NaN) is null."""
    return {
        **facts,
        "rows": [
            {
                "operation": row.operation,
                "shape": row.shape,
                "numpy_ms": row.numpy_seconds * 1e3,
                "fastconv_ms": row.fastconv_seconds * 1e3,
                "ratio": row.ratio,
                "largest_difference": row.difference if math.isfinite(row.difference) else None,
                "equal": row.difference == 0,
            }
            for row in rows
        ],
        "equal": all(row.difference == 0 for row in rows),
    }


# --- The command ----------------------------------------------------------------------------


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="compare fastconv with plain NumPy on real images",
        description="Run im2col, a matrix product with well-known filters, max-pooling and the "
        "way back through both on real images, in plain NumPy and with fastconv; check that all "
        "results are equal and print the times. Without --images: 1,797 handwritten digits.",
        epilog="Exit code: 0 if all results are equal, 1 if any differs, 2 for an error.",
    )
    parser.add_argument(
        "--images",
        metavar="PATH",
        type=path,
        nargs="+",
        action="extend",
        help="MNIST-style IDX files (plain or .gz), image files (need Pillow: "
        "pip install 'fastconv[images]') or folders of them; all of one size",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=path,
        help="also write the results as JSON; - is standard output",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=count_to(1024),
        help="threads that fastconv may use (NumPy's own are left alone)",
    )
    parser.add_argument(
        "--repeats",
        metavar="N",
        type=count_to(10**6),
        default=7,
        help="timed runs of each operation, of which the median counts (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit code."""
    if args.images:
        images, skipped = read_images(args.images)
        source = ", ".join(args.images[:3]) + (", ..." if len(args.images) > 3 else "")
    else:
        images, skipped = packaged_digits()[0], []
        source = "UCI handwritten digits (Alpaydin, Kaynak; CC BY 4.0)"
    n, c, h, w = images.shape
    if min(h, w) < POOL:
        raise CommandError(f"images must have at least {POOL} x {POOL} pixels, got {h} x {w}")
    if skipped:
        some = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
        print(f"fastconv demo: skipped what is not an image: {some}", file=sys.stderr)

    with (
        contextlib.nullcontext() if args.json is None else open_report(args.json) as report,
        fastconv.num_threads(args.threads or fastconv.get_num_threads()),
    ):
        facts = {
            "fastconv": fastconv.__version__,
            "cpu_level": _kernels.level,
            "threads": fastconv.get_num_threads(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "images": {"source": source, "paths": args.images or [], "shape": images.shape},
            "filters": list(FILTERS),
            "dtype": "float32",
            "repeats": args.repeats,
        }
        output = sys.stderr if args.json == "-" else sys.stdout
        print(
            "fastconv {fastconv} (CPU level {cpu_level}, threads: {threads}), NumPy {numpy}, "
            "Python {python}".format_map(facts),
            f"images:  {n} of {h} x {w} pixels, channels: {c}: {source}",
            f"filters: {', '.join(FILTERS)}",
            f"times:   median of {args.repeats} after a warm-up; float32",
            sep="\n",
            end="\n\n",
            file=output,
            flush=True,
        )
        rows = compare_images(images, args.repeats)
        if report is not None:
            json.dump(as_json(facts, rows), report, indent=2)
            report.write("\n")
    print(as_table(rows), CONTROL_NOTE, "", summary(rows), sep="\n", file=output)
    return 0 if all(row.difference == 0 for row in rows) else 1
