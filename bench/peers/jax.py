"""JAX on the CPU, compiled by XLA, on arrays that it holds already.

XLA has no call that sets the number of threads. It makes its pools when the first array is placed,
as large as NPROC says or, without that, as the CPUs that the process may run on.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from jax import lax

from bench import networks, networks_jax
from bench.cases import Array, Case, unfolded_to_rows
from bench.networks import NetworkCase
from bench.peers import Contender


class Peer:
    """The first call compiles."""

    version = str(jax.__version__)

    def __init__(self, threads: int) -> None:
        os.environ["NPROC"] = str(threads)

    def im2col(self, case: Case) -> Iterator[Contender]:
        def results(value: Any) -> tuple[Array, ...]:
            return (unfolded_to_rows(np.asarray(value)),)

        yield _contender(_unfold(case), results, case.image)

    def unfold(self, case: Case) -> Iterator[Contender]:
        yield _contender(_unfold(case), _one, case.image)

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        yield _contender(lambda x: _reduced(case, x, -np.inf, lax.max), _one, case.image)

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        pixels = case.workload.kernel**2
        yield _contender(lambda x: _reduced(case, x, 0.0, lax.add) / pixels, _one, case.image)

    def conv2d(self, case: Case) -> Iterator[Contender]:
        yield _contender(_convolution(case), _one, case.image, case.weight, case.bias)

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        def gradients(grad: Any, *inputs: Any) -> Any:
            return jax.vjp(_convolution(case), *inputs)[1](grad)

        yield _contender(
            gradients,
            lambda result: tuple(map(np.asarray, result)),
            *(case.grad, case.image, case.weight, case.bias),
        )

    def network_step(self, case: NetworkCase) -> Iterator[Contender]:
        yield networks.contender("jax", case, networks_jax.Network)

    network_inference = network_step


def _convolution(case: Case) -> Callable[..., Any]:
    groups, (_, s, p) = case.workload.groups, case.window

    def convolution(x: Any, weight: Any, bias: Any) -> Any:
        product = lax.conv_general_dilated(
            x, weight, (s, s), ((p, p), (p, p)), feature_group_count=groups
        )
        return product + bias[:, None, None]

    return convolution


def _unfold(case: Case) -> Callable[[Any], Any]:
    n, (k, s, p) = case.workload.n, case.window

    def unfold(x: Any) -> Any:
        patches = lax.conv_general_dilated_patches(x, (k, k), (s, s), ((p, p), (p, p)))
        return patches.reshape(n, -1, case.workload.out_size**2)

    return unfold


def _reduced(case: Case, x: Any, start: float, reduce: Any) -> Any:
    k, s, p = case.window
    around = ((0, 0), (0, 0), (p, p), (p, p))
    return lax.reduce_window(x, start, reduce, (1, 1, k, k), (1, 1, s, s), around)


def _contender(
    function: Callable[..., Any],
    results: Callable[[Any], tuple[Array, ...]],
    *inputs: Array,
) -> Contender:
    compiled = jax.jit(function)
    placed = jax.device_put(inputs)
    return Contender("jax", "fresh", lambda: jax.block_until_ready(compiled(*placed)), results)


def _one(value: Any) -> tuple[Array, ...]:
    return (np.asarray(value),)
