"""The parameters of a network as one mapping, and the files that hold them."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._arrays import Array
from fastconv._files import replacing
from fastconv.layers import Layer

__all__ = ["Parameters", "read_npz", "read_pickle", "write_npz"]


@dataclass(frozen=True)
class _Place:
    layer: Layer
    attribute: str


class Parameters(MutableMapping[str, Array]):
    """Arrays that layers hold, by name: a view, not a copy.

    ``params["W1"]`` is the first layer's array, ``params["W1"] -= ...`` changes it in place, and
    ``params["W1"] = array`` gives the layer another of the same shape, converted to the dtype of
    the old one.
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def add(self, layer: Layer, attribute: str) -> None:
        """Name a layer's array: its attribute's name, and how many of that name there are."""
        of_that_name = sum(place.attribute == attribute for place in self._places.values())
        self._places[f"{attribute}{of_that_name + 1}"] = _Place(layer, attribute)

    def layers(self) -> list[Layer]:
        """List the layers that hold the arrays, some more than once."""
        return [place.layer for place in self._places.values()]

    def gradients(self) -> dict[str, Array]:
        """Collect what the layers' last backward pass has left."""
        return {
            name: getattr(place.layer, f"d{place.attribute}")
            for name, place in self._places.items()
        }

    def __getitem__(self, name: str) -> Array:
        place = self._places[name]
        array: Array = getattr(place.layer, place.attribute)
        return array

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        if name not in self._places:
            raise KeyError(f"there is no parameter {name!r}, only {', '.join(self._places)}")
        old, array = self[name], np.asarray(value)
        if array is old:
            return
        if array.shape != old.shape:
            raise ValueError(f"{name} must have shape {old.shape}, got {array.shape}")
        place = self._places[name]
        setattr(place.layer, place.attribute, array.astype(old.dtype, "C"))

    def __delitem__(self, name: str) -> None:
        raise TypeError("a layer's parameters cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def assign(to: Parameters, values: Mapping[str, npt.ArrayLike], source: str) -> None:
    """Set all of a network's arrays, or raise a ValueError before any is changed."""
    arrays = {name: np.asarray(value) for name, value in values.items()}
    wanted, found = set(to), set(arrays)
    if wanted != found:
        parts = [
            f"{what} {', '.join(sorted(names))}"
            for what, names in (("lacks", wanted - found), ("also has", found - wanted))
            if names
        ]
        raise ValueError(f"{source} is of another network: it {' and '.join(parts)}")
    for name, array in arrays.items():
        if array.shape != to[name].shape:
            raise ValueError(
                f"{source} is of another network: its {name} has shape {array.shape}, this "
                f"network's {to[name].shape}"
            )
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{source}: {name} is not of numbers but of dtype {array.dtype}")
        with np.errstate(over="ignore"):
            arrays[name] = array.astype(to[name].dtype, "C")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(
                f"{source}: {name} holds NaN, infinity, or what is infinite in {to[name].dtype}"
            )
    for name, array in arrays.items():
        to[name] = array


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays to a file of exactly this name, whole or not at all."""
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of an .npz file, however it is called.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is no such file, is damaged, or holds Python objects.
    """
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            raise ValueError(
                f"{os.fspath(path)} is not an .npz file; if it is a pickle, give "
                "fastconv.models.read_pickle(...) in its place"
            )
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except Exception as error:  # damaged files raise almost anything, and may promise too much
            raise ValueError(f"{os.fspath(path)} is damaged: {error}") from error


# ---- pickles -----------------------------------------------------------------------------------

# What the textbook's files are made of is imitated; nothing that a pickle names is ever called.


MOST_TUPLES = 10_000  # in a pickle: an array has three to five


class _PickledDtype:
    """What a pickle says of a dtype: its code, then its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = str(code), "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        if self.code[:1] not in "fiub" or not self.code[1:].isdigit():
            raise pickle.UnpicklingError(f"an array of dtype {self.code!r} holds no numbers")
        return np.dtype(f"{self.order if self.order in '<>' else '='}{self.code}")


class _PickledArray:
    """What a pickle says of an array: how its bytes become one."""

    def __init__(self, *_: Any) -> None:
        self.parts: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.parts = data, dtype, shape, "F" if fortran else "C"

    @classmethod
    def in_buffer(cls, *parts: Any) -> _PickledArray:
        """Make one as protocol 5 does; the fifth part are axes in their order in memory."""
        array = cls()
        array.parts = parts
        return array

    def array(self) -> Array:
        data, dtype, shape, order, *axes = self.parts
        if not isinstance(dtype, _PickledDtype) or not isinstance(data, (bytes, bytearray)):
            raise pickle.UnpicklingError("an array does not consist of numbers")
        numbers = np.frombuffer(data, dtype.dtype())
        if not all(isinstance(n, int) and n >= 0 for n in shape) or prod(shape) != numbers.size:
            raise pickle.UnpicklingError(f"{numbers.size} numbers are no array of shape {shape}")
        array = numbers.reshape(shape, order="F" if order == "F" else "C")
        return (array.transpose(axes[0]) if axes else array).copy()


class _ArraysUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.encodable = len(data)
        self.stand_ins: dict[str, Callable[..., Any]] = {
            "numpy.ndarray": _PickledArray,
            "numpy.dtype": _PickledDtype,
            "numpy.core.multiarray._reconstruct": _PickledArray,
            "numpy._core.multiarray._reconstruct": _PickledArray,
            "numpy.core.numeric._frombuffer": _PickledArray.in_buffer,
            "numpy._core.numeric._frombuffer": _PickledArray.in_buffer,
            # How old protocols write bytes, none and some.
            "__builtin__.bytes": lambda: b"",
            "_codecs.encode": self._encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.stand_ins[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it holds {module}.{name}, where only NumPy arrays in a dict are read"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects elsewhere")

    def _encode(self, text: str, _: str) -> bytes:
        self.encodable -= len(text)
        if self.encodable < 0:
            raise pickle.UnpicklingError("it holds some bytes more than once")
        return text.encode("latin1")


def read_pickle(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read a pickled dict of NumPy arrays, as the textbook's networks save their parameters.

    Safe for files from anywhere: the classes and functions that a pickle names are not imported,
    let alone called. Those that arrays consist of have stand-ins; any other is an error.

    Parameters
    ----------
    path : path-like
        The pickle, of any protocol.

    Returns
    -------
    dict of str to ndarray
        The arrays, for ``network.load_params``.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not a pickle of numbers in arrays in a dict, or damaged.

    Examples
    --------
    >>> import os, pickle, tempfile
    >>> import numpy as np
    >>> from fastconv.models import read_pickle
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "params.pkl")
    ...     with open(path, "wb") as file:
    ...         pickle.dump({"b1": np.arange(3.0)}, file)
    ...     read_pickle(path)
    {'b1': array([0., 1., 2.])}
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        return _unpickle(data)
    except Exception as error:  # damaged pickles raise almost anything
        raise ValueError(f"{os.fspath(path)} is not a pickled dict of arrays: {error}") from error


def _unpickle(data: bytes) -> dict[str, Array]:
    # Unpicklers reserve memory for as many objects as a file says that it will number, and a key of
    # tuples in tuples in tuples ends the interpreter when it is hashed.
    tuples = 0
    for count, (opcode, number, _) in enumerate(pickletools.genops(data)):
        tuples += opcode.name.startswith("TUPLE")
        if opcode.name.endswith("PUT") and not 0 <= int(number or 0) <= count:
            raise pickle.UnpicklingError(f"it numbers an object {number} after {count} steps")
        if tuples > MOST_TUPLES:
            raise pickle.UnpicklingError(f"it holds more than {MOST_TUPLES} tuples")
    content = _ArraysUnpickler(data).load()
    if not isinstance(content, dict):
        raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not a dict")
    arrays, readable = {}, len(data)
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, _PickledArray):
            raise pickle.UnpicklingError(f"what it calls {key!r} is not an array")
        arrays[key] = value.array()
        readable -= arrays[key].nbytes
        if readable < 0:
            raise pickle.UnpicklingError("it holds some bytes more than once")
    return arrays
