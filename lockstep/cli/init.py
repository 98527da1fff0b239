"""`lockstep init`: a first plan, from a few answers and from what the clouds have.

The plan is the template `first_plan.yaml.j2`. The answers are options, or a person's, with what the clouds have as
choices where they can be asked.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import typer
from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined
from pydantic import TypeAdapter, ValidationError

from lockstep.aws.reads import AwsInventory
from lockstep.cli.output import complain, plan_file, say, say_next, wrong_use
from lockstep.plan.admins import SecretInAws, needs_ca_file
from lockstep.plan.checks import missing_ca_files
from lockstep.plan.credentials import DatabaseSection
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
from lockstep.plan.runners import DomainFederation
from lockstep.plan.stores import AwsAudit, OciAudit, Ocid
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    LockstepError,
    line_of,
)
from lockstep.protocol.model import ENGINES, Engine, Strategy
from lockstep.runtime.identity import OCI_ENDPOINT_VARIABLE, own_oci_identity

if TYPE_CHECKING:
    from lockstep.oci.reads import OciInventory

PORTS = {Engine.MYSQL: 3306, Engine.MARIADB: 3306, Engine.POSTGRESQL: 5432}
"""The usual port of each engine."""
CA_FILE = "rds.pem"
"""Where a database of RDS gets its CAs from, beside the plan."""
CA_BUNDLE = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
NOT_YET = "exampleuntilterraformprintsit"
"""The last part of an OCID that Terraform makes."""
MOST = 15
"""Choices that are shown."""
Account = Annotated[str, Text(r"[0-9]{12}", "the 12 digits of an account of AWS")]
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
class Answers:
    """What a plan cannot do without.

    Attributes:
        oci_region: None: AWS alone. Then nothing else of OCI counts.
        vault: None where Terraform makes it.
        domain_url: Of the identity domain in OCI; None: the runners reach each other's cloud with long-lived keys.
    """

    databases: Sequence[DatabaseAnswer]
    credential: str
    username: str
    region: str
    table: str
    bucket: str
    mac_key: str
    oci_region: str | None = None
    compartment: str | None = None
    vault: str | None = None
    namespace: str | None = None
    oci_bucket: str = "lockstep-audit"
    account: str | None = None
    domain_url: str | None = None


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
        told = f"{form}; the engines are {', '.join(ENGINES)}"
        raise ValueError(with_hint(told, near(parts.scheme, ENGINES)))
    dbname = parts.path.strip("/")
    if not parts.hostname or not dbname:
        raise ValueError(form)
    engine = Engine(parts.scheme)
    return database(engine, parts.hostname, port or PORTS[engine], dbname)


def database(engine: Engine, host: str, port: int, dbname: str) -> DatabaseAnswer:
    """A database, named by the database on the server."""
    name = (re.sub(r"[^a-z0-9-]+", "-", dbname.lower()).strip("-0123456789") or "main")[:63]
    secret = admin_secret_of(name)
    return DatabaseAnswer(name=name, engine=engine, host=host, port=port, dbname=dbname, admin_secret=secret)


def admin_secret_of(name: str) -> str:
    """The secret with the rotation user's login on a database, unless another one is named."""
    return f"lockstep/admin/{name}"


def username_of(credential: str) -> str:
    """The username of a login, unless another one is named: what a username may have of its id's last part."""
    allowed = re.sub(r"[^A-Za-z0-9_]", "_", credential.rpartition("/")[2])
    return allowed.lstrip("0123456789")[:31] or "app_user"


def distinct(servers: Sequence[DatabaseAnswer]) -> list[DatabaseAnswer]:
    """The databases with names of their own, where several had one."""
    seen = Counter[str]()
    found = []
    for server in servers:
        seen[server.name] += 1
        name = f"{server.name[:60]}-{seen[server.name]}"
        is_first = seen[server.name] == 1
        found.append(server if is_first else replace(server, name=name, admin_secret=admin_secret_of(name)))
    return found


def plan_text(answers: Answers) -> str:
    """The plan file."""
    templates = Templates(
        loader=PackageLoader("lockstep.cli", package_path=""),
        autoescape=False,  # noqa: S701 - no HTML
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["yaml"] = _scalar
    return templates.get_template("first_plan.yaml.j2").render(
        a=answers,
        schema=SCHEMA_NAME,
        ca_file=CA_FILE,
        ca_bundle=CA_BUNDLE,
        not_yet=NOT_YET,
        printed="  # make deploy-oci prints it",
        needs_ca_file=needs_ca_file,
        dual_password=all(Strategy.DUAL_PASSWORD in ENGINES[s.engine].strategies for s in answers.databases),
    )


def _scalar(text: str) -> str:
    """A text as YAML writes it."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML
    return text if plain else json.dumps(text, ensure_ascii=False)


_DENIED = frozenset({Environment.AWS_ACTION_DENIED, Environment.OCI_ACTION_DENIED})
"""Of one call: others may be allowed."""


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
            if not (isinstance(error, EnvironmentalError) and error.problem in _DENIED):
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
    found = [_asked_server()]
    while typer.confirm("Another database?", default=False):
        found.append(_asked_server())
    credential = ask("Name of the login, and of its secret", CredentialId, default="multi-cloud/app_user")
    username = ask("Username in the database", Username, default=username_of(credential))
    clouds = one_of("Clouds", ("aws", "both"), default="both")
    region = ask(
        "AWS region",
        Region,
        default=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
    )
    aws = AwsInventory(region)
    secrets = lists("aws", "Secrets", aws.secrets)
    servers = []
    for server in distinct(found):
        text = f"Secret with the rotation user's login on {server.name}, one that exists or a new name"
        secret = ask(text, SecretInAws, default=server.admin_secret, choices=secrets)
        servers.append(replace(server, admin_secret=secret))
    bucket = ask(
        "S3 bucket for the audit log, one that exists or a new name",
        _form(AwsAudit, "bucket"),
        choices=lists("aws", "Buckets", aws.buckets),
    )
    mac_key = ask(
        "KMS key that signs the audit log, one that exists or a new alias",
        _form(AwsAudit, "mac_key"),
        default="alias/lockstep-audit",
        choices=lists("aws", "Keys", aws.keys),
    )
    oci = _asked_oci(lists, keys=keys) if clouds == "both" else {}
    answers = Answers(
        databases=servers,
        credential=credential,
        username=username,
        region=region,
        table="lockstep",
        bucket=bucket,
        mac_key=mac_key,
        **oci,
    )
    return answers, _network(lists, aws)


def _asked_server() -> DatabaseAnswer:
    engine = Engine(one_of("Engine", [str(e) for e in Engine], default=str(Engine.POSTGRESQL)))
    host = ask("Host", _form(DatabaseSection, "host"))
    port = ask("Port", _form(DatabaseSection, "port"), default=str(PORTS[engine]))
    return database(engine, host, int(port), ask("Database on the server", _form(DatabaseSection, "dbname")))


def _asked_oci(lists: Lists, *, keys: bool) -> dict[str, Any]:
    """What is in OCI, and how the runners reach each other's cloud, as attributes of `Answers`."""
    region = ask("OCI region", Region)
    compartment = ask("Compartment of the rings (OCID)", Ocid)
    vault = ask(
        "Vault (OCID), or terraform to let Terraform make one",
        Ocid | Literal["terraform"],
        default="terraform",
        choices=lists("oci", "Vaults", lambda: _oci(region).vaults(compartment)),
    )
    namespace = ask(
        "Object Storage namespace (oci os ns get)",
        _form(OciAudit, "namespace"),
        default=next(iter(lists("oci", "The namespace", lambda: [_oci(region).namespace()])), None),
    )
    bucket = ask(
        "Object Storage bucket for the audit log, one that exists or a new name",
        _form(OciAudit, "bucket"),
        default="lockstep-audit",
        choices=lists("oci", "Buckets", lambda: _oci(region).buckets(compartment)),
    )
    found = {
        "oci_region": region,
        "compartment": compartment,
        "vault": None if vault == "terraform" else vault,
        "namespace": namespace,
        "oci_bucket": bucket,
    }
    ways = ("sessions", "keys")
    if keys or one_of("How the runners reach each other's cloud", ways, default="sessions") == "keys":
        return found
    account = ask("AWS account (12 digits)", Account)
    url = ask("URL of the identity domain (oci iam domain list)", _form(DomainFederation, "domain_url"))
    return {**found, "account": account, "domain_url": url}


def _oci(region: str) -> "OciInventory":
    try:
        from lockstep.oci.reads import OciInventory  # noqa: PLC0415 - the extra may be missing
    except ModuleNotFoundError:
        raise EnvironmentalError(Environment.OCI_EXTRA_MISSING) from None
    return OciInventory(region, own_oci_identity(), endpoint=os.environ.get(OCI_ENDPOINT_VARIABLE))


def _network(lists: Lists, aws: AwsInventory) -> dict[str, Any] | None:
    """The setting `vpc` of `cdk.json`, if the databases are in a VPC of this account."""
    networks = lists("aws", "Networks", aws.networks)
    if not networks:
        return None
    vpc = ask("VPC in which the databases are reached, or none", str, default="none", choices=networks)
    if vpc == "none":
        return None
    subnets = lists("aws", "Subnets", lambda: [f"{zone} {subnet}" for zone, subnet in aws.subnets(vpc)])
    chosen = [subnet.split(" ") for subnet in subnets]
    zones, ids = [zone for zone, _ in chosen], [subnet for _, subnet in chosen]
    return {"id": vpc, "availability_zones": zones, "subnet_ids": ids}


def _form(section: type[Section], key: str) -> Any:  # noqa: ANN401 - a type
    """The type of a key of the plan."""
    return section.model_fields[key].rebuild_annotation()


def init(  # noqa: PLR0913 - an option for each answer
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; the options say it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    databases: Annotated[
        list[str] | None,
        typer.Option("--database", "-d", help="ENGINE://HOST:PORT/DBNAME; again for each database."),
    ] = None,
    credential: Annotated[
        str, typer.Option("--credential", "-c", help="The login's id, and the name of its secret.")
    ] = "multi-cloud/app_user",
    username: Annotated[str, typer.Option(help="Its username in the database.")] = "app_user",
    region: Annotated[str | None, typer.Option(help="The AWS region.")] = None,
    bucket: Annotated[str | None, typer.Option(help="The S3 bucket for the audit log.")] = None,
    mac_key: Annotated[
        str, typer.Option(help="The KMS key that signs the audit log.")
    ] = "alias/lockstep-audit",
    table: Annotated[str, typer.Option(help="The lock table.")] = "lockstep",
    oci_region: Annotated[str | None, typer.Option(help="The OCI region.  [default: AWS alone]")] = None,
    compartment: Annotated[str | None, typer.Option(help="The OCID of the compartment of the rings.")] = None,
    vault: Annotated[
        str | None, typer.Option(help="The OCID of the vault.  [default: Terraform makes one]")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="The Object Storage namespace: `oci os ns get`.")
    ] = None,
    oci_bucket: Annotated[
        str, typer.Option(help="The Object Storage bucket for the audit log.")
    ] = "lockstep-audit",
    account: Annotated[
        str | None, typer.Option(help="With OCI: the AWS account, which has the OCI runner's role.")
    ] = None,
    domain_url: Annotated[
        str | None,
        typer.Option(
            help="The URL of the identity domain in OCI, which lets the AWS runner in: `oci iam domain list`."
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
    What only the deployment of OCI knows is an example, which `check` names. With --keys the plan has keys
    instead, an API key for OCI and an access key for AWS, which you make, store and rotate.

    Beside the plan it writes its JSON Schema, with which editors complete and check it.

    Exit code: 0 written, 1 you ended it, 2 a file exists already, or an answer is missing or not valid.
    """
    file = plan_file()
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
        try:
            servers = distinct([database_of(url) for url in databases or ()])
        except ValueError as error:
            raise wrong_use(f"--database: {error}") from None
        answers = Answers(
            databases=servers,
            credential=credential,
            username=username,
            region=str(region),
            table=table,
            bucket=str(bucket),
            mac_key=mac_key,
            oci_region=oci_region,
            compartment=compartment,
            vault=vault,
            namespace=namespace,
            oci_bucket=oci_bucket,
            account=account,
            domain_url=None if keys else domain_url,
        )
    else:
        answers, network = questions(keys=keys)
    text = plan_text(answers)
    try:
        plan = parse_plan(text, base=file.parent, environ={})
    except PlanProblemsError as error:
        told = "these answers make no valid plan; nothing was written:"
        raise wrong_use(told, problems=error.problems) from None
    file.write_text(text, encoding="utf-8")
    schema_file.write_text(schema, encoding="utf-8")
    say(f"{file}: written, with {schema_file} for your editor")
    say_next(f"{what + ':':<22} {how}" for what, how in _steps(file, plan, answers, network))
    say(
        "What exists already, such as the bucket, is named in `adopt` of cdk.json. docs/runbook.md explains each step."
    )


def _refuse_to_replace(file: Path, schema_file: Path, schema: str, *, force: bool) -> None:
    if force:
        return
    if file.exists():
        raise wrong_use(f"{file} exists; give another name with --plan, or replace it with --force")
    if schema_file.exists() and schema_file.read_bytes() != schema.encode():
        raise wrong_use(f"{schema_file} is that of another version; replace it with --force")


def _steps(
    file: Path, plan: Plan, answers: Answers, network: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    """What to do with the plan, in order."""
    oci, has_sessions = answers.oci_region, answers.oci_region and answers.domain_url
    if any(missing_ca_files(plan)):
        yield "the CAs of RDS", f"curl -o {file.parent / CA_FILE} {CA_BUNDLE}"
    yield "check it", f"lockstep check --plan {file}"
    yield "accounts, for a DBA", f"lockstep plan sql --plan {file} > setup.sql"
    if oci:
        yield "the OCI side", f"make deploy-oci PLAN={file}"
        names = f"vault_id, own_compartment_id{', runners_oci_federation' if has_sessions else ''}"
        yield "its outputs", f"{names} into {file}"
    if network:
        yield "in cdk.json", json.dumps({"vpc": network})
    if has_sessions:
        yield "the issuer's keys", f"lockstep identity publish --plan {file}"
        yield "once for the account", "aws iam enable-outbound-web-identity-federation"
    yield "the AWS side", f"make deploy-aws PLAN={file}"
    if has_sessions:
        yield "the OCI side again", "oci_fn/terraform/README.md#sessions-instead-of-keys"
