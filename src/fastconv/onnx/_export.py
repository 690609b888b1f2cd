"""Networks of this library as ONNX files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

from fastconv._arguments import positive
from fastconv._arrays import Array
from fastconv._errors import argument_error, named, shown
from fastconv._files import path_of, replacing
from fastconv._layer import is_chain
from fastconv.models._chain import Chain
from fastconv.onnx._layers import GraphToWrite, Value
from fastconv.onnx._tensors import external_fields, raw_bytes, tensor_fields
from fastconv.onnx._writer import Described, model_parts

if TYPE_CHECKING:
    from fastconv.models import Sequential

OPSET = 17
"""Version of the operators that is written."""
INPUT, OUTPUT = "input", "scores"
"""Names of what a model takes and gives. No layer's path is one of them: paths end in a number."""
MOST_BYTES = (1 << 31) - 1
"""The largest message that readers of protobuf take."""
FEW_BYTES = 1024
"""Constants up to this size stay in the model: others read shapes without what lies beside it."""
PAGE_BYTES = 4096
"""Constants beside the model begin at multiples of this, so that they can be mapped."""

Message: TypeAlias = Callable[[list[dict[str, Any]]], list[Any]]
"""What makes the pieces of a model from the tensors of its constants."""


@named
def export(
    network: Sequential,
    path: str | os.PathLike[str],
    *,
    batch: str | SupportsIndex = "N",
) -> None:
    """Write a network as an ONNX file, which other libraries run.

    Parameters
    ----------
    network : Sequential
        The network: any of `fastconv.models`, or one of your own of layers of `fastconv.layers`.
        It is not changed.
    path : path-like
        Where to; an existing file is replaced, whole or not at all. Parameters of more than 2 GiB
        do not fit into such a file, and are written to another one beside it, of the same name
        with ``.data`` behind it. It belongs to the model and must be moved with it.
    batch : str or int, default "N"
        The number of inputs that the model takes: a name if it may be any number.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    NotImplementedError
        If there is no operator for a layer, whose path the message tells.
    ValueError
        If `batch` is empty or not positive, or a layer does not take what the one before it gives.
    OSError
        If the file cannot be written.

    See Also
    --------
    fastconv.onnx.InferenceSession : Reads such files.

    Notes
    -----
    The model has opset 17 and computes what `network.predict` does: scores, to which no softmax has
    been applied. All numbers are of the network's dtype. The input is called ``"input"``, the
    output ``"scores"``. Nodes are called by the paths of their layers, as in `network.activations`,
    and parameters by the paths and their names: ``"Conv1.W"``.

    Batch normalisation is kept, with the running mean and variance: programs that run the model
    fold it into weights themselves, and those that train it on need it. Numbers that operators have
    as attributes, as the slope of a leaky ReLU, are float32 by definition, also in float64 models.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastconv.models import SimpleConvNet
    >>> from fastconv.onnx import InferenceSession, export
    >>> net, images = SimpleConvNet(seed=0), np.ones((2, 1, 28, 28), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "network.onnx")
    ...     export(net, path)
    ...     session = InferenceSession(path)
    >>> session
    InferenceSession(input ('N', 1, 28, 28) -> scores ('N', 10), 7 steps)
    >>> (scores,) = session.run(None, {"input": images})
    >>> bool(np.allclose(scores, net.predict(images), atol=1e-6))
    True
    """
    if not isinstance(network, Chain):
        raise argument_error(TypeError, f"network must be a Sequential, got {shown(network)}")
    target, count = path_of(path, "path"), _batch(batch)
    graph = GraphToWrite(network.dtype)
    _write(target, message_of(network, graph, count), graph.constants)


def _batch(value: str | SupportsIndex) -> str | int:
    if not isinstance(value, str):
        return positive(value, "batch")
    if not value:
        raise argument_error(ValueError, "batch must be a name or a positive int, got ''")
    return value


def message_of(network: Chain, graph: GraphToWrite, batch: str | int) -> Message:
    """Write a network to a graph, and return what makes a model of it and its constants."""
    if not is_chain(network):
        raise argument_error(
            NotImplementedError,
            f"network cannot be exported: {type(network).__name__} has a forward or predict of "
            "its own",
        )
    result = graph.chain(network, Value(INPUT, network.input_dim), "")
    graph.call(result.name, OUTPUT, "Identity")
    source = Described(INPUT, graph.dtype, [batch, *network.input_dim])
    scores = Described(OUTPUT, graph.dtype, [batch, *result.shape])
    name = type(network).__name__
    return partial(model_parts, graph.nodes, [source], [scores], opset=OPSET, name=name)


def whole(message: Message, constants: Mapping[str, Array]) -> list[Any]:
    """Return the pieces of a model that contains its constants."""
    return message([tensor_fields(name, array) for name, array in constants.items()])


def _write(path: str, message: Message, constants: Mapping[str, Array]) -> None:
    """Write a model whole or not at all, with its constants or, if they are too large, beside them.

    Both files are complete on the disk before they get their names, that of the model last.
    """
    parts = whole(message, constants)
    if sum(map(len, parts)) <= MOST_BYTES:
        with replacing(path) as file:
            file.writelines(parts)
        return
    del parts
    beside = f"{path}.data"
    location = os.path.basename(beside)
    offsets = _offsets(constants)
    tensors = [
        external_fields(name, array, location, offsets[name])
        if name in offsets
        else tensor_fields(name, array)
        for name, array in constants.items()
    ]
    with replacing(path) as file, replacing(beside) as data:
        file.writelines(message(tensors))
        for name, offset in offsets.items():
            data.write(bytes(offset - data.tell()))
            data.write(raw_bytes(constants[name]))


def _offsets(constants: Mapping[str, Array]) -> dict[str, int]:
    """Lay large constants one behind the other."""
    offsets, end = {}, 0
    for name, array in constants.items():
        if array.nbytes > FEW_BYTES:
            offsets[name] = -(-end // PAGE_BYTES) * PAGE_BYTES
            end = offsets[name] + array.nbytes
    return offsets
