"""Gradients of numbers that a function computes, by central differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from helpers import Array

STEP = 1e-5


def numerical_gradient(function: Callable[[], Any], array: Array) -> Array:
    """Move each number of an array, in place, and see what the function's result does."""
    gradient = np.zeros(array.shape)
    for place in np.ndindex(array.shape):
        value = array[place]
        results = []
        for moved in (value + STEP, value - STEP):
            array[place] = moved
            results.append(float(function()))
        array[place] = value
        gradient[place] = (results[0] - results[1]) / (2 * STEP)
    return gradient


def assert_gradient(actual: Any, function: Callable[[], Any], array: Array) -> None:
    """Compare a gradient with central differences, which err in about the ninth digit."""
    expected = numerical_gradient(function, array)
    assert isinstance(actual, np.ndarray)
    assert (actual.dtype, actual.shape) == (array.dtype, array.shape)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-8 * scale)
