"""The loops that measure what the machine can do really do it."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import _kernels


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("past_caches", [False, True])
@pytest.mark.parametrize(
    ("read", "written"), [(0, 0), (64, 0), (0, 6400), (1000, 1000), (70001, 5000), (640, 99999)]
)
def test_moves_write_everything_but_broken_lines(
    level: str, threads: int, past_caches: bool, read: int, written: int
) -> None:
    guard = 64
    source = np.full(read, 7, np.uint8)
    memory = np.full(written + 2 * guard, 9, np.uint8)
    target = memory[guard : guard + written]
    _kernels.roofline.move(source, target, threads, 2, past_caches)
    assert (memory[:guard] == 9).all()
    assert (memory[guard + written :] == 9).all()
    lost = 4 * guard * threads  # at the ends of the threads' parts
    common = min(read, written)
    assert np.count_nonzero(target == 9) <= lost
    assert np.count_nonzero(target == 7) >= min(common, written) - lost
    assert np.count_nonzero(target == 0) >= written - common - lost


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_counts_operations(level: str, dtype: str) -> None:
    few, many = (_kernels.roofline.fma_peak(dtype, 2, rounds) for rounds in (10, 1000))
    assert many == 100 * few > 0
