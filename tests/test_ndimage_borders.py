"""What lies beyond the borders of arrays that are filtered, against `numpy.pad`."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.ndimage._borders import CONSTANT, source_indices

NUMPY_MODES = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
}


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (0, 2), (3, 4), (20, 17)])
@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_borders_show_what_numpy_pads(mode: str, before: int, after: int, length: int) -> None:
    expected = np.pad(np.arange(length), (before, after), mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
    assert source_indices(length, before, after, mode).tolist() == expected.tolist()


def test_a_constant_border_shows_no_element() -> None:
    expected = [CONSTANT, CONSTANT, 0, 1, 2, CONSTANT]
    assert source_indices(3, 2, 1, "constant").tolist() == expected
