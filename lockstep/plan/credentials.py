"""The section `credentials` of the plan: logical logins, and how each is rotated."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from lockstep.plan.checks import interval_problems
from lockstep.plan.compiled import Agreement, plan_digest
from lockstep.plan.fields import (
    AccountHost,
    CredentialId,
    Duration,
    Name,
    SecretName,
    Section,
    Text,
    Username,
    format_duration,
    refuse,
)
from lockstep.plan.stores import StoreKind
from lockstep.protocol.deadlines import TOLERANCE
from lockstep.protocol.model import (
    ANY_HOST,
    Credential,
    DatabaseServer,
    Engine,
    PasswordPolicy,
    Schedule,
    SecretNames,
    Strategy,
)

if TYPE_CHECKING:
    from lockstep.plan.model import LockTable


class Password(Section):
    """What new passwords look like."""

    length: Annotated[int, Field(ge=16, le=64)] = 32
    """In characters."""
    classes: Annotated[
        tuple[Annotated[str, Text(r"[!-~]{1,94}", "printable ASCII characters without spaces")], ...],
        Field(min_length=1, max_length=8),
    ] = ("abcdefghijkmnopqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-_.~")
    """Each password has a character of each of these texts; 26 different ones in all."""

    @model_validator(mode="after")
    def _strong_enough(self) -> Self:
        if len(set("".join(self.classes))) < 26:  # noqa: PLR2004 - one alphabet
            refuse(["classes: must have at least 26 different characters in all"])
        return self


class SecretsSection(Section):
    """The names of the two secrets in AWS; in OCI a slash becomes a dot and the slot's number follows."""

    app_user: SecretName
    """The secret with username, password and address."""
    connection_blob: SecretName
    """The secret with the addresses of all databases."""


class CredentialSection(Section):
    """One logical login."""

    id: CredentialId
    """Its name in commands, the audit log and the lock table; unless `secrets` says otherwise the secret's name too."""
    strategy: Strategy
    """dual_password: one account with two passwords (MySQL, MariaDB); alternating_users: accounts that take turns."""
    username: Username
    """The account; with alternating users what their names begin with: app_a, app_b."""
    alternates: Annotated[tuple[Username, ...], Field(min_length=2, max_length=2)] | None = None
    """The alternating users, where they have other names."""
    account_host: AccountHost = ANY_HOST
    """The host part of the accounts on MySQL and MariaDB."""
    interval: Duration = timedelta(minutes=20)
    """How often it is rotated, by wall clock."""
    tolerance: Duration = TOLERANCE
    """How much earlier than the interval a rotation is due."""
    overlap: Duration | None = None
    """How long the previous value works after a promotion; the interval minus twice the tolerance unless given."""
    password: Password = Password()
    """What its new passwords look like."""
    secrets: SecretsSection | None = None
    """The names of the two secrets, where they do not follow from `id`."""
    databases: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The databases that it logs in to, by name; the first one's address is in the secret."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        yield from (f"interval: {problem}" for problem in interval_problems(self.interval))
        if self.tolerance < TOLERANCE:
            yield (
                f"tolerance: must be at least {format_duration(TOLERANCE)}, because a run may start that "
                "late, and the next one on time"
            )
        if self.tolerance * 2 > self.interval / 2:
            yield "tolerance: must be at most a quarter of the interval"
        elif self.overlap is not None and self.overlap > self.interval - self.tolerance:
            yield (
                f"overlap: must be at most {format_duration(self.interval - self.tolerance)}, the interval minus the "
                "tolerance; otherwise every second trigger comes too early and its rotation is skipped"
            )
        is_dual = self.strategy is Strategy.DUAL_PASSWORD
        if is_dual and self.alternates:
            yield "alternates: allowed only with the strategy alternating_users"
        if self.alternates and len(set(self.alternates)) != len(self.alternates):
            yield "alternates: must be different usernames"

    @property
    def usernames(self) -> tuple[str, ...]:
        """The usernames with which applications log in."""
        if self.strategy is Strategy.DUAL_PASSWORD:
            return (self.username,)
        return self.alternates or (f"{self.username}_a", f"{self.username}_b")

    @property
    def owner(self) -> str:
        """The role that owns objects, on PostgreSQL."""
        return f"{self.username}_owner"

    def accounts(self, engine: Engine) -> tuple[str, ...]:
        """Every account and role that belongs to the credential on a server of this engine."""
        return (*self.usernames, self.owner) if engine is Engine.POSTGRESQL else self.usernames

    @property
    def secret_names(self) -> SecretNames:
        """Defaults filled in: the id itself, and `connection_blob` beside it."""
        if self.secrets:
            return SecretNames(app_user=self.secrets.app_user, connection_blob=self.secrets.connection_blob)
        parent, _, _ = self.id.rpartition("/")
        blob = f"{parent}/connection_blob" if parent else f"{self.id}.connection_blob"
        return SecretNames(app_user=self.id, connection_blob=blob)

    def compile(
        self,
        servers: Mapping[str, DatabaseServer],
        *,
        lock: "LockTable",
        stores: Sequence[StoreKind],
        phase: timedelta,
    ) -> Credential:
        """The credential as a value of the model, with every default filled in.

        Args:
            servers: The plan's servers, by name.
            lock: The plan's lock table.
            stores: The plan's stores, in its order.
            phase: When its shard is triggered.
        """
        overlap = self.interval - 2 * self.tolerance if self.overlap is None else self.overlap
        agreement = Agreement(
            credential_id=self.id,
            lock_table=(lock.table, lock.region),
            stores=[store.identity for store in stores],
            secret_names=self.secret_names,
            strategy=self.strategy,
            usernames=self.usernames,
            account_host=self.account_host,
            schedule=Schedule(interval=self.interval, overlap=overlap, tolerance=self.tolerance, phase=phase),
            servers=tuple(servers[name] for name in self.databases),
        )
        return Credential(
            id=self.id,
            strategy=self.strategy,
            usernames=self.usernames,
            owner=self.owner,
            schedule=agreement.schedule,
            password_policy=PasswordPolicy(length=self.password.length, classes=self.password.classes),
            secret_names=agreement.secret_names,
            servers=tuple(agreement.servers),
            plan_digest=plan_digest(agreement),
            account_host=self.account_host,
        )
