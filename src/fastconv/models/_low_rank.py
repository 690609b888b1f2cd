"""Networks whose convolutions and products are written as two smaller ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._arguments import IntPair, Padding, number, pair, positive, sides
from fastconv._arrays import Array, Shape, computed_dtype
from fastconv._errors import argument_error, named, shown
from fastconv._layer import is_chain
from fastconv._structure import named_children, paths
from fastconv._text import table
from fastconv.inference._lowering import graph_of
from fastconv.layers import Affine, Chain, Concatenation, Convolution, Layer, Residual
from fastconv.layers._containers import chained
from fastconv.models._sequential import Sequential

STEPS = 60
"""The number of halvings that find a price: it is then known to 16 digits."""


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
    rows [1]_, or into fewer filters of the same size and a 1x1 convolution [2]_. A product becomes
    two. A layer that gains nothing stays as it is. A short training afterwards wins back most of
    the accuracy that is lost.

    Parameters
    ----------
    network : Sequential
        What to begin with; it is not changed.
    ratio : float, default 0.5
        The fraction of the network's multiply-adds that is left at most. The ranks are those with
        which the product of the fractions that layers keep of their squared singular values is as
        large as possible [3]_.
    energy : float, optional
        The fraction of the sum of squared singular values that every layer keeps at least, above 0
        and at most 1, instead of `ratio`. Every layer then gets the cut that needs the fewest
        multiply-adds.
    verbose : bool, default False
        Whether to print a table of the layers, their ranks and multiply-adds.

    Returns
    -------
    Sequential
        Another network, with copies of the layers that are not cut. Where a layer is cut, two stand
        behind each other.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If `ratio` or `energy` is not above 0 and at most 1, no ranks leave so few multiply-adds, or
        weights hold NaN or infinity.

    Notes
    -----
    Layers of subclasses, and those within layers of other libraries, are not cut. Chains become
    `Sequential` or `fastconv.layers.Chain`, whatever their subclass.

    References
    ----------
    .. [1] M. Jaderberg, A. Vedaldi and A. Zisserman, "Speeding up Convolutional Neural Networks
       with Low Rank Expansions", BMVC 2014, https://arxiv.org/abs/1405.3866; C. Tai et al.,
       "Convolutional Neural Networks with Low-rank Regularization", ICLR 2016,
       https://arxiv.org/abs/1511.06067, has the decomposition in closed form
    .. [2] E. Denton et al., "Exploiting Linear Structure Within Convolutional Networks for
       Efficient Evaluation", NIPS 2014, https://arxiv.org/abs/1404.0736
    .. [3] X. Zhang, J. Zou, K. He and J. Sun, "Accelerating Very Deep Convolutional Networks for
       Classification and Detection", TPAMI 2016, https://arxiv.org/abs/1505.06798

    Examples
    --------
    >>> from fastconv.models import DeepConvNet, low_rank
    >>> net = DeepConvNet(seed=0)
    >>> small = low_rank(net, 0.4)
    >>> small.multiply_adds() / net.multiply_adds() <= 0.4
    True
    >>> list(net.layers)[:4], list(small.layers)[:4]
    (['Conv1', 'Relu1', 'Conv2', 'Relu2'], ['Conv1', 'Relu1', 'Conv2', 'Conv3'])
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
        choices = _within_ratio(network, layers, ratio)
    else:
        choices = {path: layer.keeping(energy) for path, layer in layers.items()}
    if verbose:
        print(_report(network, layers, choices))
    memo: dict[int, Any] = {}  # Layers that share a generator share its copy.
    (small,) = _rebuilt(network, "", layers, choices, memo)
    found: Sequential = small
    return found


@dataclass(frozen=True)
class Cut:
    """A way to write a layer's weights as a product of two matrices.

    Attributes
    ----------
    name : str
        "spatial", "channel" or "product".
    left, values, right : ndarray
        The singular value decomposition of the weights: for each group a matrix (rows, rank), the
        values in descending order, and a matrix (rank, columns).
    cost : int
        Multiply-adds per rank.
    """

    name: str
    left: Array
    values: Array
    right: Array
    cost: int

    def lost(self) -> Array:
        """Return which part of the squared singular values each rank loses, from rank 1 on."""
        largest = self.values.max()
        if largest == 0:
            return np.zeros(self.values.shape[1])
        # Sums from the smallest value on do not lose it beside the largest.
        squares = np.square(self.values / largest).sum(axis=0)
        rests = np.cumsum(squares[::-1])[::-1]
        lost: Array = np.append(rests[1:], 0) / rests[0]
        return lost

    def halves(self, rank: int) -> tuple[Array, Array]:
        """Return the two matrices, which share the singular values.

        Where a value is zero, as in weights that are all zero, the left vector stays: if both sides
        were zero, so would be the gradients of both, and they could never learn.
        """
        roots = np.sqrt(self.values[:, :rank])
        left = self.left[:, :, :rank] * np.where(roots > 0, roots, 1)[:, None]
        return left, self.right[:, :rank] * roots[..., None]


@dataclass(frozen=True)
class Choice:
    """What becomes of a layer.

    Attributes
    ----------
    cut : Cut or None
        How it is cut; None if it stays as it is.
    rank : int
        How many terms of the cut are kept, in each group.
    cost : int
        Multiply-adds that are left.
    lost : float
        The part of the squared singular values that is lost.
    """

    cut: Cut | None
    rank: int
    cost: int
    lost: float


class Factors:
    """A layer, and all ways to cut it that need fewer multiply-adds.

    Parameters
    ----------
    layer : Convolution or Affine
        The layer.
    cuts : sequence of Cut
        Decompositions of its weights.
    multiply_adds : int
        What the layer needs for one input.
    """

    def __init__(
        self, layer: Convolution | Affine, cuts: Sequence[Cut], multiply_adds: int
    ) -> None:
        self.layer, self.multiply_adds = layer, multiply_adds
        self.choices = [Choice(None, 0, multiply_adds, 0.0)]
        for cut in cuts:
            self.choices += [
                Choice(cut, rank, cut.cost * rank, float(lost))
                for rank, lost in enumerate(cut.lost(), 1)
                if cut.cost * rank < multiply_adds
            ]
        self.choices.sort(key=lambda choice: choice.cost)  # Of equal losses the cheapest is first.
        self._costs = np.array([choice.cost for choice in self.choices], float)
        self._lost = np.array([choice.lost for choice in self.choices])
        self._losses = -np.log1p(-self._lost)

    def keeping(self, energy: float) -> Choice:
        """Choose what needs the fewest multiply-adds of all that keep an energy."""
        return self.choices[int((self._lost <= 1 - energy).argmax())]

    def at(self, price: float) -> Choice:
        """Choose what loses least, if a multiply-add costs as much as a loss of `price`."""
        return self.choices[int((self._losses + price * self._costs).argmin())]

    def within(self, cost: float) -> Choice:
        """Choose what loses least of all that need so many multiply-adds at most."""
        return self.choices[int(np.where(self._costs <= cost, self._lost, np.inf).argmin())]

    def least(self) -> int:
        """Return the fewest multiply-adds that can be left."""
        return self.choices[0].cost

    def layers(self, choice: Choice, memo: dict[int, Any]) -> list[Layer]:
        """Make the layers that take the place of this one."""
        if choice.cut is None:
            return [deepcopy(self.layer, memo)]
        left, right = choice.cut.halves(choice.rank)
        if isinstance(self.layer, Affine):
            dtype = _dtype(self.layer)
            b = deepcopy(self.layer.b)
            return [Affine(left[0].astype(dtype), None), Affine(right[0].astype(dtype), b)]
        make = _spatial if choice.cut.name == "spatial" else _channel
        return make(self.layer, left, right)


def _factors(
    path: str, layer: Convolution | Affine, source: Shape, target: Shape, multiply_adds: int
) -> Factors:
    """Decompose a layer's weights, for the shapes of its input and output without the batch."""
    W = np.asarray(layer.W, np.float64)
    if not np.isfinite(W).all():
        raise argument_error(ValueError, f"network: the weights of {path} hold NaN or infinity")
    precision = float(np.finfo(_dtype(layer)).eps)
    if isinstance(layer, Affine):
        return Factors(layer, [_cut("product", W[None], sum(W.shape), precision)], multiply_adds)
    groups, (f, c, kh, kw) = positive(layer.groups, "groups"), W.shape
    _, height, width = target
    grouped = W.reshape(groups, f // groups, c, kh, kw).transpose(0, 2, 3, 4, 1)
    rows = grouped.reshape(groups, c * kh * kw, f // groups)
    cost = height * width * (c * kh * kw * groups + f)
    cuts = [_cut("channel", rows, cost, precision)]
    if kh > 1 and kw > 1:
        columns = grouped.reshape(groups, c * kh, kw * (f // groups))
        # The first convolution gives images of the output's height and the input's width.
        cost = height * (source[2] * c * kh * groups + width * kw * f)
        cuts.append(_cut("spatial", columns, cost, precision))
    return Factors(layer, cuts, multiply_adds)


def _cut(name: str, matrices: Array, cost: int, precision: float) -> Cut:
    """Decompose matrices, one for each group.

    Values that rounding alone explains count as zero. Otherwise weights that were computed with a
    low rank would have a full one. Rounding of the weights adds an m x n matrix of random numbers,
    each at most half of `precision` times a weight. The largest singular value of such a matrix is
    about its Frobenius norm times 1/sqrt(m) + 1/sqrt(n). The decomposition rounds, too.
    """
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    m, n = matrices.shape[1:]
    largest = values[:, :1]
    norms = np.linalg.norm(values / np.where(largest > 0, largest, 1), axis=1, keepdims=True)
    of_weights = precision * norms * (m**-0.5 + n**-0.5)
    of_decomposition = np.finfo(np.float64).eps * max(m, n)
    values = np.where(values > largest * (of_weights + of_decomposition), values, 0)
    return Cut(name, left, values, right, cost)


def _dtype(layer: Convolution | Affine) -> np.dtype[Any]:
    """Return the dtype of a layer's new weights: integers have no room for them."""
    return computed_dtype(np.asarray(layer.W).dtype)


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
        weight.astype(_dtype(layer)),
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
    vertical, horizontal = sides(pad, "pad")
    return (vertical, (0, 0)), ((0, 0), horizontal)


def _cuttable(network: Sequential) -> Iterator[tuple[str, Factors]]:
    """Yield the layers that can be cut, by their paths.

    Of a subclass nobody knows what it has changed, so that it is none of them. Neither is what
    another layer than those of the library holds.
    """
    layers = dict(paths(network))
    for step in graph_of(network):
        layer: Any = layers.get(step.name)
        sources = [source.shape for source in step.inputs]
        if type(layer) in (Convolution, Affine) and np.size(layer.W):
            cost = step.operation.multiply_adds(*sources)
            yield step.name, _factors(step.name, layer, sources[0], step.shape, cost)


def _within_ratio(
    network: Sequential, layers: dict[str, Factors], ratio: float
) -> dict[str, Choice]:
    """Choose so that the multiply-adds are few enough, and the product of kept energies is largest.

    That is the method of Lagrange: with one price of a multiply-add for all layers, each can choose
    by itself. As a layer's choices are few, some multiply-adds are then to spare. Layers that can
    use them get them, those that lose most first.

    The product spares layers that would lose nearly everything. With the sum of lost fractions
    instead, they are given up where that is cheap; with the same energy for all layers, small ones,
    which save little, lose as much as large ones. docs/low-rank.md compares the accuracies.
    """
    whole = network.multiply_adds()
    fixed = whole - sum(layer.multiply_adds for layer in layers.values())
    least = fixed + sum(layer.least() for layer in layers.values())
    if least > ratio * whole:
        raise argument_error(
            ValueError,
            f"ratio must be at least {least / whole:.4g} for this network, which is left with "
            f"ranks of 1, got {shown(ratio)}",
        )
    low, high = -100.0, 100.0  # Powers of 2: at the first all cuts are too dear, at the last none.
    choices: dict[str, Choice] = {}
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = {path: layer.at(2.0**middle) for path, layer in layers.items()}
        if fixed + sum(choice.cost for choice in found.values()) <= ratio * whole:
            high, choices = middle, found
        else:
            low = middle
    spare = ratio * whole - fixed - sum(choice.cost for choice in choices.values())
    for path in sorted(choices, key=lambda path: -choices[path].lost):
        better = layers[path].within(choices[path].cost + spare)
        spare += choices[path].cost - better.cost
        choices[path] = better
    return choices


def _report(network: Sequential, layers: dict[str, Factors], choices: dict[str, Choice]) -> str:
    """Write a table of what is cut."""
    rows: list[tuple[Any, ...]] = []
    for path, layer in layers.items():
        choice = choices[path]
        how: tuple[Any, ...] = ("", "", "")
        if choice.cut is not None:
            how = (choice.cut.name, choice.rank, choice.cut.values.shape[1])
        rows.append((path, *how, f"{1 - choice.lost:.4f}", layer.multiply_adds, choice.cost))
    before = network.multiply_adds()
    after = before + sum(row[-1] - row[-2] for row in rows)
    heads = ("layer", "cut", "rank", "of", "energy", "multiply-adds", "after")
    return table(heads, [*rows, ("total", "", "", "", "", before, after)], left=2)


def _rebuilt(
    layer: Any,
    path: str,
    factors: dict[str, Factors],
    choices: dict[str, Choice],
    memo: dict[int, Any],
) -> list[Any]:
    """Make what takes the place of a layer: it is cut, or what it holds is, or it is copied."""
    if path in factors:
        return factors[path].layers(choices[path], memo)
    if not is_chain(layer) and type(layer) not in (Residual, Concatenation):
        return [deepcopy(layer, memo)]
    parts = [
        _rebuilt(child, f"{path}.{name}".lstrip("."), factors, choices, memo)
        for name, child in named_children(layer)
    ]
    if type(layer) is Residual:
        activation = None if layer.activation is None else chained(parts.pop())
        shortcut = None if layer.shortcut is None else parts.pop()
        return [Residual(*parts[0], shortcut=shortcut, activation=activation)]
    if type(layer) is Concatenation:
        return [Concatenation(*parts)]
    together = [part for some in parts for part in some]
    if not isinstance(layer, Sequential):
        return [Chain(*together)]
    rng = deepcopy(layer.rng, memo)
    network = Sequential(layer.input_dim, together, dtype=layer.dtype, seed=rng)
    network.last_layer = deepcopy(layer.last_layer, memo)
    return [network]
