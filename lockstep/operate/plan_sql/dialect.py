"""What the scripts of all engines are made of: the rotation user, the parts of a script, an engine's dialect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lockstep.databases.verifiers import RandomBytes
from lockstep.protocol.model import ANY_HOST, Credential, DatabaseServer, SecretStr


class LiveRoleError(Exception):
    """There is no script for a live role of PostgreSQL: what it owns and may do moves to an owner role by hand."""

    def __init__(self, credential: Credential, server: DatabaseServer) -> None:
        super().__init__(
            f"{credential.id} on {server.name}: there is no script for a live role of PostgreSQL. Let it act as "
            f"{credential.owner}, as docs/how-to/postgresql-live-login.md shows; then leave out --existing"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationUser:
    """The rotation user of a server, as the scripts need it.

    Attributes:
        usernames: Its accounts; empty where it is whoever runs the script, the master user of RDS.
        host: The host part of its accounts on MySQL and MariaDB.
        iam: Whether it has no password, and logs in by RDS IAM authentication.
        is_planned: Whether it is a credential of the plan, for which a script of its own makes the accounts.
        last_steps: How it gets its login.
    """

    usernames: tuple[str, ...]
    host: str = ANY_HOST
    iam: bool = False
    is_planned: bool = False
    last_steps: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Its name in a sentence."""
        return " and ".join(self.usernames) or "the master user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a dialect says about a credential on a server.

    Attributes:
        notes: What the DBA must know.
        statements: One after the other, on one connection. Each may begin with comment lines.
        password_steps: How the DBA gives the rotation user a password.
        last_steps: What the DBA does by hand afterwards, or decides about.
    """

    notes: Sequence[str]
    statements: Sequence[str]
    password_steps: Sequence[str]
    last_steps: Sequence[str]


@dataclass(frozen=True)
class Dialect:
    """How an engine is provisioned.

    Attributes:
        fresh: The script that makes accounts.
        existing: The script for live accounts; None where a DBA prepares them.
        itself: The script for the rotation user that is a credential of the plan, live or not.
        set_password: The statement that gives an account a password, as a verifier.
        in_client: A statement as the engine's command-line client takes it, with its end.
    """

    fresh: Callable[[Credential, DatabaseServer, RotationUser], Script]
    existing: Callable[[Credential, DatabaseServer, RotationUser], Script] | None
    itself: Callable[[Credential, DatabaseServer, RotationUser], Script]
    set_password: Callable[[str, SecretStr, RandomBytes], str]
    in_client: Callable[[str], str] = lambda statement: f"{statement};\n"
