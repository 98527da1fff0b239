"""The program: `lockstep`, or `python -m lockstep`."""

import signal
import sys


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        from lockstep.cli.process import run  # noqa: PLC0415 - loading it may be interrupted too

        run()
    except KeyboardInterrupt:  # While it loads, for example: a command that runs ends by itself.
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
