"""Who uses which generation, as the option `--usage` shows it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from lockstep.cli.output import complain, say
from lockstep.cli.times import relative
from lockstep.model import LockRecord
from lockstep.usage import Found, Usage

UsagePlaces = Annotated[
    list[str] | None,
    typer.Option(
        "--usage",
        help="Also show who uses which generation: a directory in which clients say so, such as /run/lockstep/usage, "
        "or an agent, by its address (http://127.0.0.1:2773) or its socket. May be given several times.",
    ),
]


def usage_lines(found: Found, record: LockRecord, now: datetime) -> Iterator[tuple[str, bool]]:
    """Who uses a credential, first who is behind; with each line, whether it is about one who is."""
    users, behind = found.of(record.credential_id), _behind(found, record)
    current = record.current_generation
    told = (
        f"{len(behind)} of {len(users)} behind generation {current}" if current else f"{len(users)} processes"
    )
    yield f"  usage: {told}", bool(behind)
    for user in users:
        yield f"    {_told(user, now)}", user in behind


def show_usage(found: Found, record: LockRecord, now: datetime) -> None:
    """The same, on standard output."""
    for line, is_behind in usage_lines(found, record, now):
        say(line, style="yellow" if is_behind else "")


def show_problems(found: Found) -> None:
    """Which places did not answer."""
    for place, error in found.problems.items():
        complain(f"usage at {place}: {error}")


def usage_document(found: Found, record: LockRecord) -> dict[str, Any]:
    """Who uses a credential, for JSON."""
    behind, users = _behind(found, record), found.of(record.credential_id)
    return {"usage": [{**user.document(), "behind": user in behind} for user in users]}


def problems_document(found: Found) -> dict[str, Any]:
    """Which places did not answer, for JSON."""
    return {"usage_problems": {place: str(error) for place, error in found.problems.items()}}


def _behind(found: Found, record: LockRecord) -> list[Usage]:
    return found.below(record.credential_id, record.current_generation or 0)


def _told(user: Usage, now: datetime) -> str:
    """Who, which generation, and when that was."""
    older = f", connections of {user.oldest_connection}" if user.lowest < user.generation else ""
    ago = relative(min(user.at, now), now)  # Its clock may be ahead.
    return f"{user.name}[{user.pid}] at {user.host}: generation {user.generation}{older}, {ago}"
