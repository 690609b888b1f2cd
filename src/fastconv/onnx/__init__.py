"""Trained networks in ONNX files, run on the kernels of this library and without another one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastconv.onnx._session import InferenceSession

if TYPE_CHECKING:
    from fastconv.onnx._export import export
    from fastconv.onnx._reference import reference_ops

__all__ = ["InferenceSession", "export", "reference_ops"]

LATER = {"export": "fastconv.onnx._export", "reference_ops": "fastconv.onnx._reference"}
"""What programs that only run models do not need, by the modules that take longer to import."""


def __getattr__(name: str) -> Any:
    """Import what is needed for the first time."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(LATER[name]), name)
    return value
