"""The whole lock table, for `lockstep.watch` and for the page of many credentials (`lockstep.serve`).

No other code scans it: a rotation reads its own record (protocol L2).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lockstep.aws.clients import translated
from lockstep.aws.lock_item import LOCK_TABLE_ERRORS, record_of
from lockstep.errors import LockstepError
from lockstep.orders import ACCOUNT_PREFIX
from lockstep.watch import Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def read_table(client: "DynamoDBClient", table: str) -> Table:
    """Every lock record, by consistent reads. The owners of accounts (protocol O8) are left out.

    Raises:
        LockTableUnreachableError: The table did not answer, or its answer cannot be read.
        LockTableAccessDeniedError: It is not there, or the role may not read it.
    """
    records, unreadable = {}, {}
    with translated(LOCK_TABLE_ERRORS):
        items = [(str(item["credential_id"]["S"]), item) for item in _items(client, table)]
    for credential_id, item in items:
        if credential_id.startswith(ACCOUNT_PREFIX):
            continue
        try:
            records[credential_id] = record_of(credential_id, item)
        except LockstepError as error:
            unreadable[credential_id] = type(error).__name__
    return Table(records=records, unreadable=unreadable)


def _items(client: "DynamoDBClient", table: str) -> Iterator[dict[str, Any]]:
    # A page is 1 MB at most
    # (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Scan.html#Scan.Pagination).
    more: dict[str, Any] = {}
    while True:
        page = client.scan(TableName=table, ConsistentRead=True, **more)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
