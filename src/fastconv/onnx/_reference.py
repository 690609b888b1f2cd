"""The kernels of this library for the reference evaluator of the `onnx` package."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._errors import argument_error, named
from fastconv.onnx import _operators  # noqa: F401  # It fills the table.
from fastconv.onnx._model import Node
from fastconv.onnx._program import Call
from fastconv.onnx._table import bind

FASTER = (
    *("AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "Erf", "Gelu"),
    *("Gemm", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "HardSigmoid"),
    *("HardSwish", "InstanceNormalization", "LRN", "LeakyRelu", "LpPool", "MatMul"),
    *("MatMulInteger", "MaxPool", "MeanVarianceNormalization", "NonMaxSuppression"),
    *("QLinearConv", "QLinearMatMul", "Relu", "Resize", "Sigmoid", "Softmax", "Swish", "Upsample"),
)
"""The operators of the table that take less time than the package's own.

docs/onnx.md has the times. By themselves Gemm and MatMul take more time than NumPy's products. But
the threads of NumPy's BLAS library wait busily after each product, in the way of the kernels that
follow: networks that use them run in half the time with ours.
"""


@named
def reference_ops() -> list[Any]:
    """Return operators for ONNX's reference evaluator that run on the kernels of this library.

    Returns
    -------
    list of type
        Classes for ``onnx.reference.ReferenceEvaluator(model, new_ops=...)``. They compute every
        version of their operators that `fastconv.onnx.InferenceSession` knows. What it does not
        know, other versions and dtypes like bfloat16, they leave to the package.

    Raises
    ------
    ImportError
        If the `onnx` package is not installed.

    See Also
    --------
    fastconv.onnx.InferenceSession : Runs whole models, without the package and faster.

    Examples
    --------
    ::

        import fastconv.onnx
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator("model.onnx", new_ops=fastconv.onnx.reference_ops())
    """
    try:
        from onnx.reference.op_run import OpRun
        from onnx.reference.ops import load_op
    except ImportError:
        message = "this needs the onnx package: pip install onnx"
        raise argument_error(ImportError, message) from None
    base = _base(OpRun, load_op)
    return [type(name, (base,), {"__module__": __name__}) for name in FASTER]


def _base(op_run: Any, load_op: Any) -> Any:
    """Make the class whose subclasses stand for operators, each for the one of its own name."""

    class Operator(op_run):  # type: ignore[misc]
        """An operator of the table, or the package's own where the table has none."""

        op_domain = ""
        _call: Call | None = None
        _other: Any = None

        def run(self, *inputs: Any, **settings: Any) -> Any:
            if self._other is None:
                try:
                    return super().run(*inputs, **settings)
                except NotImplementedError:
                    self._other = self._own_of_package()
            return self._other.run(*inputs, **settings)

        def _run(self, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
            call = self._call
            # An attribute of a node within a function may differ from call to call of it.
            if call is None or self.has_linked_attribute:
                call = self._call = _call_of(self.onnx_node, attributes, self.run_params["opsets"])
            with np.errstate(all="ignore"):
                return call.run(inputs)

        def _own_of_package(self) -> Any:
            params, node = self.run_params, self.onnx_node
            evaluator = params.get("evaluator_cls")
            opset = params["opsets"][""]
            kind = load_op("", node.op_type, opset, node=node, evaluator_cls=evaluator)
            return kind(node, params)

    return Operator


def _call_of(proto: Any, values: dict[str, Any], opsets: dict[str, int]) -> Call:
    """Find the function of a node in the table of operators.

    The package hands over all attributes of the newest version of the operator, also those that
    the node does not have.
    """
    given = [attribute.name for attribute in proto.attribute]
    attributes = {name: _plain(values[name]) for name in given}
    inputs, outputs = tuple(proto.input), tuple(proto.output)
    node = Node(proto.op_type, proto.name, inputs, outputs, attributes, proto.name)
    function = bind(node, opsets[""])
    return Call(node.label, node.name, node.op, function, inputs, outputs, attributes)


def _plain(value: Any) -> Any:
    """Return the value of an attribute as the table has it: no list, and no scalar of NumPy."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value
