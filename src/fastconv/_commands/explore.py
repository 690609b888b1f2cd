"""``fastconv explore``: a page on which convolution, pooling and networks can be touched."""

from __future__ import annotations

import argparse

__all__ = ["add_command"]


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``explore`` to the command line."""
    parser = subparsers.add_parser(
        "explore",
        help="touch convolution, pooling and networks on a page in the browser",
        description="Serve a page on this computer, on which pictures, kernels and networks can be "
        "changed and every number can be followed. Ctrl-C ends it.",
        epilog="Exit code: 0 when ended, 2 for an error.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    from fastconv.explore._application import Application
    from fastconv.explore._catalog import digits, patterns
    from fastconv.explore._server import Server

    with Server(Application([*digits(), *patterns()])) as server:
        print(server.url, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
