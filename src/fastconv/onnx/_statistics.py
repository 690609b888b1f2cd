"""What a model consists of, counted."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np

from fastconv._arrays import Array
from fastconv.onnx._model import Model
from fastconv.onnx._program import Call, Numbered
from fastconv.onnx._session import InferenceSession
from fastconv.onnx._table import bind


class OperatorCount(NamedTuple):
    """How many nodes of an operator there are, and why one of them cannot run, or nothing."""

    operator: str
    nodes: int
    problem: str


def operator_counts(model: Model) -> list[OperatorCount]:
    """Count the nodes of every operator, and try whether they are supported.

    Raises
    ------
    ValueError
        If a node has not the inputs and attributes of its operator.
    """
    from fastconv.onnx import _operators  # noqa: F401  It fills the table.

    counts: dict[str, int] = {}
    problems: dict[str, str] = {}
    for node in model.nodes:
        counts[node.op] = counts.get(node.op, 0) + 1
        try:
            bind(node, model.opset)
        except NotImplementedError as error:
            problems.setdefault(node.op, str(error))
    return [OperatorCount(op, counts[op], problems.get(op, "")) for op in sorted(counts)]


def multiply_adds(session: InferenceSession, feeds: Mapping[str, Array]) -> int:
    """Count the multiplications of convolutions and products of matrices, each with an addition.

    The model is run, because shapes may depend on anything. Pixels of padding count, and an
    algorithm may need fewer.
    """
    values = session._plain.values(feeds)
    counts = []

    def count(step: Numbered) -> None:
        arrays = [values[i] for i in step.inputs]
        counts.append(_of_call(step.call, arrays, values[step.outputs[0]]))

    with session._context(), np.errstate(all="ignore"):
        session._plain.run(values, count)
    return sum(counts)


def _of_call(call: Call, arrays: list[Array], result: Array) -> int:
    terms: int
    if call.op in ("Conv", "ConvInteger"):
        return result.size * prod(arrays[1].shape[1:])
    if call.op == "QLinearConv":
        return result.size * prod(arrays[3].shape[1:])
    if call.op == "ConvTranspose":
        return arrays[0].size * prod(arrays[1].shape[1:])
    if call.op in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        terms = arrays[0].shape[-1]
        return result.size * terms
    if call.op == "Gemm":
        terms = arrays[0].shape[0 if call.attributes.get("transA") else 1]
        return result.size * terms
    return 0
