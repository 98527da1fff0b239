"""The questions of `lockstep init`, with what the clouds have as choices where they can be asked."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from lockstep.aws.inventory import AwsInventory
from lockstep.cli.init_plan import (
    PORTS,
    Answers,
    DatabaseAnswer,
    OciAnswer,
    SessionsAnswer,
    database,
    distinct,
    username_of,
)
from lockstep.cli.output import complain, say
from lockstep.environment import AwsActionDeniedError, OciActionDeniedError, OciExtraMissingError, line_of
from lockstep.errors import LockstepError
from lockstep.identity import OCI_ENDPOINT_VARIABLE
from lockstep.model import Engine
from lockstep.plan_admins import SecretInAws
from lockstep.plan_audit import AwsAudit, OciAudit
from lockstep.plan_databases import DatabaseSection
from lockstep.plan_fields import CredentialId, Region, Section, Text, Username
from lockstep.plan_hints import near, with_hint
from lockstep.plan_messages import message_of
from lockstep.plan_runners import DomainFederation
from lockstep.store_kinds.oci_vault import Ocid

if TYPE_CHECKING:
    from lockstep.oci.inventory import OciInventory

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
    found = [_server()]
    while typer.confirm("Another database?", default=False):
        found.append(_server())
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


def _server() -> DatabaseAnswer:
    engine = Engine(one_of("Engine", [str(e) for e in Engine], default=str(Engine.POSTGRESQL)))
    host = ask("Host", _form(DatabaseSection, "host"))
    port = ask("Port", _form(DatabaseSection, "port"), default=str(PORTS[engine]))
    dbname = ask("Database on the server", _form(DatabaseSection, "dbname"))
    return database(engine, host, int(port), dbname)


def _with_admin(server: DatabaseAnswer, secrets: Sequence[str]) -> DatabaseAnswer:
    text = f"Secret with the rotator admin's login on {server.name}, one that exists or a new name"
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
            from lockstep.oci.inventory import OciInventory  # noqa: PLC0415 - the extra may be missing
        except ModuleNotFoundError:
            raise OciExtraMissingError from None
        return OciInventory(self._region, endpoint=os.environ.get(OCI_ENDPOINT_VARIABLE))


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
