"""Networks by PyTorch's functions on NCHW tensors, gradients by autograd."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from bench.cases import Array
from bench.networks import NetworkCase, through
from fastconv import layers

FUNCTIONS: dict[type, Callable[..., Any]] = {
    layers.Convolution: lambda layer, x, weight, bias: F.conv2d(
        x, weight, bias, layer.stride, layer.pad, groups=layer.groups
    ),
    layers.Affine: lambda layer, x, weight, bias: F.linear(x.flatten(1), weight, bias),
    layers.Pooling: lambda layer, x: F.max_pool2d(x, layer.pool_h, layer.stride, layer.pad),
    layers.AveragePooling: lambda layer, x: F.avg_pool2d(x, layer.pool_h, layer.stride, layer.pad),
    layers.Relu: lambda layer, x: F.relu(x),
    layers.Sigmoid: lambda layer, x: F.sigmoid(x),
    layers.LocalResponseNormalization: lambda layer, x: F.local_response_norm(
        x, layer.size, layer.alpha, layer.beta, layer.k
    ),
}
TRAINING = FUNCTIONS | {layers.Dropout: lambda layer, x: F.dropout(x, layer.dropout_ratio)}
INFERENCE = FUNCTIONS | {layers.Dropout: lambda layer, x: x}


class Network:
    def __init__(self, case: NetworkCase) -> None:
        self.net = case.net
        self.params = [_parameter(array) for array in case.net.params.values()]
        self.batches = [torch.from_numpy(batch) for batch in case.batches]
        self.labels = torch.from_numpy(case.labels)

    def step(self) -> list[Any]:
        with torch.enable_grad():
            scores = through(TRAINING, self.net, self.params, self.batches[0])
            loss = F.cross_entropy(scores, self.labels)
            gradients = torch.autograd.grad(loss, self.params)
        return [loss.detach(), *(g.T if g.ndim == 2 else g for g in gradients)]

    def scores(self, x: Any) -> Any:
        with torch.no_grad():
            return through(INFERENCE, self.net, self.params, x)


def _parameter(array: Array) -> Any:
    """Give matrices PyTorch's own layout, which is its faster one."""
    own = array.T.copy() if array.ndim == 2 else array
    return torch.from_numpy(own).requires_grad_()
