"""What a convolution is, whatever the algorithm: shapes and a window, no numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal, TypeAlias

from fastconv._window import Pair, Window

Kind: TypeAlias = Literal["forward", "adjoint", "weight_gradient"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A convolution, its adjoint, or the gradient of its weight.

    The forward convolution brings `source` to `target` with `window`; its adjoint brings an array
    like the target back to one like the source. Problems of the same shapes are one object where
    they come from a cache, so that what is decided for one is known for the next call.

    Attributes
    ----------
    kind : {"forward", "adjoint", "weight_gradient"}
        What is computed.
    source, target : tuple of 4 int
        Shapes (N, C, H, W) of the convolution's input and (N, F, OH, OW) of its output.
    groups : int
        Number of groups.
    window : Window
        The window of the forward convolution.
    """

    kind: Kind
    source: tuple[int, ...]
    target: tuple[int, ...]
    groups: int
    window: Window

    @cached_property
    def adjoint(self) -> Problem:
        """The gradient of the source."""
        return Problem("adjoint", self.source, self.target, self.groups, self.window)

    @cached_property
    def weight_gradient(self) -> Problem:
        """The gradient of the weight."""
        return Problem("weight_gradient", self.source, self.target, self.groups, self.window)

    @cached_property
    def weight(self) -> tuple[int, ...]:
        """Shape (F, C/groups, KH, KW) of the forward convolution's weight."""
        kernel_h, kernel_w = self.window.packed[:, 2].tolist()
        return self.target[1], self.source[1] // self.groups, kernel_h, kernel_w

    @property
    def batch(self) -> int:
        """Number of images."""
        return self.source[0]

    @cached_property
    def channels(self) -> int:
        """Channels per group that are summed over, or those of the source for the weight."""
        summed = self.target if self.kind == "adjoint" else self.source
        return summed[1] // self.groups

    @cached_property
    def filters(self) -> int:
        """Channels per group of the result, or those of the target for the weight."""
        computed = self.source if self.kind == "adjoint" else self.target
        return computed[1] // self.groups

    @cached_property
    def plane(self) -> Pair:
        """Height and width of the result, or those of the target for the weight."""
        _, _, h, w = self.source if self.kind == "adjoint" else self.target
        return h, w

    @cached_property
    def definition_flops(self) -> int:
        """Multiplications and additions of the sums in the definition."""
        taps = int(self.window.packed[0, 2]) * int(self.window.packed[1, 2])
        return 2 * prod(self.target) * (self.source[1] // self.groups) * taps
