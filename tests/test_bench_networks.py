"""The benchmark's networks: other libraries compute what ours do, and mistakes are noticed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.layers import (
    AveragePooling,
    Chain,
    ChannelShuffle,
    Concatenation,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    IdentityShortcut,
    Layer,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Relu6,
    Residual,
    Sigmoid,
    SiLU,
)
from fastconv.models import ResNet, Sequential

pytest.importorskip("bench", reason="bench/ is in no wheel: python -m pytest, in a checkout")
pytest.importorskip("pandas", reason="pandas is not installed, which makes the benchmark's tables")

from bench import memory, networks, publish, shapes
from bench.machine import Machine
from bench.networks import KINDS, NetworkCase
from bench.peers import TORCH_COMPILE, TORCH_LAYOUTS, ours
from bench.results import PeakRow, Results, Row, load, table_of
from bench.shapes import NetworkTask, Section
from bench.targets import QUICK_PEAKS, verdicts
from bench.timing import QUICK, Timing


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """Undo what peers set, who have a process of their own: threads, and PyTorch's gradients."""
    threads = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_grad_enabled(True)
        torch.set_num_threads(threads)


MACHINE = Machine("CPU", 2, 0.1, "Linux", "3.11", {}, {}, "0123abc", "2026-11-29", 2)

SIZE = (7, 8)  # One odd and one even number of pixels: "same" padding differs.


def check(got: Any, expected: Any, tolerance: float = 1e-10, what: str = "") -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance, err_msg=what)


def weights(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, 0.5, shape)


def convolved(filters: int, kernel: int, **settings: Any) -> Convolution:
    channels = 4 // settings.get("groups", 1)
    return Convolution(weights(filters, channels, kernel, kernel), None, **settings)


def normalised() -> Sequential:
    net = Sequential((4, *SIZE), dtype=np.float64, seed=0).batch_normalization(momentum=0.75)
    networks.temper(net.affine(2))
    return Sequential((4, *SIZE), list(net.layers.values())[:1], dtype=np.float64, seed=0)


# What maps images of 4 channels to something; networks end in an affine layer behind it.
LAYERS: dict[str, Callable[[], Layer]] = {
    "convolution": lambda: Convolution(weights(3, 4, 3, 2), weights(3), (2, 1), ((1, 0), (0, 2))),
    "dilation and groups": lambda: convolved(6, 2, pad=1, dilation=2, groups=2),
    "convolution, same": lambda: convolved(3, 3, stride=2, pad="same"),
    "batch normalisation": normalised,
    "local response": lambda: LocalResponseNormalization(3, alpha=0.5, beta=0.75, k=1.0),
    "pooling": lambda: Pooling(3, 2, stride=(2, 1), pad=1),
    "pooling, same": lambda: Pooling(3, 3, stride=2, pad="same"),
    "pooling, ceil mode": lambda: Pooling(2, 2, stride=2, pad=((0, 1), (0, 0))),
    "pooling, one side": lambda: Pooling(3, 3, stride=1, pad=((2, 0), (0, 1))),
    "average pooling": lambda: AveragePooling(2, 3, stride=2, pad=1),
    "average pooling, same": lambda: AveragePooling(3, 3, stride=2, pad="same"),
    "global pooling": GlobalAveragePooling,
    "flatten": Flatten,
    "shuffle": lambda: ChannelShuffle(2),
    "shortcut": lambda: IdentityShortcut(7, stride=(2, 3)),
    "relu": Relu,
    "relu6": Relu6,
    "leaky": lambda: LeakyRelu(0.25),
    "sigmoid": Sigmoid,
    "hard sigmoid": lambda: HardSigmoid(0.3),
    "hard swish": HardSwish,
    "silu": SiLU,
    "chain": lambda: Chain(convolved(4, 1), Relu(), Chain(), Relu6()),
    "inner network": lambda: Sequential((4, *SIZE), dtype=np.float64, seed=1).convolution(2, 3),
    "residual": lambda: Residual(convolved(4, 3, pad=1), Relu(), convolved(4, 1)),
    "residual of what is kept": lambda: Residual(Relu(), Sigmoid(), activation=None),
    "residual with a shortcut": lambda: Residual(
        Relu(), convolved(6, 3, pad="same", stride=2),
        shortcut=[IdentityShortcut(6, 2)], activation=SiLU(),
    ),
    "branches": lambda: Concatenation(
        [], convolved(3, 1), [Pooling(3, 3, pad=1), Relu()], Residual(convolved(4, 1))
    ),
}  # fmt: skip


def network(layer: Layer) -> Sequential:
    """Make a network of rectified pixels, which some layers are given twice, of a layer."""
    net = Sequential((4, *SIZE), dtype=np.float64, seed=0)
    return net.convolution(4, 1).add(Relu(), layer).affine(3)


def inputs() -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    return rng.normal(0, 2, (3, 4, *SIZE)), np.array([0, 2, 1])


@pytest.mark.parametrize("name", LAYERS)
def test_pytorch_computes_what_layers_do(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.peers.torch_modules import converted

    net, (x, labels) = network(LAYERS[name]()), inputs()
    module, params = converted(net)
    assert len(params) == len(net.params)
    with torch.no_grad():
        scores = module.eval()(torch.from_numpy(x)).numpy()
    check(scores, net.predict(x))
    for layout in (torch.contiguous_format, torch.channels_last):
        module.train().to(memory_format=layout).zero_grad()
        with torch.enable_grad():
            scores = module(torch.from_numpy(x).to(memory_format=layout))
            torch.nn.functional.nll_loss(scores, torch.from_numpy(labels)).backward()
        net.predict(x, train_flg=True)
        net.backward(np.eye(3)[labels] / -3)
        for key, param in zip(net.params, params, strict=True):
            grad = param.grad.T if param.grad.ndim == 2 else param.grad
            check(grad, net.params.gradients()[key], what=key)


@pytest.mark.parametrize("name", LAYERS)
def test_onnxruntime_computes_what_layers_do(name: str) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from bench.peers import onnx_networks, onnxruntime

    net, (x, _) = network(LAYERS[name]()), inputs()
    single = Sequential((4, *SIZE), net.layers.values(), seed=0)  # It has no float64 poolings.
    session = onnxruntime.Peer(1).session(onnx_networks.model(single))
    for batch in (x, x[:1]):
        (scores,) = session.run(None, {onnx_networks.INPUT: batch.astype(np.float32)})
        expected = net.predict(batch)
        check(scores, expected, 1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("inverted", [False, True])
def test_dropout_is_ours(inverted: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.peers.torch_modules import converted

    net = network(Dropout(0.25, inverted=inverted))
    module, _ = converted(net)
    x, _ = inputs()
    check(module.eval()(torch.from_numpy(x)).detach(), net.predict(x))
    (dropout,) = (part for part in module.modules() if "Dropout" in type(part).__name__)
    kept = dropout.train()(torch.ones(100, 100))
    check(kept.unique(), [0.0, 1 / 0.75 if inverted else 1.0], 1e-6)


def test_what_has_no_counterpart_is_refused() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.peers.torch_modules import converted

    class Unknown(Relu):
        pass

    with pytest.raises(TypeError, match="for a layer Unknown"):
        converted(network(Unknown()))
    with pytest.raises(TypeError, match="pad_mode='edge'"):
        converted(network(convolved(2, 3, pad=1, pad_mode="edge")))


# ---- cases -------------------------------------------------------------------------------------

TASKS = {
    "network_prediction": NetworkTask("resnet20", "float32", 2),
    "network_training": NetworkTask("resnet20", "float32", 4),
    "network_step": NetworkTask("simple", "float32", 3),
    "network_inference": NetworkTask("simple", "float32", 3),
}


def contenders(operation: str) -> Iterator[Any]:
    """Give all contenders of libraries that are installed, each with a case of its own."""
    task = TASKS[operation]
    yield from ours.Peer(1).contenders(NetworkCase(operation, task))
    for name in ("torch", "onnxruntime"):
        try:
            module = __import__(f"bench.peers.{name}", fromlist=["Peer"])
        except ImportError:
            continue
        yield from module.Peer(1).contenders(NetworkCase(operation, task))


@pytest.mark.parametrize("operation", TASKS)
def test_contenders_agree(operation: str) -> None:
    case = NetworkCase(operation, TASKS[operation])
    expected = case.expected
    found = {made.name: made.results(made.call()) for made in contenders(operation)}
    assert all(case.agrees(results, expected) for results in found.values())
    assert max(case.errors(results, expected)[0] for results in found.values()) < 0.05
    if "torch" in found:
        assert set(TORCH_LAYOUTS) <= set(found)
    for results in found.values():
        worse = [array * np.float32(1.3) for array in results]
        assert not case.agrees(tuple(worse), expected)


def test_training_changes_the_parameters_and_is_checked() -> None:
    case = NetworkCase("network_training", TASKS["network_training"])
    before = [networks._sample(array) for array in case.net.params.values()]
    expected = case.expected
    loss, *rest = expected
    gradients, changed = rest[: len(before)], rest[len(before) :]
    for array, gradient, param in zip(before, gradients, changed, strict=True):
        check(array - 1e-3 * gradient, param, 1e-6)
    assert case.agrees(expected, expected)
    assert not case.agrees((loss, *gradients, *before), expected)
    assert case.expected[0] == loss


def test_large_arrays_are_compared_by_a_sample() -> None:
    array = np.arange(networks.COMPARED_NUMBERS * 3, dtype=np.float32).reshape(3, -1)
    sample = networks._sample(array)
    assert networks.COMPARED_NUMBERS / 2 <= sample.size <= networks.COMPARED_NUMBERS
    assert (sample[0], sample[-1] > 0.99 * array.size) == (0, True)
    array[:] = 0
    assert sample.any()
    assert networks._sample(np.float32(3)) == [3]


def test_operations_are_counted() -> None:
    once = 2 * ResNet(20, seed=0).multiply_adds()
    predicted = NetworkCase("network_prediction", TASKS["network_prediction"])
    assert predicted.flops == 2 * once
    trained = NetworkCase("network_training", TASKS["network_training"])
    assert trained.flops == 4 * (3 * once - 2 * 32 * 32 * 16 * 27)
    assert NetworkCase("network_inference", TASKS["network_inference"]).flops % 9 == 0


def test_normalisation_does_something() -> None:
    net = NetworkCase("network_prediction", TASKS["network_prediction"]).net
    untouched = KINDS["resnet20"](seed=0)
    assert any("running_var" in name for name in net.state)
    assert all(
        (net.state[name] != untouched.state[name]).any() for name in net.state if "_" in name
    )


def test_networks_have_sections() -> None:
    sections: dict[str, Section] = {section.title: section for section in shapes.SECTIONS}
    for title, tasks in (
        ("networks in use", shapes.PREDICTED),
        ("networks in training", shapes.TRAINED),
    ):
        assert tuple(m.workload for m in sections[title].measurements) == tasks
        (quick,) = sections[title].quick
        assert isinstance(quick.workload, NetworkTask)
        assert quick.workload.network == "resnet20"
    assert {task.network for task in (*shapes.PREDICTED, *shapes.TRAINED)} <= set(KINDS)


def test_large_networks_are_compiled() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.peers import torch

    peer, prediction = torch.Peer(1), "network_prediction"
    large = NetworkCase(prediction, NetworkTask("mobilenet", "float32", 1))
    assert list(peer.networks(large)) == [*TORCH_LAYOUTS, TORCH_COMPILE]
    assert list(peer.networks(large.for_errors())) == list(TORCH_LAYOUTS)
    small = NetworkCase(prediction, TASKS[prediction])
    assert list(peer.networks(small)) == list(TORCH_LAYOUTS)


@pytest.mark.exhaustive  # A compiler takes half a minute.
@pytest.mark.filterwarnings("ignore")  # PyTorch's modules use what they have deprecated.
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
def test_a_compiled_network_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.peers import torch

    monkeypatch.setattr(torch, "COMPILE_SECONDS", 600)
    case = NetworkCase("network_prediction", NetworkTask("lenet", "float32", 2))
    made = networks.contender(TORCH_COMPILE, case, torch.Compiled)
    assert case.agrees(made.results(made.call()), case.expected)


def test_a_block_that_takes_too_long_is_ended() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.peers.torch import limited_to

    def compile_slowly() -> None:
        try:
            time.sleep(60)
        except TimeoutError as error:
            raise RuntimeError("the compiler failed") from error

    with pytest.raises(TimeoutError, match=r"took longer than 0\.05 s"), limited_to(0.05):
        compile_slowly()
    with pytest.raises(KeyError), limited_to(60):
        raise KeyError
    with limited_to(0.05):
        pass
    time.sleep(0.1)  # Nothing happens after the block.


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.skipif(not memory.STATUS.exists(), reason="the kernel does not tell the peak")
def test_peaks_are_measured() -> None:
    (task,) = QUICK_PEAKS
    peaks = {"fastconv": memory.peak_bytes("fastconv", task, 1)}
    weights = sum(array.nbytes for array in KINDS[task.network](seed=0).params.values())
    assert 2 * weights < peaks["fastconv"] < 1 << 28
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError:
        return
    assert onnx.__version__
    assert memory.peak_bytes("onnxruntime", task, 1) > weights


def test_networks_are_published() -> None:
    task = shapes.PREDICTED[0]
    of_task = ("network_prediction", task.name, 2)
    rows = [
        Row(
            *of_task,
            name,
            "fresh",
            0,
            0,
            Timing(seconds, seconds, seconds, seconds, 1, [seconds]),
            [],
        )
        for name, seconds in (("fastconv", 0.01), ("torch compile", 0.02), ("onnxruntime", 0.009))
    ]
    peaks = [PeakRow(task.name, 2, {"fastconv": 3 << 20, "onnxruntime": 4 << 20})]
    made = Results(MACHINE, QUICK, {}, rows=rows, peaks=peaks)
    text = publish.networks(made, made.table())
    (line,) = (line for line in text.splitlines() if "resnet50, float32, 1 images |" in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert [cells[i] for i in (1, 3, 6, 7)] == ["scores", "10.0", "2.0", "**0.90**"]
    assert text.endswith("in use: fastconv 3 MiB, onnxruntime 4 MiB.")
    table = publish.everything(made)
    assert table[table["kind"] == "peak memory"]["value"].to_list() == [3.0, 4.0]
    verdicts = made.verdicts()
    beside = verdicts[verdicts["target"].str.contains("torch compile")]
    assert beside["worst"].to_list() == [pytest.approx(0.9)] * 2
    assert not beside["met"].any()


def test_peaks_come_back_from_a_file(tmp_path: Path) -> None:
    peaks = [PeakRow("w", 2, {"fastconv": 100})]
    file = tmp_path / "results.json"
    Results(MACHINE, QUICK, {}, peaks=peaks).save(file)
    assert load(file).peaks == peaks
    older = json.loads(file.read_text())
    del older["peaks"]
    file.write_text(json.dumps(older))
    assert load(file).peaks == []
    newer = Results(MACHINE, QUICK, {}, peaks=[PeakRow("w", 2, {"fastconv": 90})])
    made = load(file)
    made.replace(newer)
    assert made.peaks == newer.peaks


def test_peaks_are_judged() -> None:
    rows = [PeakRow("w", 2, {"fastconv": 100, "onnxruntime": 90}), PeakRow("v", 2, {"fastconv": 1})]
    found = verdicts(table_of([]), [], [], rows).to_dict("records")
    (row,) = (row for row in found if "peak memory" in row["target"])
    assert (row["worst"], row["met"], row["cases"]) == (0.9, False, 1)
