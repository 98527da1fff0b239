"""The program: `lockstep`, or `python -m lockstep`."""

import signal
import sys

from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    line_of,
)


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        _run()
    except KeyboardInterrupt:  # While it loads, for example: a command that runs ends by itself.
        sys.exit(128 + signal.SIGINT)


def _run() -> None:
    try:
        from lockstep.cli.process import run  # noqa: PLC0415 - the functions and the client have no command line
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("lockstep"):
            raise
        sys.stderr.write(
            f"{line_of(EnvironmentalError(Environment.CLI_EXTRA_MISSING, code=str(error.name)))}\n"
        )
        sys.exit(3)
    run()


if __name__ == "__main__":
    main()
