"""The one-time SQL that a DBA reviews and runs, before the first rotation (protocol D21).

It has two faces: for accounts that do not exist yet, and, on MySQL and MariaDB, for live accounts that come under
Lockstep's management. On PostgreSQL a DBA prepares a live role (docs/how-to/postgresql-live-login.md). Neither holds a
password, changes one, or demands TLS of an account that exists. Each engine has a dialect of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lockstep.databases.verifiers import RandomBytes
from lockstep.operate.plan_sql.dialect import DIALECTS, Dialect, Face, LiveRoleError, RotationUser
from lockstep.plan.admins import is_managed
from lockstep.plan.model import Plan
from lockstep.protocol.errors import InvalidPlanError
from lockstep.protocol.model import (
    ROTATION_USER,
    AdminCredential,
    AdminIam,
    AdminSecret,
    Credential,
    DatabaseServer,
    Engine,
    SecretStr,
)


@dataclass(frozen=True)
class Provisioning:
    """The SQL for one credential on one server.

    Attributes:
        dialect: Whose SQL it is.
        preface: What the DBA must know.
        statements: One after the other, on one connection of an administrator to the plan's `dbname`.
        last_steps: What the DBA does by hand afterwards, or decides about.
    """

    dialect: Dialect
    preface: tuple[str, ...]
    statements: tuple[str, ...]
    last_steps: tuple[str, ...]

    def text(self) -> str:
        """The script, for the engine's command-line client."""
        return "\n".join(
            [
                *_comments(self.preface),
                "",
                *map(self.dialect.in_client, self.statements),
                *_comments(self.last_steps),
                "",
            ]
        )

    def render_for(self, passwords: Mapping[str, SecretStr], random_bytes: RandomBytes) -> list[SecretStr]:
        """The statements, and those that give accounts their passwords, as verifiers.

        Args:
            passwords: By username; the rotation user's is the only one that a DBA gives.
            random_bytes: For salts.
        """
        set_passwords = (
            self.dialect.set_password(username, password, random_bytes)
            for username, password in passwords.items()
        )
        return [SecretStr(statement) for statement in (*self.statements, *set_passwords)]


def provisioning_sql(
    plan: Plan, credential: Credential, server: DatabaseServer, *, existing: bool = False
) -> str:
    """The script for one credential on one of its servers.

    Args:
        plan: Names the other credentials that share the rotation user.
        credential: The credential.
        server: One of its servers.
        existing: Whether the accounts are live.

    Raises:
        LiveRoleError: A live role of PostgreSQL, for which there is no script.
    """
    return provisioning(plan, credential, server, existing=existing).text()


def provisioning(
    plan: Plan, credential: Credential, server: DatabaseServer, *, existing: bool = False
) -> Provisioning:
    """The SQL for one credential on one of its servers; arguments as of `provisioning_sql`."""
    dialect = DIALECTS[server.engine]
    user = _rotation_user(plan, server, credential)
    is_itself = server.admin == AdminCredential(credential=credential.id)
    kind: Face = "itself" if is_itself else "existing" if existing else "fresh"
    if kind == "existing" and server.engine is Engine.POSTGRESQL:
        raise LiveRoleError(credential, server)
    script = dialect.script(kind, credential, server, user)
    face = "for live accounts" if existing else "for accounts that do not exist yet"
    preface = [
        f"Lockstep: credential {credential.id} on database server {server.name} ({server.engine}), {face}.",
        f"Run it as an administrator who is connected to {server.dbname}, with a client that stops at the first error.",
        "Run again, it changes nothing. It holds no password and changes none.",
        "",
        *([] if user.usernames else ["Run it as the master user: Lockstep logs in as that user."]),
        *script.notes,
    ]
    has_password = is_itself or bool(user.usernames and not user.iam and not user.is_planned)
    last_steps = [
        "Afterwards",
        "",
        *user.last_steps,
        *(script.password if has_password else []),
        *script.afterwards,
    ]
    others = [c.id for c in plan.credentials if server.name in c.databases and c.id != credential.id]
    if others and user.usernames:
        last_steps.insert(2, f"{user.shown} and its login are the same for {', '.join(others)}.")
    return Provisioning(dialect, tuple(preface), tuple(script.statements), tuple(last_steps))


def _rotation_user(plan: Plan, server: DatabaseServer, credential: Credential) -> RotationUser:
    match server.admin:
        case AdminCredential(credential=credential_id):
            admin = credential if credential_id == credential.id else plan.credential(credential_id)
            if admin is None:
                raise InvalidPlanError
            return RotationUser(
                usernames=admin.usernames,
                host=admin.account_host,
                is_planned=True,
                last_steps=_planned_steps(admin, is_itself=admin.id == credential.id),
            )
        case AdminIam(username=username):
            return RotationUser(
                usernames=(username,),
                iam=True,
                last_steps=(
                    f"Switch IAM authentication on for the server. The stack lets both runners connect as {username}",
                    "(rds-db:connect).",
                ),
            )
        case AdminSecret(aws=secret) if is_managed(secret):
            return RotationUser(
                usernames=(), last_steps=(f"Nothing: the master user's login is in {secret}.",)
            )
        case AdminSecret(aws=secret):
            return RotationUser(
                usernames=(ROTATION_USER,),
                last_steps=(
                    f"Give {ROTATION_USER} a password, and put that login into the secret {secret}:",
                ),
            )


def _planned_steps(admin: Credential, *, is_itself: bool) -> tuple[str, ...]:
    if not is_itself:
        return (f"Nothing: the rotation user is the credential {admin.id}, which has a script of its own.",)
    return (
        f"Import the login before any other credential: lockstep import {admin.id}",
        f"Where {admin.usernames[0]} has no password yet, first give it one:",
    )


def _comments(lines: Sequence[str]) -> list[str]:
    return [f"-- {line}".rstrip() for line in lines]
