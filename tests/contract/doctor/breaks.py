"""How to break what each check of the clouds looks at: the tables of which `test_doctor` makes its tests.

What else is in the way of using a secret: tests/unit/test_provision.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lockstep.databases.findings import Outcome
from sandbox import plans
from sandbox.oci_resources import create_secret
from tests.contract.doctor.world import CREDENTIAL, World
from tests.contract.oci_fixtures import OciConsole

Act = Callable[[World], object]
"""Breaks something."""

WARNING = Outcome.WARNING
ADMIN = plans.admin_secret("orders")
BLOB = f"{CREDENTIAL}.connection"
SLOT = "multi-cloud.app_user.0"
AWS_KEY = plans.AWS_KEY_SECRET.replace("/", ".")


@dataclass(frozen=True)
class Break:
    """A way to break something.

    Attributes:
        check: The check that must tell it.
        act: Breaks it.
        says: A part of what must be told.
        command: A part of the command that must be named.
    """

    check: str
    act: Act
    says: str
    command: str
    outcome: Outcome = Outcome.FAILED


def call(service: str, operation: str, **arguments: Any) -> Act:  # noqa: ANN401 - of boto3
    """Makes a call."""
    return lambda world: getattr(world.aws.client(service), operation)(**arguments)


# ---- AWS


def _other_account(world: World) -> None:
    audit = dict(world.document["audit"])
    arn = audit["aws"]["mac_key"].replace(world.aws.account_id, "999988887777")
    world.replan(audit={**audit, "aws": {**audit["aws"], "mac_key": arn}})


def _record(**attributes: Any) -> Act:  # noqa: ANN401 - of DynamoDB
    return lambda world: world.record(CREDENTIAL, **attributes)


def _no_label(world: World) -> None:
    secrets = world.aws.client("secretsmanager")
    secrets.delete_secret(SecretId=ADMIN, ForceDeleteWithoutRecovery=True)
    secrets.create_secret(Name=ADMIN)


_OTHER = "0" * 64
OF_AWS: tuple[Break, ...] = (
    Break("aws.identity", _other_account, "999988887777", "AWS_PROFILE"),
    Break(
        "aws.records",
        _record(plan={"S": _OTHER}),
        f"the active one is {_OTHER}",
        f"lockstep apply {CREDENTIAL} --from {_OTHER}",
    ),
    Break(
        "aws.records",
        _record(blocked={"SS": ["orders"]}),
        "orders, or a verify host of it, refuses what stores serve",
        f"lockstep take-over {CREDENTIAL} orders",
    ),
    Break("aws.records", _record(paused={"BOOL": True}), "It is paused", "lockstep resume", WARNING),
    Break(
        "aws.secrets",
        call("secretsmanager", "delete_secret", SecretId=BLOB),
        "scheduled for deletion",
        f"aws secretsmanager restore-secret --secret-id {BLOB}",
    ),
    Break("aws.secrets", _no_label, "AWSCURRENT", "put-secret-value"),
    Break(
        "aws.secrets",
        call("secretsmanager", "untag_resource", SecretId=ADMIN, TagKeys=["lockstep:secret"]),
        "lacks lockstep:secret=admin",
        "lockstep secrets tag --stack lockstep --yes",
    ),
    Break(
        "aws.secrets",
        call(
            "secretsmanager",
            "replicate_secret_to_regions",
            SecretId=CREDENTIAL,
            AddReplicaRegions=[{"Region": "eu-west-3"}],
        ),
        "replicated to eu-west-3",
        f"remove-regions-from-replication --secret-id {CREDENTIAL} --remove-replica-regions eu-west-3",
        WARNING,
    ),
)

# ---- OCI


def _delete_aws_key(world: World) -> None:
    console = OciConsole(world.oci)
    [key] = console.vaults.list_secrets(world.oci.own_compartment_id, name=AWS_KEY).data
    console.remove(key.id)


def _other_namespace(world: World) -> None:
    audit = world.document["audit"]
    world.replan(audit={**audit, "oci": {**audit["oci"], "namespace": "another"}})


def _another_credential(world: World) -> None:
    one = world.document["credentials"][0]
    other = {**one, "id": "other/user", "username": "other"}
    world.replan(credentials=[one, other])


OF_OCI: tuple[Break, ...] = (
    Break("oci.identity", _other_namespace, "another tenancy", "OCI_CONFIG_FILE"),
    Break("oci.secrets", _another_credential, "no such secret", "make deploy-oci"),
    Break("oci.secrets", _delete_aws_key, "scheduled for deletion", "cancel-secret-deletion"),
    Break(
        "oci.secrets",
        lambda world: create_secret(world.oci, "payroll", b"x"),
        "not a slot of this plan",
        "change-compartment",
        WARNING,
    ),
    Break(
        "oci.secrets",
        lambda world: world.oci.vault.rotate_by_itself(SLOT),
        "own rotation is on",
        "oci vault secret update --secret-id",
    ),
)
