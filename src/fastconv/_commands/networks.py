"""The networks that ``fastconv train`` can make, each with a way of training that works for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastconv._arrays import Shape
from fastconv.models import NIN, VGG, DeepConvNet, LeNet, ResNet, Sequential, SimpleConvNet

__all__ = ["NETWORKS", "OTHER_RULE", "Choice"]

OTHER_RULE = {"lr": 0.002}
"""The arguments of an update rule that is not the one a network is trained with by default."""


@dataclass(frozen=True)
class Choice:
    """A network, and how it is trained unless the user says otherwise."""

    make: Callable[[Shape, int, int], Sequential]
    """Makes the network, given an image's shape, the number of classes and a seed."""
    smallest: int = 1
    """The height and width in pixels that smaller images are padded to."""
    batch_size: int = 32
    optimizer: str = "adam"
    rule: Mapping[str, float] = field(default_factory=OTHER_RULE.copy)
    """The arguments of `optimizer`."""
    warmup: float = 0.0

    def rule_of(self, optimizer: str) -> Mapping[str, float]:
        """Return the arguments of an update rule, which may be another one than `optimizer`."""
        return self.rule if optimizer == self.optimizer else OTHER_RULE

    def padded(self, shape: Shape) -> tuple[int, int]:
        """Return the height and width that images (N, C, H, W) of a shape are padded to."""
        return max(shape[2], self.smallest), max(shape[3], self.smallest)


def simple(shape: Shape, classes: int, seed: int) -> Sequential:
    """Make the textbook's SimpleConvNet, with a smaller window for small images."""
    if min(shape[1:]) > 16:
        return SimpleConvNet(shape, output_size=classes, weight_init_std=0.05, seed=seed)
    param = {"filter_size": 3, "pad": 1}
    return SimpleConvNet(shape, param, output_size=classes, weight_init_std=0.1, seed=seed)


def deep(shape: Shape, classes: int, seed: int) -> Sequential:
    """Make the textbook's DeepConvNet."""
    return DeepConvNet(shape, output_size=classes, seed=seed)


def lenet(shape: Shape, classes: int, seed: int) -> Sequential:
    """Make LeNet-5."""
    return LeNet(shape, output_size=classes, seed=seed)


def nin(shape: Shape, classes: int, seed: int) -> Sequential:
    """Make Network in Network."""
    return NIN(shape, classes, seed=seed)


def vgg11(shape: Shape, classes: int, seed: int) -> Sequential:
    """Make VGG-11 with affine layers for small images: 32x32 pixels leave one of 512 channels."""
    return VGG(11, shape, classes, hidden_size=512, seed=seed)


def resnet(depth: int) -> Choice:
    """Choose a residual network for small images, trained as its authors do on CIFAR-10.

    But the learning rate falls as half a cosine, and the training of all depths begins with a
    warm-up, which theirs does only at 110 layers.
    """
    return Choice(
        lambda shape, classes, seed: ResNet(depth, shape, classes, seed=seed),
        smallest=32,
        batch_size=128,
        optimizer="momentum",
        rule={"lr": 0.1, "weight_decay": 1e-4},
        warmup=0.1,
    )


NETWORKS: Mapping[str, Choice] = {
    "simple": Choice(simple),
    "deep": Choice(deep),
    "lenet": Choice(lenet),
    "nin": Choice(nin, smallest=32, rule={"lr": 0.0003}, warmup=0.1),
    "vgg11": Choice(vgg11, smallest=32, rule={"lr": 0.0003}, warmup=0.1),
    **{f"resnet{depth}": resnet(depth) for depth in (20, 32, 44, 56)},
}
"""The networks by the names that the command line has for them."""
