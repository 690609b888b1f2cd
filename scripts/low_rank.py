"""Show what `fastconv.models.low_rank` does to the accuracy and the speed of a network.

    python scripts/low_rank.py                            # the packaged digits of 8 x 8 pixels
    python scripts/low_rank.py FOLDER --out low-rank.png  # files in MNIST's format, and a plot

It trains the textbook's DeepConvNet, cuts it at several ratios, trains each of the results for a
few epochs more, and measures how long `optimized().predict` takes for 100 images. The network that
is not cut is trained for as many epochs more, too, so that the comparison is fair. The plot needs
matplotlib. On two cores it takes a few minutes for MNIST's 10,000 test images, of which 8,000 are
for training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastconv import get_num_threads, num_threads
from fastconv.datasets import load_digits, load_mnist
from fastconv.inference import InferenceNetwork
from fastconv.models import DeepConvNet, Sequential, low_rank
from fastconv.training import Trainer

BATCH = 100
ROUNDS = 200
HALVINGS = 14
"""How often the range of energies is halved that the rule of one energy for all is tried with."""
HEADS = (
    "ratio",
    "million multiply-adds",
    "same energy",
    "low_rank",
    "after training",
    "ms",
    "speed-up",
)

Pair = tuple[NDArray[np.generic], NDArray[np.generic]]


@dataclass
class Result:
    """A network that was cut, its accuracies in percent, and its time for a batch in seconds."""

    ratio: float
    network: Sequential
    same_energy: float | None
    before: float
    after: float = 0.0
    seconds: float = 0.0


def main() -> None:
    """Train, cut, train again, measure, and print a table."""
    arguments = parsed()
    train, test = load_digits() if arguments.folder is None else load_mnist(arguments.folder)
    network = DeepConvNet(train[0].shape[1:], seed=arguments.seed)
    fit(network, train, arguments.epochs, lr=0.001)

    results = [Result(1.0, deepcopy(network), None, percent(network, test))]
    for ratio in arguments.ratios:
        small = low_rank(network, ratio, verbose=ratio == arguments.show)
        same = of_same_energy(network, ratio)
        before = percent(same, test) if same is not None else None
        results.append(Result(ratio, small, before, percent(small, test)))
    for result in results:
        fit(result.network, train, arguments.tuning_epochs, lr=0.0005)
        result.after = percent(result.network, test)
    with num_threads(arguments.threads or get_num_threads()):
        measure(results, test[0])
    print_table(results)
    if arguments.out is not None:
        draw(results, arguments.out)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    summary = "Show what low_rank does to the accuracy and the speed of a network."
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("folder", nargs="?", help="files in MNIST's format; else packaged digits")
    parser.add_argument("--out", help="a picture to write")
    parser.add_argument("--epochs", type=int, default=12, help="epochs before the cut")
    parser.add_argument("--tuning-epochs", type=int, default=3, help="epochs after it")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--threads", type=int, help="for the times; by default as many as cores")
    ratios = [0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1]
    parser.add_argument("--ratios", type=float, nargs="+", default=ratios)
    parser.add_argument("--show", type=float, default=0.3, help="the ratio whose ranks are printed")
    return parser.parse_args()


def fit(network: Sequential, train: Pair, epochs: int, lr: float) -> None:
    """Train a network with a learning rate that falls to 0."""
    trainer = Trainer(
        network,
        *train,
        epochs=epochs,
        mini_batch_size=64,
        optimizer="Adam",
        optimizer_param={"lr": lr},
        schedule="cosine",
        evaluate_sample_num_per_epoch=1,
        verbose=False,
    )
    trainer.train()


def percent(network: Sequential, test: Pair) -> float:
    """Return the accuracy."""
    return 100 * float(network.accuracy(*test))


def of_same_energy(network: Sequential, ratio: float) -> Sequential | None:
    """Cut all layers at one energy, the largest that leaves few enough multiply-adds, if any."""
    low, high, found = 0.0, 1.0, None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        small = low_rank(network, energy=middle)
        if small.multiply_adds() <= ratio * network.multiply_adds():
            low, found = middle, small
        else:
            high = middle
    return found


def measure(results: Sequence[Result], images: NDArray[np.generic]) -> None:
    """Measure the time of a batch: the shortest, since other programs only make it longer."""
    batch = images[:BATCH]
    twins: list[InferenceNetwork] = [result.network.optimized() for result in results]
    times: list[list[float]] = [[] for _ in twins]
    for _ in range(ROUNDS):  # In turns: a change of the processor's speed then changes all.
        for twin, found in zip(twins, times, strict=True):
            start = time.perf_counter()
            twin.predict(batch)
            found.append(time.perf_counter() - start)
    for result, found in zip(results, times, strict=True):
        result.seconds = min(found)


def print_table(results: Sequence[Result]) -> None:
    """Print a table in Markdown."""
    print(f"| {' | '.join(HEADS)} |")
    print(f"|{'---:|' * len(HEADS)}")
    for result in results:
        same = "" if result.same_energy is None else f"{result.same_energy:.1f}"
        cells = (
            f"{result.ratio:g}",
            f"{result.network.multiply_adds() / 1e6:.2f}",
            same,
            f"{result.before:.1f}",
            f"{result.after:.1f}",
            f"{result.seconds * 1e3:.2f}",
            f"{results[0].seconds / result.seconds:.2f}",
        )
        print(f"| {' | '.join(cells)} |")


def draw(results: Sequence[Result], path: str) -> None:
    """Draw the accuracies against the speed."""
    from matplotlib.figure import Figure

    figure = Figure((6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(results, key=lambda result: result.seconds)
    speeds = [results[0].seconds / result.seconds for result in ordered]
    after, before = [result.after for result in ordered], [result.before for result in ordered]
    axes.plot(speeds, after, "o-", color="#0072B2", label="after a short training")
    axes.plot(speeds, before, "s--", color="#D55E00", label="before")
    for result, speed in zip(ordered, speeds, strict=True):
        name = "whole" if result.ratio == 1 else f"{result.ratio:g}"
        axes.annotate(name, (speed, result.after), (0, 6), textcoords="offset points", ha="center")
    axes.set_xlabel("images per second, as a multiple of the whole network's")
    axes.set_ylabel("accuracy in %")
    axes.set_ylim(min(85.0, *after) - 1, 100)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
