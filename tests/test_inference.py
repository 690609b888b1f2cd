"""Optimised twins of networks: the same scores, from fewer steps and less memory."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _kernels
from fastconv.inference import InferenceNetwork
from fastconv.inference._memory_plan import MemoryPlan
from fastconv.inference._operations import Add, Call, Concatenate, Convolve, ScaleAndShift
from fastconv.layers import (
    AveragePooling,
    BatchNormalization,
    Chain,
    ChannelShuffle,
    Concatenation,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    HardSwish,
    IdentityShortcut,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Relu6,
    Residual,
    Sigmoid,
    SiLU,
)
from fastconv.models import (
    NIN,
    VGG,
    DeepConvNet,
    GoogLeNet,
    LeNet,
    MobileNet,
    ResNet,
    Sequential,
    SimpleConvNet,
    Xception,
)

TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-2}
"""The largest difference from `predict`, as a part of its largest score."""


def conv(
    rng: np.random.Generator, filters: int, channels: int, size: int = 3, **arguments: Any
) -> Convolution:
    W = rng.normal(size=(filters, channels, size, size)) / size / np.sqrt(channels)
    arguments.setdefault("pad", size // 2)
    return Convolution(W, rng.normal(size=filters), **arguments)


def norm(rng: np.random.Generator, channels: int) -> BatchNormalization:
    gamma, beta = rng.normal(1, 0.3, channels), rng.normal(size=channels)
    mean, variance = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
    return BatchNormalization(gamma, beta, 0.9, mean, variance)


def pieces(rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return layers for images (4, 8, 8), each list a network of its own."""
    return {
        "convolution": [conv(rng, 6, 4)],
        "folded": [conv(rng, 6, 4), norm(rng, 6), Relu()],
        "no bias": [Convolution(rng.normal(size=(6, 4, 1, 1)), None), norm(rng, 6)],
        "one bias": [Convolution(rng.normal(size=(6, 4, 1, 1)), 0.5), LeakyRelu(0.2)],
        "before": [norm(rng, 4), Relu(), conv(rng, 5, 4)],
        "twice": [conv(rng, 6, 4), norm(rng, 6), norm(rng, 6), Relu(), Relu6()],
        "grouped": [conv(rng, 6, 2, groups=2, stride=2, pad_mode="reflect"), HardSwish()],
        "activations": [Sigmoid(), conv(rng, 4, 4), SiLU(), SiLU()],
        "pooled": [Pooling(3, 3, 2, 1), AveragePooling(2, 2, 2), Flatten()],
        "dropped": [conv(rng, 6, 4), Relu(), Dropout(0.25), conv(rng, 3, 6), Dropout(0.4)],
        "dropped first": [Dropout(0.25), conv(rng, 3, 4, pad_mode="edge"), Relu()],
        "dropped last": [Pooling(2, 2, 2), Dropout(0.25)],
        "inverted": [conv(rng, 6, 4), Dropout(0.25, inverted=True)],
        "normalised": [LocalResponseNormalization(3), ChannelShuffle(2), norm(rng, 4)],
        "pixels": [norm(rng, 4 * 8 * 8), Relu()],
        "residual": [Residual(conv(rng, 4, 4), norm(rng, 4), Relu(), conv(rng, 4, 4))],
        "residuals": [
            Residual(conv(rng, 4, 4)),
            Residual(conv(rng, 4, 4, 1), activation=None),
            Residual(conv(rng, 6, 4, stride=2), norm(rng, 6), shortcut=IdentityShortcut(6, 2)),
            Residual(conv(rng, 6, 6), shortcut=[conv(rng, 6, 6, 1), norm(rng, 6)]),
        ],
        "no body": [Residual()],
        "identities": [Residual(Residual(), shortcut=[Relu()], activation=HardSwish())],
        "joined": [
            Concatenation(
                [],
                [conv(rng, 3, 4, 1), Relu()],
                [conv(rng, 3, 4, 1), Relu(), conv(rng, 2, 3), Relu()],
                [Pooling(3, 3, 1, 1), conv(rng, 2, 4, 1)],
            ),
            Pooling(2, 2, 2),
        ],
        "joined twice": [
            Concatenation(Concatenation([conv(rng, 2, 4)], []), Residual(conv(rng, 4, 4))),
            conv(rng, 3, 10),
        ],
        "joined last": [Concatenation(conv(rng, 2, 4), [])],
        "global": [conv(rng, 6, 4), GlobalAveragePooling()],
        "flat": [Flatten()],
        "nothing": [],
        "held": [Sequential((4, 8, 8), dtype="float64", seed=0).convolution(5, 3).add(Relu())],
    }


PIECES = tuple(pieces(np.random.default_rng(0)))


def network(name: str, dtype: str = "float64") -> Sequential:
    layers = pieces(np.random.default_rng(0))[name]
    net = Sequential((4, 8, 8), layers, dtype=dtype, seed=0)
    for key, array in net.state.items():
        net.state[key] = array
    return net


def images(net: Sequential, batch: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(batch, *net.input_dim)).astype(net.dtype)


def assert_near(found: np.ndarray[Any, Any], net: Sequential, x: np.ndarray[Any, Any]) -> None:
    expected = net.predict(x)
    assert found.shape == expected.shape
    assert found.dtype == net.dtype
    largest = max(np.abs(expected).max(initial=0), 1e-3)
    difference = np.abs(found.astype(float) - expected.astype(float)).max(initial=0)
    assert difference <= TOLERANCES[net.dtype.name] * largest


@pytest.mark.parametrize("name", PIECES)
def test_twins_give_the_networks_scores(name: str) -> None:
    net = network(name)
    twin, x = net.optimized(), images(net)
    assert_near(twin.predict(x), net, x)
    assert_near(twin.predict(x[:1]), net, x[:1])
    assert_near(twin.predict(x), net, x)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", ["folded", "residuals", "joined", "dropped", "normalised"])
def test_twins_keep_the_dtype(name: str, dtype: str) -> None:
    net = Sequential((4, 8, 8), pieces(np.random.default_rng(0))[name], dtype=dtype, seed=0)
    for part in [layer for _, layer in fastconv._structure.paths(net)]:
        for attribute in fastconv._structure.held(part, ("W", "b", "gamma", "beta")):
            setattr(part, attribute, getattr(part, attribute).astype(dtype))
    x = images(net)
    assert_near(net.optimized().predict(x), net, x)


NETWORKS: dict[str, Callable[[], Sequential]] = {
    "lenet": lambda: LeNet(seed=0),
    "simple": lambda: SimpleConvNet(seed=0),
    "deep": lambda: DeepConvNet(seed=0),
    "nin": lambda: NIN(seed=0),
    "vgg": lambda: VGG(11, (3, 32, 32), output_size=10, hidden_size=64, seed=0),
    "resnet20": lambda: ResNet(20, seed=0),
    "resnet18": lambda: ResNet(18, (3, 64, 64), seed=0),
    "resnet50": lambda: ResNet(50, (3, 64, 64), seed=0),
    "googlenet": lambda: GoogLeNet((3, 64, 64), seed=0),
    "mobilenet": lambda: MobileNet((3, 64, 64), seed=0),
    "xception": lambda: Xception((3, 75, 75), seed=0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_literature(name: str) -> None:
    net = NETWORKS[name]()
    rng = np.random.default_rng(0)
    for key, array in net.state.items():  # Statistics that do something.
        if key.startswith("running_mean"):
            array[:] = rng.normal(0, 0.1, array.shape)
        if key.startswith("running_var"):
            array[:] = rng.uniform(0.5, 2, array.shape)
    x = images(net, 2)
    assert_near(net.optimized().predict(x), net, x)


@pytest.mark.parametrize("name", PIECES)
def test_results_do_not_depend_on_threads(name: str) -> None:
    net = network(name)
    twin, x = net.optimized(), images(net)
    with fastconv.num_threads(1):
        expected = twin.predict(x)
    for threads in (2, 3):
        with fastconv.num_threads(threads):
            np.testing.assert_array_equal(twin.predict(x), expected)


@pytest.mark.parametrize("name", PIECES)
def test_an_image_alone_gives_what_it_gives_in_a_batch(name: str) -> None:
    """All algorithms are direct here, because the images are small."""
    net = network(name)
    twin, x = net.optimized(), images(net, 5)
    np.testing.assert_array_equal(twin.predict(x)[:1], twin.predict(x[:1]))


def operations(twin: InferenceNetwork) -> list[type]:
    return [type(step.operation) for step in twin.graph]


def test_normalisation_and_activation_need_no_step() -> None:
    assert operations(network("folded").optimized()) == [Convolve]
    assert operations(network("twice").optimized()).count(ScaleAndShift) == 0


@pytest.mark.parametrize(("dtype", "mean"), [("float32", 1e4), ("float16", 6e4)])
def test_normalisation_by_itself_is_exact_far_from_zero(dtype: str, mean: float) -> None:
    layer = BatchNormalization(np.full(4, 1.5), np.ones(4), 0.9, np.full(4, mean), np.ones(4))
    for attribute in ("gamma", "beta"):
        setattr(layer, attribute, getattr(layer, attribute).astype(dtype))
    net = Sequential((4, 8, 8), [layer], dtype=dtype)
    x = (images(net) + mean).astype(dtype)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(net.optimized().predict(x), net.predict(x))


def test_an_infinite_scale_is_not_part_of_weights() -> None:
    rng = np.random.default_rng(0)
    layer = BatchNormalization(np.ones(6), np.zeros(6), 0.9, np.zeros(6), np.zeros(6), eps=0)
    net = Sequential((4, 8, 8), [conv(rng, 6, 4), layer], dtype="float64")
    x = images(net)
    with np.errstate(all="raise"):
        found = net.optimized().predict(x)
    assert np.isinf(found).all()
    np.testing.assert_array_equal(found, net.predict(x))


def test_dropout_needs_no_step_between_products() -> None:
    assert operations(network("dropped").optimized()) == [Convolve, Convolve]
    assert operations(network("dropped first").optimized()) == [Convolve]


def test_sums_need_no_step_behind_convolutions() -> None:
    assert operations(network("residuals").optimized()).count(Add) == 0
    assert operations(network("no body").optimized()).count(Add) == 1


def test_branches_write_where_they_are_joined() -> None:
    twin = network("joined").optimized()
    (join,) = [step.operation for step in twin.graph if isinstance(step.operation, Concatenate)]
    assert join.placed == {1, 2, 3}
    twin = network("joined twice").optimized()
    joins = [step.operation for step in twin.graph if isinstance(step.operation, Concatenate)]
    assert [join.placed for join in joins] == [{0}, {0}]


def test_layers_of_others_are_called() -> None:
    class Doubled(Relu):
        """A subclass that computes something else."""

        def forward(self, x: Any) -> Any:
            return 2 * super().forward(x)

    net = Sequential((4, 8, 8), [conv(np.random.default_rng(0), 4, 4), Doubled()])
    twin, x = net.optimized(), images(net)
    assert operations(twin) == [Convolve, Call]
    assert_near(twin.predict(x), net, x)


def test_layers_with_functions_of_their_own_are_called() -> None:
    layer: Any = Relu()
    layer.forward = lambda x: 3 * x
    net = Sequential((4, 8, 8), [Residual(layer)])
    x = images(net)
    assert_near(net.optimized().predict(x), net, x)


def test_chains_that_do_more_are_called() -> None:
    class Doubled(Chain):
        def forward(self, x: Any, train_flg: bool = True) -> Any:
            return 2 * super().forward(x, train_flg)

    class Halved(Sequential):
        def predict(self, x: Any, train_flg: bool = False) -> Any:
            return super().predict(x, train_flg) / 2

    rng = np.random.default_rng(0)
    inner = Halved((4, 8, 8), [conv(rng, 4, 4), Relu()], dtype="float64")
    net = Sequential((4, 8, 8), [Doubled(conv(rng, 4, 4), Relu()), inner], dtype="float64")
    assert operations(net.optimized()) == [Call, Call]
    for whole in (net, inner):
        x = images(whole)
        assert_near(whole.optimized().predict(x), whole, x)


def test_what_is_learned_later_does_not_reach_the_twin() -> None:
    net = network("folded")
    twin, x = net.optimized(), images(net)
    before = twin.predict(x)
    for array in net.state.values():
        array += 1
    np.testing.assert_array_equal(twin.predict(x), before)
    assert not np.allclose(net.predict(x), before)


def test_inputs_and_results_are_the_callers_own() -> None:
    for name in PIECES:
        net = network(name)
        twin, x = net.optimized(), images(net)
        kept = x.copy()
        first = twin.predict(x)
        held = first.copy()
        second = twin.predict(-x)
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_array_equal(first, held)
        assert not np.may_share_memory(first, x)
        assert not np.may_share_memory(first, second)


def test_views_lists_and_other_dtypes_are_read() -> None:
    net = network("folded")
    twin = net.optimized()
    x = images(net)
    assert_near(twin.predict(x.transpose(0, 1, 3, 2)), net, x.transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(twin.predict(x.tolist()), twin.predict(x))
    np.testing.assert_array_equal(twin.predict(x.astype(">f8")), twin.predict(x))
    whole = np.arange(256).reshape(1, 4, 8, 8)
    assert_near(twin.predict(whole), net, whole)


def test_empty_batches_give_empty_scores() -> None:
    assert network("joined").optimized().predict(np.zeros((0, 4, 8, 8))).shape == (0, 11, 4, 4)


@pytest.mark.parametrize("shape", [(4, 8, 8), (1, 4, 8, 9), (1, 3, 8, 8), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"InferenceNetwork: x must have shape \(N, 4, 8"):
        network("folded").optimized().predict(np.zeros(shape))


def test_probabilities_and_accuracy_are_the_networks() -> None:
    net = SimpleConvNet(seed=0)
    twin, x = net.optimized(), images(net, 20)
    labels = net.predict(x).argmax(axis=1)
    assert twin.accuracy(x, labels, batch_size=7) == 1
    np.testing.assert_allclose(twin.predict_proba(x), net.predict_proba(x), rtol=1e-4)


def test_copies_and_pickles_compute_the_same() -> None:
    net = network("joined")
    twin, x = net.optimized(), images(net)
    expected = twin.predict(x)
    for other in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        np.testing.assert_array_equal(other.predict(x), expected)


def test_threads_share_a_twin() -> None:
    net = network("joined")
    twin = net.optimized()
    inputs = [images(net, 1 + i % 3) + i for i in range(8)]
    expected = [twin.predict(x) for x in inputs]
    found: list[Any] = [None] * len(inputs)

    def work(i: int) -> None:
        for _ in range(20):
            found[i] = twin.predict(inputs[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    assert len(twin._pool._idle) <= 4


def test_threads_share_no_layer() -> None:
    """One thread's batch is within the layer while the other one's comes and goes."""
    inside, other_done = threading.Event(), threading.Event()

    class Slow:
        """Keeps its input, as layers do, and reads it again."""

        def __deepcopy__(self, memo: Any) -> Slow:
            return Slow()

        def forward(self, x: Any) -> Any:
            self.x = x
            if len(x) == 2:
                inside.set()
                assert other_done.wait(10)
            return 2 * self.x

        def backward(self, dout: Any) -> Any:
            return 2 * dout

    net = Sequential((3,), dtype="float64").add(Slow())
    twin, found = net.optimized(), []
    worker = threading.Thread(target=lambda: found.append(twin.predict(np.ones((2, 3)))))
    worker.start()
    assert inside.wait(10)
    twin.predict(np.zeros((1, 3)))
    other_done.set()
    worker.join()
    np.testing.assert_array_equal(found, [np.full((2, 3), 2.0)])


def test_the_precision_and_the_level_in_use_decide() -> None:
    net = Sequential((32, 32, 32), seed=0).convolution(32, 3, pad=1)
    twin, x = net.optimized(), images(net)
    exact = twin.predict(x)
    with fastconv.precision("high"):
        np.testing.assert_array_equal(
            twin.predict(x), fastconv.conv2d(x, net.params["W1"], net.params["b1"], padding=1)
        )
    np.testing.assert_array_equal(twin.predict(x), exact)
    level = _kernels.level
    try:
        for name in _kernels.available_levels():
            _kernels.use(name)
            assert_near(twin.predict(x), net, x)
    finally:
        _kernels.use(level)


def test_nan_reaches_what_sees_it() -> None:
    net = network("residual")
    x = images(net)
    x[1, 2, 3, 3] = np.nan
    np.testing.assert_array_equal(np.isnan(net.optimized().predict(x)), np.isnan(net.predict(x)))


def test_results_in_use_at_the_same_time_lie_apart() -> None:
    for name in ("resnet20", "googlenet", "mobilenet"):
        graph = NETWORKS[name]().optimized().graph
        plan = MemoryPlan(graph, 2, 4)
        outer = plan.blocks[graph.input], plan.blocks[graph.output]
        blocks = [block for block in set(plan.blocks.values()) if block not in outer]
        spans = [(b.offset, b.offset + 8 * int(np.prod(b.shape)), b) for b in blocks]
        assert max(end for _, end, _ in spans) <= plan.size
        assert plan.size < sum(end - begin for begin, end, _ in spans)
        for i, (begin, end, block) in enumerate(spans):
            for other_begin, other_end, other in spans[:i]:
                apart = end <= other_begin or other_end <= begin
                assert apart or not block.overlaps(other)


@pytest.mark.parametrize("size", [1, 3])
def test_convolutions_do_not_overwrite_their_images(size: int) -> None:
    """The body is one convolution, so that what it reads is also what is added to its result."""
    rng = np.random.default_rng(0)
    first = Residual(conv(rng, 40, 40, size), norm(rng, 40))
    layers: list[Any] = [conv(rng, 40, 4), first, Residual(conv(rng, 40, 40, size)), Flatten()]
    net = Sequential((4, 8, 8), layers, dtype="float64")
    x = images(net)
    assert_near(net.optimized().predict(x), net, x)


def test_plan_prints_a_line_for_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    net = network("joined")
    fastconv.plan(net, 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "algorithm", "result", "ms", "GFLOP/s", "MiB"]
    assert len(lines) == 2 + len(net.optimized().graph.steps) - 1 + 2
    assert lines[-2].startswith("total")


def test_plan_of_a_network_without_steps(capsys: pytest.CaptureFixture[str]) -> None:
    fastconv.plan(Sequential((4, 8, 8)))
    assert capsys.readouterr().out.splitlines()[2].split() == ["total", "0.000"]


@pytest.mark.parametrize("wrong", [None, Relu(), "net"])
def test_plan_refuses_what_is_no_network(wrong: Any) -> None:
    with pytest.raises(TypeError, match="plan: network must be a Sequential or an Inference"):
        fastconv.plan(wrong)


def test_multiply_adds_are_the_networks() -> None:
    for name in ("resnet20", "googlenet", "mobilenet"):
        net = NETWORKS[name]()
        assert net.optimized().multiply_adds() == net.multiply_adds()
