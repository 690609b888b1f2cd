"""
A network from the textbook
===========================

The small network of "Deep Learning from Scratch" (a convolution, a maximum over windows, two
products) learns to read handwritten digits in about a second.
"""

from fastconv import viz
from fastconv.datasets import load_digits
from fastconv.models import SimpleConvNet
from fastconv.training import Trainer

train, test = load_digits()
parameters = {"filter_num": 30, "filter_size": 5, "pad": 2, "stride": 1}
network = SimpleConvNet((1, 8, 8), parameters, seed=0)
network.summary()

# %%
# The trainer shows batches of 100 images and changes the weights a little after each.
before = network.params["W1"].copy()
trainer = Trainer(
    network,
    *train,
    *test,
    epochs=20,
    optimizer="adam",
    optimizer_param={"lr": 0.001},
    verbose=False,
)
trainer.train()
print(f"{network.accuracy(*test):.1%} of the digits that it has not seen are right")
viz.show_history(trainer.history)

# %%
# The filters began as noise, and have become strokes and edges.
viz.show_filters(before, network.params["W1"], titles=["before", "after"])
