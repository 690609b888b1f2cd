"""The parameters of a network as one mapping of names to arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastconv._arrays import NUMBERS, Array, Shape, array_of, read
from fastconv._errors import argument_error, named
from fastconv._layer import Layer

__all__ = ["Parameters", "assign", "check_array", "check_names"]


@dataclass(frozen=True)
class _Place:
    layer: Layer
    attribute: str


@named
class Parameters(MutableMapping[str, Array]):
    """Arrays that layers hold, by name: a view, not a copy.

    ``params["W1"]`` is the first layer's array, ``params["W1"] -= ...`` changes it in place, and
    ``params["W1"] = array`` gives the layer another of the same shape, converted to the dtype of
    the old one.

    Examples
    --------
    >>> from fastconv.models import Sequential
    >>> params = Sequential((4,), seed=0).affine(2).params
    >>> list(params), params["b1"]
    (['W1', 'b1'], array([0., 0.], dtype=float32))
    >>> params["b1"] += 1
    >>> params["b1"]
    array([1., 1.], dtype=float32)
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def add(self, layer: Layer, attribute: str, number: int) -> None:
        """Name a layer's array: its attribute's name, and the layer's number among its like."""
        self._places[f"{attribute}{number}"] = _Place(layer, attribute)

    def layers(self) -> list[Layer]:
        """List the layers that hold the arrays, some more than once."""
        return [place.layer for place in self._places.values()]

    def gradients(self) -> dict[str, Array]:
        """Collect what the layers' last backward pass has left."""
        return {
            name: getattr(place.layer, f"d{place.attribute}")
            for name, place in self._places.items()
        }

    def _place(self, name: str) -> _Place:
        if not isinstance(name, str) or name not in self._places:
            known = ", ".join(self._places)
            raise argument_error(KeyError, f"there is no parameter {name!r}, only {known}")
        return self._places[name]

    def __getitem__(self, name: str) -> Array:
        place = self._place(name)
        array: Array = getattr(place.layer, place.attribute)
        return array

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        place, old = self._place(name), self[name]
        if value is old:
            return
        array = read(value, name, NUMBERS)
        if array.shape != old.shape:
            raise argument_error(
                ValueError, f"{name} must have shape {old.shape}, got {array.shape}"
            )
        setattr(place.layer, place.attribute, array.astype(old.dtype, "C"))

    def __delitem__(self, name: str) -> None:
        raise argument_error(TypeError, "a layer's parameters cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def assign(to: Parameters, values: Mapping[str, npt.ArrayLike], source: str) -> None:
    """Set all of a network's arrays, or raise a ValueError before any is changed."""
    arrays = {str(name): array_of(value, f"{source}: {name}") for name, value in values.items()}
    check_names(to, arrays.keys(), source)
    for name, array in arrays.items():
        check_array(to, name, array, source)
        with np.errstate(over="ignore"):
            arrays[name] = array.astype(to[name].dtype, "C")
        if not np.isfinite(arrays[name]).all():
            raise argument_error(
                ValueError,
                f"{source}: {name} holds NaN, infinity, or what is infinite in {to[name].dtype}",
            )
    for name, array in arrays.items():
        to[name] = array


def check_names(to: Parameters, names: Collection[str], source: str) -> None:
    """Raise a ValueError unless a source of arrays has exactly the network's names."""
    wanted, found = set(to), set(names)
    if wanted != found:
        parts = [
            f"{what} {', '.join(sorted(different))}"
            for what, different in (("lacks", wanted - found), ("also has", found - wanted))
            if different
        ]
        raise argument_error(
            ValueError, f"{source} is of another network: it {' and '.join(parts)}"
        )


class Described(Protocol):
    """What an array, or a file's header of one, says of the array's numbers."""

    @property
    def shape(self) -> Shape:
        """The lengths of the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers."""


def check_array(to: Parameters, name: str, array: Described, source: str) -> None:
    """Raise a ValueError unless an array has the shape of the network's, and holds numbers."""
    if array.shape != to[name].shape:
        raise argument_error(
            ValueError,
            f"{source} is of another network: its {name} has shape {array.shape}, this "
            f"network's {to[name].shape}",
        )
    if array.dtype.kind not in "fiu":
        raise argument_error(
            ValueError, f"{source}: {name} is not of numbers but of dtype {array.dtype}"
        )
