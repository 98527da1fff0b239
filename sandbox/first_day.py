"""What happens before a first rotation, as by `lockstep secrets create`, `apply` and `take-over`.

Orders are given without their audit entries, so that an estate's chains begin with its first run.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.cli.secrets import Room, aws_room, carried_out, oci_room
from lockstep.operate.access import operator
from lockstep.operate.doctor.clouds import vault_of
from lockstep.operate.secrets import RingTerms, StackTerms, rotated_in_aws
from lockstep.plan.model import Plan
from lockstep.protocol.model import Credential
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.protocol.orders import Activate, TakeOver
from lockstep.runtime.identity import DEPLOYER

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


SECRETS_A_SECOND = 50.0
"""In each cloud."""


def create_secrets(plan: Plan, *, key: str, oci_key: str | None) -> list[Room]:
    """Make the secrets of credentials as both deployments do, with the clouds that this process' environment names.

    Args:
        plan: The plan.
        key: The ARN of the stack's key.
        oci_key: The OCID of Terraform's key; None: the plan has no store in OCI.
    """
    clouds = operator(plan, identity=DEPLOYER)
    terms = StackTerms(stack=DEFAULT_STACK, key=key)
    rooms = [aws_room(clouds.aws, terms, rotated_in_aws(plan))]
    if oci_key:
        vault = vault_of(plan)
        ring = RingTerms(
            region=vault.region,
            compartment_id=vault.compartment_id,
            vault_id=vault.vault_id,
            key_id=oci_key,
            freeform_tags={"lockstep-stack": DEFAULT_STACK},
        )
        rooms.append(oci_room(plan, clouds, ring))
    return [carried_out(replace(room, rate=SECRETS_A_SECOND)) for room in rooms]


def activate(client: "DynamoDBClient", table: str, credential: Credential) -> None:
    """Order the plan to become the active one; its next run finds a login that works, and serves it everywhere."""
    order = Activate(digest=credential.plan_digest, replaces=None)
    DynamoDbOrders(client, table, credential.id).write(order)


def take_over(client: "DynamoDBClient", table: str, credential: Credential) -> None:
    """Consent to taking over the accounts on every database, without a login that works."""
    order = TakeOver(databases=frozenset(credential.databases))
    DynamoDbOrders(client, table, credential.id).write(order)
