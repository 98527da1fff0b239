"""`lockstep init`: a first plan, from a few answers and from what the clouds have.

The questions of `lockstep init`, with what the clouds have as choices where they can be asked.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import typer
from pydantic import TypeAdapter, ValidationError

from lockstep.aws.reads import AwsInventory
from lockstep.cli.output import DEFAULT_PLAN, PlanFile, complain, say, wrong_use
from lockstep.plan.admins import SecretInAws
from lockstep.plan.checks import missing_ca_files, needs_ca_file
from lockstep.plan.databases import DatabaseSection
from lockstep.plan.fields import CredentialId, Region, Section, Text, Username, near, with_hint
from lockstep.plan.file import (
    SCHEMA_NAME,
    PlanProblemsError,
    message_of,
    parse_plan,
    plan_schema,
    schema_text,
)
from lockstep.plan.model import Plan
from lockstep.plan.runners import AwsAudit, DomainFederation, OciAudit
from lockstep.plan.stores import Ocid
from lockstep.protocol.engines import ENGINES
from lockstep.protocol.errors import (
    AwsActionDeniedError,
    LockstepError,
    OciActionDeniedError,
    OciExtraMissingError,
    line_of,
)
from lockstep.protocol.model import Engine, Strategy
from lockstep.runtime.identity import OCI_ENDPOINT_VARIABLE, own_oci_identity

if TYPE_CHECKING:
    from lockstep.oci.reads import OciInventory


# The first plan of an estate, as text with comments, from a few answers.

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
    """The secret with the rotation user's login on a database, unless another one is named."""
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
    yield f"    admin_secret: {_scalar(server.admin_secret)}  # username and password of the rotation user"
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


MOST = 15
"""Choices that are shown."""
Account = Annotated[str, Text(r"[0-9]{12}", "the 12 digits of an account of AWS")]
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_TERRAFORM = "terraform"
_NONE = "none"


class Lists:
    """What the clouds have. A cloud that cannot be asked at all is told once, and then not asked again."""

    def __init__(self) -> None:
        self._silent = set[str]()

    def __call__(self, cloud: str, what: str, fetch: Callable[[], Sequence[str]]) -> Sequence[str]:
        """The names; none where they cannot be listed."""
        if cloud in self._silent:
            return ()
        try:
            return fetch()
        except LockstepError as error:
            say(f"{what} cannot be listed, so enter them. {line_of(error)}", style="yellow")
            if not isinstance(error, AwsActionDeniedError | OciActionDeniedError):
                self._silent.add(cloud)
            return ()


def ask(text: str, form: Any, *, default: str | None = None, choices: Sequence[str] = ()) -> str:  # noqa: ANN401 - a type
    """A value of this type of the plan; asks again until it is one. A choice may be given by its number."""
    shown = choices[:MOST]
    for i, choice in enumerate(shown, 1):
        say(f"  {i}  {choice}")
    if len(choices) > MOST:
        say(f"  and {len(choices) - MOST} more; enter a name")
    while True:
        given = str(typer.prompt(text, default=default)).strip()
        if shown and given.isdecimal() and 1 <= int(given) <= len(shown):
            given = shown[int(given) - 1]
        try:
            return str(TypeAdapter(form).validate_python(given))
        except ValidationError as error:
            complain(f"  {message_of(error.errors()[0])}")


def one_of(text: str, words: Sequence[str], *, default: str) -> str:
    """One of these words."""
    while True:
        given = str(typer.prompt(f"{text} ({', '.join(words)})", default=default)).strip()
        if given in words:
            return given
        told = with_hint(f"must be {' or '.join(words)}", near(given, words))
        complain(f"  {told}")


def questions(*, keys: bool) -> tuple[Answers, dict[str, Any] | None]:
    """The answers of a person, and the network for `cdk.json`.

    Args:
        keys: The runners reach each other's cloud with long-lived keys, so that is not asked.
    """
    lists = Lists()
    found = [_init_questions_server()]
    while typer.confirm("Another database?", default=False):
        found.append(_init_questions_server())
    credential = ask("Name of the login, and of its secret", CredentialId, default="multi-cloud/app_user")
    username = ask("Username in the database", Username, default=username_of(credential))
    clouds = one_of("Clouds", ("aws", "both"), default="both")
    known = next((os.environ[name] for name in _REGIONS if os.environ.get(name)), None)
    region = ask("AWS region", Region, default=known)
    aws = AwsInventory(region)
    secrets = lists("aws", "Secrets", aws.secrets)
    found = [_with_admin(server, secrets) for server in distinct(found)]
    answers = Answers(
        region=region,
        table="lockstep",
        bucket=ask(
            "S3 bucket for the audit log, one that exists or a new name",
            _form(AwsAudit, "bucket"),
            choices=lists("aws", "Buckets", aws.buckets),
        ),
        mac_key=ask(
            "KMS key that signs the audit log, one that exists or a new alias",
            _form(AwsAudit, "mac_key"),
            default="alias/lockstep-audit",
            choices=lists("aws", "Keys", aws.keys),
        ),
        databases=found,
        credential=credential,
        username=username,
        oci=_oci(lists, keys=keys) if clouds == "both" else None,
    )
    return answers, _network(lists, aws)


def _init_questions_server() -> DatabaseAnswer:
    engine = Engine(one_of("Engine", [str(e) for e in Engine], default=str(Engine.POSTGRESQL)))
    host = ask("Host", _form(DatabaseSection, "host"))
    port = ask("Port", _form(DatabaseSection, "port"), default=str(PORTS[engine]))
    dbname = ask("Database on the server", _form(DatabaseSection, "dbname"))
    return database(engine, host, int(port), dbname)


def _with_admin(server: DatabaseAnswer, secrets: Sequence[str]) -> DatabaseAnswer:
    text = f"Secret with the rotation user's login on {server.name}, one that exists or a new name"
    return replace(server, admin_secret=ask(text, SecretInAws, default=server.admin_secret, choices=secrets))


def _oci(lists: Lists, *, keys: bool) -> OciAnswer:
    region = ask("OCI region", Region)
    compartment = ask("Compartment of the rings (OCID)", Ocid)
    oci = _OciLists(region)
    vault = ask(
        f"Vault (OCID), or {_TERRAFORM} to let Terraform make one",
        Ocid | Literal["terraform"],
        default=_TERRAFORM,
        choices=lists("oci", "Vaults", lambda: oci.inventory.vaults(compartment)),
    )
    namespace = lists("oci", "The namespace", lambda: [oci.inventory.namespace()])
    return OciAnswer(
        region=region,
        compartment_id=compartment,
        vault_id=None if vault == _TERRAFORM else vault,
        namespace=ask(
            "Object Storage namespace (oci os ns get)",
            _form(OciAudit, "namespace"),
            default=next(iter(namespace), None),
        ),
        bucket=ask(
            "Object Storage bucket for the audit log, one that exists or a new name",
            _form(OciAudit, "bucket"),
            default="lockstep-audit",
            choices=lists("oci", "Buckets", lambda: oci.inventory.buckets(compartment)),
        ),
        sessions=_sessions(keys=keys),
    )


def _sessions(*, keys: bool) -> SessionsAnswer | None:
    if keys:
        return None
    way = one_of("How the runners reach each other's cloud", ("sessions", "keys"), default="sessions")
    if way == "keys":
        return None
    return SessionsAnswer(
        account=ask("AWS account (12 digits)", Account),
        domain_url=ask(
            "URL of the identity domain (oci iam domain list)", _form(DomainFederation, "domain_url")
        ),
    )


class _OciLists:
    """OCI's lists; its SDK is loaded at the first, and may be missing."""

    def __init__(self, region: str) -> None:
        self._region = region

    @cached_property
    def inventory(self) -> "OciInventory":
        try:
            from lockstep.oci.reads import OciInventory  # noqa: PLC0415 - the extra may be missing
        except ModuleNotFoundError:
            raise OciExtraMissingError from None
        return OciInventory(self._region, own_oci_identity(), endpoint=os.environ.get(OCI_ENDPOINT_VARIABLE))


def _network(lists: Lists, aws: AwsInventory) -> dict[str, Any] | None:
    """The setting `vpc` of `cdk.json`, if the databases are in a VPC of this account."""
    networks = lists("aws", "Networks", aws.networks)
    if not networks:
        return None
    vpc = ask(f"VPC in which the databases are reached, or {_NONE}", str, default=_NONE, choices=networks)
    if vpc == _NONE:
        return None
    subnets = lists("aws", "Subnets", lambda: [f"{zone} {subnet}" for zone, subnet in aws.subnets(vpc)])
    chosen = [subnet.split(" ") for subnet in subnets]
    return {
        "id": vpc,
        "availability_zones": [zone for zone, _ in chosen],
        "subnet_ids": [subnet for _, subnet in chosen],
    }


def _form(section: type[Section], key: str) -> Any:  # noqa: ANN401 - a type
    """The type of a key of the plan."""
    return section.model_fields[key].rebuild_annotation()


# `lockstep init`: write the first plan, from a few answers and from what the clouds have.


def init(  # noqa: PLR0913 - an option for each answer
    *,
    file: PlanFile = DEFAULT_PLAN,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; the options say it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    databases: Annotated[
        list[str] | None,
        typer.Option("--database", "-d", help="ENGINE://HOST:PORT/DBNAME; again for each database."),
    ] = None,
    credential: Annotated[
        str, typer.Option("--credential", "-c", help="The login's id, and the name of its secret.")
    ] = "multi-cloud/app_user",
    username: Annotated[str, typer.Option("--username", help="Its username in the database.")] = "app_user",
    region: Annotated[str | None, typer.Option("--region", help="The AWS region.")] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", help="The S3 bucket for the audit log.")] = None,
    mac_key: Annotated[
        str, typer.Option("--mac-key", help="The KMS key that signs the audit log.")
    ] = "alias/lockstep-audit",
    table: Annotated[str, typer.Option("--table", help="The lock table.")] = "lockstep",
    oci_region: Annotated[
        str | None, typer.Option("--oci-region", help="The OCI region.  [default: AWS alone]")
    ] = None,
    compartment: Annotated[
        str | None, typer.Option("--compartment", help="The OCID of the compartment of the rings.")
    ] = None,
    vault: Annotated[
        str | None, typer.Option("--vault", help="The OCID of the vault.  [default: Terraform makes one]")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", help="The Object Storage namespace: `oci os ns get`.")
    ] = None,
    oci_bucket: Annotated[
        str, typer.Option("--oci-bucket", help="The Object Storage bucket for the audit log.")
    ] = "lockstep-audit",
    account: Annotated[
        str | None,
        typer.Option("--account", help="With OCI: the AWS account, which has the OCI runner's role."),
    ] = None,
    domain_url: Annotated[
        str | None,
        typer.Option(
            "--domain-url",
            help="The URL of the identity domain in OCI, which lets the AWS runner in: `oci iam domain list`.",
        ),
    ] = None,
    keys: Annotated[
        bool,
        typer.Option(
            "--keys",
            help="Let the runners reach each other's cloud with long-lived keys instead of sessions.",
        ),
    ] = False,
) -> None:
    """Write a first plan, with comments, and say what comes next.

    It asks for engine, hosts and clouds, and offers what the clouds have: secrets, buckets, keys and networks in AWS,
    vaults and buckets in OCI, as far as your identities may list them. Where they may not, it says so and asks for
    names. It changes nothing in a cloud and asks for no password. OCI is asked as the identity in OCI_CONFIG_FILE. With
    --yes the options say everything, and no cloud is called.

    With OCI the runners reach each other's cloud by sessions, for which each cloud vouches: there is no long-lived key.
    What only the deployment of OCI knows is an example, which `plan check` names. With --keys the plan has keys
    instead, an API key for OCI and an access key for AWS, which you make, store and rotate.

    Beside the plan it writes its JSON Schema, with which editors complete and check it.

    Exit code: 0 written, 1 you ended it, 2 a file exists already, or an answer is missing or not valid.
    """
    schema_file = file.parent / SCHEMA_NAME
    schema = schema_text(plan_schema())
    _refuse_to_replace(file, schema_file, schema, force=force)
    network = None
    if yes:
        needed = {"--database": databases, "--region": region, "--bucket": bucket}
        if oci_region:
            needed |= {"--compartment": compartment, "--namespace": namespace}
        if oci_region and not keys:
            needed |= {"--account": account, "--domain-url": domain_url}
        if missing := [option for option, value in needed.items() if not value]:
            instead = "; or --keys instead of the last" if "--domain-url" in missing else ""
            raise wrong_use(f"with --yes also give {', '.join(missing)}{instead}")
        oci = OciAnswer(
            region=str(oci_region),
            compartment_id=str(compartment),
            vault_id=vault,
            namespace=str(namespace),
            bucket=oci_bucket,
            sessions=None if keys else SessionsAnswer(account=str(account), domain_url=str(domain_url)),
        )
        try:
            servers = distinct([database_of(url) for url in databases or ()])
        except ValueError as error:
            raise wrong_use(f"--database: {error}") from None
        answers = Answers(
            region=str(region),
            table=table,
            bucket=str(bucket),
            mac_key=mac_key,
            databases=servers,
            credential=credential,
            username=username,
            oci=oci if oci_region else None,
        )
    else:
        answers, network = questions(keys=keys)
    text = plan_text(answers)
    try:
        plan = parse_plan(text, base=file.parent, environ={})
    except PlanProblemsError as error:
        raise wrong_use(
            "these answers make no valid plan; nothing was written:", problems=error.problems
        ) from None
    file.write_text(text, encoding="utf-8")
    schema_file.write_text(schema, encoding="utf-8")
    say(f"{file}: written, with {schema_file} for your editor")
    _say_next(file, plan, answers, network)


def _refuse_to_replace(file: Path, schema_file: Path, schema: str, *, force: bool) -> None:
    if force:
        return
    if file.exists():
        raise wrong_use(f"{file} exists; give another name with --plan, or replace it with --force")
    if schema_file.exists() and schema_file.read_bytes() != schema.encode():
        raise wrong_use(f"{schema_file} is that of another version; replace it with --force")


def _say_next(file: Path, plan: Plan, answers: Answers, network: dict[str, Any] | None) -> None:
    """What to do with the plan, in order."""
    steps = []
    if any(missing_ca_files(plan)):
        bundle = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
        steps.append(f"the CAs of RDS:        curl -o {file.parent / CA_FILE} {bundle}")
    sessions = answers.oci.sessions if answers.oci else None
    is_whole = not answers.oci or (answers.oci.vault_id and answers.oci.own_compartment_id and not sessions)
    flag = "" if is_whole else " --before-oci"
    steps.append(f"check it:              lockstep plan check --plan {file}{flag}")
    steps.append(f"accounts, for a DBA:   lockstep plan sql --plan {file} > setup.sql")
    if answers.oci:
        steps.append(f"the OCI side:          make deploy-oci PLAN={file}")
    if not is_whole:
        names = ["vault_id", "own_compartment_id", *(["runners_oci_federation"] if sessions else [])]
        steps.append(f"its outputs:           {', '.join(names)} into {file}")
    if network:
        steps.append(f"in cdk.json:           {json.dumps({'vpc': network})}")
    if sessions:
        steps.append(f"the issuer's keys:     lockstep identity publish --plan {file}")
        steps.append("once for the account:  aws iam enable-outbound-web-identity-federation")
    steps.append(f"the AWS side:          make deploy-aws PLAN={file}")
    if sessions:
        steps.append("the OCI side again:    oci_fn/terraform/README.md#sessions-instead-of-keys")
    say("Next:")
    for i, step in enumerate(steps, 1):
        say(f"  {i}. {step}")
    say(
        "What exists already, such as the bucket, is named in `adopt` of cdk.json. docs/runbook.md explains each step."
    )
