"""A network that is a chain of layers: how one is made, looked at and kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod, sqrt
from typing import Any, Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arguments import IntPair, OneInt, Padding, number, per_axis, positive
from fastconv._arrays import Array, Shape
from fastconv._errors import argument_error, named
from fastconv._files import path_of
from fastconv._layer import widened
from fastconv._structure import paths
from fastconv.inference import InferenceNetwork
from fastconv.layers import Affine, BatchNormalization, Convolution, Convolution1D
from fastconv.models._chain import LEARNED, Chain, Seed
from fastconv.models._multiply_adds import multiply_adds
from fastconv.models._npz import load, write_npz
from fastconv.models._parameters import assign
from fastconv.models._receptive_field import ReceptiveField, receptive_field_of
from fastconv.models._summary import summary_of

__all__ = ["Seed", "Sequential"]


@named
class Sequential(Chain):
    """A chain of layers that ends in scores for classes, with softmax and cross entropy behind it.

    It is a layer itself, so that a network, or a layer that holds others, can hold it.

    Parameters
    ----------
    input_dim : sequence of int
        Shape of one input: (C, H, W), (C, L), or (D,).
    layers : iterable of layers, optional
        What to begin with; the other methods add more.
    dtype : dtype, default float32
        What inputs and the parameters made here are converted to: float16, float32 or float64.
    seed : int or numpy.random.Generator, optional
        For the weights and for dropout. By default it is drawn from NumPy's global state, so that
        ``np.random.seed`` makes a run repeatable.

    Attributes
    ----------
    layers : dict of str to layer
        The layers by name: ``"Conv1"``, ``"Relu1"``, ``"Pool1"``, ...
    children : tuple of layers
        The layers alone.
    params : Parameters
        What is learned, by name: ``"W1"``, ``"b1"``, ``"W2"``, ... Optimisers change the arrays in
        place; assigning an array gives it to the layer.
    last_layer : SoftmaxWithLoss
        What turns scores into the loss.

    Examples
    --------
    >>> from fastconv.layers import Pooling, Relu
    >>> from fastconv.models import Sequential
    >>> net = Sequential((1, 28, 28), seed=0)
    >>> net.convolution(8, 3, pad=1).add(Relu(), Pooling(2, 2, 2)).affine(10)
    Sequential(input (1, 28, 28), output (10,), 4 layers, 15770 parameters)
      Conv1: Convolution(W=<(8, 1, 3, 3) float32>, b=<(8,) float32>, pad=1)
      Relu1: Relu()
      Pool1: Pooling(2, 2, stride=2)
      Affine1: Affine(W=<(1568, 10) float32>, b=<(10,) float32>)
    """

    # ---- layers with new weights ---------------------------------------------------------------

    def convolution(
        self,
        filters: SupportsIndex,
        size: IntPair,
        stride: IntPair = 1,
        pad: Padding = 0,
        *,
        dilation: IntPair = 1,
        groups: SupportsIndex = 1,
        bias: bool = True,
        std: float | None = None,
    ) -> Self:
        """Append a convolution with new weights.

        Parameters
        ----------
        filters : int
            Number of filters.
        size : int or pair of int
            Size of a filter, (vertical, horizontal).
        stride, pad, dilation, groups
            As in `fastconv.layers.Convolution`.
        bias : bool, default True
            Whether each filter has a number that is added to its outputs. Before batch
            normalisation, which takes such a number away again, it is not needed.
        std : float, optional
            Standard deviation of the weights, which are normally distributed; by default that of
            [1]_, ``sqrt(2 / fan_in)``.

        Returns
        -------
        Sequential
            The network itself.

        Raises
        ------
        TypeError, ValueError
            If an argument is none of what is said above, or the output so far is no image or too
            small.

        References
        ----------
        .. [1] K. He et al., "Delving Deep into Rectifiers", ICCV 2015,
           https://arxiv.org/abs/1502.01852

        Examples
        --------
        >>> from fastconv.models import Sequential
        >>> net = Sequential((3, 8, 8)).convolution(16, 3, stride=2, pad=1)
        >>> net.output_dim, net.params["W1"].shape
        ((16, 4, 4), (16, 3, 3, 3))
        """
        parts = positive(groups, "groups")
        W, b = self._filters(2, filters, size, parts, bias, std)
        return self.add(Convolution(W, b, stride, pad, dilation=dilation, groups=parts))

    def convolution1d(
        self,
        filters: SupportsIndex,
        size: OneInt,
        stride: OneInt = 1,
        pad: Padding = 0,
        *,
        dilation: OneInt = 1,
        groups: SupportsIndex = 1,
        bias: bool = True,
        std: float | None = None,
    ) -> Self:
        """Append a convolution of signals with new weights.

        Parameters
        ----------
        filters : int
            Number of filters.
        size : int
            Size of a filter.
        stride, pad, dilation, groups
            As in `fastconv.layers.Convolution1D`.
        bias, std
            As in `convolution`.

        Returns
        -------
        Sequential
            The network itself.

        Raises
        ------
        TypeError, ValueError
            If an argument is none of what is said above, or the output so far is no signal or too
            short.

        Examples
        --------
        >>> from fastconv.models import Sequential
        >>> net = Sequential((3, 64)).convolution1d(16, 5, stride=2, pad=2)
        >>> net.output_dim, net.params["W1"].shape
        ((16, 32), (16, 3, 5))
        """
        parts = positive(groups, "groups")
        W, b = self._filters(1, filters, size, parts, bias, std)
        return self.add(Convolution1D(W, b, stride, pad, dilation=dilation, groups=parts))

    def _filters(
        self,
        axes: int,
        filters: SupportsIndex,
        size: IntPair,
        groups: int,
        bias: bool,
        std: float | None,
    ) -> tuple[Array, Array | None]:
        """Make the weights of a convolution that slides along some axes."""
        if len(self.output_dim) != axes + 1:
            what = "a convolution" if axes == 2 else "a convolution of signals"
            raise argument_error(
                ValueError, f"{what} does not fit behind an output of {self.output_dim}"
            )
        count = positive(filters, "filters")
        shape = (count, max(1, self.output_dim[0] // groups), *per_axis(size, "size", axes))
        W = self._weight(shape, prod(shape[1:]), std)
        return W, np.zeros(count, self.dtype) if bias else None

    def affine(self, units: SupportsIndex, *, std: float | None = None) -> Self:
        """Append a fully connected layer with new weights.

        Parameters
        ----------
        units : int
            Number of outputs.
        std : float, optional
            Standard deviation of the weights; by default ``sqrt(2 / fan_in)``.

        Returns
        -------
        Sequential
            The network itself.

        Raises
        ------
        TypeError, ValueError
            If `units` is no positive int, or `std` no number.

        Examples
        --------
        >>> from fastconv.models import Sequential
        >>> net = Sequential((3, 8, 8)).affine(10)
        >>> net.output_dim, net.params["W1"].shape
        ((10,), (192, 10))
        """
        shape = prod(self.output_dim), positive(units, "units")
        W = self._weight(shape, shape[0], std)
        return self.add(Affine(W, np.zeros(shape[1], self.dtype)))

    def batch_normalization(self, momentum: float = 0.9, *, eps: float = 10e-7) -> Self:
        """Append batch normalisation of the channels, or of the features.

        Parameters
        ----------
        momentum, eps
            As in `fastconv.layers.BatchNormalization`.

        Notes
        -----
        The running variance starts from 1, so that a deep network that has not been trained yet
        does not divide by zero in every layer.

        Returns
        -------
        Sequential
            The network itself.

        Raises
        ------
        TypeError, ValueError
            If `momentum` or `eps` is no number, or `eps` is below 0.

        Examples
        --------
        >>> from fastconv.models import Sequential
        >>> list(Sequential((3, 8, 8)).convolution(4, 3).batch_normalization().state)
        ['W1', 'b1', 'gamma1', 'beta1', 'running_mean1', 'running_var1']
        """
        size, dtype = self.output_dim[0], self.dtype
        gamma, beta = np.ones(size, dtype), np.zeros(size, dtype)
        mean, var = widened(beta.copy()), widened(gamma.copy())
        return self.add(BatchNormalization(gamma, beta, momentum, mean, var, eps=eps))

    def branch(self) -> Sequential:
        """Make a chain that begins where this network ends now, for a layer that holds layers.

        It draws its weights from the same generator, and has the same dtype. Nothing is added to
        this network: give the `children` of branches to a `fastconv.layers.Residual` or
        `fastconv.layers.Concatenation`, and add that.

        Returns
        -------
        Sequential
            A network without layers, whose `input_dim` is this one's `output_dim`.

        Examples
        --------
        >>> from fastconv.layers import Concatenation, Relu, Residual
        >>> from fastconv.models import Sequential
        >>> net = Sequential((3, 8, 8), seed=0).convolution(4, 3, pad=1).add(Relu())
        >>> body = net.branch().convolution(4, 3, pad=1).add(Relu()).convolution(4, 3, pad=1)
        >>> net.add(Residual(*body.children)).output_dim
        (4, 8, 8)
        >>> left = net.branch().convolution(2, 1)
        >>> right = net.branch().convolution(6, 3, pad=1)
        >>> net.add(Concatenation(left.children, right.children)).output_dim
        (8, 8, 8)
        """
        return Sequential(self.output_dim, dtype=self.dtype, seed=self.rng)

    def _weight(self, shape: Shape, fan_in: int, std: float | None) -> Array:
        """Draw weights in place: a large network does not need its memory twice."""
        drawn: Any = np.float64 if self.dtype == np.float64 else np.float32
        weight: Array = self.rng.standard_normal(shape, drawn)
        weight *= sqrt(2 / fan_in) if std is None else number(std, "std")
        return weight.astype(self.dtype, copy=False)

    # ---- inference -----------------------------------------------------------------------------

    def optimized(self) -> InferenceNetwork:
        """Make a twin that computes the same scores faster, and cannot be trained.

        Its weights contain the batch normalisation, as it is when it is not in training. Bias,
        residual and activation are computed in the convolutions' own pass. Weights are packed once,
        and the arrays between layers share one block of memory, which is kept for the next call.

        Returns
        -------
        InferenceNetwork
            The twin, with a copy of the parameters: what is learned later does not reach it.

        See Also
        --------
        fastconv.plan : A table of its steps and their times.

        Notes
        -----
        Scores differ by rounding: batch normalisation is multiplied into the weights before the
        sums instead of after them. They are within 1e-5 of the largest score in float32 for the
        networks here.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.models import ResNet
        >>> net = ResNet(20, seed=0)
        >>> twin, x = net.optimized(), np.ones((2, 3, 32, 32))
        >>> bool(np.allclose(twin.predict(x), net.predict(x), rtol=1e-4))
        True
        """
        return InferenceNetwork(self)

    # ---- files ---------------------------------------------------------------------------------

    def save_params(self, file_name: str | os.PathLike[str] = "params.npz") -> None:
        """Write the parameters to an .npz file, whole or not at all.

        Parameters
        ----------
        file_name : path-like, default "params.npz"
            Where to; an existing file is replaced.

        Raises
        ------
        OSError
            If it cannot be written.
        TypeError
            If `file_name` is no path.

        See Also
        --------
        load_params : Read it; with an example.
        """
        write_npz(path_of(file_name, "file_name"), self.state)

    def load_params(
        self,
        file_name: str | os.PathLike[str] | Mapping[str, npt.ArrayLike] = "params.npz",
    ) -> None:
        """Read the parameters of a network of the same shape.

        Parameters
        ----------
        file_name : path-like or mapping of str to array_like, default "params.npz"
            A file that `save_params` wrote, or arrays by name, for instance from `read_pickle`.

        Raises
        ------
        OSError
            If the file cannot be opened.
        ValueError
            If it is damaged, or of another network; the parameters are then what they were.
        TypeError
            If `file_name` is neither a path nor a mapping.

        Examples
        --------
        >>> import os, tempfile
        >>> from fastconv.models import Sequential
        >>> net, other = (Sequential((4,), seed=seed).affine(2) for seed in (0, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "params.npz")
        ...     net.save_params(path)
        ...     other.load_params(path)
        >>> bool((other.params["W1"] == net.params["W1"]).all())
        True
        """
        if isinstance(file_name, Mapping):
            assign(self.state, file_name, "the mapping")
        else:
            load(self.state, path_of(file_name, "file_name"))

    # ---- summary -------------------------------------------------------------------------------

    def summary(self) -> None:
        """Print a table of the layers: activations, parameters and multiply-adds, for one input.

        Layers that neither change the shape nor hold parameters share a line with the one before.
        Layers that another one holds stand below it, indented. Where they compute side by side,
        each way has a title, and those behind their sum follow the word ``sum``.

        Examples
        --------
        >>> from fastconv.layers import Pooling, Relu
        >>> from fastconv.models import Sequential
        >>> net = Sequential((1, 28, 28)).convolution(32, 3)
        >>> net.add(Relu(), Pooling(2, 2, 2)).affine(10).summary()
        layer          filters        padding  activation shape  activation size  parameters  multiply-adds
        -------------  -------------  -------  ----------------  ---------------  ----------  -------------
        input                                  (1, 28, 28)                   784           0              0
        Conv1 + Relu1  32 of 1x3x3    0        (32, 26, 26)                21632         320         194688
        Pool1          2x2, stride 2  0        (32, 13, 13)                 5408           0              0
        Affine1                                (10,)                          10       54090          54080
        total                                                                          54410         248768
        """  # noqa: E501
        print(summary_of(self, self.input_dim, self._shapes, LEARNED))

    def multiply_adds(self) -> int:
        """Count the multiplications by weights, each with an addition, for one input.

        Each weight of a convolution is multiplied once for every pixel of the output, and each of a
        matrix once. An algorithm may need fewer, as Winograd's does.

        Returns
        -------
        int
            The sum over all layers, also those that other layers hold.

        Examples
        --------
        >>> from fastconv.models import Sequential
        >>> Sequential((3, 8, 8)).convolution(4, 3, pad=1).affine(10).multiply_adds()
        9472
        >>> 64 * (4 * 3 * 3 * 3) + 256 * 10
        9472
        """
        return sum(
            multiply_adds(layer, self._shapes[path])
            for path, layer in paths(self)
            if path in self._shapes
        )

    def receptive_field(self, layer: str | None = None) -> ReceptiveField:
        """Tell which pixels of an image an output depends on.

        Output (i, j) depends on the rows from ``offset[0] + i * stride[0]`` on, `size[0]` of them,
        and likewise on columns. Rows and columns outside of the image are padding.

        Parameters
        ----------
        layer : str, optional
            The name in `layers` of the layer whose outputs are meant. By default it is the last
            one before the network makes a row of each image: what follows, global pooling or a
            product with a matrix, sees all pixels.

        Returns
        -------
        ReceptiveField
            The fields `size`, `stride` and `offset`, each a pair (vertical, horizontal), or a tuple
            of one number in networks for signals; and `halo`, what tiles need around them.

        Raises
        ------
        TypeError
            If `layer` is no string.
        ValueError
            If there is no such layer, it or one before it sees all pixels, it is not known what one
            of them sees, or ways that are added or joined have different strides.

        Notes
        -----
        Where a layer adds or joins several ways, as residuals do, the field contains those of all
        of them. A window with dilation is counted from its first tap to its last.

        Examples
        --------
        >>> from fastconv.layers import Pooling
        >>> from fastconv.models import Sequential
        >>> net = Sequential((1, 28, 28)).convolution(8, 5, pad=2).add(Pooling(2, 2, stride=2))
        >>> net.affine(10).receptive_field()
        ReceptiveField(size=(6, 6), stride=(2, 2), offset=(-2, -2))
        """
        return receptive_field_of(self.layers, self.input_dim, layer)
