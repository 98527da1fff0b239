"""What a rotation costs, measured on this machine with both clouds' emulators and real databases.

Each request to AWS and OCI waits for a latency of 0, 20 or 50 ms before it is served, as on a network: requests that
are under way at the same time wait at the same time. Connections and TLS cost no extra round trip here, and calls of
databases are not delayed. A request counts where an emulator has seen it. The emulators share this machine, and that
of AWS this process, with what is measured: at 0 ms the times are mostly theirs.

  1x1          one MariaDB, one store in AWS, two passwords at a time
  2x2          MariaDB and PostgreSQL, a second store in OCI with a ring of four, two users in turn
  in sequence  the most requests of a rotation of which no two waited at the same time, at 100 ms: a whole number that
               other work on the machine hardly changes; calls are counted in the same rotations
               Those to one cloud alone are counted too: of the state machine, those to OCI go across the clouds, of the
               OCI function those to AWS
  wall         of the state machine: from the first event of an execution to the last, which includes what the emulated
               Step Functions takes for its states; of the OCI function: of its call
  lock held    from the write that acquires the lock to the one that releases it
  states       entered in an execution, as its history shows them: what AWS bills as transitions

AcquireLock and ReleaseLock are calls of DynamoDB that the state machine makes itself. They wait like any other request,
and they count as calls and round trips of the machine, not of the functions. That Step Functions invokes a function is
a transition, which neither waits nor counts.

What is current: whether the value under AWSCURRENT logs in before each request and after each function of a rotation,
and while rotations follow one another and an application reads and logs in. With --peer, AWS's sample rotation function
for MariaDB rotates beside it, in the same process, AWS and MariaDB, by the four calls that Secrets Manager makes.

Tables go to stdout, progress to stderr, and the last line of stdout is JSON with all figures. The status is 1 where a
figure is worse than what is claimed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from sandbox.bench.budget import goals, lines, measured
from sandbox.bench.measure import measure

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
"""The page that shows the figures, from its first table on."""


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--peer", type=Path, metavar="FOLDER", help="a checkout of aws-secrets-manager-rotation-lambdas"
    )
    parser.add_argument("--page", action="store_true", help="write the tables into docs/benchmarks.md")
    asked = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress

    found = measure(asked.peer, say)
    found["seconds"] = round(time.monotonic() - began)
    print("\n".join(lines(found)))  # noqa: T201 - for people
    print(json.dumps(found))  # noqa: T201 - for other programs
    if asked.page:
        text = PAGE.read_text(encoding="utf-8").partition("\n| ")[0]
        PAGE.write_text("\n".join([text, *measured(found)]).rstrip() + "\n", encoding="utf-8")
    return 1 if any(goal.verdict(found) == "FAILS" for goal in goals()) else 0


if __name__ == "__main__":
    sys.exit(main())
