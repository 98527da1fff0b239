"""`lockstep sessions`: who is logged in, by the login that each session used."""

from typing import Annotated

import typer

from lockstep.cli.output import DEFAULT_PLAN, AsJson, PlanFile, chosen, plan_or_exit, print_json, say
from lockstep.operate.access import operator
from lockstep.operate.documents import Exit, Sessions
from lockstep.operate.sessions import count_sessions, document, lines


def sessions(
    credential_id: Annotated[
        str | None,
        typer.Argument(metavar="CREDENTIAL", help="The credential, by its id.  [default: all of the plan]"),
    ] = None,
    *,
    file: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Count the open sessions of a credential, by login.

    Shows for each database and verify host how many sessions each username has open, which generation its login is,
    when that dies, since when they are connected, and from which hosts and applications. Sessions of a whole server
    are counted, whichever of its databases they use. They outlive their password: only the next login is refused.
    With alternating users a username says which generation a session used, unless it was connected before that
    generation was promoted. With one username no server says which password a session used.

    This logs in to each database as the rotation user, and only reads. A server that shows it no sessions is not a
    failure: the statement to run there is printed.

    Exit code: 0 counted, or the statements to run are shown, 3 a database, a store or the lock table was
    unreachable.
    """
    plan = plan_or_exit(file)
    wanted, clouds = chosen(plan, credential_id), operator(plan)
    found = [count_sessions(clouds, credential) for credential in wanted]
    if as_json:
        print_json(Sessions(credentials=[document(one) for one in found]))
    else:
        for one in found:
            for line in lines(one):
                say(line)
    if any(one.unreachable for one in found):
        raise typer.Exit(Exit.UNREACHABLE)
