"""Networks that only compute scores, as fast as they can."""

from fastconv.inference._network import InferenceNetwork

__all__ = ["InferenceNetwork"]
