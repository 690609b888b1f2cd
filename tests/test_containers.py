"""Layers that hold layers, and those that only networks with branches need."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradients import assert_gradient
from helpers import Array, assert_close, assert_same, normal_values, refused

from fastconv import layers
from fastconv._layer import walk
from fastconv.layers import (
    Affine,
    BatchNormalization,
    Chain,
    ChannelShuffle,
    Concatenation,
    Convolution,
    Dropout,
    Flatten,
    IdentityShortcut,
    Pooling,
    Relu,
    Residual,
    Sigmoid,
)
from fastconv.models import Sequential
from fastconv.training import Trainer


def convolution(filters: int, channels: int, size: int, seed: int = 0, **kwargs: Any) -> Any:
    W = normal_values((filters, channels, size, size), "f8", seed) / size
    return Convolution(W, normal_values((filters,), "f8", seed + 1), **kwargs)


def normalization(channels: int, seed: int = 0) -> BatchNormalization:
    random = np.random.default_rng(seed)
    return BatchNormalization(random.random(channels) + 0.5, random.random(channels))


X = normal_values((2, 4, 5, 6), "f8", 9)


def convolved(layer: Any, x: Array) -> Array:
    """Compute with a fresh copy, so that nothing of the layer in the container is used."""
    result: Array = copy.deepcopy(layer).forward(x)
    return result


# --------------------------------------------------------------------------------------- results


def test_chain() -> None:
    first, second = convolution(3, 4, 3, pad=1), convolution(2, 3, 1)
    chain = Chain(first, Relu(), second)
    assert chain.children[0] is first
    assert len(chain.children) == 3
    expected = convolved(second, np.maximum(convolved(first, X), 0))
    assert_same(chain.forward(X), expected)
    assert_same(Chain().forward(X), X)
    assert_same(Chain().backward(X), X)


@pytest.mark.parametrize("activation", ["default", None, Sigmoid()], ids=str)
@pytest.mark.parametrize("shortcut", ["none", "layer", "layers", "identity"])
def test_residual(shortcut: str, activation: Any) -> None:
    body = [convolution(4, 4, 3, pad=1), Relu(), convolution(4, 4, 3, 2, pad=1)]
    projection = convolution(4, 4, 1, 4)
    ways: dict[str, Any] = {
        "none": None,
        "layer": projection,
        "layers": [projection, Relu()],
        "identity": [],
    }
    arguments = {} if activation == "default" else {"activation": activation}
    layer = Residual(*body, shortcut=ways[shortcut], **arguments)
    total = convolved(body[2], np.maximum(convolved(body[0], X), 0))
    beside = X if shortcut in ("none", "identity") else convolved(projection, X)
    total = total + (np.maximum(beside, 0) if shortcut == "layers" else beside)
    functions: dict[str, Callable[[Array], Array]] = {
        "default": lambda s: np.maximum(s, 0),
        "None": lambda s: s,
        "Sigmoid()": lambda s: 1 / (1 + np.exp(-s)),
    }
    assert_close(layer.forward(X), functions[str(activation)](total), "f8")
    held = [part for part in walk(layer) if isinstance(part, Convolution)]
    assert held == [body[0], body[2], *[projection] * (shortcut[:5] == "layer")]


def test_rectifications_are_not_shared() -> None:
    one, other = Residual(), Residual()
    assert isinstance(one.activation, Relu)
    assert one.activation is not other.activation


def test_concatenation() -> None:
    first, second = convolution(2, 4, 3, pad=1), convolution(3, 4, 1)
    layer = Concatenation(first, [], [second, Relu()], [Pooling(3, 3, pad=1)])
    windows = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    views = np.lib.stride_tricks.sliding_window_view(windows, (3, 3), (2, 3))
    parts = [convolved(first, X), X, np.maximum(convolved(second, X), 0), views.max(axis=(4, 5))]
    assert_same(layer.forward(X), np.concatenate(parts, axis=1))
    assert [type(branch) for branch in layer.children] == [Convolution, Chain, Chain, Pooling]
    rows = Concatenation(Affine(np.eye(3), None), [])
    assert_same(rows.forward(np.eye(3)), np.hstack([np.eye(3)] * 2))


def test_concatenation_of_dtypes() -> None:
    """The result has the widest dtype, and each branch gets a gradient that it can take."""
    wide = Convolution(np.ones((1, 4, 1, 1)), None)
    layer = Concatenation([], wide)
    out = layer.forward(X.astype("f4"))
    assert (out.dtype, out.shape) == (np.dtype("f8"), (2, 5, 5, 6))
    assert layer.backward(out).shape == X.shape


def test_channel_shuffle() -> None:
    x = normal_values((2, 6, 3, 2))
    layer = ChannelShuffle(3)
    assert_same(layer.forward(x), x[:, [0, 2, 4, 1, 3, 5]])
    assert_same(layer.backward(layer.forward(x)), x)
    assert_same(ChannelShuffle(1).forward(x), x)
    assert_same(ChannelShuffle(6).forward(x), x)
    assert_same(ChannelShuffle(2).forward(x[:0]), x[:0])
    assert_same(ChannelShuffle(2).forward(x[:, ::-1, ::2]), x[:, [5, 2, 4, 1, 3, 0], ::2])


@pytest.mark.parametrize("stride", [1, 2, (3, 1), (2, 7)])
def test_identity_shortcut(stride: Any) -> None:
    layer = IdentityShortcut(6, stride)
    vertical, horizontal = stride if isinstance(stride, tuple) else (stride, stride)
    kept = X[:, :, ::vertical, ::horizontal]
    out = layer.forward(X)
    assert_same(out[:, :4], kept)
    assert_same(out[:, 4:], np.zeros_like(kept[:, :2]))
    grads = normal_values(out.shape, "f8", 4)
    expected = np.zeros_like(X)
    expected[:, :, ::vertical, ::horizontal] = grads[:, :4]
    assert_same(layer.backward(grads), expected)


# ------------------------------------------------------------------------------------- gradients

LAYERS: dict[str, Callable[[], Any]] = {
    "chain": lambda: Chain(convolution(3, 4, 3), Sigmoid()),
    "chain-empty": Chain,
    "residual": lambda: Residual(convolution(4, 4, 3, pad=1)),
    "residual-sum": lambda: Residual(convolution(4, 4, 3, pad=1), Sigmoid(), activation=None),
    "residual-sigmoid": lambda: Residual(convolution(4, 4, 3, pad=1), activation=Sigmoid()),
    "residual-shortcut": lambda: Residual(
        convolution(2, 4, 3, stride=2, pad=1),
        normalization(2),
        shortcut=[convolution(2, 4, 1, 5, stride=2), normalization(2, 1)],
    ),
    "residual-without-body": lambda: Residual(shortcut=convolution(4, 4, 1)),
    "residual-identity-shortcut": lambda: Residual(
        convolution(6, 4, 3, stride=2, pad=1), shortcut=IdentityShortcut(6, 2), activation=None
    ),
    "concatenation": lambda: Concatenation(
        convolution(2, 4, 1), [convolution(2, 4, 1, 3), Sigmoid(), convolution(3, 2, 3, 5, pad=1)]
    ),
    "concatenation-of-one": lambda: Concatenation(convolution(2, 4, 1)),
    "concatenation-with-input": lambda: Concatenation([], convolution(2, 4, 1), []),
    "shuffle": lambda: Chain(convolution(4, 2, 1, groups=2), ChannelShuffle(2)),
    "nested": lambda: Residual(
        Concatenation(
            [], Residual(convolution(4, 4, 3, pad=1), normalization(4), activation=Sigmoid())
        ),
        Chain(ChannelShuffle(2), Chain(convolution(4, 8, 1))),
        activation=None,
    ),
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def learned(layer: Any) -> list[tuple[Any, str]]:
    return [
        (part, name)
        for part in walk(layer)
        for name in ("W", "b", "gamma", "beta")
        if getattr(part, name, None) is not None
    ]


@each_layer
def test_gradients(make: Callable[[], Any]) -> None:
    layer = make()
    x = X[:, :, :4, :3].copy()
    weights = normal_values(layer.forward(x).shape, "f8", 5)

    def total() -> Any:
        return (layer.forward(x) * weights).sum()

    total()
    dx = layer.backward(weights)
    grads = [getattr(part, f"d{name}").copy() for part, name in learned(layer)]
    assert_gradient(dx, total, x)
    for (part, name), grad in zip(learned(layer), grads, strict=True):
        assert_gradient(grad, total, getattr(part, name))


@each_layer
@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_dtypes_stay(make: Callable[[], Any], dtype: str) -> None:
    layer = make()
    for part, name in learned(layer):
        setattr(part, name, getattr(part, name).astype(dtype))
    out = layer.forward(X.astype(dtype))
    assert out.dtype == dtype
    assert layer.backward(out).dtype == dtype
    assert_close(out, make().forward(X), dtype, 200)


@each_layer
def test_empty_batches(make: Callable[[], Any]) -> None:
    layer = make()
    for part in walk(layer):
        if isinstance(part, BatchNormalization):
            part.running_mean, part.running_var = np.zeros(part.gamma.size), part.gamma
    out = layer.forward(X[:0], False) if hasattr(layer, "children") else layer.forward(X[:0])
    assert out.shape == (0, *make().forward(X).shape[1:])
    assert layer.backward(out).shape == (0, *X.shape[1:])


@each_layer
def test_gradients_may_be_lists(make: Callable[[], Any]) -> None:
    layer, other = make(), make()
    grads = normal_values(layer.forward(X).shape, "f8", 3)
    other.forward(X)
    assert_same(np.asarray(layer.backward(grads.tolist())), other.backward(grads))


def test_training_mode_reaches_what_is_held() -> None:
    """Dropout and batch normalisation within all kinds of containers, in both modes."""
    drops = [Dropout(0.5, inverted=True, rng=np.random.default_rng(seed)) for seed in range(5)]
    norms = [normalization(4, seed) for seed in range(3)]
    layer = Chain(
        Residual(drops[0], norms[0], shortcut=drops[1], activation=drops[2]),
        Concatenation(norms[1], [drops[3], norms[2]]),
        Chain(Chain(drops[4])),
    )
    x = X + 1
    for norm in norms:
        norm.forward(x)
    before: list[Any] = [norm.running_mean for norm in norms]
    layer.forward(x, False)
    assert all(drop.mask == 1.0 for drop in drops)
    assert not any(norm.of_batch for norm in norms)
    assert all(norm.running_mean is mean for norm, mean in zip(norms, before))
    layer.forward(x)
    assert all(isinstance(drop.mask, np.ndarray) for drop in drops)
    assert all(norm.of_batch for norm in norms)
    assert all(np.any(norm.running_mean != mean) for norm, mean in zip(norms, before))


# --------------------------------------------------------------------------------------- errors


def test_what_is_no_layer_is_refused() -> None:
    message = "a layer must be an object with forward and backward, got "
    wrong: list[Any] = [None, 3, Relu, "Relu", np.ones(3)]
    for value in wrong:
        refused(TypeError, message, Chain, Relu(), value)
        refused(TypeError, message, Residual, Relu(), value)
        refused(TypeError, message, Concatenation, Relu(), value)
        refused(TypeError, message, Concatenation, [Relu(), value])
        if value is not None:
            refused(TypeError, message, Residual, Relu(), shortcut=value)
            refused(TypeError, message, Residual, Relu(), activation=value)
    refused(TypeError, message, Residual, [Relu(), Relu()])


def test_layers_that_come_twice_are_refused() -> None:
    relu = Relu()
    message = r"a layer can be held only once, got Relu\(\)"
    refused(ValueError, message, Chain, relu, relu)
    refused(ValueError, message, Residual, relu, activation=relu)
    refused(ValueError, message, Residual, Sigmoid(), shortcut=relu, activation=relu)
    refused(ValueError, message, Concatenation, [relu], [relu])
    chain = Chain(relu)
    refused(ValueError, r"held only once, got Chain\(\n  Relu\(\)\n\)", Chain, relu, chain)
    net = Sequential((4,), [chain])
    with pytest.raises(ValueError, match="can be in a network only once and holds Relu again"):
        net.add(Residual(relu))


def test_shapes_that_do_not_fit_are_refused() -> None:
    layer = Residual(convolution(3, 4, 1))
    message = r"body and shortcut must give one shape, got \(2, 3, 5, 6\) and \(2, 4, 5, 6\)"
    refused(ValueError, message, layer.forward, X)
    branches = Concatenation(convolution(3, 4, 3), [])
    message = r"differ in the number of channels only, got \(2, 3, 3, 4\), \(2, 4, 5, 6\)"
    refused(ValueError, message, branches.forward, X)
    refused(ValueError, r"branches must give shapes \(N, C, ...\)", branches_of(2), np.ones(3))
    refused(ValueError, "branches must be at least one", Concatenation)
    rows = Concatenation(Flatten(), [])
    refused(ValueError, r"got \(2, 120\), \(2, 4, 5, 6\)", rows.forward, X)


def branches_of(count: int) -> Callable[..., Any]:
    return Concatenation(*[[]] * count).forward


def test_gradients_of_other_shapes_are_refused() -> None:
    joined = Concatenation([], convolution(2, 4, 1))
    joined.forward(X)
    shuffle, shortcut = ChannelShuffle(2), IdentityShortcut(5)
    shuffle.forward(X)
    shortcut.forward(X)
    outputs = (joined, (2, 6, 5, 6)), (shuffle, (2, 4, 5, 6)), (shortcut, (2, 5, 5, 6))
    for each, shape in outputs:
        message = re.escape(f"dout must have shape {shape}, that of the output, got (2, 4, 5)")
        refused(ValueError, message, each.backward, np.ones((2, 4, 5)))


def test_channels_that_do_not_fit_are_refused() -> None:
    shuffle = ChannelShuffle(3)
    for x in (X, X[0, 0, 0]):
        message = re.escape(
            f"x must be (N, C, ...) with C a multiple of groups=3, got shape {x.shape}"
        )
        refused(ValueError, message, shuffle.forward, x)
    message = r"x must have at most 3 channels, got shape \(2, 4, 5, 6\)"
    refused(ValueError, message, IdentityShortcut(3).forward, X)
    refused(ValueError, "x must have 4 dimensions", IdentityShortcut(3).forward, np.ones((2, 3)))
    for wrong in (0, -1):
        refused(ValueError, f"groups must be a positive int, got {wrong}", ChannelShuffle, wrong)
        refused(
            ValueError, f"channels must be a positive int, got {wrong}", IdentityShortcut, wrong
        )
        refused(ValueError, f"stride must be .* got {wrong}", IdentityShortcut, 3, wrong)
    refused(TypeError, "groups must be a positive int, got 1.5", ChannelShuffle, 1.5)
    refused(TypeError, "channels must be a positive int, got None", IdentityShortcut, None)


@pytest.mark.parametrize(
    "layer",
    [
        Concatenation([], []),
        ChannelShuffle(2),
        IdentityShortcut(4),
        Residual(),
        Residual(Relu(), activation=None),
        Chain(Flatten()),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_backward_needs_forward(layer: Any) -> None:
    with pytest.raises(RuntimeError, match="backward needs a forward before it"):
        layer.backward(X)


# ---------------------------------------------------------------------------------------- copies


def test_representations_can_be_read_back() -> None:
    layer = Chain(
        Residual(
            Relu(),
            Pooling(3, 3, pad=1),
            shortcut=[Sigmoid(), ChannelShuffle(2)],
            activation=Concatenation([], Chain(Relu(), Residual(Relu(), activation=None))),
        ),
        Residual(Chain(Relu()), shortcut=IdentityShortcut(8, stride=(2, 1))),
    )
    text = repr(layer)
    assert repr(eval(text, vars(layers))) == text
    assert text == (
        "Chain(\n"
        "  Residual(\n"
        "    Relu(),\n"
        "    Pooling(3, 3, pad=1),\n"
        "    shortcut=Chain(\n"
        "      Sigmoid(),\n"
        "      ChannelShuffle(2)\n"
        "    ),\n"
        "    activation=Concatenation(\n"
        "      [],\n"
        "      Chain(\n"
        "        Relu(),\n"
        "        Residual(\n"
        "          Relu(),\n"
        "          activation=None\n"
        "        )\n"
        "      )\n"
        "    )\n"
        "  ),\n"
        "  Residual(\n"
        "    Relu(),\n"
        "    shortcut=IdentityShortcut(8, stride=(2, 1))\n"
        "  )\n"
        ")"
    )


@each_layer
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["deepcopy", "pickle"],
)
def test_copies(make: Callable[[], Any], duplicate: Callable[[Any], Any]) -> None:
    """A copy computes the same with arrays of its own, and lacks the last batch."""
    layer = make()
    x = np.repeat(X, 40, axis=0)
    expected = layer.forward(x)
    grads = layer.backward(expected)
    other = duplicate(layer)
    size = sum(getattr(part, name).nbytes for part, name in learned(layer))
    assert len(pickle.dumps(layer)) < size + 6000 < x.nbytes
    assert list(map(type, walk(other))) == list(map(type, walk(layer)))
    for (part, name), (original, _) in zip(learned(other), learned(layer), strict=True):
        assert not np.shares_memory(getattr(part, name), getattr(original, name))
    assert_same(other.forward(x), expected)
    assert_same(other.backward(expected), grads)


def test_copies_of_residuals_hold_one_body() -> None:
    layer = pickle.loads(pickle.dumps(Residual(Relu(), Sigmoid(), shortcut=Relu())))
    assert layer.children == (layer.body, layer.shortcut, layer.activation)


def test_forget() -> None:
    layer = LAYERS["nested"]()
    layer.backward(layer.forward(X))
    layer.forget()
    for part in walk(layer):
        assert not any(getattr(part, name) is not None for name in part._transient)
    with pytest.raises(RuntimeError, match="backward needs a forward before it"):
        layer.backward(X)


# -------------------------------------------------------------------------------------- networks


def branched(seed: int = 0) -> Sequential:
    """Make a network with a residual and branches, normalisation and dropout."""
    net = Sequential((2, 6, 6), seed=seed).convolution(4, 3, pad=1, bias=False)
    net.batch_normalization().add(Relu())
    body = net.branch().convolution(6, 3, stride=2, pad=1, bias=False).batch_normalization()
    body.add(Relu(), Dropout(0.2)).convolution(6, 3, pad=1)
    shortcut = net.branch().convolution(6, 1, stride=2)
    net.add(Residual(*body.children, shortcut=shortcut.children))
    left, right = net.branch().convolution(2, 1), net.branch().convolution(2, 3, pad=1).add(Relu())
    net.add(Concatenation(left.children, right.children, []), ChannelShuffle(5))
    return net.affine(3)


def data(count: int = 12) -> tuple[Array, Array]:
    return normal_values((count, 2, 6, 6)), np.arange(count) % 3


def test_names_in_networks() -> None:
    net = branched()
    assert list(net.layers) == [
        *("Conv1", "BatchNormalization1", "Relu1", "Residual1", "Concatenation1"),
        *("ChannelShuffle1", "Affine1"),
    ]
    assert list(net.state) == [
        *("W1", "gamma1", "beta1", "running_mean1", "running_var1"),
        *("W2", "gamma2", "beta2", "running_mean2", "running_var2", "W3", "b3", "W4", "b4"),
        *("W5", "b5", "W6", "b6", "W7", "b7"),
    ]
    residual: Any = net.layers["Residual1"]
    assert net.params["W2"] is residual.body.children[0].W
    assert net.params["W4"] is residual.shortcut.W
    assert residual.body.children[3].rng is net.rng


def test_branches_begin_where_the_network_ends() -> None:
    net = Sequential((3, 8, 8), dtype="f8", seed=0).convolution(4, 3)
    branch = net.branch()
    assert (branch.input_dim, branch.dtype, branch.children) == ((4, 6, 6), net.dtype, ())
    assert branch.rng is net.rng
    branch.affine(2)
    assert (net.output_dim, list(net.layers)) == ((4, 6, 6), ["Conv1"])


def test_convolutions_without_biases_and_with_dilation() -> None:
    net = Sequential((3, 9, 9), seed=0).convolution(4, 3, dilation=(2, 3), bias=False)
    assert net.output_dim == (4, 5, 3)
    assert list(net.params) == ["W1"]
    layer: Any = net.layers["Conv1"]
    assert (layer.b, layer.dilation) == (None, (2, 3))


def test_files_and_copies_of_networks(tmp_path: Path) -> None:
    net, other = branched(), branched(5)
    x, t = data()
    net.gradient(x, t)
    net.save_params(tmp_path / "params.npz")
    other.load_params(tmp_path / "params.npz")
    for duplicate in (other, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_same(duplicate.predict(x), net.predict(x))
        assert list(duplicate.params) == list(net.params)


def test_training_resumes_exactly(tmp_path: Path) -> None:
    x, t = data()

    def trainer(epochs: int) -> Trainer:
        arguments = {"epochs": epochs, "mini_batch_size": 4, "verbose": False, "seed": 3}
        path = tmp_path / f"{epochs}.npz"
        return Trainer(branched(), x, t, optimizer="Adam", checkpoint=path, **arguments)  # type: ignore[arg-type]

    whole, half = trainer(4), trainer(2)
    whole.train()
    half.train()
    rest = trainer(4)
    rest.load_checkpoint(tmp_path / "2.npz")
    rest.train()
    for name, array in whole.network.state.items():  # type: ignore[attr-defined]
        assert_same(rest.network.state[name], array)  # type: ignore[attr-defined]
    assert whole.train_loss_list[-1] < whole.train_loss_list[0]


def test_dropout_of_one_pass_is_that_of_the_other() -> None:
    """Networks give their generator to dropout within containers, and resume it."""
    nets = [branched(), branched()]
    x, t = data()
    first, second = (net.gradient(x, t) for net in nets)
    for name, grad in first.items():
        assert_same(second[name], grad)


# --------------------------------------------------------------------------------------- PyTorch


def test_pytorch(torch: Any) -> None:
    f = torch.nn.functional
    layer = Residual(
        Concatenation(convolution(2, 4, 3, pad=1), [convolution(4, 4, 1, 3), Relu()]),
        ChannelShuffle(3),
        convolution(6, 2, 1, 7, groups=3),
        shortcut=convolution(6, 4, 1, 9),
    )
    W = [torch.from_numpy(getattr(*pair).copy()).requires_grad_() for pair in learned(layer)]
    x = torch.from_numpy(X.copy()).requires_grad_()
    joined = torch.cat([f.conv2d(x, W[0], W[1], padding=1), f.relu(f.conv2d(x, W[2], W[3]))], 1)
    body = f.conv2d(f.channel_shuffle(joined, 3), W[4], W[5], groups=3)
    expected = f.relu(body + f.conv2d(x, W[6], W[7]))
    out = layer.forward(X)
    assert_close(out, expected.detach().numpy(), "f8", 100)
    grads = normal_values(out.shape, "f8", 5)
    expected.backward(torch.from_numpy(grads))
    assert_close(layer.backward(grads), x.grad.numpy(), "f8", 300)
    for (part, name), tensor in zip(learned(layer), W, strict=True):
        assert_close(getattr(part, f"d{name}"), tensor.grad.numpy(), "f8", 300)


# --------------------------------------------------------------------------------------- summary


def test_outputs_of_layers_within_layers() -> None:
    """They are what the layers give when they are called by hand, and nothing stays behind."""
    net, (x, _) = branched(), data()
    first, residual, joined = (
        net.layers[name] for name in ("Relu1", "Residual1", "Concatenation1")
    )
    body: Any = residual
    outer = net.activations(x)
    names = ["Concatenation1.Chain1.Conv1", "Residual1", "Residual1.Chain1.Conv2"]
    found = net.activations(x, iter(names))
    assert list(found) == names
    assert_same(found["Residual1"], outer["Residual1"])
    assert_same(found["Residual1.Chain1.Conv2"], body.body.forward(outer["Relu1"], False))
    way: Any = joined.children[1]  # type: ignore[attr-defined]
    behind = way.children[0].forward(outer["Residual1"])
    assert_same(found["Concatenation1.Chain1.Conv1"], behind)
    for layer in (first, *walk(residual), *walk(joined)):
        assert "forward" not in vars(layer)
    assert net.activations(x, []) == {}


def test_outputs_of_no_layers_are_refused() -> None:
    net, (x, _) = branched(), data()
    known = "Residual1.Chain1.Conv1, "
    for name, message in (
        ("Conv9", "the network has no layer 'Conv9', only Conv1, BatchNormalization1, Relu1, "),
        ("Residual1.Conv9", "the network has no layer 'Residual1.Conv9', within Residual1 only "),
        ("Residual1.Relu1", "the network has no layer 'Residual1.Relu1', within Residual1 only "),
    ):
        with pytest.raises(ValueError, match=re.escape(f"Sequential: {message}")) as caught:
            net.activations(x, [name])
        assert ("." in name) == (known in str(caught.value))
    for names, shown in (("Conv1", "'Conv1'"), (3, "3"), ([b"Conv1"], "b'Conv1'")):
        with pytest.raises(TypeError, match=rf"^Sequential: names must be .*strings, got {shown}$"):
            net.activations(x, names)  # type: ignore[arg-type]


def summary_lines(net: Sequential, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines of the summary, with columns divided by bars and steps by underscores."""
    capsys.readouterr()
    net.summary()
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()[2:]]
    return [re.sub(r"  +", "|", re.sub(r"^ +", lambda m: "_" * len(m[0]), s)) for s in lines]


def test_summary_of_ways(capsys: pytest.CaptureFixture[str]) -> None:
    """Ways beside each other have titles, and what follows a sum does not join the shortcut."""
    assert summary_lines(branched(), capsys) == [
        "input|(2, 6, 6)|72|0|0",
        "Conv1|4 of 2x3x3|1|(4, 6, 6)|144|72|2592",
        "BatchNormalization1 + Relu1|(4, 6, 6)|144|8|0",
        "Residual1|(6, 3, 3)|54",
        "__body",
        "____Conv1|6 of 4x3x3, stride 2|1|(6, 3, 3)|54|216|1944",
        "____BatchNormalization1 + Relu1 + Dropout1|(6, 3, 3)|54|12|0",
        "____Conv2|6 of 6x3x3|1|(6, 3, 3)|54|330|2916",
        "__shortcut",
        "____Conv1|6 of 4x1x1, stride 2|0|(6, 3, 3)|54|30|216",
        "__sum + Relu1|(6, 3, 3)|54",
        "Concatenation1|(10, 3, 3)|90",
        "__branch 1",
        "____Conv1|2 of 6x1x1|0|(2, 3, 3)|18|14|108",
        "__branch 2",
        "____Conv1 + Relu1|2 of 6x3x3|1|(2, 3, 3)|18|110|972",
        "__branch 3: identity",
        "ChannelShuffle1|(10, 3, 3)|90|0|0",
        "Affine1|(3,)|3|273|270",
        "total|1065|9018",
    ]


def test_summary_of_ways_within_ways(capsys: pytest.CaptureFixture[str]) -> None:
    inner = Residual(Residual(Sigmoid(), activation=None), shortcut=[], activation=None)
    net = Sequential((3,), [Residual(activation=inner), Chain(Relu(), Chain())], seed=0)
    assert summary_lines(net, capsys) == [
        "input|(3,)|3|0|0",
        "Residual1|(3,)|3",
        "__body: identity",
        "__shortcut: identity",
        "__sum|(3,)|3",
        "__Residual1|(3,)|3",
        "____body",
        "______Residual1|(3,)|3",
        "________body",
        "__________Sigmoid1|(3,)|3|0|0",
        "________shortcut: identity",
        "________sum|(3,)|3",
        "____shortcut: identity",
        "____sum|(3,)|3",
        "Chain1|(3,)|3",
        "__Relu1 + Chain1|(3,)|3|0|0",
        "total|0|0",
    ]


def test_multiply_adds() -> None:
    """They are counted for one image, from the shapes of the outputs, groups and strides too."""
    net = Sequential((4, 9, 9), seed=0).convolution(6, 3, stride=2, groups=2, bias=False)
    assert net.multiply_adds() == 4 * 4 * 6 * 2 * 9
    net.add(Residual(*net.branch().convolution(6, 3, pad=1, dilation=1).children))
    assert net.multiply_adds() == 16 * 6 * 2 * 9 + 16 * 6 * 6 * 9
    before = net.multiply_adds()
    assert net.add(Relu(), Pooling(2, 2, 2)).multiply_adds() == before
    assert net.affine(5).multiply_adds() == before + 6 * 2 * 2 * 5
