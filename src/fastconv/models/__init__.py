"""Networks that are chains of layers, and files of their parameters."""

from fastconv.models._low_rank import low_rank
from fastconv.models._networks import VGG, AlexNet, DeepConvNet, LeNet, SimpleConvNet
from fastconv.models._parameters import Parameters
from fastconv.models._pickles import read_pickle
from fastconv.models._sequential import Sequential
from fastconv.models._state_dict import load_state_dict

__all__ = [
    "VGG",
    "AlexNet",
    "DeepConvNet",
    "LeNet",
    "Parameters",
    "Sequential",
    "SimpleConvNet",
    "load_state_dict",
    "low_rank",
    "read_pickle",
]
