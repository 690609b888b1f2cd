"""Networks: sizes, gradients, training, copies, and the files of their parameters."""

from __future__ import annotations

import copy
import io
import os
import pickle
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import textbook
from gradients import assert_gradient
from helpers import (
    PEAK,
    Array,
    assert_close,
    assert_same,
    memory_bounded,
    needs_proc,
    normal_values,
    npy,
    replace_member,
    run_python,
)

from fastconv.layers import (
    Affine,
    BatchNormalization,
    Chain,
    Convolution,
    Dropout,
    Flatten,
    Pooling,
    Relu,
    Sigmoid,
)
from fastconv.models import (
    NIN,
    VGG,
    AlexNet,
    DeepConvNet,
    GoogLeNet,
    LeNet,
    MobileNet,
    ResNet,
    Sequential,
    SimpleConvNet,
    Xception,
    read_pickle,
)


def batch(net: Sequential, count: int = 6, seed: int = 0) -> tuple[Array, Array]:
    """Make inputs of a network and their labels."""
    classes = int(np.prod(net.output_dim))
    labels = np.random.default_rng(seed).integers(0, classes, count)
    return normal_values((count, *net.input_dim), net.dtype, seed), labels


def values(net: Sequential) -> dict[str, Array]:
    """Copy all parameters, and what else belongs to a trained network."""
    return {name: array.copy() for name, array in net.state.items()}


def assert_same_values(net: Sequential, expected: dict[str, Array]) -> None:
    assert list(net.state) == list(expected)
    for name, array in expected.items():
        assert_same(net.state[name], array)


def normalized(**kwargs: Any) -> Sequential:
    """Make a small network with batch normalisation and dropout."""
    net = Sequential((2, 6, 6), **kwargs).convolution(4, 3, pad=1).batch_normalization()
    net.add(Relu(), Pooling(2, 2, 2), Dropout(0.3)).affine(5).batch_normalization(0.8)
    return net.add(Relu()).affine(3)


def trained(**kwargs: Any) -> Sequential:
    net = normalized(**kwargs)
    for seed in range(3):
        grads = net.gradient(*batch(net, seed=seed))
        for name, grad in grads.items():
            net.params[name] -= 0.1 * grad
    return net


# ---------------------------------------------------------------------------------------- sizes


def printed(net: Sequential, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Print the summary, and cut its lines into cells."""
    capsys.readouterr()
    assert net.summary() is None  # type: ignore[func-returns-value]
    head, ruler, *lines = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "layer"
    edges = [0, *(match.end() for match in re.finditer("  ", ruler)), None]
    return [[line[a:b].strip() for a, b in pairwise(edges)] for line in lines]


CHAIN_SIZES = [784, 21632, 5408, 7744, 1600, 1152, 128, 128, 64, 10]


@pytest.mark.parametrize("rectify", [True, False])
def test_summary(rectify: bool, capsys: pytest.CaptureFixture[str]) -> None:
    net = Sequential((1, 28, 28), seed=0)

    def rectified() -> None:
        if rectify:
            net.add(Relu())

    for filters in (32, 64, 128):
        net.convolution(filters, 3)
        rectified()
        net.add(Pooling(2, 2, 2))
    net.add(Flatten()).affine(64)
    rectified()
    net.affine(10)
    *rows, total = printed(net, capsys)
    assert [int(row[4]) for row in rows] == CHAIN_SIZES
    parameters = [0, 320, 0, 18496, 0, 73856, 0, 0, 8256, 650]
    assert [int(row[5]) for row in rows] == parameters
    assert (total[0], int(total[5])) == ("total", sum(parameters))
    names = [
        *("Conv1", "Pool1", "Conv2", "Pool2", "Conv3", "Pool3"),
        "Flatten1",
        "Affine1",
        "Affine2",
    ]
    rectifiers = iter(range(1, 9))
    if rectify:
        names = [
            f"{name} + Relu{next(rectifiers)}"
            if name[:4] in ("Conv",) or name == "Affine1"
            else name
            for name in names
        ]
    assert [row[0] for row in rows] == ["input", *names]
    assert rows[1][1:4] == ["32 of 1x3x3", "0", "(32, 26, 26)"]
    assert rows[2][1:4] == ["2x2, stride 2", "0", "(32, 13, 13)"]
    sizes = {name: out[0].size for name, out in net.activations(np.zeros((2, 1, 28, 28))).items()}
    assert [sizes[name.split(" ")[0]] for name in names] == CHAIN_SIZES[1:]


class Undrawn(np.random.Generator):
    """Draws arrays whose numbers share one place in memory, so that large networks take none."""

    def standard_normal(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return np.lib.stride_tricks.as_strided(np.ones(1, "f4"), size, (0,) * len(size))


SIZES: dict[str, tuple[Callable[..., Sequential], int, float]] = {
    "SimpleConvNet": (SimpleConvNet, 30 * 26 + 4320 * 100 + 100 + 1010, 0.9),
    "DeepConvNet": (DeepConvNet, 123_552, 8.8),
    "LeNet": (LeNet, 61_706, 0.4),
    "AlexNet": (AlexNet, 60_965_224, 724),
    "VGG-11": (partial(VGG, 11), 132_863_336, 7609),
    "VGG-13": (partial(VGG, 13), 133_047_848, 11308),
    "VGG-16": (partial(VGG, 16), 138_357_544, 15470),
    "VGG-19": (partial(VGG, 19), 143_667_240, 19632),
    "NIN": (NIN, 966_986, 222),
    "ResNet-20": (partial(ResNet, 20), 269_722, 40.6),
    "ResNet-32": (partial(ResNet, 32), 464_154, 68.9),
    "ResNet-44": (partial(ResNet, 44), 658_586, 97.2),
    "ResNet-56": (partial(ResNet, 56), 853_018, 125),
    "ResNet-110": (partial(ResNet, 110), 1_727_962, 253),
    "ResNet-1202": (partial(ResNet, 1202), 19_421_274, 2829),
    "ResNet-18": (partial(ResNet, 18), 11_689_512, 1814),
    "ResNet-34": (partial(ResNet, 34), 21_797_672, 3664),
    "ResNet-50": (ResNet, 25_557_032, 4089),
    "ResNet-101": (partial(ResNet, 101), 44_549_160, 7801),
    "ResNet-152": (partial(ResNet, 152), 60_192_808, 11514),
    "GoogLeNet": (GoogLeNet, 6_998_552, 1583),
    "Xception": (Xception, 22_855_952, 8357),
    "MobileNet": (MobileNet, 4_231_976, 569),
}
"""Networks, their parameters, and their multiply-adds in millions: one decimal below 100."""


@pytest.mark.parametrize(("make", "count", "millions"), SIZES.values(), ids=SIZES.keys())
def test_numbers_of_parameters(
    make: Callable[..., Sequential],
    count: int,
    millions: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    net = make(seed=Undrawn(np.random.PCG64(0)))
    assert sum(array.size for array in net.params.values()) == count
    assert all(array.dtype == np.float32 for array in net.params.values())
    assert str(net).endswith(f"{count} parameters)")
    *rows, total = printed(net, capsys)
    assert total[5:] == [str(count), str(net.multiply_adds())]
    digits = 1 if millions < 100 else 0
    assert round(net.multiply_adds() / 1e6, digits) == millions
    for column in (5, 6):
        assert sum(int(row[column] or 0) for row in rows) == int(total[column])


def test_table_of_networks_in_the_documentation() -> None:
    path = Path(__file__).parents[1] / "docs" / "networks.md"
    if not path.exists():
        pytest.skip("docs/ is in no wheel: python -m pytest, in a checkout")
    pattern = r"^\| `(\w+)\((\d*)\)` \|(?:[^|]*\|){2} ([\d,]+) \| ([\d.]+) \|"
    rows = re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name + (depth and f"-{depth}"): row for name, depth, *row in rows} == {
        name: [f"{count:,}", str(millions)] for name, (_, count, millions) in SIZES.items()
    }


@needs_proc
def test_memory_of_a_large_network() -> None:
    """A network takes the memory of its weights, and a summary takes none."""
    result = run_python(
        f"{PEAK}\n"
        "from fastconv.models import VGG\n"
        "before = peak()\n"
        "net = VGG(16)\n"
        "net.summary()\n"
        "after = peak()\n"
        "print(sum(array.size for array in net.params.values()))\n"
        "print(after - before)\n"
    )
    assert result.returncode == 0, result.stderr
    count, peak = map(int, result.stdout.split()[-2:])
    assert count == 138_357_544
    assert peak < 1.5 * 4 * count


def test_depths_of_vgg() -> None:
    for depth in (12, 0, "16", None, 16.5):
        with pytest.raises(
            ValueError, match=rf"depth must be one of 11, 13, 16, 19, got {depth!r}"
        ):
            VGG(depth)  # type: ignore[arg-type]


SMALL: dict[str, Callable[..., Sequential]] = {
    "SimpleConvNet": lambda **kw: SimpleConvNet(
        (2, 9, 8), {"filter_num": 3, "filter_size": 3, "pad": 1, "stride": 1}, 6, 4, 0.3, **kw
    ),
    "DeepConvNet": lambda **kw: DeepConvNet(
        (1, 8, 8),
        {"filter_num": 2, "filter_size": 3, "pad": 1},
        {"filter_num": 2},
        {"filter_num": 3, "stride": 1},
        {"filter_num": 3, "pad": 2},
        {"filter_num": 2},
        hidden_size=5,
        output_size=4,
        **kw,
    ),
    "LeNet": lambda **kw: LeNet((1, 16, 16), 4, **kw),
    "normalized": normalized,
}
each_small = pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())


@each_small
def test_networks_compute(make: Callable[..., Sequential]) -> None:
    """Outputs have the announced shapes, even for an empty batch."""
    net = make(seed=0)
    for count in (0, 1, 5):
        x, _ = batch(net, count)
        scores = net.predict(x)
        assert (scores.shape, scores.dtype) == ((count, *net.output_dim), np.dtype("f4"))
        outputs = net.activations(x)
        assert list(outputs) == list(net.layers)
        assert_same(list(outputs.values())[-1], scores)


@pytest.mark.parametrize(
    "make",
    [lambda: AlexNet((3, 67, 67), 5, seed=0), lambda: VGG(11, (1, 32, 32), 5, 4, seed=0)],
    ids=["AlexNet", "VGG"],
)
def test_large_networks_compute(make: Callable[[], Sequential]) -> None:
    net = make()
    x, t = batch(net, 2)
    grads = net.gradient(x, t)
    assert all(np.isfinite(grad).all() and grad.dtype == np.float32 for grad in grads.values())
    assert np.isfinite(net.loss(x, t))
    assert net.predict(x).shape == (2, 5)


# ------------------------------------------------------------------------------------- gradients


def check_gradients(net: Sequential, parts: int = 40) -> None:
    """Compare with differences: all of small parameters, the first numbers of large ones."""
    x, t = batch(net, 3)

    def loss() -> Any:
        """Take the cross entropy without the textbook's 1e-7, which its gradient leaves out."""
        fresh = copy.deepcopy(net)  # the same numbers are dropped every time
        scores = fresh.predict(x, train_flg=True)
        sums = np.log(np.exp(scores).sum(axis=1))
        return (sums - scores[np.arange(len(t)), t]).mean()

    grads = copy.deepcopy(net).gradient(x, t)
    assert list(grads) == list(net.params)
    for name, grad in grads.items():
        some = net.params[name].reshape(-1)[:parts]
        assert np.shares_memory(some, net.params[name])
        assert_gradient(grad.reshape(-1)[:parts].copy(), loss, some)


@pytest.mark.parametrize("name", ["SimpleConvNet", "DeepConvNet", "normalized"])
def test_gradients(name: str) -> None:
    check_gradients(SMALL[name](dtype="f8", seed=3), 12)


@each_small
def test_gradients_without_that_of_the_input(make: Callable[..., Sequential]) -> None:
    """The first layer's gradient of its input is not computed; all others are the same."""
    net, other = make(seed=0), make(seed=0)
    x, t = batch(net)
    grads = net.gradient(x, t)
    other.loss(x, t)
    dout = other.last_layer.backward()
    for layer in reversed(other.layers.values()):
        dout = layer.backward(dout)
    for name, expected in other.params.gradients().items():
        assert_same(grads[name], expected)


def test_simple_network_is_the_textbooks() -> None:
    """Loss, gradients, and the parameters after ten steps are equal."""
    net = SimpleConvNet(
        (1, 10, 10),
        {"filter_num": 4, "filter_size": 3, "pad": 1, "stride": 1},
        8,
        5,
        0.2,
        dtype="f8",
        seed=1,
    )
    W1, b1, W2, b2, W3, b3 = (array.copy() for array in net.params.values())
    assert not b1.any()
    assert not b2.any()
    assert not b3.any()
    learning: dict[str, Any] = {
        "1": textbook.Convolution(W1, b1, 1, 1),
        "2": textbook.Affine(W2, b2),
        "3": textbook.Affine(W3, b3),
    }
    chain: list[Any] = [
        *(learning["1"], textbook.Relu(), textbook.Pooling(2, 2, 2)),
        *(learning["2"], textbook.Relu(), learning["3"]),
    ]
    last = textbook.SoftmaxWithLoss()
    for step in range(10):
        x, t = batch(net, 12, seed=step)
        out = x
        for layer in chain:
            out = layer.forward(out)
        np.testing.assert_allclose(net.predict(x), out, rtol=0, atol=1e-12)
        loss = last.forward(out, t)
        assert abs(net.loss(x, t) - loss) < 1e-13
        dout = last.backward()
        for layer in reversed(chain):
            dout = layer.backward(dout)
        grads = net.gradient(x, np.eye(5)[t] if step % 2 else t)
        assert net.last_layer.loss == net.loss(x, t)
        for number, layer in learning.items():
            assert_close(grads[f"W{number}"], layer.dW, "f8", 100)
            assert_close(grads[f"b{number}"], layer.db, "f8", 100)
            layer.W -= 0.1 * layer.dW
            layer.b -= 0.1 * layer.db
        for name, grad in grads.items():
            net.params[name] -= 0.1 * grad
    for number, layer in learning.items():
        assert_close(net.params[f"W{number}"], layer.W, "f8", 100)
        assert_close(net.params[f"b{number}"], layer.b, "f8", 100)


@pytest.mark.parametrize("name", ["SimpleConvNet", "DeepConvNet", "LeNet", "normalized"])
def test_training_lowers_the_loss(name: str) -> None:
    net = SMALL[name](seed=0)
    x, t = batch(net, 8)
    first = net.loss(x, t, train_flg=False)
    for _ in range(30):
        for name, grad in net.gradient(x, t).items():
            net.params[name] -= 0.05 * grad
    assert net.loss(x, t, train_flg=False) < first


def test_weights_are_drawn_as_they_say() -> None:
    net = SimpleConvNet(weight_init_std=0.02, seed=0)
    for name in ("W1", "W2", "W3"):
        assert abs(net.params[name].std() / 0.02 - 1) < 0.1
        assert abs(net.params[name].mean()) < 0.003
    deep = DeepConvNet(seed=0)
    for name in ("W2", "W5", "W7"):
        fan_in = (
            deep.params[name][0].size if deep.params[name].ndim == 4 else len(deep.params[name])
        )
        assert abs(deep.params[name].std() / (2 / fan_in) ** 0.5 - 1) < 0.1


# ------------------------------------------------------------------------------------ parameters


def test_names_of_parameters() -> None:
    assert list(SimpleConvNet().params) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    assert list(DeepConvNet().params) == [f"{name}{i}" for i in range(1, 9) for name in "Wb"]
    net = normalized()
    learned = ["W1", "b1", "gamma1", "beta1", "W2", "b2", "gamma2", "beta2", "W3", "b3"]
    assert list(net.params) == learned
    kept = [f"running_{name}{i}" for i in (1, 2) for name in ("mean", "var")]
    assert sorted(net.state) == sorted([*learned, *kept])
    names = ["Conv1", "BatchNormalization1", "Relu1", "Pool1", "Dropout1", "Affine1"]
    assert list(net.layers) == [*names, "BatchNormalization2", "Relu2", "Affine2"]
    assert list(net.gradient(*batch(net))) == learned


def test_numbers_of_names_without_b() -> None:
    """The arrays of each name are numbered separately."""
    first = Convolution(np.ones((2, 1, 3, 3), "f4"), None)
    net = Sequential((1, 5, 5), [first]).affine(3)
    assert list(net.params) == ["W1", "W2", "b2"]
    assert list(net.gradient(*batch(net))) == ["W1", "W2", "b2"]


def test_params_in_place_and_by_assignment() -> None:
    net = SMALL["SimpleConvNet"](seed=0)
    layer: Any = net.layers["Conv1"]
    weight = net.params["W1"]
    assert weight is layer.W
    net.params["W1"] -= 1
    assert net.params["W1"] is weight is layer.W
    new = np.arange(weight.size).reshape(weight.shape)
    net.params["W1"] = new
    assert layer.W is net.params["W1"]
    assert_same(layer.W, new.astype("f4"))
    assert layer.W.flags.c_contiguous
    net.params["b1"] = [1, 2, 3]
    assert_same(layer.b, np.array([1, 2, 3], "f4"))
    net.params["W1"] = new.astype(">f8").transpose(0, 1, 3, 2)
    assert_same(layer.W, np.ascontiguousarray(new.transpose(0, 1, 3, 2)).astype("f4"))
    net.params.update({"b2": np.ones(6), "b3": np.ones(4)})
    assert net.params["b2"].all()
    assert net.params["b3"].all()
    layer.b = np.zeros(3, "f4")
    assert net.params["b1"] is layer.b
    assert len(net.params) == 6
    assert "W1" in net.params
    assert "W9" not in net.params


def test_assigned_arrays_are_not_shared() -> None:
    net = SMALL["SimpleConvNet"](seed=0)
    mine = np.ones(3, "f4")
    net.params["b1"] = mine
    net.params["b1"] += 1
    assert_same(mine, np.ones(3, "f4"))


def test_refused_parameters() -> None:
    net = SMALL["SimpleConvNet"](seed=0)
    before = values(net)
    with pytest.raises(ValueError, match=r"^Parameters: b1 must have shape \(3,\), got \(4,\)$"):
        net.params["b1"] = np.ones(4)
    with pytest.raises(ValueError, match=r"^Parameters: b1 must have shape \(3,\), got \(\)$"):
        net.params["b1"] = 0
    with pytest.raises(KeyError, match="there is no parameter 'W4', only W1, b1, W2, b2, W3, b3"):
        net.params["W4"] = np.ones(4)
    with pytest.raises(KeyError, match="W4"):
        net.params["W4"]
    with pytest.raises(TypeError, match="cannot be deleted"):
        del net.params["W1"]
    with pytest.raises(TypeError, match="cannot be deleted"):
        net.params.clear()
    assert_same_values(net, before)


# ------------------------------------------------------------------------------------------- use


def test_accuracy_counts_everything() -> None:
    """A last batch that is not full counts, too."""
    net = SMALL["SimpleConvNet"](seed=0)
    x, _ = batch(net, 57)
    guessed = net.predict(x).argmax(axis=1)
    t = guessed.copy()
    wrong = [0, 3, 49, 50, 55, 56]
    t[wrong] = (t[wrong] + 1) % 4
    for size in (1, 7, 10, 50, 56, 57, 58, 1000, np.int64(20)):
        for labels in (t, t[:, None], np.eye(4)[t]):
            assert net.accuracy(x, labels, batch_size=size) == 51 / 57
    assert net.accuracy(x, guessed) == 1.0
    assert net.accuracy(x.tolist(), guessed.tolist()) == 1.0


def test_accuracy_of_scores_with_more_axes() -> None:
    """A network without affine layers ends in planes of one pixel."""
    net = Sequential((3, 4, 4), seed=0).convolution(5, 4)
    assert net.output_dim == (5, 1, 1)
    x, _ = batch(net, 20)
    guessed = net.predict(x).reshape(20, 5).argmax(axis=1)
    try:  # it may be refused, as by loss
        found = net.accuracy(x, guessed), net.accuracy(x, (guessed + 1) % 5)
    except ValueError:
        return
    assert found == (1.0, 0.0)


def test_refused_accuracies() -> None:
    net = SMALL["SimpleConvNet"](seed=0)
    x, t = batch(net)
    with pytest.raises(ValueError, match="x must not be empty: there is no accuracy"):
        net.accuracy(x[:0], t[:0])
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"batch_size must be .*got {size}"):
            net.accuracy(x, t, size)
    with pytest.raises(TypeError, match=r"batch_size must be .*got 1\.5"):
        net.accuracy(x, t, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"t must have shape \(6,\)"):
        net.accuracy(x, t[:5])
    with pytest.raises(ValueError, match="labels in t must be from 0 to 3"):
        net.accuracy(x, t + 4)
    with pytest.raises(ValueError, match=r"must have shape \(N, 2, 9, 8\)"):
        net.accuracy(x[:, :1], t)


@pytest.mark.parametrize("shape", [(), (2,), (2, 9, 8), (3, 1, 9, 8), (3, 144), (3, 2, 8, 9)])
def test_inputs_of_other_shapes(shape: tuple[int, ...]) -> None:
    net = SMALL["SimpleConvNet"](seed=0)
    message = re.escape(f"x must have shape (N, 2, 9, 8) for this network, got {shape}")
    x, t = np.ones(shape), np.zeros(3, int)
    calls: list[Callable[[Any], Any]] = [
        *(net.predict, net.predict_proba, net.activations),
        *(lambda x: net.loss(x, t), lambda x: net.accuracy(x, t)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(x)
    with pytest.raises(ValueError, match=message):
        net.gradient(x, t)


@pytest.mark.parametrize("dtype", ["F", "U3", "M8[s]", object])
def test_inputs_that_are_no_numbers(dtype: Any) -> None:
    net = SMALL["SimpleConvNet"](seed=0)
    message = f"x must be of float16, .*; got dtype {re.escape(str(np.dtype(dtype)))}"
    for call in (net.predict, net.predict_proba, net.activations):
        with pytest.raises(TypeError, match=message):
            call(np.zeros((3, 2, 9, 8), dtype))


@each_small
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_probabilities(make: Callable[..., Sequential], dtype: str) -> None:
    net = make(dtype=dtype, seed=0)
    if make is normalized:  # What it divides by is close to 0 before it is trained.
        net.gradient(*batch(net))
    for count in (0, 1, 6):
        x, _ = batch(net, count)
        probabilities = net.predict_proba(5 * x)
        assert probabilities.dtype == ("f8" if dtype == "f8" else "f4")
        assert probabilities.shape == (count, *net.output_dim)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
        scores = net.predict(5 * x).astype("f8")
        powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=0))
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)


def test_probabilities_of_other_outputs() -> None:
    net = Sequential((3, 4, 4), seed=0).convolution(5, 3)
    message = re.escape("must end in a row of scores for classes, its output is (5, 2, 2)")
    with pytest.raises(ValueError, match=message):
        net.predict_proba(np.ones((1, 3, 4, 4)))
    with pytest.raises(ValueError, match=message):
        net.accuracy(np.ones((1, 3, 4, 4)), [0])


def test_representation() -> None:
    """`repr` gives a line about the network, then its layers by their names."""
    net = normalized(seed=0)
    first, *lines = repr(net).splitlines()
    assert first == str(net)
    count = sum(array.size for array in net.params.values())
    assert str(net) == f"Sequential(input (2, 6, 6), output (3,), 9 layers, {count} parameters)"
    assert lines == [f"  {name}: {layer!r}" for name, layer in net.layers.items()]
    assert "  Pool1: Pooling(2, 2, stride=2)" in lines
    assert "  Dropout1: Dropout(0.3)" in lines
    assert repr(Sequential((3,), seed=0)) == str(Sequential((3,), seed=0))


@each_small
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("given", ["u1", "f2", "f4", "f8", ">f8", "i8"])
def test_dtypes(make: Callable[..., Sequential], dtype: str, given: str) -> None:
    """A network computes in its own dtype, whatever the dtype of its inputs."""
    net = make(dtype=dtype, seed=0)
    _, t = batch(net)
    x = np.random.default_rng(0).integers(0, 5, (6, *net.input_dim)).astype(given)
    assert net.predict(x, train_flg=True).dtype == dtype
    grads = net.gradient(x, t)
    for name, grad in grads.items():
        assert grad.dtype == dtype, name
        net.params[name] -= 0.01 * grad
        assert net.params[name].dtype == dtype
        assert grad.shape == net.params[name].shape
    assert net.loss(x, t).dtype == ("f8" if dtype == "f8" else "f4")
    if make is not normalized:  # what that divides by is close to 0 after a few steps
        assert {out.dtype for out in net.activations(x).values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtype", ["i4", "?", "g", "F", "U3", object])
def test_refused_dtypes(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"^Sequential: dtype must be float16, float32 or"):
        Sequential((3,), dtype=dtype)


@pytest.mark.parametrize("input_dim", [(), (0,), (3, -1, 4), (3, 0, 4)], ids=str)
def test_refused_input_sizes(input_dim: Any) -> None:
    with pytest.raises(ValueError, match="input_dim must be a sequence of positive ints, got"):
        Sequential(input_dim)


@pytest.mark.parametrize("input_dim", [(1.0, 2), (True,), ("3",), (None, 2)], ids=str)
def test_refused_types_of_input_sizes(input_dim: Any) -> None:
    with pytest.raises(TypeError, match="input_dim must be a sequence of positive ints, got"):
        Sequential(input_dim)


def test_refused_descriptions_of_convolutions() -> None:
    with pytest.raises(ValueError, match=r"a conv_param has filter_num, .*got filters, size"):
        SimpleConvNet(conv_param={"filters": 3, "size": 5})
    with pytest.raises(ValueError, match=r"does not fit the padded input"):
        SimpleConvNet((1, 4, 4))
    with pytest.raises(ValueError, match="filters must be a positive int"):
        SimpleConvNet(conv_param={"filter_num": 0})


def test_dropout_is_for_training() -> None:
    net = normalized(seed=0)
    x, _ = batch(net)
    assert_same(net.predict(x), net.predict(x))
    first, second = net.predict(x, train_flg=True), net.predict(x, train_flg=True)
    assert (first != second).any()


# ---------------------------------------------------------------------------- copies, randomness


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=["deepcopy", "pickle"],
)
@each_small
def test_copies(make: Callable[..., Sequential], duplicate: Callable[[Any], Any]) -> None:
    """Copies continue as the original would, and share no memory with it."""
    net = make(seed=0)
    x, t = batch(net)
    net.gradient(x, t)
    other = duplicate(net)
    assert_same_values(other, values(net))
    assert not any(np.shares_memory(other.params[name], net.params[name]) for name in net.params)
    for layer in (*other.layers.values(),):
        assert all(layer is not mine for mine in net.layers.values())
    known, grads = net.gradient(x, t), other.gradient(x, t)
    for name, grad in known.items():
        assert_same(grads[name], grad)
        other.params[name] -= grad
    before = values(net)
    other.params["W1"] = np.zeros_like(other.params["W1"])
    assert (other.predict(x) != net.predict(x)).any()
    for name in net.params:
        assert_same(net.params[name], before[name])


def test_backward_before_predict() -> None:
    """What a layer computed when the network tried which shapes it gives is forgotten."""
    inner = Sequential((2, 4, 4), seed=0).batch_normalization().add(Relu())
    net = Sequential((1, 4, 4), seed=0).convolution(2, 1).add(inner, Pooling(2, 2, 2)).affine(3)
    for layer in reversed([*net.children, *inner.children]):
        with pytest.raises(RuntimeError, match="backward needs a forward before it"):
            layer.backward(np.ones((0, *net.output_dim), "f4"))
    with pytest.raises(RuntimeError, match="Affine: backward needs a forward before it"):
        net.backward(np.ones((1, 3), "f4"))


def test_copies_of_trained_networks_lack_the_last_batch() -> None:
    """Copies are about as large as the parameters, whatever the batch size."""
    net = Sequential((1, 28, 28), seed=0).convolution(8, 5).batch_normalization()
    net.add(Relu(), Pooling(2, 2, 2), Dropout(0.3)).affine(20).add(Sigmoid()).affine(10)
    net.gradient(*batch(net, 200))
    size = sum(array.nbytes for array in net.state.values())
    for other in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert size < len(pickle.dumps(other)) < size + 10_000
    other = copy.deepcopy(net)
    with pytest.raises(RuntimeError, match="Affine: backward needs a forward before it"):
        other.backward(np.ones((200, 10), "f4"))
    with pytest.raises(RuntimeError, match="SoftmaxWithLoss: backward needs a forward"):
        other.last_layer.backward()
    assert all(grad is None for grad in other.params.gradients().values())
    x, t = batch(net, 5)
    for name, grad in net.gradient(x, t).items():  # dropout, too, goes on as in the original
        if name == "W1":
            grads = other.gradient(x, t)
        assert_same(grads[name], grad)


@each_small
def test_seeds(make: Callable[..., Sequential]) -> None:
    """A seed, or the seed of numpy.random, repeats weights and dropout."""

    def run(**kwargs: Any) -> list[Array]:
        net = make(**kwargs)
        x, t = batch(net)
        return [*values(net).values(), *net.gradient(x, t).values()]

    def same(first: list[Array], second: list[Array]) -> bool:
        return all((a == b).all() for a, b in zip(first, second, strict=True))

    assert same(run(seed=5), run(seed=5))
    assert not same(run(seed=5), run(seed=6))
    assert same(run(seed=np.random.default_rng(5)), run(seed=5))
    np.random.seed(8)  # noqa: NPY002
    first, second = run(), run()
    np.random.seed(8)  # noqa: NPY002
    assert same(first, run())
    assert not same(first, second)


# ------------------------------------------------------------------------- user-defined layers


class Scale:
    """Learns one number for each feature."""

    def __init__(self, size: int) -> None:
        self.W = np.full(size, 2, "f4")
        self.dW: Any = None

    def forward(self, x: Array) -> Array:
        self.x = x
        result: Array = x * self.W
        return result

    def backward(self, dout: Array) -> Array:
        self.dW = (dout * self.x).sum(axis=0)
        result: Array = dout * self.W
        return result


class Noise:
    """Is told whether it is trained; learns nothing."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def forward(self, x: Array, train_flg: bool) -> Array:
        self.seen.append(train_flg)
        return x + 1 if train_flg else x

    def backward(self, dout: Array) -> Array:
        return dout


def test_layers_of_ones_own() -> None:
    noise: Any = Noise()
    net = Sequential((4,), [Scale(4), noise], seed=0).affine(6).add(Relu(), Scale(6))
    net.affine(3)
    assert list(net.layers) == ["Scale1", "Noise1", "Affine1", "Relu1", "Scale2", "Affine2"]
    assert list(net.params) == ["W1", "W2", "b2", "W3", "W4", "b4"]
    x, t = batch(net)
    noise.seen.clear()
    net.predict(x)
    net.predict(x, train_flg=True)
    net.loss(x, t)
    net.gradient(x, t)
    net.accuracy(x, t)
    assert noise.seen == [False, True, True, True, False]
    grads = net.gradient(x, t)
    assert list(grads) == list(net.params)
    assert_same(grads["W1"], net.layers["Scale1"].dW)  # type: ignore[attr-defined]
    net.params["W1"] -= grads["W1"]
    assert_same(net.layers["Scale1"].W, net.params["W1"])  # type: ignore[attr-defined]


def test_gradients_of_layers_of_ones_own() -> None:
    """Users' layers work before and after the library's, and where the first learn nothing."""
    noise: Any = Noise()
    net = Sequential((2, 5, 5), [Relu(), noise], dtype="f8", seed=0).convolution(3, 3)
    net.add(Sigmoid(), Flatten(), Scale(27)).affine(4)
    net.params["W2"] = net.params["W2"].astype("f8") + 0.1
    scale: Any = net.layers["Scale1"]
    scale.W = scale.W.astype("f8")
    check_gradients(net, 30)


class Plain(textbook.Affine):
    """Course code's own layer."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: Plain(np.ones((18, 3)), np.zeros(3)),
        lambda: textbook.Relu(),
        lambda: textbook.Sigmoid(),
        lambda: textbook.BatchNormalization(np.ones(18), np.zeros(18)),
        lambda: textbook.Convolution(np.ones((3, 2, 2, 2)), np.zeros(3)),
    ],
    ids=["Affine", "Relu", "Sigmoid", "BatchNormalization", "Convolution"],
)
def test_layers_of_the_textbook(make: Callable[[], Any]) -> None:
    """The textbook's own layers run unchanged."""
    net = Sequential((2, 3, 3), [make()], dtype="f8", seed=0).affine(3)
    x, t = batch(net)
    assert net.predict(x).shape == (6, 3)
    assert set(net.gradient(x, t)) == set(net.params)


def test_layers_that_learn_a_number_twice() -> None:
    layer = Relu()
    net = Sequential((4,), [layer], seed=0)
    with pytest.raises(
        ValueError, match=r"^Sequential: Relu2: a layer can be in a network only once$"
    ):
        net.add(layer)
    with pytest.raises(ValueError, match="only once"):
        net.add(other := Sigmoid(), other)
    assert list(net.layers) == ["Relu1", "Sigmoid1"]


MISFITS: list[tuple[Callable[[], Any], str]] = [
    (lambda: Affine(np.ones((7, 3), "f4"), None), r"Affine2 does not fit .*\(6,\).*\(7, 3\)"),
    (lambda: Convolution(np.ones((2, 6, 1, 1)), None), r"Conv1 does not fit behind .*\(6,\)"),
    (lambda: Pooling(2, 2), r"Pool1 does not fit behind an output of \(6,\)"),
    (lambda: BatchNormalization(np.ones(5), np.ones(5)), "BatchNormalization1 does not fit"),
]


@pytest.mark.parametrize(("make", "message"), MISFITS, ids=lambda value: None)
def test_layers_that_do_not_fit(make: Callable[[], Any], message: str) -> None:
    """A layer that does not fit leaves the network unchanged."""
    net = Sequential((4,), seed=0).affine(6)
    before, shown = values(net), repr(net)
    with pytest.raises(ValueError, match=message):
        net.add(make())
    assert repr(net) == shown
    assert_same_values(net, before)
    net.add(Relu()).affine(3)
    assert list(net.layers) == ["Affine1", "Relu1", "Affine2"]


def test_refused_builders() -> None:
    flat = Sequential((4,), seed=0)
    with pytest.raises(ValueError, match=r"a convolution does not fit behind an output of \(4,\)"):
        flat.convolution(3, 3)
    net = Sequential((4, 6, 6), seed=0)
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: net.convolution(0, 3), "filters must be a positive int.*got 0"),
        (lambda: net.convolution(3, 0), "size must be a positive int.*got 0"),
        (lambda: net.convolution(3, 7), "Conv1 does not fit.*does not fit the padded input"),
        (lambda: net.convolution(3, 3, 0), "stride must be a positive int.*got 0"),
        (lambda: net.convolution(3, 3, groups=2), "Conv1 does not fit.*groups"),
        (lambda: net.convolution(6, 3, groups=3), "Conv1 does not fit.*groups"),
        (lambda: net.affine(0), "units must be a positive int.*got 0"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            call()
    assert net.layers == {}
    assert len(net.params) == 0


def test_networks_that_learn_nothing(tmp_path: Path) -> None:
    """Networks without parameters can be used and saved like others."""
    net = Sequential((4,), [Relu()], seed=0)
    assert net.gradient(*batch(net)) == {}
    assert Sequential((4,)).predict(np.ones((2, 4))).shape == (2, 4)
    net.save_params(tmp_path / "empty.npz")
    net.load_params(tmp_path / "empty.npz")


# --------------------------------------------------------------------- layers that hold layers


class Fork:
    """Adds what two chains make of its input; knows nothing of networks but `children`."""

    def __init__(self, left: Any, right: Any) -> None:
        self.children = (left, right)

    def forward(self, x: Array, train_flg: bool = True) -> Array:
        left, right = (child.forward(x, train_flg) for child in self.children)
        result: Array = left + right
        return result

    def backward(self, dout: Array) -> Array:
        left, right = (child.backward(dout) for child in self.children)
        result: Array = left + right
        return result


class Scaled:
    """Holds plain layers, one of them within a layer of its kind, and learns a number itself."""

    def __init__(self, *body: Any) -> None:
        self.children = body
        self.W = np.full(1, 1.5)
        self.dW: Any = None

    def forward(self, x: Array) -> Array:
        for layer in self.children:
            x = layer.forward(x)
        self.x = x
        result: Array = x * self.W.astype(x.dtype)
        return result

    def backward(self, dout: Array) -> Any:
        self.dW = np.full(1, (dout * self.x).sum(), self.W.dtype)
        dout = dout * self.W.astype(dout.dtype)
        for layer in reversed(self.children):
            dout = layer.backward(dout)
        return dout


def forked(**kwargs: Any) -> Sequential:
    """Make a network with a fork whose branches are of several layers, between plain ones."""
    seed = kwargs.get("seed", 0)
    branch = {**kwargs, "seed": seed + 1}
    left = Sequential((4, 6, 6), **branch).convolution(4, 3, pad=1).batch_normalization()
    left.add(Relu(), Dropout(0.3)).convolution(4, 1)
    right = Sequential((4, 6, 6), **branch).convolution(4, 1).add(Sigmoid())
    net = Sequential((2, 6, 6), **kwargs).convolution(4, 3, pad=1).add(Relu())
    return net.add(Fork(left, right), Relu(), Pooling(2, 2, 2)).affine(3)


def test_plain_layers_hold_none() -> None:
    kinds = [Affine(np.ones((2, 2)), None), Relu(), Pooling(2, 2), Dropout(), Flatten()]
    assert [layer.children for layer in kinds] == [()] * 5
    net = normalized(seed=0)
    assert net.children == tuple(net.layers.values())
    assert Sequential((4,)).children == ()


def test_parameters_within_layers() -> None:
    """They are numbered in the order in which the layers stand, the inner ones too."""
    net = forked(seed=0)
    assert list(net.layers) == ["Conv1", "Relu1", "Fork1", "Relu2", "Pool1", "Affine1"]
    assert list(net.params) == [
        *("W1", "b1", "W2", "b2", "gamma1", "beta1", "W3", "b3", "W4", "b4", "W5", "b5")
    ]
    assert list(net.state) == [
        *("W1", "b1", "W2", "b2", "gamma1", "beta1", "running_mean1", "running_var1"),
        *("W3", "b3", "W4", "b4", "W5", "b5"),
    ]
    left, right = net.layers["Fork1"].children  # type: ignore[attr-defined]
    assert net.params["W3"] is left.params["W2"] is left.layers["Conv2"].W
    assert net.params["W4"] is right.params["W1"]
    net.params["W4"] = np.zeros((4, 4, 1, 1))
    assert not right.layers["Conv1"].W.any()
    own = Scaled(Scaled(Convolution(np.ones((4, 2, 1, 1)), None)), Relu())
    net = Sequential((2, 6, 6), [own], seed=0).affine(3)
    assert [type(layer) for layer in net.params.layers()] == [
        *(Scaled, Scaled, Convolution, Affine, Affine)
    ]
    assert list(net.params) == ["W1", "W2", "W3", "W4", "b4"]


def test_results_of_layers_within_layers() -> None:
    net = forked(seed=0)
    x, _ = batch(net)
    left, right = net.layers["Fork1"].children  # type: ignore[attr-defined]
    outputs = net.activations(x)
    assert list(outputs) == list(net.layers)
    assert_same(outputs["Fork1"], left.predict(outputs["Relu1"]) + right.predict(outputs["Relu1"]))
    assert_same(left.forward(outputs["Relu1"], False), left.predict(outputs["Relu1"]))


@pytest.mark.parametrize("first", [True, False], ids=["first", "behind"])
def test_gradients_within_layers(first: bool) -> None:
    """Also where the fork is the first that learns, so that its input's gradient is not wanted."""
    check_gradients(forked(dtype="f8", seed=3), 12)
    convolution = Convolution(normal_values((4, 2, 3, 3), "f8"), np.zeros(4))
    body = Scaled(Scaled(convolution, Sigmoid()), Squash())
    net = Sequential((2, 6, 6), dtype="f8", seed=0)
    if not first:
        net.convolution(2, 1)
    check_gradients(net.add(body).affine(3), 12)


class Squash(Sigmoid):
    """A layer of the library's kind, under a name of one's own."""


def test_training_mode_within_layers() -> None:
    noise: Any = Noise()
    inner = Sequential((4,), [noise], seed=0)
    net = Sequential((4,), [Fork(inner, Sequential((4,), [Relu()]))], seed=0).affine(3)
    x, t = batch(net)
    noise.seen.clear()
    net.predict(x)
    net.loss(x, t)
    net.gradient(x, t)
    net.accuracy(x, t)
    assert noise.seen == [False, True, True, False]
    inner.forward(x)
    inner.forward(x, train_flg=False)
    assert noise.seen[4:] == [True, False]


def test_dropout_within_layers_draws_from_the_network() -> None:
    """A layer that holds others has no generator; an inner network has one of its own."""
    drop, other = Dropout(0.5), Dropout(0.5)
    inner = Sequential((4,), [other], seed=1)
    net = Sequential((4,), [Scaled(drop), inner], seed=0)
    assert drop.rng is net.rng
    assert other.rng is inner.rng


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=["deepcopy", "pickle"],
)
def test_copies_of_layers_within_layers(duplicate: Callable[[Any], Any]) -> None:
    net = forked(seed=0)
    x, t = batch(net)
    net.gradient(x, t)
    other = duplicate(net)
    assert_same_values(other, values(net))
    assert not any(np.shares_memory(other.params[name], net.params[name]) for name in net.params)
    grads = other.gradient(x, t)
    for name, grad in net.gradient(x, t).items():
        assert_same(grads[name], grad)
        other.params[name] -= grad
    assert (other.predict(x) != net.predict(x)).any()
    net.gradient(*batch(net, 300))
    size = sum(array.nbytes for array in net.state.values())
    assert size < len(pickle.dumps(net)) < size + 10_000  # without the last batch


def test_files_of_layers_within_layers(tmp_path: Path) -> None:
    net, other = forked(seed=0), forked(seed=5)
    net.gradient(*batch(net))
    net.save_params(tmp_path / "params.npz")
    other.load_params(tmp_path / "params.npz")
    assert_same_values(other, values(net))
    x, _ = batch(net)
    assert_same(other.predict(x), net.predict(x))


def test_summary_of_layers_within_layers(capsys: pytest.CaptureFixture[str]) -> None:
    """Inner layers are indented, with the shapes that they gave when the layer was added."""
    net = forked(seed=0)
    net.summary()
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [re.sub(r"  +", "|", re.sub(r"^ +", lambda m: "_" * len(m[0]), s)) for s in lines] == [
        "input|(2, 6, 6)|72|0|0",
        "Conv1 + Relu1|4 of 2x3x3|1|(4, 6, 6)|144|76|2592",
        "Fork1|(4, 6, 6)|144",
        "__Sequential1|(4, 6, 6)|144",
        "____Conv1|4 of 4x3x3|1|(4, 6, 6)|144|148|5184",
        "____BatchNormalization1 + Relu1 + Dropout1|(4, 6, 6)|144|8|0",
        "____Conv2|4 of 4x1x1|0|(4, 6, 6)|144|20|576",
        "__Sequential2|(4, 6, 6)|144",
        "____Conv1 + Sigmoid1|4 of 4x1x1|0|(4, 6, 6)|144|20|576",
        "Relu2|(4, 6, 6)|144|0|0",
        "Pool1|2x2, stride 2|0|(4, 3, 3)|36|0|0",
        "Affine1|(3,)|3|111|108",
        "total|383|9036",
    ]
    assert "forward" not in vars(net.layers["Fork1"].children[0])  # type: ignore[attr-defined]
    assert str(net).endswith("6 layers, 383 parameters)")


class Uncalled:
    """Holds a layer that it does not call as such; nothing is known of what that gives."""

    def __init__(self, inner: Any) -> None:
        self.children = (inner,)

    def forward(self, x: Array) -> Array:
        return x

    def backward(self, dout: Array) -> Array:
        return dout


def test_summary_without_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    held = Relu()
    held.forward = held.forward  # type: ignore[method-assign]  # as an attribute of its own
    mine = held.forward
    Sequential((4,), [Uncalled(held)], seed=0).summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].split() == ["Relu1", "0"]
    assert held.forward is mine


def test_layers_of_networks_within_networks(capsys: pytest.CaptureFixture[str]) -> None:
    inner = Sequential((4,), seed=0).affine(3).add(Relu())
    net = Sequential((4,), [inner], seed=0).affine(2)
    assert repr(net).splitlines()[1:] == [
        "  Sequential1: Sequential(input (4,), output (3,), 2 layers, 15 parameters)",
        "    Affine1: Affine(W=<(4, 3) float32>, b=<(3,) float32>)",
        "    Relu1: Relu()",
        "  Affine1: Affine(W=<(3, 2) float32>, b=<(2,) float32>)",
    ]
    with pytest.raises(ValueError, match="no layer can be added to a network that another one hol"):
        inner.affine(3)
    assert list(inner.layers) == ["Affine1", "Relu1"]


def test_layers_that_are_held_twice() -> None:
    """Neither by one layer, nor by two, nor by themselves."""
    relu = Relu()
    net = Sequential((4,), [relu], seed=0)
    ring = Uncalled(Relu())
    ring.children = (ring,)
    refused: list[Any] = [Scaled(relu), Scaled(Scaled(relu)), Fork(*[Sigmoid()] * 2), ring, net]
    for layer in [*refused, Uncalled(net)]:
        with pytest.raises(ValueError, match="a layer can be in a network only once"):
            net.add(layer)
    assert list(net.layers) == ["Relu1"]
    torchlike: Any = Noisy()
    assert not Sequential((4,), [torchlike], seed=0).params


def test_copies_know_their_own_layers() -> None:
    relu = Relu()
    net = Sequential((4,), [Chain(relu)], seed=0)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        chain: Any = other.layers["Chain1"]
        with pytest.raises(ValueError, match="a layer can be in a network only once"):
            other.add(chain.children[0])
        assert other.add(relu).output_dim == (4,)
        assert list(other.layers) == ["Chain1", "Relu1"]


class Noisy(Noise):
    """Says something else by `children` than layers, as modules of other libraries do."""

    def children(self) -> list[int]:
        return [1, 2]


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["params.npz", "weights", "a.b.pkl", "gewählt ö.bin"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_saving_and_loading(tmp_path: Path, name: str, dtype: str) -> None:
    """The named file, and no other, is written; it contains running statistics, too."""
    net = trained(dtype=dtype, seed=0)
    path = tmp_path / name
    net.save_params(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    known = values(net)
    assert {name for name in known if name.startswith("running")}
    other = normalized(dtype=dtype, seed=1)
    other.load_params(str(path))
    assert_same_values(other, known)
    x, _ = batch(net)
    assert_same(other.predict(x), net.predict(x))
    other.params["W1"] += 1
    assert_same_values(net, known)


def test_default_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = trained(seed=0)
    net.save_params()
    assert os.listdir(tmp_path) == ["params.npz"]
    other = normalized(seed=1)
    other.load_params()
    assert_same_values(other, values(net))


def test_saving_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "params.npz"
    path.write_bytes(b"old")
    net = trained(seed=0)
    net.save_params(path)
    normalized(seed=1).load_params(path)
    assert os.listdir(tmp_path) == ["params.npz"]


def test_saving_through_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    target.write_bytes(b"old")
    link.symlink_to(target)
    net = trained(seed=0)
    net.save_params(link)
    assert link.is_symlink()
    normalized(seed=1).load_params(target)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_file_is_kept_when_saving_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    net, path = trained(seed=0), tmp_path / "params.npz"
    net.save_params(path)
    before = path.read_bytes()

    def fail(file: Any, *args: Any, **kwargs: Any) -> None:
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(type(error)):
        net.save_params(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["params.npz"]


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    net = trained(seed=0)
    with pytest.raises(OSError, match=r"missing/params\.npz'$"):
        net.save_params(tmp_path / "missing" / "params.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        net.save_params(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_files_that_numpy_reads(tmp_path: Path) -> None:
    """NumPy reads our files, and we read its files, compressed or not, of any number type."""
    net = trained(seed=0)
    net.save_params(tmp_path / "params.npz")
    with np.load(tmp_path / "params.npz", allow_pickle=False) as archive:
        assert set(archive) == set(net.state)
        for name, array in net.state.items():
            assert_same(archive[name], array)
    other = normalized(seed=1)
    wide: dict[str, Any] = {name: array.astype(">f8") for name, array in net.state.items()}
    np.savez_compressed(tmp_path / "wide.npz", **wide)
    other.load_params(tmp_path / "wide.npz")
    assert_same_values(other, values(net))
    integers: dict[str, Any] = {name: np.ones(a.shape, "u1") for name, a in net.state.items()}
    np.savez(tmp_path / "integers.npz", **integers)
    other.load_params(tmp_path / "integers.npz")
    assert all(array.dtype == np.float32 and array.all() for array in other.state.values())


def test_loading_a_mapping() -> None:
    net, other = trained(seed=0), normalized(seed=1)
    other.load_params(net.state)
    assert_same_values(other, values(net))
    lists: Any = {name: array.tolist() for name, array in net.state.items()}
    third = normalized(seed=2)
    third.load_params(lists)
    assert_same_values(third, values(net))
    numbered: Any = {**net.state, 3: np.ones(3)}
    with pytest.raises(ValueError, match=r"the mapping is of another network: it also has 3$"):
        third.load_params(numbered)


def changed(**changes: Any) -> dict[str, Any]:
    """Give the arrays of a network, with other ones or, for None, without some."""
    arrays: dict[str, Any] = {**values(trained(seed=0)), **changes}
    return {name: array for name, array in arrays.items() if array is not None}


with_nan = np.zeros(3, "f4")
with_nan[1] = np.nan
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "lacks": ({"b2": None, "W1": None}, "is of another network: it lacks W1, b2$"),
    "more": ({"W9": np.ones(3)}, "is of another network: it also has W9$"),
    "both": ({"b3": None, "b4": np.ones(3)}, "it lacks b3 and also has b4$"),
    "shape": ({"b3": np.ones(4)}, r"its b3 has shape \(4,\), this network's \(3,\)$"),
    "scalar": ({"b3": np.float32(1)}, r"its b3 has shape \(\), this network's \(3,\)$"),
    "nan": ({"b3": with_nan}, r"b3 holds NaN, infinity, or what is infinite in float32$"),
    "infinity": (
        {"b3": np.array([0, -np.inf, 0])},
        r"b3 holds NaN, infinity, or what is infinite in float32$",
    ),
    "bool": ({"b3": np.ones(3, bool)}, "b3 is not of numbers but of dtype bool$"),
    "complex": ({"b3": np.ones(3, "F")}, "b3 is not of numbers but of dtype complex64$"),
    "text": ({"b3": np.array(["1", "2", "3"])}, "b3 is not of numbers but of dtype <U1$"),
    "too-large": ({"b3": np.full(3, 1e300)}, r"b3 holds .*infinite in float32$"),
}


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG.keys())
def test_parameters_of_another_network(
    tmp_path: Path, in_file: bool, changes: dict[str, Any], message: str
) -> None:
    net = normalized(seed=1)
    before, source = values(net), changed(**changes)
    given: Any = source
    if in_file:
        given = tmp_path / "params.npz"
        np.savez(given, **source)
    with pytest.raises(
        ValueError, match=("params.npz" if in_file else "the mapping") + f".*{message}"
    ):
        net.load_params(given)
    assert_same_values(net, before)


def test_missing_files(tmp_path: Path) -> None:
    net = normalized(seed=1)
    before = values(net)
    with pytest.raises(FileNotFoundError, match="missing"):
        net.load_params(tmp_path / "missing.npz")
    with pytest.raises(OSError, match=r"folder|directory"):
        net.load_params(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_pickle(tmp_path / "missing.pkl")
    assert_same_values(net, before)


@pytest.mark.parametrize("content", [b"", b"P", b"not a file", b"\x80\x04}.", b"\x93NUMPY\x01\0"])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.npz"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"params.npz is not an .npz file; if it is a pickle, give"
    ):
        normalized(seed=1).load_params(path)


def test_objects_in_files(tmp_path: Path) -> None:
    """Objects in files are never unpickled."""
    net, path, marker = normalized(seed=1), tmp_path / "params.npz", tmp_path / "marker"
    before = values(net)
    evil = np.array([Evil(os.mkdir, str(marker)), None, None])
    np.savez(path, **changed(b3=evil))
    with pytest.raises(ValueError, match=r"params.npz"):
        net.load_params(path)
    assert not marker.exists()
    assert_same_values(net, before)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_files_that_hold_an_array_twice(tmp_path: Path) -> None:
    """A file with two arrays of one name is refused, because one would be lost."""
    path = tmp_path / "params.npz"
    network = SimpleConvNet()
    for second in ("b3.npy", "b3"):
        network.save_params(path)
        with zipfile.ZipFile(path) as archive:
            data = archive.read("b3.npy")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(second, data)
        with pytest.raises(ValueError, match=r"params.npz is damaged: it holds b3 twice$"):
            network.load_params(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_damaged_files(tmp_path: Path, save: Callable[..., None]) -> None:
    """Files cut or changed at any byte raise a ValueError or give the right numbers."""
    net, path = Sequential((3,), seed=0).affine(2), tmp_path / "params.npz"
    save(path, **net.params)
    data, before = path.read_bytes(), values(net)

    def check(damaged: bytes) -> None:
        path.write_bytes(damaged)
        try:
            net.load_params(path)
        except ValueError as error:
            assert "params.npz" in str(error)  # noqa: PT017
        assert_same_values(net, before)

    for size in range(len(data)):
        check(data[:size])
    for place in range(len(data)):
        for bit in (0x01, 0xFF):
            check(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])


def test_files_that_promise_too_much(tmp_path: Path) -> None:
    """Headers that announce arrays far larger than the file are refused."""
    path, small = tmp_path / "params.npz", np.zeros(0, "f4")
    net = Sequential((3,), seed=0).affine(2)
    net.save_params(path)
    replace_member(path, "W1.npy", npy(small, (10**14,)))
    with pytest.raises(ValueError, match=r"params.npz"):
        net.load_params(path)


MANY = 1 << 23  # float32, which take 32 MiB and zipped 32 KiB
B3 = np.zeros(3, "f4")
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "shape": (
        "b3.npy",
        lambda: npy(np.zeros(MANY, "f4")),
        rf"params.npz is of another network: its b3 has shape \({MANY},\), this network's \(3,\)$",
    ),
    "dtype": (
        "b3.npy",
        lambda: npy(np.zeros(3, f"S{MANY}")),
        rf"params.npz: b3 is not of numbers but of dtype \|S{MANY}$",
    ),
    "one more": (
        "junk.npy",
        lambda: npy(np.zeros(MANY, "f4")),
        "params.npz is of another network: it also has junk$",
    ),
    "longer than it says": (
        "b3.npy",
        lambda: npy(np.zeros(MANY, "f4"), (3,)),
        rf"params.npz is damaged: b3: its header announces 12 bytes, but {4 * MANY} follow$",
    ),
    "shorter than it says": (
        "b3.npy",
        lambda: npy(B3)[:-1],
        "params.npz is damaged: b3: its header announces 12 bytes, but 11 follow$",
    ),
    "header": (
        "b3.npy",
        lambda: b"\x93NUMPY\2\0" + (4 * MANY).to_bytes(4, "little") + b" " * 4 * MANY,
        "params.npz is damaged: b3: EOF: reading array header, expected",
    ),
    "no array": ("b3.npy", lambda: bytes(4 * MANY), "params.npz is damaged: b3: .*magic"),
    "version": (
        "b3.npy",
        lambda: b"\x93NUMPY\3\0" + npy(B3)[8:],
        r"params.npz is damaged: b3: it is of version \(3, 0\), not",
    ),
    "negative shape": (
        "b3.npy",
        lambda: npy(B3, (-3, -1)),
        r"params.npz is damaged: b3: its shape is \(-3, -1\)$",
    ),
}


@pytest.mark.parametrize(("name", "make", "message"), BOMBS.values(), ids=BOMBS.keys())
def test_files_that_unpack_to_too_much(
    tmp_path: Path, name: str, make: Callable[[], bytes], message: str
) -> None:
    """Their headers are refused before anything large is unpacked."""
    net, path = trained(seed=0), tmp_path / "params.npz"
    net.save_params(path)
    replace_member(path, name, make())
    before = values(net)
    with memory_bounded(4 << 20), pytest.raises(ValueError, match=message):
        net.load_params(path)
    assert_same_values(net, before)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_of_compression_without_a_bound(tmp_path: Path, method: int) -> None:
    net, path = trained(seed=0), tmp_path / "params.npz"
    net.save_params(path)
    replace_member(path, "b3.npy", npy(B3), method)
    with pytest.raises(ValueError, match=rf"params.npz is damaged: b3: .* by method {method}$"):
        net.load_params(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_that_end_before_their_directory_says(tmp_path: Path, method: int) -> None:
    """Missing data is never replaced by old contents of the memory."""
    net, path = Sequential((3,), seed=0).affine(2), tmp_path / "params.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in net.state.items():
            archive.writestr(f"{name}.npy", npy(array) if name == "W1" else npy(array)[:-4])
        archive.getinfo("b1.npy").file_size += 4
    before = values(net)
    with pytest.raises(ValueError, match=r"params\.npz is damaged: b1: "):
        net.load_params(path)
    assert_same_values(net, before)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">i2"])
def test_files_of_other_layouts(tmp_path: Path, order: Any, dtype: str) -> None:
    """Arrays in files may have any order and byte order, as numpy.savez writes them."""
    net, path = Sequential((3,), seed=0).affine(2), tmp_path / "params.npz"
    matrix = np.array([[1, 2], [3, 4], [5, 6]], dtype, order=order)
    np.savez(path, W1=matrix, b1=np.array([7, 8], dtype))
    net.load_params(path)
    assert_same(net.params["W1"], matrix.astype("f4", "C"))
    assert_same(net.params["b1"], np.array([7, 8], "f4"))


def test_loading_takes_no_more_than_the_parameters(tmp_path: Path) -> None:
    """Reading and converting take little memory, compressed or not."""
    net, path = Sequential((1000,), seed=0).affine(4000), tmp_path / "params.npz"
    nbytes = net.params["W1"].nbytes
    for save in (np.savez, np.savez_compressed):
        save(path, W1=np.zeros((1000, 4000), "f4"), b1=np.zeros(4000, "f4"))
        with memory_bounded(nbytes * 3 + (4 << 20)):
            net.load_params(path)
        assert not net.params["W1"].any()


# --------------------------------------------------------------------------------------- pickles


class Evil:
    """Pickled as a call; unpickling it calls."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


class Forged:
    """Pickled as an array with another state."""

    def __init__(self, **state: Any) -> None:
        reduced: Any = np.arange(6.0).reshape(2, 3).__reduce__()
        function, args, known = reduced
        names = ("version", "shape", "dtype", "fortran", "data")
        self.parts = function, args, tuple({**dict(zip(names, known)), **state}.values())

    def __reduce__(self) -> Any:
        return self.parts


ARRAYS = {
    f"{dtype}-{order}": np.array(np.arange(24).reshape(2, 3, 4), dtype, order=order)  # type: ignore[call-overload]
    for dtype in ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8", "i8", "u1", "?")
    for order in "CF"
}
ARRAYS |= {
    "scalar": np.array(3.5),
    "empty": np.zeros((0, 3)),
    "negative": -np.arange(5.0),
    "strided": np.arange(20.0)[::-3],
    "transposed": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "values": np.array([np.nan, -np.inf, -0.0, 5e-324, 1e308]),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_read_pickle(tmp_path: Path, protocol: int, array: Array) -> None:
    path = tmp_path / "params.pkl"
    expected = {"W1": array, "b1": np.arange(3, dtype="f4"), "again": array}
    path.write_bytes(pickle.dumps(expected, protocol))
    arrays = read_pickle(path)
    assert list(arrays) == list(expected)
    for name, known in expected.items():
        assert arrays[name].dtype == known.dtype
        assert_same(
            arrays[name].astype(known.dtype.newbyteorder("=")),
            known.astype(known.dtype.newbyteorder("=")),
        )
        assert arrays[name].flags.writeable
        assert arrays[name].flags.owndata
    arrays["b1"][0] = 9
    assert_same(read_pickle(str(path))["b1"], np.arange(3, dtype="f4"))


def test_pickles_of_earlier_numpy(tmp_path: Path) -> None:
    """NumPy 1 has another name for the module that pickles refer to."""
    path = tmp_path / "params.pkl"
    for protocol in range(5):
        data = pickle.dumps({"b1": np.arange(3.0)}, protocol)
        assert b"numpy._core.multiarray" in data or b"numpy.core.multiarray" in data
        if protocol < 4:  # the length of the name is not written
            path.write_bytes(data.replace(b"numpy._core.", b"numpy.core."))
            assert_same(read_pickle(path)["b1"], np.arange(3.0))


def test_pickles_of_a_network(tmp_path: Path) -> None:
    """The textbook saves the parameters of a network as a pickled dict."""
    net, path = SMALL["SimpleConvNet"](seed=0), tmp_path / "params.pkl"
    with path.open("wb") as file:
        pickle.dump({name: array.astype("f8") for name, array in net.params.items()}, file)
    other = SMALL["SimpleConvNet"](seed=1)
    other.load_params(read_pickle(path))
    assert_same_values(other, values(net))
    with pytest.raises(ValueError, match=r"give fastconv\.models\.read_pickle"):
        other.load_params(path)


class Persistent(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return "somewhere" if isinstance(obj, np.ndarray) else None


def persistent() -> bytes:
    buffer = io.BytesIO()
    Persistent(buffer).dump({"W1": np.ones(3)})
    return buffer.getvalue()


STRUCTURED = np.zeros(2, [("a", "f4")])
REFUSED_CONTENT: dict[str, Any] = {
    "list": [np.ones(3)],
    "array": np.ones(3),
    "number": 3,
    "none": None,
    "text": "W1",
    "of-lists": {"W1": [1.0, 2.0]},
    "of-numbers": {"W1": 1.0},
    "of-dicts": {"W1": {"W1": np.ones(3)}},
    "of-none": {"W1": None},
    "of-dtypes": {"W1": np.dtype("f4")},
    "of-classes": {"W1": np.ndarray},
    "number-as-name": {1: np.ones(3)},
    "bytes-as-name": {b"W1": np.ones(3)},
    "objects": {"W1": np.array([1, None])},
    "texts": {"W1": np.array(["a", "b"])},
    "bytes": {"W1": np.array([b"a", b"b"])},
    "complex": {"W1": np.ones(3, "D")},
    "dates": {"W1": np.zeros(3, "M8[s]")},
    "structured": {"W1": STRUCTURED},
    "scalars": {"W1": np.float64(1)},
    "networks": {"W1": Relu()},
    "too-few-numbers": {"W1": Forged(data=bytes(40))},
    "too-many-numbers": {"W1": Forged(data=bytes(56))},
    "half-numbers": {"W1": Forged(data=bytes(47))},
    "no-numbers": {"W1": Forged(data=b"")},
    "numbers-as-list": {"W1": Forged(data=[1.0] * 6)},
    "numbers-as-text": {"W1": Forged(data="x" * 48)},
    "negative-shape": {"W1": Forged(shape=(-2, -3))},
    "negative-side": {"W1": Forged(shape=(-1, 6))},
    "huge-shape": {"W1": Forged(shape=(2**62, 2**62))},
    "huge-empty-shape": {"W1": Forged(shape=(2**70, 0), data=b"")},
    "many-axes": {"W1": Forged(shape=(1,) * 1000 + (6,))},
    "float-shape": {"W1": Forged(shape=(2.0, 3.0))},
    "no-shape": {"W1": Forged(shape=None)},
    "dtype-as-text": {"W1": Forged(dtype="f8")},
    "no-dtype": {"W1": Forged(dtype=None)},
    "object-dtype": {"W1": Forged(dtype=np.dtype(object), data=[None] * 6)},
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("content", REFUSED_CONTENT.values(), ids=REFUSED_CONTENT.keys())
def test_refused_pickles(tmp_path: Path, content: Any, protocol: int) -> None:
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(ValueError, match=r"params\.pkl is not a pickled dict of arrays: ."):
        read_pickle(path)


REFUSED_BYTES = {
    "empty": b"",
    "text": b"hello",
    "persistent": persistent(),
    "persistent-0": b"Psomewhere\n.",
    "extension": b"\x80\x02\x82\x01.",
    "buffer": b"\x80\x05\x97.",
    "no-memo": b"\x80\x02h\x05.",
    "protocol": b"\x80\x09}.",
    "huge-bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b".",
    "huge-frame": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b".",
    "unhashable": b"\x80\x02}]Ns.",
    "stop": b".",
    "mark": b"(.",
}


@pytest.mark.parametrize("content", REFUSED_BYTES.values(), ids=REFUSED_BYTES.keys())
def test_damaged_pickles(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"params\.pkl is not a pickled dict of arrays: ."):
        read_pickle(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_that_end_early_or_are_changed(tmp_path: Path, protocol: int) -> None:
    """A change at any byte raises a ValueError or gives a dict of arrays."""
    path, expected = tmp_path / "params.pkl", {"W1": np.arange(4, dtype="f4"), "b1": np.ones(2)}
    data = pickle.dumps(expected, protocol)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"params\.pkl is not a pickled dict"):
            read_pickle(path)
    for place in range(len(data)):
        for bit in (0x01, 0xFF):
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            try:
                arrays = read_pickle(path)
            except ValueError as error:
                assert "params.pkl is not a pickled dict" in str(error)  # noqa: PT017
            else:
                assert all(array.dtype.kind in "fiub" for array in arrays.values())


def calls(marker: str) -> dict[str, Any]:
    """List pickles that would make a folder, were they obeyed."""
    make = Evil(os.mkdir, marker)
    command = f"mkdir {marker}"
    return {
        "mkdir": make,
        "in-a-dict": {"W1": make},
        "as-a-name": {Evil(os.mkdir, marker): np.ones(3)},
        "system": {"W1": Evil(os.system, command)},
        "eval": {"W1": Evil(eval, f"__import__('os').mkdir({marker!r})")},
        "exec": {"W1": Evil(exec, f"import os; os.mkdir({marker!r})")},
        "getattr": {"W1": Evil(getattr, "", "strip")},
        "in-an-array": {"W1": np.array([make, make], object)},
        "as-data": {"W1": Forged(data=make)},
        "as-a-shape": {"W1": Forged(shape=(make, 3))},
        "as-a-dtype": {"W1": Forged(dtype=make)},
        "numpy": {"W1": Evil(np.save, marker, 1)},
        "numpy-load": {"W1": Evil(np.load, marker)},
        "beside": (make, {"W1": np.ones(3)}),
    }


@pytest.mark.parametrize("name", calls("x"))
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_call_nothing(tmp_path: Path, name: str, protocol: int) -> None:
    marker, path = tmp_path / "marker", tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(calls(str(marker))[name], protocol))
    with pytest.raises(ValueError, match=r"params\.pkl is not a pickled dict of arrays: "):
        read_pickle(path)
    assert os.listdir(tmp_path) == ["params.pkl"]


def test_pickles_import_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_by_a_pickle.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "params.pkl"
    for content in (
        b"cimported_by_a_pickle\nThing\n.",
        b"\x80\x02cimported_by_a_pickle\nThing\n)\x81.",
        b"\x80\x04\x8c\x15imported_by_a_pickle\x8c\x05Thing\x93.",
        b"(iimported_by_a_pickle\nThing\n.",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"params.pkl is not a pickled dict of arrays"):
            read_pickle(path)
    assert "imported_by_a_pickle" not in sys.modules


def test_pickles_leave_no_trace(tmp_path: Path) -> None:
    """A pickle that sets attributes of the stand-ins for NumPy does not affect the next."""
    path = tmp_path / "params.pkl"
    good = pickle.dumps({"W1": np.arange(3.0)}, 2)
    encode = b"c_codecs\nencode\n"
    for state in (
        b"}U\x01aK\x01s",  # attributes
        b"N}U\x0c__defaults__K\x01\x85s\x86",  # slots
        b"N}U\x08__code__Ns\x86",
    ):
        for target in (encode, b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"):
            path.write_bytes(b"\x80\x02" + target + state + b"b.")
            with pytest.raises(ValueError, match="is not a pickled dict of arrays"):
                read_pickle(path)
    path.write_bytes(b"\x80\x02}\x8c\x02W1" + encode + b"\x8c\x01a\x85Rs.")  # one argument of two
    with pytest.raises(ValueError, match=r"missing|argument"):
        read_pickle(path)
    path.write_bytes(good)
    assert_same(read_pickle(path)["W1"], np.arange(3.0))


FROM_BUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]
LARGE_PICKLES = {
    # An entry far up in the table of things to refer to, which is filled up to there.
    "memo": b"\x80\x02}r" + (2**25).to_bytes(4, "little") + b".",
    # A name that is a tuple in a tuple in a tuple ..., which hashing climbs down.
    "nested": b"\x80\x02})" + b"\x85" * 500_000 + b"Ns.",
    # Zeros by their number.
    "zeros": pickle.dumps(
        {"W1": Forged(shape=(2**30,), dtype=np.dtype("u1"), data=Evil(bytes, 2**30))}, 2
    ),
    "zeros-in-a-buffer": pickle.dumps(
        {"W1": Evil(FROM_BUFFER, 2**30, np.dtype("u1"), (2**30,), "C")}, 2
    ),
    # A million arguments, which every call would copy.
    "arguments": b"\x80\x02}("
    + b"N" * 10**6
    + b"tq\x00cnumpy.core.numeric\n_frombuffer\nq\x01"
    + b"h\x01h\x00R" * 300
    + b".",
    "nested-list": b"\x80\x02}" + b"U\x01a" + b"]" * 500_000 + b"a" * 499_999 + b"s.",
}


@needs_proc
@pytest.mark.parametrize("content", LARGE_PICKLES.values(), ids=LARGE_PICKLES.keys())
def test_pickles_that_want_too_much(tmp_path: Path, content: bytes) -> None:
    """They exhaust neither the memory nor the stack of the interpreter."""
    path = tmp_path / "params.pkl"
    path.write_bytes(content)
    result = run_python(
        f"{PEAK}\n"
        "from fastconv.models import read_pickle\n"
        "before = peak()\n"
        "try:\n"
        f"    read_pickle({str(path)!r})\n"
        "except ValueError:\n"
        "    pass\n"
        "print(peak() - before)\n"
    )
    assert result.returncode == 0, f"it ended with {result.returncode}: {result.stderr[-500:]}"
    assert int(result.stdout) < 200 << 20


def test_forged_pickles_are_pickles() -> None:
    """The forged pickles above are well-formed, so they are refused for their content."""
    for content in REFUSED_CONTENT.values():
        assert list(pickletools.genops(pickle.dumps(content, 2)))
    assert_same(pickle.loads(pickle.dumps(Forged())), np.arange(6.0).reshape(2, 3))
