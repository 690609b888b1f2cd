"""Threads: their number, the same bits for every number, forks, callers in parallel, the GIL."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers import (
    OPERATIONS,
    Operation,
    Shape,
    each_operation,
    known_case,
    normal_values,
    run_python,
)

import fastconv
from fastconv import _kernels

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_openmp = pytest.mark.skipif(
    not (_kernels.threads.openmp_date and sys.platform == "linux"),
    reason="this build has no libgomp",
)
needs_threads = pytest.mark.skipif(
    not _kernels.threads.openmp_date, reason="this build is single-threaded"
)
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to CPUs"
)


@pytest.fixture(autouse=True)
def same_number_afterwards() -> Iterator[None]:
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)


# ----------------------------------------------------------------------------------- the number


@needs_threads
@pytest.mark.parametrize("n", [1, 2, 64, 1024, np.int64(3), np.uint8(200)])
def test_set_and_get(n: int) -> None:
    assert fastconv.set_num_threads(n) is None
    assert fastconv.get_num_threads() == n
    assert type(fastconv.get_num_threads()) is int


@needs_threads
def test_context_manager_restores() -> None:
    fastconv.set_num_threads(5)
    with fastconv.num_threads(2):
        assert fastconv.get_num_threads() == 2
        with fastconv.num_threads(7):
            assert fastconv.get_num_threads() == 7
        assert fastconv.get_num_threads() == 2
    assert fastconv.get_num_threads() == 5


@needs_threads
def test_context_manager_restores_after_an_exception() -> None:
    fastconv.set_num_threads(5)
    with pytest.raises(ZeroDivisionError), fastconv.num_threads(2):
        raise ZeroDivisionError
    assert fastconv.get_num_threads() == 5


@needs_threads
def test_the_number_is_process_wide() -> None:
    fastconv.set_num_threads(6)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fastconv.get_num_threads).result() == 6
        pool.submit(fastconv.set_num_threads, 3).result()
    assert fastconv.get_num_threads() == 3


FEW_IMAGES = (3, 4, 130, 129)


@pytest.mark.parametrize("n", [1, 2, 3, 1024])
def test_more_threads_than_cores_or_work(n: int) -> None:
    """A thousand threads for a handful of images are accepted."""
    with fastconv.num_threads(n):
        for operation in OPERATIONS.values():
            arrays, expected = known_case(operation.name, FEW_IMAGES)
            np.testing.assert_array_equal(operation.call(arrays, FEW_IMAGES), expected)


PRINT_THREADS = "import fastconv; print(fastconv.get_num_threads())"


@needs_threads
@pytest.mark.parametrize("n", [1, 2, 3])
def test_omp_num_threads_is_respected(n: int) -> None:
    result = run_python(PRINT_THREADS, OMP_NUM_THREADS=str(n))
    assert result.stdout.split() == [str(n)], result.stderr


@needs_affinity
def test_affinity_is_respected() -> None:
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); "
    result = run_python(f"import os; os.environ.pop('OMP_NUM_THREADS', None); {one}{PRINT_THREADS}")
    assert result.stdout.split() == ["1"], result.stderr


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    """Version, CPU level, OpenMP, threads and compiler have one line each."""
    fastconv.set_num_threads(37)
    assert fastconv.show_config() is None  # type: ignore[func-returns-value]
    text = capsys.readouterr().out
    lines = {line.split()[0].lower(): line for line in text.splitlines()}
    assert fastconv.__version__ in lines["fastconv"]
    assert "37" in lines["threads"]
    assert lines["compiler"].split()[1:]
    assert "openmp" in lines
    level = lines["cpu"]
    assert fastconv._kernels.level in level
    assert all(name in level for name in fastconv._kernels.available_levels())


# ------------------------------------------------------------------- what OpenMP and the OS allow

# libgomp's function, which threadpoolctl calls.
LOWER = """
import ctypes, fastconv
openmp = ctypes.CDLL("libgomp.so.1")
print(fastconv.get_num_threads())
fastconv.set_num_threads(4)
openmp.omp_set_num_threads(1)
print(fastconv.get_num_threads())
with fastconv.num_threads(3):
    print(fastconv.get_num_threads())
from concurrent.futures import ThreadPoolExecutor
print(ThreadPoolExecutor(1).submit(fastconv.get_num_threads).result())
fastconv.show_config()
openmp.omp_set_num_threads(2)
print(fastconv.get_num_threads())
"""


@needs_openmp
def test_a_lowered_number_of_openmp_is_respected() -> None:
    """The lower number holds in the thread that set it, until it restores the first one."""
    result = run_python(LOWER, OMP_NUM_THREADS="2")
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.isdecimal()] == ["2", "1", "1", "4", "4"], result.stderr
    [threads] = [line for line in lines if line.startswith("threads")]
    assert threads.split(maxsplit=1)[1] == "1 (of 4; OpenMP allows no more)"


@needs_openmp
def test_threadpoolctl() -> None:
    """Its limit holds within its block, even if the library is imported within the block."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    fastconv.set_num_threads(2)
    with threadpoolctl.threadpool_limits(1):
        assert fastconv.get_num_threads() == 1
    assert fastconv.get_num_threads() == 2
    result = run_python(
        "import ctypes, threadpoolctl; ctypes.CDLL('libgomp.so.1')\n"
        "with threadpoolctl.threadpool_limits(1):\n"
        "    import fastconv; print(fastconv.get_num_threads())\n"
        "print(fastconv.get_num_threads())",
        OMP_NUM_THREADS="3",
    )
    assert result.stdout.split() == ["1", "3"], result.stderr


@needs_openmp
def test_omp_thread_limit_is_respected() -> None:
    code = (
        "import numpy as np, os, fastconv\n"
        "fastconv.set_num_threads(5)\n"
        "print(fastconv.get_num_threads())\n"
        "x = np.random.default_rng(0).random((16, 16, 64, 64))\n"
        "known = fastconv.im2col(x, 3, 3)\n"
        "with fastconv.num_threads(1):\n"
        "    print((fastconv.im2col(x, 3, 3) == known).all(), len(os.listdir('/proc/self/task')))"
    )
    result = run_python(code, OMP_THREAD_LIMIT="2", OPENBLAS_NUM_THREADS="1")
    assert result.stdout.split() == ["2", "True", "2"], result.stderr


# Leaves the process so little address space that few threads can be started.
STARVED = """
import resource, sys
import numpy as np
import fastconv
from helpers import OPERATIONS, integer_values

shape = (3, 16, 64, 61)
cases = [
    (operation, arrays, operation.expected(arrays, shape))
    for operation in OPERATIONS.values()
    for arrays in [operation.arrays(shape)]
]
fastconv.empty_cache()
used = int(open("/proc/self/status").read().split("VmSize:")[1].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + ({room} << 20), resource.RLIM_INFINITY))
fastconv.set_num_threads({threads})
for operation, arrays, expected in cases:
    for _ in range(3):
        np.testing.assert_array_equal(operation.call(arrays, shape), expected)
assert fastconv.get_num_threads() == {threads}
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for operation, arrays, expected in cases:
    np.testing.assert_array_equal(operation.call(arrays, shape), expected)
print("done")
"""


@needs_openmp
@pytest.mark.parametrize(
    ("threads", "room", "stack"),
    [(1024, 200, ""), (1024, 80, ""), (16, 80, ""), (4, 400, "1G"), (4, 200, " 100000 k ")],
)
def test_threads_that_cannot_be_started(threads: int, room: int, stack: str) -> None:
    """Fewer threads compute the same; libgomp alone would end the process."""
    code = STARVED.format(threads=threads, room=room)
    result = run_python(code, FASTCONV_CACHE_MIB="0", OMP_STACKSIZE=stack)
    assert (result.returncode, result.stdout.split()) == (0, ["done"]), result.stderr


# --------------------------------------------------------------------------- teams that lose time


@pytest.fixture
def adaptive() -> Iterator[None]:
    """Let the calling thread compute alone when its teams lose time, and forget that afterwards."""
    _kernels.threads.adapt(True)
    forget()
    yield
    forget()
    _kernels.threads.adapt(False)


def forget() -> None:
    """Let the teams of the calling thread gain so much time that nothing is held against them."""
    for _ in range(20):
        _kernels.threads.report(-1.0)


@needs_openmp
def test_a_caller_whose_teams_lose_time_computes_alone_for_a_while(adaptive: None) -> None:
    threads = _kernels.threads
    assert threads.team(3) == 3
    threads.report(100e-6)
    assert threads.team(3) == 3  # That may be chance.
    for _ in range(10):
        threads.report(100e-6)
    assert threads.team(3) == 1
    time.sleep(0.3)  # It is never alone for longer.
    assert threads.team(3) == 3
    threads.report(100e-6)  # Behind that, once is enough.
    assert threads.team(3) == 1


@needs_openmp
def test_teams_that_gain_time_are_forgiven(adaptive: None) -> None:
    threads = _kernels.threads
    for _ in range(10):
        threads.report(100e-6)
    assert threads.team(3) == 1
    for _ in range(20):
        threads.report(-1e-3)
    assert threads.team(3) == 3
    threads.report(100e-6)
    assert threads.team(3) == 3


@needs_openmp
def test_other_callers_keep_their_teams(adaptive: None) -> None:
    for _ in range(10):
        _kernels.threads.report(1.0)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_kernels.threads.team, 3).result() == 3
    assert _kernels.threads.team(3) == 1


@needs_openmp
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_a_caller_alone_computes_the_same(adaptive: None, operation: Operation) -> None:
    shape = (3, 16, 64, 61)
    arrays = operation.arrays(shape, normal_values)
    with fastconv.num_threads(3):
        known = operation.call(arrays, shape)
        for _ in range(10):
            _kernels.threads.report(1.0)
        np.testing.assert_array_equal(operation.call(arrays, shape), known)


@needs_threads
@needs_affinity
@pytest.mark.parametrize("allowed", ["all", "one"])
def test_threads_keep_their_affinity(allowed: str) -> None:
    """Threads that move to another processor may use all of their processors afterwards."""
    code = """
import os
import numpy as np
import fastconv
allowed = os.sched_getaffinity(0)
if {one}:
    allowed = set(list(allowed)[:1])
    os.sched_setaffinity(0, allowed)
fastconv.set_num_threads(4)
x = np.ones((4, 16, 64, 64))
for _ in range(200):
    fastconv.im2col(x, 3, 3)
threads = os.listdir("/proc/self/task")
print(len(threads) >= 4, all(os.sched_getaffinity(int(thread)) == allowed for thread in threads))
"""
    result = run_python(code.format(one=allowed == "one"), OPENBLAS_NUM_THREADS="1")
    assert result.stdout.split() == ["True", "True"], result.stderr


# ------------------------------------------------------------------------------------ same bits

# Images that split over images, over channels and over rows.
LARGE: list[Shape] = [(5, 16, 64, 61), (1, 40, 96, 80), (1, 1, 600, 701)]


@each_operation
@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_bits_do_not_depend_on_the_threads(
    level: str, operation: Operation, shape: Shape, dtype: str
) -> None:
    """Repeated runs would show whether two threads write to the same pixel."""
    arrays = operation.arrays(shape, normal_values, dtype)
    results = []
    for n in (1, 2, 3, 7, 7):
        with fastconv.num_threads(n):
            results.append(operation.call(arrays, shape).tobytes())
    assert all(result == results[0] for result in results)


def test_indices_do_not_depend_on_the_threads(level: str) -> None:
    images = np.random.default_rng(0).integers(0, 4, (3, 32, 64, 61)).astype("f4")
    results = []
    for n in (1, 2, 3, 7, 7):
        with fastconv.num_threads(n):
            results.append(fastconv.max_pool2d(images, 3, 2, 1, return_indices=True))
    for maxima, indices in results:
        np.testing.assert_array_equal(maxima, results[0][0])
        np.testing.assert_array_equal(indices, results[0][1])


# ------------------------------------------------------------------------------------------ fork

PREPARE = """
import multiprocessing, os, threading
import numpy as np
import fastconv
from helpers import OPERATIONS, normal_values

fastconv.set_num_threads(3)
SHAPE = (3, 16, 64, 61)
ARRAYS = {name: op.arrays(SHAPE, normal_values) for name, op in OPERATIONS.items()}

def compute(_=None):
    return {name: op.call(ARRAYS[name], SHAPE).tobytes() for name, op in OPERATIONS.items()}

EXPECTED = compute()
THREADS = fastconv.get_num_threads()

def right(_=None):
    return fastconv.get_num_threads() == THREADS and compute() == EXPECTED

def in_child(function):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if function() else 2
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0
"""
FORKS = {
    "fork": "assert in_child(right); assert right()",
    "grandchild": "assert in_child(lambda: right() and in_child(right) and right())",
    "many": "assert all(in_child(right) and right() for _ in range(5))",
    "pool": (
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    assert all(pool.map(right, range(6)))\n"
        "assert right()"
    ),
    "from-a-thread": (
        "results = []\n"
        "thread = threading.Thread(target=lambda: results.append(in_child(right)))\n"
        "thread.start(); thread.join()\n"
        "assert results == [True] and right()"
    ),
    "while-others-compute": (
        "done = threading.Event()\n"
        "def work():\n"
        "    while not done.is_set():\n"
        "        compute()\n"
        "threads = [threading.Thread(target=work) for _ in range(2)]\n"
        "for thread in threads: thread.start()\n"
        "try:\n"
        "    assert all(in_child(right) for _ in range(5))\n"
        "finally:\n"
        "    done.set()\n"
        "    for thread in threads: thread.join()"
    ),
}


@needs_fork
@pytest.mark.parametrize("code", FORKS.values(), ids=FORKS.keys())
def test_fork_after_use(code: str) -> None:
    """A child of a process that has used its threads computes the same, and does not hang."""
    result = run_python(f"{PREPARE}\n{code}\nprint('done')")
    assert (result.returncode, result.stdout.split()) == (0, ["done"]), result.stderr


# -------------------------------------------------------------------------------- Python threads


def test_sixteen_callers_at_once(level: str) -> None:
    """Each caller has arrays of its own, small and large, while the number changes."""
    shapes = [(2, 3, 9, 11), (2, 8, 64, 61)]
    cases = [
        (operation, arrays, shape, operation.expected(arrays, shape))
        for operation in OPERATIONS.values()
        for shape in shapes
        for arrays in [operation.arrays(shape)]
    ]
    start = threading.Barrier(16)

    def caller(number: int) -> int:
        start.wait(60)
        for i in range(len(cases)):
            operation, arrays, shape, expected = cases[(i + number) % len(cases)]
            np.testing.assert_array_equal(operation.call(arrays, shape), expected)
            fastconv.set_num_threads(1 + (i + number) % 3)
        return number

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(caller, range(16))) == list(range(16))


@each_operation
def test_the_gil_is_released(operation: Operation) -> None:
    """Another Python thread moves on during a call.

    It could not without the kernel's help: the interpreter is told never to take the GIL away.
    A call may be over before the other thread wakes up, so several are tried.
    """
    shape = (8, 32, 112, 112)
    arrays = operation.arrays(shape, normal_values)
    count, stop = 0, False

    def progress() -> None:
        nonlocal count
        while not stop:
            count += 1
            time.sleep(1e-4)  # gives the GIL back

    thread = threading.Thread(target=progress)
    interval = sys.getswitchinterval()
    fastconv.set_num_threads(1)
    out: dict[str, Any] = {"out": operation.call(arrays, shape)} if operation.out else {}
    call: Callable[..., Any] = operation.call
    thread.start()
    try:
        sys.setswitchinterval(1000)
        for _ in range(100):
            before = count
            call(arrays, shape, **out)
            if count > before:
                break
        moved = count > before
    finally:
        stop = True
        sys.setswitchinterval(interval)
        thread.join()
    assert moved
