"""The section `databases` of the plan: servers, the hosts to verify with them, and how both are reached."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from lockstep.plan.admins import SecretInAws, admin_of
from lockstep.plan.checks import MAX_VERIFY_HOSTS, needs_ca_file, reader_endpoint
from lockstep.plan.fields import CredentialId, Name, SecretName, Section, Text, Username, refuse
from lockstep.protocol.model import Admin, DatabaseServer, Engine, Tls, VerifyHost
from lockstep.protocol.names import Server, server_of

PLAINTEXT_CONSENT = "passwords may cross this network unencrypted"

BASE = "base"
"""The key in pydantic's validation context that holds the folder of the plan file."""

HOST = Text(r"[A-Za-z0-9._-]{1,253}", "a host name or an IPv4 address, without a port")
Host = Annotated[str, HOST]
Port = Annotated[int, Field(ge=1, le=65535)]


class TlsSection(Section):
    """How the server's certificate is verified: by this CA, for the host name in `host`."""

    ca_file: Path | None = None
    """A PEM file, relative to this file; the system's CAs unless given."""

    @field_validator("ca_file")
    @classmethod
    def _beside_the_plan(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return info.context[BASE] / value if value and info.context else value


_NO_CA_FILE = (
    "RDS signs its certificates with private CAs; download the bundle of its region and give it in `tls` as "
    "`ca_file`"
)


class VerifyHostSection(Section):
    """Another host at which applications reach a database; as a text, `host` or `host:port`."""

    host: Host
    """The host."""
    port: Port | None = None
    """The database's unless given."""
    tls: TlsSection | None = None
    """As the database unless given."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        as_text = {
            "type": "string",
            "pattern": f"^{HOST.pattern}(:[0-9]{{1,5}})?$",
            "examples": ["replica:3306"],
        }
        return {"anyOf": [as_text, handler(schema)]}

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        host, colon, port = value.partition(":")
        return {"host": host, "port": port} if colon else {"host": host}

    @field_validator("host")
    @classmethod
    def _is_one_host(cls, value: str) -> str:
        if reader_endpoint(value):
            raise ValueError("this name stands for several hosts; name the endpoint of each instance instead")
        return value


def _given(key: str) -> dict[str, Any]:
    return {"required": [key], "properties": {key: {"not": {"type": "null"}}}}


class DatabaseSection(Section):
    """A server on which every live generation must log in."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"oneOf": [_given("tls"), _given("plaintext")]},
                {"oneOf": [_given("admin_secret"), _given("admin_iam"), _given("admin_credential")]},
            ]
        }
    )

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
    tls: TlsSection | None = None
    """How its certificate is verified; `{}` verifies it with the system's CAs."""
    plaintext: Literal["passwords may cross this network unencrypted"] | None = None
    """Consent to connections without TLS, in place of `tls`."""
    admin_secret: SecretInAws | None = None
    """The secret in AWS with the rotation user's login: a name, an ARN, or RDS's rds!… name."""
    oci_admin_secret: SecretName | None = None
    """The same in OCI Vault; `admin_secret` with dots for slashes unless given."""
    admin_iam: Username | None = None
    """The rotation user's account, by RDS IAM authentication, in place of `admin_secret`."""
    admin_credential: CredentialId | None = None
    """The credential of the plan that is the rotation user's login, in place of `admin_secret`."""
    verify_hosts: Annotated[tuple[VerifyHostSection, ...], Field(max_length=MAX_VERIFY_HOSTS)] = ()
    """Read replicas and other hosts at which a value must log in before it is promoted."""

    @model_validator(mode="after")
    def _tls_or_consent(self) -> Self:
        if (self.tls is None) == (self.plaintext is None):
            raise ValueError(f"give either `tls: {{}}` or `plaintext: {PLAINTEXT_CONSENT}`")
        if self.tls and not self.tls.ca_file and needs_ca_file(self.host):
            raise ValueError(_NO_CA_FILE)
        return self

    @model_validator(mode="after")
    def _one_admin(self) -> Self:
        admin_of(self)
        return self

    @model_validator(mode="after")
    def _verify_hosts_are_verified(self) -> Self:
        ends = ((i, end.host, end.tls or self.tls) for i, end in enumerate(self.verify_hosts))
        refuse(
            f"verify_hosts[{i}]: {_NO_CA_FILE}"
            for i, host, tls in ends
            if tls and not tls.ca_file and needs_ca_file(host)
        )
        return self

    @property
    def admin(self) -> Admin:
        """How the rotation user logs in."""
        return admin_of(self)

    @property
    def server(self) -> Server:
        """What other names of the same server have in common."""
        return server_of(self.host, self.port)

    @property
    def verify_servers(self) -> tuple[Server, ...]:
        """The same of its verify hosts."""
        return tuple(server_of(end.host, end.port or self.port) for end in self.verify_hosts)

    def compile(self) -> DatabaseServer:
        """The server as a value of the model."""
        return DatabaseServer(
            name=self.name,
            engine=self.engine,
            host=self.host,
            port=self.port,
            dbname=self.dbname,
            tls=_compiled(self.tls),
            admin=self.admin,
            verify_hosts=tuple(
                VerifyHost(host=end.host, port=end.port or self.port, tls=_compiled(end.tls or self.tls))
                for end in self.verify_hosts
            ),
        )


def _compiled(tls: TlsSection | None) -> Tls | None:
    return Tls(ca_file=tls.ca_file) if tls else None
