"""Layers one behind the other: what they are called, what they give, and what they learn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._arguments import generator, integers, is_sequence
from fastconv._arrays import FLOATS, Array, Shape
from fastconv._classifier import Classifier
from fastconv._errors import argument_error, named, reason, shown
from fastconv._layer import Base, check_layer, run_forward, shape_behind, walk
from fastconv._structure import (
    held,
    kind,
    no_such_layer,
    numbered,
    outputs_noted,
    paths,
    shapes_seen,
)
from fastconv.layers import (
    Affine,
    Convolution,
    Convolution1D,
    Dropout,
    Layer,
    SoftmaxWithLoss,
)
from fastconv.models._parameters import Parameters

__all__ = ["LEARNED", "Chain", "Seed"]


Seed: TypeAlias = int | np.random.Generator | None
"""What a network draws its weights with."""

WEIGHTS = ("W", "b")
NORMALIZATION = ("gamma", "beta", "running_mean", "running_var")
"""Two groups of layers' attributes, which files keep. Each group numbers its layers by itself."""
LEARNED = ("W", "b", "gamma", "beta")
"""The attributes that are learned. A layer leaves the gradient of ``W`` in ``dW``, and so on."""


@named
class Chain(Classifier):
    """A chain of layers that ends in scores for classes, with softmax and cross entropy behind it.

    It takes layers as they are. `Sequential`, which users see, also makes them; its docstring tells
    the arguments and attributes.
    """

    is_chain = True
    _is_held = False
    """Whether another network has taken this one's layers for its own."""
    _parts: dict[int, Any] | None = None
    """The network and all layers within it by `id`, None before a layer is added."""

    def __init__(
        self,
        input_dim: Sequence[int],
        layers: Iterable[Layer] = (),
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        if not is_sequence(input_dim):
            raise argument_error(
                TypeError, f"input_dim must be a sequence of positive ints, got {shown(input_dim)}"
            )
        self.input_dim = integers(input_dim, "input_dim", "a sequence of positive ints")
        if not self.input_dim or min(self.input_dim) < 1:
            raise argument_error(
                ValueError, f"input_dim must be a sequence of positive ints, got {shown(input_dim)}"
            )
        self.output_dim = self.input_dim
        self.dtype = _float_dtype(dtype)
        if seed is None:
            seed = int(np.random.randint(2**32, dtype=np.uint64))  # noqa: NPY002
        self.rng = generator(seed)
        self.layers: dict[str, Layer] = {}
        self.params = Parameters()
        self.state = Parameters()
        """All arrays that files keep: the parameters, running means and running variances."""
        self.last_layer: Any = SoftmaxWithLoss()
        self._shapes: dict[str, Shape] = {}
        """The shapes of outputs, by the paths of layers: ``"Conv1"``, or ``"Fork1.Conv1"``."""
        self._numbers = {WEIGHTS: 0, NORMALIZATION: 0}
        if not isinstance(layers, Iterable):
            raise argument_error(TypeError, f"layers must be several layers, got {shown(layers)}")
        self.add(*layers)

    def __repr__(self) -> str:
        """Show the layers below the line that `str` gives."""
        layers = [f"{name}: {layer!r}" for name, layer in self.layers.items()]
        return "\n".join([str(self), *layers]).replace("\n", "\n  ")

    def __str__(self) -> str:
        """Summarise the network in a line."""
        count = sum(array.size for array in self.params.values())
        return (
            f"{type(self).__name__}(input {self.input_dim}, output {self.output_dim}, "
            f"{len(self.layers)} layers, {count} parameters)"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies under which `id` the layers are known here."""
        return {name: value for name, value in vars(self).items() if name != "_parts"}

    @property
    def children(self) -> tuple[Layer, ...]:
        """The layers, in the order in which they compute."""
        return tuple(self.layers.values())

    # ---- layers --------------------------------------------------------------------------------

    def add(self, *layers: Layer) -> Self:
        """Append layers.

        Parameters
        ----------
        *layers : layers
            Objects with ``forward(x)``, or ``forward(x, train_flg)``, and ``backward(dout)``. What
            they hold as ``W``, ``b``, ``gamma`` or ``beta`` is learned; also what the layers in
            their ``children`` hold, if they have any, as they are now.

        Returns
        -------
        Sequential
            The network itself.

        Raises
        ------
        TypeError, ValueError
            If a layer does not accept what the one before gives, or is in the network already;
            those before it are added.

        Examples
        --------
        >>> from fastconv.layers import Flatten, Relu
        >>> from fastconv.models import Sequential
        >>> print(Sequential((1, 4, 4)).add(Relu(), Flatten()))
        Sequential(input (1, 4, 4), output (16,), 2 layers, 0 parameters)
        """
        for layer in layers:
            self._add(layer)
        return self

    def _add(self, layer: Layer) -> None:
        check_layer(layer)
        own = kind(layer)
        name = numbered(own, 1 + sum(kind(other) == own for other in self.layers.values()))
        self._check_new(name, layer)
        try:
            shapes = self._shapes_behind(name, layer)
        except (TypeError, ValueError) as error:
            raise argument_error(
                type(error),
                f"{name} does not fit behind an output of {self.output_dim}: {reason(error)}",
            ) from error
        self.layers[name] = layer
        self._shapes |= shapes
        self.output_dim = shapes[name]
        for part in walk(layer):
            self._known_parts()[id(part)] = part
            if isinstance(part, Base):
                part.forget()  # What is left is of the try, not of the user's images.
            if isinstance(part, Dropout) and part.rng is None:
                part.rng = self.rng
            if isinstance(part, Chain):
                part._is_held = True
            self._name_arrays(part)

    def _check_new(self, name: str, layer: Layer) -> None:
        """Raise a ValueError if a layer, or one that it holds, is in the network already."""
        if self._is_held:
            raise argument_error(
                ValueError, f"{name}: no layer can be added to a network that another one holds"
            )
        known, new = self._known_parts(), set()
        for part in walk(layer):
            if id(part) in known or id(part) in new:
                which = "" if part is layer else f" and holds {kind(part)} again"
                raise argument_error(
                    ValueError, f"{name}: a layer can be in a network only once{which}"
                )
            new.add(id(part))

    def _known_parts(self) -> dict[int, Any]:
        """Return the network and all layers within it by `id`.

        They are kept: a walk for every new layer would take seconds in a network of a thousand.
        """
        if self._parts is None:
            self._parts = {id(part): part for part in walk(self)}
        return self._parts

    def _name_arrays(self, layer: Layer) -> None:
        """Take what a layer holds itself among the parameters, under the next numbers."""
        for group in (WEIGHTS, NORMALIZATION):
            attributes = held(layer, group)
            self._numbers[group] += bool(attributes)
            for attribute in attributes:
                self.state.add(layer, attribute, self._numbers[group])
                if attribute in LEARNED:
                    self.params.add(layer, attribute, self._numbers[group])

    def _shapes_behind(self, name: str, layer: Layer) -> dict[str, Shape]:
        """Try which shapes a layer and those within it give, by their paths."""
        with shapes_seen(name, layer) as shapes:
            shapes[name] = shape_behind(layer, self.output_dim, self.dtype)
        return shapes

    # ---- computing -----------------------------------------------------------------------------

    def predict(self, x: npt.ArrayLike, train_flg: bool = False) -> Array:
        """Compute the scores of inputs.

        Parameters
        ----------
        x : array_like, shape (N, *input_dim)
            Inputs.
        train_flg : bool, default False
            Whether layers like dropout do what they do in training.

        Returns
        -------
        ndarray, shape (N, *output_dim)
            Scores, to which no softmax has been applied.

        Raises
        ------
        TypeError, ValueError
            If the inputs are no numbers or of another shape.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.models import SimpleConvNet
        >>> SimpleConvNet(seed=0).predict(np.zeros((5, 1, 28, 28))).shape
        (5, 10)
        """
        array = self._inputs(x)
        for layer in self.layers.values():
            array = run_forward(layer, array, train_flg)
        return array

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Array:
        """Compute the scores of inputs as a layer does: `predict`, by default in training.

        Parameters
        ----------
        x : array_like, shape (N, *input_dim)
            Inputs.
        train_flg : bool, default True
            Whether layers like dropout do what they do in training.

        Returns
        -------
        ndarray, shape (N, *output_dim)
            Scores.

        Raises
        ------
        TypeError, ValueError
            If the inputs are no numbers or of another shape.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.layers import Relu
        >>> from fastconv.models import Sequential
        >>> inner = Sequential((4,), seed=0).affine(3).add(Relu())
        >>> net = Sequential((4,), [inner], seed=0).affine(2)
        >>> list(net.params)
        ['W1', 'b1', 'W2', 'b2']
        >>> net.predict(np.ones((1, 4))).shape
        (1, 2)
        """
        return self.predict(x, train_flg)

    def backward(self, dout: npt.ArrayLike) -> Any:
        """Compute the gradient of the inputs of the last `predict`.

        Parameters
        ----------
        dout : array_like, shape (N, *output_dim)
            Gradient of the scores.

        Returns
        -------
        ndarray, shape (N, *input_dim)
            Gradient of the inputs; the layers hold those of their parameters.

        Raises
        ------
        RuntimeError
            If there was no `predict` before.
        TypeError, ValueError
            If `dout` is of another shape, or no numbers.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.models import Sequential
        >>> net = Sequential((4,), seed=0).affine(2)
        >>> net.backward(np.ones_like(net.predict(np.ones((3, 4))))).shape
        (3, 4)
        """
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        return dout

    def activations(self, x: npt.ArrayLike, names: Iterable[str] | None = None) -> dict[str, Array]:
        """Compute the outputs of layers, by name; otherwise as `predict`.

        Parameters
        ----------
        x : array_like, shape (N, *input_dim)
            Inputs.
        names : iterable of str, optional
            The layers: names in `layers`, or paths to layers that others hold, such as
            ``"Residual1.Chain1.Conv2"``. By default they are all of `layers`.

        Returns
        -------
        dict of str to ndarray
            An output for each of the names, in their order; of a layer that holds others, what it
            gives as a whole.

        Raises
        ------
        TypeError
            If the inputs are no numbers, or `names` are no strings.
        ValueError
            If the inputs are of another shape, or there is no layer of one of the names.

        Notes
        -----
        A `Residual` computes its sum and a `Relu` behind it in one step, so that this `Relu` has no
        path: what it gives is the output of the `Residual`.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.layers import Relu
        >>> from fastconv.models import ResNet, Sequential
        >>> net = Sequential((4,), seed=0).affine(3).add(Relu())
        >>> {name: output.shape for name, output in net.activations(np.ones((5, 4))).items()}
        {'Affine1': (5, 3), 'Relu1': (5, 3)}
        >>> outputs = ResNet(20).activations(np.ones((1, 3, 32, 32)), ["Residual4.Chain1.Conv1"])
        >>> outputs["Residual4.Chain1.Conv1"].shape
        (1, 32, 16, 16)
        """
        array, wanted = self._inputs(x), self._paths_of(names)
        inner = {path: part for path, part in paths(self) if "." in path and path in wanted}
        outputs: dict[str, Array] = {}
        outermost = {path.partition(".")[0] for path in wanted}
        with outputs_noted(inner, outputs.__setitem__):
            for name, layer in self.layers.items():
                if not outermost:
                    break
                array = run_forward(layer, array, False)
                outermost.discard(name)
                if name in wanted:  # The others need no memory once the next one has computed.
                    outputs[name] = array
        return {path: outputs[path] for path in wanted}

    def _paths_of(self, names: Iterable[str] | None) -> list[str]:
        """Read which layers are meant: by default those of `layers`."""
        if names is None:
            return list(self.layers)
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise argument_error(TypeError, f"names must be several strings, got {shown(names)}")
        wanted = list(names)
        for name in wanted:
            if not isinstance(name, str):
                raise argument_error(TypeError, f"names must be strings, got {shown(name)}")
            if name not in self._shapes:
                raise argument_error(ValueError, no_such_layer(name, self._shapes))
        return wanted

    def loss(
        self,
        x: npt.ArrayLike,
        t: npt.ArrayLike,
        train_flg: bool = True,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Any:
        """Compute the loss of inputs: the mean cross entropy, unless `last_layer` was replaced.

        Parameters
        ----------
        x : array_like, shape (N, *input_dim)
            Inputs.
        t : array_like, shape (N,), (N, 1) or (N, classes)
            Labels, as indices or one-hot; what another `last_layer` takes.
        train_flg : bool, default True
            Whether layers like dropout do what they do in training.
        sample_weight : array_like, shape (N,), optional
            What each input's loss is multiplied by before the mean is taken.

        Returns
        -------
        float
            The loss, a NumPy scalar.

        Raises
        ------
        TypeError, ValueError
            If inputs are of another shape, or labels do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.models import Sequential
        >>> net = Sequential((2,)).affine(4, std=0)  # All classes are equally likely.
        >>> print(f"{net.loss(np.ones((3, 2)), [0, 1, 2]):.4f}")
        1.3863
        """
        scores = self.predict(x, train_flg)
        if sample_weight is None:  # A last layer of the user's need not know of weights.
            return self.last_layer.forward(scores, t)
        return self.last_layer.forward(scores, t, sample_weight)

    def gradient(
        self,
        x: npt.ArrayLike,
        t: npt.ArrayLike,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> dict[str, Array]:
        """Compute the gradients of the loss, in training, by name of parameter.

        Parameters
        ----------
        x : array_like, shape (N, *input_dim)
            Inputs.
        t : array_like, shape (N,), (N, 1) or (N, classes)
            Labels, as indices or one-hot; what another `last_layer` takes.
        sample_weight : array_like, shape (N,), optional
            What each input's loss is multiplied by before the mean is taken.

        Returns
        -------
        dict of str to ndarray
            A gradient for each of `params`. The loss itself is then ``last_layer.loss``.

        Raises
        ------
        TypeError, ValueError
            If inputs are of another shape, or labels do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.models import Sequential
        >>> net = Sequential((2,)).affine(2, std=0)
        >>> net.gradient(np.ones((1, 2)), [0])["b1"]
        array([-0.5,  0.5], dtype=float32)
        """
        self.loss(x, t, sample_weight=sample_weight)
        dout = self.last_layer.backward()
        learning = set(map(id, self.params.layers()))
        for layer in reversed(self.layers.values()):
            learning.difference_update(map(id, walk(layer)))
            if not learning:  # Nobody needs the gradient of the first one's input.
                if type(layer) in (Convolution, Convolution1D, Affine):
                    layer.backward(dout, need_dx=False)  # type: ignore[call-arg]
                else:
                    layer.backward(dout)
                break
            dout = layer.backward(dout)
        return self.params.gradients()


def _float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Read the dtype of a network."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.char not in FLOATS:
        raise argument_error(
            TypeError, f"dtype must be float16, float32 or float64, got {found or repr(dtype)}"
        )
    return found
