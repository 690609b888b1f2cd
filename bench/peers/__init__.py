"""Who takes part: one module a library, imported in a process of its own.

A module has a class `Peer(threads)` with a `version` and, for every operation that the library
offers, a method that takes the case and gives its contenders. Except for fastconv and NumPy a peer
is optional: its module raises ImportError when the library is missing.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

from bench.cases import Array, Case

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


@dataclass(frozen=True)
class Contender:
    """One way to do a case's operation; what `mode` may be is said at `results.Row`."""

    name: str
    mode: str
    call: Callable[[], Any]
    results: Callable[[Any], tuple[Array, ...]]  # Brings what `call` returns into our layout.
    operations: float = 1  # One call does the operation this number of times.
    warm_up: Callable[[], Any] | None = None  # A shorter call, which warms up as well.


Offer = Callable[[Any, Case], Iterator[Contender]]


def one(value: Array) -> tuple[Array, ...]:
    return (value,)


def builds_columns(offer: Offer) -> Offer:
    """Leave out contenders that hold all columns at once where those are too large."""

    @wraps(offer)
    def where_they_fit(peer: Any, case: Case) -> Iterator[Contender]:
        if case.has_columns:
            yield from offer(peer, case)

    return where_they_fit


def is_image_filter(case: Case) -> bool:
    """Whether a library of image processing has this convolution: one plane, as large after."""
    w = case.workload
    return w.is_single_image and w.stride == 1 and w.kernel == 2 * w.pad + 1


def start(name: str, threads: int) -> Any:
    """Import a library and give its peer."""
    return importlib.import_module(f"{__name__}.{MODULES[name]}").Peer(threads)


def contenders(peer: Any, case: Any) -> Iterator[Contender]:
    offer = getattr(peer, case.operation, None) or getattr(peer, "any_operation", None)
    if offer is not None:
        yield from offer(case)
