"""Layers of neural networks, with the names and attributes that textbooks give them.

A layer holds its parameters and what its forward pass leaves for the backward pass, and calls the
functions of this library for the work. Parameters are called ``W``, ``b``, ``gamma`` and ``beta``;
``backward`` leaves their gradients in ``dW``, ``db``, ``dgamma`` and ``dbeta`` and returns the
gradient of the layer's input. A network's code that was written for the classes of the same names
in K. Saitoh, "Deep Learning from Scratch" (O'Reilly Japan, 2016), runs unchanged.

All layers take float16, float32 and float64, keep the dtype they are given, and can be pickled and
deep-copied; a copy has the parameters and lacks the last batch, so that it begins with `forward`.
Batches may differ in size from call to call. ``W`` and ``b`` may be reassigned, or
changed in place, between calls. ``backward`` before ``forward`` is a RuntimeError. Convolution and
pooling leave it to the functions that they call to say which shape does not fit, so that there
``x`` is called ``input`` and ``W`` is called ``weight``.
"""

from fastconv._layer import Layer
from fastconv.layers._activations import (
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Relu,
    Relu6,
    Sigmoid,
    SiLU,
)
from fastconv.layers._containers import Chain, Concatenation, Residual
from fastconv.layers._dropout import Dropout
from fastconv.layers._learned import Affine, Convolution, Convolution1D
from fastconv.layers._loss import MeanSquaredError, SoftmaxWithLoss
from fastconv.layers._normalization import BatchNormalization, LocalResponseNormalization
from fastconv.layers._pooling import (
    AveragePooling,
    AveragePooling1D,
    GlobalAveragePooling,
    Pooling,
    Pooling1D,
)
from fastconv.layers._shape import ChannelShuffle, Flatten, IdentityShortcut

__all__ = [
    "Affine",
    "AveragePooling",
    "AveragePooling1D",
    "BatchNormalization",
    "Chain",
    "ChannelShuffle",
    "Concatenation",
    "Convolution",
    "Convolution1D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling",
    "HardSigmoid",
    "HardSwish",
    "IdentityShortcut",
    "Layer",
    "LeakyRelu",
    "LocalResponseNormalization",
    "MeanSquaredError",
    "Pooling",
    "Pooling1D",
    "Relu",
    "Relu6",
    "Residual",
    "SiLU",
    "Sigmoid",
    "SoftmaxWithLoss",
]
