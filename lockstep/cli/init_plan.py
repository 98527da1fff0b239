"""The first plan of an estate, as text with comments, from a few answers."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from lockstep.engines import ENGINES
from lockstep.model import Engine, Strategy
from lockstep.plan_checks import needs_ca_file
from lockstep.plan_hints import near, with_hint
from lockstep.plan_schema import SCHEMA_NAME

PORTS = {Engine.MYSQL: 3306, Engine.MARIADB: 3306, Engine.POSTGRESQL: 5432}
"""The usual port of each engine."""
CA_FILE = "rds.pem"
"""Where a database of RDS gets its CAs from, beside the plan."""
NOT_YET = "exampleuntilterraformprintsit"
"""The last part of an OCID that Terraform makes."""
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/_.-]*")
_WORDS_OF_YAML = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAnswer:
    """A server."""

    name: str
    engine: Engine
    host: str
    port: int
    dbname: str
    admin_secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsAnswer:
    """By what the runners get sessions in each other's cloud.

    Attributes:
        account: Of AWS, 12 digits.
        domain_url: Of the identity domain in OCI.
    """

    account: str
    domain_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OciAnswer:
    """What is in OCI.

    Attributes:
        vault_id, own_compartment_id: None where Terraform makes them.
        sessions: None: the runners reach each other's cloud with long-lived keys.
    """

    region: str
    compartment_id: str
    vault_id: str | None
    namespace: str
    bucket: str
    own_compartment_id: str | None = None
    sessions: SessionsAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a plan cannot do without."""

    region: str
    table: str
    bucket: str
    mac_key: str
    databases: Sequence[DatabaseAnswer]
    credential: str
    username: str
    oci: OciAnswer | None = None


def database_of(url: str) -> DatabaseAnswer:
    """A database from `ENGINE://HOST[:PORT]/DBNAME`.

    Raises:
        ValueError: It is none; the text says what to write.
    """
    form = "write ENGINE://HOST:PORT/DBNAME, such as mysql://orders.internal:3306/orders"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(form) from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{form}; a plan has no passwords")
    if parts.scheme not in ENGINES:
        raise ValueError(
            with_hint(f"{form}; the engines are {', '.join(ENGINES)}", near(parts.scheme, ENGINES))
        )
    dbname = parts.path.strip("/")
    if not parts.hostname or not dbname:
        raise ValueError(form)
    engine = Engine(parts.scheme)
    return database(engine, parts.hostname, port or PORTS[engine], dbname)


def database(engine: Engine, host: str, port: int, dbname: str) -> DatabaseAnswer:
    """A database, named by the database on the server."""
    name = re.sub(r"[^a-z0-9-]+", "-", dbname.lower()).strip("-0123456789") or "main"
    return DatabaseAnswer(
        name=name[:63],
        engine=engine,
        host=host,
        port=port,
        dbname=dbname,
        admin_secret=admin_secret_of(name[:63]),
    )


def admin_secret_of(name: str) -> str:
    """The secret with the rotator admin's login on a database, unless another one is named."""
    return f"lockstep/admin/{name}"


def username_of(credential: str) -> str:
    """The username of a login, unless another one is named: what a username may have of its id's last part."""
    return (
        re.sub(r"[^A-Za-z0-9_]", "_", credential.rpartition("/")[2]).lstrip("0123456789")[:31] or "app_user"
    )


def distinct(servers: Sequence[DatabaseAnswer]) -> list[DatabaseAnswer]:
    """The databases with names of their own, where several had one."""
    seen = Counter[str]()
    found = []
    for server in servers:
        seen[server.name] += 1
        count = seen[server.name]
        name = f"{server.name[:60]}-{count}"
        found.append(server if count == 1 else replace(server, name=name, admin_secret=admin_secret_of(name)))
    return found


def plan_text(answers: Answers) -> str:
    """The plan file."""
    return "\n".join(_lines(answers)) + "\n"


def _lines(answers: Answers) -> Iterator[str]:
    oci = answers.oci
    yield f"# yaml-language-server: $schema={SCHEMA_NAME}"
    yield "# The plan: what to rotate. `lockstep plan check` reports mistakes, README.md explains each section."
    yield "version: 1"
    yield ""
    yield "lock:  # a DynamoDB table, which the stack makes"
    yield f"  table: {_scalar(answers.table)}"
    yield f"  region: {_scalar(answers.region)}"
    yield ""
    yield "# The first store decides what a value is; every runner stages in this order."
    yield "stores:"
    yield "  - kind: aws-secrets-manager"
    yield f"    region: {_scalar(answers.region)}"
    if oci:
        yield from _vault(oci)
    yield ""
    yield "audit:  # every rotation is on record"
    yield "  aws:"
    yield f"    bucket: {_scalar(answers.bucket)}"
    yield f"    region: {_scalar(answers.region)}"
    yield f"    mac_key: {_scalar(answers.mac_key)}  # a KMS key of the kind HMAC_256, which the stack makes"
    yield "    storage_class: STANDARD"
    yield "    retention: 400d  # nobody can delete an entry before"
    if oci:
        yield "  oci:"
        yield f"    bucket: {_scalar(oci.bucket)}"
        yield f"    namespace: {_scalar(oci.namespace)}"
        yield f"    region: {_scalar(oci.region)}"
        yield "    mac_secret: lockstep/audit-mac"
        yield ""
        yield from _runners(oci)
    yield ""
    yield "databases:"
    for server in answers.databases:
        yield from _server(server)
    yield ""
    yield from _credential(answers)


def _vault(oci: OciAnswer) -> Iterator[str]:
    made = "  # make deploy-oci prints it"
    vault = oci.vault_id or f"ocid1.vault.oc1..{NOT_YET}"
    own = oci.own_compartment_id or f"ocid1.compartment.oc1..{NOT_YET}"
    yield "  - kind: oci-vault"
    yield f"    region: {_scalar(oci.region)}"
    yield f"    compartment_id: {_scalar(oci.compartment_id)}  # of the rings, which are alone in it"
    yield f"    own_compartment_id: {_scalar(own)}{'' if oci.own_compartment_id else made}"
    yield f"    vault_id: {_scalar(vault)}{'' if oci.vault_id else made}"
    yield "    ring: 4  # a Vault secret takes 30 versions a day, so a rotation every 20 minutes needs four"


def _runners(oci: OciAnswer) -> Iterator[str]:
    if oci.sessions is None:
        yield "runners:  # AWS leads, OCI stands by; each reaches the other cloud with a key from its own"
        yield "  aws:"
        yield "    oci_key_secret: lockstep/oci-api-key"
        yield "  oci:"
        yield "    aws_key_secret: lockstep/aws-access-key"
        return
    made = "  # make deploy-oci prints it"
    issuer = f"https://objectstorage.{oci.region}.oraclecloud.com/n/{oci.namespace}/b/lockstep-issuer/o"
    yield "runners:  # AWS leads, OCI stands by; each reaches the other cloud by sessions, without a long-lived key"
    yield "  aws:"
    yield "    federation:  # AWS makes a token, which the identity domain takes for a session"
    yield f"      domain_url: {_scalar(oci.sessions.domain_url)}"
    yield "      client_id: lockstep  # Terraform makes the domain's application with it: letters, digits and _"
    yield "      client: {kms_key: alias/lockstep-oci-client, certificate: lockstep}  # the stack makes the key"
    yield "  oci:"
    yield "    federation:  # a key in OCI Vault signs a token, which AWS takes for a session"
    yield f"      issuer: {_scalar(issuer)}  # a public bucket; `lockstep identity publish` writes there"
    yield "      key:"
    yield f"        id: ocid1.key.oc1..{NOT_YET}{made}"
    yield f"        version: ocid1.keyversion.oc1..{NOT_YET}{made}"
    yield f"        endpoint: {_scalar(f'https://{NOT_YET}-crypto.kms.{oci.region}.oraclecloud.com')}{made}"
    role = f"arn:aws:iam::{oci.sessions.account}:role/lockstep-oci-runner"
    yield f"      role_arn: {_scalar(role)}  # the stack makes it"


def _server(server: DatabaseAnswer) -> Iterator[str]:
    needs_ca = needs_ca_file(server.host)
    yield f"  - name: {_scalar(server.name)}"
    yield f"    engine: {server.engine}"
    yield f"    host: {_scalar(server.host)}"
    yield f"    port: {server.port}"
    yield f"    dbname: {_scalar(server.dbname)}"
    if needs_ca:
        yield f"    tls: {{ca_file: {CA_FILE}}}  # https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
    else:
        yield "    tls: {}  # verified with the CAs of the system; or ca_file: a PEM file, relative to this file"
    yield f"    admin_secret: {_scalar(server.admin_secret)}  # username and password of the rotator admin"
    yield "    # verify_hosts: [replica.internal]  # read replicas: a value must log in there too"


def _credential(answers: Answers) -> Iterator[str]:
    engines = [server.engine for server in answers.databases]
    dual = all(Strategy.DUAL_PASSWORD in ENGINES[engine].strategies for engine in engines)
    yield "credentials:"
    yield f"  - id: {_scalar(answers.credential)}  # the name of its secret too"
    if dual:
        yield "    strategy: dual_password  # one account, two passwords that work"
        yield f"    username: {_scalar(answers.username)}"
    else:
        yield "    strategy: alternating_users  # two accounts take turns"
        yield f"    username: {_scalar(answers.username)}  # logs in as {answers.username}_a and {answers.username}_b"
    yield "    interval: 20m"
    yield f"    databases: [{', '.join(_scalar(server.name) for server in answers.databases)}]"


def _scalar(text: str) -> str:
    """A text as YAML writes it."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML
    return text if plain else json.dumps(text, ensure_ascii=False)
