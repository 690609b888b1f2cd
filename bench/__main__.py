"""How fast fastconv is, beside everything else that is installed and what the machine can do.

    python -m bench [run] [--quick] [--only SUBSTRING] [--threads N] [--json FILE]
    python -m bench compare BEFORE.json AFTER.json
    python -m bench plot RESULTS.json --out FOLDER
    python -m bench publish RESULTS.json
    python -m bench busy

Without a command it runs.
"""

import argparse
import sys

from bench import busy, compare, plot, publish, run

COMMANDS = {"run": run, "compare": compare, "plot": plot, "publish": publish, "busy": busy}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["run", *arguments]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        summary = str(module.__doc__).partition("\n")[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=module.__doc__))
    options = parser.parse_args(arguments)
    return int(COMMANDS[options.command].main(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
