"""Who takes part: one module a library, imported in a process of its own.

A module has a class `Peer`. Except for fastconv and NumPy a peer is optional: its module raises
ImportError when the library is missing.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench import networks, updates
from bench.cases import Array, Call, Calls, Case, Contender, as_tuple
from bench.filters import FilterCase
from bench.networks import NetworkCase
from bench.updates import UpdateCase

# The name under which users install a library, and its module; reports keep this order.
MODULES = {
    "fastconv": "ours",
    "numpy": "numpy",
    "scipy": "scipy",
    "opencv-python-headless": "opencv",
    "scikit-image": "scikit_image",
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "jax": "jax",
    "limits": "limits",  # This is no library, but what the machine can do.
}

OURS = "fastconv"
LIMIT = "limit"  # Rows in this mode are what the machine can do.
HIGH = "high"  # Rows in this mode are ours with `fastconv.precision("high")`.
FMA_PEAK = "FMA peak"
TORCH_LAYOUTS = ("torch", "torch channels_last")
TORCH_COMPILE = "torch compile"

MakeNetwork = Callable[[NetworkCase], networks.Network]


class Peer:
    """A library, whose `calls` make the call of a case by its operation.

    A method that is called like an operation gives what else the library offers for it. `network`
    makes the networks that the textbook has layers for.
    """

    name: str
    version: str
    calls: Calls = {}  # noqa: RUF012 - a mapping is not changed
    network: MakeNetwork | None = None
    update: Callable[[UpdateCase], updates.Update] | None = None

    def __init__(self, threads: int) -> None:
        """Leave it to the environment, which told the library its number of threads."""

    def contenders(self, case: Any) -> Iterator[Contender]:
        if isinstance(case, NetworkCase):
            for name, network in self.networks(case).items():
                yield networks.contender(name, case, network)
            return
        if isinstance(case, FilterCase):
            for name, call in self.filters(case):
                yield self.contender(case, call, name=name)
            return
        if isinstance(case, UpdateCase):
            if self.update:
                yield updates.contender(self.name, case, self.update)
            return
        if case.operation in self.calls:
            yield self.contender(case, self.calls[case.operation](case))
        if more := getattr(self, case.operation, None):
            yield from more(case)

    def networks(self, case: NetworkCase) -> Mapping[str, MakeNetwork]:
        """Give what makes the case's network, by the names of contenders."""
        return {self.name: self.network} if self.network and case.is_of_textbook else {}

    def filters(self, case: FilterCase) -> Iterator[tuple[str, Call]]:
        """Give the names of contenders that filter the case's image, and their calls."""
        yield from ()

    def contender(self, case: Any, call: Call, mode: str = "fresh", name: str = "") -> Contender:
        return Contender(
            name or self.name, mode, call, lambda returned: self.results(case, returned)
        )

    def results(self, case: Case, returned: Any) -> tuple[Array, ...]:
        """Bring what a call returned into our layout."""
        return as_tuple(returned)


def is_image_filter(case: Case) -> bool:
    """Whether a library of image processing has this convolution: one plane, as large after."""
    return case.workload.is_single_image and case.s == 1 and case.k == 2 * case.p + 1


def start(name: str, threads: int) -> Peer:
    """Import a library and give its peer."""
    peer: Peer = importlib.import_module(f"{__name__}.{MODULES[name]}").Peer(threads)
    return peer
