"""``fastconv onnx``: what a trained network in an ONNX file is, what it says, what takes time."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._commands.onnx_feeds import LAYOUTS, Feeds, Picture, read_feeds
from fastconv._commands.shared import (
    CommandError,
    cannot_write,
    count_to,
    path,
    positive_number,
)
from fastconv._errors import without_name
from fastconv._files import check_writable, replacing
from fastconv._text import printable, table
from fastconv.onnx import InferenceSession
from fastconv.onnx._checks import room
from fastconv.onnx._model import Model, ValueInfo, read_model

__all__ = ["add_command"]

Array = NDArray[Any]

NEEDS_VIZ = "--heat-map needs matplotlib: pip install 'fastconv[viz]'"
LARGEST_SIZE = 1 << 14
"""The largest height and width that pictures are resized to, and the largest batch."""


# ---- arguments ---------------------------------------------------------------------------------


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``onnx`` and its three commands to the command line."""
    parser = subparsers.add_parser(
        "onnx",
        help="look into, run and measure a trained network in an ONNX file",
        description="Trained networks in ONNX files, as PyTorch and Keras export them.",
        epilog="Exit code: 0, or 2 for an error; then no file is changed.",
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_info(actions)
    _add_run(actions)
    _add_profile(actions)


def _add_info(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "info",
        help="inputs, outputs, operators, and whether all of them are supported",
        description="Print what a model takes and gives, its size, its operators, and whether "
        "this library supports all of them.",
    )
    _add_model(parser)
    _add_shapes(parser)
    parser.set_defaults(run=info)


def _add_profile(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "profile",
        help="how long each step and each operator takes",
        description="Run a model on random numbers, and print the median time of each of its "
        "steps and of each operator.",
    )
    _add_model(parser)
    _add_shapes(parser)
    _add_threads(parser)
    parser.add_argument(
        "--repeat",
        metavar="N",
        type=count_to(10**6),
        default=5,
        help="the number of runs, after one that is not counted (default: %(default)s)",
    )
    parser.set_defaults(run=profile)


def _add_run(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "run",
        help="the classes of images, or any outputs",
        description="Run a model on images or arrays, and print the best classes if its first "
        "output is a row of scores for each image, or else a summary of the outputs. Images are "
        "resized until they cover the input of the model, and cut around the middle. Pixels are "
        "multiplied by --scale; --mean is subtracted, and the result divided by --std.",
        epilog="Models that PyTorch's torchvision trained on ImageNet take --crop 0.875 --mean "
        "0.485,0.456,0.406 --std 0.229,0.224,0.225.",
    )
    _add_model(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=path,
        help="an image (needs Pillow: pip install 'fastconv[images]'), an .npy file, or an .npz "
        "file whose arrays are called as the inputs; NAME=FILE is for the input NAME. Several "
        "files for a model of one input are run one after the other",
    )
    _add_picture(parser)
    _add_threads(parser)
    parser.add_argument(
        "--labels", metavar="FILE", type=path, help="a text file with the name of a class a line"
    )
    parser.add_argument(
        "--top",
        metavar="K",
        type=count_to(10**6),
        default=5,
        help="how many classes to print (default: %(default)s)",
    )
    parser.add_argument(
        "--output", metavar="FILE.npz", type=path, help="where to write all outputs, by their names"
    )
    parser.add_argument(
        "--heat-map",
        metavar="FILE.png",
        type=path,
        help="where to draw which pixels of the one image speak for its best class (needs "
        "matplotlib: pip install 'fastconv[viz]')",
    )
    parser.set_defaults(run=run)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=path, help="an ONNX file")


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", metavar="N", type=count_to(1024), help="(default: all)")


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch",
        metavar="N",
        type=count_to(LARGEST_SIZE),
        help="the first size of every input whose first size may vary (default: 1)",
    )
    parser.add_argument(
        "--shape",
        metavar="[NAME=]SIZES",
        action="append",
        default=[],
        help="the shape of an input, such as 1,3,224,224, where the model leaves it open; NAME= "
        "if there are several inputs",
    )


def _add_picture(parser: argparse.ArgumentParser) -> None:
    """Add what says how pictures become numbers."""
    add = parser.add_argument
    add("--scale", type=positive_number, default=1 / 255, help="(default: 1/255)")
    add("--mean", metavar="M[,M,M]", type=_numbers, default=(0.0,), help="(default: 0)")
    add("--std", metavar="S[,S,S]", type=_divisors, default=(1.0,), help="(default: 1)")
    add(
        "--size",
        metavar="H[,W]",
        type=_size,
        help="the height and width of images, where the model takes any (default: their own)",
    )
    add(
        "--crop",
        metavar="PART",
        type=_part,
        default=1.0,
        help="which part of the side that limits it an image keeps, such as 0.875 to resize to "
        "256 pixels for an input of 224 (default: 1)",
    )
    add(
        "--layout",
        choices=LAYOUTS,
        help="how the model arranges channels (default: where it has 1 or 3 of them)",
    )
    add("--bgr", action="store_true", help="the model takes channels as blue, green, red")


def _numbers(text: str) -> tuple[float, ...]:
    """Read finite numbers with commas between them."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"must be numbers with commas between them, got {text!r}")
    return found


def _divisors(text: str) -> tuple[float, ...]:
    found = _numbers(text)
    if min(found) <= 0:
        raise argparse.ArgumentTypeError(f"must be numbers above 0, got {text!r}")
    return found


def _part(text: str) -> float:
    value = positive_number(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def _size(text: str) -> tuple[int, int]:
    sides = [count_to(LARGEST_SIZE)(part) for part in text.split(",")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"must be a height, or height,width, got {text!r}")
    return sides[0], sides[-1]


# ---- models and shapes -------------------------------------------------------------------------


@contextlib.contextmanager
def _errors_of(place: str) -> Iterator[None]:
    """Turn what is said about a file, a model or its inputs into the error of a command."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"{place}: {error.strerror or error}") from error
    except (ValueError, NotImplementedError) as error:
        raise CommandError(f"{place}: {without_name(error)}") from error


def _session(args: argparse.Namespace) -> InferenceSession:
    with _errors_of(args.model):
        return InferenceSession(args.model, num_threads=args.threads)


def _random_feeds(
    args: argparse.Namespace, inputs: Sequence[ValueInfo]
) -> tuple[dict[str, Array], str]:
    """Draw an array for every input; if a shape is not known, say so instead."""
    rng = np.random.default_rng(0)
    given = _given_shapes(args.shape, inputs)
    feeds = {}
    for value in inputs:
        shape = given.get(value.name) or _known_shape(value, args.batch)
        if shape is None:
            sizes = tuple(value.shape) if value.has_shape else "any shape"
            return {}, f"the input {value.name!r} takes {sizes}: add --shape {value.name}=SIZES"
        try:  # The numbers are drawn as float64, whatever they become.
            room(shape, np.dtype(np.float64))
        except ValueError:
            raise CommandError(
                f"an input of shape {tuple(shape)} does not fit into memory"
            ) from None
        feeds[value.name] = np.asarray(rng.random(shape)).astype(value.dtype)
    return feeds, ""


def _given_shapes(texts: Sequence[str], inputs: Sequence[ValueInfo]) -> dict[str, list[int]]:
    """Read the shapes of a command line, each for one input."""
    names = [value.name for value in inputs]
    found: dict[str, list[int]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        if not name and len(names) == 1:
            name = names[0]
        if name not in names:
            raise CommandError(f"--shape {text}: the model takes {', '.join(names)}: NAME=SIZES")
        try:
            shape = [int(size) for size in sizes.split(",")]
        except ValueError:
            shape = [0]
        if min(shape) < 1:
            raise CommandError(f"--shape {text}: sizes must be whole numbers from 1 on")
        found[name] = shape
    return found


def _known_shape(value: ValueInfo, batch: int | None) -> list[int] | None:
    """Return the shape of an input; its first size is the batch where it may vary."""
    if not value.has_shape:
        return None
    first, *others = value.shape or [1]
    if not value.shape:
        return []
    if isinstance(first, int) and batch not in (None, first):
        raise CommandError(f"--batch: the first size of {value.name!r} is {first}, got {batch}")
    sizes = [first if isinstance(first, int) else batch or 1, *others]
    return [int(size) for size in sizes if isinstance(size, int)] if _fixed(others) else None


def _fixed(sizes: Sequence[int | str | None]) -> bool:
    return all(isinstance(size, int) for size in sizes)


# ---- info --------------------------------------------------------------------------------------


def info(args: argparse.Namespace) -> int:
    """Print what a model consists of; returns the exit code."""
    from fastconv.onnx._statistics import operator_counts

    with _errors_of(args.model):
        model = read_model(args.model)
        counts = operator_counts(model)
    values = [
        (kind, value.name, value.type, _shape_text(value))
        for kind, group in (("input", model.inputs), ("output", model.outputs))
        for value in group
    ]
    constants = model.constants.values()
    problems = [count for count in counts if count.problem]
    facts = [
        ("opset", model.opset),
        ("nodes", len(model.nodes)),
        ("parameters", f"{sum(array.size for array in constants):,}"),
        ("constants", f"{sum(array.nbytes for array in constants) / 2**20:.1f} MiB"),
        ("multiply-adds", _multiply_adds(args, model, bool(problems))),
    ]
    print(table(("", "name", "type", "shape"), values, left=4))
    print("\n" + "\n".join(f"{name + ':':15}{fact}" for name, fact in facts) + "\n")
    rows = [(name, nodes, "no" if problem else "yes") for name, nodes, problem in counts]
    print(table(("operator", "nodes", "supported"), rows, left=1))
    print()
    for count in problems:
        print(f"not supported: {printable(count.problem)}")
    if not problems:
        print("all operators are supported")
    return 0


def _shape_text(value: ValueInfo) -> str:
    if not value.has_shape:
        return "any"
    return "(" + ", ".join("?" if size is None else str(size) for size in value.shape) + ")"


def _multiply_adds(args: argparse.Namespace, model: Model, has_problems: bool) -> str:
    """Count multiply-adds, or say why they are not known."""
    from fastconv.onnx._statistics import multiply_adds

    feeds, reason = _random_feeds(args, model.inputs)
    if has_problems:
        reason = "not all operators are supported"
    if reason:
        return f"unknown ({reason})"
    shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
    try:
        count = multiply_adds(InferenceSession(args.model), feeds)
    except (ValueError, NotImplementedError) as error:
        return f"unknown ({without_name(error)})"
    return f"{count:,} for {printable(shapes)}"


# ---- profile -----------------------------------------------------------------------------------


def profile(args: argparse.Namespace) -> int:
    """Print how long the steps of a model take; returns the exit code."""
    session = _session(args)
    feeds, reason = _random_feeds(args, session.get_inputs())
    if reason:
        raise CommandError(reason)
    with _errors_of(args.model):
        text = session.profile(feeds, args.repeat)
    print(text)
    return 0


# ---- run ---------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> int:
    """Run a model on files; returns the exit code."""
    labels = None if args.labels is None else _read_labels(args.labels)
    image_format = None if args.heat_map is None else _heat_map_format(args.heat_map)
    if args.output is not None and args.output == args.heat_map:
        raise CommandError(f"--output and --heat-map are one file, {args.output}")
    for target in filter(None, (args.output, args.heat_map)):
        try:
            check_writable(target)
        except OSError as error:
            raise cannot_write(target, error) from error
    session = _session(args)
    picture = Picture(args.scale, args.mean, args.std, args.size, args.crop, args.layout, args.bgr)
    runs = read_feeds(args.files, session.get_inputs(), picture)
    if image_format is not None and len(runs) > 1:
        raise CommandError(f"--heat-map is drawn for one image, got {len(runs)}")
    results = []
    for feeds in runs:
        with _errors_of(", ".join(feeds.names)):
            results.append(session.run(None, feeds.arrays))
    names = [value.name for value in session.get_outputs()]
    figure = None if image_format is None else _heat_map(session, runs[0], picture, labels)
    text = _report(runs, results, names, labels, args.top)
    if args.output is not None:
        _write_outputs(args.output, results, names)
    if figure is not None:
        _write_figure(args.heat_map, figure, image_format)
    print(text)
    return 0


def _read_labels(file: str) -> list[str]:
    with _errors_of(file):
        return Path(file).read_text(encoding="utf-8-sig").splitlines()


def _report(
    runs: Sequence[Feeds],
    results: Sequence[list[Array]],
    names: Sequence[str],
    labels: list[str] | None,
    top: int,
) -> str:
    """Write the best classes of every image, or else what the outputs are."""
    parts = []
    for feeds, outputs in zip(runs, results):
        scores = _scores(outputs[0])
        title = ", ".join(feeds.names)
        if scores is None:
            if labels is not None:
                shape = outputs[0].shape
                raise CommandError(f"--labels: the output {names[0]!r} has no scores, but {shape}")
            parts.append(f"{title}\n{_summary(names, outputs)}")
            continue
        if labels is not None and len(labels) != scores.shape[1]:
            raise CommandError(
                f"--labels: there are {len(labels)} names, but {scores.shape[1]} classes"
            )
        for i, row in enumerate(_probabilities(scores)):
            place = f"[{i}]" if len(scores) > 1 else ""
            parts.append(f"{title}{place}\n{_best(row, labels, top)}")
    return "\n\n".join(parts)


def _scores(output: Array) -> Array | None:
    """Return an output as (N, classes), None if it is something else."""
    if output.dtype.kind != "f" or output.ndim < 2 or any(size != 1 for size in output.shape[2:]):
        return None
    return output.reshape(output.shape[:2]) if output.shape[1] > 1 else None


def _probabilities(scores: Array) -> Array:
    """Return rows that add up to 1: those that do not are taken for scores before softmax.

    Logarithms of probabilities become probabilities in this way, too.
    """
    rows = scores.astype(np.float64)
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        return rows
    with np.errstate(all="ignore"):
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _best(row: Array, labels: list[str] | None, top: int) -> str:
    best = np.argsort(-row, kind="stable")[:top]
    heads = ("class", "probability", *(["name"] if labels else []))
    lines = [(str(i), f"{row[i]:.4f}", *([labels[i]] if labels else [])) for i in best]
    return table(heads, lines)


def _summary(names: Sequence[str], outputs: Sequence[Array]) -> str:
    rows = []
    for name, array in zip(names, outputs):
        numbers = array if array.size and array.dtype.kind in "fiub" else None
        limits = ["", "", ""]
        if numbers is not None:
            limits = [f"{f(numbers):.5g}" for f in (np.min, np.mean, np.max)]
        rows.append((name, str(array.dtype), str(array.shape), *limits))
    return table(("output", "dtype", "shape", "min", "mean", "max"), rows, left=3)


def _write_outputs(target: str, results: Sequence[list[Array]], names: Sequence[str]) -> None:
    """Write outputs by their names; those of several images one behind the other."""
    try:
        arrays = {name: np.concatenate(found) for name, found in zip(names, zip(*results))}
    except ValueError as error:
        if len(results) > 1:
            raise CommandError(f"the outputs of the files do not fit together: {error}") from error
        arrays = dict(zip(names, results[0]))
    encoded = io.BytesIO()
    # Names are keywords of `np.savez`, which has others, as file: an output may be called so.
    with zipfile.ZipFile(encoded, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    try:
        with replacing(target) as file:
            file.write(encoded.getbuffer())
    except OSError as error:
        raise cannot_write(target, error) from error


# ---- heat maps ---------------------------------------------------------------------------------


def _heat_map_format(target: str) -> str:
    """Return the format of a picture by its extension, before anything is computed."""
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise CommandError(NEEDS_VIZ) from None
    known = sorted(figures.Figure().canvas.get_supported_filetypes())
    extension = Path(target).suffix[1:].lower()
    if extension not in known:
        raise CommandError(
            f"cannot write {target}: its extension must be one of {', '.join(known)}"
        )
    return extension


def _heat_map(
    session: InferenceSession, feeds: Feeds, picture: Picture, labels: list[str] | None
) -> Any:
    """Draw the only image of a run, and which of its pixels speak for the best class."""
    from fastconv._explanation._class_activation import Explanation
    from fastconv.onnx._explanations import explain
    from fastconv.viz._class_activation import figure_of_explanation

    if len(feeds.arrays) != 1:
        raise CommandError("--heat-map is for models of one input, an image")
    (image,) = feeds.arrays.values()
    if image.ndim != 4 or len(image) != 1:
        raise CommandError(f"--heat-map is for one image, got the shape {image.shape}")
    with _errors_of("--heat-map"):
        found = explain(session, feeds.arrays)
    pixels = image.astype(np.float64)
    if picture.layout_of(session.get_inputs()[0]) == "nhwc":
        pixels = pixels.transpose(0, 3, 1, 2)
    if picture.bgr:
        pixels = pixels[:, ::-1]
    name: Any = found.class_index
    if labels is not None and found.class_index < len(labels):
        name = f"{name} ({labels[found.class_index]})"
    explained = Explanation(found.heat, name, found.score, found.value, "Grad-CAM")
    return figure_of_explanation(pixels, explained)


def _write_figure(target: str, figure: Any, image_format: str | None) -> None:
    encoded = io.BytesIO()
    figure.savefig(encoded, format=image_format)
    try:
        with replacing(target) as file:
            file.write(encoded.getbuffer())
    except OSError as error:
        raise cannot_write(target, error) from error
