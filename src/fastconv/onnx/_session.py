"""Models that run: onnxruntime's `InferenceSession` on the kernels of this library."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import _threads
from fastconv._arguments import positive
from fastconv._arrays import Array
from fastconv._errors import argument_error, named, shown
from fastconv._text import table
from fastconv.onnx._checks import Memory
from fastconv.onnx._model import Model, ValueInfo, read_model
from fastconv.onnx._program import Call, Numbered, Program, StepTime, owned
from fastconv.onnx._table import bind

if TYPE_CHECKING:
    from fastconv.models import ReceptiveField
    from fastconv.onnx._lowering import Specialized


SIZE_FOR_FIELD = 1 << 20
"""The height and width of images whose receptive fields are told; no such image is made."""


@named
class InferenceSession:
    """A trained network in an ONNX file, ready to run.

    Its methods have the names and arguments of ``onnxruntime.InferenceSession``. The file is read
    without another library. Any number of threads may use a session at the same time.

    Parameters
    ----------
    path_or_bytes : path-like or bytes
        The model. Constants may lie in further files of the folder of the model.
    optimize : bool, default True
        Whether to compute what depends on constants alone once, now, and to prepare models of one
        input and one output, in the first run for each shape of the input: batch normalisation,
        residuals and activations are computed by convolutions, weights are packed, and results
        share memory.
    num_threads : int, optional
        Number of threads of every run. By default it is the one that `fastconv.get_num_threads`
        returns at the time of the run.

    Raises
    ------
    ValueError
        If the file is no valid model.
    NotImplementedError
        If an operator, its version or a dtype is not supported; the message names the node.

    Notes
    -----
    Numbers are computed as NumPy does: NaN and infinity go through. bfloat16 is float32. Constants
    that older files list among the inputs cannot be fed.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        *,
        optimize: bool = True,
        num_threads: SupportsIndex | None = None,
    ) -> None:
        self._threads = None if num_threads is None else positive(num_threads, "num_threads")
        self._model = read_model(path_or_bytes)
        calls = _calls(self._model)
        for array in self._model.constants.values():
            array.setflags(write=False)
        self._plain = self._program(calls, self._model.constants)
        self._optimized = self._plain
        self._specialized: Specialized | None = None
        if optimize:
            with self._context(), np.errstate(all="ignore"):
                left, constants = _folded(calls, self._model)
                self._optimized = self._program(left, constants)
            self._specialize(constants)

    def _specialize(self, constants: dict[str, Array]) -> None:
        """Let a model of one input and one output be prepared for each shape of the input."""
        inputs, outputs = self._model.inputs, self._model.outputs
        if not len(inputs) == len(outputs) == 1:
            return
        from fastconv.onnx._lowering import Specialized

        name, output = inputs[0].name, outputs[0].name
        self._specialized = Specialized(self._optimized, constants, name, output)

    def _program(self, calls: list[Call], constants: Mapping[str, Any]) -> Program:
        inputs = [value.name for value in self._model.inputs]
        outputs = [value.name for value in self._model.outputs]
        return Program(calls, constants, inputs, outputs)

    def __repr__(self) -> str:
        """Summarise the session in a line."""
        inputs, outputs = (
            ", ".join(f"{value.name} {tuple(value.shape)}" for value in values)
            for values in (self._model.inputs, self._model.outputs)
        )
        count = len(self._optimized.steps)
        return f"{type(self).__name__}({inputs} -> {outputs}, {count} steps)"

    def get_inputs(self) -> list[ValueInfo]:
        """List the inputs.

        Returns
        -------
        list of ValueInfo
            Each with `name`, `type` (``tensor(float)``) and `shape`, a list of sizes, of names
            of sizes that may vary, and of None where they have no name.
        """
        return list(self._model.inputs)

    def get_outputs(self) -> list[ValueInfo]:
        """List the outputs, as `get_inputs` does the inputs."""
        return list(self._model.outputs)

    def run(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, npt.ArrayLike]
    ) -> list[Array]:
        """Compute outputs.

        Parameters
        ----------
        output_names : sequence of str or None
            Which outputs to return, and in which order; None for all.
        feeds : mapping of str to array_like
            An array for every input, of its dtype and of a shape that fits.

        Returns
        -------
        list of ndarray
            The outputs. They share no memory with anything else.

        Raises
        ------
        TypeError
            If the feeds are no mapping.
        ValueError
            If there is no such output, a feed is missing, unknown, or not of its dtype and shape,
            or an operator cannot compute what comes to it; the message names the node.
        NotImplementedError
            If an operator does not support a dtype.
        """
        chosen = self._chosen(output_names)
        arrays = self._checked(feeds)
        if self._specialized is not None:
            result = self._run_specialized(self._specialized, *arrays.values())
            if result is not None:
                return [result if i == 0 else result.copy() for i, _ in enumerate(chosen)]
        program = self._optimized
        values = program.values(arrays)
        with self._context(), np.errstate(all="ignore"):
            program.run(values)
        results: list[Array] = []
        for name in chosen:
            array = np.asarray(values[program.numbers[name]])
            results.append(owned(array, [*arrays.values(), *results]))
        return results

    def _run_specialized(self, specialized: Specialized, x: Array) -> Array | None:
        """Compute the result of a prepared model, None if it cannot be prepared."""
        with self._context(), np.errstate(all="ignore"):
            program = specialized.take(x)
            if program is None:
                return None
            try:
                return program.run(np.ascontiguousarray(x))
            finally:
                specialized.give_back(program)

    def activations(self, feeds: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """Compute the results of all nodes, each by itself, for pictures of them.

        Parameters
        ----------
        feeds : mapping of str to array_like
            As for `run`.

        Returns
        -------
        dict of str to ndarray
            The results by the names of the file, in the order in which they are computed.
        """
        found: dict[str, Array] = {}
        arrays = self._checked(feeds)
        values = self._plain.values(arrays)

        def keep(step: Numbered) -> None:
            for name, i in zip(step.call.outputs, step.outputs):
                if name:
                    found[name] = values[i]

        with self._context(), np.errstate(all="ignore"):
            self._plain.run(values, keep)
        return {name: owned(array, arrays.values()) for name, array in found.items()}

    def receptive_field(self) -> ReceptiveField:
        """Tell which pixels of an image an output depends on.

        Returns
        -------
        ReceptiveField
            The fields `size`, `stride` and `offset`, as `Sequential.receptive_field` describes
            them, and `halo`. The stride is a fraction where the result is larger than the image;
            then the field contains those of all outputs.

        Raises
        ------
        ValueError
            If the model has not one input of images and one output, an output depends on all
            pixels, it is not known on which, or ways that are added have different strides.
        """
        from fastconv.inference._whole import field_of, graph_for

        inputs = self._model.inputs
        sizes = [size if isinstance(size, int) else SIZE_FOR_FIELD for size in inputs[0].shape]
        graph, locals, _ = graph_for(self, np.empty(0, inputs[0].dtype), tuple(sizes))
        return field_of(graph, locals)

    def profile(self, feeds: Mapping[str, npt.ArrayLike], repeats: SupportsIndex = 5) -> str:
        """Measure how long each step takes.

        Parameters
        ----------
        feeds : mapping of str to array_like
            As for `run`.
        repeats : int, default 5
            Number of runs, of whose times the median is told. One more is run before.

        Returns
        -------
        str
            A table with a line for every step, and one with a line for every operator.
        """
        rounds = positive(repeats, "repeats")
        arrays = self._checked(feeds)
        with self._context(), np.errstate(all="ignore"):
            rows = None
            if self._specialized is not None:
                rows = self._specialized.times(next(iter(arrays.values())), rounds)
            if rows is None:
                rows = self._optimized.times(arrays, rounds)
        return _profile(rows)

    def summary(self) -> str:
        """Describe the model: its inputs, outputs and steps.

        Returns
        -------
        str
            A table with a line for every step, and the sizes of all.
        """
        constants = self._model.constants
        rows = []
        for call in self._optimized.calls:
            sizes = [constants[name].size for name in call.inputs if name in constants]
            results = ", ".join(name for name in call.outputs if name)
            rows.append((call.name, call.op, results, sum(sizes) or ""))
        steps = table(("step", "operator", "result", "parameters"), rows, left=3)
        lines = [
            *(f"input {value.name}: {value.type} {value.shape}" for value in self._model.inputs),
            *(f"output {value.name}: {value.type} {value.shape}" for value in self._model.outputs),
        ]
        size = sum(array.nbytes for array in constants.values())
        text = f"opset {self._model.opset}, {len(self._model.nodes)} nodes, "
        return "\n".join([*lines, text + f"{size / 2**20:.1f} MiB of constants", steps])

    def _context(self) -> Any:
        """Return a block in which kernels use the session's number of threads."""
        return nullcontext() if self._threads is None else _threads.num_threads(self._threads)

    def _chosen(self, names: Sequence[str] | None) -> list[str]:
        known = [value.name for value in self._model.outputs]
        if names is None:
            return known
        if isinstance(names, str):
            message = f"output_names must be a list of names or None, got {shown(names)}"
            raise argument_error(TypeError, message)
        for name in names:
            if name not in known:
                text = f"output_names must be of {', '.join(known)}, got {shown(name)}"
                raise argument_error(ValueError, text)
        return list(names)

    def _checked(self, feeds: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """Return the feeds as arrays that are what the model announces."""
        if not isinstance(feeds, Mapping):
            message = f"feeds must be a mapping of names to arrays, got {type(feeds).__name__}"
            raise argument_error(TypeError, message)
        known = [value.name for value in self._model.inputs]
        for name in feeds:
            if name not in known:
                text = f"feeds must be of {', '.join(known)}, got {shown(name)}"
                raise argument_error(ValueError, text)
        sizes: dict[str, int] = {}
        arrays = {}
        for value in self._model.inputs:
            if value.name not in feeds:
                raise argument_error(ValueError, f"feeds has no array for {value.name!r}")
            arrays[value.name] = _feed(np.asarray(feeds[value.name]), value, sizes)
        return arrays


def _profile(rows: Sequence[StepTime]) -> str:
    """Write the times of steps and of operators, of which the slowest is the first."""
    total = sum(row.seconds for row in rows)
    lines = [(*row[:-1], f"{row.seconds * 1e3:.3f}") for row in rows]
    steps = table(
        ("step", "operator", "algorithm", "result", "ms"),
        [*lines, ("total", "", "", "", f"{total * 1e3:.3f}")],
        left=4,
    )
    spent: dict[str, list[float]] = {}
    for row in rows:
        spent.setdefault(row.operator, []).append(row.seconds)
    operators = table(
        ("operator", "steps", "ms", "share"),
        [
            (name, len(times), f"{sum(times) * 1e3:.3f}", f"{sum(times) / (total or 1):.1%}")
            for name, times in sorted(spent.items(), key=lambda item: -sum(item[1]))
        ],
        left=1,
    )
    return f"{steps}\n\n{operators}"


def _feed(array: Array, value: ValueInfo, sizes: dict[str, int]) -> Array:
    """Return an array in native byte order, if it is one that an input takes."""
    native = array.dtype.newbyteorder("=")
    if native != value.dtype:
        message = f"feeds[{value.name!r}] must be of dtype {value.dtype}, got {array.dtype}"
        raise argument_error(ValueError, message)
    fits = array.ndim == len(value.shape) or not value.has_shape
    for size, wanted in zip(array.shape, value.shape) if value.has_shape else ():
        if isinstance(wanted, str):
            wanted = sizes.setdefault(wanted, size)
        fits = fits and wanted in (None, size)
    if not fits:
        names = f" with {sizes}" if sizes else ""
        message = f"feeds[{value.name!r}] must have shape {value.shape}{names}, got {array.shape}"
        raise argument_error(ValueError, message)
    array = np.require(array, native, ["A"])
    # Kernels know a dtype by NumPy's own object, of which newbyteorder makes a copy.
    return array if array.dtype is value.dtype else array.view(value.dtype)


def _calls(model: Model) -> list[Call]:
    """Find the function of every node.

    The modules of operators fill the table when the first session is made. They take longer to
    import than all the rest, which programs that only may run a model would pay for.
    """
    from fastconv.onnx import _operators  # noqa: F401

    return [
        Call(
            node.label,
            node.name or node.outputs[0],
            node.op,
            bind(node, model.opset),
            node.inputs,
            node.outputs,
            node.attributes,
        )
        for node in model.nodes
    ]


def _folded(calls: list[Call], model: Model) -> tuple[list[Call], dict[str, Any]]:
    """Compute what depends on constants alone, and leave out what no output needs."""
    constants: dict[str, Any] = dict(model.constants)
    needed = {value.name for value in model.outputs}
    kept = []
    for call in reversed(calls):
        if any(name in needed for name in call.outputs):
            names = tuple(name if name in needed else "" for name in call.outputs)
            kept.append(replace(call, outputs=names))
            needed.update(call.inputs)
    left = []
    memory = Memory()
    for call in reversed(kept):
        if all(not name or name in constants for name in call.inputs):
            results = call.run([constants[name] if name else None for name in call.inputs], memory)
            for name, array in zip(call.outputs, results):
                if name:
                    array.setflags(write=False)
                    constants[name] = array
        else:
            left.append(call)
    return left, constants
