"""Which pixels of an image speak for a class: class activation maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arrays import Array
from fastconv._errors import argument_error, named
from fastconv._explanation._arguments import (
    check_layer,
    check_network,
    finite,
    images_of,
    place_of,
    up_to,
)
from fastconv._layer import is_chain
from fastconv._structure import named_children, paths, replaced
from fastconv.layers import Affine, Dropout, Flatten, GlobalAveragePooling
from fastconv.models import Sequential

__all__ = ["Explanation", "class_activation_map", "explanation", "resized"]


class Explanation(NamedTuple):
    """A map in the layer's resolution, and what it explains."""

    heat: Array
    class_index: int | str
    score: float
    layer: str
    method: str


@named
def class_activation_map(
    network: Sequential,
    image: npt.ArrayLike,
    class_index: SupportsIndex | None = None,
    layer: str | None = None,
) -> Array:
    """Tell how strongly each pixel of an image speaks for a class.

    The channels of one layer are added, each with a weight for the class; what is negative becomes
    0. If the network ends with global average pooling and one `Affine`, the weights are those of
    the `Affine`: this is the class activation map (CAM) of [1]_. If it ends with global average
    pooling alone, as `NIN` does, the map is the class's own channel. For all other networks, or if
    `layer` is given, the weight of a channel is the mean of the gradient of the score: this is
    Grad-CAM [2]_.

    Parameters
    ----------
    network : Sequential
        Network. It is only read: its layers also keep what a forward pass left in them.
    image : array_like, shape (C, H, W) or (1, C, H, W)
        Image that the network is applied to.
    class_index : int, optional
        The class, by default the one with the largest score.
    layer : str, optional
        Name of the layer, such as ``"Relu2"``, or path to a layer that others hold, such as
        ``"Residual1.Chain1.Conv2"``. By default it is the last one before the network makes a row
        of each image, apart from those that give a single pixel.

    Returns
    -------
    ndarray, shape (H, W)
        The map of float32 or float64, 0 or larger. It is interpolated linearly from the resolution
        of the layer to that of the image.

    Raises
    ------
    TypeError
        If `network` is no `Sequential`, the image no array of numbers, `class_index` no int, or
        `layer` no string.
    ValueError
        If inputs are no images, outputs are no scores, the image is of another shape, there is no
        such class or layer, the layer gives no images, or what it gives is not finite.

    See Also
    --------
    fastconv.viz.show_class_activation : A picture of it.

    Notes
    -----
    Gradients are those of the score before softmax, in evaluation mode. For a network that ends
    with global average pooling and one `Affine`, Grad-CAM of the same layer is CAM divided by the
    number of the layer's pixels.

    References
    ----------
    .. [1] B. Zhou, A. Khosla, A. Lapedriza, A. Oliva and A. Torralba, "Learning Deep Features for
       Discriminative Localization", CVPR 2016, https://arxiv.org/abs/1512.04150
    .. [2] R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
       Gradient-based Localization", ICCV 2017, https://arxiv.org/abs/1610.02391

    Examples
    --------
    The class of this network has the weights 1 and 0: only the first channel, which is the image
    itself, speaks for it.

    >>> import numpy as np
    >>> from fastconv import viz
    >>> from fastconv.layers import Affine, Convolution, GlobalAveragePooling
    >>> from fastconv.models import Sequential
    >>> both = Convolution(np.array([1.0, -1.0]).reshape(2, 1, 1, 1), None)
    >>> ending = [GlobalAveragePooling(), Affine([[1.0], [0.0]], None)]
    >>> network = Sequential((1, 2, 2), [both, *ending])
    >>> viz.class_activation_map(network, [[[0.0, 3.0], [1.0, -2.0]]])
    array([[0., 3.],
           [1., 0.]])
    """
    explained = explanation(network, image, class_index, layer)
    return resized(explained.heat, network.input_dim[1:])


def explanation(
    network: Sequential, image: npt.ArrayLike, class_index: SupportsIndex | None, layer: str | None
) -> Explanation:
    """Read the arguments, and compute the map in the resolution of the layer."""
    check_network(network)
    _check_dimensions(network)
    images = images_of(network, image)
    chosen = class_index
    if chosen is not None:
        chosen = place_of("class_index", chosen, network.output_dim[0])
    name = _last_images(network) if layer is None else _image_layer(network, layer)
    copied = up_to(network)
    last = list(copied.layers)[-1]
    outputs = copied.activations(images, [name, last])
    maps = finite(f"the output of {name}", outputs[name][0])
    scores = finite("the scores", outputs[last][0])
    if chosen is None:
        chosen = int(scores.argmax())
    goal = np.zeros((1, *copied.output_dim), copied.dtype)
    goal[0, chosen] = 1
    grads = finite("the gradient", _gradient(copied, name, goal)[0])
    is_cam = layer is None and _ends_with_mean(network, name)
    # Behind a mean over H*W pixels, each pixel's gradient is the weight of its channel divided by
    # H*W, so that their sum is that weight.
    weights = grads.sum(axis=(1, 2)) if is_cam else grads.mean(axis=(1, 2))
    heat = np.maximum(np.tensordot(weights, maps, 1), 0)
    method = "CAM" if is_cam else "Grad-CAM"
    return Explanation(heat, chosen, float(scores[chosen]), name, method)


def _check_dimensions(network: Sequential) -> None:
    """Raise a ValueError unless a network makes scores of images."""
    for what, dims, expected, length in (
        ("inputs", network.input_dim, "images (C, H, W)", 3),
        ("outputs", network.output_dim, "scores (classes,)", 1),
    ):
        if len(dims) != length:
            raise argument_error(
                ValueError, f"network must have {what} that are {expected}, they are {dims}"
            )


def _image_layer(network: Sequential, layer: str) -> str:
    """Read the name of a layer that gives images."""
    check_layer(network, layer, network._shapes)
    shape = network._shapes[layer]
    if len(shape) != 3:
        raise argument_error(
            ValueError, f"layer must be one that gives images (C, H, W), {layer} gives {shape}"
        )
    return layer


def _last_images(network: Sequential) -> str:
    """Find the last layer that gives images of several pixels before there are no more images."""
    found = None
    for path, _ in _steps(network):
        shape = network._shapes.get(path)
        if shape is not None and len(shape) != 3:
            break
        if shape is not None and shape[1:] != (1, 1):
            found = path
    if found is None:
        raise argument_error(
            ValueError, "network must have a layer that gives images of more than one pixel"
        )
    return found


def _steps(layer: Any, outer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the layers that compute one after the other with their paths, those of chains too."""
    for name, child in named_children(layer):
        if is_chain(child):
            yield from _steps(child, f"{outer}{name}.")
        else:
            yield f"{outer}{name}", child


def _ends_with_mean(network: Sequential, name: str) -> bool:
    """Tell whether scores are linear in the means of the planes that a layer gives."""
    steps = list(_steps(network))
    place = [path for path, _ in steps].index(name)
    kinds = [type(layer) for _, layer in steps[place + 1 :]]
    behind = [kind for kind in kinds if kind not in (Dropout, Flatten)]
    return behind in ([GlobalAveragePooling], [GlobalAveragePooling, Affine])


def _gradient(network: Sequential, name: str, goal: Array) -> Array:
    """Return the gradient of what a layer gave in the last `forward`, from that of the scores."""
    outermost, is_inner, _ = name.partition(".")
    layers = list(network.layers.items())
    while layers[-1][0] != outermost:
        goal = layers.pop()[1].backward(goal)
    if not is_inner:
        return goal
    layer = dict(paths(network))[name]
    backward, caught = layer.backward, []

    def catch(grads: Array) -> Array:
        caught.append(grads)
        return np.asarray(backward(grads))

    with replaced(layer, "backward", catch):
        layers[-1][1].backward(goal)
    return np.asarray(caught[0])


def resized(plane: Array, shape: tuple[int, ...]) -> Array:
    """Interpolate a plane linearly, such that its pixels cover the same area as before."""
    for axis, size in enumerate(shape):
        old = plane.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        before = places.astype(int)
        share = (places - before).astype(plane.dtype)
        share = share[:, None] if axis == 0 else share
        after = np.minimum(before + 1, old - 1)
        plane = plane.take(before, axis) * (1 - share) + plane.take(after, axis) * share
    return plane
