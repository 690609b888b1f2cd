"""Parameters of networks that PyTorch has trained."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import NamedTuple

import numpy.typing as npt

from fastconv._arrays import Array, Shape, array_of
from fastconv._errors import argument_error, named
from fastconv._text import table
from fastconv.layers import Affine
from fastconv.models._parameters import assign
from fastconv.models._sequential import Sequential

__all__ = ["load_state_dict"]

IGNORED = "num_batches_tracked"
"""PyTorch's batch normalisation counts its steps under this name; ours does not count them."""

ROLES = {
    "W": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "running_mean": "running_mean",
    "running_var": "running_var",
}
"""The names that PyTorch's modules give to arrays, by the attributes of our layers."""


class _Ours(NamedTuple):
    name: str
    shape: Shape
    transposed: bool


class _Theirs(NamedTuple):
    name: str
    array: Array


_Row = tuple[_Theirs | None, _Ours | None]


@named
def load_state_dict(
    network: Sequential, state_dict: Mapping[str, npt.ArrayLike]
) -> list[tuple[str, str]]:
    """Copy the parameters of a PyTorch network into a network of the same structure.

    Layers with parameters and PyTorch's modules are paired in order: the first with the first, and
    so on. Filters have the same layout in both libraries; a matrix of ``torch.nn.Linear``, which is
    (outputs, inputs), is transposed to that of `fastconv.layers.Affine`. Running means and
    variances of batch normalisation are copied too. Everything is checked before anything is
    changed.

    Parameters
    ----------
    network : Sequential
        Where to, for instance a `Sequential` with a `fastconv.layers.Convolution` for every
        ``torch.nn.Conv2d``, and a `Convolution1D` for every ``Conv1d``. Layers without parameters
        do not matter.
    state_dict : mapping of str to array_like
        What ``module.state_dict()`` returns, on the CPU, or its arrays under the same names in the
        same order, for instance from `numpy.load`. PyTorch lists modules in the order in which
        they were registered, usually that of ``__init__``; it must be the order in which they are
        called.

    Returns
    -------
    list of (str, str)
        PyTorch's name and this network's name of every array that was copied.

    Raises
    ------
    TypeError
        If `network` is no `Sequential` or `state_dict` no mapping.
    ValueError
        If names, shapes or values do not fit; the message lists both sides. The parameters are
        then what they were.

    See Also
    --------
    Sequential.load_params : The same for parameters of this library's networks.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.models import Sequential, load_state_dict
    >>> net = Sequential((1, 5, 5)).convolution(2, 3).affine(4)
    >>> load_state_dict(
    ...     net,
    ...     {
    ...         "conv.weight": np.ones((2, 1, 3, 3)),
    ...         "conv.bias": np.zeros(2),
    ...         "fc.weight": np.ones((4, 18)),
    ...         "fc.bias": np.zeros(4),
    ...     },
    ... )
    [('conv.weight', 'W1'), ('conv.bias', 'b1'), ('fc.weight', 'W2'), ('fc.bias', 'b2')]
    """
    if not isinstance(network, Sequential):
        raise argument_error(
            TypeError, f"network must be a Sequential of fastconv.models, got {_type(network)}"
        )
    if not isinstance(state_dict, Mapping):
        raise argument_error(
            TypeError,
            "state_dict must be a mapping of names to arrays, as module.state_dict() returns it, "
            f"got {_type(state_dict)}",
        )
    modules, layers = _modules(state_dict), _layers(network)
    rows = _rows(modules, layers)
    pairs = [(theirs, ours) for theirs, ours in rows if theirs and ours and _fits(theirs, ours)]
    if len(pairs) < len(rows):
        raise argument_error(ValueError, _complaint(rows, len(modules), len(layers)))
    values = {
        ours.name: theirs.array.T if ours.transposed else theirs.array for theirs, ours in pairs
    }
    assign(network.state, values, "the state_dict")
    return [(theirs.name, ours.name) for theirs, ours in pairs]


def _type(value: object) -> str:
    """Name a type with its public module: PyTorch has a Sequential, too."""
    kind = type(value)
    module = kind.__module__.partition("._")[0]
    return kind.__name__ if module == "builtins" else f"{module}.{kind.__name__}"


def _modules(state_dict: Mapping[str, npt.ArrayLike]) -> list[dict[str, _Theirs]]:
    """Group arrays by the module that holds them, each under its role in the module."""
    modules: dict[str, dict[str, _Theirs]] = {}
    for name, value in zip(map(str, state_dict), state_dict.values()):
        module, _, role = name.rpartition(".")
        if role != IGNORED:
            array = array_of(value, f"the state_dict: {name}")
            modules.setdefault(module, {})[role] = _Theirs(name, array)
    return list(modules.values())


def _layers(network: Sequential) -> list[dict[str, _Ours]]:
    """Group a network's arrays by the layer that holds them, each under PyTorch's role."""
    layers: dict[tuple[int, bool], dict[str, _Ours]] = {}
    for (name, array), layer in zip(network.state.items(), network.state.layers()):
        attribute = name.rstrip("0123456789")
        # A layer that holds both weights and a normalisation stands for two modules of PyTorch's.
        held = layers.setdefault((id(layer), attribute in ("W", "b")), {})
        transposed = attribute == "W" and isinstance(layer, Affine)
        held[ROLES[attribute]] = _Ours(name, array.shape, transposed)
    return list(layers.values())


def _rows(modules: list[dict[str, _Theirs]], layers: list[dict[str, _Ours]]) -> list[_Row]:
    """Pair modules and layers in order, and their arrays by role; None is where one is missing."""
    rows: list[_Row] = []
    for module, layer in zip_longest(modules, layers):
        theirs, ours = module or {}, layer or {}
        rows += [(theirs.get(role), ours.get(role)) for role in {**theirs, **ours}]
    return rows


def _fits(theirs: _Theirs, ours: _Ours) -> bool:
    shape = theirs.array.shape
    if ours.transposed:
        return shape == ours.shape[::-1]
    return shape == ours.shape


def _complaint(rows: list[_Row], modules: int, layers: int) -> str:
    """List what does not fit, with the names and shapes of both sides."""
    wrong = [
        (
            theirs.name if theirs else "-",
            theirs.array.shape if theirs else "",
            ours.name if ours else "-",
            f"{ours.shape}{' transposed' if ours.transposed else ''}" if ours else "",
        )
        for theirs, ours in rows
        if not (theirs and ours and _fits(theirs, ours))
    ]
    text = "the state_dict does not fit the network; nothing was changed. "
    if modules != layers:
        text += f"Modules with parameters: {modules}, layers with parameters: {layers}. "
    heads = "state_dict", "shape", "network", "shape"
    return f"{text}What does not fit:\n{table(heads, wrong, left=4)}"
