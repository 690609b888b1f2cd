"""What `fastconv.viz` draws, read back from the figures."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import PAD_MODES, Array, assert_same, memory_bounded, normal_values, run_python

import fastconv
from fastconv._filter_bank import FILTERS
from fastconv._layer import children_of
from fastconv._structure import paths
from fastconv.layers import (
    Affine,
    Chain,
    Concatenation,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    Pooling,
    Relu,
    Residual,
    Sigmoid,
)
from fastconv.models import NIN, VGG, GoogLeNet, LeNet, ResNet, Sequential, SimpleConvNet
from fastconv.training import Epoch

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from matplotlib import image as matplotlib_image
from matplotlib.patches import Circle, Polygon, Rectangle

from fastconv import viz

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def tiles(figure: Figure, panel: int = 0) -> list[Array]:
    """Return what the images of an axes show."""
    return [np.asarray(image.get_array()) for image in figure.axes[panel].images]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def scaled(array: Array) -> Array:
    result: Array = (array - array.min()) / (array.max() - array.min())
    return result


def branched(dtype: str = "f8") -> Sequential:
    """Build a network with a residual, branches, and layers of every other kind around them."""
    net = Sequential((2, 8, 8), dtype=dtype, seed=3)
    net.convolution(4, 3, pad=1).batch_normalization().add(Relu())
    body = net.branch().convolution(6, 3, stride=2, pad=1).batch_normalization().add(Sigmoid())
    body.convolution(6, 3, pad=1)
    shortcut = net.branch().convolution(6, 1, stride=2)
    net.add(Residual(*body.children, shortcut=shortcut.children))
    net.add(Residual(*net.branch().convolution(6, 1).children, activation=None))
    branch = net.branch().convolution(3, 1).add(Relu()).convolution(3, 3, pad=1)
    net.add(Concatenation(branch.children, [], [Pooling(3, 3, pad=1)]))
    return net.add(GlobalAveragePooling(), Dropout(0.5, inverted=True)).affine(5)


def png(figure: Figure) -> Array:
    """Save a figure, check that it is a PNG of a sensible size, and return its gray pixels."""
    file = io.BytesIO()
    figure.savefig(file)
    assert file.getvalue().startswith(b"\x89PNG\r\n\x1a\n")
    file.seek(0)
    pixels: Array = matplotlib_image.imread(file)[..., :3].mean(axis=-1)
    assert 70 <= pixels.shape[0] <= 1400
    assert 300 <= pixels.shape[1] <= 1400
    assert pixels.min() < 0.5 < pixels.max()  # not blank
    return pixels


def network(dtype: str = "f4") -> Sequential:
    """Build a small network with layers of every kind of output."""
    net = Sequential((1, 8, 8), dtype=dtype, seed=1)
    net.convolution(4, 3, pad=1).batch_normalization().add(Relu(), Pooling(2, 2, 2))
    return net.convolution(5, 3).add(Flatten(), Dropout(0.5)).affine(6)


# --- show_filters ---------------------------------------------------------------------------


def test_filters_of_layers_and_arrays_side_by_side() -> None:
    before = normal_values((7, 2, 5, 5))
    layer = Convolution(normal_values((3, 2, 3, 4), seed=1), None)
    figure = viz.show_filters(before, layer, titles=["before", "after"], channel=1)
    assert [axes.get_title() for axes in figure.axes] == ["before", "after"]
    for panel, weights in enumerate((before, layer.W)):
        drawn = tiles(figure, panel)
        assert len(drawn) == len(weights)
        for tile, one in zip(drawn, weights):
            np.testing.assert_allclose(tile, scaled(one[1]), rtol=1e-6)
            assert (tile.min(), tile.max()) == (0, 1)
    for image in figure.axes[0].images:
        assert image.get_cmap().name == "gray"
        assert image.get_clim() == (0, 1)
    png(figure)


def test_filters_of_three_channels_in_colour() -> None:
    weights = normal_values((4, 3, 5, 5), np.float16)
    figure = viz.show_filters(weights)
    for tile, one in zip(tiles(figure), weights.astype(np.float32)):
        np.testing.assert_allclose(tile, scaled(one).transpose(1, 2, 0), rtol=1e-5)
    png(figure)


def test_a_flat_filter_is_black() -> None:
    (tile,) = tiles(viz.show_filters(np.full((1, 1, 3, 3), 5)))
    assert (tile == 0).all()


def test_later_changes_do_not_reach_a_figure() -> None:
    weights = normal_values((2, 1, 3, 3))
    figure = viz.show_filters(weights)
    drawn = [tile.copy() for tile in tiles(figure)]
    weights[...] = 0
    np.testing.assert_array_equal(tiles(figure), drawn)


@pytest.mark.parametrize("count", [1, 2, 3, 30, 512])
def test_tiles_do_not_overlap(count: int) -> None:
    figure = viz.show_filters(normal_values((count, 1, 3, 5)))
    boxes = [tuple(image.get_extent()) for image in figure.axes[0].images]
    assert len(set(boxes)) == count
    for left, right, bottom, top in boxes:
        assert [right - left, bottom - top] == pytest.approx([5, 3])
        for other in boxes:
            apart = other[0] >= right or other[1] <= left or other[3] >= bottom or other[2] <= top
            assert apart or other == (left, right, bottom, top)
    x, y = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert min(x) <= min(box[0] for box in boxes) <= max(box[1] for box in boxes) <= max(x) + 1e-9
    assert min(y) <= min(box[3] for box in boxes) <= max(box[2] for box in boxes) <= max(y) + 1e-9
    assert max(figure.get_size_inches()) <= 13


# --- show_feature_maps ----------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["Conv1", "Relu1", "Pool1", "Conv2"])
def test_feature_maps(layer: str) -> None:
    net, image = network(), normal_values((1, 8, 8))
    figure = viz.show_feature_maps(net, image, layer)
    maps = net.activations(image[None])[layer][0]
    np.testing.assert_array_equal(tiles(figure), maps)
    assert figure.get_suptitle() == layer
    assert labels(figure) == [str(channel) for channel in range(len(maps))]
    for one in figure.axes[0].images:
        assert one.get_clim() == (maps.min(), maps.max())
    _, bar = figure.axes
    assert bar.get_ylim() == pytest.approx((maps.min(), maps.max()))
    png(figure)


@pytest.mark.parametrize("layer", ["Affine1", "Flatten1"])
def test_values_that_are_no_planes_are_a_row(layer: str) -> None:
    net, image = network(), normal_values((1, 1, 8, 8))
    figure = viz.show_feature_maps(net, image, layer)
    (tile,) = tiles(figure)
    for line in tile:
        np.testing.assert_array_equal(line, net.activations(image)[layer][0])
    assert figure.axes[0].axison
    png(figure)


def test_flat_feature_maps() -> None:
    png(viz.show_feature_maps(SimpleConvNet(seed=0), np.zeros((1, 28, 28)), "Conv1"))


INNER = [
    *("Residual1.Chain1.Conv1", "Residual1.Chain1.Conv2", "Residual1.Conv1"),
    *("Residual2.Conv1", "Concatenation1.Chain1.Conv1", "Concatenation1.Pool1"),
]
"""Paths to layers of `branched`."""


@pytest.mark.parametrize("layer", INNER)
def test_feature_maps_of_layers_within_layers(layer: str) -> None:
    net, image = branched(), normal_values((2, 8, 8))
    figure = viz.show_feature_maps(net, image, layer)
    (maps,) = net.activations(image[None], [layer])[layer]
    np.testing.assert_array_equal(tiles(figure), maps)
    assert figure.get_suptitle() == layer


# --- apply_filters --------------------------------------------------------------------------


@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_well_known_filters(pad_mode: str) -> None:
    image = normal_values((9, 12)) ** 2
    figure = viz.apply_filters(image, pad_mode=pad_mode)
    assert labels(figure) == ["image", *FILTERS]
    assert figure.get_suptitle() == f"padding: same, pad_mode: {pad_mode}"
    first, *responses = tiles(figure)
    np.testing.assert_array_equal(first, np.rint(255 * image / image.max()))
    for drawn, weights in zip(responses, FILTERS.values(), strict=True):
        weight = np.array(weights)[None, None]
        response = fastconv.conv2d(image[None], weight, padding="same", pad_mode=pad_mode)[0]
        assert drawn.shape == image.shape
        if weight.sum() == 0:
            expected = 128 + 127 * response / np.abs(response).max()
        else:
            expected = np.clip(255 * response / image.max(), 0, 255)
        np.testing.assert_allclose(drawn, expected, atol=0.51)
    for one in figure.axes[0].images:
        assert one.get_clim() == (0, 255)
    png(figure)


def test_colours_and_filters_of_ones_own() -> None:
    image = np.random.default_rng(2).integers(0, 256, (3, 6, 7), np.uint8)
    filters = {"same": np.pad([[1]], 1), "small": np.ones((2, 2)) / 4}
    figure = viz.apply_filters(image, filters, padding=0)
    whole, inner, small = tiles(figure)
    low, high = 0, int(image.max())
    expected = np.rint((image.transpose(1, 2, 0) - low) * (255 / (high - low)))
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(inner, expected[1:-1, 1:-1])
    assert small.shape == (5, 6, 3)
    assert figure.get_suptitle() == "padding: 0, pad_mode: constant"
    centres = []
    for tile, one in zip(tiles(figure), figure.axes[0].images):
        left, right, bottom, top = one.get_extent()
        assert (bottom - top, right - left) == pytest.approx(tile.shape[:2])
        centres.append((top + bottom) / 2)
    assert centres[0] == pytest.approx(centres[1])  # of one row of tiles
    png(figure)


def test_border_shows_the_padding() -> None:
    def blurred(pad_mode: str) -> Array:
        blur = {"blur": FILTERS["blur"]}
        return tiles(viz.apply_filters(np.full((5, 5), 0.5), blur, pad_mode))[1]

    assert (blurred("edge") == 255).all()
    assert blurred("constant")[2, 2] == 255
    assert blurred("constant")[0, 0] == round(255 * 9 / 16)


def test_black_image() -> None:
    figure = viz.apply_filters(np.zeros((1, 4, 4)))
    for name, tile in zip(labels(figure), tiles(figure)):
        assert (tile == (128 if np.sum(FILTERS.get(name, 1)) == 0 else 0)).all()


# --- maximize_activation --------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["Conv1", "BatchNormalization1", "Pool1", "Conv2", "Affine1"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_activation_grows(layer: str, dtype: str) -> None:
    net = network(dtype)
    x, activations = viz.activation_ascent(net, layer, 2, steps=30)
    assert x.shape == (1, 8, 8)
    assert len(activations) == 31
    assert activations[-1] > activations[0] + 0.5
    reached = net.activations(x[None])[layer][0][2].mean(dtype=np.float64)
    assert activations[-1] == pytest.approx(float(reached), rel=1e-12)


@pytest.mark.parametrize("layer", INNER)
def test_ascent_within_layers_goes_along_the_gradient(layer: str) -> None:
    """Behind a step of small length, an activation has grown by length times the gradient's."""
    net, lr = branched(), 1e-4
    start, _ = viz.activation_ascent(net, layer, 1, steps=1, lr=1e-12)
    x, activations = viz.activation_ascent(net, layer, 1, steps=1, lr=lr)
    direction = (x - start) / lr

    def activation(x: Array) -> Any:
        return net.activations(x[None], [layer])[layer][0, 1].mean()

    slopes = np.zeros(x.shape)  # by finite differences
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = 1e-6
        slopes[place] = (activation(start + step) - activation(start - step)) / 2e-6
    np.testing.assert_allclose(direction, slopes / np.sqrt(np.square(slopes).mean()), atol=1e-5)
    assert activations[1] - activations[0] == pytest.approx(lr * (slopes * direction).sum(), 0.1)


def test_first_step_goes_along_the_gradient() -> None:
    """The gradient of one convolution is the same everywhere: a sum of shifted taps."""
    net = Sequential((1, 5, 5), [Convolution(normal_values((2, 1, 3, 3)), None)])
    paths = [viz.activation_ascent(net, "Conv1", 1, steps=steps, lr=0.5)[0] for steps in (1, 2)]
    gradient = np.zeros((1, 5, 5))
    for h in range(3):
        for w in range(3):
            gradient[0, h : h + 3, w : w + 3] += net.params["W1"][1, 0]
    expected = 0.5 * gradient / np.sqrt(np.square(gradient).mean())
    np.testing.assert_allclose(paths[1] - paths[0], expected, rtol=1e-4, atol=1e-6)


def test_ascent_depends_on_its_seed_alone() -> None:
    net = network()
    np.random.seed(8)  # noqa: NPY002
    first, again, other = (
        viz.activation_ascent(net, "Conv2", steps=3, seed=seed)[0] for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.random.rand() == np.random.RandomState(8).rand()  # noqa: NPY002


def test_ascent_leaves_the_network_as_it_was() -> None:
    net = network()
    net.gradient(normal_values((4, 1, 8, 8)), np.arange(4))
    before = {name: array.copy() for name, array in net.state.items()}
    viz.activation_ascent(net, "Affine1", steps=3)
    for name, array in net.state.items():
        np.testing.assert_array_equal(array, before[name])
    assert list(net.layers)[-1] == "Affine1"


class Doubling:
    """A layer of one's own, which keeps its input in an array that it fills anew."""

    def __init__(self) -> None:
        self.x = np.zeros((1, 4, 8, 8), np.float32)

    def forward(self, x: Array) -> Array:
        if len(x):
            self.x[: len(x)] = x
        return 2 * x

    def backward(self, dout: Array) -> Array:
        return 2 * dout


PICTURES: dict[str, Callable[[Sequential], Any]] = {
    "show_feature_maps": lambda net: viz.show_feature_maps(net, np.ones((1, 8, 8)), "Sequential1"),
    "activation_ascent": lambda net: viz.activation_ascent(net, "Affine1", steps=2),
    "maximize_activation": lambda net: viz.maximize_activation(net, "Conv1", steps=2),
    "inner feature maps": lambda net: viz.show_feature_maps(
        net, np.ones((1, 8, 8)), "Sequential1.Conv1"
    ),
    "inner ascent": lambda net: viz.activation_ascent(net, "Sequential1.Conv1", steps=2),
    "class_activation_map": lambda net: viz.class_activation_map(net, np.ones((1, 8, 8))),
    "show_class_activation": lambda net: viz.show_class_activation(
        net, np.ones((1, 8, 8)), 2, "Sequential1.Pool1"
    ),
    "show_network": viz.show_network,
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_between_forward_and_backward(name: str) -> None:
    """What layers have saved for the backward pass is the user's, within other layers too."""

    def network_with_a_network() -> Sequential:
        own: Any = Doubling()
        inner = Sequential((1, 8, 8), seed=1).convolution(4, 3, pad=1).batch_normalization()
        inner.add(own, Relu(), Pooling(2, 2, 2), Dropout(0.5))
        net = Sequential((1, 8, 8), [inner], seed=1).convolution(5, 3)
        return net.add(Flatten()).affine(6)

    net, expected = network_with_a_network(), network_with_a_network()
    x, dout = normal_values((1, 1, 8, 8)), normal_values((1, 6))
    expected.predict(x, train_flg=True)
    net.predict(x, train_flg=True)
    PICTURES[name](net)
    assert_same(net.backward(dout), expected.backward(dout))
    for key, grad in expected.params.gradients().items():
        assert_same(net.params.gradients()[key], grad)
    inner: Any = net.layers["Sequential1"]
    known: Any = expected.layers["Sequential1"]
    assert_same(inner.layers["Doubling1"].x, known.layers["Doubling1"].x)
    np.testing.assert_array_equal(inner.layers["Dropout1"].mask, known.layers["Dropout1"].mask)


def test_feature_maps_copy_no_parameters() -> None:
    net = Sequential((2000,), seed=0).affine(1000)
    viz.show_feature_maps(net, np.ones(2000), "Affine1")
    with memory_bounded(4 << 20):  # The matrix takes 8 MB.
        viz.show_feature_maps(net, np.ones(2000), "Affine1")


def test_ascent_stays_where_there_is_no_gradient() -> None:
    net = Sequential((1, 4, 4), [Convolution(np.ones((1, 1, 3, 3)), [-9.0]), Relu()])
    _, activations = viz.activation_ascent(net, "Relu1", steps=2)
    assert activations == [0, 0, 0]


@pytest.mark.parametrize("input_dim", [(1, 6, 6), (3, 6, 6), (2, 6, 6)])
def test_input_that_maximizes(input_dim: tuple[int, ...]) -> None:
    net = Sequential(input_dim, seed=0).convolution(4, 3)
    figure = viz.maximize_activation(net, "Conv1", np.int64(3), steps=5)
    x, activations = viz.activation_ascent(net, "Conv1", 3, steps=5)
    first, second = figure.get_suptitle().splitlines()
    assert first == "Conv1, channel 3"
    assert second == f"mean activation {activations[0]:.3g} → {activations[-1]:.3g}"
    drawn = tiles(figure)
    assert len(drawn) == (1 if input_dim[0] == 3 else input_dim[0])
    if input_dim[0] == 3:
        np.testing.assert_allclose(drawn[0], scaled(x).transpose(1, 2, 0))
    else:
        np.testing.assert_allclose(drawn, [scaled(plane) for plane in x])
    png(figure)


def test_input_that_is_no_image() -> None:
    net = Sequential((20,), seed=0).affine(3)
    (tile,) = tiles(viz.maximize_activation(net, "Affine1", steps=5))
    np.testing.assert_allclose(tile[0], scaled(viz.activation_ascent(net, "Affine1", steps=5)[0]))


# --- class_activation_map -------------------------------------------------------------------


def looking_for_bright_blobs() -> Sequential:
    """Build a network whose class 1 looks at blurred ink, and class 0 at how dark pixels are."""
    weights = np.stack([-np.ones((1, 3, 3)), np.ones((1, 3, 3))]) / 9
    net = Sequential((1, 16, 24), dtype="f8", seed=0)
    net.add(Convolution(weights, [1.0, 0.0], 1, 1), Relu())
    net.add(Pooling(2, 2, stride=2))
    return net.add(GlobalAveragePooling(), Affine(np.eye(2), np.zeros(2)))


def with_a_blob(row: int, column: int) -> Array:
    image = np.zeros((1, 16, 24))
    image[0, row - 1 : row + 2, column - 1 : column + 2] = 1
    return image


@pytest.mark.parametrize("place", [(3, 4), (3, 20), (12, 4), (9, 13)])
@pytest.mark.parametrize("layer", [None, "Conv1", "Relu1", "Pool1"])
def test_class_activation_is_where_the_blob_is(place: tuple[int, int], layer: str | None) -> None:
    net, image = looking_for_bright_blobs(), with_a_blob(*place)
    heat = viz.class_activation_map(net, image, 1, layer)
    assert heat.shape == (16, 24)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(row - place[0]) <= 1
    assert abs(column - place[1]) <= 1
    far = np.hypot(*(np.indices(heat.shape) - np.reshape(place, (2, 1, 1)))) > 6
    assert heat[far].max() == 0
    dark = viz.class_activation_map(net, image, 0, layer)
    assert dark[place] < 0.7 * dark.max()
    assert np.isclose(dark[far], dark.max()).sum() > 0.5 * far.sum()


def test_cam_is_the_weighted_sum_of_planes() -> None:
    """Zhou et al., equation 2, without what is negative; of the class with the largest score."""
    net = Sequential((3, 9, 7), dtype="f8", seed=0).convolution(6, 3, pad=1)
    net.batch_normalization().add(Dropout(0.25), GlobalAveragePooling(), Flatten()).affine(4)
    net.predict(normal_values((8, 3, 9, 7), seed=1), train_flg=True)  # sets running means
    image = normal_values((3, 9, 7))
    chosen = int(net.predict(image[None]).argmax())
    planes = net.activations(image[None])["BatchNormalization1"][0]
    weights = net.params["W2"][:, chosen] * 0.75  # This dropout scales when not in training.
    expected = np.maximum(np.tensordot(weights, planes, 1), 0)
    for index in (None, chosen):
        heat = viz.class_activation_map(net, image, index)
        np.testing.assert_allclose(heat, expected, rtol=1e-10, atol=1e-12)
    assert expected.max() > 0


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_grad_cam_behind_a_mean_is_cam(dtype: str) -> None:
    """Both agree except for the number of pixels that the mean is of."""
    net, image = branched(dtype), normal_values((2, 8, 8))
    for index in range(5):
        cam = viz.class_activation_map(net, image, index)
        grad_cam = viz.class_activation_map(net, image, index, "Concatenation1")
        tolerance = 100 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(cam, 16 * grad_cam, tolerance, tolerance * cam.max())
        assert cam.dtype == (np.float64 if dtype == "f8" else np.float32)


def test_planes_that_are_classes_are_their_own_maps() -> None:
    net = Sequential((2, 6, 7), dtype="f8", seed=0).convolution(3, 3, pad=1)
    net.add(GlobalAveragePooling())
    image = normal_values((2, 6, 7))
    planes = net.activations(image[None])["Conv1"][0]
    for index in range(3):
        heat = viz.class_activation_map(net, image, index)
        np.testing.assert_allclose(heat, np.maximum(planes[index], 0), rtol=1e-12)
    figure = viz.show_class_activation(NIN((3, 16, 16), seed=0), np.ones((3, 16, 16)))
    assert figure.get_suptitle().splitlines()[1] == "CAM of Relu9"


class Shift:
    """A layer that adds a number to each channel, to find gradients by differences."""

    def __init__(self) -> None:
        self.by: Any = 0.0

    def forward(self, x: Array) -> Array:
        result: Array = x + self.by
        return result

    def backward(self, dout: Array) -> Array:
        return dout


@pytest.mark.parametrize("layer", ["Shift1", "Residual1.Chain1.Shift1", "Concatenation1.Shift1"])
def test_grad_cam_agrees_with_finite_differences(layer: str) -> None:
    """The weight of a channel is the score's growth if all pixels grow, divided by their number."""
    shifts: Any = Shift(), Shift(), Shift()
    net = Sequential((2, 6, 6), dtype="f8", seed=5).convolution(3, 3, pad=1)
    net.batch_normalization().add(shifts[0], Sigmoid())
    body = net.branch().convolution(4, 3, pad=1).add(shifts[1], Sigmoid()).convolution(3, 1)
    net.add(Residual(*body.children, activation=Sigmoid()), Concatenation(shifts[2], Sigmoid()))
    net.add(Pooling(2, 2, stride=2), Dropout(0.5)).affine(4)
    net.predict(normal_values((8, 2, 6, 6), seed=1), train_flg=True)
    image = normal_values((2, 6, 6))
    (planes,) = net.activations(image[None], [layer])[layer]
    shift = shifts[("Shift1", "Residual1.Chain1.Shift1", "Concatenation1.Shift1").index(layer)]

    def scores(channel: int, by: float) -> Array:
        shift.by = by * (np.arange(len(planes)) == channel).reshape(-1, 1, 1)
        result: Array = net.predict(image[None])[0]
        shift.by = 0.0
        return result

    growth = [scores(c, 1e-6) - scores(c, -1e-6) for c in range(len(planes))]
    weights = np.array(growth).T / 2e-6 / 36
    expected = np.maximum(np.tensordot(weights, planes, 1), 0)
    heat = [viz.class_activation_map(net, image, index, layer) for index in range(4)]
    np.testing.assert_allclose(heat, expected, atol=1e-8)
    assert expected.max() > 1e-4


class Negative:
    """A layer that lets nobody change its methods."""

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, dout: Array) -> Array:
        return -dout


def test_layers_whose_methods_cannot_be_replaced() -> None:
    net = Sequential((1, 4, 4), [Negative(), Flatten()], dtype="f8").affine(2)
    image = normal_values((1, 4, 4))
    weight = net.params["W1"][:, 1].mean()
    heat = viz.class_activation_map(net, image, 1, "Negative1")
    np.testing.assert_allclose(heat, np.maximum(-image[0] * weight, 0), atol=1e-12)
    _, activations = viz.activation_ascent(net, "Negative1", steps=1)
    assert activations[1] == pytest.approx(activations[0] + 0.1)


def test_default_layer_is_the_last_with_images_of_several_pixels() -> None:
    def layer_of(net: Sequential) -> str:
        figure = viz.show_class_activation(net, np.ones(net.input_dim))
        return figure.get_suptitle().splitlines()[1]

    single = Sequential((1, 6, 6), seed=0).convolution(2, 3).add(Relu()).convolution(4, 4)
    assert layer_of(single.add(Flatten()).affine(3)) == "Grad-CAM of Relu1"
    assert layer_of(LeNet(seed=0)) == "Grad-CAM of AveragePooling2"
    assert layer_of(ResNet(20, seed=0)) == "CAM of Residual9"
    inner = Sequential((1, 6, 6), seed=0).convolution(2, 3).add(Chain(Relu(), Flatten())).affine(3)
    nested = Sequential((1, 6, 6), [inner])
    assert layer_of(nested) == "Grad-CAM of Sequential1.Chain1.Relu1"
    two = Sequential((1, 6, 6), seed=0).convolution(2, 3).add(GlobalAveragePooling()).affine(4)
    assert layer_of(two.add(Relu()).affine(3)) == "Grad-CAM of Conv1"


@pytest.mark.parametrize(
    ("size", "expected"),
    [(2, [0.0, 0.25, 0.75, 1.0]), (4, [0.0, 1 / 3, 2 / 3, 1.0]), (1, [0.5] * 4)],
)
def test_maps_are_interpolated_between_the_centres_of_pixels(
    size: int, expected: list[float]
) -> None:
    ramp = np.linspace(0, 1, 4).reshape(1, 1, 4)
    if size == 2:  # means of pairs of pixels
        ramp = np.array([0.0, 0.0, 1.0, 1.0]).reshape(1, 1, 4)
    step = 4 // size
    blocks = Convolution(np.full((1, 1, 1, step), 1 / step), None, (1, step))
    net = Sequential((1, 1, 4), [blocks, GlobalAveragePooling(), Affine([[1.0]], None)], dtype="f8")
    layer = "Conv1" if size == 1 else None
    np.testing.assert_allclose(viz.class_activation_map(net, ramp, 0, layer)[0], expected)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_image_with_its_class_activation(channels: int) -> None:
    net = Sequential((channels, 8, 12), dtype="f8", seed=0).convolution(4, 3, stride=2, pad=1)
    net.add(Relu(), GlobalAveragePooling()).affine(3)
    image = normal_values((channels, 8, 12))
    figure = viz.show_class_activation(net, image, np.int64(2))
    plain, below, heat = figure.axes[0].images
    expected = image.transpose(1, 2, 0) if channels == 3 else image.mean(axis=0)
    for one in (plain, below):
        np.testing.assert_allclose(np.asarray(one.get_array()), scaled(expected))
    heat_map = viz.class_activation_map(net, image, 2)
    np.testing.assert_array_equal(np.asarray(heat.get_array()), heat_map)
    assert heat.get_extent() == below.get_extent() != plain.get_extent()
    opacity = np.asarray(heat.get_alpha())
    assert (opacity[heat_map == heat_map.max()] == 1).all()
    assert (np.diff(opacity.ravel()[heat_map.ravel().argsort()]) >= 0).all()
    score = net.predict(image[None])[0, 2]
    assert figure.get_suptitle() == f"class 2, score {score:.3g}\nCAM of Relu1"
    assert figure.axes[1].get_ylim() == pytest.approx((0, heat_map.max()))
    png(figure)


def test_nothing_speaks_for_the_class() -> None:
    net = Sequential((1, 4, 4), [GlobalAveragePooling(), Affine([[-1.0]], None)])
    with pytest.raises(ValueError, match="must have a layer that gives images"):
        viz.class_activation_map(net, np.ones((1, 4, 4)))
    net = Sequential((1, 4, 4), [Relu(), GlobalAveragePooling(), Affine([[-1.0]], None)])
    assert not viz.class_activation_map(net, np.ones((1, 4, 4))).any()
    png(viz.show_class_activation(net, np.ones((1, 4, 4))))


# --- show_network ---------------------------------------------------------------------------

GRAPHS: dict[str, Callable[[], Sequential]] = {
    "small": network,
    "branched": branched,
    "LeNet": lambda: LeNet(seed=0),
    "ResNet": lambda: ResNet(20, seed=0),
    "GoogLeNet": lambda: GoogLeNet((3, 32, 32), 10, seed=0),
    "VGG": lambda: VGG(11, (3, 32, 32), 10, seed=0),
}


def boxes(figure: Figure, *, frames: bool = False) -> list[Any]:
    """Return the boxes of layers, or the frames around them."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [patch for patch in found if (patch.get_zorder() < 3) == frames]


def leaves(layer: Any) -> int:
    """Count the layers that hold no others."""
    inside = children_of(layer)
    return sum(map(leaves, inside)) if inside or layer.__class__ is Chain else 1


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_shows_each_layer_with_its_shape_and_size(name: str) -> None:
    net = GRAPHS[name]()
    figure = viz.show_network(net)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert len(boxes(figure)) == 1 + leaves(net)
    names = [part for path in net._shapes for part in path.split(".")[-1:]]
    for one in set(names):
        assert shown.count(one) >= names.count(one)
    for path, layer in paths(net):
        if isinstance(layer, (Convolution, Affine)):
            assert str(net._shapes[path]).replace(",)", ")") in shown
            assert f"{layer.W.size + (0 if layer.b is None else layer.b.size):,}" in shown
    assert shown[0].startswith(f"{type(net).__name__}, ")
    assert figure.axes[0].get_position().bounds == (0, 0, 1, 1)


@pytest.mark.parametrize("name", GRAPHS)
def test_boxes_of_a_graph_do_not_overlap(name: str) -> None:
    figure = viz.show_network(GRAPHS[name]())
    (first, last), (bottom, _) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert [last - first, bottom] == pytest.approx(figure.get_size_inches())
    edges = [(box.get_x(), box.get_y(), box.get_width(), box.get_height()) for box in boxes(figure)]
    for i, (left, top, wide, high) in enumerate(edges):
        assert min(left - first, top, last - left - wide, bottom - top - high) > 0
        for x, y, w, h in edges[:i]:
            # Boxes beside each other are apart, those of one group touch.
            beside = max(left, x) - min(left + wide, x + w) > 0.1
            assert beside or min(top + high, y + h) - max(top, y) < 1e-6


@pytest.mark.parametrize("name", GRAPHS)
def test_texts_of_a_graph_do_not_overlap(name: str) -> None:
    figure = viz.show_network(GRAPHS[name]())
    figure.savefig(io.BytesIO())
    extents = [text.get_window_extent() for text in figure.axes[0].texts]
    for i, one in enumerate(extents):
        assert figure.bbox.x0 <= one.x0 <= one.x1 <= figure.bbox.x1
        for other in extents[:i]:
            beside = one.x1 <= other.x0 or other.x1 <= one.x0
            # Letters that reach below the line may come close to those of the next line.
            assert beside or min(one.y1, other.y1) - max(one.y0, other.y0) < 3


@pytest.mark.parametrize("name", GRAPHS)
def test_arrows_of_a_graph_lead_to_boxes_sums_and_bars(name: str) -> None:
    net = GRAPHS[name]()
    figure = viz.show_network(net)
    axes = figure.axes[0]
    tops = {
        (round(box.get_x() + box.get_width() / 2, 4), round(box.get_y(), 4))
        for box in boxes(figure)
    }
    sums = [patch for patch in axes.patches if isinstance(patch, Circle)]
    bars = [line for line in axes.lines if line.get_linewidth() > 2]
    kinds = [type(layer) for _, layer in paths(net)]
    assert len(sums) == kinds.count(Residual)
    assert len(bars) == kinds.count(Concatenation)
    assert len(boxes(figure, frames=True)) == len(sums) + len(bars)
    arrived: dict[Any, int] = {}
    for patch in axes.patches:
        if isinstance(patch, Polygon):
            x, y = patch.get_xy()[0].tolist()
            end: Any = (round(x, 4), round(y, 4))
            if end not in tops:
                near = [
                    s
                    for s in sums
                    if abs(np.hypot(*np.subtract(s.center, (x, y))) - s.radius) < 1e-6
                ]
                on = [bar for bar in bars if abs(np.asarray(bar.get_ydata())[0] - y) < 1e-6]
                assert len(near) + len(on) == 1
                end = (near + on)[0]
            arrived[end] = arrived.get(end, 0) + 1
    assert all(arrived[one] == 2 for one in sums)
    branches = [len(layer.children) for _, layer in paths(net) if isinstance(layer, Concatenation)]
    assert [arrived[bar] for bar in bars] == branches
    stuck = sum(end[0] is not None for end in arrived if isinstance(end, tuple))
    assert stuck == sum(arrived[end] for end in arrived if isinstance(end, tuple))  # one each


def test_depth_closes_layers_that_hold_others() -> None:
    inner = Chain(Residual(Convolution(np.ones((4, 4, 1, 1)), np.ones(4))), Relu())
    net = Sequential((4, 6, 6), [inner, Flatten()], seed=0).affine(3)

    def names(depth: int | None) -> list[str]:
        texts = viz.show_network(net, depth).axes[0].texts
        return [t.get_text() for t in texts if t.get_fontweight() == "bold"][1:]

    opened = ["Chain1", "Residual1", "Conv1", "Relu1", "Relu1", "Flatten1", "Affine1"]
    assert sorted(names(None)) == sorted(["input", *opened]) == sorted(names(2))
    assert sorted(names(1)) == sorted(
        ["input", "Chain1", "Residual1", "Relu1", "Flatten1", "Affine1"]
    )
    assert names(0) == ["input", "Chain1", "Flatten1", "Affine1"]
    closed = [text.get_text() for text in viz.show_network(net, 0).axes[0].texts]
    assert closed[closed.index("Chain1") :][:4] == ["Chain1", "(4, 6, 6)", "3 layers", "20"]


@pytest.mark.parametrize("columns", [1, 2, 3, 100])
def test_columns_of_a_graph(columns: int) -> None:
    figure = viz.show_network(VGG(11, (3, 32, 32), 10, seed=0), columns=columns)
    lefts = {round(box.get_x(), 3) for box in boxes(figure)}
    assert len(lefts) <= columns
    if columns < 3:
        assert len(lefts) == columns
    png(viz.show_network(network()))


def test_graph_of_layers_of_ones_own() -> None:
    """A layer that holds others is a box, as it alone knows how it calls them."""

    class Own:
        children = (Relu(),)

        def forward(self, x: Array) -> Array:
            result: Array = self.children[0].forward(x)
            return result

    own: Any = Own()
    own.backward = own.children[0].backward
    shown = [
        text.get_text()
        for text in viz.show_network(Sequential((4,), [own], seed=0).affine(2)).axes[0].texts
    ]
    assert "Own1" in shown
    assert "Relu1" not in shown
    assert "1 layer" in shown


# --- show_images ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 1, 6, 7), (5, 3, 6, 7)])
def test_images(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 17, shape, np.uint8)
    figure = viz.show_images(images, titles=range(5))
    assert labels(figure) == ["0", "1", "2", "3", "4"]
    for tile, image in zip(tiles(figure), images, strict=True):
        plane = image.transpose(1, 2, 0) if shape[1] == 3 else image.reshape(6, 7)
        np.testing.assert_allclose(tile, scaled(plane.astype(np.float32)))
    png(figure)


@pytest.mark.parametrize("nothing", [[], np.empty((0, 1, 28, 28))])
def test_no_images(nothing: Any) -> None:
    figure = viz.show_images(nothing)
    assert [text.get_text() for text in figure.texts] == ["nothing to show"]
    png(figure)


@pytest.mark.parametrize("shape", [(3, 2, 90), (3, 90, 2), (1, 1, 1)])
def test_unusual_images(shape: tuple[int, ...]) -> None:
    file = io.BytesIO()
    viz.show_images(normal_values(shape), ["a"] * shape[0]).savefig(file)
    assert file.tell()


# --- show_history ---------------------------------------------------------------------------

HISTORY = [Epoch(1, 2.0, 0.5, 0.25), Epoch(2, 1.0, 0.75, 0.5), Epoch(3, 0.5, 1.0, 0.75)]


@pytest.mark.parametrize("convert", [lambda epoch: epoch, vars], ids=["objects", "mappings"])
def test_history(convert: Callable[[Epoch], Any]) -> None:
    figure = viz.show_history(map(convert, HISTORY))
    left, right = figure.axes
    (loss,) = left.lines
    np.testing.assert_array_equal(loss.get_xydata(), [[1, 2], [2, 1], [3, 0.5]])
    train, test = right.lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 50], [2, 75], [3, 100]])
    np.testing.assert_array_equal(test.get_xydata(), [[1, 25], [2, 50], [3, 75]])
    assert (train.get_label(), test.get_label()) == ("training", "test")
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy in %"]
    png(figure)


def test_history_of_one_epoch_is_a_point() -> None:
    figure = viz.show_history(HISTORY[:1])
    assert figure.axes[0].lines[0].get_marker() == "o"
    png(figure)


def test_none_in_a_history_is_a_gap() -> None:
    figure = viz.show_history([{**vars(HISTORY[0]), "test_acc": None}, HISTORY[1]])
    points = np.isnan(figure.axes[1].lines[1].get_xydata())
    assert points.tolist() == [[False, True], [False, False]]
    png(figure)


def test_history_without_a_test() -> None:
    """The test accuracy has neither a line nor an entry in the legend."""
    figure = viz.show_history([{**vars(record), "test_acc": None} for record in HISTORY])
    _, right = figure.axes
    assert [line.get_label() for line in right.lines] == ["training"]
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training"]
    png(figure)


# --- Errors ---------------------------------------------------------------------------------

NET = network()
IMAGE = np.zeros((1, 8, 8))
WEIGHTS = np.ones((2, 4, 3, 3))
NAN = np.full((2, 4, 3, 3), np.nan)
LAYERS = (
    "Conv1, BatchNormalization1, Relu1, Pool1, Conv2, Flatten1, Dropout1, Affine1"  # of `network`
)

ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: viz.show_filters(), ValueError, "show_filters: needs at least one array of weights"),
    (
        lambda: viz.show_filters(np.ones((4, 3, 3))),
        ValueError,
        "show_filters: weights must have shape (F, C, KH, KW), got (4, 3, 3)",
    ),
    (
        lambda: viz.show_filters(np.ones((0, 1, 3, 3))),
        ValueError,
        "show_filters: weights must have shape (F, C, KH, KW), got (0, 1, 3, 3)",
    ),
    (
        lambda: viz.show_filters(WEIGHTS, channel=4),
        ValueError,
        "show_filters: channel must be from 0 to 3, got 4",
    ),
    (
        lambda: viz.show_filters(WEIGHTS, channel=-1),
        ValueError,
        "show_filters: channel must be from 0 to 3, got -1",
    ),
    (
        lambda: viz.show_filters(WEIGHTS, channel=1.0),  # type: ignore[arg-type]
        TypeError,
        "show_filters: channel must be an int, got 1.0",
    ),
    (
        lambda: viz.show_filters(WEIGHTS, titles=["before", "after"]),
        ValueError,
        "show_filters: got 2 titles for 1 weights",
    ),
    (
        lambda: viz.show_filters(NAN),
        ValueError,
        "show_filters: weights must be finite, got NaN or infinity",
    ),
    (
        lambda: viz.show_filters(WEIGHTS * 1j),
        TypeError,
        "show_filters: weights must be of float16, float32, float64, integers, bool; "
        "got dtype complex128",
    ),
    (
        lambda: viz.show_feature_maps(NET, IMAGE, "conv1"),
        ValueError,
        f"show_feature_maps: the network has no layer 'conv1', only {LAYERS}",
    ),
    (
        lambda: viz.show_feature_maps(branched(), IMAGE, "Residual2.Conv2"),
        ValueError,
        "show_feature_maps: the network has no layer 'Residual2.Conv2', within Residual2 only "
        "Residual2.Conv1",
    ),
    (
        lambda: viz.show_feature_maps(NET, IMAGE, "Conv1.Relu1"),
        ValueError,
        f"show_feature_maps: the network has no layer 'Conv1.Relu1', only {LAYERS}",
    ),
    (
        lambda: viz.show_feature_maps(NET, IMAGE, 1),  # type: ignore[arg-type]
        TypeError,
        "show_feature_maps: layer must be a string, got 1",
    ),
    (
        lambda: viz.show_feature_maps(NET, IMAGE[0], "Conv1"),
        ValueError,
        "show_feature_maps: image must have shape (1, 8, 8) or (1, 1, 8, 8), got (8, 8)",
    ),
    (
        lambda: viz.show_feature_maps(NET, IMAGE + np.inf, "Conv1"),
        ValueError,
        "show_feature_maps: image must be finite",
    ),
    (
        lambda: viz.show_feature_maps([], IMAGE, "Conv1"),  # type: ignore[arg-type]
        TypeError,
        "show_feature_maps: network must be a Sequential, got list",
    ),
    (
        lambda: viz.show_feature_maps(
            Sequential((1, 8, 8), [Convolution(NAN[:, :1], None)]), IMAGE, "Conv1"
        ),
        ValueError,
        "show_feature_maps: the output of Conv1 must be finite",
    ),
    (
        lambda: viz.apply_filters(np.ones((2, 8, 8))),
        ValueError,
        "apply_filters: image must have shape (H, W), (1, H, W) or (3, H, W), got (2, 8, 8)",
    ),
    (
        lambda: viz.apply_filters(np.ones((1, 1, 8, 8))),
        ValueError,
        "apply_filters: image must have shape (H, W), (1, H, W) or (3, H, W), got (1, 1, 8, 8)",
    ),
    (
        lambda: viz.apply_filters(np.ones((0, 8))),
        ValueError,
        "apply_filters: image must have shape (H, W), (1, H, W) or (3, H, W), got (0, 8)",
    ),
    (
        lambda: viz.apply_filters(IMAGE, {"a": np.ones(3)}),
        ValueError,
        "apply_filters: filter 'a' must have shape (KH, KW), got (3,)",
    ),
    (
        lambda: viz.apply_filters(IMAGE, {"a": [["x"]]}),
        TypeError,
        "apply_filters: filter 'a' must be of float16, float32, float64, integers, bool",
    ),
    (
        lambda: viz.apply_filters(IMAGE, [np.ones((3, 3))]),  # type: ignore[arg-type]
        TypeError,
        "apply_filters: filters must be a mapping of names to arrays, got list",
    ),
    (
        lambda: viz.apply_filters(IMAGE, pad_mode="zeros"),
        ValueError,
        "apply_filters: pad_mode must be one of",
    ),
    (
        lambda: viz.apply_filters(IMAGE, {"a": np.ones((9, 9))}, padding=0),
        ValueError,
        "apply_filters: kernel (9, 9) with dilation (1, 1) does not fit the padded input (8, 8)",
    ),
    (
        lambda: viz.maximize_activation(NET, "Conv3"),
        ValueError,
        f"maximize_activation: the network has no layer 'Conv3', only {LAYERS}",
    ),
    (
        lambda: viz.maximize_activation(NET, "Conv1", 4),
        ValueError,
        "maximize_activation: channel must be from 0 to 3, got 4",
    ),
    (
        lambda: viz.maximize_activation(NET, "Affine1", "0"),  # type: ignore[arg-type]
        TypeError,
        "maximize_activation: channel must be an int, got '0'",
    ),
    (
        lambda: viz.maximize_activation(NET, "Conv1", steps=0),
        ValueError,
        "maximize_activation: steps must be a positive int, got 0",
    ),
    (
        lambda: viz.maximize_activation(NET, "Conv1", lr=0.0),
        ValueError,
        "maximize_activation: lr must be a positive number, got 0.0",
    ),
    (
        lambda: viz.maximize_activation(NET, "Conv1", lr=np.nan),
        ValueError,
        "maximize_activation: lr must be a positive number, got nan",
    ),
    (
        lambda: viz.class_activation_map(NET, IMAGE, 6),
        ValueError,
        "class_activation_map: class_index must be from 0 to 5, got 6",
    ),
    (
        lambda: viz.class_activation_map(NET, IMAGE, 1.0),  # type: ignore[arg-type]
        TypeError,
        "class_activation_map: class_index must be an int, got 1.0",
    ),
    (
        lambda: viz.class_activation_map(NET, IMAGE, layer="Flatten1"),
        ValueError,
        "class_activation_map: layer must be one that gives images (C, H, W), Flatten1 gives (20,)",
    ),
    (
        lambda: viz.class_activation_map(NET, IMAGE, layer="Conv9"),
        ValueError,
        f"class_activation_map: the network has no layer 'Conv9', only {LAYERS}",
    ),
    (
        lambda: viz.class_activation_map(Sequential((4,)).affine(2), np.ones(4)),
        ValueError,
        "class_activation_map: network must have inputs that are images (C, H, W), they are (4,)",
    ),
    (
        lambda: viz.class_activation_map(Sequential((1, 8, 8)).convolution(2, 3), IMAGE),
        ValueError,
        "class_activation_map: network must have outputs that are scores (classes,), "
        "they are (2, 6, 6)",
    ),
    (
        lambda: viz.show_class_activation(NET, IMAGE[0]),
        ValueError,
        "show_class_activation: image must have shape (1, 8, 8) or (1, 1, 8, 8), got (8, 8)",
    ),
    (
        lambda: viz.show_class_activation(Affine, IMAGE),  # type: ignore[arg-type]
        TypeError,
        "show_class_activation: network must be a Sequential, got type",
    ),
    (
        lambda: viz.class_activation_map(
            Sequential((1, 8, 8), [Convolution(NAN[:, :1], None), Flatten()]).affine(2), IMAGE
        ),
        ValueError,
        "class_activation_map: the output of Conv1 must be finite, got NaN or infinity",
    ),
    (
        lambda: viz.show_network(IMAGE),  # type: ignore[arg-type]
        TypeError,
        "show_network: network must be a Sequential, got ndarray",
    ),
    (
        lambda: viz.show_network(NET, -1),
        ValueError,
        "show_network: depth must be 0 or larger, got -1",
    ),
    (
        lambda: viz.show_network(NET, "all"),  # type: ignore[arg-type]
        TypeError,
        "show_network: depth must be an int, got 'all'",
    ),
    (
        lambda: viz.show_network(NET, columns=0),
        ValueError,
        "show_network: columns must be a positive int, got 0",
    ),
    (
        lambda: viz.show_images(np.ones((2, 2, 8, 8))),
        ValueError,
        "show_images: images must have shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), "
        "got (2, 2, 8, 8)",
    ),
    (
        lambda: viz.show_images(np.ones((8, 8))),
        ValueError,
        "show_images: images must have shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), got (8, 8)",
    ),
    (
        lambda: viz.show_images(np.ones((2, 8, 8)), titles=["a"]),
        ValueError,
        "show_images: got 1 titles for 2 images",
    ),
    (lambda: viz.show_images(7), ValueError, "show_images: images must have shape"),
    (lambda: viz.show_history([]), ValueError, "show_history: history has no epochs"),
    (
        lambda: viz.show_history([{"epoch": 1}]),
        ValueError,
        "show_history: history[0] has no train_loss, got {'epoch': 1}",
    ),
    (
        lambda: viz.show_history({"epoch": [1, 2]}),
        ValueError,
        "show_history: history[0] has no epoch, got 'epoch'",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_missing_matplotlib() -> None:
    result = run_python(
        "import sys\n"
        "sys.modules['matplotlib'] = sys.modules['matplotlib.figure'] = None\n"
        "from fastconv import viz\n"
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == "ImportError: fastconv.viz needs matplotlib: pip install 'fastconv[viz]'"


def test_pyplot_is_not_imported() -> None:
    code = "import sys; from fastconv import viz; print('matplotlib.pyplot' in sys.modules)"
    assert run_python(code).stdout == "False\n"
    assert "matplotlib" in sys.modules
