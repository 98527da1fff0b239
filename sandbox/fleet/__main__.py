"""Rotate a fleet on this machine, through everything that is deployed.

That is the rules of its shards, the state machine of the fleet, the state machine of rotations, the functions under
their roles, on real databases, in the stores of both clouds.

Meanwhile applications of a few credentials log in all the time, by lockstep.client from one cloud or the other. Then
four acts: the list of a shard is lost, an event is delivered twice, Secrets Manager throttles, and a credential is left
out of its shard's list, which the watch finds out.

The triggers do not wait for the minutes of the shards' phases: a shard is triggered when the one before has ended. A
rotation that cannot begin in time after its trigger is left to a later trigger, as the protocol has it, which here
comes at once: functions and clouds share the processors of this machine. For the second round and the watch, the clock
moves on by the interval: every time in the lock table is that much longer ago.

Ends with one line of JSON. The status is 1 if a login was refused, if a credential was not rotated within
an interval, or if an act does not hold. An act that the machine was too slow to show is told, and does not fail.
"""

import argparse
import json
import sys
import time

from sandbox.fleet.run import run
from sandbox.fleet.world import Size


def main() -> int:
    """Run, show, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--credentials", type=int, default=300, metavar="N", help="how many (300)")
    parser.add_argument(
        "--sampled", type=int, default=12, metavar="N", help="how many have applications (12)"
    )
    asked = parser.parse_args()
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress

    found = run(Size(asked.credentials, asked.sampled), tell)
    for failure in found.failures:
        print(failure, file=sys.stderr)  # noqa: T201 - for a person
    print(json.dumps(found.figures()))  # noqa: T201 - for other programs
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
