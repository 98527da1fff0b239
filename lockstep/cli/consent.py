"""Before an emergency: who would break, and the question whether to go on."""

import sys

import typer
from rich.prompt import Confirm

from lockstep.cli.open_sessions import count_sessions, lines
from lockstep.cli.output import Exit, complain, err, say_aside, wrong_use
from lockstep.clouds import Clouds
from lockstep.environment import line_of
from lockstep.errors import LockstepError
from lockstep.model import Credential


def require_consent(clouds: Clouds, credential: Credential) -> None:
    """Show who would break, and ask; exit code 1 if the answer is no, 2 where nobody can be asked.

    What cannot be read or counted is said, and does not stand in the way of an emergency.
    """
    if not sys.stdin.isatty():
        raise wrong_use(
            "this revokes every login of the credential, and without a terminal nobody can be asked. To see who would "
            f"break: lockstep sessions {credential.id}. To go on without a question, add --yes"
        )
    try:
        for line in lines(count_sessions(clouds, credential)):
            say_aside(line)
    except LockstepError as e:
        complain(f"who would break is not known: {line_of(e)}")
    say_aside(
        "Every login so far will be dead, the current one too. Open sessions go on; their next login is refused until "
        "they read the new value. Applications that read it at their start alone must be restarted."
    )
    # On standard error altogether: standard output may be JSON.
    try:
        agreed = Confirm.ask(f"Revoke every login of {credential.id}?", console=err)
    except EOFError:
        raise typer.Abort from None
    if not agreed:
        complain("not revoked")
        raise typer.Exit(Exit.NO)
