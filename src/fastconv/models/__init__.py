"""Networks that are chains of layers, and files of their parameters."""

from fastconv.models._alexnet import AlexNet
from fastconv.models._googlenet import GoogLeNet
from fastconv.models._lenet import LeNet
from fastconv.models._low_rank import low_rank
from fastconv.models._mobilenet import MobileNet
from fastconv.models._nin import NIN
from fastconv.models._parameters import Parameters
from fastconv.models._pickles import read_pickle
from fastconv.models._receptive_field import ReceptiveField
from fastconv.models._resnet import ResNet
from fastconv.models._sequential import Sequential
from fastconv.models._state_dict import load_state_dict
from fastconv.models._textbook_networks import DeepConvNet, SimpleConvNet
from fastconv.models._vgg import VGG
from fastconv.models._xception import Xception

__all__ = [
    "NIN",
    "VGG",
    "AlexNet",
    "DeepConvNet",
    "GoogLeNet",
    "LeNet",
    "MobileNet",
    "Parameters",
    "ReceptiveField",
    "ResNet",
    "Sequential",
    "SimpleConvNet",
    "Xception",
    "load_state_dict",
    "low_rank",
    "read_pickle",
]
