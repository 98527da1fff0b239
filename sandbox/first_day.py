"""What an operator orders before a credential's first rotation, as `lockstep plan activate` and `lockstep enrol` do.

Without the orders' audit entries, so that an estate's chains begin with its first run.
"""

from typing import TYPE_CHECKING

from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.model import Credential
from lockstep.orders import Activate, Enrol

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def activate(client: "DynamoDBClient", table: str, credential: Credential) -> None:
    """Order the plan to become the active one; its next run finds a login that works, and serves it everywhere."""
    order = Activate(digest=credential.plan_digest, replaces=None)
    DynamoDbOrders(client, table, credential.id).write(order)


def enrol(client: "DynamoDBClient", table: str, credential: Credential) -> None:
    """Consent to taking over the accounts on every database, without a login that works."""
    order = Enrol(databases=frozenset(credential.databases))
    DynamoDbOrders(client, table, credential.id).write(order)
