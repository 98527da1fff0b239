"""The whole lock table, as the watch reads it, on the sandbox's DynamoDB (protocol O14)."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from lockstep.aws.dynamodb_lock import read_table
from lockstep.protocol.errors import LockTableAccessDeniedError
from lockstep.protocol.model import FORMAT
from lockstep.protocol.orders import accounts_of
from sandbox.aws.resources import create_lock_table
from sandbox.aws.server import AwsSandbox
from tests.contract.aws_fixtures import CREDENTIAL, TABLE, sandbox_client

PAGE_BYTES = 1024 * 1024


@pytest.fixture(name="dynamodb")
def _dynamodb() -> Iterator[Any]:
    with AwsSandbox() as sandbox:
        client = sandbox_client(sandbox, "dynamodb")
        create_lock_table(client, TABLE)
        yield client


def put(dynamodb: Any, key: str, **attributes: Mapping[str, object]) -> None:  # noqa: ANN401 - as `aws_client`
    dynamodb.put_item(TableName=TABLE, Item={"credential_id": {"S": key}, **attributes})


def test_an_empty_table_has_no_records(dynamodb: Any) -> None:  # noqa: ANN401 - likewise
    table = read_table(dynamodb, TABLE)
    assert (table.records, table.unreadable) == ({}, {})


def test_records_are_read_and_the_owners_of_accounts_are_left_out(dynamodb: Any) -> None:  # noqa: ANN401
    put(dynamodb, "a", plan={"S": "digest"}, paused={"BOOL": True}, unwitnessed_aws={"N": "1767225600"})
    for account in accounts_of(CREDENTIAL):
        put(dynamodb, account.key, owner={"S": "a"})
    table = read_table(dynamodb, TABLE)
    assert set(table.records) == {"a"}
    assert (table.records["a"].plan, table.records["a"].paused) == ("digest", True)
    assert set(table.records["a"].unwitnessed) == {"aws"}


def test_what_cannot_be_read_is_named_by_its_error_and_hides_nothing_else(dynamodb: Any) -> None:  # noqa: ANN401
    put(dynamodb, "readable")
    put(dynamodb, "malformed", fence={"S": "three"})
    put(dynamodb, "newer", format={"N": str(FORMAT + 1)})
    table = read_table(dynamodb, TABLE)
    assert set(table.records) == {"readable"}
    assert table.unreadable == {
        "malformed": "LockTableAccessDeniedError",
        "newer": "NewerFormatError",
    }


def test_a_table_of_several_pages_is_read_to_its_end(dynamodb: Any) -> None:  # noqa: ANN401 - likewise
    pages = []
    dynamodb.meta.events.register("after-call.dynamodb.Scan", lambda **_: pages.append(1))
    keys = {f"credential-{n}" for n in range(10)}
    for key in keys:
        put(dynamodb, key, foreign={"S": "x" * (PAGE_BYTES // 4)})
    assert set(read_table(dynamodb, TABLE).records) == keys
    assert len(pages) > 2


def test_a_table_that_is_not_there_is_an_error(dynamodb: Any) -> None:  # noqa: ANN401 - likewise
    with pytest.raises(LockTableAccessDeniedError):
        read_table(dynamodb, "another")
