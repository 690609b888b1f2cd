"""Networks over large images, tile by tile: the numbers of the whole image, whatever the tiles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Array
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv.layers import (
    AveragePooling,
    BatchNormalization,
    Concatenation,
    Convolution,
    Convolution1D,
    IdentityShortcut,
    LocalResponseNormalization,
    Pooling,
    Pooling1D,
    Relu,
    Relu6,
    Residual,
    Sigmoid,
    SiLU,
)
from fastconv.models import Sequential
from fastconv.onnx import InferenceSession
from fastconv.onnx._writer import Described, NodeToWrite, model_bytes


class Weights:
    """Makes layers of random numbers, the same ones for the same seed."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.rng, self.dtype = np.random.default_rng(seed), dtype

    def convolution(self, filters: int, channels: int, kernel: Any, **options: Any) -> Convolution:
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        shape = filters, channels // options.get("groups", 1), *kernel
        weight = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        bias = self.rng.standard_normal(filters)
        return Convolution(weight.astype(self.dtype), bias.astype(self.dtype), **options)

    def normalization(self, channels: int) -> BatchNormalization:
        gamma, beta, mean = self.rng.standard_normal((3, channels)).astype(self.dtype)
        variance = self.rng.random(channels).astype(self.dtype) + 0.5
        return BatchNormalization(gamma, beta, running_mean=mean, running_var=variance)


def some_layers(kinds: list[str], make: Weights) -> list[Any]:
    """Make layers by their names; images have three channels first."""
    c = 3
    layers: list[Any] = []
    add: list[Any]
    body: list[Any]
    for kind in kinds:
        if kind == "dense":
            add, c = [make.convolution(20, c, 3, pad=1), make.normalization(20), Relu()], 20
        elif kind == "few":
            add, c = [make.convolution(2, c, (5, 3), stride=(2, 1), pad=(1, 2)), SiLU()], 2
        elif kind == "dilated":
            add, c = [make.convolution(7, c, 3, dilation=(2, 3), pad=(2, 3))], 7
        elif kind == "edge":
            add = [make.convolution(c, c, 5, pad=2, pad_mode="edge", groups=c)]
        elif kind == "reflect":
            add, c = [make.convolution(5, c, 3, pad=((2, 0), (1, 2)), pad_mode="reflect")], 5
        elif kind == "depthwise":
            add = [make.convolution(c, c, 3, stride=2, pad=1, groups=c), Relu6()]
        elif kind == "separable":
            add, c = [make.convolution(c, c, 3, pad=1, groups=c), make.convolution(12, c, 1)], 12
        elif kind == "pool":
            add = [Pooling(3, 3, stride=2, pad=1)]
        elif kind == "mean":
            add = [AveragePooling(2, 3, stride=(2, 1), pad=(1, 1))]
        elif kind == "local response":
            add = [LocalResponseNormalization()]
        elif kind == "residual":
            body = [make.convolution(24, c, 3, pad=1), Relu(), make.convolution(c, 24, 3, pad=1)]
            add = [Residual(*body)]
        elif kind == "shortcut":
            body = [make.convolution(c + 2, c, 3, stride=2, pad=1)]
            add, c = [Residual(*body, shortcut=IdentityShortcut(c + 2, 2))], c + 2
        else:
            body = [make.convolution(6, c, 1), Sigmoid()]
            add, c = [Concatenation([make.convolution(4, c, 3, pad=1)], body, [])], c + 10
        layers += add
    return layers


KINDS = [
    "dense",
    "few",
    "dilated",
    "edge",
    "reflect",
    "depthwise",
    "separable",
    "pool",
    "mean",
    "residual",
    "shortcut",
    "fork",
]


def network(kinds: list[str], seed: int, dtype: str, size: tuple[int, int]) -> Sequential:
    return Sequential((3, *size), some_layers(kinds, Weights(seed, dtype)), dtype=dtype, seed=0)


@given(
    kinds=st.lists(st.sampled_from([*KINDS, "local response"]), min_size=1, max_size=5),
    size=st.tuples(st.integers(40, 150), st.integers(40, 150)),
    tile=st.one_of(st.integers(1, 90), st.tuples(st.integers(1, 90), st.integers(1, 90))),
    dtype=st.sampled_from(["f4", "f8"]),
    precision=st.sampled_from(["highest", "high"]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_tiles_are_parts_of_the_whole(
    level: str,
    kinds: list[str],
    size: tuple[int, int],
    tile: Any,
    dtype: str,
    precision: Any,
    threads: int,
    seed: int,
) -> None:
    image = np.random.default_rng(seed).standard_normal((1, 3, *size)).astype(dtype)
    if isinstance(tile, int):
        tile = max(tile, 9)
    with fastconv.precision(precision):
        whole = network(kinds, seed, dtype, size).optimized().predict(image)
        small = network(kinds, seed, dtype, (64, 64))
        with fastconv.num_threads(threads):
            result = fastconv.predict_tiled(small, image[0], tile=tile)
    assert result.dtype == whole.dtype
    np.testing.assert_array_equal(result, whole[0])


@pytest.mark.parametrize("size", [(517, 640), (1, 300), (300, 1), (23, 900)])
def test_planes_of_every_size(level: str, size: tuple[int, int]) -> None:
    """Kernels of small planes sum in another order than those of large ones."""
    for kinds in (["depthwise", "dense"], ["edge", "separable"], ["fork", "residual"]):
        image = np.random.default_rng(1).standard_normal((1, 3, *size)).astype("f4")
        whole = network(kinds, 0, "f4", size).optimized().predict(image)
        for tile in (40, (19, 77)):
            result = fastconv.predict_tiled(network(kinds, 0, "f4", (64, 64)), image, tile=tile)
            np.testing.assert_array_equal(result, whole)


def test_what_is_not_finite(level: str) -> None:
    """Only tiles of Winograd's algorithm that hold a NaN are computed directly."""
    net = network(["dense", "dense"], 0, "f4", (90, 80))
    image = np.random.default_rng(1).standard_normal((3, 90, 80)).astype("f4")
    image[1, 40, 33], image[0, 7, 70], image[2, 80, 3] = np.nan, np.inf, 1e38
    whole = net.optimized().predict(image[None])[0]
    assert np.isnan(whole).any()
    assert np.isfinite(whole).any()
    for tile in (16, 37):
        np.testing.assert_array_equal(fastconv.predict_tiled(net, image, tile=tile), whole)


def test_batches_integers_and_signals() -> None:
    net = network(["dense", "pool"], 0, "f4", (70, 90))
    images = np.random.default_rng(1).integers(0, 255, (3, 3, 70, 90), np.uint8)
    whole = net.optimized().predict(images)
    out = np.empty(whole.shape, whole.dtype)
    assert fastconv.predict_tiled(net, images, tile=13, out=out) is out
    np.testing.assert_array_equal(out, whole)
    rng = np.random.default_rng(1)
    wide, narrow = rng.standard_normal((6, 2, 7)), rng.standard_normal((2, 6, 3))
    signal_net = Sequential((2, 500), dtype="f8")
    signal_net.add(Convolution1D(wide, None, pad=3, stride=2), Relu(), Pooling1D(3, 2))
    signal_net.add(Convolution1D(narrow, None))
    x = rng.standard_normal((2, 500))
    whole = signal_net.optimized().predict(x[None])[0]
    np.testing.assert_array_equal(fastconv.predict_tiled(signal_net, x, tile=33), whole)


# ---- sessions ----------------------------------------------------------------------------------


def session(*nodes: NodeToWrite, seed: int = 0, **shapes: tuple[int, ...]) -> InferenceSession:
    """Make a session of images with 3 channels, whose constants are random arrays of shapes."""
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {
        name: rng.standard_normal(shape).astype("f4") / np.float32(np.sqrt(np.prod(shape[1:])))
        for name, shape in shapes.items()
    }
    constants["scales"] = np.array([1, 1, 2, 2], "f4")
    data = model_bytes(
        list(nodes),
        [Described("x", np.dtype("f4"), ["N", 3, "H", "W"])],
        [Described(nodes[-1].outputs[0], np.dtype("f4"), None)],
        constants,
        17,
    )
    return InferenceSession(data)


def u_net(up: str) -> InferenceSession:
    """Make a network of one step down and one up, by a transposed convolution or a resize."""
    if up == "resize":
        rise = NodeToWrite("Resize", ["p", "", "scales"], ["u"], {"mode": "nearest"})
    else:
        given = {"strides": (2, 2), "kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
        given["output_padding"] = (1, 1)
        rise = NodeToWrite("ConvTranspose", ["p", "wt"], ["u"], given)
    return session(
        NodeToWrite("Conv", ["x", "w1"], ["a"], {"auto_pad": "SAME_UPPER"}),
        NodeToWrite("Relu", ["a"], ["b"], {}),
        NodeToWrite("MaxPool", ["b"], ["c"], {"kernel_shape": (2, 2), "strides": (2, 2)}),
        NodeToWrite("Conv", ["c", "w2"], ["d"], {"pads": (1, 1, 1, 1)}),
        NodeToWrite("Tanh", ["d"], ["p"], {}),
        rise,
        NodeToWrite("Concat", ["b", "u"], ["e"], {"axis": 1}),
        NodeToWrite("Conv", ["e", "w3"], ["f"], {"pads": (1, 1, 1, 1)}),
        NodeToWrite("Sigmoid", ["f"], ["y"], {}),
        w1=(16, 3, 3, 3),
        w2=(16, 16, 3, 3),
        wt=(16, 16, 3, 3),
        w3=(6, 32, 3, 3),
    )


@pytest.mark.parametrize("up", ["resize", "transposed"])
def test_sessions(level: str, up: str) -> None:
    model = u_net(up)
    image = np.random.default_rng(1).standard_normal((1, 3, 148, 192)).astype("f4")
    (whole,) = model.run(None, {"x": image})
    for tile in (16, 41, (30, 77)):
        np.testing.assert_array_equal(fastconv.predict_tiled(model, image, tile=tile), whole)
    field = model.receptive_field()
    assert field.stride == (1, 1)
    seen = _seen(model, image, (70, 81))
    for axis, place in enumerate((70, 81)):
        first, last = seen[axis]
        assert place + field.offset[axis] <= first
        assert last < place + field.offset[axis] + field.size[axis]


def _seen(model: InferenceSession, image: Array, place: tuple[int, int]) -> list[tuple[int, int]]:
    """Find the rows and columns whose change reaches an output."""
    (before,) = model.run(None, {"x": image})
    found = []
    for axis in (2, 3):
        hits = []
        for i in range(place[axis - 2] - 12, place[axis - 2] + 13):
            changed = image.copy()
            changed[(slice(None),) * axis + (i,)] += 10
            (after,) = model.run(None, {"x": changed})
            if (before[:, :, *place] != after[:, :, *place]).any():
                hits.append(i)
        found.append((min(hits), max(hits)))
    return found


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("height", [88, 89, 90, 91, 92, 93, 94, 95, 96])
def test_same_padding_with_strides(auto_pad: str, height: int) -> None:
    """How much is padded, and where, depends on what is left of the size after the strides."""
    given = {"auto_pad": auto_pad, "strides": (2, 3)}
    model = session(
        NodeToWrite("Conv", ["x", "w1"], ["a"], given),
        NodeToWrite("MaxPool", ["a"], ["y"], {**given, "kernel_shape": (3, 2)}),
        w1=(16, 3, 4, 3),
    )
    image = np.random.default_rng(height).standard_normal((1, 3, height, 5 * height)).astype("f4")
    (whole,) = model.run(None, {"x": image})
    for tile in (3, (20, 17)):
        np.testing.assert_array_equal(fastconv.predict_tiled(model, image, tile=tile), whole)


def test_field_of_an_enlarged_result() -> None:
    model = session(
        NodeToWrite("Conv", ["x", "w"], ["a"], {"pads": (1, 1, 1, 1)}),
        NodeToWrite("Resize", ["a", "", "scales"], ["y"], {"mode": "nearest"}),
        w=(2, 3, 3, 3),
    )
    field = model.receptive_field()
    assert [str(stride) for stride in field.stride] == ["1/2", "1/2"]
    assert field.offset == (-2, -2)
    assert field.halo == ((2, 2), (2, 2))


def test_refused_sessions() -> None:
    pooled = session(
        NodeToWrite("Conv", ["x", "w"], ["a"], {}),
        NodeToWrite("GlobalAveragePool", ["a"], ["y"], {}),
        w=(4, 3, 3, 3),
    )
    with pytest.raises(ValueError, match=r"depends on all pixels"):
        fastconv.predict_tiled(pooled, np.zeros((3, 99, 99), "f4"))
    with pytest.raises(ValueError, match=r"receptive_field|depends on all pixels"):
        pooled.receptive_field()
    with pytest.raises(ValueError, match="image must be of dtype float32"):
        fastconv.predict_tiled(u_net("resize"), np.zeros((3, 99, 99)))


# ---- arguments ---------------------------------------------------------------------------------


def test_refused_arguments() -> None:
    net = network(["dense"], 0, "f4", (64, 64))
    image = np.zeros((3, 50, 50), "f4")
    with pytest.raises(TypeError, match="predict_tiled: network_or_session must be a network"):
        fastconv.predict_tiled(3, image)
    with pytest.raises(TypeError, match="predict_tiled: image must be an array"):
        fastconv.predict_tiled(net, None)
    with pytest.raises(ValueError, match=r"image must have shape \(C, H, W\)"):
        fastconv.predict_tiled(net, np.zeros((4, 50, 50), "f4"))
    with pytest.raises(ValueError, match=r"out must have shape \(20, 50, 50\)"):
        fastconv.predict_tiled(net, image, out=np.zeros((20, 50, 51), "f4"))
    with pytest.raises(ValueError, match="out must be of dtype float32, got float64"):
        fastconv.predict_tiled(net, image, out=np.zeros((20, 50, 50)))
    with pytest.raises(ValueError, match="tile must be"):
        fastconv.predict_tiled(net, image, tile="large")
    with pytest.raises(ValueError, match="max_memory is not enough"):
        fastconv.predict_tiled(net, image, max_memory="1 KiB")
    with pytest.raises(ValueError, match="max_memory must be"):
        fastconv.predict_tiled(net, image, max_memory="much")
    with pytest.raises(ValueError, match=r"Affine1 .*depends on all pixels"):
        fastconv.predict_tiled(Sequential((3, 8, 8), seed=0).affine(3), image)
    wrapped = Sequential(
        (3, 60, 60), [Convolution(np.ones((1, 3, 3, 3)), None, pad_mode="wrap", pad=1)]
    )
    whole = wrapped.optimized().predict(np.ones((1, 3, 60, 60)))
    result = fastconv.predict_tiled(wrapped, np.ones((1, 3, 60, 60)), tile=16)
    np.testing.assert_array_equal(result, whole)


# ---- files -------------------------------------------------------------------------------------


class Dies(RuntimeError):
    pass


class Mortal:
    """A memory map that dies after some assignments."""

    def __init__(self, array: Any, lives: int) -> None:
        self.array, self.lives = array, lives
        self.shape, self.dtype, self.filename = array.shape, array.dtype, array.filename

    def __getitem__(self, index: Any) -> Any:
        return self.array[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        if not self.lives:
            raise Dies
        self.lives -= 1
        self.array[index] = value


def test_going_on_after_an_end(tmp_path: Path) -> None:
    net = network(["dense", "few"], 0, "f4", (64, 64))
    image = np.random.default_rng(0).standard_normal((3, 200, 150)).astype("f4")
    expected = fastconv.predict_tiled(net, image)
    path = tmp_path / "out.dat"
    out = np.memmap(path, "f4", "w+", shape=expected.shape)
    manifest = tmp_path / "out.dat.fastconv"
    with pytest.raises(Dies):
        fastconv.predict_tiled(net, image, tile=40, out=Mortal(out, 5))
    assert manifest.exists()
    with pytest.raises(ValueError, match="is that of another network, image, tile or precision"):
        fastconv.predict_tiled(net, image, tile=41, out=out)
    with manifest.open("a") as file:
        file.write("7 8")  # A kill may cut a line; without its end it does not count.
    rest = Mortal(out, 100)
    fastconv.predict_tiled(net, image, tile=40, out=rest)
    assert rest.lives > 80  # The tiles of before were not computed again.
    np.testing.assert_array_equal(out, expected)
    assert not manifest.exists()


def test_arrays_of_zarr(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    net = network(["dense"], 0, "f4", (64, 64))
    image = np.random.default_rng(0).standard_normal((3, 90, 70)).astype("f4")
    source = zarr.create_array(
        str(tmp_path / "in.zarr"), shape=image.shape, chunks=(3, 32, 32), dtype="f4"
    )
    source[:] = image
    out = zarr.create_array(
        str(tmp_path / "out.zarr"), shape=(20, 90, 70), chunks=(20, 32, 32), dtype="f4"
    )
    fastconv.predict_tiled(net, source, tile=32, out=out)
    np.testing.assert_array_equal(out[:], fastconv.predict_tiled(net, image))


def test_arrays_of_h5py(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    net = network(["dense"], 0, "f4", (64, 64))
    image = np.random.default_rng(0).standard_normal((3, 90, 70)).astype("f4")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        source = file.create_dataset("in", data=image)
        out = file.create_dataset("out", (20, 90, 70), "f4")
        fastconv.predict_tiled(net, source, tile=32, out=out)
        np.testing.assert_array_equal(out[:], fastconv.predict_tiled(net, image))


KILLED = """
import sys
import numpy as np
import fastconv
from fastconv.layers import Relu
from fastconv.models import Sequential
folder, size = sys.argv[1], 1536
image = np.memmap(f"{folder}/in.dat", "f4", "r", shape=(1, size, size))
out = np.memmap(f"{folder}/out.dat", "f4", "r+", shape=(4, size, size))
net = Sequential((1, 64, 64), seed=0).convolution(32, 3, pad=1).add(Relu())
net.convolution(32, 3, pad=1).add(Relu()).convolution(4, 3, pad=1)
fastconv.predict_tiled(net, image, tile=64, out=out)
"""


@pytest.mark.exhaustive
def test_a_killed_process_goes_on(tmp_path: Path) -> None:
    """SIGKILL at several moments, then a run to the end: the bytes of a run without one."""
    size = 1536
    rng = np.random.default_rng(0)
    image = np.memmap(tmp_path / "in.dat", "f4", "w+", shape=(1, size, size))
    image[:] = rng.random(image.shape, np.float32)
    image.flush()
    results = []
    for kills in (0, 3):
        np.memmap(tmp_path / "out.dat", "f4", "w+", shape=(4, size, size)).flush()
        manifest = tmp_path / "out.dat.fastconv"
        lines, killed = 0, 0
        while True:
            command = [sys.executable, "-c", KILLED, str(tmp_path)]
            process = subprocess.Popen(command, env=os.environ)
            while killed < kills and process.poll() is None:
                time.sleep(0.002)
                count = manifest.read_text().count("\n") if manifest.exists() else 0
                if count > lines + 20:
                    process.send_signal(signal.SIGKILL)
                    lines, killed = 2, killed + 1
                    break
            if process.wait() == 0:
                break
            assert process.returncode == -signal.SIGKILL
        assert killed == kills
        results.append(Path(tmp_path / "out.dat").read_bytes())
        assert not manifest.exists()
    assert results[0] == results[1]
