"""`make fleet`: see `HELP`."""

import argparse
import json
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from sandbox.fleet.run import Findings, run
from sandbox.fleet.world import Size

HELP = """\
Rotates a fleet on this machine, through everything that is deployed: the rules of its shards, the state machine of the
fleet, the state machine of rotations, the functions under their roles, on real databases, in the stores of both clouds.

Meanwhile applications of a few credentials log in all the time, by lockstep.client from one cloud or the other. Then
four acts: the list of a shard is lost, an event is delivered twice, Secrets Manager throttles, and a credential is left
out of its shard's list, which the watch finds out.

The triggers do not wait for the minutes of the shards' phases: a shard is triggered when the one before has ended. A
rotation that cannot begin in time after its trigger is left to a later trigger, as the protocol has it, which here
comes at once: functions and clouds share the processors of this machine. For the second round and the watch, the clock
moves on by the interval: every time in the lock table is that much longer ago.

Ends with a table and one line of JSON. The status is 1 if a login was refused, if a credential was not rotated within
an interval, or if an act does not hold. An act that the machine was too slow to show is told, and does not fail.
"""
console = Console()


def main() -> int:
    """Run, show, judge."""
    asked = _arguments()
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress

    size = Size.of(asked.credentials, sampled=asked.sampled)
    found = run(size, tell)
    console.print(_table(found))
    for failure in found.failures:
        print(failure, file=sys.stderr)  # noqa: T201 - for a person
    print(json.dumps(found.figures()))  # noqa: T201 - for other programs
    return 1 if found.failures else 0


def _table(found: Findings) -> Table:
    table = Table(title=f"{found.credentials} credentials on {', '.join(found.databases)}", show_header=False)
    for what, value in _rows(found):
        table.add_row(what, value)
    return table


def _rows(found: Findings) -> Iterator[tuple[str, str]]:
    yield "rotated", f"{len(found.first.rotated)} of {found.credentials}, in {found.shards} shards"
    yield "wall seconds", f"{found.first.seconds:.0f}"
    yield "within one interval", "yes" if found.is_within_an_interval else "NO"
    yield (
        "longest wait for a new password",
        f"{found.first.longest_wait().total_seconds():.0f} s after the trigger",
    )
    yield "left to a later trigger", f"{found.first.late} late, {found.first.failed} failed"
    yield "logins of applications", f"{found.logins} by {found.applications}"
    yield "refused logins", f"{len(found.refused)}"
    yield "calls", ", ".join(f"{number} {service}" for service, number in found.calls.items())
    for claim in found.claims:
        yield f"{claim.act}: {claim.verdict}", claim.text
    yield "seconds", ", ".join(f"{what} {seconds:.0f}" for what, seconds in found.seconds.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.fleet", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--credentials", type=int, default=300, metavar="N", help="how many (300)")
    parser.add_argument(
        "--sampled", type=int, default=12, metavar="N", help="how many of them have applications (12)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
