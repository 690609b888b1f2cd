"""Memory of large results: how much more than the data it is, when it is reused, when it goes."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from helpers import run_python

import fastconv
from fastconv._kernels import memory
from fastconv._memory import new_array

KIB, MIB = 1 << 10, 1 << 20
BYTE = np.dtype(np.uint8)


@pytest.fixture(autouse=True)
def nothing_idle() -> Iterator[None]:
    limit = memory.limit()
    memory.release()
    memory.set_limit(64 * MIB)
    yield
    memory.release()
    memory.set_limit(limit)


def address(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> int:
    return int(array.ctypes.data)


# ------------------------------------------------------------------------------------------ size

SIZES = [
    *(MIB, MIB + 1, 1900 * KIB, 2 * MIB - 64, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 3 * MIB),
    *(4 * MIB - 64 * KIB, 4 * MIB, 5 * MIB, 31 * MIB, 33 * MIB + 5),
]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells resident memory on Linux alone")
@pytest.mark.parametrize("size", SIZES)
def test_resident_memory_of_results(size: int) -> None:
    """Results take at most a sixteenth more memory than their data."""
    code = f"""
import numpy as np
from fastconv._memory import new_array

def resident():
    status = open("/proc/self/status").read()
    return int(status.split("RssAnon:")[1].split()[0]) << 10

size, count = {size}, {max(4, min(100, 200 * MIB // size))}
new_array((size,), np.dtype("u1")).fill(1)  # whatever the first one brings along
kept = []
before = resident()
for i in range(count):
    kept.append(new_array((size,), np.dtype("u1")))
    kept[-1].fill(i)
print((resident() - before) / count / size)
assert all((array == i).all() for i, array in enumerate(kept))
"""
    result = run_python(code, FASTCONV_CACHE_MIB="0")
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) <= 1 + 1 / 16 + 0.01  # of what Python itself takes meanwhile


@pytest.mark.parametrize("size", SIZES)
def test_held_memory(size: int) -> None:
    array = new_array((size,), BYTE)
    assert address(array) % 64 == 0
    array.fill(7)
    del array
    assert size < memory.held() <= size + size // 16


COME_AND_GO = """
import numpy as np
from fastconv._kernels import memory
from fastconv._memory import new_array

def resident():
    status = open("/proc/self/status").read()
    return int(status.split("RssAnon:")[1].split()[0]) << 10

rng = np.random.default_rng({seed})
before, most, total, kept = resident(), 0, 0, []
for step in range(400):
    if len(kept) < 3 or (len(kept) < 12 and rng.random() < 0.55):
        size = int(rng.integers(1 << 20, 1 << int(rng.integers(21, 27))))
        array = new_array((size,), np.dtype("u1"))
        array.fill(step % 251)
        kept.append((array, step % 251))
    else:
        array, value = kept.pop(int(rng.integers(len(kept))))
        assert array.min() == array.max() == value
        del array
    if step % 7 == 0:
        memory.release()
        held, data = resident() - before, sum(array.nbytes for array, _ in kept)
        # The huge pages at both ends of an array may be held for it alone.
        assert held <= data + (len(kept) + 1) * (4 << 20), (held, data, len(kept))
for array, value in kept:
    assert array.min() == array.max() == value
del array
kept.clear()
memory.release()
assert memory.held() == 0
assert resident() - before < 2 << 20, resident() - before
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells resident memory on Linux alone")
@pytest.mark.parametrize("limit", ["0", "64"])
@pytest.mark.parametrize("seed", range(3))
def test_arrays_that_come_and_go(seed: int, limit: str) -> None:
    """Arrays never overlap, and memory that they do not need is given back."""
    result = run_python(COME_AND_GO.format(seed=seed), FASTCONV_CACHE_MIB=limit)
    assert (result.returncode, result.stdout.split()) == (0, ["done"]), result.stderr


# ----------------------------------------------------------------------------------------- reuse


def test_the_next_result_of_the_size_takes_it() -> None:
    first = new_array((3 * MIB,), BYTE)
    where = address(first)
    del first
    second = new_array((3, MIB), BYTE)
    assert address(second) == where
    assert memory.held() == 0


def test_results_that_are_a_little_smaller_take_it() -> None:
    """Idle memory serves only results that fit and waste at most a sixteenth of it."""
    size = 8 * MIB
    first = new_array((size,), BYTE)
    where = address(first)
    del first
    others = [new_array((other,), BYTE) for other in (size * 15 // 16, size + 1, size // 2)]
    assert memory.held() > 0
    assert all(address(other) != where for other in others)
    little = new_array((size - 100 * KIB,), BYTE)
    assert address(little) == where


def test_the_limit_of_what_is_idle() -> None:
    """Beyond the limit, the oldest idle memory is given back first."""
    arrays = [new_array((20 * MIB,), BYTE) for _ in range(5)]
    places = [address(array) for array in arrays]
    while arrays:
        del arrays[0]
    assert 60 * MIB <= memory.held() <= 64 * MIB
    again = [new_array((20 * MIB,), BYTE) for _ in range(3)]
    assert {address(array) for array in again} == set(places[2:])


def test_nothing_larger_than_the_limit_stays() -> None:
    del [new_array((65 * MIB,), BYTE)][0]
    assert memory.held() == 0


def test_empty_cache() -> None:
    new_array((4 * MIB,), BYTE)
    assert memory.held() > 0
    fastconv.empty_cache()
    assert memory.held() == 0


def test_resizing_keeps_what_is_there() -> None:
    array = new_array((2 * MIB,), BYTE)
    array[...] = np.arange(2 * MIB) % 251
    known = array.copy()
    array.resize(7 * MIB, refcheck=False)
    np.testing.assert_array_equal(array[: 2 * MIB], known)
    array.resize(MIB, refcheck=False)
    np.testing.assert_array_equal(array, known[:MIB])


def test_resizing_gives_back_what_is_beyond() -> None:
    array = new_array((8 * MIB,), BYTE)
    array[: 2 * MIB] = 3
    array.resize(2 * MIB, refcheck=False)
    others = [new_array((2 * MIB,), BYTE) for _ in range(2)]
    for other in others:
        other.fill(4)
    assert (array == 3).all()
    start = address(array)
    assert all(start < address(other) < start + 8 * MIB for other in others)
    del array
    assert memory.held() <= 2 * MIB + 2 * MIB // 16


STARVED = """
import resource
import numpy as np
from fastconv._kernels import memory
from fastconv._memory import new_array

kept = [new_array((size << 20,), np.dtype("u1")) for size in (1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)]
del kept[1:]
assert memory.held() >= 22 << 20
used = int(open("/proc/self/status").read().split("VmSize:")[1].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))
new_array(({size} << 20,), np.dtype("u1")).fill(1)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the address space on Linux alone")
@pytest.mark.parametrize(("size", "done"), [(20, True), (50, True), (70, False)])
def test_idle_memory_goes_before_there_is_none(size: int, done: bool) -> None:
    """If the address space is full, idle memory makes room for a larger result."""
    result = run_python(STARVED.format(size=size), FASTCONV_CACHE_MIB="64")
    assert (result.stdout == "done\n") is done, result.stderr
    assert done or "MemoryError" in result.stderr.splitlines()[-1]


# ------------------------------------------------------------------------------------------- age


@pytest.fixture
def short_lives() -> Iterator[None]:
    memory.set_patience(0)
    yield
    memory.set_patience(memory.PATIENCE)


def wait_for_the_clock() -> None:
    """Wait for the next whole second, in which ages are counted."""
    time.sleep(1.05 - time.monotonic() % 1)


@pytest.mark.parametrize("event", ["collection", "allocation", "release"])
def test_idle_memory_goes(short_lives: None, event: str) -> None:
    gc.collect()  # What other tests have left must not become idle in the collection below.
    other = new_array((9 * MIB,), BYTE)
    new_array((4 * MIB,), BYTE)
    held = memory.held()
    assert held > 0
    wait_for_the_clock()
    if event == "collection":
        gc.collect()
        assert memory.held() == 0
    elif event == "allocation":
        new_array((2 * MIB,), BYTE)[0] = 1
        assert memory.held() < held
    else:
        del other
        assert memory.held() >= 9 * MIB
        assert memory.held() < 9 * MIB + held


def test_idle_memory_stays_for_a_while() -> None:
    new_array((4 * MIB,), BYTE)
    gc.collect()
    assert memory.held() >= 4 * MIB


# ----------------------------------------------------------------------------------- environment


@pytest.mark.parametrize(("setting", "limit"), [("", None), ("0", 0), ("7", 7 * MIB)])
def test_setting(setting: str, limit: int | None) -> None:
    """An empty environment variable counts as unset."""
    code = "from fastconv._kernels import memory; print(memory.limit())"
    result = run_python(code, FASTCONV_CACHE_MIB=setting)
    assert result.returncode == 0, result.stderr
    known = run_python(f"import os; os.environ.pop('FASTCONV_CACHE_MIB', None); {code}")
    assert int(result.stdout) == (int(known.stdout) if limit is None else limit)


@pytest.mark.parametrize("setting", ["-1", "1.5", "all", " "])
def test_wrong_setting(setting: str) -> None:
    result = run_python("import fastconv", FASTCONV_CACHE_MIB=setting)
    assert result.returncode == 1
    message = f"FASTCONV_CACHE_MIB must be a non-negative integer, got {setting!r}"
    assert message in result.stderr.splitlines()[-1]
