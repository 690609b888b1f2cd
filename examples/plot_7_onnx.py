"""
A network from an ONNX file
===========================

:class:`fastconv.onnx.InferenceSession` runs networks that PyTorch and others export, with NumPy
alone. So that this page needs no other library, the model is the smallest that there is: the bytes
below are an ONNX file of one ReLU.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastconv.onnx import InferenceSession


def field(number, content):
    """Return a field of a protobuf message: a number, or bytes with their length."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def value(name):
    """Describe a float32 array of two axes of any size."""
    rows, columns = (field(1, field(2, size)) for size in (b"rows", b"columns"))
    tensor = field(1, 1) + field(2, rows + columns)
    return field(1, name) + field(2, field(1, tensor))


node = field(1, b"x") + field(2, b"y") + field(4, b"Relu")
graph = field(1, node) + field(2, b"graph") + field(11, value(b"x")) + field(12, value(b"y"))
model = field(1, 8) + field(7, graph) + field(8, field(2, 17))

# %%
# A session has onnxruntime's names. Yours begins with ``InferenceSession("model.onnx")``.
session = InferenceSession(model)
for told in (*session.get_inputs(), *session.get_outputs()):
    print(told.name, told.shape, told.type)

x = np.linspace(-1, 1, 101, dtype=np.float32)[None]
(y,) = session.run(None, {"x": x})

figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
axis.plot(x[0], y[0])
axis.set(xlabel="x", ylabel="y")
plt.show()
