"""Weights that are packed once: the same results as with the plain array, from fewer copies."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from convolutions import Case
from helpers import LAYOUTS, Array, assert_same, guarded, normal_values

import fastconv
from fastconv import _kernels
from fastconv.packing import MOST_PACKS, Packs, packs_of

CASES = {
    "3x3": Case((2, 5, 9, 21), 18, (3, 3), 1, 1),
    "1x1 in place": Case((2, 70, 6, 9), 33, (1, 1)),
    "few filters": Case((2, 3, 11, 13), 4, (3, 5), (2, 1), 1),
    "groups": Case((1, 12, 8, 8), 40, (3, 3), 1, 1, groups=4),
    "depthwise": Case((2, 6, 9, 9), 6, (3, 3), 1, 1, groups=6),
    "dilated, strided": Case((2, 5, 15, 17), 19, (3, 2), (2, 3), 2, (1, 2)),
    "one image, packed late": Case((1, 40, 7, 7), 70, (3, 3), 1, 1),
    "in place, prefetched": Case((1, 530, 7, 7), 512, (1, 1)),
    "narrow rows, prefetched": Case((1, 180, 7, 7), 180, (3, 3), 1, 1),
    "rows of a tile, prefetched": Case((1, 180, 9, 13), 180, (3, 3), 1, 1),
    "edge padding": Case((1, 6, 9, 9), 20, (3, 3), 1, 2, pad_mode="edge"),
    "one window": Case((3, 4, 5, 6), 7, (5, 6)),
    "gathered": Case((1, 520, 60, 28), 5, (60, 28)),
}
all_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


class Counted:
    """The packs of a weight, and how many blocks were asked for."""

    def __init__(self, packed: fastconv.PackedWeight, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        packs = packs_of(packed)
        assert packs is not None
        new_block = packs.new_block

        def counted(n_bytes: int) -> Array:
            self.made += 1
            return new_block(n_bytes)

        monkeypatch.setattr(packs, "new_block", counted)


def random_weight(shape: tuple[int, ...] = (24, 16, 3, 3), dtype: Any = np.float32) -> Array:
    return normal_values(shape, dtype, seed=1)


def pickled(packed: fastconv.PackedWeight) -> Any:
    return pickle.loads(pickle.dumps(packed))


def forward(case: Case, images: Array, weight: Any, **keywords: Any) -> Array:
    return fastconv.conv2d(images, weight, **case.window, **keywords)


# ------------------------------------------------------------------------------- the same results


@all_cases
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_forward(level: str, threads: int, case: Case, dtype: str) -> None:
    """The first call packs, the second one uses what it finds."""
    images, weight, bias, _ = case.arrays(normal_values, dtype)
    packed = fastconv.PackedWeight(weight)
    for algorithm in case.algorithms:
        expected = forward(case, images, weight, bias=bias, algorithm=algorithm)
        for _ in range(2):
            with guarded(expected.shape, dtype) as out:
                forward(case, images, packed, bias=bias, algorithm=algorithm, out=out)
                assert_same(out, expected)


@all_cases
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_transposed(level: str, threads: int, case: Case, dtype: str) -> None:
    if case.pad_mode != "constant":
        case = replace(case, pad_mode="constant")
    _, weight, _, grad = case.arrays(normal_values, dtype)
    packed = fastconv.PackedWeight(weight)
    for algorithm in case.algorithms:
        window = {**case.transposed, "algorithm": algorithm}
        expected = fastconv.conv_transpose2d(grad, weight, **window)
        for _ in range(2):
            assert_same(fastconv.conv_transpose2d(grad, packed, **window), expected)


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_weights_of_several_passes(threads: int, precision: str) -> None:
    """Transformed filters of more than 12 MiB are transformed in passes, but kept as a whole."""
    case = Case((1, 300, 14, 15), 800, (3, 3), 1, 1)
    images, weight, _, _ = case.arrays(normal_values)
    with fastconv.precision(precision):
        plan = fastconv.plan_conv2d(images.shape, weight.shape, padding=1, algorithm="winograd")
        packed = fastconv.PackedWeight(weight)
        expected = forward(case, images, weight, algorithm="winograd")
        for _ in range(2):
            assert_same(forward(case, images, packed, algorithm="winograd"), expected)
    transformed = (plan.tile + 2) ** 2 / 9 * weight.nbytes
    assert transformed <= packed.nbytes - weight.nbytes <= 1.3 * transformed
    assert transformed > 12 << 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_images_and_weights(layout: Any) -> None:
    case = Case((2, 6, 7, 8), 17, (3, 3), 1, 1)
    images, weight, _, _ = (LAYOUTS[layout](array) for array in case.arrays(normal_values))
    packed = fastconv.PackedWeight(weight)
    for algorithm in case.algorithms:
        expected = forward(case, images, np.ascontiguousarray(weight), algorithm=algorithm)
        for _ in range(2):
            assert_same(forward(case, images, packed, algorithm=algorithm), expected)


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "f2", "f4", "f8"])
def test_dtypes_are_those_of_plain_weights(dtype: str) -> None:
    """One object serves images of every dtype; what is computed in another type is packed anew."""
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, (9, 4, 2, 2)).astype(dtype)
    packed = fastconv.PackedWeight(weight)
    for images_dtype in ("u1", "f2", "f4", "f8", "f4", "?"):
        images = rng.integers(0, 2, (2, 4, 5, 6)).astype(images_dtype)
        assert_same(fastconv.conv2d(images, packed), fastconv.conv2d(images, weight))


def test_epilogue(threads: int) -> None:
    case = Case((2, 16, 9, 8), 24, (3, 3), 1, 1)
    images, weight, bias, residual = case.arrays(normal_values)
    packed = fastconv.PackedWeight(weight)
    done = {"bias": bias, "residual": residual, "activation": "relu"}
    for algorithm in case.algorithms:
        expected = forward(case, images, weight, algorithm=algorithm, **done)
        for _ in range(2):
            assert_same(forward(case, images, packed, algorithm=algorithm, **done), expected)


def test_images_with_nan() -> None:
    """Tiles that are not finite are computed again, from a pack of the direct kernel's own."""
    case = Case((3, 16, 9, 8), 24, (3, 3), 1, 1)
    images, weight, _, _ = case.arrays(normal_values)
    images[1, 3, 4, 5] = np.nan
    packed = fastconv.PackedWeight(weight)
    expected = forward(case, images, weight, algorithm="winograd")
    for _ in range(2):
        assert_same(forward(case, images, packed, algorithm="winograd"), expected)


def test_one_object_for_all_arguments(level: str) -> None:
    """No call takes a pack of other arguments, whatever was packed before it."""
    weight = random_weight((16, 16, 3, 3))
    packed = fastconv.PackedWeight(weight)
    images = {n: normal_values((2, n, 10, 11)) for n in (16, 32, 64)}
    for _ in range(2):
        for groups in (1, 2, 4):
            for keywords in (
                {"padding": 1},
                {"padding": 1, "algorithm": "direct"},
                {"padding": 1, "algorithm": "winograd"},
                {"stride": 2},
                {"stride": (1, 2), "dilation": 2},
            ):
                array = images[16 * groups]
                expected = fastconv.conv2d(array, weight, groups=groups, **keywords)
                assert_same(fastconv.conv2d(array, packed, groups=groups, **keywords), expected)
                array = images[16]
                expected = fastconv.conv_transpose2d(array, weight, groups=groups, **keywords)
                result = fastconv.conv_transpose2d(array, packed, groups=groups, **keywords)
                assert_same(result, expected)


def test_levels_share_no_packs() -> None:
    """Levels round transforms differently, and a pack is for vectors of one width."""
    weight, images = random_weight(), normal_values((2, 16, 9, 9))
    packed = fastconv.PackedWeight(weight)
    before = _kernels.level
    try:
        for name in [*_kernels.available_levels()] * 2:
            _kernels.use(name)
            for algorithm in ("direct", "winograd"):
                expected = fastconv.conv2d(images, weight, padding=1, algorithm=algorithm)
                result = fastconv.conv2d(images, packed, padding=1, algorithm=algorithm)
                assert_same(result, expected)
    finally:
        _kernels.use(before)


# -------------------------------------------------------------------------------- what is shared


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_sizes_batches_and_threads_share_a_pack(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = fastconv.PackedWeight(random_weight())
    counted = Counted(packed, monkeypatch)
    for threads in (1, 3):
        with fastconv.num_threads(threads):
            for n, h, w in ((1, 7, 7), (16, 7, 7), (2, 30, 41), (1, 3, 3)):
                images = normal_values((n, 16, h, w))
                fastconv.conv2d(images, packed, padding=1, algorithm=algorithm)
    assert counted.made == 1


def test_windows_share_a_pack_of_the_direct_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = fastconv.PackedWeight(random_weight())
    counted = Counted(packed, monkeypatch)
    images = normal_values((2, 16, 12, 12))
    for keywords in ({}, {"stride": 2}, {"dilation": 2}, {"padding": 3, "pad_mode": "wrap"}):
        fastconv.conv2d(images, packed, algorithm="direct", **keywords)
    assert counted.made == 1


def test_a_pack_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros in place of the packed weights make zeros of the results."""
    for algorithm in ("direct", "winograd"):
        packed = fastconv.PackedWeight(random_weight())
        images = normal_values((1, 16, 7, 7))
        assert fastconv.conv2d(images, packed, padding=1, algorithm=algorithm).any()
        packs = packs_of(packed)
        assert packs is not None
        [block] = packs._blocks.values()
        block[:] = 0
        assert not fastconv.conv2d(images, packed, padding=1, algorithm=algorithm).any()


def test_depthwise_weights_are_used_where_they_lie() -> None:
    packed = fastconv.PackedWeight(random_weight((6, 1, 3, 3)))
    before = packed.nbytes
    fastconv.conv2d(normal_values((2, 6, 9, 9)), packed, groups=6)
    assert packed.nbytes == before


# --------------------------------------------------------------------------------------- memory


def test_nbytes_is_bounded() -> None:
    weight = random_weight((160, 4, 3, 3))
    packed = fastconv.PackedWeight(weight)
    assert packed.nbytes == weight.nbytes
    sizes = []
    for groups in (1, 2, 4, 8, 16):
        images = normal_values((1, 4 * groups, 5, 5))
        fastconv.conv2d(images, packed, groups=groups, stride=2)
        sizes.append(packed.nbytes)
    packs = packs_of(packed)
    assert packs is not None
    assert len(packs._blocks) == MOST_PACKS
    assert weight.nbytes < sizes[0] < sizes[1]
    assert packed.nbytes == weight.nbytes + packs.nbytes


def test_the_oldest_pack_is_dropped() -> None:
    packs = Packs()
    for i in range(MOST_PACKS + 1):
        assert packs.find((i,)) is None
        packs.keep((i,), packs.new_block(100))
    assert packs.find((0,)) is None
    assert all(packs.find((i,)) is not None for i in range(1, MOST_PACKS + 1))
    assert packs.nbytes == 100 * MOST_PACKS


def test_memory_is_freed_with_the_object() -> None:
    packed = fastconv.PackedWeight(random_weight())
    fastconv.conv2d(normal_values((1, 16, 7, 7)), packed)
    packs = packs_of(packed)
    assert packs is not None
    [block] = packs._blocks.values()
    del packs
    references = sys.getrefcount(block)
    del packed
    assert sys.getrefcount(block) == references - 1


# ---------------------------------------------------------------------------------- the weights


def test_the_source_array_may_change() -> None:
    """Weights are copied: neither packs nor what is packed later sees a change of the array."""
    weight, images = random_weight(), normal_values((1, 16, 7, 7))
    expected = fastconv.conv2d(images, weight), fastconv.conv2d(images.astype("f8"), weight)
    packed = fastconv.PackedWeight(weight)
    fastconv.conv2d(images, packed)
    weight[:] = 0
    assert_same(fastconv.conv2d(images, packed), expected[0])
    assert_same(fastconv.conv2d(images.astype("f8"), packed), expected[1])


def test_the_weights_are_read_only() -> None:
    packed = fastconv.PackedWeight(random_weight())
    array = np.asarray(packed)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.setflags(write=True)
    np.array(packed)[0] = 1
    assert_same(np.asarray(packed), random_weight())


def test_it_is_an_array_elsewhere() -> None:
    weight, images = random_weight(), normal_values((1, 16, 7, 7))
    packed = fastconv.PackedWeight(weight)
    assert (packed.shape, packed.dtype) == (weight.shape, weight.dtype)
    grad = fastconv.conv2d(images, weight)
    expected = fastconv.conv2d_backward(grad, images, weight)
    for result, array in zip(fastconv.conv2d_backward(grad, images, packed), expected):
        assert array is not None
        assert_same(result, array)
    assert_same(np.asarray(packed, "f8"), weight.astype("f8"))
    assert_same(np.asarray(fastconv.PackedWeight(packed)), weight)
    assert repr(packed) == "PackedWeight(<(24, 16, 3, 3) float32>)"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
def test_copies_have_no_packs(duplicate: Any) -> None:
    weight, images = random_weight(), normal_values((1, 16, 7, 7))
    packed = fastconv.PackedWeight(weight)
    expected = fastconv.conv2d(images, packed)
    other = duplicate(packed)
    assert type(other) is fastconv.PackedWeight
    assert other.nbytes == weight.nbytes < packed.nbytes
    assert_same(fastconv.conv2d(images, other), expected)
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(other)[0] = 1


# --------------------------------------------------------------------------------------- errors


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^PackedWeight: weight must have 4 dimensions.*\(3, 3\)"):
        fastconv.PackedWeight(np.ones((3, 3)))
    for shape in ((0, 3, 3, 3), (3, 0, 3, 3), (3, 3, 3, 0)):
        with pytest.raises(ValueError, match=r"^PackedWeight: weight must not be empty"):
            fastconv.PackedWeight(np.ones(shape))
    with pytest.raises(TypeError, match=r"^PackedWeight: weight must be .*got dtype complex64"):
        fastconv.PackedWeight(np.ones((1, 1, 1, 1), np.complex64))
    packed = fastconv.PackedWeight(random_weight())
    with pytest.raises(ValueError, match=r"^conv2d: input has 3 channels but weight expects 16"):
        fastconv.conv2d(np.ones((1, 3, 8, 8)), packed)


# -------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_python_threads(algorithm: str) -> None:
    """Threads that begin together all miss the pack; others drop packs that are being used."""
    weight = random_weight((70, 40, 3, 3))
    batches = [normal_values((n, 40, 9, 9), seed=n) for n in (1, 2, 3, 5)]
    expected = [fastconv.conv2d(b, weight, padding=1, algorithm=algorithm) for b in batches]
    wide = [batch.astype("f8") for batch in batches]
    expected_wide = [fastconv.conv2d(b, weight, padding=1, algorithm=algorithm) for b in wide]
    packed = fastconv.PackedWeight(weight)
    packs = packs_of(packed)
    assert packs is not None
    barrier = threading.Barrier(4)

    def work(i: int) -> None:
        barrier.wait(timeout=60)
        for turn in range(10):
            for arrays, results in ((batches, expected), (wide, expected_wide)):
                result = fastconv.conv2d(arrays[i], packed, padding=1, algorithm=algorithm)
                assert_same(result, results[i])
            packs.keep((i, turn), packs.new_block(1000))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, i) for i in range(4)]:
            done.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the operating system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_use_and_make_packs() -> None:
    weight, images = random_weight(), normal_values((2, 16, 7, 7))
    packed = fastconv.PackedWeight(weight)
    with fastconv.num_threads(1):
        calls = [(images, 1), (images, 2), (images.astype("f8"), 1)]
        expected = [fastconv.conv2d(array, weight, stride=stride) for array, stride in calls]
        fastconv.conv2d(images, packed)
        child = os.fork()
        if child == 0:
            same = all(
                np.array_equal(fastconv.conv2d(array, packed, stride=stride), known)
                for (array, stride), known in zip(calls, expected)
            )
            os._exit(0 if same else 1)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
