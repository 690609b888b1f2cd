"""The ``fastconv`` command, also ``python -m fastconv``."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence

import fastconv
from fastconv._commands import demo, explore, filter, onnx, train
from fastconv._commands.shared import CommandError
from fastconv._errors import without_name
from fastconv._text import printable

__all__ = ["main"]

COMMANDS = (demo, filter, train, onnx, explore)
"""The modules of the commands, in the order of the help text.

The function `add_command` of each adds a sub-command, whose `run` takes the parsed arguments and
returns the exit code.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; by default those of the process.

    Returns
    -------
    int
        The exit code: 0, a sub-command's own code, 2 for an error that the user can mend,
        128 + the signal's number when interrupted (130) or when the reader of a pipe left (141).
    """
    parser = argparse.ArgumentParser(
        prog="fastconv", description="Convolutional networks for NumPy."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {fastconv.__version__}")
    subparsers = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    for module in COMMANDS:
        module.add_command(subparsers)
    args = parser.parse_args(_with_kernels(sys.argv[1:] if argv is None else argv))

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Names of files may hold anything.
    try:
        code: int = args.run(args)
        print(end="", flush=True)
        return code
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # It is of standard output: commands handle all others.
        _discard_stdout()
        if isinstance(error, BrokenPipeError):
            return 141
        message = f"cannot write the output: {error.strerror}"
    except CommandError as error:
        message = str(error)
    except MemoryError as error:
        message = f"not enough memory: {without_name(error)}"
    print(f"fastconv {args.command}: error: {printable(message)}", file=sys.stderr)
    return 2


def _with_kernels(argv: Sequence[str]) -> list[str]:
    """Join ``--kernel`` and rows of numbers that begin with a minus: "-1,0,1;-2,0,2;-1,0,1".

    Without an equals sign between them, argparse takes such a value for an option.
    """
    joined: list[str] = []
    for argument in argv:
        if joined[-1:] == ["--kernel"] and re.match(r"-[\d.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _discard_stdout() -> None:
    """Send what is still buffered for a lost standard output nowhere, so that exiting is quiet."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
