"""What the commands that read results have in common."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from bench.machine import Machine
from bench.results import Results, load


def fail(message: str) -> NoReturn:
    """End the program as argparse does, but in one line; 1 is what a comparison ends with."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def results_file(path: str) -> Results:
    """Read an argument of the command line."""
    try:
        return load(Path(path))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        fail(f"{path} is no file of results: {type(error).__name__}: {error}")


def facts(machine: Machine) -> dict[str, str]:
    """Give whatever is known about a machine, each fact under a name of its own."""
    found: dict[str, str] = {}
    for name, value in asdict(machine).items():
        if isinstance(value, dict):
            found |= {f"{name}: {key}": str(item) for key, item in value.items()}
        else:
            found[name] = str(value)
    return found
