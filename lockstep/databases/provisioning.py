"""The one-time SQL that a DBA reviews and runs, before the first rotation (protocol D21).

It has two faces: for accounts that do not exist yet, and for live accounts that come under Lockstep's management.
Neither holds a password, changes one, or demands TLS of an account that exists. Each engine has a dialect of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lockstep.databases.verifiers import RandomBytes
from lockstep.engines import ENGINES
from lockstep.loading import load
from lockstep.model import ROTATOR, Credential, DatabaseServer, SecretStr
from lockstep.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a dialect says about a credential on a server.

    Attributes:
        notes: What the DBA must know.
        statements: One after the other, on one connection. Each may begin with comment lines.
        last_steps: What the DBA does by hand afterwards, or decides about.
    """

    notes: Sequence[str]
    statements: Sequence[str]
    last_steps: Sequence[str]


@dataclass(frozen=True)
class Dialect:
    """How an engine is provisioned.

    Attributes:
        fresh: The script that makes accounts.
        existing: The script for live accounts.
        set_password: The statement that gives an account a password, as a verifier.
        in_client: A statement as the engine's command-line client takes it, with its end.
    """

    fresh: Callable[[Credential, DatabaseServer], Script]
    existing: Callable[[Credential, DatabaseServer], Script]
    set_password: Callable[[str, SecretStr, RandomBytes], str]
    in_client: Callable[[str], str] = lambda statement: f"{statement};\n"


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
            passwords: By username; the rotator admin's is the only one that a DBA gives.
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
        plan: Names the other credentials that share the rotator admin.
        credential: The credential.
        server: One of its servers.
        existing: Whether the accounts are live.
    """
    return provisioning(plan, credential, server, existing=existing).text()


def provisioning(
    plan: Plan, credential: Credential, server: DatabaseServer, *, existing: bool = False
) -> Provisioning:
    """The SQL for one credential on one of its servers; arguments as of `provisioning_sql`."""
    dialect: Dialect = load(ENGINES[server.engine].provisioning)
    script = (dialect.existing if existing else dialect.fresh)(credential, server)
    face = "for live accounts" if existing else "for accounts that do not exist yet"
    preface = [
        f"Lockstep: credential {credential.id} on database server {server.name} ({server.engine}), {face}.",
        f"Run it as an administrator who is connected to {server.dbname}, with a client that stops at the first error.",
        "Run again, it changes nothing. It holds no password and changes none.",
        "",
        *script.notes,
    ]
    last_steps = [
        "Afterwards",
        "",
        f"Give {ROTATOR} a password, and put that login into the secret {server.admin.aws}:",
        *script.last_steps,
    ]
    others = [c.id for c in plan.credentials if server.name in c.databases and c.id != credential.id]
    if others:
        last_steps.insert(2, f"{ROTATOR} and its password are the same for {', '.join(others)}.")
    return Provisioning(dialect, tuple(preface), tuple(script.statements), tuple(last_steps))


def _comments(lines: Sequence[str]) -> list[str]:
    return [f"-- {line}".rstrip() for line in lines]


def identifier(name: str) -> str:
    """A name of the plan as an SQL identifier; names of a plan hold no quotes."""
    return f'"{name}"'


def quoted(text: str) -> str:
    """A text as an SQL literal; it holds no backslash."""
    return "'" + text.replace("'", "''") + "'"


def listed(texts: Sequence[str]) -> str:
    """Texts as SQL literals, with commas between them."""
    return ", ".join(map(quoted, texts))
