"""The network that the page shows if the user names none: trained when the command starts."""

from __future__ import annotations

import numpy as np

from fastconv.datasets import load_digits
from fastconv.explore._catalog import resampled
from fastconv.explore._network import SequentialView
from fastconv.layers import GlobalAveragePooling, Pooling, Relu
from fastconv.models import Sequential
from fastconv.training import Trainer

__all__ = ["EPOCHS", "default_network"]

SIZE = 16
"""Rows and columns of the images: the digits' 8, doubled so that a pooling leaves 8."""
EPOCHS = 15
SEED = 1


def default_network(verbose: bool = False) -> SequentialView:
    """Train a small network on the packaged digits, which takes about two seconds.

    The same seeds give the same network every time.

    Parameters
    ----------
    verbose : bool, default False
        Show on standard error how the training goes.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C ends the training.
    """
    (x_train, t_train), (x_test, t_test) = load_digits()
    x_train, x_test = (
        resampled(images, (SIZE, SIZE)).astype(np.float32) for images in (x_train, x_test)
    )
    network = Sequential((1, SIZE, SIZE), seed=SEED)
    network.convolution(8, 3, pad=1).add(Relu(), Pooling(2, 2, stride=2))
    network.convolution(16, 3, pad=1).add(Relu()).convolution(24, 3, pad=1).add(Relu())
    # Means of whole maps make class activation maps exact, and easy to explain.
    network.add(GlobalAveragePooling()).affine(10)
    before = {name: array.copy() for name, array in network.params.items()}
    trainer = Trainer(
        network,
        x_train,
        t_train,
        epochs=EPOCHS,
        mini_batch_size=32,
        optimizer="adam",
        optimizer_param={"lr": 0.003},
        verbose=verbose,
        seed=SEED,
    )
    trainer.train()
    if trainer.interrupted:
        raise KeyboardInterrupt
    right = network.accuracy(x_test, t_test)
    title = (
        f"A network trained on the packaged digits; {right:.1%} of {len(x_test)} others are right"
    )
    return SequentialView(network, x_test, title, before)
