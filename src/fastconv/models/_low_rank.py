"""Networks whose convolutions and products are written as two smaller ones."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fastconv._arguments import IntPair, Padding, number, pair, positive
from fastconv._arrays import Array, Shape
from fastconv._errors import argument_error, named, shown
from fastconv._layer import is_chain
from fastconv._structure import named_children, paths
from fastconv._text import table
from fastconv.inference._lowering import graph_of
from fastconv.layers import Affine, Concatenation, Convolution, Dropout, Layer, Residual
from fastconv.models._sequential import Sequential

STEPS = 40
"""The number of halvings that find an energy: 2**-40 is below what ranks can tell apart."""


@named
def low_rank(
    network: Sequential,
    ratio: float = 0.5,
    *,
    energy: float | None = None,
    verbose: bool = False,
) -> Sequential:
    """Write the convolutions and products of a network as two smaller ones each.

    The weights of a layer are a matrix, of which the terms with the largest singular values are
    kept. A convolution is cut in one of two ways: into a convolution along columns and one along
    rows [1]_, or into fewer filters of the same size and a 1x1 convolution [2]_; the one that needs
    fewer multiply-adds is taken. A product becomes two. A layer that would need more than before
    stays as it is. A short training afterwards wins back most of the accuracy that is lost.

    Parameters
    ----------
    network : Sequential
        What to begin with; it is not changed.
    ratio : float, default 0.5
        The fraction of the network's multiply-adds that is left at most. Every layer then keeps the
        same energy, the largest with which this is so.
    energy : float, optional
        The fraction of the sum of squared singular values that every layer keeps at least, from 0
        to 1, instead of `ratio`.
    verbose : bool, default False
        Whether to print a table of the layers, their ranks and multiply-adds.

    Returns
    -------
    Sequential
        Another network, with copies of the layers that are not cut.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If `ratio` or `energy` is not between 0 and 1, or no ranks leave so few multiply-adds.

    References
    ----------
    .. [1] M. Jaderberg, A. Vedaldi and A. Zisserman, "Speeding up Convolutional Neural Networks
       with Low Rank Expansions", BMVC 2014, https://arxiv.org/abs/1405.3866; C. Tai et al.,
       "Convolutional Neural Networks with Low-rank Regularization", ICLR 2016,
       https://arxiv.org/abs/1511.06067, has the decomposition in closed form
    .. [2] E. Denton et al., "Exploiting Linear Structure Within Convolutional Networks for
       Efficient Evaluation", NIPS 2014, https://arxiv.org/abs/1404.0736

    Examples
    --------
    >>> from fastconv.layers import Relu
    >>> from fastconv.models import Sequential, low_rank
    >>> net = Sequential((8, 16, 16), seed=0).convolution(32, 3, pad=1).add(Relu()).affine(10)
    >>> print(net)
    Sequential(input (8, 16, 16), output (10,), 3 layers, 84266 parameters)
    >>> print(low_rank(net, 0.5))
    Sequential(input (8, 16, 16), output (10,), 5 layers, 50334 parameters)
    """
    if not isinstance(network, Sequential):
        raise argument_error(TypeError, f"network must be a Sequential, got {shown(network)}")
    for value, name in ((ratio, "ratio"), (energy, "energy")):
        if value is not None and not 0 < number(value, name) <= 1:
            raise argument_error(
                ValueError, f"{name} must be above 0 and at most 1, got {shown(value)}"
            )
    layers = dict(_cuttable(network))
    if energy is None:
        energy = _energy(network, layers, ratio)
    if verbose:
        print(_report(layers, energy))
    parts = _rebuilt(network, "", layers, energy)
    return Sequential(network.input_dim, parts, dtype=network.dtype, seed=deepcopy(network.rng))


@dataclass(frozen=True)
class Cut:
    """A way to write a layer's weights as a product of two matrices.

    Attributes
    ----------
    name : str
        "spatial", "channel" or "product".
    left, values, right : ndarray
        The singular value decomposition of the weights: for each group a matrix (rows, rank), the
        values, and a matrix (rank, columns).
    cost : float
        Multiply-adds per rank.
    """

    name: str
    left: Array
    values: Array
    right: Array
    cost: float

    def rank(self, energy: float) -> int:
        """Return the least rank that keeps a part of the squares, in the sum of all groups."""
        squares = np.square(self.values).sum(axis=0)
        kept = np.cumsum(squares)
        return int(np.searchsorted(kept, energy * kept[-1] * (1 - 1e-12))) + 1

    def halves(self, rank: int) -> tuple[Array, Array]:
        """Return the two matrices, which share the singular values."""
        roots = np.sqrt(self.values[:, :rank])
        return self.left[:, :, :rank] * roots[:, None], self.right[:, :rank] * roots[..., None]


class Factors:
    """A layer's weights, cut in every way that there is.

    Parameters
    ----------
    layer : Convolution or Affine
        The layer.
    source, target : tuple of int
        Shapes of its input and output, without the batch.
    multiply_adds : int
        What the layer needs for one input.
    """

    def __init__(
        self, layer: Convolution | Affine, source: Shape, target: Shape, multiply_adds: int
    ) -> None:
        self.layer, self.source, self.target = layer, source, target
        self.multiply_adds = multiply_adds

    @cached_property
    def cuts(self) -> list[Cut]:
        """The ways to cut the weights."""
        layer = self.layer
        W = np.asarray(layer.W, np.float64)
        if isinstance(layer, Affine):
            return [_cut("product", W[None], sum(W.shape))]
        groups, (f, c, kh, kw) = positive(layer.groups, "groups"), W.shape
        _, height, width = self.target
        grouped = W.reshape(groups, f // groups, c, kh, kw)
        rows = grouped.transpose(0, 2, 3, 4, 1).reshape(groups, c * kh * kw, f // groups)
        cuts = [_cut("channel", rows, height * width * (c * kh * kw * groups + f))]
        if kh > 1 and kw > 1:
            columns = grouped.transpose(0, 2, 3, 4, 1).reshape(groups, c * kh, kw * (f // groups))
            # The first convolution leaves the columns as they are.
            wide = self.source[2]
            cost = height * (wide * c * kh * groups + width * kw * f)
            cuts.append(_cut("spatial", columns, cost))
        return cuts

    def best(self, energy: float) -> tuple[Cut, int] | None:
        """Return the cheapest cut that keeps an energy, with its rank; None if none is cheaper."""
        ranked = [(cut, cut.rank(energy)) for cut in self.cuts]
        cut, rank = min(ranked, key=lambda pair: pair[0].cost * pair[1])
        return (cut, rank) if cut.cost * rank < self.multiply_adds else None

    def cost(self, energy: float) -> float:
        """Return the multiply-adds that are left."""
        found = self.best(energy)
        return self.multiply_adds if found is None else found[0].cost * found[1]

    def layers(self, energy: float) -> list[Layer]:
        """Make the layers that take the place of this one."""
        found = self.best(energy)
        if found is None:
            return [deepcopy(self.layer)]
        cut, rank = found
        left, right = cut.halves(rank)
        if isinstance(self.layer, Affine):
            dtype, b = self.layer.W.dtype, deepcopy(self.layer.b)
            return [Affine(left[0].astype(dtype), None), Affine(right[0].astype(dtype), b)]
        make = _spatial if cut.name == "spatial" else _channel
        return make(self.layer, left, right)


def _cut(name: str, matrices: Array, cost: float) -> Cut:
    """Decompose matrices, one for each group.

    The singular vectors of the shorter side are the eigenvectors of a product of the matrix with
    itself, which takes a tenth of the time of LAPACK's decomposition of long matrices. What float64
    loses in the product is less than the rounding of float32 weights.
    """
    tall = matrices.shape[1] >= matrices.shape[2]
    long = matrices if tall else matrices.swapaxes(1, 2)
    squares, vectors = np.linalg.eigh(long.swapaxes(1, 2) @ long)
    values = np.sqrt(np.maximum(squares[:, ::-1], 0))
    vectors = vectors[:, :, ::-1]
    others = long @ vectors / np.maximum(values, np.finfo(float).tiny)[:, None]
    if tall:
        return Cut(name, others, values, vectors.swapaxes(1, 2), cost)
    return Cut(name, vectors, values, others.swapaxes(1, 2), cost)


def _channel(layer: Convolution, left: Array, right: Array) -> list[Layer]:
    """Make few filters of the same size, and a 1x1 convolution."""
    f, c, kh, kw = layer.W.shape
    first = left.transpose(0, 2, 1).reshape(-1, c, kh, kw)
    second = right.transpose(0, 2, 1).reshape(f, -1, 1, 1)
    head = _like(layer, first, None, layer.stride, layer.pad, layer.dilation)
    return [head, _like(layer, second, layer.b, 1, 0, 1)]


def _spatial(layer: Convolution, left: Array, right: Array) -> list[Layer]:
    """Make a convolution along columns, and one along rows."""
    f, c, kh, kw = layer.W.shape
    groups, rank = len(left), left.shape[2]
    first = left.transpose(0, 2, 1).reshape(-1, c, kh, 1)
    second = right.reshape(groups, rank, kw, f // groups).transpose(0, 3, 1, 2)
    second = second.reshape(f, rank, 1, kw)
    vertical, horizontal = _padding_by_axis(layer.pad)
    (sh, sw), (dh, dw) = pair(layer.stride, "stride"), pair(layer.dilation, "dilation")
    return [
        _like(layer, first, None, (sh, 1), vertical, (dh, 1)),
        _like(layer, second, layer.b, (1, sw), horizontal, (1, dw)),
    ]


def _like(
    layer: Convolution,
    weight: Array,
    b: Array | None,
    stride: IntPair,
    pad: Padding,
    dilation: IntPair,
) -> Convolution:
    """Make a convolution of a layer's dtype, groups and kind of padding."""
    return Convolution(
        weight.astype(layer.W.dtype),
        deepcopy(b),
        stride,
        pad,
        dilation=dilation,
        groups=layer.groups,
        pad_mode=layer.pad_mode,
    )


def _padding_by_axis(pad: Padding) -> tuple[Padding, Padding]:
    """Cut padding into that of the top and bottom, and that of the sides."""
    if isinstance(pad, str):  # An axis of one tap has none.
        return pad, pad
    if isinstance(pad, (int, np.integer)):
        pad = (int(pad), int(pad))
    vertical, horizontal = np.broadcast_to(np.array(pad).reshape(2, -1), (2, 2)).tolist()
    return (vertical, (0, 0)), ((0, 0), horizontal)


def _cuttable(network: Sequential) -> Iterator[tuple[str, Factors]]:
    """Yield the layers that can be cut, by their paths."""
    layers = dict(paths(network))
    for step in graph_of(network):
        layer, sources = layers.get(step.name), [source.shape for source in step.inputs]
        if isinstance(layer, (Convolution, Affine)) and type(layer) in (Convolution, Affine):
            cost = step.operation.multiply_adds(*sources)
            yield step.name, Factors(layer, sources[0], step.shape, cost)


def _energy(network: Sequential, layers: dict[str, Factors], ratio: float) -> float:
    """Find the largest energy with which the multiply-adds are few enough."""
    whole = sum(layer.multiply_adds for layer in layers.values())

    def left(energy: float) -> float:
        return sum(layer.cost(energy) for layer in layers.values())

    least, most = 0.0, 1.0
    if left(most) <= ratio * whole:
        return most
    if left(least) > ratio * whole:
        raise argument_error(
            ValueError,
            f"ratio {ratio} is too small: with ranks of 1 {left(least) / whole:.3f} are left",
        )
    for _ in range(STEPS):
        middle = (least + most) / 2
        if left(middle) <= ratio * whole:
            least = middle
        else:
            most = middle
    return least


def _report(layers: dict[str, Factors], energy: float) -> str:
    """Write a table of what is cut."""
    rows = []
    for path, layer in layers.items():
        found = layer.best(energy)
        how = ("", "") if found is None else (found[0].name, found[1])
        full = "" if found is None else found[0].values.shape[1]
        rows.append((path, *how, full, layer.multiply_adds, round(layer.cost(energy))))
    before, after = (sum(row[i] for row in rows) for i in (4, 5))
    heads = ("layer", "cut", "rank", "of", "multiply-adds", "after")
    last = (f"total, energy {energy:.4f}", "", "", "", before, after)
    return table(heads, [*rows, last], left=2)


def _rebuilt(layer: Any, path: str, factors: dict[str, Factors], energy: float) -> list[Any]:
    """Make what takes the place of a layer: it is cut, or what it holds is, or it is copied."""
    if path in factors:
        return factors[path].layers(energy)
    parts = [
        _rebuilt(child, f"{path}.{name}".lstrip("."), factors, energy)
        for name, child in named_children(layer)
    ]
    if is_chain(layer):
        return [part for some in parts for part in some]
    if type(layer) is Residual:
        shortcut = None if layer.shortcut is None else parts[1]
        activation = None if layer.activation is None else parts[-1][0]
        return [Residual(*parts[0], shortcut=shortcut, activation=activation)]
    if type(layer) is Concatenation:
        return [Concatenation(*parts)]
    copy = deepcopy(layer)
    if isinstance(copy, Dropout):
        copy.rng = None  # The new network gives it its own generator.
    return [copy]
