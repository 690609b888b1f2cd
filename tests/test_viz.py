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
from fastconv.layers import Convolution, Dropout, Flatten, Pooling, Relu
from fastconv.models import Sequential, SimpleConvNet
from fastconv.training import Epoch

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from matplotlib import image as matplotlib_image

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
