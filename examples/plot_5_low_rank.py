"""
A smaller network by singular values
====================================

:func:`fastconv.models.low_rank` writes each convolution of a trained network as two smaller ones. A
short training wins back most of the accuracy.
"""

import matplotlib.pyplot as plt

from fastconv.datasets import load_digits
from fastconv.models import ResNet, low_rank
from fastconv.training import Trainer

train, test = load_digits()
options = {"mini_batch_size": 32, "optimizer": "Adam", "verbose": False}
network = ResNet(20, (1, 8, 8), seed=1)
Trainer(network, *train, epochs=2, **options).train()

points = [(network.multiply_adds(), network.accuracy(*test), network.accuracy(*test))]
for ratio in (0.5, 0.3):
    small = low_rank(network, ratio)
    cut = small.accuracy(*test)
    Trainer(small, *train, epochs=1, **options).train()
    points.append((small.multiply_adds(), cut, small.accuracy(*test)))
    print(f"{small.multiply_adds():>9,} multiply-adds: {cut:.1%}, trained {points[-1][2]:.1%}")

# %%
multiply_adds, cuts, trained = zip(*points)
figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
axis.plot(multiply_adds, trained, "o-", label="after one more epoch")
axis.plot(multiply_adds, cuts, "s--", label="after the cut")
axis.set(xlabel="multiply-adds of one image", ylabel="accuracy", ylim=(0, 1.02))
axis.legend()
plt.show()
