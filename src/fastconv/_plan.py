"""The table of a network's steps and their times."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

from fastconv._arguments import positive
from fastconv._errors import argument_error, named, shown

if TYPE_CHECKING:
    from fastconv.inference import InferenceNetwork
    from fastconv.models import Sequential


@named
def plan(network: Sequential | InferenceNetwork, batch: SupportsIndex = 1) -> None:
    """Run a network's optimised twin, and print what each of its steps costs.

    The columns are the layers that a step computes, its algorithm, the shape of its result for one
    input, the median time of some runs in ms, the speed (twice the multiply-adds of the definition,
    divided by that time), and the size of the result in MiB. The threads and the precision are
    those in use.

    Parameters
    ----------
    network : Sequential or InferenceNetwork
        What is run, with random inputs.
    batch : int, default 1
        Number of inputs that are computed together.

    Raises
    ------
    TypeError, ValueError
        If `network` is neither, or `batch` is no positive int.

    See Also
    --------
    fastconv.models.Sequential.optimized : Makes the twin.
    fastconv.plan_conv2d : Says the same of one convolution, without running it.

    Examples
    --------
    >>> import fastconv
    >>> from fastconv.models import LeNet
    >>> fastconv.plan(LeNet(), batch=16)  # doctest: +SKIP
    """
    from fastconv.inference import InferenceNetwork
    from fastconv.inference._report import report
    from fastconv.models import Sequential  # Few users of the functions need them.

    if isinstance(network, Sequential):
        network = network.optimized()
    if not isinstance(network, InferenceNetwork):
        raise argument_error(
            TypeError,
            f"network must be a Sequential or an InferenceNetwork, got {shown(network)}",
        )
    print(report(network, positive(batch, "batch")))
