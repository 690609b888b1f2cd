"""Networks written as ONNX files: read by our session and, where they are installed, by others."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Array, memory_bounded, run_python

from fastconv import layers as L
from fastconv import models
from fastconv._structure import paths
from fastconv.models import Sequential, low_rank
from fastconv.onnx import InferenceSession, _export, export
from fastconv.onnx._model import read_model

RNG = np.random.default_rng(0)


def weights(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def conv(filters: int, channels: int, *size: int, b: bool = True, **settings: Any) -> Any:
    kind = L.Convolution if len(size) == 2 else L.Convolution1D
    return kind(weights(filters, channels, *size), weights(filters) if b else None, **settings)


def convolutions(channels: int, *size: int, **settings: Any) -> list[Any]:
    return [conv(3, channels, *size, **settings)]


def normalization(size: int, running: bool = True, **settings: Any) -> L.BatchNormalization:
    mean, var = (weights(size), np.abs(weights(size)) + 0.1) if running else (None, None)
    return L.BatchNormalization(weights(size), weights(size), 0.9, mean, var, **settings)


def residual(shortcut: bool = True, **settings: Any) -> L.Residual:
    way = [conv(6, 4, 1, 1), normalization(6)] if shortcut else None
    body = conv(6 if shortcut else 4, 4, 3, 3, pad=1)
    return L.Residual(body, L.Relu(), shortcut=way, **settings)


IMAGE, SIGNAL, ROW = (4, 9, 7), (4, 11), (5,)
PAD_MODES = ("edge", "reflect", "symmetric", "wrap")

CASES: dict[str, tuple[tuple[int, ...], Callable[[], list[Any]]]] = {
    "convolution": (IMAGE, lambda: [conv(3, 4, 3, 2)]),
    "without bias": (IMAGE, lambda: [conv(3, 4, 3, 3, b=False)]),
    "one bias for all": (IMAGE, lambda: [L.Convolution(weights(3, 4, 3, 3), 0.5)]),
    "integer weights": (IMAGE, lambda: [L.Convolution(np.arange(12).reshape(3, 4, 1, 1), None)]),
    "stride and padding": (IMAGE, lambda: [conv(3, 4, 3, 3, stride=(2, 3), pad=((0, 2), (1, 0)))]),
    "one window, stride beyond it": (IMAGE, lambda: [conv(3, 4, 8, 7, stride=3)]),
    "same": (IMAGE, lambda: [conv(3, 4, 4, 3, stride=2, pad="same")]),
    "valid": (IMAGE, lambda: [conv(3, 4, 3, 3, pad="valid")]),
    "dilation": (IMAGE, lambda: [conv(3, 4, 3, 3, dilation=(2, 1), pad=1)]),
    "groups": (IMAGE, lambda: [conv(6, 2, 3, 3, groups=2)]),
    "depthwise": (IMAGE, lambda: [conv(4, 1, 3, 3, groups=4, pad=1)]),
    **{
        f"{mode} padding": (IMAGE, partial(convolutions, 4, 3, 3, pad=2, pad_mode=mode))
        for mode in PAD_MODES
    },
    **{
        f"{mode} padding of signals": (
            SIGNAL,
            partial(convolutions, 4, 5, pad=(1, 3), pad_mode=mode),
        )
        for mode in PAD_MODES
    },
    "padding that reflects twice": (
        (4, 3, 3),
        lambda: [conv(3, 4, 3, 3, pad=((7, 0), (1, 2)), pad_mode="reflect")],
    ),
    "no padding that reflects": (IMAGE, lambda: [conv(3, 4, 3, 3, pad_mode="reflect")]),
    "signals": (SIGNAL, lambda: [conv(6, 2, 4, stride=2, pad=(3, 1), dilation=2, groups=2)]),
    "maximum": (IMAGE, lambda: [L.Pooling(3, 2, 2, 1)]),
    "maximum, same": (IMAGE, lambda: [L.Pooling(3, 3, (2, 3), "same")]),
    "maximum of signals": (SIGNAL, lambda: [L.Pooling1D(3, 2, (1, 0))]),
    "average": (IMAGE, lambda: [L.AveragePooling(3, 2, 2, 1)]),
    "average, same": (IMAGE, lambda: [L.AveragePooling(2, 2, 2, "same")]),
    "average of signals": (SIGNAL, lambda: [L.AveragePooling1D(3, 2, 1)]),
    "means of images": (IMAGE, lambda: [L.GlobalAveragePooling()]),
    "means of signals": (SIGNAL, lambda: [L.GlobalAveragePooling()]),
    "affine": (ROW, lambda: [L.Affine(weights(5, 3), weights(3))]),
    "affine without bias": (ROW, lambda: [L.Affine(weights(5, 3), None)]),
    "affine of images": (IMAGE, lambda: [L.Affine(weights(252, 3), weights(1, 3))]),
    "flatten": (IMAGE, lambda: [L.Flatten()]),
    "flatten rows": (ROW, lambda: [L.Flatten()]),
    "batch normalisation": (IMAGE, lambda: [normalization(4)]),
    "batch normalisation of rows": (ROW, lambda: [normalization(5, eps=0.1)]),
    "batch normalisation of signals": (SIGNAL, lambda: [normalization(4)]),
    "batch normalisation of pixels": (IMAGE, lambda: [normalization(252)]),
    "batch normalisation before training": (ROW, lambda: [normalization(5, False, eps=0.5)]),
    "local response, odd": (IMAGE, lambda: [L.LocalResponseNormalization(3, 0.5, 0.7, 2.0)]),
    "local response, even": (IMAGE, lambda: [L.LocalResponseNormalization(4, 0.5, 0.7, 2.0)]),
    "local response, wide": (IMAGE, lambda: [L.LocalResponseNormalization(11, 0.5)]),
    "relu": (IMAGE, lambda: [L.Relu()]),
    "relu6": (ROW, lambda: [L.Affine(10 * weights(5, 40), None), L.Relu6()]),
    "leaky relu": (IMAGE, lambda: [L.LeakyRelu(0.3)]),
    "sigmoid": (IMAGE, lambda: [L.Sigmoid()]),
    "hard sigmoid": (IMAGE, lambda: [L.HardSigmoid(0.4)]),
    "hard swish": (ROW, lambda: [L.Affine(10 * weights(5, 40), None), L.HardSwish()]),
    "silu": (SIGNAL, lambda: [L.SiLU()]),
    "dropout": (ROW, lambda: [L.Dropout(0.3)]),
    "inverted dropout": (ROW, lambda: [L.Dropout(0.3, inverted=True)]),
    "dropout of nothing": (ROW, lambda: [L.Dropout(0.0), L.Relu()]),
    "channel shuffle": (IMAGE, lambda: [L.ChannelShuffle(2)]),
    "channel shuffle of signals": (SIGNAL, lambda: [L.ChannelShuffle(4)]),
    "channel shuffle of rows": ((6,), lambda: [L.ChannelShuffle(3)]),
    "identity shortcut": (IMAGE, lambda: [L.IdentityShortcut(6, (2, 3))]),
    "identity shortcut of stride 1": (IMAGE, lambda: [L.IdentityShortcut(5)]),
    "identity shortcut of pixels": (IMAGE, lambda: [L.IdentityShortcut(4, 2)]),
    "identity shortcut of nothing": (IMAGE, lambda: [L.IdentityShortcut(4)]),
    "residual": (IMAGE, lambda: [residual()]),
    "residual of itself": (IMAGE, lambda: [L.Residual()]),
    "residual without activation": (IMAGE, lambda: [residual(False, activation=None)]),
    "residual with another": (IMAGE, lambda: [residual(activation=L.SiLU())]),
    "residual with one that does nothing": (
        IMAGE,
        lambda: [residual(activation=L.Dropout(inverted=True)), L.Relu()],
    ),
    "branches": (
        IMAGE,
        lambda: [
            L.Relu(),
            L.Concatenation([], [conv(2, 4, 1, 1), L.Relu()], L.Pooling(3, 3, 1, 1), []),
            L.Relu(),
        ],
    ),
    "one branch": (ROW, lambda: [L.Concatenation([L.Relu()])]),
    "branches of rows": (ROW, lambda: [L.Concatenation([], L.Affine(weights(5, 2), None))]),
    "chains in chains": (
        IMAGE,
        lambda: [
            L.Chain(L.Chain(L.Relu()), L.Chain(), residual()),
            Sequential((6, 9, 7), [L.Residual(L.Chain(L.Chain(conv(6, 6, 1, 1))))]),
        ],
    ),
    "no layer": (ROW, lambda: []),
}
cases = pytest.mark.parametrize("name", CASES)


def network_of(name: str, dtype: str = "f4") -> Sequential:
    input_dim, make = CASES[name]
    return Sequential(input_dim, make(), dtype=dtype, seed=0)


def inputs(net: Sequential, n: int = 2) -> Array:
    return np.random.default_rng(n).standard_normal((n, *net.input_dim)).astype(net.dtype)


def check(found: Array, expected: Array, tolerance: float) -> None:
    """Compare within a part of the largest number."""
    assert found.shape == expected.shape
    atol = tolerance * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(found, expected, 0, atol)


def check_own(net: Sequential, path: Path, tolerance: float = 2e-5) -> None:
    """Compare what our session computes with what the network does."""
    for optimize in (True, False):
        session = InferenceSession(path, optimize=optimize)
        for n in (2, 1, 0):
            (scores,) = session.run(None, {"input": inputs(net, n)})
            assert scores.dtype == net.dtype
            check(scores, net.predict(inputs(net, n)).astype(net.dtype), tolerance)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "network.onnx"


# ---- what is computed --------------------------------------------------------------------------


@cases
def test_layers(name: str, path: Path) -> None:
    net = network_of(name)
    export(net, path)
    check_own(net, path)


NOT_WRITTEN = ("Layer", "MeanSquaredError", "SoftmaxWithLoss")
"""A protocol, and losses, which no model holds."""


def test_every_layer_is_among_the_cases() -> None:
    kinds = {name for name in L.__all__ if name not in NOT_WRITTEN}
    seen: set[str] = set()

    def walk(layer: Any) -> None:
        seen.add(type(layer).__name__)
        for child in getattr(layer, "children", ()):
            walk(child)

    for name in CASES:
        walk(network_of(name))
    assert kinds <= seen


@cases
def test_onnx_accepts_layers(name: str, path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx.reference import ReferenceEvaluator

    net = network_of(name)
    export(net, path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    dims = inferred.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["N", *net.output_dim]
    if any(node.op_type == "LRN" for node in model.graph.node):
        return  # The evaluator's own sums only as many channels as the batch has images.
    (scores,) = ReferenceEvaluator(model).run(None, {"input": inputs(net)})
    check(scores, net.predict(inputs(net)), 2e-5)


@cases
def test_onnxruntime_computes_layers(name: str, path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    net = network_of(name)
    export(net, path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (2, 1):
        (scores,) = session.run(None, {"input": inputs(net, n)})
        check(scores, net.predict(inputs(net, n)), 2e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("f2", 4e-3), ("f8", 1e-7)])
@pytest.mark.parametrize(
    "name", ["residual", "branches", "relu6", "local response, even", "batch normalisation"]
)
def test_dtypes(name: str, dtype: str, tolerance: float, path: Path) -> None:
    net = network_of(name, dtype)
    export(net, path)
    check_own(net, path, tolerance)
    for constant, array in read_model(path).constants.items():
        expected = np.result_type(dtype, "f4") if ".running_" in constant else np.dtype(dtype)
        assert array.dtype in (expected, np.int64)


def test_dtype_in_the_other_byte_order(path: Path) -> None:
    net = network_of("residual", np.dtype("f4").newbyteorder("S").str)
    assert not net.dtype.isnative
    export(net, path)
    (scores,) = InferenceSession(path).run(None, {"input": inputs(net)})
    check(scores, net.predict(inputs(net)), 2e-5)


def test_parameters_of_another_dtype_become_that_of_the_network(path: Path) -> None:
    net = Sequential(ROW, [L.Affine(weights(5, 3), weights(3))], dtype="f4")
    assert net.predict(inputs(net)).dtype == "f8"
    export(net, path)
    check_own(net, path)


def test_variances_beyond_float16(path: Path) -> None:
    ones, variances = np.ones(5, "f2"), np.full(5, 1e6, "f4")
    layer = L.BatchNormalization(ones, 0 * ones, running_mean=0 * ones, running_var=variances)
    net = Sequential(ROW, [layer], dtype="f2")
    x = 1000 * inputs(net)
    assert np.abs(net.predict(x)).max() > 0.5
    export(net, path)
    check(InferenceSession(path).run(None, {"input": x})[0], net.predict(x), 4e-3)
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnx.checker.check_model(path, full_check=True)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    check(session.run(None, {"input": x})[0], net.predict(x), 4e-3)


MODELS: dict[str, Callable[[], Sequential]] = {
    "SimpleConvNet": lambda: models.SimpleConvNet(seed=0),
    "DeepConvNet": lambda: models.DeepConvNet(seed=0),
    "LeNet": lambda: models.LeNet(seed=0),
    "AlexNet": lambda: models.AlexNet((3, 67, 67), output_size=5, seed=0),
    "VGG": lambda: models.VGG(11, (3, 32, 32), output_size=5, hidden_size=32, seed=0),
    "NIN": lambda: models.NIN(seed=0),
    "GoogLeNet": lambda: models.GoogLeNet((3, 64, 64), output_size=5, seed=0),
    "ResNet for small images": lambda: models.ResNet(20, seed=0),
    "ResNet of two convolutions": lambda: models.ResNet(18, (3, 64, 64), 5, seed=0),
    "ResNet of three convolutions": lambda: models.ResNet(50, (3, 32, 32), 5, seed=0),
    "MobileNet": lambda: models.MobileNet(input_dim=(3, 64, 64), output_size=5, seed=0),
    "Xception": lambda: models.Xception((3, 71, 71), output_size=5, seed=0),
    "low rank": lambda: low_rank(models.DeepConvNet(seed=0), 0.4),
}


def trained(net: Sequential) -> Sequential:
    """Give normalisation statistics and parameters that fresh networks do not have."""
    rng = np.random.default_rng(0)
    for name, array in net.state.items():
        if name.startswith(("gamma", "running_var")):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif name.startswith(("b", "running_mean")):
            array[...] = 0.1 * rng.standard_normal(array.shape)
    return net


def test_every_network_is_among_the_cases() -> None:
    kinds = {
        name
        for name in models.__all__
        if isinstance(getattr(models, name), type) and issubclass(getattr(models, name), Sequential)
    }
    assert kinds - {name.partition(" ")[0] for name in MODELS} == {"Sequential"}


@pytest.mark.parametrize("name", MODELS)
def test_networks(name: str, path: Path) -> None:
    net = trained(MODELS[name]())
    export(net, path)
    x = inputs(net)
    expected = net.predict(x)
    check(InferenceSession(path).run(None, {"input": x})[0], expected, 2e-5)
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    check(session.run(None, {"input": x})[0], expected, 2e-5)


# ---- names and sizes ---------------------------------------------------------------------------


def named_network() -> Sequential:
    net = Sequential((3, 8, 8), seed=0).convolution(4, 3, pad=1, bias=False).batch_normalization()
    net.add(L.Relu())
    body = net.branch().convolution(4, 3, pad=1).add(L.SiLU()).convolution(4, 1)
    net.add(L.Residual(*body.children), L.Concatenation([], L.Pooling(3, 3, 1, 1)))
    return net.affine(5)


def test_names_are_the_paths_of_layers(path: Path) -> None:
    export(named_network(), path)
    model = read_model(path)
    assert model.name == "Sequential"
    assert [(node.op, node.name, *node.outputs) for node in model.nodes] == [
        ("Conv", "Conv1", "Conv1"),
        ("BatchNormalization", "BatchNormalization1", "BatchNormalization1"),
        ("Relu", "Relu1", "Relu1"),
        ("Conv", "Residual1.Chain1.Conv1", "Residual1.Chain1.Conv1"),
        ("Sigmoid", "Residual1.Chain1.SiLU1.Sigmoid", "Residual1.Chain1.SiLU1.Sigmoid"),
        ("Mul", "Residual1.Chain1.SiLU1", "Residual1.Chain1.SiLU1"),
        ("Conv", "Residual1.Chain1.Conv2", "Residual1.Chain1.Conv2"),
        ("Add", "Residual1.Add", "Residual1.Add"),
        ("Relu", "Residual1.Relu1", "Residual1"),
        ("MaxPool", "Concatenation1.Pool1", "Concatenation1.Pool1"),
        ("Concat", "Concatenation1", "Concatenation1"),
        ("Flatten", "Affine1.Flatten", "Affine1.Flatten"),
        ("Gemm", "Affine1", "scores"),
    ]
    assert list(model.constants) == [
        "Conv1.W",
        *(f"BatchNormalization1.{name}" for name in ("gamma", "beta", "running_mean")),
        "BatchNormalization1.running_var",
        *(f"Residual1.Chain1.Conv{i}.{name}" for i in (1, 2) for name in "Wb"),
        "Affine1.W",
        "Affine1.b",
    ]


def test_parameters_are_those_of_the_network(path: Path) -> None:
    net = trained(named_network())
    export(net, path)
    constants = list(read_model(path).constants.values())
    assert len(constants) == len(net.state)
    kept = {array.tobytes() for array in net.state.values()}
    assert all(array.tobytes() in kept for array in constants)


def test_results_have_the_names_of_activations(path: Path) -> None:
    net, x = trained(named_network()), inputs(named_network())
    export(net, path)
    found = InferenceSession(path).activations({"input": x})
    names = [name for name in found if name in dict(net.activations(x)) or ".Conv" in name]
    assert len(names) == 7
    for name, expected in net.activations(x, names).items():
        check(found[name], expected, 1e-5)


@pytest.mark.parametrize(("batch", "size"), [("N", "N"), ("batch size", "batch size"), (3, 3)])
def test_batch(batch: str | int, size: str | int, path: Path) -> None:
    export(network_of("affine"), path, batch=batch)
    session = InferenceSession(path)
    assert [session.get_inputs()[0].shape, session.get_outputs()[0].shape] == [[size, 5], [size, 3]]
    assert session.run(None, {"input": np.ones((3, 5), "f")})[0].shape == (3, 3)


def test_header(path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    export(network_of("affine"), path)
    model = onnx.load(path)
    assert (model.producer_name, model.ir_version) == ("fastconv", 8)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]


DOCS = Path(__file__).parents[1] / "docs" / "onnx.md"


@pytest.mark.skipif(not DOCS.exists(), reason="docs/ is in no wheel")
def test_documentation_tells_the_nodes_of_every_layer(path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    table = text[text.index("<!-- layers -->") : text.index("<!-- end of layers -->")]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    written: dict[str, set[str]] = {}
    for name in CASES:
        net = network_of(name)
        export(net, path)
        layers = {part: type(layer).__name__ for part, layer in paths(net)}
        for node in read_model(path).nodes:
            own = node.name if node.name in layers else node.name.rpartition(".")[0]
            written.setdefault(layers.get(own, "Sequential"), set()).add(node.op)
    assert written.pop("Sequential") == {"Identity"}  # Of a network that passes its input on.
    documented = {
        layer: set(re.findall(r"[A-Z]\w+", nodes))
        for names, nodes in rows[2:]
        for layer in names.split(", ")
    }
    documented = {layer: nodes for layer, nodes in documented.items() if nodes}
    assert documented == written


# ---- the network stays as it is ----------------------------------------------------------------


def test_backward_does_not_notice(path: Path) -> None:
    net, other = named_network(), named_network()
    x, labels = inputs(net), np.array([0, 1])
    for each in (net, other):
        each.loss(x, labels)
    before = {name: array.copy() for name, array in net.state.items()}
    export(net, path)
    for each in (net, other):
        each.backward(each.last_layer.backward())
    for name, gradient in other.params.gradients().items():
        np.testing.assert_array_equal(net.params.gradients()[name], gradient)
    for name, array in before.items():
        np.testing.assert_array_equal(net.state[name], array)


def test_running_statistics_are_not_made(path: Path) -> None:
    net = Sequential(ROW, [normalization(5)])
    (layer,) = net.children
    layer.running_mean = layer.running_var = None  # type: ignore[attr-defined]
    export(net, path)
    assert layer.running_mean is layer.running_var is None  # type: ignore[attr-defined]


def test_constants_are_not_copied(path: Path) -> None:
    net = Sequential((1000,), [L.Affine(np.ones((1000, 1000), "f"), None)])
    export(net, path)  # So that what is imported is not counted.
    with memory_bounded(1 << 20):
        export(net, path)


# ---- files -------------------------------------------------------------------------------------


def test_large_constants_lie_beside_the_model(path: Path, monkeypatch: Any) -> None:
    net = trained(models.SimpleConvNet(seed=0))
    monkeypatch.setattr(_export, "MOST_BYTES", 1 << 12)
    export(net, path)
    beside = path.with_name("network.onnx.data")
    assert sorted(path.parent.iterdir()) == [path, beside]
    assert path.stat().st_size < 1 << 12
    arrays = [array for array in net.state.values() if array.nbytes > 1024]
    assert sum(array.nbytes for array in arrays) <= beside.stat().st_size
    check_own(net, path)
    monkeypatch.chdir(path.parent)
    (path.parent / "other").mkdir()
    export(net, "other/network.onnx")
    assert (path.parent / "other/network.onnx").read_bytes() == path.read_bytes()


def test_others_find_what_lies_beside_the_model(path: Path, monkeypatch: Any) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    net = trained(models.SimpleConvNet(seed=0))
    monkeypatch.setattr(_export, "MOST_BYTES", 1 << 12)
    export(net, path)
    onnx.checker.check_model(path, full_check=True)
    arrays = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(arrays["Affine1.W"]), net.params["W2"])
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert int(entries.get("offset", 0)) % 4096 == 0


@pytest.mark.parametrize("beside", [False, True])
def test_failure_leaves_what_was_there(beside: bool, path: Path, monkeypatch: Any) -> None:
    if beside:
        monkeypatch.setattr(_export, "MOST_BYTES", 1 << 12)
    export(models.SimpleConvNet(seed=0), path)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(models.SimpleConvNet(seed=1), path)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none/network\.onnx'"):
        export(network_of("relu"), tmp_path / "none" / "network.onnx")


# ---- errors ------------------------------------------------------------------------------------


class Unknown(L.Relu):
    pass


def with_own_forward() -> L.Relu:
    layer = L.Relu()
    vars(layer)["forward"] = np.abs
    return layer


class OwnPredict(Sequential):
    def predict(self, x: Any, train_flg: bool = False) -> Array:
        return 2 * super().predict(x, train_flg)


def refused(net: Any, path: Any, kind: type[Exception], message: str, **settings: Any) -> None:
    with pytest.raises(kind, match=message):
        export(net, path, **settings)


def test_layers_without_operator(path: Path) -> None:
    kind = NotImplementedError
    start = r"^export: Unknown1 cannot be exported: there is no operator for the class Unknown$"
    refused(Sequential(ROW, [Unknown()]), path, kind, start)
    net = Sequential(IMAGE, [L.Relu(), L.Residual(L.Relu(), L.Concatenation([Unknown()]))])
    refused(net, path, kind, r"^export: Residual1\.Chain1\.Concatenation1\.Unknown1 cannot be")
    net = Sequential(ROW, [L.Chain(with_own_forward())])
    refused(net, path, kind, r"^export: Chain1\.Relu1 .* for a forward of its own of .* Relu$")
    own = OwnPredict(ROW)
    refused(own, path, kind, "^export: network cannot be exported: OwnPredict has a forward or")
    refused(Sequential(ROW, [own]), path, kind, r"^export: OwnPredict1 cannot be exported")
    assert not path.exists()


def test_layers_that_were_changed(path: Path) -> None:
    net = network_of("residual")
    body = net.children[0].children[0].children[0]  # type: ignore[attr-defined]
    body.W = weights(6, 3, 3, 3)
    message = (
        r"^export: Residual1\.Chain1\.Conv1 cannot be exported for inputs of shape \(4, 9, 7\)"
    )
    refused(net, path, ValueError, message)
    body.W = weights(7, 4, 3, 3)
    body.b = None
    message = r"body and shortcut must give one shape, got \(7, 9, 7\) and \(6, 9, 7\)$"
    refused(net, path, ValueError, message)
    net = network_of("branches")
    net.children[1].children[1].children[0].pad = 1  # type: ignore[attr-defined]
    message = r"one size, got \(4, 9, 7\), \(2, 11, 9\), \(4, 9, 7\), \(4, 9, 7\)$"
    refused(net, path, ValueError, message)
    assert not path.exists()


def test_arguments(path: Path) -> None:
    net = network_of("affine")
    start = "^export: network must be a Sequential, got "
    refused(L.Relu(), path, TypeError, start + r"Relu\(\)")
    refused(net.optimized(), path, TypeError, start + "InferenceNetwork")
    refused(net, None, TypeError, "^export: path must be a path, got None")
    refused(
        net, path, ValueError, "^export: batch must be a name or a positive int, got ''", batch=""
    )
    refused(net, path, ValueError, "^export: batch must be a positive int, got 0", batch=0)
    refused(net, path, TypeError, "^export: batch must be a positive int, got None", batch=None)
    assert not path.exists()


def test_export_is_imported_when_it_is_asked_for() -> None:
    result = run_python(
        "import sys, fastconv.onnx\n"
        "assert 'fastconv.onnx._export' not in sys.modules\n"
        "assert 'fastconv.models' not in sys.modules\n"
        "from fastconv.onnx import export\n"
        "assert export.__module__ == 'fastconv.onnx._export'\n"
        "try:\n"
        "    fastconv.onnx.exports\n"
        "except AttributeError as error:\n"
        "    print(error)\n"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "module 'fastconv.onnx' has no attribute 'exports'"
