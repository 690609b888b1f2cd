"""``fastconv explore``: a page on which convolution, pooling and networks can be touched."""

from __future__ import annotations

import argparse
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastconv._commands.images import read_each
from fastconv._commands.shared import CommandError, cannot_write, path
from fastconv._files import check_writable, replacing

if TYPE_CHECKING:
    from fastconv.explore._catalog import Picture
    from fastconv.explore._network import NetworkView

__all__ = ["add_command"]

LOOPBACK = "127.0.0.1"
MOST_PICTURES = 50
"""How many pictures of the user's the page lists."""


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``explore`` to the command line."""
    parser = subparsers.add_parser(
        "explore",
        help="touch convolution, pooling and networks on a page in the browser",
        description="Serve a page on this computer, on which pictures, kernels and networks can be "
        "changed and every number can be followed. Ctrl-C ends it.",
        epilog="Exit code: 0 when ended with Ctrl-C or saved, 2 for an error.",
    )
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--network",
        metavar="FILE",
        type=path,
        help="parameters (.npz) that fastconv train has written (default: a small network is "
        "trained on the packaged digits, in about two seconds)",
    )
    network.add_argument("--onnx", metavar="FILE", type=path, help="a trained network (.onnx)")
    parser.add_argument(
        "--images", metavar="PATH", nargs="+", type=path, help="pictures to begin with"
    )
    parser.add_argument(
        "--save",
        metavar="FILE",
        type=path,
        help="write one page (.html) that works without fastconv, and serve nothing",
    )
    parser.add_argument(
        "--host", default=LOOPBACK, help="address to bind to (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, default=0, help="port to listen on (default: one that is free)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, got {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or save it; returns the exit code."""
    if args.save is not None:
        if args.onnx is not None:
            raise CommandError("--save needs a network of this library, not --onnx")
        try:
            check_writable(args.save)
        except OSError as error:
            raise cannot_write(args.save, error) from error
    from fastconv.explore._catalog import digits, distinct, patterns

    named = _pictures(args.images or [])
    pictures = distinct([*named, *digits(), *patterns()])
    network = _network(args, named or pictures, bool(named))
    if args.save is not None:
        return _save(args.save, pictures, network)
    return _serve(args, pictures, network)


def _pictures(paths: Sequence[str]) -> list[Picture]:
    """Read the pictures that the user names, each of its own size."""
    from fastconv.explore._catalog import MOST_SIDE, Picture, resampled

    pictures: list[Picture] = []
    for name, images in read_each(paths):
        if len(pictures) >= MOST_PICTURES:
            print(f"fastconv explore: only {MOST_PICTURES} pictures are shown", file=sys.stderr)
            break
        for i, image in enumerate(images[:MOST_PICTURES]):
            high = 255 if image.dtype.itemsize == 1 else (1 << 16) - 1
            scale = max(1, max(image.shape[1:]) / MOST_SIDE)
            size = [max(1, round(side / scale)) for side in image.shape[1:]]
            pixels = (resampled(image, size) * (255 / high)).round().astype("uint8")
            title = Path(name).name + (f" {i + 1}" if len(images) > 1 else "")
            pictures.append(Picture(title, pixels))
    return pictures[:MOST_PICTURES]


def _network(args: argparse.Namespace, pictures: Sequence[Picture], named: bool) -> NetworkView:
    """Load or train what the network view shows."""
    from fastconv.explore._load import data_set, network_of
    from fastconv.explore._network import SequentialView
    from fastconv.explore._protocol import Refusal

    name = args.network or args.onnx
    if name is None:
        from fastconv.explore._default import default_network

        return default_network(verbose=sys.stderr.isatty())
    title = Path(name).name
    try:
        if args.onnx is None:
            network = network_of(name)
            return SequentialView(network, data_set(network.input_dim, pictures, named), title)
        from fastconv.explore._onnx import OnnxView, input_shape
        from fastconv.onnx import InferenceSession

        session = InferenceSession(name)
        return OnnxView(session, data_set(input_shape(session), pictures, named), title)
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror or error}") from error
    except Refusal as error:
        raise CommandError(str(error)) from error
    except (ValueError, NotImplementedError) as error:
        raise CommandError(f"{name}: {error}") from error


def _save(target: str, pictures: Sequence[Picture], network: NetworkView) -> int:
    from fastconv.explore._network import SequentialView
    from fastconv.explore._protocol import Refusal
    from fastconv.explore._saved import saved_page

    assert isinstance(network, SequentialView)
    try:
        page = saved_page(pictures, network).encode()
    except Refusal as error:
        raise CommandError(str(error)) from error
    try:
        with replacing(target) as file:
            file.write(page)
    except OSError as error:
        raise cannot_write(target, error) from error
    print(f"{target}: {len(page) / 1000:.0f} kB, works in any browser without fastconv")
    return 0


def _serve(args: argparse.Namespace, pictures: Sequence[Picture], network: NetworkView) -> int:
    from fastconv.explore._application import Application
    from fastconv.explore._server import Server, is_loopback

    if not is_loopback(args.host):
        print(
            f"fastconv explore: warning: with --host {args.host!r}, other computers can reach the "
            "page; whoever has its address can use it",
            file=sys.stderr,
        )
    try:
        server = Server(Application(pictures, network), args.host, args.port)
    except OSError as error:
        reason = error.strerror or error
        raise CommandError(f"cannot listen on {args.host}, port {args.port}: {reason}") from error
    with server:
        print(server.url)
        if not is_loopback(args.host):
            print(f"{server.url_at(socket.gethostname())} from other computers")
        print("Ctrl-C ends it", flush=True)
        if not args.no_browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0
