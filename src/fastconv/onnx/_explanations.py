"""Which pixels of an image speak for a class of a model: Grad-CAM without gradients.

A session only computes forwards, so that the weight of a channel, the mean of the gradient of the
score over its pixels, is measured: a small number is added to all pixels of the channel, and
subtracted from them, and what follows is computed again. Where that is linear up to the score, as a
mean and a product with a matrix are, this is the class activation map of Zhou et al., 2016, divided
by the number of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv._arrays import Array
from fastconv.onnx._program import Call, Program
from fastconv.onnx._session import InferenceSession

STEP = 0.01
"""What is added to a channel, as a part of the largest magnitude of all channels."""
CHANNELS_AT_ONCE = 64
"""The number of channels that are changed in one run, each in an image of its own."""
RENAMING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout")
"""Operators behind which scores are the same numbers."""
PROBABILITIES = ("Softmax", "LogSoftmax")
"""Operators that compute probabilities of scores."""


class Heat(NamedTuple):
    """A map in the resolution of the value that it is made of, and what it explains."""

    heat: Array
    class_index: int
    score: float
    value: str


def explain(session: InferenceSession, feeds: Mapping[str, npt.ArrayLike]) -> Heat:
    """Tell how strongly each pixel of the last images in a model speaks for its best class.

    Parameters
    ----------
    session : InferenceSession
        A model whose first output are the scores or probabilities of classes.
    feeds : mapping of str to array_like
        As for ``session.run``, of one image.

    Raises
    ------
    ValueError
        If the output has not one row of scores, or does not depend on images of more than one
        pixel.
    """
    calls, output = session._plain.calls, session.get_outputs()[0].name
    arrays = {name: np.asarray(array) for name, array in feeds.items()}
    values = {**session._model.constants, **arrays, **session.activations(arrays)}
    score = _scores(calls, output)
    shape, kind = values[score].shape, values[score].dtype.kind
    if kind != "f" or values[score].size < 2 or values[score].size != max(shape):
        raise ValueError(f"the output {output!r} is no row of scores, it has the shape {shape}")
    scores = values[score].reshape(-1)
    value = _last_images(calls, values, score)
    maps, chosen = values[value], int(scores.argmax())
    program = _program_behind(calls, values, value, score)
    with session._context(), np.errstate(all="ignore"):
        weights = _weights(program, maps, value, len(scores), chosen)
        heat = np.maximum(np.tensordot(weights, maps[0], 1), 0)
    if not np.isfinite(heat).all():
        raise ValueError(f"what {value!r} contributes to the scores is not finite")
    return Heat(heat, chosen, float(scores[chosen]), value)


def _scores(calls: list[Call], output: str) -> str:
    """Return the name of the scores before softmax, or of the output if there is no softmax.

    A probability near 1 hardly changes, whatever is added to a channel.
    """
    maker = {name: call for call in calls for name in call.outputs}
    name = output
    while name in maker and maker[name].op in RENAMING:
        name = maker[name].inputs[0]
    return maker[name].inputs[0] if name in maker and maker[name].op in PROBABILITIES else output


def _last_images(calls: list[Call], values: Mapping[str, Array], score: str) -> str:
    """Find the last images of more than one pixel that the scores depend on.

    Transposed ones are passed over, because their channels may be the last axis.
    """
    needed = {score}
    for call in reversed(calls):
        for name in call.outputs:
            if name in needed and call.op != "Transpose" and _is_images(values[name]):
                return name
        if needed.intersection(call.outputs):
            needed.update(call.inputs)
    raise ValueError("the scores depend on no images (1, C, H, W) of more than one pixel")


def _is_images(array: Array) -> bool:
    shape, kind = array.shape, array.dtype.kind
    return kind == "f" and len(shape) == 4 and shape[0] == 1 and shape[2] > 1 and shape[3] > 1


def _program_behind(
    calls: list[Call], values: Mapping[str, Array], value: str, score: str
) -> Program:
    """Return what computes the scores of a value in the model; all others stay as they are.

    Many models reshape to a batch of 1. Here such a size is the number of images.
    """
    changed, behind, others = {value}, [], dict(values)
    for call in calls:
        if value in call.outputs or not changed.intersection(call.inputs):
            continue
        changed.update(name for name in call.outputs if name)
        if call.op == "Reshape" and values[call.outputs[0]].shape[:1] == (1,):
            sizes = f"sizes of {call.outputs[0]}"
            others[sizes] = np.array((-1, *values[call.outputs[0]].shape[1:]))
            call = replace(call, inputs=(call.inputs[0], sizes))
        behind.append(call)
    constants = {name: array for name, array in others.items() if name not in changed}
    return Program(behind, constants, [value], [score])


def _weights(program: Program, maps: Array, name: str, classes: int, chosen: int) -> Array:
    """Measure how much the score of a class grows with each channel, per pixel."""
    channels = maps.shape[1]
    step = maps.dtype.type(STEP * max(float(np.abs(maps).max()), 1e-6))
    grown = []
    for first in range(0, channels, CHANNELS_AT_ONCE):
        count = min(CHANNELS_AT_ONCE, channels - first)
        pair = []
        for signed in (step, -step):
            moved = maps.repeat(count, 0)
            moved[np.arange(count), np.arange(first, first + count)] += signed
            pair.append(_computed(program, moved, name, classes)[:, chosen])
        grown.append(pair[0] - pair[1])
    return np.asarray(np.concatenate(grown) / (2 * step * maps[0, 0].size))


def _computed(program: Program, images: Array, name: str, classes: int) -> Array:
    """Compute the scores of images, one by one if the model takes no more."""

    def run(batch: Array) -> Any:
        values = program.values({name: batch})
        program.run(values)
        return values[program.outputs[0]]

    try:
        found = run(images)
        if found.size == len(images) * classes and len(found) == len(images):
            return np.asarray(found.reshape(len(images), classes))
    except ValueError:  # Shapes of one image are numbers in the model.
        pass
    return np.stack([run(images[i : i + 1]).reshape(classes) for i in range(len(images))])
