"""``fastconv filter``: an image, convolved with a well-known filter."""

from __future__ import annotations

import argparse
import importlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastconv._command import CommandError, cannot_write, path
from fastconv._files import replacing
from fastconv._filters import FILTERS, convolve, response_as_bytes
from fastconv._images import read_images
from fastconv._window import PAD_MODES

__all__ = ["add_command"]


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``filter`` to the command line."""
    parser = subparsers.add_parser(
        "filter",
        help="convolve an image with a well-known filter",
        description="Convolve every channel of an image with a 3x3 filter and write an image of "
        "the same size with 8 bits a channel. Filters that look for edges are shown around a "
        "mid-gray, scaled to the largest response; what the others give is clipped to the range "
        "of pixels.",
        epilog="Exit code: 0 if the image is written, 2 for an error; then no file is changed.",
    )
    parser.add_argument(
        "image",
        metavar="IMAGE",
        type=path,
        help="an image file, or an MNIST-style IDX file (plain or .gz), of which the first image "
        "is taken",
    )
    parser.add_argument(
        "--kernel", required=True, choices=FILTERS, help="what to convolve the image with"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=path,
        required=True,
        help="where to write; the extension says in which format (needs Pillow: "
        "pip install 'fastconv[images]')",
    )
    parser.add_argument(
        "--pad-mode",
        default=PAD_MODES[0],
        choices=PAD_MODES,
        help="what lies around the image, as in numpy.pad (default: %(default)s, which is 0)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Filter one image; returns the exit code."""
    image_format = _format(args.output)
    if Path(args.image).is_dir():
        raise CommandError(f"{args.image}: a folder, not an image")
    images, _ = read_images([args.image])
    pixels, kernel = images[0], np.array(FILTERS[args.kernel])
    response = convolve(pixels, kernel, "same", args.pad_mode)
    _write(
        response_as_bytes(response, kernel, 0, np.iinfo(pixels.dtype).max),
        args.output,
        image_format,
    )
    first = f" (the first of {len(images)} images)" if len(images) > 1 else ""
    print(
        "{}: {} x {} pixels, channels: {}, kernel: {}, pad mode: {}{}".format(
            args.output, *pixels.shape[1:], len(pixels), args.kernel, args.pad_mode, first
        )
    )
    return 0


def _format(target: str) -> str:
    """Return Pillow's name of the format that a file's extension stands for."""
    try:
        Image = importlib.import_module("PIL.Image")  # untyped: mypy needs no Pillow
    except ImportError:
        raise CommandError(
            "writing an image needs Pillow: pip install 'fastconv[images]'"
        ) from None
    extension = Path(target).suffix.lower()
    image_format: str = Image.registered_extensions().get(extension, "")
    if image_format not in Image.SAVE:
        raise CommandError(
            f"cannot write {target}: its extension must be that of an image format that Pillow "
            f"writes, such as .png, got {extension!r}"
        )
    return image_format


def _write(pixels: NDArray[np.uint8], target: str, image_format: str) -> None:
    """Write an image (C, H, W), whole or not at all."""
    Image = importlib.import_module("PIL.Image")
    encoded = io.BytesIO()  # some formats seek; and an encoder's error must not look like a disk's
    try:
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        picture.save(encoded, image_format)
    except MemoryError:
        raise
    except Exception as error:  # encoders raise almost anything for what they cannot hold
        raise CommandError(f"cannot write {target} as {image_format}: {error}") from error
    try:
        with replacing(target) as file:
            file.write(encoded.getbuffer())
    except OSError as error:
        raise cannot_write(target, error) from error
