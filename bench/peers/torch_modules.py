"""Our networks as modules of PyTorch with copies of the parameters, built as its users build them.

A rectification overwrites its input, and a residual connection what its body gives, where PyTorch
needs neither for gradients: that saves memory and time.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench.networks import pads_of
from fastconv import layers, models
from fastconv._arguments import pair
from fastconv._layer import Layer, is_chain, shape_behind

Shape = tuple[int, ...]
Pads = Sequence[Sequence[int]]

# The names that PyTorch has for our parameters.
NAMES = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}
# PyTorch computes the gradients of these without their results, which may be overwritten.
FREE_RESULTS = (layers.Convolution, layers.Affine, layers.BatchNormalization)


def converted(net: models.Sequential) -> tuple[Any, list[Any]]:
    """Give the network as a module, and its parameters in the order of ours.

    Matrices are transposed: PyTorch's have a row for each output.
    """
    convert = _Conversion(net.dtype)
    module = convert(net, net.input_dim)
    parameters = [
        getattr(convert.modules[id(layer)], NAMES[name.rstrip("0123456789")])
        for name, layer in zip(net.params, net.params.layers(), strict=True)
    ]
    return module, parameters


class _Conversion:
    """Makes modules of layers, and remembers those that have parameters by their layer's id."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.modules: dict[int, Any] = {}

    def __call__(self, layer: Layer, shape: Shape) -> Any:
        """Convert a layer whose inputs have this shape, without the batch."""
        if is_chain(layer):
            return self._chain(layer.children, shape)  # type: ignore[attr-defined]
        kind = type(layer)
        if kind in CONTAINERS:
            return CONTAINERS[kind](self, layer, shape)
        if kind not in MODULES:
            raise TypeError(f"there is no module for a layer {kind.__name__}")
        module = MODULES[kind](layer, shape)
        self.modules[id(layer)] = _learned(module)
        return module

    def _chain(self, children: Iterable[Layer], shape: Shape) -> Any:
        modules: list[Any] = []
        before: Layer | None = None
        for child in children:
            if type(child) is layers.Relu and isinstance(before, FREE_RESULTS):
                modules.append(nn.ReLU(inplace=True))
            else:
                modules.append(self(child, shape))
            shape, before = shape_behind(child, shape, self.dtype), child
        return nn.Sequential(*modules)

    def residual(self, layer: Any, shape: Shape) -> Any:
        shortcut = nn.Identity() if layer.shortcut is None else self(layer.shortcut, shape)
        activation: Any = nn.Identity()
        if type(layer.activation) is layers.Relu:
            activation = nn.ReLU(inplace=True)
        elif layer.activation is not None:
            activation = self(layer.activation, shape_behind(layer.body, shape, self.dtype))
        return _Residual(self(layer.body, shape), shortcut, activation, _is_free(layer.body))

    def concatenation(self, layer: Any, shape: Shape) -> Any:
        return _Concatenation([self(branch, shape) for branch in layer.children])


def _learned(module: Any) -> Any:
    """Find the part of a converted layer that holds its parameters."""
    return next((part for part in module.modules() if hasattr(part, "weight")), None)


def _is_free(layer: Layer) -> bool:
    """Tell whether what a layer gives may be overwritten."""
    if is_chain(layer):
        children = layer.children  # type: ignore[attr-defined]
        return bool(children) and _is_free(children[-1])
    return isinstance(layer, FREE_RESULTS)


class _Module(nn.Module):  # type: ignore[misc]  # The library is unknown to the checks of types.
    pass


class _Residual(_Module):
    def __init__(self, body: Any, shortcut: Any, activation: Any, overwrite: bool) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation
        self.overwrite = overwrite

    def forward(self, x: Any) -> Any:
        total = self.body(x)
        if self.overwrite:
            total += self.shortcut(x)
        else:
            total = total + self.shortcut(x)
        return self.activation(total)


class _Concatenation(_Module):
    def __init__(self, branches: list[Any]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Any) -> Any:
        return torch.cat([branch(x) for branch in self.branches], 1)


class _IdentityShortcut(_Module):
    def __init__(self, stride: tuple[int, int], more_channels: int) -> None:
        super().__init__()
        self.stride, self.more_channels = stride, more_channels

    def forward(self, x: Any) -> Any:
        kept = x[:, :, :: self.stride[0], :: self.stride[1]]
        return F.pad(kept, (0, 0, 0, 0, 0, self.more_channels))


class _Dropout(_Module):
    """Dropout that does not scale in training, but in use."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.ratio, self.training) * (1 - self.ratio)


class _HardSigmoid(_Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Any) -> Any:
        return torch.clamp(self.slope * x + 0.5, 0, 1)


def _filled(module: Any, **arrays: Any) -> Any:
    """Copy arrays to the parameters and buffers of a module."""
    for name, array in arrays.items():
        tensor = torch.from_numpy(np.array(array, np.asarray(arrays["weight"]).dtype))
        if isinstance(getattr(module, name), nn.Parameter):
            tensor = nn.Parameter(tensor)
        setattr(module, name, tensor)
    return module


def _bias(layer: Any) -> dict[str, Any]:
    return {} if layer.b is None else {"bias": layer.b}


def _convolution(layer: Any, shape: Shape) -> Any:
    if layer.pad_mode != "constant":
        raise TypeError(f"there is no module for a convolution with pad_mode={layer.pad_mode!r}")
    filters, _, *kernel = layer.W.shape
    pads = pads_of(layer, kernel, shape)
    settings = pair(layer.stride, "stride"), _symmetric(pads) or 0, pair(layer.dilation, "dilation")
    module = nn.utils.skip_init(
        *(nn.Conv2d, shape[0], filters, kernel, *settings, layer.groups, layer.b is not None)
    )
    return _padded(pads, 0.0, _filled(module, weight=layer.W, **_bias(layer)))


def _affine(layer: Any, shape: Shape) -> Any:
    module = nn.utils.skip_init(nn.Linear, *layer.W.shape, layer.b is not None)
    _filled(module, weight=layer.W.T, **_bias(layer))
    return nn.Sequential(nn.Flatten(), module) if len(shape) > 1 else module


def _batch_normalization(layer: Any, shape: Shape) -> Any:
    kind = nn.BatchNorm2d if len(shape) > 1 else nn.BatchNorm1d
    module = kind(layer.gamma.size, layer.eps, 1 - layer.momentum)
    none = np.zeros(layer.gamma.size)
    mean, variance = (none if of is None else of for of in (layer.running_mean, layer.running_var))
    arrays = {"bias": layer.beta, "running_mean": mean, "running_var": variance}
    return _filled(module, weight=layer.gamma, **arrays)


def _pooling(layer: Any, shape: Shape) -> Any:
    kernel, stride = (layer.pool_h, layer.pool_w), pair(layer.stride, "stride")
    pads = pads_of(layer, kernel, shape)
    if _is_ceil_mode(shape[1:], kernel, stride, pads):
        return nn.MaxPool2d(kernel, stride, ceil_mode=True)
    return _padded(pads, -np.inf, nn.MaxPool2d(kernel, stride, _symmetric(pads) or 0))


def _average_pooling(layer: Any, shape: Shape) -> Any:
    kernel = layer.pool_h, layer.pool_w
    pads = pads_of(layer, kernel, shape)
    module = nn.AvgPool2d(kernel, pair(layer.stride, "stride"), _symmetric(pads) or 0)
    return _padded(pads, 0.0, module)


def _symmetric(pads: Pads) -> tuple[int, ...] | None:
    """Give padding that is the same before and behind, which modules know, or None."""
    return tuple(first for first, _ in pads) if all(a == b for a, b in pads) else None


def _padded(pads: Pads, value: float, module: Any) -> Any:
    """Pad before the module what it does not pad itself."""
    if _symmetric(pads) is not None:
        return module
    (top, bottom), (left, right) = pads
    return nn.Sequential(nn.ConstantPad2d((left, right, top, bottom), value), module)


def _is_ceil_mode(size: Shape, kernel: Shape, stride: Shape, pads: Pads) -> bool:
    """Tell whether padding only lets the last window reach over the end, as `ceil_mode` does."""
    return any(behind for _, behind in pads) and all(
        before == 0 and -(-(n - k) // s) == (n + behind - k) // s
        for n, k, s, (before, behind) in zip(size, kernel, stride, pads, strict=True)
    )


def _identity_shortcut(layer: Any, shape: Shape) -> Any:
    return _IdentityShortcut(pair(layer.stride, "stride"), layer.channels - shape[0])


# What converts a layer whose inputs have a shape, without the batch.
MODULES: dict[type, Callable[[Any, Shape], Any]] = {
    layers.Convolution: _convolution,
    layers.Affine: _affine,
    layers.BatchNormalization: _batch_normalization,
    layers.LocalResponseNormalization: lambda layer, shape: nn.LocalResponseNorm(
        layer.size, layer.alpha, layer.beta, layer.k
    ),
    layers.Pooling: _pooling,
    layers.AveragePooling: _average_pooling,
    layers.GlobalAveragePooling: lambda layer, shape: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    layers.Flatten: lambda layer, shape: nn.Flatten(),
    layers.ChannelShuffle: lambda layer, shape: nn.ChannelShuffle(layer.groups),
    layers.IdentityShortcut: _identity_shortcut,
    layers.Dropout: lambda layer, shape: (nn.Dropout if layer.inverted else _Dropout)(
        layer.dropout_ratio
    ),
    layers.Relu: lambda layer, shape: nn.ReLU(),
    layers.Relu6: lambda layer, shape: nn.ReLU6(),
    layers.LeakyRelu: lambda layer, shape: nn.LeakyReLU(layer.slope),
    layers.Sigmoid: lambda layer, shape: nn.Sigmoid(),
    layers.HardSigmoid: lambda layer, shape: _HardSigmoid(layer.slope),
    layers.HardSwish: lambda layer, shape: nn.Hardswish(),
    layers.SiLU: lambda layer, shape: nn.SiLU(),
}
CONTAINERS: dict[type, Callable[[_Conversion, Any, Shape], Any]] = {
    layers.Residual: _Conversion.residual,
    layers.Concatenation: _Conversion.concatenation,
}
