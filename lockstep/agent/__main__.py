"""`python -m lockstep.agent`: without the rest of the command line, so that it starts fast and stays small."""

import argparse
import json
import logging
import sys
from pathlib import Path

from lockstep.agent import DEFAULT_SETTINGS
from lockstep.agent.settings import load_settings
from lockstep.plan.file import PlanProblemsError
from lockstep.protocol.errors import Environment, EnvironmentalError, LockstepError, line_of

_FIELDS = ("secret", "path", "generation", "error", "at")


class _Json(logging.Formatter):
    """One JSON object a line, with names and numbers only."""

    def format(self, record: logging.LogRecord) -> str:
        more = {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        told = {"level": record.levelname.lower(), "message": record.getMessage(), **more}
        return json.dumps({"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"), **told})


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        prog="lockstep agent",
        description="Reads credentials for the applications on this machine: over HTTP on loopback, in the dialect of "
        "the AWS Secrets Manager Agent, and as files.",
        epilog="Exit codes: 0 done, 2 wrong use or settings that are not valid, 3 a value could not be read, a file "
        "not written, or a package is missing.",
    )
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_SETTINGS, help="the settings  [default: %(default)s]"
    )
    parser.add_argument(
        "--once", action="store_true", help="write the files and end: for jobs and init containers"
    )
    parser.add_argument("--check", action="store_true", help="only look for what the start would refuse")
    asked = parser.parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("lockstep").setLevel(logging.INFO)
    try:
        settings = load_settings(asked.config)
        from lockstep.agent.serve import check, once, serve  # noqa: PLC0415 - wrong settings are told at once

        if asked.check:
            check(settings, is_once=asked.once)
            return 0
        return once(settings) if asked.once else serve(settings)
    except PlanProblemsError as error:
        for problem in error.problems:
            has_place = problem.mark or not problem.place
            sys.stderr.write(f"{problem}\n" if has_place else f"{asked.config}: {problem}\n")
    except LockstepError as error:
        sys.stderr.write(f"{line_of(error)}\n")
    except ModuleNotFoundError as error:
        if error.name != "oci":
            raise
        sys.stderr.write(f"{line_of(EnvironmentalError(Environment.OCI_EXTRA_MISSING))}\n")
        return 3
    return 2


if __name__ == "__main__":
    sys.exit(main())
