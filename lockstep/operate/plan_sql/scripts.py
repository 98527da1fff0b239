"""The one-time SQL that a DBA reviews and runs, before the first rotation (protocol D21).

It has two faces: for accounts that do not exist yet, and, on MySQL and MariaDB, for live accounts that come under
Lockstep's management. On PostgreSQL a DBA prepares a live role (docs/how-to/postgresql-live-login.md). Neither holds a
password, changes one, or demands TLS of an account that exists. Each engine has a template of its own. What stops a
script are the rules that `lockstep doctor` asks too (`lockstep.databases.rules`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from jinja2 import Environment

from lockstep.databases.base import CHANGE_OWN, identifier, listed, quoted
from lockstep.databases.rules import DEAD, rules
from lockstep.databases.sessions import GRANTS
from lockstep.operate.html.templates import text_templates
from lockstep.plan.admins import is_managed
from lockstep.plan.model import Plan
from lockstep.protocol.errors import InvalidPlanError
from lockstep.protocol.model import (
    ANY_HOST,
    ROTATION_USER,
    AdminCredential,
    AdminIam,
    AdminSecret,
    Credential,
    DatabaseServer,
    Engine,
    Strategy,
)

HOW_TO = "docs/how-to/postgresql-live-login.md"
"""How a DBA moves what a live login of PostgreSQL owns and may do to an owner role."""
Face = Literal["fresh", "existing", "itself"]
"""For accounts that the script makes, for live ones, or for the rotation user that is a credential of the plan.

An account that has a password already is left as it is; beside a live one the script makes what is missing.
"""
_GRANTED = frozenset({"missing", "membership", "rights"})
"""What the rules are about that the script itself makes so."""


class LiveRoleError(Exception):
    """There is no script for a live role of PostgreSQL: what it owns and may do moves to an owner role by hand."""

    def __init__(self, credential: Credential, server: DatabaseServer) -> None:
        super().__init__(
            f"{credential.id} on {server.name}: there is no script for a live role of PostgreSQL. Let it act as "
            f"{credential.owner}, as {HOW_TO} shows; then leave out --existing"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationUser:
    """The rotation user of a server, as the scripts need it.

    Attributes:
        usernames: Its accounts; empty where it is whoever runs the script, the master user of RDS.
        host: The host part of its accounts on MySQL and MariaDB.
        iam: Whether it has no password, and logs in by RDS IAM authentication.
        planned: The credential of the plan that it is, for which a script of its own makes the accounts.
    """

    usernames: tuple[str, ...]
    host: str = ANY_HOST
    iam: bool = False
    planned: Credential | None = None

    @property
    def shown(self) -> str:
        """Its name in a sentence."""
        return " and ".join(self.usernames) or "the master user"

    @property
    def accounts(self) -> list[str]:
        """Its accounts, as statements of MySQL and MariaDB name them."""
        return [f"{quoted(username)}@{quoted(self.host)}" for username in self.usernames]


@dataclass(frozen=True, kw_only=True)
class Provisioning:
    """The SQL for one credential on one server.

    Attributes:
        preface: What the DBA must know.
        statements: One after the other, on one connection of an administrator to the plan's `dbname`. Each may begin
            with comment lines.
        last_steps: What the DBA does by hand afterwards, or decides about.
    """

    preface: tuple[str, ...]
    statements: tuple[str, ...]
    last_steps: tuple[str, ...]

    def text(self) -> str:
        """The script, for the engine's command-line client."""
        statements = map(_in_client, self.statements)
        return "\n".join([*_comments(self.preface), "", *statements, *_comments(self.last_steps), ""])


def provisioning(
    plan: Plan, credential: Credential, server: DatabaseServer, *, existing: bool = False
) -> Provisioning:
    """The SQL for one credential on one of its servers.

    Args:
        plan: Names the other credentials that share the rotation user.
        credential: The credential.
        server: One of its servers.
        existing: Whether the accounts are live.

    Raises:
        LiveRoleError: A live role of PostgreSQL, for which there is no script.
    """
    user = _rotation_user(plan, server, credential)
    is_itself = server.admin == AdminCredential(credential=credential.id)
    face: Face = "itself" if is_itself else "existing" if existing else "fresh"
    if face == "existing" and server.engine is Engine.POSTGRESQL:
        raise LiveRoleError(credential, server)
    others = [c.id for c in plan.credentials if server.name in c.databases and c.id != credential.id]
    notes, statements, afterwards = _parts(face, credential, server, user, others)
    accounts = "for live accounts" if existing else "for accounts that do not exist yet"
    preface = [
        f"Lockstep: credential {credential.id} on database server {server.name} ({server.engine}), {accounts}.",
        f"Run it as an administrator who is connected to {server.dbname}, with a client that stops at the first error.",
        "Run again, it changes nothing. It holds no password and changes none.",
        "",
        *([] if user.usernames else ["Run it as the master user: Lockstep logs in as that user."]),
        *_lines(notes),
    ]
    return Provisioning(
        preface=tuple(preface),
        statements=tuple(
            p.strip("\n").removesuffix(";") for p in re.split(r"\n{2,}", statements) if p.strip("\n")
        ),
        last_steps=("Afterwards", "", *_lines(afterwards)),
    )


def _parts(
    face: Face, credential: Credential, server: DatabaseServer, user: RotationUser, others: Sequence[str]
) -> list[str]:
    """The parts of the engine's template, each of which begins with `%%`; statements are paragraphs."""
    # What rotates itself changes each other by a function that acts as the owner role.
    is_by_owner = face == "itself" and server.engine is Engine.POSTGRESQL
    known = rules(
        server.engine,
        credential,
        rotation_users=(credential.owner,) if is_by_owner else user.usernames,
        rotation_host=user.host,
        with_iam=user.iam,
    )
    template = _templates().get_template(f"{server.engine}.sql.j2")
    text = template.render(
        face=face,
        credential=credential,
        alternating=credential.strategy is Strategy.ALTERNATING_USERS,
        server=server,
        user=user,
        others=others,
        grants=GRANTS[server.engine],
        stops=[r.sql for r in known if r.kind != "warning" and r.about not in _GRANTED],
        granted=[r.sql for r in known if r.about == "rights"],
        notes=[r.sql for r in known if r.kind == "warning"],
        dead=DEAD.get(server.engine),
        change_own=CHANGE_OWN,
    )
    return re.split(r"^%% \w+\n", text, flags=re.MULTILINE)[1:]


@cache
def _templates() -> Environment:
    made = text_templates("lockstep.operate.plan_sql", lstrip_blocks=True)
    made.filters |= {"quoted": quoted, "listed": listed, "identifier": identifier}
    return made


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def _rotation_user(plan: Plan, server: DatabaseServer, credential: Credential) -> RotationUser:
    match server.admin:
        case AdminCredential(credential=name):
            admin = credential if name == credential.id else plan.credential(name)
            if admin is None:
                raise InvalidPlanError
            return RotationUser(usernames=admin.usernames, host=admin.account_host, planned=admin)
        case AdminIam(username=username):
            return RotationUser(usernames=(username,), iam=True)
        case AdminSecret(aws=secret):
            return RotationUser(usernames=() if is_managed(secret) else (ROTATION_USER,))


def _in_client(statement: str) -> str:
    """A statement as the engine's command-line client takes it; a block of MariaDB holds semicolons."""
    is_block = "BEGIN NOT ATOMIC" in statement
    return f"DELIMITER $$\n{statement}$$\nDELIMITER ;\n" if is_block else f"{statement};\n"


def _comments(lines: Sequence[str]) -> list[str]:
    return [f"-- {line}".rstrip() for line in lines]
