"""What all layers share: how they are shown and copied, and how they read arrays."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fastconv._arrays import NUMBERS, Array, Shape, batch_shape, computed_dtype, read
from fastconv._errors import argument_error, named, shown

Saved = TypeVar("Saved")

ARRAYS = ("W", "b", "gamma", "beta", "running_mean", "running_var")
"""The arguments of layers that are arrays of parameters, or of what is kept beside them."""


class Layer(Protocol):
    """What a network needs of a layer.

    ``forward`` may also take ``train_flg``. A layer that holds other layers lists them in an
    attribute ``children``, a tuple in the order in which they compute, and calls their ``forward``
    and ``backward`` itself; networks look there for parameters.
    """

    def forward(self, x: Any) -> Any:
        """Compute the layer's output."""

    def backward(self, dout: Any) -> Any:
        """Compute the gradient of the last input from that of its output."""


class Base:
    """What all layers here share: how they are shown, and what copies of them carry."""

    _transient: tuple[str, ...] = ()
    """The attributes that the two passes leave, which belong to one batch: copies lack them."""
    children: tuple[Any, ...] = ()
    """The layers that the layer holds, in the order in which they compute."""
    is_chain = False
    """Whether the layer gives what its children give, called one after the other."""

    def __init_subclass__(cls) -> None:
        """Let errors of the layer's methods begin with the layer's name."""
        super().__init_subclass__()
        named(cls)

    def __repr__(self) -> str:
        """Show the constructor's arguments that are not the defaults, large arrays by shape."""
        parts = []
        for i, (name, parameter) in enumerate(inspect.signature(type(self)).parameters.items()):
            value = getattr(self, name, parameter.default)
            if isinstance(value, np.random.Generator) or value is parameter.default:
                continue  # A generator cannot be typed, and networks give theirs to their layers.
            array = isinstance(value, (np.ndarray, list))
            if not array and value == parameter.default:
                continue
            text = _shown(value, name in ARRAYS)
            by_position = parameter.default is parameter.empty or i == 0
            parts.append(text if by_position and name not in ARRAYS else f"{name}={text}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def forget(self) -> None:
        """Drop what the two passes have left, so that `backward` needs another `forward`."""
        vars(self).update(dict.fromkeys(vars(self).keys() & set(self._transient)))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last batch out of pickles and copies: it is often larger than the layer."""
        state = dict(vars(self))
        return {**state, **dict.fromkeys(state.keys() & set(self._transient))}


def _shown(value: Any, is_parameter: bool) -> str:
    """Write an argument of a layer as code or, if it is an array of parameters, its shape."""
    if isinstance(value, (np.ndarray, list)) and is_parameter:
        array = np.asarray(value)
        return f"<{array.shape} {array.dtype}>"
    return repr(value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value)


def children_of(layer: object) -> tuple[Any, ...]:
    """Return the layers that a layer holds; one of another library need not know of `children`."""
    children = getattr(layer, "children", ())
    return children if isinstance(children, tuple) else ()


def is_chain(layer: object) -> bool:
    """Tell whether a layer gives what its children give, called one after the other.

    A subclass of a chain with a `forward` or `predict` of its own may do more than that, and is one
    only if it says so itself.
    """
    for kind in type(layer).__mro__:
        if "is_chain" in vars(kind):
            return vars(kind)["is_chain"] is True
        if "forward" in vars(kind) or "predict" in vars(kind):
            return False
    return False


def walk(layer: Any) -> Iterator[Any]:
    """Yield a layer, then what it holds, each layer before those that it holds itself."""
    yield layer
    for child in children_of(layer):
        yield from walk(child)


def run_forward(layer: Any, x: Any, train_flg: bool) -> Any:
    """Call a layer's `forward`, with `train_flg` if the layer does something else in training."""
    return layer.forward(x, train_flg) if takes_train_flg(layer) else layer.forward(x)


def takes_train_flg(layer: object) -> bool:
    """Tell whether a layer does something else in training, so that `forward` takes `train_flg`."""
    if "forward" in getattr(layer, "__dict__", ()):
        return "train_flg" in inspect.signature(vars(layer)["forward"]).parameters
    kind: Any = type(layer)
    return _class_takes_train_flg(kind)


@lru_cache(maxsize=1024)  # To inspect a signature takes as long as some layers' whole work.
def _class_takes_train_flg(kind: Any) -> bool:
    return "train_flg" in inspect.signature(kind.forward).parameters


def shape_behind(layer: Any, source: Shape, dtype: np.dtype[Any]) -> Shape:
    """Try which shape a layer gives, for inputs of a shape; both are without the batch.

    The try is one of no inputs or, if a layer cannot have none, of one.
    """
    shape: Shape
    with contextlib.suppress(ValueError):
        shape = np.shape(run_forward(layer, np.empty((0, *source), dtype), False))
        return shape[1:]
    shape = np.shape(run_forward(layer, np.zeros((1, *source), dtype), False))
    return shape[1:]


def check_layer(layer: Any) -> None:
    """Raise a TypeError if something is no layer."""
    has_both = all(callable(getattr(layer, name, None)) for name in ("forward", "backward"))
    if isinstance(layer, type) or not has_both:
        raise argument_error(
            TypeError, f"a layer must be an object with forward and backward, got {shown(layer)}"
        )


def saved(value: Saved | None, layer: object) -> Saved:
    if value is None:
        raise RuntimeError(f"{type(layer).__name__}: backward needs a forward before it")
    return value


def check_gradient(dout: Array, shape: Shape) -> None:
    if dout.shape != shape:
        raise argument_error(
            ValueError, f"dout must have shape {shape}, that of the output, got {dout.shape}"
        )


def offset(b: npt.ArrayLike | None, W: Array) -> Array | None:
    """Read what a layer adds.

    Python's numbers and integers become floats of the weights' dtype: as in NumPy's sums they must
    not widen a float32 layer, and an optimiser cannot change integers in place.
    """
    if b is None:
        return None
    array = read(b, "b", NUMBERS)
    if isinstance(b, (int, float)) or array.dtype.kind in "biu":
        return array.astype(computed_dtype(W.dtype))
    return array


def spread(b: npt.ArrayLike | None, W: npt.ArrayLike, axis: int) -> Array | None:
    """Give every output of the weights its own number of `b`, as NumPy's sum with rows does."""
    if b is None:
        return None
    array, outputs = read(b, "b", NUMBERS), np.shape(W)[axis : axis + 1]
    if array.shape == outputs or not outputs:  # The function that is called refuses such weights.
        return array
    if array.ndim > 2 or array.shape not in ((), (1,), (1, 1), (1, *outputs)):
        raise argument_error(
            ValueError,
            f"b must be a number or have shape {outputs} or {(1, *outputs)}, one for each output "
            f"of W of shape {np.shape(W)}, got {array.shape}",
        )
    return np.broadcast_to(array.reshape(-1), outputs)


def gathered(db: Array | None, b: npt.ArrayLike | None) -> Array | None:
    """Add up the gradients of the outputs that one number of `b` was added to."""
    if db is None or b is None:
        return None
    if np.size(b) == 1:
        db = narrowed(widened(db).sum(keepdims=True), db)
    return db.reshape(np.shape(b))


def floats(value: npt.ArrayLike, name: str = "x") -> Array:
    """Read an array of native floats; of integers float64 is made."""
    array = read(value, name, NUMBERS)
    return array.astype(computed_dtype(array.dtype), copy=False)


def widened(array: Array) -> Array:
    """Make float32 of float16, in which sums lose too much."""
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def narrowed(array: Array, like: Array) -> Array:
    """Give what was computed in float32 the dtype of what it was computed from."""
    with np.errstate(over="ignore"):
        return array.astype(computed_dtype(like.dtype), copy=False)


def images(x: npt.ArrayLike) -> Array:
    """Read images (N, C, H, W) of native floats."""
    array = floats(x)
    batch_shape(array.shape, "x", 4, unbatched=False)
    return array


def rows_of(x: Array) -> Array:
    """View a batch as rows; its size may be 0."""
    if x.ndim == 0:
        raise argument_error(ValueError, "x must be a batch, got a number")
    return x.reshape(len(x), prod(x.shape[1:]))
