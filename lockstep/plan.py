"""What to rotate: the plan, checked before anything runs (`lockstep.plan_file` reads it).

An unknown key is a mistake. A plan that is valid can be rotated by either runner.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lockstep.model import Engine, PasswordPolicy, Schedule, Strategy
from lockstep.oci.budget import version_budget
from lockstep.oci.ring import oci_name, slot_name

PLAINTEXT_CONSENT = "passwords may cross this network unencrypted"

BASE = "base"
"""Of the context in which a plan is validated: the folder that its files are named from."""

_DURATION = re.compile(r"([0-9]{1,6})\s*(s|m|h|d)")
_VAULT_NAME = re.compile(r"[A-Za-z0-9/_.-]+")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError("write a duration as a number and a unit, for example 90s, 20m, 2h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/_+=.@-]{1,200}$")]
Username = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,30}$")]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
Ocid = Annotated[str, StringConstraints(pattern=r"^ocid1\.[a-z0-9.]+[A-Za-z0-9._-]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Section):
    """How the server's certificate is verified: by this CA, for the host name in `host`."""

    ca_file: Annotated[
        Path | None, Field(description="PEM file, relative to the plan; none: the system's CAs")
    ] = None

    @field_validator("ca_file")
    @classmethod
    def _beside_the_plan(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return info.context[BASE] / value if value and info.context else value


class DatabaseServer(_Section):
    """A server on which every live generation must log in."""

    name: Name
    engine: Engine
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)]
    dbname: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_$-]{0,62}$")]
    tls: Tls | None = None
    plaintext: Literal["passwords may cross this network unencrypted"] | None = None
    admin_secret: SecretName

    @model_validator(mode="after")
    def _tls_or_consent(self) -> Self:
        if (self.tls is None) == (self.plaintext is None):
            raise ValueError(f"give either `tls: {{}}` or `plaintext: {PLAINTEXT_CONSENT}`")
        return self


class AwsSecretsManager(_Section):
    """The AWS store."""

    kind: Literal["aws-secrets-manager"]
    name: Name = "aws"
    region: str


class OciVault(_Section):
    """The OCI store: each secret is a ring of `ring` plain secrets."""

    kind: Literal["oci-vault"]
    name: Name = "oci"
    region: str
    compartment_id: Ocid
    vault_id: Ocid
    ring: Annotated[int, Field(ge=1, le=16)] = 4


StoreConfig = Annotated[AwsSecretsManager | OciVault, Field(discriminator="kind")]


class LockTable(_Section):
    """The DynamoDB table that says who may rotate."""

    table: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{3,255}$")]
    region: str


class AwsAudit(_Section):
    """The AWS stream: S3 with Object Lock, signed in KMS."""

    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]{3,63}$")]
    region: str
    mac_key: Annotated[str, Field(description="id, alias or ARN of a KMS HMAC_256 key", min_length=1)]
    storage_class: Literal["GLACIER_IR", "STANDARD", "STANDARD_IA"] = "GLACIER_IR"
    retention: Duration = timedelta(days=400)


class OciAudit(_Section):
    """The OCI stream: an Archive bucket, signed with a key from a Vault secret."""

    bucket: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,256}$")]
    namespace: str
    region: str
    mac_secret: SecretName


class Audit(_Section):
    """One stream for each cloud that runs rotations."""

    aws: AwsAudit
    oci: OciAudit | None = None


class AwsRunner(_Section):
    """Step Functions; `oci_key_secret` holds the API key with which it reaches OCI."""

    oci_key_secret: SecretName | None = None


class OciRunner(_Section):
    """The OCI function; `aws_key_secret` holds the access key with which it reaches AWS."""

    aws_key_secret: SecretName


class Runners(_Section):
    """Who rotates."""

    aws: AwsRunner = AwsRunner()
    oci: OciRunner | None = None


class Password(_Section):
    """What new passwords look like."""

    length: Annotated[int, Field(ge=16, le=64)] = 32
    classes: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[!-~]{1,94}$")], ...],
        Field(min_length=1, max_length=8),
    ] = ("abcdefghijkmnopqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-_.~")

    @model_validator(mode="after")
    def _strong_enough(self) -> Self:
        if len(set("".join(self.classes))) < 26:  # noqa: PLR2004 - one alphabet
            raise ValueError("give classes with at least 26 different characters together")
        return self


class SecretNames(_Section):
    """The names of the two secrets in AWS; in OCI a slash becomes a dot and the slot's number follows."""

    app_user: SecretName
    connection_blob: SecretName


class Credential(_Section):
    """One logical login."""

    id: SecretName
    strategy: Strategy
    username: Username
    alternates: tuple[Username, Username] | None = None
    interval: Duration = timedelta(minutes=20)
    tolerance: Duration = timedelta(seconds=60)
    overlap: Duration | None = None
    password: Password = Password()
    secrets: SecretNames | None = None
    databases: Annotated[tuple[Name, ...], Field(min_length=1)]
    _servers: tuple[DatabaseServer, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.interval < timedelta(minutes=2):
            raise ValueError("interval: two minutes at least")
        if self.tolerance * 2 > self.interval / 2:
            raise ValueError("tolerance: a quarter of the interval at most")
        if self.overlap is not None and self.overlap > self.interval - self.tolerance:
            raise ValueError(
                "overlap: at most interval minus tolerance, or the next trigger always comes too early "
                "and every second rotation is skipped"
            )
        if self.strategy is Strategy.DUAL_PASSWORD and self.alternates:
            raise ValueError("alternates: only with strategy alternating_users")
        if self.alternates and len(set(self.alternates)) != len(self.alternates):
            raise ValueError("alternates: two different usernames")
        return self

    @property
    def usernames(self) -> tuple[str, ...]:
        """The logins that the credential uses: one with dual passwords, two with alternating users."""
        if self.strategy is Strategy.DUAL_PASSWORD:
            return (self.username,)
        return self.alternates or (f"{self.username}_a", f"{self.username}_b")

    @property
    def owner(self) -> str:
        """The role that owns objects, with alternating users on PostgreSQL."""
        return f"{self.username}_owner"

    @property
    def schedule(self) -> Schedule:
        """Interval, overlap and tolerance, defaults filled in."""
        overlap = self.interval - 2 * self.tolerance if self.overlap is None else self.overlap
        return Schedule(interval=self.interval, overlap=overlap, tolerance=self.tolerance)

    @property
    def password_policy(self) -> PasswordPolicy:
        """The policy for the password source."""
        return PasswordPolicy(length=self.password.length, classes=self.password.classes)

    @property
    def secret_names(self) -> SecretNames:
        """Defaults filled in: the id itself, and `connection_blob` beside it."""
        if self.secrets:
            return self.secrets
        parent, _, _ = self.id.rpartition("/")
        blob = f"{parent}/connection_blob" if parent else f"{self.id}.connection_blob"
        return SecretNames(app_user=self.id, connection_blob=blob)

    @property
    def servers(self) -> tuple[DatabaseServer, ...]:
        """What `databases` names."""
        return self._servers

    def bind(self, servers: Mapping[str, DatabaseServer]) -> None:
        """Resolve `databases`; the plan does so once, when it is read."""
        self._servers = tuple(servers[name] for name in self.databases)

    @property
    def primary(self) -> DatabaseServer:
        """The database whose connection fields stand in `app_user`."""
        return self.servers[0]


class Plan(_Section):
    """The whole file."""

    version: Literal[1]
    lock: LockTable
    stores: Annotated[tuple[StoreConfig, ...], Field(min_length=1)]
    audit: Audit
    runners: Runners = Runners()
    databases: Annotated[tuple[DatabaseServer, ...], Field(min_length=1)]
    credentials: Annotated[tuple[Credential, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _references(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        by_name = {d.name: d for d in self.databases}
        for credential in self.credentials:
            credential.bind(by_name)
        return self

    def _problems(self) -> Iterator[str]:
        yield from _repeated("databases: name", [d.name for d in self.databases])
        yield from _repeated("stores: name", [s.name for s in self.stores])
        yield from _repeated("stores: kind", [s.kind for s in self.stores])
        names = [
            n for c in self.credentials for n in (c.secret_names.app_user, c.secret_names.connection_blob)
        ]
        admins = {d.admin_secret for d in self.databases}  # one admin may serve several databases
        # OCI's names and the audit log's folders have a dot for a slash, so `a/b` and `a.b` would meet there.
        dotted = [_dotted(name) for name in [*names, *admins]]
        yield from _repeated("credentials: secret name, with dots for slashes", dotted)
        yield from _repeated(
            "credentials: id, with dots for slashes", [_dotted(c.id) for c in self.credentials]
        )
        engines = {d.name: d.engine for d in self.databases}
        for i, credential in enumerate(self.credentials):
            path = f"credentials[{i}]"
            unknown = [n for n in credential.databases if n not in engines]
            if unknown:
                yield f"{path}.databases: no database is called {', '.join(unknown)}; there are {', '.join(engines)}"
            used = {engines[n] for n in credential.databases if n in engines}
            if Engine.POSTGRESQL in used and credential.strategy is Strategy.DUAL_PASSWORD:
                yield f"{path}.strategy: PostgreSQL has one password a role; use alternating_users"
            yield from _repeated(f"{path}.databases", list(credential.databases))
        has_oci = any(isinstance(s, OciVault) for s in self.stores)
        for i, store in enumerate(self.stores):
            if isinstance(store, OciVault):
                yield from self._vault_problems(f"stores[{i}]", store)
        if has_oci and not self.runners.aws.oci_key_secret:
            yield "runners.aws.oci_key_secret: needed, since a store is in OCI"
        if self.runners.oci and not (has_oci and self.audit.oci):
            yield "runners.oci: needs a store of kind oci-vault and audit.oci"

    def _vault_problems(self, path: str, vault: OciVault) -> Iterator[str]:
        rings = [
            n for c in self.credentials for n in (c.secret_names.app_user, c.secret_names.connection_blob)
        ]
        others = sorted({d.admin_secret for d in self.databases})
        for name in rings + others:
            if not _VAULT_NAME.fullmatch(name):
                yield f"{path}: Vault takes no secret called {name}; use letters, digits and - _ . /"
        in_vault = [slot_name(n, i) for n in rings for i in range(vault.ring)] + [oci_name(n) for n in others]
        yield from _repeated(f"{path}: secret name in Vault", in_vault)
        for credential in self.credentials:
            budget = version_budget(credential.interval, vault.ring)
            if budget.wedges_after is not None:
                yield (
                    f"{path}.ring: {vault.ring} slots at an interval of {credential.interval} ({credential.id}) "
                    f"exhaust Vault's quota of versions after {budget.wedges_after}; {budget.advice}"
                )

    def credential(self, credential_id: str) -> Credential | None:
        """The credential of that id."""
        return next((c for c in self.credentials if c.id == credential_id), None)

    def store(self, kind: type[AwsSecretsManager] | type[OciVault]) -> AwsSecretsManager | OciVault | None:
        """The store of that kind, if the plan has one."""
        return next((s for s in self.stores if isinstance(s, kind)), None)


def _dotted(name: str) -> str:
    return name.replace("/", ".")


def _repeated(what: str, values: list[Any]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{what}: {value} stands {count} times; each must be unique"
