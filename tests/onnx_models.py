"""Small models for tests, written by our own writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastconv.onnx import InferenceSession
from fastconv.onnx._writer import Described, NodeToWrite, model_bytes

Array = np.ndarray[Any, Any]

OPSET = 22


def one_node(
    op: str,
    inputs: Sequence[Array | np.generic | None],
    opset: int = OPSET,
    outputs: int = 1,
    constants: Mapping[int, Array] = {},
    **attributes: Any,
) -> list[Array]:
    """Run an operator on arrays; None stands for an input that is left out.

    What `constants` gives for the position of an input is not fed, but a part of the model.
    """
    names = ["" if array is None else f"x{i}" for i, array in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    fed = {
        name: array
        for i, (name, array) in enumerate(zip(names, inputs))
        if array is not None and i not in constants
    }
    data = model_bytes(
        [NodeToWrite(op, names, results, attributes)],
        [Described(name, array.dtype, [None] * array.ndim) for name, array in fed.items()],
        [Described(name, np.float32, None) for name in results],
        {f"x{i}": array for i, array in constants.items()},
        opset,
    )
    return InferenceSession(data).run(None, fed)
