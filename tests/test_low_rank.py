"""Networks with weights of low rank: equal outputs, best approximations, structure, training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PAD_MODES, Array, normal_values
from numpy.typing import DTypeLike

from fastconv._layer import walk
from fastconv.layers import (
    Affine,
    BatchNormalization,
    Chain,
    Concatenation,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    Layer,
    Pooling,
    Relu,
    Residual,
)
from fastconv.models import DeepConvNet, GoogLeNet, MobileNet, ResNet, Sequential, low_rank

RANK = 2


def of_low_rank(groups: int, filters: int, channels: int, size: tuple[int, int], cut: str) -> Array:
    """Draw filters that are sums of `RANK` terms: in each group, of what one of the cuts makes."""
    kh, kw = size
    rows, columns = channels * kh * kw, filters // groups
    if cut == "spatial":
        rows, columns = channels * kh, kw * (filters // groups)
    left = normal_values((groups, rows, RANK), "f8", seed=1)
    product = left @ normal_values((groups, RANK, columns), "f8", seed=2)
    W = product.reshape(groups, channels, kh, kw, filters // groups).transpose(0, 4, 1, 2, 3)
    return np.ascontiguousarray(W).reshape(filters, channels, kh, kw)


def convolutions(network: Any) -> list[Convolution]:
    return [layer for layer in walk(network) if isinstance(layer, Convolution)]


def assert_close(actual: Array, expected: Array, dtype: DTypeLike) -> None:
    """Compare outputs with what rounding of weights and outputs, a few hundred times, explains."""
    assert actual.dtype == expected.dtype == dtype
    error = np.abs(actual.astype("f8") - expected.astype("f8")).max()
    assert error <= 300 * float(np.finfo(dtype).eps) * np.abs(expected.astype("f8")).max()


WINDOWS: list[dict[str, Any]] = [
    {},
    {"pad": 1},
    {"pad": np.int64(2)},
    {"pad": (2, 1)},
    {"pad": [0, 3]},
    {"pad": ((2, 1), (0, 3))},
    {"pad": np.array([[0, 1], [2, 0]])},
    {"pad": "valid", "stride": (1, 2)},
    {"pad": "same"},
    {"pad": "same", "stride": 2},
    {"pad": "same", "stride": (3, 2), "dilation": (1, 2)},
    {"stride": 3},
    {"stride": np.array([2, 1]), "pad": 1},
    {"dilation": (2, 1), "pad": ((1, 2), (3, 0)), "stride": (2, 3)},
]


# ------------------------------------------------------------------------------------- exactness


@pytest.mark.parametrize("cut", ["channel", "spatial"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_convolution_of_low_rank_is_cut_without_loss(
    window: dict[str, Any], pad_mode: str, groups: int, cut: str
) -> None:
    W = of_low_rank(groups, 16, 12 // groups, (3, 3), cut)
    layer = Convolution(W, normal_values((16,), "f8"), **window, groups=groups, pad_mode=pad_mode)
    network = Sequential((12, 9, 11), [layer], dtype="f8", seed=0)
    small = low_rank(network, energy=1)
    shapes = {"channel": [(3, 3), (1, 1)], "spatial": [(3, 1), (1, 3)]}[cut]
    assert [part.W.shape[2:] for part in convolutions(small)] == shapes
    assert len(convolutions(small)[0].W) == groups * RANK
    assert small.output_dim == network.output_dim
    x = normal_values((2, 12, 9, 11), "f8")
    assert_close(small.predict(x), network.predict(x), "f8")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (5, 3)], ids=str)
def test_every_dtype_keeps_its_own_precision(size: tuple[int, int], dtype: str) -> None:
    matrix = normal_values((24, 2), "f8") @ normal_values((2, 30), "f8") / 8
    layers: list[Layer] = [
        Convolution((of_low_rank(1, 24, 20, size, "channel") / 8).astype(dtype), 0.5),
        Affine(matrix.astype(dtype), 1.0),
    ]
    network = Sequential((20, *size), layers, dtype=dtype, seed=0)
    small = low_rank(network, ratio=1)
    assert [part.W.dtype for part in walk(small) if hasattr(part, "W")] == [dtype] * 4
    shapes = [part.W.shape for part in walk(small) if hasattr(part, "W")]
    assert shapes == [(RANK, 20, *size), (24, RANK, 1, 1), (24, RANK), (RANK, 30)]
    x = normal_values((3, 20, *size), dtype)
    assert_close(small.predict(x), network.predict(x), dtype)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_small_singular_values_are_no_rounding(dtype: str) -> None:
    spectrum = np.append(np.ones(10), np.full(90, 0.02))  # 3.5 % of the energy in the small ones.
    left, right = (np.linalg.qr(normal_values((n, 100), "f8"))[0] for n in (1500, 300))
    W = (left * spectrum @ right.T).astype(dtype)
    network = Sequential((1500,), [Affine(W, None)], dtype=dtype, seed=0)
    assert low_rank(network, ratio=1).params["W1"].shape == (1500, 100)
    assert low_rank(network, energy=0.9).params["W1"].shape == (1500, 10)


def test_integer_weights_become_floats() -> None:
    W = np.outer(np.arange(1, 9), np.arange(1, 8)).astype(np.int32)
    network = Sequential((8,), [Affine(W, np.arange(7))], dtype="f8", seed=0)
    small = low_rank(network, energy=1)
    assert [layer.W.shape for layer in small.children] == [(8, 1), (1, 7)]  # type: ignore[attr-defined]
    x = normal_values((3, 8), "f8")
    assert_close(small.predict(x), network.predict(x), "f8")


def test_a_depthwise_convolution_is_only_cut_by_its_axes() -> None:
    taps = np.einsum("ca,cb->cab", normal_values((6, 3), seed=1), normal_values((6, 3), seed=2))
    network = Sequential((6, 8, 8), [Convolution(taps[:, None], None, pad=1, groups=6)], seed=0)
    small = low_rank(network, energy=1)
    assert [part.W.shape for part in convolutions(small)] == [(6, 1, 3, 1), (6, 1, 1, 3)]
    x = normal_values((2, 6, 8, 8))
    assert_close(small.predict(x), network.predict(x), "f4")


def test_what_gains_nothing_stays() -> None:
    network = Sequential((8, 6, 6), seed=0).convolution(8, 3).convolution(8, 1).affine(5)
    for small in (low_rank(network, 1.0), low_rank(network, energy=1.0)):
        assert repr(small) == repr(network)
        for name, array in network.state.items():
            assert np.array_equal(small.state[name], array)
            assert not np.shares_memory(small.state[name], array)


# ---------------------------------------------------------------------------- best approximation


def product_of(small: Sequential, size: int) -> Array:
    """Multiply the two convolutions of a network out."""
    first, second = (np.asarray(part.W, "f8") for part in convolutions(small))
    product: Array
    if first.shape[2:] == (size, size):
        product = np.einsum("rcij,fr->fcij", first, second[:, :, 0, 0])
    else:
        product = np.einsum("rci,frj->fcij", first[..., 0], second[:, :, 0])
    return product


@pytest.mark.parametrize("energy", [0.3, 0.7, 0.9])
def test_the_error_is_what_the_dropped_singular_values_say(energy: float) -> None:
    for seed in range(3):
        network = Sequential((16, 8, 8), dtype="f8", seed=seed).convolution(24, 3, pad=1)
        W = network.params["W1"]
        small = low_rank(network, energy=energy)
        first = convolutions(small)[0].W
        matrix = W.reshape(24, -1)
        if first.shape[3] == 1:
            matrix = W.transpose(1, 2, 0, 3).reshape(48, 72)
        values = np.linalg.svd(matrix, compute_uv=False)
        dropped = np.sqrt(np.square(values[len(first) :]).sum())
        error = np.linalg.norm(product_of(small, 3) - W)
        assert error == pytest.approx(dropped, rel=1e-9)
        assert error**2 <= (1 - energy) * np.square(W).sum()
        kept = np.square(values[: len(first) - 1]).sum() / np.square(values).sum()
        assert kept < energy  # One term less would be too few.


def test_the_cheaper_cut_is_taken() -> None:
    def cut_of(W: Array) -> tuple[int, ...]:
        network = Sequential((12, 9, 9), [Convolution(W, None)], dtype="f8", seed=0)
        return convolutions(low_rank(network, energy=0.999))[0].W.shape[2:]

    assert cut_of(of_low_rank(1, 16, 12, (3, 3), "channel")) == (3, 3)
    assert cut_of(of_low_rank(1, 16, 12, (3, 3), "spatial")) == (3, 1)


def test_groups_share_their_rank() -> None:
    left, right = normal_values((2, 36, 4), "f8", seed=1), normal_values((2, 4, 8), "f8", seed=2)
    left[1, :, 1:] = 0  # The second group has rank 1.
    W = (left @ right).reshape(2, 4, 3, 3, 8).transpose(0, 4, 1, 2, 3).reshape(16, 4, 3, 3)
    network = Sequential((8, 7, 7), [Convolution(W, None, groups=2)], dtype="f8", seed=0)
    small = low_rank(network, energy=1)
    assert len(convolutions(small)[0].W) == 2 * 4
    x = normal_values((2, 8, 7, 7), "f8")
    assert_close(small.predict(x), network.predict(x), "f8")


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_weights_of_any_size_are_weighed(scale: float) -> None:
    W = normal_values((30, 20), "f8")
    ranks = [
        low_rank(Sequential((30,), [Affine(W * s, None)], dtype="f8", seed=0), energy=0.5)
        .params["W1"]
        .shape[1]
        for s in (1.0, scale)
    ]
    assert ranks[0] == ranks[1] < 10


# ------------------------------------------------------------------------------------ the ratio


NETWORKS: dict[str, Callable[[], Sequential]] = {
    "DeepConvNet": lambda: DeepConvNet(seed=0),
    "ResNet": lambda: ResNet(20, (1, 8, 8), seed=0),
    "MobileNet": lambda: MobileNet((3, 32, 32), 10, alpha=0.25, seed=0),
    "one layer": lambda: Sequential((8, 9, 9), seed=0).convolution(24, 3),
    "product": lambda: Sequential((300,), seed=0).affine(200),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ratio", [0.9, 0.6, 0.45])
def test_multiply_adds_are_just_below_the_ratio(name: str, ratio: float) -> None:
    network = NETWORKS[name]()
    small = low_rank(network, ratio)
    assert 0.93 * ratio < small.multiply_adds() / network.multiply_adds() <= ratio
    assert small.output_dim == network.output_dim


def test_layers_of_lower_rank_are_cut_first() -> None:
    low = of_low_rank(1, 16, 16, (3, 3), "channel") + normal_values((16, 16, 3, 3), "f8") / 100
    network = Sequential((16, 8, 8), dtype="f8", seed=0).convolution(16, 3, pad=1)
    network.add(Convolution(low, None, pad=1))
    first, *others = convolutions(low_rank(network, 0.7))
    assert first.W.shape == (16, 16, 3, 3)
    assert len(others) == 2


def test_no_layer_is_given_up_to_keep_the_others() -> None:
    network = Sequential((16, 8, 8), dtype="f8", seed=0).convolution(16, 3, pad=1)
    network.convolution(16, 3, pad=1).convolution(16, 3, pad=1)
    ranks = [len(part.W) for part in convolutions(low_rank(network, 0.3))[::2]]
    assert max(ranks) <= 2 * min(ranks)


def test_the_product_of_kept_energies_is_the_largest_that_there_is() -> None:
    network = Sequential((240,), dtype="f8", seed=0).affine(60).affine(60)
    before = [network.params[name] for name in ("W1", "W2")]
    squares = [np.square(np.linalg.svd(W, compute_uv=False)) for W in before]
    kept = [np.append(np.cumsum(values), values.sum()) / values.sum() for values in squares]
    costs = [np.append(np.arange(1, 61) * sum(W.shape), W.size) for W in before]  # Last: whole.
    for ratio in (0.6, 0.3, 0.15):
        fits = costs[0][:, None] + costs[1] <= ratio * network.multiply_adds()
        best = np.where(fits, np.multiply.outer(*kept), 0).max()
        weights = iter([layer.W for layer in walk(low_rank(network, ratio)) if hasattr(layer, "W")])
        found = 1.0
        for W, energies in zip(before, kept):
            half = next(weights)
            if half.shape != W.shape:
                next(weights)
                found *= energies[half.shape[1] - 1]
        assert found == pytest.approx(best, rel=0.01)


def test_multiply_adds_that_cannot_be_saved_count() -> None:
    class Own(Convolution):
        """A convolution that may do something else."""

    own = Own(normal_values((16, 8, 3, 3)), None, pad=1)
    network = Sequential((8, 8, 8), [own], seed=0).convolution(16, 3, pad=1)
    small = low_rank(network, 0.7)
    assert small.multiply_adds() <= 0.7 * network.multiply_adds()
    assert type(small.children[0]) is Own
    with pytest.raises(ValueError, match=r"ratio must be at least 0\.3\d+ for this network"):
        low_rank(network, 0.3)


def test_the_least_ratio_that_an_error_names_is_possible() -> None:
    network = Sequential((8, 8, 8), seed=0).convolution(16, 3).affine(10)
    with pytest.raises(ValueError, match="ratio must be at least") as error:
        low_rank(network, 0.001)
    found = re.search(r"at least ([\d.]+)", str(error.value))
    assert found
    small = low_rank(network, float(found[1]) * 1.001)
    assert len(convolutions(small)[0].W) == 1


# ------------------------------------------------------------------------------------ structure


def nested() -> Sequential:
    """Make a network with layers in chains, residuals, branches, and another network."""
    net = Sequential((8, 8, 8), dtype="f8", seed=0).convolution(16, 3, pad=1)
    body = net.branch().convolution(16, 3, pad=1, bias=False).batch_normalization()
    shortcut = net.branch().convolution(16, 1)
    activation = Chain(Relu(), Dropout(0.25))
    net.add(Residual(*body.children, shortcut=shortcut.children, activation=activation))
    net.add(Residual(*net.branch().convolution(16, 3, pad=1).children, activation=None))
    wide = net.branch().convolution(16, 5, pad=2).add(Relu())
    net.add(Concatenation([], wide.children, net.branch().convolution(8, 1).children))
    inner = net.branch().convolution(16, 3).add(Dropout(0.5), Pooling(2, 2, 2), Flatten())
    return net.add(inner, Chain()).affine(32).add(Relu()).affine(4)


def test_layers_within_layers_are_cut_where_they_stand() -> None:
    network = nested()
    x = normal_values((3, 8, 8, 8), "f8")
    before = {name: array.copy() for name, array in network.state.items()}
    small = low_rank(network, energy=0.7)
    names = ["Conv1", "Conv2", "Residual1", "Residual2", "Concatenation1", "Sequential1", "Chain1"]
    assert list(small.layers)[:7] == names
    assert type(small.layers["Sequential1"]) is Sequential
    residual: Any = small.layers["Residual1"]
    assert [type(part) for part in residual.body.children] == [
        Convolution,
        Convolution,
        BatchNormalization,
    ]
    assert [type(part) for part in residual.activation.children] == [Relu, Dropout]
    assert type(small.layers["Residual2"].body) is Chain  # type: ignore[attr-defined]
    assert small.layers["Residual2"].activation is None  # type: ignore[attr-defined]
    first, second, third = small.layers["Concatenation1"].children  # type: ignore[attr-defined]
    assert not first.children
    assert [type(part) for part in second.children] == [Convolution, Convolution, Relu]
    assert len(convolutions(third)) == 2
    assert small.multiply_adds() < network.multiply_adds()
    assert low_rank(network, energy=1).predict(x) == pytest.approx(network.predict(x), rel=1e-9)
    for name, array in before.items():  # The network itself is what it was.
        assert np.array_equal(network.state[name], array)
    own, new = list(walk(network)), list(walk(small))
    assert not set(map(id, own)) & set(map(id, new))


def test_every_layer_without_loss_gives_the_same_network() -> None:
    network = nested()
    for part in convolutions(network):
        filters, channels, kh, kw = part.W.shape
        part.W = of_low_rank(1, filters, channels, (kh, kw), "channel")
    small = low_rank(network, ratio=1.0)
    assert len(convolutions(small)) == 2 * len(convolutions(network))
    x = normal_values((3, 8, 8, 8), "f8")
    assert_close(small.predict(x), network.predict(x), "f8")


def test_generators_and_the_last_layer_are_copied() -> None:
    network = nested()
    own = np.random.default_rng(5)
    network.add(Dropout(0.5, rng=own))
    network.last_layer.own = 1
    small = low_rank(network, energy=1)
    assert small.last_layer.own == 1
    assert small.last_layer is not network.last_layer
    *drops, last = (part for part in walk(small) if isinstance(part, Dropout))
    inner: Any = small.layers["Sequential1"]
    assert all(part.rng is small.rng for part in drops)
    assert inner.rng is small.rng is not network.rng
    assert last.rng is not own
    assert last.rng is not small.rng
    x = normal_values((3, 8, 8, 8), "f8")
    expected = network.predict(x, train_flg=True)
    assert_close(small.predict(x, train_flg=True), expected, "f8")


def test_subclasses_are_copied_as_they_are() -> None:
    class Own(Convolution):
        """A convolution that does something else."""

        def forward(self, x: Any) -> Array:
            return super().forward(x) + 1

    class Block(Residual):
        """A residual that may do something else."""

    class Part(Chain):
        """A chain: that is what it inherits."""

    own = Own(of_low_rank(1, 8, 8, (3, 3), "channel"), None, pad=1)
    block = Block(Convolution(of_low_rank(1, 8, 8, (3, 3), "channel"), None, pad=1))
    part = Part(Convolution(of_low_rank(1, 8, 8, (3, 3), "channel"), None, pad=1))
    network = Sequential((8, 6, 6), [own, block, part], dtype="f8", seed=0)
    small = low_rank(network, energy=1)
    assert list(map(type, small.children)) == [Own, Block, Chain]
    assert len(convolutions(small)) == 4
    x = normal_values((3, 8, 6, 6), "f8")
    assert_close(small.predict(x), network.predict(x), "f8")


@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"energy": 0.5}], ids=str)
def test_a_network_without_products_is_copied(options: dict[str, Any]) -> None:
    nothing = Affine(np.ones((36, 0)), None)
    cases: list[list[Layer]] = [[], [Relu(), GlobalAveragePooling()], [nothing]]
    for layers in cases:
        network = Sequential((4, 3, 3), layers, seed=0)
        assert repr(low_rank(network, **options)) == repr(network)


def test_branches_of_the_literature_are_cut() -> None:
    network = GoogLeNet((3, 64, 64), 10, seed=0)
    small = low_rank(network, energy=0.3)
    x = normal_values((1, 3, 64, 64))
    assert small.multiply_adds() < 0.5 * network.multiply_adds()
    assert small.predict(x).shape == network.predict(x).shape


# ------------------------------------------------------------------------- training, files, use


@pytest.fixture(scope="module")
def small() -> Sequential:
    return low_rank(ResNet(20, (1, 8, 8), seed=0), 0.4)


def test_a_step_of_training_lowers_the_loss() -> None:
    small = low_rank(DeepConvNet((1, 16, 16), seed=0), 0.4)
    x, t = normal_values((20, 1, 16, 16)), np.arange(20) % 10
    before = small.loss(x, t, train_flg=False)
    for _ in range(20):
        for name, grad in small.gradient(x, t).items():
            assert grad.any(), name
            small.params[name] -= np.float32(0.01) * grad
    assert small.loss(x, t, train_flg=False) < before


def test_weights_of_zeros_can_still_learn() -> None:
    network = Sequential((8, 6, 6), seed=0).convolution(8, 3, std=0).add(Relu()).affine(6, std=0)
    network.params["b1"] += 1
    small = low_rank(network, 0.5)
    assert list(small.params) == ["W1", "W2", "b2", "W3", "W4", "b4"]
    x, t = normal_values((6, 8, 6, 6)), np.arange(6)
    assert np.array_equal(small.predict(x), network.predict(x))
    assert small.gradient(x, t)["W4"].any()
    assert small.params["W1"].any()
    assert not small.params["W2"].any()


def test_optimized_computes_the_same(small: Sequential) -> None:
    x = normal_values((4, 1, 8, 8))
    expected = small.predict(x)
    assert np.abs(small.optimized().predict(x) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_parameters_are_saved_and_loaded(small: Sequential, tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    small.save_params(path)
    other = low_rank(ResNet(20, (1, 8, 8), seed=0), 0.4)  # The same ranks.
    for array in other.params.values():
        array += 1
    other.load_params(path)
    x = normal_values((4, 1, 8, 8))
    assert np.array_equal(other.predict(x), small.predict(x))


def test_the_table_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    network = DeepConvNet(seed=0)
    small = low_rank(network, 0.4, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "cut", "rank", "of", "energy", "multiply-adds", "after"]
    assert lines[-1].split() == [
        "total",
        *map(str, (network.multiply_adds(), small.multiply_adds())),
    ]
    assert [line.split()[0] for line in lines[2:-1]] == [f"Conv{i}" for i in range(1, 7)] + [
        "Affine1",
        "Affine2",
    ]
    low_rank(network, 0.4)
    assert not capsys.readouterr().out


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", ["ratio", "energy"])
@pytest.mark.parametrize("value", [0, -0.5, 1.5, np.nan, np.inf])
def test_fractions_out_of_range_are_refused(name: str, value: float) -> None:
    network = Sequential((4,), seed=0).affine(2)
    options: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"low_rank: {name} must be above 0 and at most 1, got"):
        low_rank(network, **options)


@pytest.mark.parametrize("name", ["ratio", "energy"])
def test_fractions_that_are_no_numbers_are_refused(name: str) -> None:
    network: Any = Sequential((4,), seed=0).affine(2)
    with pytest.raises(TypeError, match=f"low_rank: {name} must be a number, got '0.5'"):
        low_rank(network, **{name: "0.5"})  # type: ignore[arg-type]


def test_what_is_no_network_is_refused() -> None:
    layer: Any = Relu()
    with pytest.raises(TypeError, match="low_rank: network must be a Sequential, got"):
        low_rank(layer)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    network = Sequential((4, 5, 5), seed=0).convolution(4, 3)
    network.add(Residual(*network.branch().convolution(4, 1).children))
    network.params["W2"][0] = value
    with pytest.raises(ValueError, match=r"low_rank: .*weights of Residual1\.Conv1 hold NaN or"):
        low_rank(network)
