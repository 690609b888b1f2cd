"""Networks that are chains of layers, and files of their parameters."""

from fastconv.models._networks import VGG, AlexNet, DeepConvNet, LeNet, SimpleConvNet
from fastconv.models._parameters import Parameters, read_pickle
from fastconv.models._sequential import Sequential

__all__ = [
    "VGG",
    "AlexNet",
    "DeepConvNet",
    "LeNet",
    "Parameters",
    "Sequential",
    "SimpleConvNet",
    "read_pickle",
]
