"""Prove that a change inside the library changes no bit of any result.

    python scripts/digests.py write BEFORE.json         # with the library before the change
    python scripts/digests.py write AFTER.json          # with the library after it
    python scripts/digests.py compare BEFORE.json AFTER.json

`write` runs some 2,000 random calls of the public functions at every CPU level of the machine, on
one thread and on three. Both must give the same result, of which it saves a digest. For a refused
call it saves the type and the text of the exception instead. PYTHONPATH chooses the library, so
BEFORE.json may come from another checkout. Both files must come from this script, from the same
machine and from the same version of NumPy.

A call is a Python expression that `random_calls.py` draws. Its text is both its name and the code
that runs. `--only TEXT` repeats the calls whose text contains TEXT.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any

# Threads that wait for each other sleep, so that a busy machine does not slow them down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from helpers import LAYOUTS, Array, Shape
from random_calls import corpus

import fastconv
from fastconv import _kernels, layers, training

THREADS = (1, 3)
MOVED = ("im2col(", "into(im2col,", "unfold(", "into(unfold,")
"""Calls that begin with these texts only move bytes, so they must keep even the bits of a NaN."""

SPECIALS = (np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, 3e38)
KEPT = ("dW", "db", "dgamma", "dbeta", "running_mean", "running_var", "y")
"""Attributes that a layer keeps after both passes, and that users read."""


@lru_cache(maxsize=16)
def array(
    shape: Shape,
    dtype: str,
    seed: int,
    layout: str = "contiguous",
    fill: str = "numbers",
    below: int | None = None,
) -> Array:
    """Make an argument: numbers, special numbers, arbitrary bits, or indices less than `below`."""
    kind, draw = np.dtype(dtype).kind, np.random.default_rng(seed)
    if below is not None:
        values = draw.integers(0, below, shape).astype(dtype)
    elif kind in "cMSV" or (fill == "bits" and kind != "b"):
        data = draw.bytes(np.dtype(dtype).itemsize * prod(shape))
        values = np.ndarray(shape, dtype, data or b"\0").copy()
    elif kind == "f":
        values = draw.standard_normal(shape).astype(dtype)
    else:
        low, high = {"b": (0, 2), "u": (0, 100), "i": (-100, 100)}[kind]
        values = draw.integers(low, high, shape).astype(dtype)
    if fill == "specials":
        places = draw.random(shape) < 0.02
        values[places] = draw.choice(SPECIALS, np.count_nonzero(places))
    return LAYOUTS[layout](values)


def into(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a function with an `out` that contains other values before the call."""
    plain = function(*arguments, **keywords)
    like = plain[0] if isinstance(plain, tuple) else plain
    out: Array = np.ndarray(like.shape, like.dtype, bytearray(b"\xa5" * max(1, like.nbytes)))
    result = function(*arguments, **keywords, out=out)
    assert (result[0] if isinstance(result, tuple) else result) is out
    return result


def high(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a function with precision "high"."""
    with fastconv.precision("high"):
        return function(*arguments, **keywords)


def packed(
    function: Callable[..., Any], images: Array, weight: Array, **keywords: Any
) -> tuple[Array, Array]:
    """Call a function twice with a `PackedWeight`; return the second result, then the first.

    The second call uses what the first one has packed.
    """
    weights = fastconv.PackedWeight(weight)
    first = function(images, weights, **keywords).copy()  # The second one may have the same `out`.
    return function(images, weights, **keywords), first


def plan(*arguments: Any, **keywords: Any) -> str:
    """Return a plan as text, for two threads, because the workspace depends on their number."""
    with fastconv.num_threads(2):
        return repr(fastconv.plan_conv2d(*arguments, **keywords))


def passes(layer: Any, inputs: tuple[Array, ...], *grads: Array, **flags: bool) -> tuple[Any, ...]:
    """Run a layer forwards and backwards; return its results and the arrays that it keeps."""
    results = layer.forward(*inputs, **flags), layer.backward(*grads)
    return (*results, *(getattr(layer, name, None) for name in KEPT))


def updated(rule: training.Optimizer, param: Array, *grads: Array) -> tuple[Any, ...]:
    """Change a parameter by several gradients; return it and what the rule keeps for it."""
    param = param.copy(order="K")
    for grad in grads:
        rule.update({"W1": param}, {"W1": grad})
    return (param, *(kept["W1"] for kept in rule.kept.values()))


NAMES = {**vars(layers), **vars(training), **vars(fastconv), "np": np}
HELPERS = (array, into, high, packed, plan, passes, updated)
NAMES |= {function.__name__: function for function in HELPERS}


def digest(result: Any, exact: bool) -> str:
    """Digest the dtype, shape and bytes of each array of a result; return a text unchanged.

    Every NaN counts as the same, unless the call only moves bytes. If both operands of an operation
    are NaN, their order decides which one is returned, and compilers choose that order. The library
    promises which results are NaN, but not their bits.
    """
    if isinstance(result, str):
        return result
    parts = []
    for part in result if isinstance(result, tuple) else (result,):
        if part is None:
            parts.append("None")
            continue
        values = np.array(part)
        if values.dtype.kind == "f" and not exact:
            values[np.isnan(values)] = np.nan
        head = f"{values.dtype.str} {values.shape}".encode()
        parts.append(blake2b(head + values.tobytes(), digest_size=8).hexdigest())
    return " ".join(parts)


def outcome(call: str) -> str:
    """Run a call, and digest what it returns or raises."""
    try:
        return digest(eval(call, dict(NAMES)), call.startswith(MOVED))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def write(path: Path, only: str) -> int:
    """Run the calls whose text contains `only` at all levels, and save their digests."""
    start, levels = time.perf_counter(), _kernels.available_levels()
    if hasattr(_kernels, "threads"):  # Versions without it never use fewer threads.
        _kernels.threads.adapt(False)
    calls: dict[str, dict[str, str]] = {}
    unequal = 0
    for call in dict.fromkeys(call for call in corpus() if only in call):
        calls[call] = {}
        for level in levels:
            _kernels.use(level)
            outcomes = []
            for threads in THREADS:
                with fastconv.num_threads(threads), np.errstate(all="ignore"):
                    outcomes.append(outcome(call))
            calls[call][level] = outcomes[0]
            if len(set(outcomes)) > 1:
                unequal += 1
                print(f"{call}\n    {level}: on {THREADS} threads: {outcomes}")
    refused = sum("Error: " in digests[levels[0]] for digests in calls.values())
    seconds = time.perf_counter() - start
    print(f"{len(calls)} calls at {', '.join(levels)}, {refused} of them refused: {seconds:.0f} s")
    if unequal or not calls:
        print(f"{unequal} differ between numbers of threads: {path} is not written")
        return 1
    machine = {"levels": levels, "numpy": np.__version__}
    path.write_text(json.dumps({"machine": machine, "calls": calls}, indent=1), encoding="utf-8")
    return 0


def compare(before: Path, after: Path, only: str) -> int:
    """Print the calls of two files whose digests differ at a level that both have."""
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    levels = [level for level in old["machine"]["levels"] if level in new["machine"]["levels"]]
    names = [name for name in old["calls"] | new["calls"] if only in name]
    if old["machine"] != new["machine"]:
        print(f"compared at {levels} only: {old['machine']} and {new['machine']}")
    differ = Counter[str]()
    for name in names:
        digests = [data["calls"].get(name, {}) for data in (old, new)]
        changes = {level: [d.get(level, "no such call") for d in digests] for level in levels}
        changes = {level: pair for level, pair in changes.items() if pair[0] != pair[1]}
        if changes:
            words = re.findall(r"\w+", name)
            differ[
                next(word for word in words if word not in ("high", "into", "packed", "passes"))
            ] += 1
            print(name)
        for pair in dict.fromkeys(map(tuple, changes.values())):
            at = ", ".join(level for level in changes if tuple(changes[level]) == pair)
            print(f"    {at}: {pair[0]}\n        -> {pair[1]}")
    kinds = ", ".join(f"{count} {name}" for name, count in differ.items())
    print(f"{differ.total()} of {len(names)} calls differ{': ' * bool(kinds)}{kinds}")
    return int(bool(differ) or not levels or not names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="run the calls and save their digests")
    comparing = commands.add_parser("compare", help="print which calls differ; exit 1 if any do")
    writing.add_argument("file", type=Path)
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    for command in (writing, comparing):
        command.add_argument("--only", default="", help="calls whose text contains this")
    options = parser.parse_args()
    if options.command == "write":
        return write(options.file, options.only)
    return compare(options.before, options.after, options.only)


if __name__ == "__main__":
    sys.exit(main())
