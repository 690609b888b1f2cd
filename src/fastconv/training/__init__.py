"""Training of networks: optimisers, and the loop around them."""

from fastconv.training._history import Epoch
from fastconv.training._optimizers import SGD, AdaGrad, Adam, Momentum, Optimizer, RMSprop
from fastconv.training._trainer import Trainer

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "Epoch",
    "Momentum",
    "Optimizer",
    "RMSprop",
    "Trainer",
]
