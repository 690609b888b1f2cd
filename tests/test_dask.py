"""Dask arrays: lazy, and the numbers of the call in memory whatever the chunks and schedulers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import ndimage
from fastconv.layers import Convolution, Pooling, Relu
from fastconv.models import Sequential

da = pytest.importorskip("dask.array", reason="Dask is not installed")
dask = pytest.importorskip("dask")

import fastconv.dask as fd  # noqa: E402


@st.composite
def chunks_of(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Draw chunks of every kind: whole, even, single elements between others."""
    found = []
    for size in shape:
        cuts = draw(st.lists(st.integers(1, max(1, size - 1)), max_size=4)) if size > 1 else []
        ends = sorted({0, size, *cuts})
        found.append(tuple(b - a for a, b in pairwise(ends)))
    return tuple(found)


def same(lazy: Any, expected: Any, scheduler: str = "sync") -> None:
    """Check what is known before computing, and the numbers."""
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
    with dask.config.set(scheduler=scheduler):
        result = lazy.compute()
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(result, expected)


SHAPE = (2, 4, 71, 90)


@settings(max_examples=10)
@given(
    chunks=chunks_of(SHAPE),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 3),
    groups=st.sampled_from([1, 2, 4]),
    mode=st.sampled_from(["constant", "edge", "reflect", "symmetric"]),
    dtype=st.sampled_from(["f4", "f8", "f2", "u1"]),
    scheduler=st.sampled_from(["sync", "threads"]),
)
def test_conv2d(
    level: str,
    chunks: Any,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: int,
    padding: int,
    groups: int,
    mode: str,
    dtype: str,
    scheduler: str,
) -> None:
    rng = np.random.default_rng(0)
    x = (rng.random(SHAPE) * 9).astype(dtype)
    w = rng.standard_normal((8, 4 // groups, *kernel)).astype("f4")
    given_ = (w, rng.random(8), stride, padding, dilation, groups)
    expected = fastconv.conv2d(x, *given_, pad_mode=mode, activation="silu")
    lazy = fd.conv2d(da.from_array(x, chunks), *given_, pad_mode=mode, activation="silu")
    same(lazy, expected, scheduler)


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_tiles_of_winograd(level: str, precision: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 150, 170)).astype("f4")
    w = rng.standard_normal((24, 20, 3, 3)).astype("f4")
    x[3, 50, 60] = np.nan
    with fastconv.precision(precision):
        expected = fastconv.conv2d(x, w, padding=1)
        lazy = fd.conv2d(da.from_array(x, (7, 41, 53)), w, padding=1)
    same(lazy, expected)


def test_one_dimension_and_pools(level: str) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 4, 200)), rng.standard_normal((6, 4, 5))
    lazy = da.from_array(x, (2, 3, 33))
    same(fd.conv1d(lazy, w, stride=2, padding=3), fastconv.conv1d(x, w, stride=2, padding=3))
    same(fd.max_pool1d(lazy, 4, 3, 2), fastconv.max_pool1d(x, 4, 3, 2))
    same(fd.avg_pool1d(lazy, 4, 3, 2), fastconv.avg_pool1d(x, 4, 3, 2))
    images = rng.standard_normal((2, 61, 80)).astype("f4")
    lazy = da.from_array(images, (1, 13, 80))
    for ceil in (False, True):
        same(
            fd.max_pool2d(lazy, (3, 4), 2, 1, 2, ceil),
            fastconv.max_pool2d(images, (3, 4), 2, 1, 2, ceil),
        )
        for counted in (False, True):
            expected = fastconv.avg_pool2d(images, (3, 4), (3, 2), 1, ceil, counted)
            same(fd.avg_pool2d(lazy, (3, 4), (3, 2), 1, ceil, counted), expected)


def network(size: tuple[int, int]) -> Sequential:
    rng = np.random.default_rng(0)

    def convolution(f: int, c: int, **options: Any) -> Convolution:
        return Convolution(rng.standard_normal((f, c, 3, 3)).astype("f4") / 9, None, **options)

    return Sequential(
        (3, *size),
        [convolution(20, 3, pad=1), Relu(), Pooling(2, 2, 2), convolution(20, 20, pad=1)],
    )


def test_predict(level: str) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 122, 90)).astype("f4")
    expected = network((122, 90)).optimized().predict(x)
    lazy = fd.predict(network((64, 64)), da.from_array(x, (1, 2, 50, 37)))
    assert lazy.chunks[2:] == ((25, 25, 11), (18, 19, 8))
    same(lazy, expected, "threads")


FILTERS: dict[str, tuple[Any, ...]] = {
    "convolve": (np.random.default_rng(0).standard_normal((4, 5)),),
    "convolve1d": (np.arange(6.0), 0),
    "correlate": (np.random.default_rng(0).standard_normal((4, 5)),),
    "correlate1d": (np.arange(6.0),),
    "gaussian_filter": ((1.5, 0.7),),
    "gaussian_filter1d": (2.0, 0),
    "gaussian_gradient_magnitude": (1.2,),
    "gaussian_laplace": (1.2,),
    "grey_dilation": ((4, 3),),
    "grey_erosion": ((4, 3),),
    "laplace": (),
    "maximum_filter": ((4, 7),),
    "maximum_filter1d": (6, 0),
    "median_filter": ((3, 4),),
    "minimum_filter": (5,),
    "minimum_filter1d": (6,),
    "percentile_filter": (30, (3, 4)),
    "prewitt": (0,),
    "rank_filter": (2, (3, 4)),
    "sobel": (),
    "uniform_filter": ((4, 7),),
    "uniform_filter1d": (6, 0),
}


def test_every_filter_is_there() -> None:
    assert set(FILTERS) == set(ndimage.__all__) <= set(fd.__all__)


@settings(max_examples=4)
@given(
    chunks=chunks_of((37, 45)),
    mode=st.sampled_from(["reflect", "mirror", "nearest", "wrap", "constant"]),
    dtype=st.sampled_from(["f4", "f8", "u1", "i2"]),
)
@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: str, chunks: Any, mode: str, dtype: str) -> None:
    x = (np.random.default_rng(1).random((37, 45)) * 200).astype(dtype)
    expected = getattr(ndimage, name)(x, *FILTERS[name], mode=mode)
    same(getattr(fd, name)(da.from_array(x, chunks), *FILTERS[name], mode=mode), expected)


def test_axes_origins_and_outputs() -> None:
    x = (np.random.default_rng(1).random((9, 30, 21)) * 200).astype("u1")
    lazy = da.from_array(x, (4, 7, 8))
    options: dict[str, Any] = {"axes": (0, 2), "origin": (1, -2), "mode": ("wrap", "mirror")}
    same(
        fd.uniform_filter(lazy, (3, 5), output="f4", **options),
        ndimage.uniform_filter(x, (3, 5), output="f4", **options),
    )
    same(
        fd.grey_dilation(lazy, (2, 4, 3), origin=(0, 1, -1)),
        ndimage.grey_dilation(x, (2, 4, 3), origin=(0, 1, -1)),
    )


def test_large_kernels_of_floats() -> None:
    """Where the call in memory transforms, chunks are within rounding, whatever they are."""
    rng = np.random.default_rng(0)
    x, kernel = rng.random((150, 130)), rng.random((31, 31))
    expected = ndimage.correlate(x, kernel)
    results = [
        fd.correlate(da.from_array(x, chunks), kernel).compute(scheduler="sync")
        for chunks in ((50, 130), (7, 64), (150, 130))
    ]
    np.testing.assert_allclose(results[0], expected, rtol=1e-12)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def fail(block: Any) -> Any:
        raise AssertionError

    lazy = da.zeros((3, 90, 90), chunks=(3, 30, 30), dtype="f4").map_blocks(fail, dtype="f4")
    assert fd.conv2d(lazy, np.ones((2, 3, 3, 3), "f4"), padding=1).shape == (2, 90, 90)
    assert fd.gaussian_filter(lazy, 1).dtype == "f4"
    assert fd.predict(network((64, 64)), lazy).shape == (20, 45, 45)


def test_one_thread_for_each_task() -> None:
    """Parallel schedulers run kernels on one thread, the synchronous one on those that are set."""
    from fastconv.dask._chunks import computed

    def count(array: Any, wanted: Any, box: Any) -> Any:
        return np.full(array.shape, fastconv.get_num_threads())

    x = da.zeros((4, 4), chunks=(2, 2))
    lazy = computed("count", x, x.chunks, lambda box: box, count, np.dtype(int))
    with fastconv.num_threads(3):
        assert set(lazy.compute(scheduler="sync").ravel()) == {3}
        assert set(lazy.compute(scheduler="threads").ravel()) == {1}
    assert threading.current_thread() is threading.main_thread()


def test_errors() -> None:
    x = da.zeros((3, 20, 20), chunks=(3, 10, 10))
    with pytest.raises(TypeError, match=r"conv2d: input must be a dask.array.Array, got ndarray"):
        fd.conv2d(np.zeros((3, 20, 20)), np.ones((2, 3, 3, 3)))
    with pytest.raises(ValueError, match="conv2d: input has 3 channels but weight expects 4"):
        fd.conv2d(x, np.ones((2, 4, 3, 3)))
    with pytest.raises(ValueError, match='conv2d: algorithm "winograd" is for windows of 3x3'):
        fd.conv2d(x, np.ones((2, 3, 5, 5)), algorithm="winograd")
    with pytest.raises(ValueError, match="max_pool2d: padding"):
        fd.max_pool2d(x, 2, padding=2)
    with pytest.raises(TypeError, match="gaussian_filter: input must be a dask"):
        fd.gaussian_filter(np.zeros((3, 3)), 1)
    with pytest.raises(RuntimeError, match="mode must be one of"):
        fd.gaussian_filter(x, 1, mode="mirrored")
    with pytest.raises(TypeError, match="output must be a dtype"):
        fd.gaussian_filter(x, 1, output=np.zeros((3, 20, 20)))
    with pytest.raises(ValueError, match="depends on all pixels"):
        fd.predict(Sequential((3, 8, 8), seed=0).affine(3), x)
    with pytest.raises(ValueError, match="chunks of known sizes"):
        fd.sobel(x[x[:, 0, 0] > 0])


# ---- several processes -------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_workers_that_die() -> None:
    """A worker is killed in the middle, and the result is that of the call in memory."""
    distributed = pytest.importorskip("distributed")
    lazy = da.random.default_rng(0).standard_normal((8, 1500, 1500), chunks=(8, 100, 100))
    lazy = lazy.astype("f4")
    x = lazy.compute()
    w = np.random.default_rng(0).standard_normal((16, 8, 5, 5)).astype("f4")
    expected = ndimage.gaussian_filter(fastconv.conv2d(x, w, padding=2), 2, axes=(1, 2))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        lazy = fd.gaussian_filter(fd.conv2d(lazy, w, padding=2), 2, axes=(1, 2))
        future = client.compute(lazy)
        pids = list(client.run(os.getpid).values())
        time.sleep(1.0)
        assert not future.done()
        os.kill(pids[0], signal.SIGKILL)
        result = future.result(timeout=300)
    np.testing.assert_array_equal(result, expected)


def network_namespaces() -> str | None:
    """Say why there can be no hosts in network namespaces here; None if there can."""
    if shutil.which("ip") is None:
        return "there is no ip command"
    probe = subprocess.run(["ip", "netns", "add", "fastconv-probe"], capture_output=True)
    if probe.returncode:
        return f"network namespaces are not allowed: {probe.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "delete", "fastconv-probe"], check=True)
    probe = subprocess.run(
        ["ip", "link", "add", "fcprobe0", "type", "veth", "peer", "name", "fcprobe1"],
        capture_output=True,
    )
    if probe.returncode:
        return f"veth links are not allowed: {probe.stderr.decode().strip()}"
    subprocess.run(["ip", "link", "delete", "fcprobe0"], check=True)
    return None


class Hosts:
    """Three hosts on one machine, each a network namespace, behind a bridge in a fourth."""

    def __init__(self) -> None:
        self.names = [f"fc{os.getpid()}{host}" for host in ("sw", "a", "b", "c")]
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Hosts:
        switch, *hosts = self.names
        for name in self.names:
            self.run("ip", "netns", "add", name)
            self.inside(name, "ip", "link", "set", "lo", "up")
        self.inside(switch, "ip", "link", "add", "bridge", "type", "bridge")
        self.inside(switch, "ip", "link", "set", "bridge", "up")
        for i, name in enumerate(hosts):
            self.inside(name, "ip", "link", "add", "eth0", "type", "veth", "peer", f"port{i}")
            self.inside(name, "ip", "link", "set", f"port{i}", "netns", switch)
            self.inside(name, "ip", "address", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            self.inside(name, "ip", "link", "set", "eth0", "up")
            self.inside(switch, "ip", "link", "set", f"port{i}", "master", "bridge")
            self.inside(switch, "ip", "link", "set", f"port{i}", "up")
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False)

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    def inside(self, name: str, *command: str) -> None:
        self.run("ip", "netns", "exec", name, *command)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, *command])
        self.processes.append(process)
        return process

    def cut(self, host: int, seconds: float) -> None:
        """Cut the link of a host for some seconds."""
        self.inside(self.names[0], "ip", "link", "set", f"port{host}", "down")
        time.sleep(seconds)
        self.inside(self.names[0], "ip", "link", "set", f"port{host}", "up")


ON_HOSTS = """
import sys
import dask.array as da
import numpy as np
import fastconv.dask as fd
from dask.distributed import Client

with Client("tcp://10.77.0.1:8786", timeout=60) as client:
    client.wait_for_workers(2, timeout=60)
    print("begun", flush=True)
    x = da.random.default_rng(0).standard_normal((3000, 3000), chunks=(250, 250))
    np.save(sys.argv[1], client.compute(fd.median_filter(x, 11)[::7, ::7]).result(timeout=240))
"""


@pytest.mark.exhaustive
def test_several_hosts(tmp_path: Path) -> None:
    """A scheduler and two workers on hosts of their own, of which one is cut off for a while."""
    pytest.importorskip("distributed")
    why_not = network_namespaces()
    if why_not is not None:
        pytest.skip(why_not)
    path = tmp_path / "result.npy"
    with Hosts() as hosts:
        _, scheduler, *workers = hosts.names
        hosts.start(scheduler, "-m", "distributed.cli.dask_scheduler", "--no-dashboard")
        for name in workers:
            options = ["--nthreads", "1", "--no-dashboard", "--no-nanny"]
            address = "tcp://10.77.0.1:8786"
            hosts.start(name, "-m", "distributed.cli.dask_worker", address, *options)
        client = subprocess.Popen(
            ["ip", "netns", "exec", scheduler, sys.executable, "-c", ON_HOSTS, str(path)],
            stdout=subprocess.PIPE,
        )
        hosts.processes.append(client)
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
        time.sleep(1.0)
        assert client.poll() is None
        hosts.cut(2, 2.0)
        assert client.wait(timeout=240) == 0
        client.stdout.close()
    x = da.random.default_rng(0).standard_normal((3000, 3000), chunks=(250, 250)).compute()
    np.testing.assert_array_equal(np.load(path), ndimage.median_filter(x, 11)[::7, ::7])
