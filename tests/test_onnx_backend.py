"""The cases by which ONNX defines its operators, run by our session: `onnx.backend.test`.

What is left out, and why, is printed at the end of the test (pytest -rP shows it).
"""

from __future__ import annotations

import warnings
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

import fastconv.onnx
from fastconv.onnx._operators import OPERATORS

onnx = pytest.importorskip("onnx", reason="onnx is not installed, so its cases are not run")

LEFT_OUT_DTYPES = {
    8: "strings",
    **dict.fromkeys((17, 18, 19, 20, 24), "floats of 8 bits"),
    **dict.fromkeys((21, 22, 23, 25, 26, 27, 28), "numbers of 2, 4 and 6 bits"),
}
LEFT_OUT_CASES = {
    "test_training_dropout": "drops at random",
}
BFLOAT16_TOLERANCE, FLOAT16_TOLERANCE = 2**-6, 2**-9
"""Some units in the last place of numbers of 8 and of 11 bits, which we compute with more."""
LEAST_CASES = 1100
"""How many cases there are in the oldest version of the package that was tried."""


@cache
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_node_model_tests

        found: list[Any] = load_node_model_tests()
        return found


def why_left_out(case: Any) -> str | None:
    """Say why a case is not for this library, None if it is."""
    graph = case.model.graph
    unknown = {node.op_type for node in graph.node if node.domain} | {
        node.op_type for node in graph.node if node.op_type not in OPERATORS
    }
    if unknown:
        return f"operators that are not in the table: {', '.join(sorted(unknown))}"
    for value in (*graph.input, *graph.output):
        if not value.type.HasField("tensor_type"):
            return "sequences and optional values"
        if value.type.tensor_type.elem_type in LEFT_OUT_DTYPES:
            return LEFT_OUT_DTYPES[value.type.tensor_type.elem_type]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type in ("Cast", "QuantizeLinear") and attribute.i in LEFT_OUT_DTYPES:
                return LEFT_OUT_DTYPES[attribute.i]
    for name, reason in LEFT_OUT_CASES.items():
        if case.name.startswith(name) and "zero_ratio" not in case.name:
            return reason
    return None


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """Return an input or output as an array, bfloat16 as float32."""
    array = onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def has_bfloat16(case: Any) -> bool:
    values = (*case.model.graph.input, *case.model.graph.output)
    return any(value.type.tensor_type.elem_type == 16 for value in values)


def failure(case: Any) -> str | None:
    """Run a case, and say how it fails."""
    try:
        session = fastconv.onnx.InferenceSession(case.model.SerializeToString())
        names = [value.name for value in session.get_inputs()]
        for inputs, outputs in case.data_sets:
            results = session.run(None, dict(zip(names, map(as_array, inputs), strict=True)))
            for found, output in zip(results, outputs, strict=True):
                expected = as_array(output)
                assert found.dtype == expected.dtype
                assert found.shape == expected.shape
                rtol = case.rtol
                if expected.dtype == np.float16:
                    rtol = max(rtol, FLOAT16_TOLERANCE)
                if has_bfloat16(case):
                    rtol = BFLOAT16_TOLERANCE
                np.testing.assert_allclose(found, expected, rtol, case.atol)
    except (AssertionError, ValueError, NotImplementedError) as error:
        return f"{case.name}: {type(error).__name__}: {error}"
    return None


def test_all_node_cases() -> None:
    reasons = {case.name: why_left_out(case) for case in cases()}
    chosen = [case for case in cases() if reasons[case.name] is None]
    failures = [text for text in map(failure, chosen) if text is not None]
    print(f"{len(chosen)} of {len(cases())} node cases run, {len(failures)} fail")
    for reason, count in Counter(filter(None, reasons.values())).most_common():
        print(f"{count:5} left out: {reason}")
    assert not failures
    assert len(chosen) >= LEAST_CASES


def test_table_has_only_versions_that_exist() -> None:
    for name, functions in OPERATORS.items():
        schemas = {
            schema.since_version
            for schema in onnx.defs.get_all_schemas_with_history()
            if schema.name == name and schema.domain == ""
        }
        assert set(functions) <= schemas, name


def test_table_has_every_version_from_its_first_one_on() -> None:
    """A version between two others would be computed by the function of the older one."""
    missing = [
        (schema.name, schema.since_version)
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name in OPERATORS and schema.domain == "" and not schema.deprecated
        if schema.since_version not in OPERATORS[schema.name]
        if schema.since_version > min(OPERATORS[schema.name])
    ]
    assert missing == []


def test_functions_take_the_attributes_of_their_versions() -> None:
    from fastconv.onnx._table import signature

    kinds = {"FLOAT": "float", "INT": "int", "STRING": "str", "TENSOR": "Array"}
    kinds |= {"FLOATS": "tuple[float, ...]", "INTS": "tuple[int, ...]"}
    not_taken = {"sparse_value", "value_string", "value_strings"}
    different = []
    for schema in onnx.defs.get_all_schemas_with_history():
        function = OPERATORS.get(schema.name, {}).get(schema.since_version)
        if function is None or schema.domain:
            continue
        attributes = {
            name: kinds[str(attribute.type).rpartition(".")[2]]
            for name, attribute in schema.attributes.items()
            if name not in not_taken
        }
        needed = {name for name, attribute in schema.attributes.items() if attribute.required}
        takes = signature(function)
        most = 2**31 - 1 if takes.most is None else takes.most
        found = dict(takes.attributes), set(takes.required), most
        expected = attributes, needed - not_taken, schema.max_input
        # Resize 11 has inputs that must be there, but may be empty; exporters left them out.
        if found != expected or takes.least > schema.min_input:
            different.append((schema.name, schema.since_version, found, expected))
    assert different == []
