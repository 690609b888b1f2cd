"""Layers that hold layers: chains, residual connections, and branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._arrays import NUMBERS, Array, Shape, read
from fastconv._elementwise import add, add_relu
from fastconv._errors import argument_error
from fastconv._layer import (
    Base,
    Layer,
    check_gradient,
    check_layer,
    floats,
    run_forward,
    saved,
    walk,
)
from fastconv._memory import new_array
from fastconv.layers._activations import Relu

Branch: TypeAlias = Layer | Sequence[Layer]
"""A layer, or layers of which each gets what the one before it gives."""

RELU = Relu()
"""Stands for a rectification that the layer makes for itself."""


class Container(Base):
    """What layers that hold layers share."""

    def __init__(self, children: Sequence[Layer]) -> None:
        """Take the layers, or raise a TypeError or a ValueError if they cannot be held."""
        known: set[int] = set()
        for child in children:
            check_layer(child)
            parts = {id(part) for part in walk(child)}
            if known & parts:
                raise argument_error(ValueError, f"a layer can be held only once, got {child!r}")
            known |= parts
        self.children = tuple(children)

    def forget(self) -> None:
        """Drop what the two passes have left, here and in the layers that are held."""
        super().forget()
        for child in self.children:
            if isinstance(child, Base):
                child.forget()

    def __repr__(self) -> str:
        """Show every argument on a line of its own."""
        parts = ",\n".join(self._parts()).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {parts}\n)" if parts else f"{type(self).__name__}()"

    def _parts(self) -> list[str]:
        """Write the constructor's arguments."""
        return [repr(child) for child in self.children]


class Chain(Container):
    """Let every layer compute with what the one before it gives.

    Without layers it is the identity.

    Parameters
    ----------
    *layers : layers
        Objects with ``forward(x)``, or ``forward(x, train_flg)``, and ``backward(dout)``.

    Attributes
    ----------
    children : tuple of layers
        The layers.

    See Also
    --------
    fastconv.models.Sequential : A chain that makes weights, and can be trained.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Chain, Flatten, Relu
    >>> Chain(Relu(), Flatten()).forward(np.array([[[-1.0], [2.0]]]))
    array([[0., 2.]])
    """

    is_chain = True

    def __init__(self, *layers: Layer) -> None:
        super().__init__(layers)

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Any:
        """Call all layers; those that take `train_flg` get it."""
        for layer in self.children:
            x = run_forward(layer, x, train_flg)
        return x

    def backward(self, dout: npt.ArrayLike) -> Any:
        """Call all layers, the last first."""
        for layer in reversed(self.children):
            dout = layer.backward(dout)
        return dout


class Residual(Container):
    """Add what a chain of layers gives to its input, or to what another chain makes of the input.

    ``activation(body(x) + shortcut(x))``, as in [1]_.

    Parameters
    ----------
    *body : layers
        The chain.
    shortcut : layer or sequence of layers, optional
        What the input passes through; by default it is added as it is.
    activation : layer or None, default Relu()
        What the sum passes through.

    Attributes
    ----------
    children : tuple of layers
        The body, then the shortcut and the activation, if there are any. Several layers beside each
        other are a `Chain`.

    Raises
    ------
    TypeError
        If one of these is no layer.
    ValueError
        If a layer comes twice; from `forward`, if body and shortcut give different shapes.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, https://arxiv.org/abs/1512.03385

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Convolution, Residual
    >>> layer = Residual(Convolution(np.full((1, 1, 1, 1), -2.0), None))
    >>> layer.forward(np.array([[[[1.0, -1.0]]]]))
    array([[[[0., 1.]]]])
    >>> layer.backward(np.array([[[[1.0, 1.0]]]]))
    array([[[[ 0., -1.]]]])
    """

    def __init__(
        self,
        *body: Layer,
        shortcut: Branch | None = None,
        activation: Layer | None = RELU,
    ) -> None:
        self.body = chained(body)
        self.shortcut = None if shortcut is None else chained(shortcut)
        self.activation = Relu() if activation is RELU else activation
        parts = (self.body, self.shortcut, self.activation)
        super().__init__([part for part in parts if part is not None])

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Any:
        """Compute both ways, and add them."""
        array = read(x, "x", NUMBERS)
        ways: list[Any] = [run_forward(self.body, array, train_flg)]
        ways.append(
            array if self.shortcut is None else run_forward(self.shortcut, array, train_flg)
        )
        if ways[0].shape != ways[1].shape:
            raise argument_error(
                ValueError,
                f"body and shortcut must give one shape, got {ways[0].shape} and {ways[1].shape}",
            )
        if type(self.activation) is Relu:
            total, self.activation.mask = add_relu(ways[0], ways[1], return_mask=True)
            return total
        total = add(ways[0], ways[1])
        return total if self.activation is None else run_forward(self.activation, total, train_flg)

    def backward(self, dout: npt.ArrayLike) -> Any:
        """Return the sum of the gradients of both ways."""
        grads: Any = floats(dout, "dout")
        if self.activation is not None:
            grads = self.activation.backward(grads)
        way = self.body.backward(grads)
        return add(way, grads if self.shortcut is None else self.shortcut.backward(grads))

    def _parts(self) -> list[str]:
        parts = list(map(repr, self.body.children if type(self.body) is Chain else [self.body]))
        if self.shortcut is not None:
            parts.append(f"shortcut={self.shortcut!r}")
        if type(self.activation) is not Relu:
            parts.append(f"activation={self.activation!r}")
        return parts


class Concatenation(Container):
    """Give an input to several branches, and join what they give along the channels.

    Parameters
    ----------
    *branches : layers or sequences of layers
        What the input passes through, at least one. An empty sequence passes it on as it is.

    Attributes
    ----------
    children : tuple of layers
        The branches. Several layers behind each other are a `Chain`.

    Raises
    ------
    TypeError
        If one of these is no layer.
    ValueError
        If there is no branch, or a layer comes twice; from `forward`, if what the branches give
        has no channels, or differs in more than their number.

    References
    ----------
    .. [1] C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015,
       https://arxiv.org/abs/1409.4842

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Concatenation, Pooling, Relu
    >>> layer = Concatenation([], [Relu(), Pooling(3, 3, pad=1)])
    >>> layer.forward(np.array([[[[1.0, -2.0, 3.0]]]]))
    array([[[[ 1., -2.,  3.]],
    <BLANKLINE>
            [[ 1.,  3.,  3.]]]])
    """

    _transient = ("widths", "output_shape")

    def __init__(self, *branches: Branch) -> None:
        if not branches:
            raise argument_error(ValueError, "branches must be at least one")
        super().__init__(list(map(chained, branches)))
        self.widths: tuple[int, ...] | None = None  # The channels of each branch's output.
        self.output_shape: Shape | None = None

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Array:
        """Compute all branches, and join (N, C1, ...), (N, C2, ...), ... to (N, C1+C2+..., ...)."""
        array = read(x, "x", NUMBERS)
        outputs = [run_forward(branch, array, train_flg) for branch in self.children]
        shapes = [np.shape(output) for output in outputs]
        if len(shapes[0]) < 2 or len(set(map(_but_channels, shapes))) > 1:
            raise argument_error(
                ValueError,
                "branches must give shapes (N, C, ...) that differ in the number of channels only, "
                f"got {', '.join(map(str, shapes))}",
            )
        self.widths = tuple(shape[1] for shape in shapes)
        self.output_shape = (shapes[0][0], sum(self.widths), *shapes[0][2:])
        out = new_array(self.output_shape, np.result_type(*outputs))
        return np.concatenate(outputs, axis=1, out=out)

    def backward(self, dout: npt.ArrayLike) -> Any:
        """Return the sum of the gradients of all branches."""
        widths, grads = saved(self.widths, self), floats(dout, "dout")
        check_gradient(grads, saved(self.output_shape, self))
        total, first = None, 0
        for branch, width in zip(self.children, widths, strict=True):
            way = branch.backward(grads[:, first : first + width])
            total = way if total is None else add(total, way)
            first += width
        return total

    def _parts(self) -> list[str]:
        return ["[]" if is_identity(part) else repr(part) for part in self.children]


def chained(branch: Branch) -> Layer:
    """Make a chain of several layers or of none."""
    if not isinstance(branch, (list, tuple)):
        return branch  # type: ignore[return-value]  # The container checks it.
    return branch[0] if len(branch) == 1 else Chain(*branch)


def is_identity(layer: Layer) -> bool:
    """Tell whether a layer is a chain of no layers."""
    return type(layer) is Chain and not layer.children


def _but_channels(shape: Shape) -> Shape:
    return shape[:1] + shape[2:]
