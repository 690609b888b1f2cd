"""Pictures of what a network has learned and of what filters do; needs matplotlib.

Every function returns a `matplotlib.figure.Figure` that belongs to nobody else: a notebook shows
it, and ``figure.savefig("name.png")`` writes it. Nothing else of matplotlib is touched.

Pictures show numbers of any range: unless something else is said, the smallest of a picture is
black and the largest white.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arguments import Padding, generator, number, positive
from fastconv._arrays import NUMBERS, Array, read
from fastconv._errors import argument_error, named, shown
from fastconv._filter_bank import FILTERS, as_pixels, convolve, response_as_pixels
from fastconv.layers import Convolution
from fastconv.models import Sequential

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError("fastconv.viz needs matplotlib: pip install 'fastconv[viz]'") from error

__all__ = [
    "activation_ascent",
    "apply_filters",
    "maximize_activation",
    "show_feature_maps",
    "show_filters",
    "show_history",
    "show_images",
]

START = 0.01
"""The standard deviation of the noise that an ascent starts from."""

LEAST_INCHES, MOST_INCHES = 3.5, 12.0
"""The bounds of a figure's longer side. Between them, the longer side of a tile is an inch."""
LABEL_POINTS = 8.0
"""The size of a label's letters where the longer side of a tile is an inch."""
GAP, LABEL_GAP = 0.06, 0.2
"""The space between tiles, without and with labels, as a fraction of a tile's longer side."""


@named
def show_filters(
    *weights: npt.ArrayLike | Convolution, titles: Sequence[str] = (), channel: SupportsIndex = 0
) -> Figure:
    """Draw the filters of convolutions, for instance before and after training.

    Parameters
    ----------
    *weights : array_like, shape (F, C, KH, KW), or Convolution
        Filters; each of the arguments becomes a panel, side by side.
    titles : sequence of str, optional
        Of the panels.
    channel : int, default 0
        Channel to draw. Filters of three channels are drawn in colour instead.

    Returns
    -------
    matplotlib.figure.Figure
        A tile for every filter, row by row. Each is scaled by itself.

    Raises
    ------
    TypeError
        If weights are no numbers.
    ValueError
        If weights are of another shape, empty or not finite, if there are none, if they have no
        such channel, or if there are not as many titles.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> rng = np.random.default_rng(0)
    >>> before, after = rng.random((2, 30, 1, 5, 5))
    >>> figure = viz.show_filters(before, after, titles=["before", "after"])
    >>> [axes.get_title() for axes in figure.axes]
    ['before', 'after']
    """
    if not weights:
        raise argument_error(ValueError, "needs at least one array of weights or a Convolution")
    _check_titles(titles, len(weights), "weights")
    panels = []
    for i, weight in enumerate(weights):
        array = _finite("weights", weight.W if isinstance(weight, Convolution) else weight)
        if array.ndim != 4 or not array.size:
            raise argument_error(
                ValueError, f"weights must have shape (F, C, KH, KW), got {array.shape}"
            )
        place = _place("channel", channel, array.shape[1])
        chosen = array if array.shape[1] == 3 else array[:, place : place + 1]
        panels.append(_Panel(_pictures(chosen), title=titles[i] if titles else ""))
    return _figure(panels)


@named
def show_feature_maps(network: Sequential, image: npt.ArrayLike, layer: str) -> Figure:
    """Draw the output of a layer for an image: a heat map of every channel.

    Parameters
    ----------
    network : Sequential
        Network.
    image : array_like, shape input_dim or (1, *input_dim)
        Image that the network is applied to.
    layer : str
        Name of the layer, such as ``"Conv1"``.

    Returns
    -------
    matplotlib.figure.Figure
        A tile for every channel, with its number, and one scale of colours for all. Outputs that
        are no planes, of an `Affine` for instance, are one row.

    Raises
    ------
    TypeError
        If `network` is no `Sequential` or the image no array of numbers.
    ValueError
        If the image is of another shape, the network has no such layer, or what it gives is not
        finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> from fastconv.models import SimpleConvNet
    >>> network = SimpleConvNet(seed=0)
    >>> figure = viz.show_feature_maps(network, np.ones((1, 28, 28)), "Conv1")
    >>> figure.get_suptitle(), len(figure.axes[0].images)
    ('Conv1', 30)
    """
    part = _up_to(network, layer)
    array = _finite("image", image)
    shapes = network.input_dim, (1, *network.input_dim)
    if array.shape not in shapes:
        raise argument_error(
            ValueError, f"image must have shape {shapes[0]} or {shapes[1]}, got {array.shape}"
        )
    output = part.predict(array.reshape(shapes[1]))[0]
    maps = _finite(f"the output of {layer}", output)
    planes = maps.ndim == 3
    panel = _Panel(list(maps), range(len(maps))) if planes else _Panel([_row(maps)])
    norm = Normalize(maps.min(), maps.max())
    figure = _figure([panel], layer, cmap="viridis", norm=norm)
    axes = figure.axes[0]
    if not planes:
        axes.set_axis_on()
        axes.locator_params("x", integer=True)
        axes.set_yticks([])
    figure.set_figwidth(figure.get_figwidth() + 1)
    figure.colorbar(axes.images[0], ax=axes)
    return figure


@named
def apply_filters(
    image: npt.ArrayLike,
    filters: Mapping[str, npt.ArrayLike] | None = None,
    pad_mode: str = "constant",
    padding: Padding = "same",
) -> Figure:
    """Draw an image and the responses of filters to it.

    Parameters
    ----------
    image : array_like, shape (H, W), (1, H, W) or (3, H, W)
        Gray or colour; each channel is filtered by itself. Pixels are drawn from the smallest, or
        0, to the largest.
    filters : mapping of str to array_like, optional
        Two-dimensional filters by name; by default edges, Laplacian, sharpen, blur and emboss.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        What padding shows, as in `numpy.pad`.
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default "same"
        Padding; with "same" the responses are of the image's size.

    Returns
    -------
    matplotlib.figure.Figure
        The image and the responses. Filters whose weights sum to 0 are drawn around a mid-gray,
        each scaled to its largest response; the others are clipped to the range of the image.

    Raises
    ------
    TypeError
        If the image or a filter are no numbers, or `filters` no mapping.
    ValueError
        If one of them is of another shape, empty or not finite, or a filter does not fit.

    See Also
    --------
    fastconv.conv2d : What computes the responses.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> figure = viz.apply_filters(np.eye(8), pad_mode="edge")
    >>> [text.get_text() for text in figure.axes[0].texts][:3]
    ['image', 'horizontal-edges', 'vertical-edges']
    """
    pixels = _finite("image", image)
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or len(pixels) not in (1, 3) or not pixels.size:
        raise argument_error(
            ValueError,
            f"image must have shape (H, W), (1, H, W) or (3, H, W), got {np.shape(image)}",
        )
    if filters is None:
        filters = FILTERS
    elif not isinstance(filters, Mapping):
        raise argument_error(
            TypeError, f"filters must be a mapping of names to arrays, got {type(filters).__name__}"
        )
    low, high = min(0, pixels.min()), max(0, pixels.max())
    tiles = [as_pixels(pixels, low, high)]
    for name, weights in filters.items():
        kernel = _finite(f"filter {name!r}", weights)
        if kernel.ndim != 2 or not kernel.size:
            raise argument_error(
                ValueError, f"filter {name!r} must have shape (KH, KW), got {kernel.shape}"
            )
        response = convolve(pixels, kernel, padding, pad_mode)
        tiles.append(response_as_pixels(response, kernel, low, high))
    panel = _Panel([_channels_last(tile) for tile in tiles], ["image", *filters])
    title = f"padding: {padding}, pad_mode: {pad_mode}"
    return _figure([panel], title, norm=Normalize(0, 255))


@named
def activation_ascent(
    network: Sequential,
    layer: str,
    channel: SupportsIndex = 0,
    *,
    steps: SupportsIndex = 100,
    lr: float = 0.1,
    seed: int | np.random.Generator = 0,
) -> tuple[Array, list[float]]:
    """Change an input until a channel of a layer responds strongly: activation maximisation.

    Parameters
    ----------
    network : Sequential
        Network. It is only read: its layers also keep what a forward pass left in them.
    layer : str
        Name of the layer, such as ``"Conv1"``.
    channel : int, default 0
        Channel whose mean is to grow or, of a layer that gives no planes, the output that is.
    steps : int, default 100
        Number of changes of the input.
    lr : float, default 0.1
        Root mean square of the change in each step.
    seed : int or numpy.random.Generator, default 0
        For the noise to start from.

    Returns
    -------
    x : ndarray of float64, shape input_dim
        Input after the last step.
    activations : list of float
        The mean that is maximised, before the first step and after each step.

    Raises
    ------
    TypeError
        If `network` is no `Sequential`, or numbers are of the wrong type.
    ValueError
        If the network has no such layer, the layer no such channel, or `steps` or `lr` are not
        positive.

    Notes
    -----
    Every step goes along the gradient in evaluation mode, divided by its root mean square. Where
    the gradient is 0, behind a `Relu` that lets nothing through, the ascent stays where it is;
    asking for the layer before helps.

    References
    ----------
    .. [1] D. Erhan, Y. Bengio, A. Courville and P. Vincent, "Visualizing Higher-Layer Features of
       a Deep Network", University of Montreal, technical report 1341, 2009

    Examples
    --------
    >>> from fastconv import viz
    >>> from fastconv.models import SimpleConvNet
    >>> x, activations = viz.activation_ascent(SimpleConvNet(seed=0), "Conv1", 7, steps=20)
    >>> x.shape, len(activations), activations[-1] > activations[0]
    ((1, 28, 28), 21, True)
    """
    part = _up_to(network, layer)
    place = _place("channel", channel, part.output_dim[0])
    count = positive(steps, "steps")
    rate = number(lr, "lr", "a positive number")
    if not (rate > 0 and math.isfinite(rate)):
        raise argument_error(ValueError, f"lr must be a positive number, got {lr}")
    # The input is float64, whatever the network computes in: squares of small gradients must not
    # vanish.
    x = START * generator(seed).standard_normal((1, *network.input_dim))
    goal = np.zeros((1, *part.output_dim), network.dtype)
    goal[:, place] = 1 / goal[:, place].size

    def activation() -> float:
        return float(part.predict(x)[:, place].mean(dtype=np.float64))

    activations = [activation()]
    for _ in range(count):
        grads: Array = part.backward(goal).astype(np.float64)
        rms = math.sqrt(np.square(grads).mean())
        if rms > 0:
            x += rate / rms * grads
        activations.append(activation())
    return x[0], activations


@named
def maximize_activation(
    network: Sequential,
    layer: str,
    channel: SupportsIndex = 0,
    *,
    steps: SupportsIndex = 100,
    lr: float = 0.1,
    seed: int | np.random.Generator = 0,
) -> Figure:
    """Draw the input that a channel of a layer responds to strongly.

    Parameters
    ----------
    network, layer, channel, steps, lr, seed
        As in `activation_ascent`, which finds the input.

    Returns
    -------
    matplotlib.figure.Figure
        The input, in colour if it has three channels; else its channels. The title says what the
        activation was before and after.

    Raises
    ------
    TypeError, ValueError
        As in `activation_ascent`; also if the input found is not finite.

    Examples
    --------
    >>> from fastconv import viz
    >>> from fastconv.models import SimpleConvNet
    >>> figure = viz.maximize_activation(SimpleConvNet(seed=0), "Conv1", 7, steps=20)
    >>> print(figure.get_suptitle().splitlines()[0])
    Conv1, channel 7
    """
    x, activations = activation_ascent(network, layer, channel, steps=steps, lr=lr, seed=seed)
    x = _finite("the input found", x)
    if x.ndim != 3:
        x = _row(x)[None]
    planes = x[None] if len(x) == 3 else x[:, None]
    title = (
        f"{layer}, channel {operator.index(channel)}\n"
        f"mean activation {activations[0]:.3g} → {activations[-1]:.3g}"
    )
    return _figure([_Panel(_pictures(planes))], title)


@named
def show_images(images: npt.ArrayLike, titles: Sequence[object] = ()) -> Figure:
    """Draw images in a grid, for instance those that a network gets wrong.

    Parameters
    ----------
    images : array_like, shape (N, H, W), (N, 1, H, W) or (N, 3, H, W)
        Images, gray or colour. Each is scaled by itself.
    titles : sequence, optional
        What to write above each.

    Returns
    -------
    matplotlib.figure.Figure
        The images, row by row. If there are none, the figure says so.

    Raises
    ------
    TypeError
        If images are no numbers.
    ValueError
        If they are of another shape or not finite, or if there are not as many titles.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> figure = viz.show_images(np.ones((2, 1, 28, 28)), titles=["4, not 9", "3, not 5"])
    >>> len(figure.axes[0].images)
    2
    """
    array = _finite("images", images)
    _check_titles(titles, len(np.atleast_1d(array)), "images")
    if array.ndim and not len(array):
        figure = Figure((LEAST_INCHES, 1))
        figure.text(0.5, 0.5, "nothing to show", ha="center", va="center")
        return figure
    planes = array[:, None] if array.ndim == 3 else array
    if planes.ndim != 4 or planes.shape[1] not in (1, 3) or not planes.size:
        raise argument_error(
            ValueError,
            f"images must have shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {array.shape}",
        )
    return _figure([_Panel(_pictures(planes), titles)])


@named
def show_history(history: Iterable[Any]) -> Figure:
    """Draw a learning curve.

    Parameters
    ----------
    history : iterable of mappings or objects
        What was measured in each epoch: ``epoch``, ``train_loss``, ``train_acc`` and ``test_acc``,
        as keys or as attributes. Accuracies are from 0 to 1. None is not drawn.

    Returns
    -------
    matplotlib.figure.Figure
        The loss on the left, the accuracies in per cent on the right.

    Raises
    ------
    ValueError
        If there are no epochs, or one of them lacks a value.

    Examples
    --------
    >>> from fastconv import viz
    >>> history = [
    ...     {"epoch": 1, "train_loss": 1.2, "train_acc": 0.70, "test_acc": 0.68},
    ...     {"epoch": 2, "train_loss": 0.4, "train_acc": 0.93, "test_acc": 0.91},
    ... ]
    >>> figure = viz.show_history(history)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy in %']
    """
    names = ("epoch", "train_loss", "train_acc", "test_acc")
    if not isinstance(history, Iterable):
        raise argument_error(
            TypeError, f"history must be a sequence of epochs, got {shown(history)}"
        )
    rows = [[_measured(i, record, name) for name in names] for i, record in enumerate(history)]
    if not rows:
        raise argument_error(ValueError, "history has no epochs")
    epochs, losses, train, test = np.array(rows).T
    figure = Figure((8, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    marker = "o" if len(rows) == 1 else ""  # A line needs two points.
    left.plot(epochs, losses, marker=marker)
    left.set_ylabel("loss")
    right.plot(epochs, 100 * train, marker=marker, label="training")
    if not np.isnan(test).all():
        right.plot(epochs, 100 * test, marker=marker, label="test")
    right.set_ylabel("accuracy in %")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.locator_params("x", integer=True)
        axes.grid(alpha=0.3)
    return figure


# ---- reading arguments -----------------------------------------------------------------------


def _finite(name: str, value: npt.ArrayLike) -> Array:
    """Read an array of finite numbers; float16 becomes float32, which all drawing takes."""
    array = read(value, name, NUMBERS)
    if not np.isfinite(array).all():
        raise argument_error(ValueError, f"{name} must be finite, got NaN or infinity")
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _place(name: str, value: SupportsIndex, size: int) -> int:
    try:
        place = operator.index(value)
    except TypeError:
        raise argument_error(TypeError, f"{name} must be an int, got {shown(value)}") from None
    if not 0 <= place < size:
        raise argument_error(ValueError, f"{name} must be from 0 to {size - 1}, got {place}")
    return place


def _check_titles(titles: Sequence[object], count: int, what: str) -> None:
    try:
        number_of_titles = len(titles)
    except TypeError:
        raise argument_error(TypeError, f"titles must be a sequence, got {shown(titles)}") from None
    if number_of_titles not in (0, count):
        raise argument_error(ValueError, f"got {number_of_titles} titles for {count} {what}")


def _up_to(network: Sequential, layer: str) -> Sequential:
    """Return a network that ends with a copy of the layer of this name.

    What layers keep from a forward pass for the backward pass belongs to the user, who may be
    between the two. So the layers are copies, which share no array but the parameters.
    """
    if not isinstance(network, Sequential):
        raise argument_error(
            TypeError, f"network must be a Sequential, got {type(network).__name__}"
        )
    names = list(network.layers)
    if layer not in names:
        raise argument_error(
            ValueError, f"the network has no layer {layer!r}, only {', '.join(names)}"
        )
    layers = list(network.layers.values())[: names.index(layer) + 1]
    # deepcopy takes what its memo holds under an object's identity for the object's copy.
    memo = {id(array): array for array in network.state.values()}
    return Sequential(network.input_dim, copy.deepcopy(layers, memo), dtype=network.dtype, seed=0)


def _measured(place: int, record: Any, name: str) -> float:
    try:
        value = record[name] if isinstance(record, Mapping) else getattr(record, name)
    except (KeyError, AttributeError):
        raise argument_error(
            ValueError, f"history[{place}] has no {name}, got {shown(record)}"
        ) from None
    return math.nan if value is None else number(value, f"history[{place}]: {name}")


# ---- drawing ---------------------------------------------------------------------------------


def _channels_last(image: Array) -> Array:
    """Turn (1, H, W) into (H, W), and (3, H, W) into (H, W, 3)."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def _pictures(images: Array) -> list[Array]:
    """Scale each of the images (N, 1 or 3, H, W) to 0 to 1."""
    axes = (1, 2, 3)
    low, high = images.min(axes, keepdims=True), images.max(axes, keepdims=True)
    scaled = (images - low) / np.where(high > low, high - low, 1)
    return [_channels_last(image) for image in scaled]


def _row(values: Array) -> Array:
    """Turn values that are no image into one row, thick enough to be seen."""
    return np.broadcast_to(values.reshape(-1), (-(-values.size // 5), values.size))


class _Panel:
    """Tiles (H, W) or (H, W, 3) in a grid, with labels above them and a title above all."""

    def __init__(
        self, tiles: Sequence[Array], labels: Sequence[object] = (), title: str = ""
    ) -> None:
        self.tiles, self.labels, self.title = tiles, labels, title
        self.tile_h = max(tile.shape[0] for tile in tiles)
        self.tile_w = max(tile.shape[1] for tile in tiles)
        self.side = max(self.tile_h, self.tile_w)
        self.cell_h = self.tile_h + self.side * (LABEL_GAP if labels else GAP)
        self.cell_w = self.tile_w + self.side * GAP
        # A grid has half as many columns again as it has rows, because screens are wide.
        self.columns = min(len(tiles), math.ceil(math.sqrt(1.5 * len(tiles))))
        self.height = -(-len(tiles) // self.columns) * self.cell_h
        self.width = self.columns * self.cell_w

    def draw(self, axes: Axes, points: float, look: Mapping[str, Any]) -> None:
        """Draw all tiles into one axes: an axes each takes seconds for a hundred of them."""
        for i, tile in enumerate(self.tiles):
            row, column = divmod(i, self.columns)
            # The origin is the centre of the first pixel. Smaller tiles stand in the middle of
            # their cells.
            top = row * self.cell_h + (self.tile_h - tile.shape[0]) / 2 - 0.5
            left = column * self.cell_w + (self.tile_w - tile.shape[1]) / 2 - 0.5
            axes.imshow(
                tile,
                extent=(left, left + tile.shape[1], top + tile.shape[0], top),
                origin="upper",
                interpolation="nearest",
                **look,
            )
            if self.labels:
                middle = left + tile.shape[1] / 2
                text = str(self.labels[i])
                axes.text(middle, top, text, ha="center", va="bottom", fontsize=points)
        axes.set_xlim(-0.5, self.width - self.side * GAP - 0.5)
        axes.set_ylim(self.height - self.cell_h + self.tile_h - 0.5, -0.5)
        axes.set_axis_off()
        axes.set_title(self.title)


def _figure(
    panels: Sequence[_Panel], title: str = "", *, cmap: str = "gray", norm: Normalize | None = None
) -> Figure:
    """Draw panels side by side; by default 0 is black and 1 is white."""
    widths = [panel.width / panel.side for panel in panels]
    width, height = sum(widths), max(panel.height / panel.side for panel in panels)
    longest = max(width, height)
    inches = min(max(longest, LEAST_INCHES), MOST_INCHES) / longest
    lines = len(title.splitlines()) + any(panel.title for panel in panels)
    figure = Figure(
        (max(width * inches, LEAST_INCHES), max(height * inches, 0.5) + 0.3 * lines),
        layout="constrained",
    )
    row = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    look = {"cmap": cmap, "norm": norm or Normalize(0, 1)}
    for axes, panel in zip(row, panels):
        panel.draw(axes, min(1, inches) * LABEL_POINTS, look)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure
