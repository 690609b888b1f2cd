"""Pickled dicts of arrays, as the textbook's networks save their parameters."""

from __future__ import annotations

import os
import pickle

from fastconv._arrays import Array
from fastconv._errors import argument_error, named
from fastconv._files import path_of
from fastconv._unpickling import Machine, PickledArray

__all__ = ["read_pickle"]


@named
def read_pickle(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read a pickled dict of NumPy arrays, as the textbook's networks save their parameters.

    Safe for files from anywhere: they are not unpickled. A small machine runs the part of the
    language that such a dict is written in; what a pickle names is neither imported nor called.

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
    source = path_of(path, "path")
    with open(source, "rb") as file:
        data = file.read()
    try:
        return _unpickle(data)
    except Exception as error:  # Damaged pickles raise almost anything.
        raise argument_error(
            ValueError, f"{source} is not a pickled dict of arrays: {error}"
        ) from error


def _unpickle(data: bytes) -> dict[str, Array]:
    content = Machine(data).run()
    if not isinstance(content, dict):
        raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not a dict")
    arrays, readable = {}, len(data)
    for key, value in content.items():
        if not isinstance(value, PickledArray):
            raise pickle.UnpicklingError(f"what it calls {key!r} is a {type(value).__name__}")
        if "array" not in vars(value):  # The array was not made for another name before.
            readable -= value.array.nbytes
        if readable < 0:
            raise pickle.UnpicklingError("it holds some bytes more than once")
        arrays[key] = value.array
    return arrays
