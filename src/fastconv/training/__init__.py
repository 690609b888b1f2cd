"""Training of networks: optimisers, and the loop around them."""

from fastconv.training._history import Epoch
from fastconv.training._optimizers import SGD, AdaGrad, Adam, AdamW, Momentum, Optimizer, RMSprop
from fastconv.training._trainer import Trainer

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Epoch",
    "Momentum",
    "Optimizer",
    "RMSprop",
    "Trainer",
]
