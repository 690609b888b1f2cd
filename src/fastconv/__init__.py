"""The convolution kernels NumPy never had."""

from fastconv._accelerate import accelerate, patch_scipy, unpatch_scipy
from fastconv._config import show_config
from fastconv._memory import empty_cache
from fastconv._plan import plan
from fastconv._precision import get_precision, precision, set_precision
from fastconv._threads import get_num_threads, num_threads, set_num_threads
from fastconv._tiled import predict_tiled
from fastconv._version import __version__
from fastconv.activation import relu, relu_backward
from fastconv.columns import col2im, fold, im2col, unfold
from fastconv.convolution import conv2d, conv2d_backward, conv_transpose2d, plan_conv2d
from fastconv.one_dimension import (
    avg_pool1d,
    avg_pool1d_backward,
    conv1d,
    conv1d_backward,
    conv_transpose1d,
    max_pool1d,
    max_pool1d_backward,
    max_unpool1d,
)
from fastconv.packing import PackedWeight
from fastconv.pooling import (
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_unpool2d,
)
from fastconv.product import matmul

__all__ = [
    "PackedWeight",
    "__version__",
    "accelerate",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "col2im",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose1d",
    "conv_transpose2d",
    "empty_cache",
    "fold",
    "get_num_threads",
    "get_precision",
    "im2col",
    "matmul",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_unpool1d",
    "max_unpool2d",
    "num_threads",
    "patch_scipy",
    "plan",
    "plan_conv2d",
    "precision",
    "predict_tiled",
    "relu",
    "relu_backward",
    "set_num_threads",
    "set_precision",
    "show_config",
    "unfold",
    "unpatch_scipy",
]
