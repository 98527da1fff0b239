"""The plan file's content, checked before anything runs (`lockstep.plan_file` reads it).

An unknown key is a mistake. A plan that is valid can be rotated by either runner. The sections `databases` and
`credentials` compile to the plain values of `lockstep.model`, with every default filled in.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from string import ascii_lowercase
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from lockstep.compiled import AwsStream, CompiledPlan, OciStream, StorageClass, fields_of
from lockstep.compiled import LockTable as LockTableOfRunner
from lockstep.durations import format_duration
from lockstep.engines import ENGINES
from lockstep.model import (
    ANY_HOST,
    Credential,
    DatabaseServer,
    Engine,
    PasswordPolicy,
    Schedule,
    SecretNames,
    Strategy,
)
from lockstep.plan_admins import admin_problems, admin_secrets, names_in_oci
from lockstep.plan_checks import (
    DEFAULT_STACK,
    account_problems,
    interval_problems,
    ring_problems,
    rule_problems,
    server_problems,
    standby_problems,
    user_problems,
    verify_host_problems,
)
from lockstep.plan_databases import DatabaseSection
from lockstep.plan_digest import Agreement, plan_digest
from lockstep.plan_fields import (
    AccountHost,
    CredentialId,
    Duration,
    Name,
    Region,
    SecretName,
    Section,
    Text,
    Username,
    refuse,
    repeated,
)
from lockstep.plan_hints import near, with_hint
from lockstep.store_kinds import OciVault, StoreConfig
from lockstep.store_kinds.base import Demand, StoreKind
from lockstep.timing import CLOCK_SKEW, TOLERANCE, TRIGGER_LATENESS

MAX_USERS = len(ascii_lowercase)
"""One for each letter, and more than a ring has slots."""

StoreT = TypeVar("StoreT", bound=StoreKind)


class LockTable(Section):
    """The DynamoDB table that says who may rotate."""

    table: Annotated[str, Text(r"[A-Za-z0-9_.-]{3,255}", "3 to 255 letters, digits and _ . -")]
    region: Region


KmsKeyId = Annotated[
    str,
    Text(
        r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:)?[A-Za-z0-9/_-]{1,256}",
        "the id, the alias (alias/…) or the ARN of a KMS key",
    ),
]


class AwsAudit(Section):
    """The AWS stream: S3 with Object Lock, signed in KMS.

    Attributes:
        retired_mac_keys: ARNs of keys that signed before `mac_key`, the oldest first.
    """

    bucket: Annotated[str, Text(r"[a-z0-9.-]{3,63}", "3 to 63 lower-case letters, digits, dots and hyphens")]
    region: Region
    mac_key: Annotated[KmsKeyId, Field(description="id, alias (alias/…) or ARN of a KMS HMAC_256 key")]
    retired_mac_keys: tuple[KmsKeyId, ...] = ()
    storage_class: StorageClass = "GLACIER_IR"
    retention: Duration = timedelta(days=400)

    @model_validator(mode="after")
    def _key_in_the_region(self) -> Self:
        if self.mac_key.startswith("arn:") and (region := self.mac_key.split(":")[3]) != self.region:
            refuse([f"mac_key: its region is {region}, but audit.aws.region is {self.region}"])
        return self

    @field_validator("retired_mac_keys")
    @classmethod
    def _are_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if aliases := [key for key in value if "alias/" in key]:
            raise ValueError(f"{aliases[0]}: an alias may name another key by now; give the key's ARN")
        return value

    @field_validator("retention")
    @classmethod
    def _is_kept(cls, value: timedelta) -> timedelta:
        if not value:
            raise ValueError("must be longer than zero")
        return value


class OciAudit(Section):
    """The OCI stream: an Archive bucket, signed with a key from a Vault secret.

    Attributes:
        retired_mac_secrets: Names of secrets whose keys signed before those of `mac_secret`, the oldest first. An older
            version of `mac_secret` needs no mention.
    """

    bucket: Annotated[str, Text(r"[A-Za-z0-9._-]{1,256}", "letters, digits and . _ -, at most 256 in all")]
    namespace: str
    region: Region
    mac_secret: SecretName
    retired_mac_secrets: tuple[SecretName, ...] = ()


class Audit(Section):
    """One stream for each cloud that runs rotations."""

    aws: AwsAudit
    oci: OciAudit | None = None


class AwsRunner(Section):
    """Step Functions; `oci_key_secret` holds the API key with which it reaches OCI."""

    oci_key_secret: SecretName | None = None


class OciRunner(Section):
    """The OCI function; `aws_key_secret` holds the access key with which it reaches AWS."""

    aws_key_secret: SecretName


class Runners(Section):
    """Who rotates."""

    aws: AwsRunner = AwsRunner()
    oci: OciRunner | None = None


class Password(Section):
    """What new passwords look like."""

    length: Annotated[int, Field(ge=16, le=64)] = 32
    classes: Annotated[
        tuple[Annotated[str, Text(r"[!-~]{1,94}", "printable ASCII characters without spaces")], ...],
        Field(min_length=1, max_length=8),
    ] = ("abcdefghijkmnopqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-_.~")

    @model_validator(mode="after")
    def _strong_enough(self) -> Self:
        if len(set("".join(self.classes))) < 26:  # noqa: PLR2004 - one alphabet
            refuse(["classes: must have at least 26 different characters in all"])
        return self


class SecretsSection(Section):
    """The names of the two secrets in AWS; in OCI a slash becomes a dot and the slot's number follows."""

    app_user: SecretName
    connection_blob: SecretName


class CredentialSection(Section):
    """One logical login."""

    id: CredentialId
    strategy: Strategy
    username: Username
    alternates: Annotated[tuple[Username, ...], Field(min_length=2, max_length=MAX_USERS)] | None = None
    users: Annotated[
        int | None,
        Field(
            ge=2,
            le=MAX_USERS,
            description="how many alternating users; more than slots: any slot is readable",
        ),
    ] = None
    account_host: AccountHost = ANY_HOST
    interval: Duration = timedelta(minutes=20)
    tolerance: Duration = TOLERANCE
    overlap: Duration | None = None
    password: Password = Password()
    secrets: SecretsSection | None = None
    databases: Annotated[tuple[Name, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        yield from (f"interval: {problem}" for problem in interval_problems(self.interval))
        if self.tolerance < TOLERANCE:
            yield (
                f"tolerance: must be at least {format_duration(TOLERANCE)}, because a trigger may come "
                f"{format_duration(TRIGGER_LATENESS)} late and clocks may differ by {format_duration(CLOCK_SKEW)}"
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
        if self.users and (is_dual or self.alternates):
            yield "users: allowed only with the strategy alternating_users, and without alternates"

    @property
    def usernames(self) -> tuple[str, ...]:
        """The usernames with which applications log in."""
        if self.strategy is Strategy.DUAL_PASSWORD:
            return (self.username,)
        return self.alternates or tuple(f"{self.username}_{c}" for c in ascii_lowercase[: self.users or 2])

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
        self, servers: Mapping[str, DatabaseServer], *, lock: LockTable, stores: Sequence[StoreKind]
    ) -> Credential:
        """The credential as a value of the model, with every default filled in.

        Args:
            servers: The plan's servers, by name.
            lock: The plan's lock table.
            stores: The plan's stores, in its order.
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
            schedule=Schedule(interval=self.interval, overlap=overlap, tolerance=self.tolerance),
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


class Plan(Section):
    """The whole file."""

    version: Literal[1]
    lock: LockTable
    stores: Annotated[tuple[StoreConfig, ...], Field(min_length=1)]
    audit: Audit
    runners: Runners = Runners()
    database_sections: Annotated[tuple[DatabaseSection, ...], Field(alias="databases", min_length=1)]
    credential_sections: Annotated[tuple[CredentialSection, ...], Field(alias="credentials", min_length=1)]

    @model_validator(mode="after")
    def _references(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        yield from repeated((f"databases[{i}].name", d.name) for i, d in enumerate(self.database_sections))
        yield from repeated((f"stores[{i}].name", s.name) for i, s in enumerate(self.stores))
        yield from repeated((f"stores[{i}].kind", s.kind) for i, s in enumerate(self.stores))
        yield from self._credential_problems()
        yield from server_problems(self)
        yield from verify_host_problems(self)
        yield from account_problems(self)
        yield from admin_problems(self)
        yield from ring_problems(self)
        yield from user_problems(self)
        demand = Demand(
            rotated=self._rotated,
            fixed=(*names_in_oci(self), *(name for _, name in self._keys())),
            intervals={c.id: c.interval for c in self.credential_sections},
        )
        for i, store in enumerate(self.stores):
            yield from store.problems(f"stores[{i}]", demand)
        has_oci = self.store(OciVault) is not None
        if has_oci and not self.runners.aws.oci_key_secret:
            yield "runners.aws.oci_key_secret: needed, because one store is in OCI"
        yield from standby_problems(self)
        if self.runners.oci and not (has_oci and self.audit.oci):
            yield "runners.oci: needs a store of kind oci-vault, and audit.oci"

    def _credential_problems(self) -> Iterator[str]:
        # In OCI's names and in the audit log's folders a dot replaces the slash, so `a/b` and `a.b` collide there.
        dotted = ((place, _dotted(name)) for place, name in self._secrets())
        yield from repeated(dotted, "with dots for slashes, secret name ")
        ids = [(f"credentials[{i}].id", _dotted(c.id)) for i, c in enumerate(self.credential_sections)]
        yield from repeated(ids, "with dots for slashes, ")
        engines = {d.name: d.engine for d in self.database_sections}
        for i, credential in enumerate(self.credential_sections):
            path = f"credentials[{i}]"
            yield from (f"{path}.id: {problem}" for problem in rule_problems(DEFAULT_STACK, credential.id))
            for j, unknown in enumerate(credential.databases):
                if unknown not in engines:
                    told = f"the plan has no database {unknown}, only {', '.join(engines)}"
                    yield f"{path}.databases[{j}]: {with_hint(told, near(unknown, engines))}"
            for engine in sorted({engines[n] for n in credential.databases if n in engines}):
                allowed = ENGINES[engine].strategies
                if credential.strategy not in allowed:
                    yield f"{path}.strategy: {engine} does not allow it; use {' or '.join(sorted(allowed))}"
                if credential.account_host != ANY_HOST and not ENGINES[engine].accounts_have_hosts:
                    yield f"{path}.account_host: accounts of {engine} have no host; leave it out"
            yield from repeated((f"{path}.databases[{j}]", n) for j, n in enumerate(credential.databases))

    def _secrets(self) -> Iterator[tuple[str, str]]:
        """The places and names of all secrets, each admin's once."""
        for i, credential in enumerate(self.credential_sections):
            names, path = credential.secret_names, f"credentials[{i}]"
            yield f"{path}.secrets.app_user" if credential.secrets else f"{path}.id", names.app_user
            yield (
                f"{path}.secrets.connection_blob" if credential.secrets else f"{path}.id",
                names.connection_blob,
            )
        yield from self._keys()
        yield from {_dotted(name): (place, name) for place, name in admin_secrets(self)}.values()

    @property
    def _rotated(self) -> tuple[str, ...]:
        names = [c.secret_names for c in self.credential_sections]
        return tuple(name for n in names for name in (n.app_user, n.connection_blob))

    def _keys(self) -> Iterator[tuple[str, str]]:
        """The places and names of the secrets with keys, which Lockstep only reads."""
        runners, audit = self.runners, self.audit
        if runners.aws.oci_key_secret:
            yield "runners.aws.oci_key_secret", runners.aws.oci_key_secret
        if runners.oci:
            yield "runners.oci.aws_key_secret", runners.oci.aws_key_secret
        if audit.oci:
            yield "audit.oci.mac_secret", audit.oci.mac_secret

    @property
    def databases(self) -> tuple[DatabaseServer, ...]:
        """The servers."""
        return tuple(section.compile() for section in self.database_sections)

    @property
    def credentials(self) -> tuple[Credential, ...]:
        """The credentials, complete."""
        servers = {server.name: server for server in self.databases}
        return tuple(
            section.compile(servers, lock=self.lock, stores=self.stores)
            for section in self.credential_sections
        )

    @property
    def compiled(self) -> CompiledPlan:
        """What a runner needs of it."""
        audit, runners = self.audit, self.runners
        return CompiledPlan(
            lock=LockTableOfRunner(**fields_of(LockTableOfRunner, self.lock)),
            stores=tuple(store.compile() for store in self.stores),
            aws_stream=AwsStream(**fields_of(AwsStream, audit.aws)),
            oci_stream=OciStream(**fields_of(OciStream, audit.oci)) if audit.oci else None,
            has_standby=runners.oci is not None,
            oci_key_secret=runners.aws.oci_key_secret,
            aws_key_secret=runners.oci.aws_key_secret if runners.oci else None,
            credentials=self.credentials,
        )

    def credential(self, credential_id: str) -> Credential | None:
        """The credential with that id."""
        return next((c for c in self.credentials if c.id == credential_id), None)

    def store(self, kind: type[StoreT]) -> StoreT | None:
        """The store of that kind, if the plan has one."""
        return next((s for s in self.stores if isinstance(s, kind)), None)


def _dotted(name: str) -> str:
    return name.replace("/", ".")
