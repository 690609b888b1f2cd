"""
What a network sees
===================

The result of a convolution has a channel for each filter: a *feature map*, which shows where in the
image its pattern is.
"""

import numpy as np

from fastconv import viz
from fastconv.datasets import load_digits
from fastconv.models import SimpleConvNet
from fastconv.training import Trainer

train, (images, labels) = load_digits()
parameters = {"filter_num": 30, "filter_size": 5, "pad": 2, "stride": 1}
network = SimpleConvNet((1, 8, 8), parameters, seed=0)
Trainer(network, *train, epochs=20, optimizer="adam", verbose=False).train()

zero = images[labels == 0][0]
viz.show_feature_maps(network, zero, "Conv1")

# %%
# Which pixels speak for the answer? The class activation map is brightest there.
viz.show_class_activation(network, zero)

# %%
# :meth:`activations <fastconv.models.Sequential.activations>` gives the output of every layer.
for name, output in network.activations(zero[None]).items():
    print(f"{name:10} {np.shape(output)}")
