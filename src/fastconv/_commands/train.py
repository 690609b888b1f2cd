"""``fastconv train``: train a network on handwritten digits, and look at what it has learned."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import fastconv
from fastconv._arrays import Array, Shape
from fastconv._commands.networks import NETWORKS, OTHER_RULE, Choice
from fastconv._commands.shared import (
    CommandError,
    cannot_write,
    count_to,
    fraction,
    path,
    positive_number,
)
from fastconv._errors import without_name
from fastconv._files import check_writable, replacing
from fastconv._text import table
from fastconv.augment import PadTo, RandomShift
from fastconv.datasets import load_digits, load_mnist
from fastconv.models import Sequential
from fastconv.training import Trainer
from fastconv.training._optimizers import OPTIMIZERS
from fastconv.training._schedules import SCHEDULES

__all__ = ["add_command"]

DIGITS_EPOCHS, EPOCHS = 30, 10
"""The numbers of epochs by default, for the packaged digits and for other images."""
SHIFT = 0
"""What stands for the number of pixels that `--augment` moves images by if it is given alone."""
SHOWN = 40
"""The largest number of misclassified images in the picture."""

HISTORY, PARAMS, CHECKPOINT = "history.csv", "params.npz", "checkpoint.npz"
PICTURES = CURVE, FILTERS, MISTAKES = "learning-curve.png", "filters.png", "misclassified.png"
NO_MATPLOTLIB = "no pictures: they need matplotlib (pip install 'fastconv[train]', then --resume)"


def _defaults(describe: Callable[[Choice], object]) -> str:
    """Say for a help text which default each network has: "A for x, y; B for z"."""
    names: dict[str, list[str]] = {}
    for name, choice in NETWORKS.items():
        names.setdefault(str(describe(choice)), []).append(name)
    return "; ".join(f"{value} for {', '.join(which)}" for value, which in names.items())


# --- The command ----------------------------------------------------------------------------


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the command line."""
    parser = subparsers.add_parser(
        "train",
        help="train a network on handwritten digits",
        description="Train a convolutional network, by default SimpleConvNet on the packaged "
        "handwritten digits, and print how it went. Ctrl-C stops after the current step.",
        epilog=f"Files in DIR: {HISTORY}, {PARAMS}, {CHECKPOINT} (written after every epoch), "
        f"{', '.join(PICTURES)}. Exit code: 0 when trained, 130 when interrupted, 2 for an error.",
    )
    _add_task(parser)
    _add_rule(parser)
    parser.add_argument("--threads", metavar="N", type=count_to(1024), help="(default: all)")
    _add_results(parser)
    parser.set_defaults(run=run)


def _add_task(parser: argparse.ArgumentParser) -> None:
    """Add what says which network learns what, and for how long."""
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        type=path,
        help="files in MNIST's format; if there are only train-... or only t10k-... files, a fifth "
        "of the images is for testing (default: the packaged digits)",
    )
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default="simple",
        help="(default: simple); smaller images are padded with zeros to 32 x 32 pixels for nin, "
        "vgg11 and resnet...",
    )
    parser.add_argument(
        "--epochs",
        metavar="N",
        type=count_to(10**6),
        help=f"(default: {DIGITS_EPOCHS} for the digits, {EPOCHS} for --data)",
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=count_to(10**6),
        help=f"images in a step (default: {_defaults(lambda choice: choice.batch_size)})",
    )
    parser.add_argument(
        "--augment",
        metavar="PIXELS",
        nargs="?",
        type=count_to(1000),
        const=SHIFT,
        help="move every training image up or down and left or right, each time anew, by at most "
        "PIXELS (default: a fourteenth of the image's size, 2 pixels for MNIST)",
    )


def _add_rule(parser: argparse.ArgumentParser) -> None:
    """Add what says how it learns."""
    parser.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        help=f"(default: {_defaults(lambda choice: choice.optimizer)})",
    )
    parser.add_argument(
        "--lr",
        metavar="X",
        type=positive_number,
        help="learning rate (default: "
        f"{_defaults(lambda choice: choice.rule['lr'])}; "
        f"{OTHER_RULE['lr']} for another optimizer than the network's default)",
    )
    parser.add_argument(
        "--momentum",
        metavar="X",
        type=fraction,
        help="fraction of the velocity that each step keeps, for --optimizer momentum (default: "
        "0.9)",
    )
    parser.add_argument(
        "--nesterov", action="store_true", help="Nesterov's momentum, for --optimizer momentum"
    )
    parser.add_argument(
        "--weight-decay",
        metavar="X",
        type=fraction,
        help="fraction of each parameter that is added to its gradient, or for adamw subtracted "
        "from it in proportion to the learning rate (default: 0.01 for adamw, 1e-4 for resnet... "
        "with momentum, otherwise 0)",
    )
    parser.add_argument(
        "--clip-norm",
        metavar="X",
        type=positive_number,
        help="largest norm of all gradients together (default: none)",
    )
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="cosine",
        help="whether the learning rate stays, falls to 0 as half a cosine, or is divided by 10 "
        "after a half and again after three quarters of the training (default: %(default)s)",
    )
    parser.add_argument(
        "--warmup",
        metavar="X",
        type=fraction,
        help="fraction of the training in which the learning rate rises from 0 (default: "
        f"{_defaults(lambda choice: choice.warmup)})",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=count_to(2**32 - 1),
        default=1,
        help="for weights, dropout, --augment, and the order of images (default: %(default)s)",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    """Add what says where results go, and what becomes of those of an earlier run."""
    parser.add_argument("--out", metavar="DIR", type=path, help="write results into this folder")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", action="store_true", help=f"go on from DIR/{CHECKPOINT}, if there is one"
    )
    existing.add_argument(
        "--overwrite", action="store_true", help="replace the results of an earlier run in DIR"
    )


def run(args: argparse.Namespace) -> int:
    """Train on as many threads as are wanted; returns the exit code."""
    if args.resume and args.out is None:
        raise CommandError("--resume needs --out DIR")
    optimizer = args.optimizer or NETWORKS[args.network].optimizer
    if optimizer != "momentum" and (args.nesterov or args.momentum is not None):
        raise CommandError("--momentum and --nesterov need --optimizer momentum")
    if args.threads is None:
        return _run(args)
    with fastconv.num_threads(args.threads):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    choice = NETWORKS[args.network]
    (x_train, t_train), (x_test, t_test) = _load(args.data)
    augment = _augment(args.augment, x_train.shape)
    pad = PadTo(choice.padded(x_train.shape))
    x_train, x_test = pad(x_train), pad(x_test)
    classes = max(10, 1 + int(max(t_train.max(), t_test.max())))
    network = _network(args.network, x_train.shape[1:], classes, args.seed)
    untrained = network.params["W1"].copy()
    folder = None if args.out is None else _folder(Path(args.out), args.resume, args.overwrite)
    optimizer = args.optimizer or choice.optimizer
    warmup = choice.warmup if args.warmup is None else args.warmup
    try:
        trainer = Trainer(
            network,
            x_train,
            t_train,
            x_test,
            t_test,
            args.epochs or (EPOCHS if args.data else DIGITS_EPOCHS),
            args.batch_size or choice.batch_size,
            optimizer,
            {**choice.rule_of(optimizer), **_rule_arguments(args)},
            schedule=SCHEDULES[args.schedule](warmup=warmup),
            seed=args.seed,
            checkpoint=folder and folder / CHECKPOINT,
            augment=augment,
        )
        if folder is not None and args.resume:
            _go_on(trainer, folder / CHECKPOINT)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    except (ValueError, FloatingPointError) as error:
        raise CommandError(without_name(error)) from error
    except OSError as error:
        raise cannot_write(error.filename or folder, error) from error

    if folder is not None:  # Results are written first, because printing may fail.
        _write(folder, trainer, network, untrained)
    print(_report(trainer, network, seconds))
    if folder is not None:
        if _viz() is None:
            print(NO_MATPLOTLIB)
        print(f"written to {folder}")
    return 130 if trainer.interrupted else 0


def _rule_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Collect the arguments of the update rule that were given; the others have defaults."""
    given = {"lr": args.lr, "momentum": args.momentum, "nesterov": args.nesterov or None}
    given |= {"weight_decay": args.weight_decay, "clip_norm": args.clip_norm}
    return {name: value for name, value in given.items() if value is not None}


def _augment(pixels: int | None, shape: Shape) -> RandomShift | None:
    """Make what `--augment` stands for, None without it; mirror images would be no digits."""
    if pixels is None:
        return None
    size = min(shape[2:])
    if pixels >= size:
        raise CommandError(
            f"--augment {pixels} would move images of {shape[2]} x {shape[3]} pixels out of sight"
        )
    return RandomShift(max(1, size // 14) if pixels == SHIFT else pixels)


def _load(folder: str | None) -> Any:
    if folder is None:
        return load_digits()
    try:
        return load_mnist(folder)
    except OSError as error:
        raise CommandError(f"{error.filename or folder}: {error.strerror or error}") from error
    except ValueError as error:
        raise CommandError(without_name(error)) from error


def _network(name: str, shape: tuple[int, ...], classes: int, seed: int) -> Sequential:
    try:
        return NETWORKS[name].make(shape, classes, seed)
    except ValueError as error:
        size = "{} x {}".format(*shape[1:])
        raise CommandError(
            f"--network {name}: images of {size} pixels are no input for this network: "
            f"{without_name(error)}"
        ) from error


def _folder(folder: Path, resume: bool, overwrite: bool) -> Path:
    """Make the folder, and see before training that results can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        earlier = [name for name in (HISTORY, PARAMS, CHECKPOINT) if (folder / name).exists()]
        for name in (HISTORY, PARAMS, CHECKPOINT, *PICTURES):
            check_writable(folder / name)
    except OSError as error:
        raise cannot_write(error.filename or folder, error) from error
    if earlier and not overwrite and not (resume and CHECKPOINT in earlier):
        raise CommandError(
            f"{folder} holds results of an earlier run ({', '.join(earlier)}): add --resume to go "
            "on with it or --overwrite to replace it, or name another folder"
        )
    return folder


def _go_on(trainer: Trainer, checkpoint: Path) -> None:
    """Load what an earlier run has left."""
    try:
        trainer.load_checkpoint(checkpoint)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CommandError(f"cannot read {checkpoint}: {error.strerror or error}") from error


def _viz() -> ModuleType | None:
    try:
        from fastconv import viz
    except ImportError:
        return None
    return viz


# --- The results ----------------------------------------------------------------------------


def _report(trainer: Trainer, network: Sequential, seconds: float) -> str:
    heads = ("epoch", "loss", "training images %", "test images %")
    rows = [
        (
            e.epoch,
            f"{e.train_loss:.4f}",
            *("" if a is None else f"{100 * a:.2f}" for a in accuracies),
        )
        for e in trainer.history
        for accuracies in [(e.train_acc, e.test_acc)]
    ]
    state = "interrupted" if trainer.interrupted else "trained"
    steps = f"{len(trainer.train_loss_list)} steps"
    lines = [table(heads, rows)] if rows else []
    lines.append(f"{network}: {state}, {steps}, {seconds:.1f} s")
    if trainer.test_acc_list and trainer.x_test is not None:
        images = len(trainer.x_test)
        lines.append(f"{trainer.test_acc_list[-1]:.2%} of {images} test images are right")
    return "\n".join(lines)


def _write(folder: Path, trainer: Trainer, network: Sequential, untrained: Array) -> None:
    try:
        trainer.write_history(folder / HISTORY)
        network.save_params(folder / PARAMS)
        viz = _viz()
        if viz is None or not trainer.history:
            return
        trained = network.params["W1"]
        figures = {
            CURVE: viz.show_history(trainer.history),
            FILTERS: viz.show_filters(untrained, trained, titles=("before", "after")),
        }
        if trainer.x_test is not None and trainer.t_test is not None:
            places, titles = _mistakes(network, trainer.x_test, trainer.t_test)
            figures[MISTAKES] = viz.show_images(trainer.x_test[places], titles)
        for name, figure in figures.items():
            with replacing(folder / name) as file:
                figure.savefig(file, format="png")
    except OSError as error:
        raise cannot_write(error.filename or folder, error) from error


def _mistakes(network: Sequential, x: Array, t: Array) -> tuple[Array, list[str]]:
    """Find the first images that are misclassified, and what they were taken for."""
    scores = [network.predict(x[first : first + 100]) for first in range(0, len(x), 100)]
    found = np.concatenate(scores).argmax(axis=1)
    places = np.flatnonzero(found != t)[:SHOWN]
    return places, [f"{t[place]} taken for {found[place]}" for place in places]
