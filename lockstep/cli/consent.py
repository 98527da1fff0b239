"""Questions whether to go on; before an emergency also who would break."""

import sys

import typer
from rich.prompt import Confirm

from lockstep.cli.open_sessions import count_sessions, lines
from lockstep.cli.output import complain, err, no, say_aside, wrong_use
from lockstep.clouds import Clouds
from lockstep.environment import line_of
from lockstep.errors import LockstepError
from lockstep.model import Credential


def require_consent(clouds: Clouds, credential: Credential) -> None:
    """Show who would break, and ask; exit code 1 if the answer is no, 2 where nobody can be asked.

    Args:
        clouds: Where the credential is.
        credential: What is to be revoked.

    What cannot be read or counted is said, and does not stand in the way of an emergency.
    """
    require_stdin(
        "this revokes every login of the credential",
        f"To see who would break: lockstep sessions {credential.id}. To go on without a question, add --yes",
    )
    try:
        _show(clouds, credential)
    except LockstepError as e:
        complain(f"who would break is not known: {line_of(e)}")
    say_aside(
        "Every login so far will be dead, the current one too. Open sessions go on; their next login is refused until "
        "they read the new value. Applications that read it at their start alone must be restarted."
    )
    require_yes(f"Revoke every login of {credential.id}?", otherwise="not revoked")


def require_stdin(what: str, otherwise: str) -> None:
    """Exit code 2 where nobody can be asked.

    Args:
        what: What the command does.
        otherwise: What a person can do instead.
    """
    if not sys.stdin.isatty():
        raise wrong_use(f"{what}, and without a terminal nobody can be asked. {otherwise}")


def require_yes(question: str, *, otherwise: str) -> None:
    """Ask, on standard error altogether, since standard output may be JSON; exit code 1 if the answer is no.

    Args:
        question: What to ask.
        otherwise: What to say if the answer is no.
    """
    try:
        agreed = Confirm.ask(question, console=err)
    except EOFError:
        raise typer.Abort from None
    if not agreed:
        raise no(otherwise, name="NotConfirmed")


def _show(clouds: Clouds, credential: Credential) -> None:
    for line in lines(count_sessions(clouds, credential)):
        say_aside(line)
