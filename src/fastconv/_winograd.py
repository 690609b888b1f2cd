"""When a convolution takes Winograd's way, and on tiles of which size."""

from __future__ import annotations

from fastconv import _precision
from fastconv._window import Pair, Window, one_of

ALGORITHMS = ("auto", "direct", "winograd")

# What tiles of 2x2 and 4x4 outputs take, in multiplications of the direct kernel, as
# `docs/winograd.md` fits it to measurements: of a product at one position of a tile; of a tile's
# pixels as much as so many more filters, of its outputs as so many more channels, of the weights as
# so many more tiles; and of every call, as of the direct kernel's.
PRODUCT = {2: 1.3, 4: 1.4}
PIXELS_AS_FILTERS = {2: 2, 4: 24}
OUTPUTS_AS_CHANNELS = {2: 8, 4: 16}
WEIGHTS_AS_TILES = {2: 50, 4: 100}
CALL = 12e6
GAIN = 1.07  # that is expected where tiles are taken

# For fewer channels the transforms err more than NumPy's sums: of the forward convolution, and of
# the adjoint, whose terms NumPy sums tap by tap.
LEAST_CHANNELS = 16
LEAST_ADJOINT_CHANNELS = 128
MOST_CHANNELS = 2048  # and for more of them: short sums are added to one, which becomes long
LEAST_FILTERS = 5  # the direct kernel has another way for fewer


def tile_size(
    algorithm: str,
    batch: int,
    channels: int,
    filters: int,
    groups: int,
    outputs: Pair,
    win: Window,
    transposed: bool = False,
) -> int:
    """Return how many rows and columns of outputs a tile has; 0: no tiles, compute directly.

    `channels`, which are summed over, and `filters` are a group's.
    """
    if one_of(algorithm, "algorithm", ALGORITHMS) == "direct":
        return 0
    high = _precision.current == "high"
    if algorithm == "auto":
        least = LEAST_ADJOINT_CHANNELS if transposed and not high else LEAST_CHANNELS
        if not win.is_dense_3x3 or channels < least or filters < LEAST_FILTERS:
            return 0
    if not win.is_dense_3x3:
        (_, _, *h), (_, _, *w) = win.packed.tolist()
        raise ValueError(
            'algorithm "winograd" is for windows of 3x3 with stride and dilation 1, got kernel '
            f"{h[0], w[0]}, stride {h[1], w[1]} and dilation {h[2], w[2]}"
        )

    if channels > MOST_CHANNELS:
        return 0

    def work(m: int) -> float:
        tiles = batch * -(-outputs[0] // m) * -(-outputs[1] // m)
        products = channels * (filters + PIXELS_AS_FILTERS[m]) + OUTPUTS_AS_CHANNELS[m] * filters
        products = tiles * products + WEIGHTS_AS_TILES[m] * channels * filters
        return PRODUCT[m] * groups * (m + 2) ** 2 * products + CALL

    size = min((2, 4) if high else (2,), key=work)
    direct = 9.0 * batch * groups * channels * filters * outputs[0] * outputs[1] + CALL
    return size if algorithm == "winograd" or direct > GAIN * work(size) else 0
