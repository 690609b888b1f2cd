"""The whole table of operators: importing this module fills it."""

from __future__ import annotations

from types import ModuleType

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

__all__ = ["GROUPS", "OPERATORS", "markdown"]

GROUPS: dict[str, ModuleType] = {
    "Convolution": _operators_convolution,
    "Pooling": _operators_pooling,
    "Normalization": _operators_normalization,
    "Products": _operators_products,
    "Element by element": _operators_elementwise,
    "Along axes": _operators_reductions,
    "Shapes and moves": _operators_shape,
    "Resizing": _operators_resize,
    "Integers": _operators_quantized,
}
"""The modules of operators, by what the documentation calls their subjects."""


def markdown() -> str:
    """Write the table of operators for the documentation: subject, operator and its versions."""
    lines = ["| operators | versions |", "|---|---|"]
    for title, module in GROUPS.items():
        lines.append(f"| **{title}** | |")
        for name in sorted(OPERATORS):
            functions = OPERATORS[name]
            if any(function.__module__ == module.__name__ for function in functions.values()):
                lines.append(f"| {name} | {', '.join(map(str, sorted(functions)))} |")
    return "\n".join(lines)
