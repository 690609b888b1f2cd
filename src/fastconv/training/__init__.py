"""Training of networks: optimisers, schedules of their learning rates, and the loop around them."""

from fastconv.training._history import Epoch
from fastconv.training._optimizers import SGD, AdaGrad, Adam, AdamW, Momentum, Optimizer, RMSprop
from fastconv.training._schedules import Constant, Cosine, Step
from fastconv.training._trainer import Trainer

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Epoch",
    "Momentum",
    "Optimizer",
    "RMSprop",
    "Step",
    "Trainer",
]
