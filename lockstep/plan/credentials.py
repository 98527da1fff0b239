"""The sections `databases` and `credentials` of the plan: servers, and the logins that are rotated on them."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from lockstep.plan.compiled import SECRET_ARN, message, region_of_secret
from lockstep.plan.fields import (
    SECRET_NAME,
    AccountHost,
    CredentialId,
    Duration,
    Name,
    SecretName,
    Section,
    Text,
    Username,
    format_duration,
    safe,
)
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.deadlines import TOLERANCE
from lockstep.protocol.model import (
    ANY_HOST,
    Admin,
    AdminCredential,
    AdminIam,
    AdminSecret,
    Credential,
    DatabaseServer,
    Engine,
    PasswordPolicy,
    Schedule,
    SecretNames,
    Strategy,
    Tls,
    VerifyHost,
)
from lockstep.protocol.names import Server, oci_name, server_of
from lockstep.protocol.schedule import fits

if TYPE_CHECKING:
    from lockstep.plan.model import Plan

# Where the login of a rotation user is: forms of its secret, and what a name of RDS says.

_MANAGED = re.compile(r"rds![A-Za-z0-9/_+=.@-]{1,200}")
"""What RDS names the secret of a master user, which it rotates
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/service-linked-secrets.html)."""

RDS = re.compile(
    r"(.+\.)?(?P<kind>proxy-|cluster-ro-|cluster-custom-)?[a-z0-9-]+"
    r"\.((?P<region>[a-z0-9-]+)\.rds|rds\.(?P<china>[a-z0-9-]+))\.amazonaws\.(com|com\.cn|eu)\.?",
    re.IGNORECASE,
)
"""A host of RDS, Aurora included: no system's CAs have signed its certificate. A proxy lets a user in with the current
value of one secret alone (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-secrets-arns.html); Aurora's
reader and custom endpoints lead each connection to another instance
(https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html)."""


def _secret_in_aws(value: str) -> str:
    if SECRET_ARN.fullmatch(value) or _MANAGED.fullmatch(value):
        return value
    if not re.fullmatch(SECRET_NAME.pattern, value):
        raise ValueError(
            "must be the name of a secret, its complete ARN, with a hyphen and six characters at its end, or the rds!… "
            "name of a managed one"
        )
    return safe(value)


SecretInAws = Annotated[str, AfterValidator(_secret_in_aws)]
"""The name of a secret, its ARN, or the name of one that RDS manages."""


def secret_name(secret: str) -> str:
    """The name in an ARN; a name is its own."""
    arn = SECRET_ARN.fullmatch(secret)
    return arn["name"] if arn else secret


def is_managed(secret: str) -> bool:
    """Whether RDS made the secret, and rotates it."""
    return secret_name(secret).startswith("rds!")


def is_plain_name(secret: str) -> bool:
    """Whether it is a name that people give: no ARN, and not RDS's."""
    return not secret.startswith("arn:") and not is_managed(secret)


def rds_region(host: str) -> str | None:
    """The region in the name of an RDS host; None for any other name, and for that of a global database."""
    found = RDS.fullmatch(host)
    region = (found["region"] or found["china"]).lower() if found else None
    return None if region == "global" else region


BASE = "base"
"""The key in pydantic's validation context that holds the folder of the plan file."""
PLAINTEXT_CONSENT = "passwords may cross this network unencrypted"
PASSWORD_CLASSES = ("abcdefghijkmnopqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-_.~")
"""A new password has a character of each: letters and digits that nobody confuses, and what a URL leaves as it is."""
MAX_VERIFY_HOSTS = 15
"""Of a database: as many as RDS and Aurora allow read replicas
(https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_ReadRepl.html)."""
PROPAGATION = timedelta(minutes=1)
"""For so long after a promotion a store may still give the value before it; no provider names a bound."""
_HOST = r"[A-Za-z0-9._-]{1,253}"
_PORTS = 65535

Host = Annotated[str, Text(_HOST, "a host name or an IPv4 address, without a port")]
Port = Annotated[int, Field(ge=1, le=_PORTS)]


VerifiedHost = Annotated[
    str, Text(rf"{_HOST}(:[0-9]{{1,5}})?", "a host name or an IPv4 address, or either with a port, host:port")
]


class DatabaseSection(Section):
    """A server on which every live generation must log in; the connection is TLS, which verifies `host`."""

    name: Name
    """Its name in this file and in commands."""
    engine: Engine
    """mysql, mariadb or postgresql; Aurora too."""
    host: Host
    """The host at which applications and Lockstep reach it."""
    port: Port
    """3306, 5432 or another."""
    dbname: Annotated[
        str,
        Text(
            r"[A-Za-z_][A-Za-z0-9_$-]{0,62}",
            "letters, digits and _ $ -, beginning with a letter or _, at most 63 in all",
        ),
    ]
    """The database on the server."""
    ca_file: Path | None = None
    """The CAs of its certificate, and of its verify hosts': a PEM file beside this one; the system's unless given."""
    plaintext: Literal["passwords may cross this network unencrypted"] | None = None
    """Consent to connections without TLS."""
    admin_secret: SecretInAws | None = None
    """The secret in AWS with the rotation user's login: a name, an ARN, or RDS's rds!… name."""
    oci_admin_secret: SecretName | None = None
    """The same in OCI Vault; `admin_secret` with dots for slashes unless given."""
    admin_iam: Username | None = None
    """The rotation user's account, by RDS IAM authentication, in place of `admin_secret`."""
    admin_credential: CredentialId | None = None
    """The credential of the plan that is the rotation user's login, in place of `admin_secret`."""
    verify_hosts: Annotated[tuple[VerifiedHost, ...], Field(max_length=MAX_VERIFY_HOSTS)] = ()
    """Read replicas and other hosts, `host` or `host:port`, at which a value must log in before it is promoted."""

    @field_validator("ca_file")
    @classmethod
    def _beside_the_plan(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return info.context[BASE] / value if value and info.context else value

    def problems(self) -> Iterator[str]:
        """As in the base class."""
        if self.plaintext and self.ca_file:
            yield "plaintext: no certificate is verified without TLS; leave out this or `ca_file`"
        yield from self._host_problems()
        forms = (self.admin_secret, self.admin_iam, self.admin_credential)
        if sum(form is not None for form in forms) != 1:
            yield "give exactly one of `admin_secret`, `admin_iam` and `admin_credential`"
        elif self.oci_admin_secret and not self.admin_secret:
            yield "oci_admin_secret: allowed only with `admin_secret`"
        elif self.admin_iam and self.plaintext:
            yield "admin_iam: needs TLS, since whoever reads its token on the way can use it"
        elif self.admin_iam and rds_region(self.host) is None:
            # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.Python.html
            yield "admin_iam: RDS takes tokens only for its own name of the endpoint; give it as `host`"

    def _host_problems(self) -> Iterator[str]:
        verified = ((f"verify_hosts[{i}]", *end) for i, end in enumerate(self.ends))
        for place, host, port in (("host", self.host, self.port), *verified):
            if not 1 <= port <= _PORTS:
                yield f"{place}: its port must be 1 to {_PORTS}"
            found = RDS.fullmatch(host)
            if found and (found["kind"] or "").lower() == "proxy-":
                yield f"{place}: an RDS Proxy refuses all but the current value; name the database (docs/readers.md)"
            elif found and found["kind"] and place != "host":
                yield f"{place}: this name stands for several hosts; name the endpoint of each instance instead"
            elif found and not (self.plaintext or self.ca_file):
                yield f"{place}: RDS has private CAs; download the bundle of its region and give it as `ca_file`"

    @property
    def admin(self) -> Admin:
        """How the rotation user logs in."""
        if self.admin_secret:
            return AdminSecret(aws=self.admin_secret, oci=self.oci_admin_secret or self.admin_secret)
        if self.admin_credential:
            return AdminCredential(credential=self.admin_credential)
        return AdminIam(username=str(self.admin_iam), region=str(rds_region(self.host)))

    @property
    def ends(self) -> Iterator[tuple[str, int]]:
        """Host and port of its verify hosts."""
        for end in self.verify_hosts:
            host, _, port = end.partition(":")
            yield host, int(port or self.port)

    @property
    def server(self) -> Server:
        """What other names of the same server have in common."""
        return server_of(self.host, self.port)

    def compile(self) -> DatabaseServer:
        """The server as a value of the model."""
        tls = None if self.plaintext else Tls(ca_file=self.ca_file)
        verify_hosts = tuple(VerifyHost(host=host, port=port, tls=tls) for host, port in self.ends)
        return message(DatabaseServer, self, tls=tls, verify_hosts=verify_hosts)


class CredentialSection(Section):
    """One logical login."""

    id: CredentialId
    """Its name in commands, the audit log and the lock table; unless `secret` says otherwise its secret's name too."""
    strategy: Strategy
    """dual_password: one account with two passwords (MySQL, MariaDB); alternating_users: accounts that take turns."""
    username: Username
    """The account; with alternating users what their names begin with: app_a, app_b."""
    alternates: Annotated[tuple[Username, ...], Field(min_length=2, max_length=2)] | None = None
    """The alternating users, where they have other names: of a live login its own, and one more."""
    account_host: AccountHost = ANY_HOST
    """The host part of the accounts on MySQL and MariaDB."""
    interval: Duration = timedelta(minutes=20)
    """How often it is rotated, by wall clock."""
    overlap: Duration | None = None
    """How long the previous value works after a promotion; the interval minus 4 minutes unless given."""
    readers_keep: Duration | None = None
    """The longest time that its applications use a value before they read again; a shorter overlap is refused."""
    password_length: Annotated[int, Field(ge=16, le=64)] = 32
    """Of new passwords, in characters: letters, digits and - _ . ~, some of each."""
    secret: SecretName | None = None
    """The name of its secret with username, password and address, where it is not the id."""
    connection_secret: SecretName | None = None
    """The name of its secret with the addresses of all databases; the id with `.connection` unless given."""
    databases: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The databases that it logs in to, by name; the first one's address is in the secret."""

    def problems(self) -> Iterator[str]:
        """As in the base class."""
        longest = self.interval - TOLERANCE
        if not fits(self.interval):
            # One cron expression cannot trigger at it, by wall clock (protocol R2).
            yield (
                f"interval: no schedule by wall clock has {format_duration(self.interval)}; it must be 15, 20 or "
                "30 minutes, hours that divide a day, or whole days"
            )
        elif self.overlap is not None and self.overlap > longest:
            yield (
                f"overlap: must be at most {format_duration(longest)}, the interval minus the "
                f"{format_duration(TOLERANCE)} by which a run may be late; otherwise every second trigger comes too "
                "early and its rotation is skipped"
            )
        elif self.readers_keep and (needed := self.readers_keep + PROPAGATION) > self.promised:
            enough = format_duration(needed + TOLERANCE)
            yield (
                f"readers_keep: needs an overlap of {format_duration(needed)}, and so an interval of {enough} or more"
            )
        if self.alternates and self.strategy is Strategy.DUAL_PASSWORD:
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
    def promised(self) -> timedelta:
        """The overlap."""
        return self.interval - 2 * TOLERANCE if self.overlap is None else self.overlap

    @property
    def owner(self) -> str:
        """The role that owns objects, on PostgreSQL."""
        return f"{self.username}_owner"

    def accounts(self, engine: Engine) -> tuple[str, ...]:
        """Every account and role that belongs to the credential on a server of this engine."""
        return (*self.usernames, self.owner) if engine is Engine.POSTGRESQL else self.usernames

    @property
    def secret_names(self) -> SecretNames:
        """Those in AWS; in OCI a slash becomes a dot and the slot's number follows."""
        return SecretNames(
            app_user=self.secret or self.id, connection_blob=self.connection_secret or f"{self.id}.connection"
        )

    def compile(self, servers: Mapping[str, DatabaseServer], phase: timedelta) -> Credential:
        """The credential as a value of the model, with every default filled in, but without its plan digest.

        Args:
            servers: The plan's servers, by name.
            phase: When its shard is triggered.
        """
        return message(
            Credential,
            self,
            schedule=Schedule(
                interval=self.interval, overlap=self.promised, tolerance=TOLERANCE, phase=phase
            ),
            password_policy=PasswordPolicy(length=self.password_length, classes=PASSWORD_CLASSES),
            servers=tuple(servers[name] for name in self.databases),
            plan_digest="",
        )


def admin_secrets(plan: "Plan") -> Iterator[tuple[str, str]]:
    """The places and names of the admins' secrets that are in the region of the store in AWS, and in OCI."""
    home = (plan.store(AwsSecretsManager) or plan.lock).region
    for i, section in enumerate(plan.database_sections):
        if isinstance(admin := section.admin, AdminSecret):
            if region_of_secret(admin.aws, home) == home:
                yield f"databases[{i}].admin_secret", secret_name(admin.aws)
            if is_plain_name(admin.oci):
                key = "oci_admin_secret" if section.oci_admin_secret else "admin_secret"
                yield f"databases[{i}].{key}", admin.oci


def names_in_oci(plan: "Plan") -> list[str]:
    """The admins' secrets that the OCI runner reads, each once."""
    admins = [a for s in plan.database_sections if isinstance(a := s.admin, AdminSecret)]
    return sorted({oci_name(a.oci): a.oci for a in admins if is_plain_name(a.oci)}.values())
