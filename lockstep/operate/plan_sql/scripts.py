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
from typing import NamedTuple

from jinja2 import Environment

from lockstep.databases.base import CHANGE_OWN, identifier, listed, quoted
from lockstep.databases.rules import DEAD, rules
from lockstep.databases.sessions import GRANTS
from lockstep.operate.html.templates import text_templates
from lockstep.plan.credentials import is_managed
from lockstep.plan.model import Plan
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
_GRANTED = frozenset({"missing", "membership", "rights"})
"""What the rules are about that the script itself makes so."""


class LiveRoleError(Exception):
    """There is no script for a live role of PostgreSQL: what it owns and may do moves to an owner role by hand."""


class RotationUser(NamedTuple):
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
        notes: What the DBA must know.
        statements: One after the other, on one connection of an administrator to the plan's `dbname`. Each may begin
            with comment lines.
        afterwards: What the DBA does by hand afterwards, or decides about.
    """

    notes: str
    statements: Sequence[str]
    afterwards: str

    def text(self) -> str:
        """The script, for the engine's command-line client; a block of MariaDB holds semicolons."""
        statements = (
            f"DELIMITER $$\n{one}$$\nDELIMITER ;\n" if "BEGIN NOT ATOMIC" in one else f"{one};\n"
            for one in self.statements
        )
        return "\n".join([*_comments(self.notes), "", *statements, *_comments(self.afterwards), ""])


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
    is_postgresql = server.engine is Engine.POSTGRESQL
    user = _rotation_user(plan, server)
    is_itself = server.admin == AdminCredential(credential=credential.id)
    # For accounts that the script makes, for live ones, or for the rotation user that is a credential of the plan. An
    # account that has a password already is left as it is; beside a live one the script makes what is missing.
    face = "itself" if is_itself else "existing" if existing else "fresh"
    if face == "existing" and is_postgresql:
        raise LiveRoleError(
            f"{credential.id} on {server.name}: there is no script for a live role of PostgreSQL. Let it act as "
            f"{credential.owner}, as {HOW_TO} shows; then leave out --existing"
        )
    # What rotates itself changes each other by a function that acts as the owner role.
    known = rules(
        server.engine,
        credential,
        rotation_users=(credential.owner,) if is_itself and is_postgresql else user.usernames,
        rotation_host=user.host,
        with_iam=user.iam,
    )
    # Each part begins with `%%`; statements are paragraphs.
    text = (
        _templates()
        .get_template(f"{server.engine}.sql.j2")
        .render(
            face=face,
            existing=existing,
            credential=credential,
            alternating=credential.strategy is Strategy.ALTERNATING_USERS,
            server=server,
            user=user,
            others=[c.id for c in plan.credentials if server.name in c.databases and c.id != credential.id],
            grants=GRANTS[server.engine],
            stops=[r.sql for r in known if r.kind != "warning" and r.about not in _GRANTED],
            granted=[r.sql for r in known if r.about == "rights"],
            notes=[r.sql for r in known if r.kind == "warning"],
            dead=DEAD.get(server.engine),
            change_own=CHANGE_OWN,
        )
    )
    _, notes, statements, afterwards = re.split(r"^%% \w+\n", text, flags=re.MULTILINE)
    paragraphs = (p.strip("\n") for p in re.split(r"\n{2,}", statements))
    return Provisioning(
        notes=notes, statements=[p.removesuffix(";") for p in paragraphs if p], afterwards=afterwards
    )


@cache
def _templates() -> Environment:
    made = text_templates("lockstep.operate.plan_sql", lstrip_blocks=True)
    made.filters |= {"quoted": quoted, "listed": listed, "identifier": identifier}
    return made


def _rotation_user(plan: Plan, server: DatabaseServer) -> RotationUser:
    match server.admin:
        case AdminCredential(credential=name):
            admin = plan.compiled.found(name)
            return RotationUser(usernames=admin.usernames, host=admin.account_host, planned=admin)
        case AdminIam(username=username):
            return RotationUser(usernames=(username,), iam=True)
        case AdminSecret(aws=secret):
            return RotationUser(usernames=() if is_managed(secret) else (ROTATION_USER,))


def _comments(text: str) -> list[str]:
    return [f"-- {line}".rstrip() for line in text.splitlines() if line]
