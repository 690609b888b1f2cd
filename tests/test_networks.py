"""The networks of the literature: structure, small images, training, trained weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import Array, assert_same, normal_values

from fastconv._layer import walk
from fastconv.layers import (
    BatchNormalization,
    Concatenation,
    Convolution,
    Dropout,
    IdentityShortcut,
    Residual,
)
from fastconv.models import (
    NIN,
    VGG,
    AlexNet,
    GoogLeNet,
    MobileNet,
    ResNet,
    Sequential,
    Xception,
    load_state_dict,
)

SMALL: dict[str, Callable[..., Sequential]] = {
    "NIN": partial(NIN, (1, 11, 13), 3),
    "ResNet-20": partial(ResNet, 20, (1, 12, 11), 3),
    "ResNet-18": partial(ResNet, 18, (3, 33, 32), 3),
    "ResNet-50": partial(ResNet, 50, (1, 32, 40), 3),
    "ResNet-50-v1": partial(ResNet, 50, (3, 32, 32), 3, stride_in_3x3=False),
    "GoogLeNet": partial(GoogLeNet, (1, 40, 33), 3),
    "Xception": partial(Xception, (3, 40, 45), 3),
    "MobileNet": partial(MobileNet, (1, 32, 33), 3, alpha=0.25),
}
"""Networks for images of other sizes than the usual ones."""


def convolutions(layer: Any) -> list[Any]:
    return [part for part in walk(layer) if isinstance(part, Convolution)]


@pytest.mark.parametrize("name", SMALL)
def test_a_step_lowers_the_loss(name: str) -> None:
    """Also on images that are smaller than the usual ones, and of another number of channels."""
    net = SMALL[name](seed=0)
    for part in walk(net):
        if isinstance(part, Dropout):
            part.dropout_ratio = 0.0  # The same loss is computed twice.
    x, t = normal_values((4, *net.input_dim), seed=1), np.array([0, 1, 2, 1])
    grads = net.gradient(x, t)
    before = net.last_layer.loss
    assert all(np.isfinite(grad).all() and grad.dtype == "f4" for grad in grads.values())
    length = np.sqrt(sum(float(np.square(grad, dtype="f8").sum()) for grad in grads.values()))
    for parameter, grad in grads.items():
        net.params[parameter] -= np.float32(0.005 / length) * grad
    assert net.loss(x, t) < before
    scores = net.predict(x)
    assert (scores.shape, scores.dtype) == ((4, 3), np.dtype("f4"))
    assert np.isfinite(scores).all()
    assert_same(net.predict(x[:0]), scores[:0])


@pytest.mark.parametrize("name", SMALL)
def test_networks_before_training_give_finite_scores(name: str) -> None:
    net = SMALL[name](seed=0)
    assert np.isfinite(net.predict(normal_values((2, *net.input_dim)))).all()


@pytest.mark.parametrize("name", ["NIN", "ResNet-20", "GoogLeNet", "MobileNet"])
def test_seeds_and_dtypes(name: str) -> None:
    """Every weight comes from the seed, those of branches too."""
    make = SMALL[name]
    one, same, other = make(seed=0, dtype="f8"), make(seed=0, dtype="f8"), make(seed=1)
    for parameter, array in one.params.items():
        assert array.dtype == "f8"
        assert_same(same.params[parameter], array)
        assert other.params[parameter].dtype == "f4"
        assert parameter[0] != "W" or (other.params[parameter] != array).all()


def test_arguments_by_name() -> None:
    kinds: list[Any] = [NIN, GoogLeNet, Xception, MobileNet]
    for kind in kinds:
        with pytest.raises(TypeError, match="positional"):
            kind((3, 32, 32), 2, "f4")
        with pytest.raises(ValueError, match=rf"^{kind.__name__}: output_size must be a positive"):
            kind((3, 32, 32), output_size=0)
    with pytest.raises(TypeError, match="positional"):
        ResNet(18, (3, 32, 32), 2, True)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"^ResNet: output_size must be a positive int, got 0"):
        ResNet(20, output_size=0)


def test_weights_are_drawn_for_rectifications() -> None:
    net = ResNet(18, output_size=10, seed=0)
    for layer in convolutions(net):
        spread = float(layer.W.std()) * np.sqrt(layer.W[0].size / 2)
        assert abs(spread - 1) < 0.05
        assert layer.b is None
    norms = [part for part in walk(net) if isinstance(part, BatchNormalization)]
    assert len(norms) == 20
    for norm in norms:
        assert (norm.eps, norm.momentum) == (1e-5, 0.9)
        assert (norm.gamma == 1).all()
        assert not norm.beta.any()
    assert {p.eps for p in walk(SMALL["MobileNet"]()) if isinstance(p, BatchNormalization)} == {
        1e-3
    }
    assert {p.eps for p in walk(SMALL["Xception"]()) if isinstance(p, BatchNormalization)} == {1e-3}


# --------------------------------------------------------------------------- residual networks

DEPTHS = r"depth must be one of 18, 34, 50, 101, 152, 20, 32, 44, 56, 110, 1202, got "


@pytest.mark.parametrize("depth", [19, 0, None, "18", 18.5])
def test_other_depths_are_refused(depth: Any) -> None:
    with pytest.raises(ValueError, match=f"^ResNet: {DEPTHS}{re.escape(repr(depth))}$"):
        ResNet(depth)


@pytest.mark.parametrize("depth", [18, 34, 20, 56, 50])
def test_depths_count_layers_with_weights(depth: int) -> None:
    net = ResNet(depth, (3, 16, 16), 2, seed=0)
    blocks: list[Any] = [layer for layer in net.children if isinstance(layer, Residual)]
    bodies = sum(len(convolutions(block.body)) for block in blocks)
    assert 1 + bodies + 1 == depth  # the first convolution and the affine layer


def test_shortcuts() -> None:
    """Without parameters for small images, and only where the shape changes for large ones."""
    small, large = ResNet(20, seed=0), ResNet(50, (3, 64, 64), seed=0)
    blocks: Any = [layer for layer in small.children if isinstance(layer, Residual)]
    kinds = [(b.shortcut.channels, b.shortcut.stride) if b.shortcut else None for b in blocks]
    assert kinds == [None, None, None, (32, 2), None, None, (64, 2), None, None]
    assert all(isinstance(b.shortcut, (IdentityShortcut, type(None))) for b in blocks)
    blocks = [layer for layer in large.children if isinstance(layer, Residual)]
    places = [i for i, block in enumerate(blocks) if block.shortcut is not None]
    assert places == [0, 3, 7, 13]
    strides = [convolutions(blocks[i].shortcut)[0].stride for i in places]
    assert strides == [1, 2, 2, 2]


@pytest.mark.parametrize("stride_in_3x3", [True, False])
def test_places_of_strides(stride_in_3x3: bool) -> None:
    net = ResNet(50, (3, 64, 64), stride_in_3x3=stride_in_3x3, seed=0)
    blocks: Any = [layer for layer in net.children if isinstance(layer, Residual)]
    strides = [[layer.stride for layer in convolutions(block.body)] for block in blocks]
    halving = [1, 2, 1] if stride_in_3x3 else [2, 1, 1]
    assert [strides[i] for i in (3, 7, 13)] == [halving] * 3
    assert sum(stride for block in strides for stride in block) == 16 * 3 + 3
    assert net.output_dim == (1000,)


# ----------------------------------------------------------------------------- other networks

ROWS = {
    "convolution": (9.2, 2.7),
    "convolutions": (112, 112),
    "3a": (159.5, 159),
    "3b": (379, 380),
    "4a": (366.8, 364),
    "4b": (438, 437),
    "4c": (497.5, 463),
    "4d": (590.5, 580),
    "4e": (847, 840),
    "5a": (1018, 1072),
    "5b": (1409, 1388),
    "linear": (1000, 1000),
}
"""Weights of GoogLeNet in units of 1,024 by the rows of the paper's table: ours, the paper's."""


def test_googlenet_has_the_rows_of_the_paper() -> None:
    """The figures and the sums with which its documentation explains the paper's."""
    net = GoogLeNet(seed=0)
    weights = dict.fromkeys(ROWS, 0)
    modules = iter(list(ROWS)[2:-1])
    rows = {"Conv1": "convolution", "Conv2": "convolutions", "Conv3": "convolutions"}
    channels = []
    for name, layer in net.layers.items():
        if isinstance(layer, Concatenation):
            rows[name] = next(modules)
            channels.append(sum(convolutions(branch)[-1].W.shape[0] for branch in layer.children))
        for part in walk(layer):
            if getattr(part, "W", None) is not None:
                weights[rows.get(name, "linear")] += part.W.size
    assert {row: round(count / 1024, 1) for row, count in weights.items()} == {
        row: ours for row, (ours, _) in ROWS.items()
    }
    paper = sum(theirs for _, theirs in ROWS.values())
    biases = sum(array.size for name, array in net.params.items() if name[0] == "b")
    total, exact = sum(weights.values()), 6_998_552
    assert (total, biases, round(paper, 1)) == (6_990_272, 8280, 6797.7)
    assert round(exact - 1000 * paper) == 200_852
    assert round(24 * paper) == 163_145
    assert round(total - 1024 * paper) == 29_427
    assert channels == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


@pytest.mark.parametrize(
    ("alpha", "first", "last"), [(1.0, 32, 1024), (0.75, 24, 768), (0.01, 1, 10), (2, 64, 2048)]
)
def test_widths_of_mobilenet(alpha: float, first: int, last: int) -> None:
    net = MobileNet((3, 32, 32), 2, alpha=alpha, seed=0)
    layers = convolutions(net)
    assert (len(layers[0].W), len(layers[-1].W)) == (first, last)
    assert all(layer.groups in (1, len(layer.W)) for layer in layers)
    assert [layer.groups > 1 or len(layer.W) == 1 for layer in layers[1::2]] == [True] * 13


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf")])
def test_refused_widths(alpha: float) -> None:
    with pytest.raises(
        ValueError, match=f"^MobileNet: alpha must be a positive number, got {alpha}"
    ):
        MobileNet(alpha=alpha)
    with pytest.raises(TypeError, match=r"^MobileNet: alpha must be a positive number, got None"):
        MobileNet(alpha=None)  # type: ignore[arg-type]


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^Xception: Conv1 does not fit behind an output of"):
        Xception((3, 2, 2))
    with pytest.raises(ValueError, match=r"^NIN: a convolution does not fit behind an output of"):
        NIN((3, 2))


@pytest.mark.parametrize(
    "make",
    [
        partial(AlexNet, (3, 67, 67), 2),
        partial(VGG, 11, (3, 32, 32), 2, 8),
        partial(NIN, (3, 16, 16), 2),
        partial(GoogLeNet, (3, 32, 32), 2),
        partial(Xception, (3, 32, 32), 2),
    ],
    ids=["AlexNet", "VGG", "NIN", "GoogLeNet", "Xception"],
)
def test_dropout_changes_nothing_in_inference(make: Callable[..., Sequential]) -> None:
    """Weights that other libraries have trained, which scale in training, fit."""
    drops = [part for part in walk(make(seed=0)) if isinstance(part, Dropout)]
    assert drops
    assert all(drop.inverted for drop in drops)


# ------------------------------------------------------------------------------ trained weights


def named(shapes: dict[str, tuple[int, ...]], seed: int = 1) -> dict[str, Array]:
    """Draw what PyTorch's modules of these names and weights would hold."""
    random = np.random.default_rng(seed)
    state: dict[str, Array] = {}
    for name, shape in shapes.items():
        if len(shape) == 1:  # batch normalisation
            parts = ("weight", "bias", "running_mean", "running_var")
            state |= {f"{name}.{part}": random.random(shape, "f4") + 0.5 for part in parts}
            state[f"{name}.num_batches_tracked"] = np.array(7)
        else:
            state[f"{name}.weight"] = random.standard_normal(shape, "f4")
            if len(shape) == 2:
                state[f"{name}.bias"] = random.standard_normal(shape[0], "f4")
    return state


def residual_state(depth: int) -> dict[str, Array]:
    """List the arrays of torchvision's residual networks, by their names, in their order."""
    blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
    growth = 1 if depth == 18 else 4
    shapes: dict[str, tuple[int, ...]] = {"conv1": (64, 3, 7, 7), "bn1": (64,)}
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            path = f"layer{stage + 1}.{block}"
            sizes = (3, 3) if depth == 18 else (1, 3, 1)
            inputs = channels
            for i, size in enumerate(sizes):
                outputs = width * (growth if i == len(sizes) - 1 else 1)
                shapes[f"{path}.conv{i + 1}"] = (outputs, inputs, size, size)
                shapes[f"{path}.bn{i + 1}"] = (outputs,)
                inputs = outputs
            if channels != inputs or (depth == 50 and not block):
                shapes[f"{path}.downsample.0"] = (inputs, channels, 1, 1)
                shapes[f"{path}.downsample.1"] = (inputs,)
            channels = inputs
    return named({**shapes, "fc": (7, channels)})


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_s_names_of_residual_networks(depth: int) -> None:
    net, state = ResNet(depth, (3, 32, 32), 7, seed=0), residual_state(depth)
    pairs = dict(load_state_dict(net, state))
    assert len(pairs) == sum("num_batches" not in name for name in state)
    assert list(pairs)[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    last: Any = [layer for layer in net.children if isinstance(layer, Residual)][-1]
    weights = [layer.W for layer in convolutions(last.body)]
    final = max(name for name in state if name.startswith("layer4.")).split(".")[1]
    for i, weight in enumerate(weights, 1):
        assert_same(weight, state[f"layer4.{final}.conv{i}.weight"])
    third: Any = next(
        layer
        for layer in net.children
        if isinstance(layer, Residual)
        and layer.shortcut
        and convolutions(layer.shortcut)[0].stride == 2
    )
    conv, norm = third.shortcut.children
    assert_same(conv.W, state["layer2.0.downsample.0.weight"])
    assert_same(norm.gamma, state["layer2.0.downsample.1.weight"])
    assert_same(norm.running_var, state["layer2.0.downsample.1.running_var"])
    assert_same(list(net.params.values())[-1], state["fc.bias"])


def test_torchvision_s_names_of_vgg() -> None:
    net = VGG(16, (3, 32, 32), 5, 6, seed=0)
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    state = {}
    random = np.random.default_rng(0)
    for place, layer in zip(places, convolutions(net), strict=True):
        state[f"features.{place}.weight"] = random.standard_normal(layer.W.shape, "f4")
        state[f"features.{place}.bias"] = random.standard_normal(len(layer.W), "f4")
    for place, shape in ((0, (6, 512)), (3, (6, 6)), (6, (5, 6))):
        state[f"classifier.{place}.weight"] = random.standard_normal(shape, "f4")
        state[f"classifier.{place}.bias"] = random.standard_normal(shape[0], "f4")
    pairs = load_state_dict(net, state)
    assert pairs[-1] == ("classifier.6.bias", "b16")
    assert_same(net.params["W15"], state["classifier.3.weight"].T)


def test_weights_of_a_mobilenet() -> None:
    """Blocks in the usual order: depthwise, normalisation, 1x1, normalisation."""
    net = MobileNet((3, 32, 32), 5, alpha=0.25, seed=0)
    shapes: dict[str, tuple[int, ...]] = {}
    for i, layer in enumerate(convolutions(net)):
        shapes[f"model.{i}.0"] = layer.W.shape
        shapes[f"model.{i}.1"] = (len(layer.W),)
    state = named({**shapes, "fc": (5, 256)})
    load_state_dict(net, state)
    assert_same(net.params["W27"], state["model.26.0.weight"])
    assert_same(net.state["running_mean27"], state["model.26.1.running_mean"])


def torch_residual_network(torch: Any, state: dict[str, Array]) -> Callable[[Any], Any]:
    """Build a residual network of PyTorch's functions, and of arrays by torchvision's names."""
    f, held = torch.nn.functional, {name: torch.from_numpy(array) for name, array in state.items()}

    def convolved(x: Any, conv: str, norm: str, stride: int) -> Any:
        weight = held[f"{conv}.weight"]
        y = f.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        return f.batch_norm(y, *(held[f"{norm}.{name}"] for name in names), eps=1e-5)

    def block(x: Any, path: str, stride: int) -> Any:
        y, count = x, 3 if f"{path}.conv3.weight" in held else 2
        for i in range(1, count + 1):
            step = stride if i == count - 1 else 1  # the first of two, or the 3x3 of three
            y = convolved(y, f"{path}.conv{i}", f"{path}.bn{i}", step)
            y = f.relu(y) if i < count else y
        if f"{path}.downsample.0.weight" in held:
            x = convolved(x, f"{path}.downsample.0", f"{path}.downsample.1", stride)
        return f.relu(x + y)

    def network(x: Any) -> Any:
        x = f.max_pool2d(f.relu(convolved(x, "conv1", "bn1", 2)), 3, 2, 1)
        paths = [name[: -len(".conv1.weight")] for name in held if name.endswith(".conv1.weight")]
        for path in paths:
            x = block(x, path, 2 if path.endswith(".0") and path != "layer1.0" else 1)
        return f.linear(x.mean((2, 3)), held["fc.weight"], held["fc.bias"])

    return network


@pytest.mark.parametrize("depth", [18, 50])
def test_pytorch_s_scores_of_a_residual_network(torch: Any, depth: int) -> None:
    state = residual_state(depth)
    for array in state.values():
        if array.ndim == 4:
            array *= np.sqrt(1 / array[0].size)
    net = ResNet(depth, (3, 64, 64), 7, dtype="f8", seed=0)
    load_state_dict(net, state)
    x = normal_values((2, 3, 64, 64), "f8")
    double = {name: array.astype("f8") for name, array in state.items()}
    expected = torch_residual_network(torch, double)(torch.from_numpy(x)).numpy()
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-9, atol=1e-9 * abs(expected).max())
