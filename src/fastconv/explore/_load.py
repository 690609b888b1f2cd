"""Networks that a user names, and the images to show with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fastconv._arrays import Array, Shape
from fastconv._commands.networks import NETWORKS
from fastconv.datasets import load_digits
from fastconv.explore._catalog import Picture
from fastconv.explore._network import in_range
from fastconv.explore._protocol import Refusal
from fastconv.models import Sequential

__all__ = ["data_set", "network_of"]

SHAPES = ((1, 8, 8), (1, 28, 28), (1, 32, 32), (3, 32, 32))
"""The shapes of images for which networks are tried: digits, MNIST, padded MNIST, CIFAR."""


def network_of(path: str) -> Sequential:
    """Make the network of the command line whose parameters are in an .npz file.

    A file holds arrays and no architecture, so that the networks of ``fastconv train`` are tried.

    Raises
    ------
    OSError
        If the file cannot be read.
    Refusal
        If it is damaged, or of none of these networks.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            shapes = {name: archive[name].shape for name in archive.files}
    except OSError:
        raise
    except Exception as error:  # NumPy raises almost anything for damaged files.
        raise Refusal(f"{path}: no file of parameters: {error}") from None
    last = max((name for name in shapes if name[:1] == "W"), key=_number, default=None)
    if last is not None:
        classes = shapes[last][-1 if len(shapes[last]) == 2 else 0]
        for network in _candidates(classes):
            if {name: array.shape for name, array in network.state.items()} == shapes:
                network.load_params(path)
                return network
    raise Refusal(
        f"{path}: these are not the parameters of a network of fastconv train "
        f"({', '.join(NETWORKS)}); others come in ONNX files, which "
        "fastconv.onnx.export writes: --onnx FILE"
    )


def _number(name: str) -> int:
    return int(name[1:]) if name[1:].isdigit() else 0


def _candidates(classes: int) -> Iterable[Sequential]:
    for choice in NETWORKS.values():
        tried: set[Shape] = set()
        for shape in SHAPES:
            padded = shape[0], *choice.padded((1, *shape))
            if padded in tried:
                continue
            tried.add(padded)
            try:
                yield choice.make(padded, classes, 0)
            except ValueError:  # The images are too small for this network.
                continue


def data_set(shape: Shape, pictures: Sequence[Picture], named: bool) -> Array:
    """Return the images in which those that excite channels most are looked for.

    Parameters
    ----------
    shape : tuple of int
        Of the network's input, (C, H, W).
    pictures : sequence of Picture
        What the page begins with.
    named : bool
        Whether the user named pictures: then they are meant, else the packaged digits for networks
        of gray images.
    """
    if shape[0] == 1 and not named:
        images = load_digits()[1][0]
        return np.concatenate([in_range(image, 1, shape) for image in images])
    return np.concatenate([in_range(picture.pixels, picture.high, shape) for picture in pictures])
