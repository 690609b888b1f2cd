"""ONNX files, read and run without another library."""
