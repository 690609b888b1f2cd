"""Trained networks in ONNX files, run on the kernels of this library and without another one."""

from fastconv.onnx._session import InferenceSession

__all__ = ["InferenceSession"]
