"""The whole table of operators: importing this module fills it."""

from fastconv.onnx import (
    _operators_convolution,
    _operators_elementwise,
    _operators_normalization,
    _operators_pooling,
    _operators_products,
    _operators_quantized,
    _operators_reductions,
    _operators_resize,
    _operators_shape,
)
from fastconv.onnx._table import OPERATORS

__all__ = ["MODULES", "OPERATORS"]

MODULES = (
    _operators_convolution,
    _operators_pooling,
    _operators_normalization,
    _operators_products,
    _operators_elementwise,
    _operators_reductions,
    _operators_shape,
    _operators_resize,
    _operators_quantized,
)
"""The modules of operators, in the order in which they are documented."""
