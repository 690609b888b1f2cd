"""What estimators take: rows of pixels, grey images or images of several channels.

Everything becomes rows first, (n, features), which scikit-learn validates as it does for all its
estimators, and whose number of features it remembers. The rows are those of images (C, H, W).
"""

from __future__ import annotations

from math import isqrt, prod
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from fastconv._arrays import Array, Shape

__all__ = [
    "BLOCK",
    "check_shape",
    "computed_dtype",
    "float_images",
    "read_rows",
    "shape_of_images",
]

WHITE = 255
"""The largest number of a byte, which stands for 1."""
BLOCK = 256
"""The number of images that are converted and computed together, so that memory does not grow
with their number."""


def read_rows(
    estimator: Any, X: Any, y: Any = "no_validation", *, reset: bool, **checks: Any
) -> tuple[Array, Any, Shape | None]:
    """Validate X and y; return rows, y and, unless X came as rows, the shape of its images.

    Parameters
    ----------
    estimator : estimator
        Who asks, with ``channels_last``.
    X, y : array_like
        What it was given; y as `sklearn.utils.validation.validate_data` takes it.
    reset : bool
        Whether the number and names of features are learned, or must be those that are known.
    **checks
        For `sklearn.utils.validation.validate_data`.

    Returns
    -------
    rows : ndarray, shape (n, features)
        The pixels, of X's dtype if that is a number's.
    y : ndarray
        The validated y.
    shape : tuple of int or None
        (C, H, W), or None if X was rows.
    """
    X, shape = _as_rows(estimator, X)
    checked = validate_data(estimator, X, y, reset=reset, **checks)
    if isinstance(y, str) and y == "no_validation":
        return checked, None, shape
    rows, y = checked
    return rows, y, shape


def _as_rows(estimator: Any, X: Any) -> tuple[Any, Shape | None]:
    """Make rows of images, and leave everything else to scikit-learn's own checks."""
    if isinstance(X, (list, tuple)):
        try:
            X = np.asarray(X)
        except ValueError:  # Of rows of different lengths, scikit-learn says it better.
            return X, None
    ndim = len(getattr(X, "shape", ()))
    if ndim <= 2:
        return X, None
    if ndim > 4:
        raise ValueError(
            f"Found array with dim {ndim}. {type(estimator).__name__} expected rows (n, features) "
            "or images (n, H, W) or (n, C, H, W)."
        )
    images = np.asarray(X)
    if ndim == 3:
        images = images[:, None]
    elif estimator.channels_last:
        images = np.moveaxis(images, -1, 1)
    shape = images.shape[1:]
    return images.reshape(len(images), prod(shape)), shape


def shape_of_images(estimator: Any, features: int, shape: Shape | None) -> Shape:
    """Tell which images (C, H, W) are learned from.

    Parameters
    ----------
    estimator : estimator
        Who asks, with ``image_shape`` and ``channels_last``.
    features : int
        The number of a row's pixels.
    shape : tuple of int or None
        The shape that X came in, (C, H, W), or None if it was rows.
    """
    wanted = _wanted(estimator)
    if wanted is None:
        side = isqrt(features)
        if shape is not None:
            return shape
        return (1, side, side) if side * side == features else (1, 1, features)
    if prod(wanted) != features or shape not in (None, wanted):
        found = f"{features} features" if shape is None else f"images (C, H, W) of {shape}"
        raise ValueError(
            f"image_shape={estimator.image_shape!r} means {prod(wanted)} features, in images "
            f"(C, H, W) of {wanted}, but X has {found}."
        )
    return wanted


def check_shape(estimator: Any, shape: Shape | None) -> None:
    """Raise a ValueError if images have another shape than those that were learned from."""
    if shape not in (None, estimator.image_shape_):
        raise ValueError(
            f"X has images (C, H, W) of {shape}, but {type(estimator).__name__} is expecting "
            f"{estimator.image_shape_} as input."
        )


def _wanted(estimator: Any) -> Shape | None:
    """Read ``image_shape`` as (C, H, W), or None."""
    if estimator.image_shape is None:
        return None
    shape = tuple(int(size) for size in estimator.image_shape)
    if len(shape) not in (2, 3) or min(shape) < 1:
        form = "(H, W, C)" if estimator.channels_last else "(C, H, W)"
        raise ValueError(
            f"image_shape must be (H, W) or {form} with positive sizes, got "
            f"{estimator.image_shape!r}."
        )
    if len(shape) == 2:
        return (1, *shape)
    return (shape[2], *shape[:2]) if estimator.channels_last else shape


def float_images(estimator: Any, rows: Array, came_as_rows: bool, dtype: Any = None) -> Array:
    """Return images (n, C, H, W) of floats, those of bytes from 0 to 1.

    Parameters
    ----------
    estimator : estimator
        Who asks, with ``image_shape_`` and ``channels_last``.
    rows : ndarray, shape (n, features)
        The pixels.
    came_as_rows : bool
        Whether X was rows, so that channels that come last do so in each of them.
    dtype : dtype, optional
        The dtype to compute with; by default `computed_dtype` tells it.
    """
    C, H, W = estimator.image_shape_
    with np.errstate(over="ignore"):
        floats = rows.astype(computed_dtype(rows) if dtype is None else dtype)
    if not np.isfinite(floats).all():  # It was learned from smaller pixels, in float32.
        raise ValueError(f"Input X contains infinity or a value too large for {floats.dtype!r}.")
    if rows.dtype == np.uint8:
        floats /= floats.dtype.type(WHITE)
    if came_as_rows and estimator.channels_last:
        return np.moveaxis(floats.reshape(-1, H, W, C), -1, 1)
    return floats.reshape(-1, C, H, W)


def computed_dtype(rows: Array) -> np.dtype[Any]:
    """Tell whether to compute with pixels in float32, which takes half of the time, or float64.

    It is float32 if that holds every pixel exactly, as it holds the bytes that are the pixels of
    most images, even where their array is one of float64.
    """
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        with np.errstate(over="ignore"):
            if (block != block.astype(np.float32)).any():
                return np.dtype(np.float64)
    return np.dtype(np.float32)
