"""What a request to DynamoDB names, as condition keys of a policy."""

from typing import Any

import pytest

from sandbox.emulators.aws.item_access import UnknownNameError, item_context

KEY = {"Key": {"id": {"S": "x"}}}


@pytest.mark.parametrize(
    ("request_", "attributes"),
    [
        ({}, ()),
        ({"UpdateExpression": "SET a = :a, b = if_not_exists(c, :zero) + :one"}, ("a", "b", "c")),
        ({"UpdateExpression": "set a = :a REMOVE b, c ADD d :d DELETE e :e"}, ("a", "b", "c", "d", "e")),
        ({"UpdateExpression": "SET a.b[1].c = :a REMOVE d[0]"}, ("a", "d")),
        (
            {"UpdateExpression": "SET #n.x = :a", "ExpressionAttributeNames": {"#n": "plan", "#x": "unused"}},
            ("plan",),
        ),
        ({"ConditionExpression": "attribute_not_exists(a) OR b <> :b AND NOT (c IN (:c, d))"}, tuple("abcd")),
        ({"ConditionExpression": "size(a) > :n AND b BETWEEN :low AND c"}, ("a", "b", "c")),
        ({"ConditionExpression": "begins_with (a, :p)"}, ("a",)),
        ({"ProjectionExpression": "a, b.c"}, ("a", "b")),
        ({"AttributeUpdates": {"a": {}}, "Expected": {"b": {}}}, ("a", "b")),
        ({"AttributesToGet": ["a"]}, ("a",)),
    ],
)
def test_update_condition_and_key_count_at_the_top(
    request_: dict[str, Any], attributes: tuple[str, ...]
) -> None:
    found = item_context("UpdateItem", {**KEY, **request_})
    assert found["dynamodb:Attributes"] == tuple(sorted(("id", *attributes)))


def test_what_is_returned_is_a_key_of_its_own_for_writes_only() -> None:
    assert item_context("UpdateItem", KEY)["dynamodb:ReturnValues"] == ("NONE",)
    assert item_context("UpdateItem", {**KEY, "ReturnValues": "ALL_NEW"}) == {
        "dynamodb:Attributes": ("id",),
        "dynamodb:ReturnValues": ("ALL_NEW",),
    }
    assert "dynamodb:ReturnValues" not in item_context("GetItem", KEY)
    assert item_context("Scan", {}) == {}


def test_a_placeholder_without_a_name_is_not_passed_over() -> None:
    with pytest.raises(UnknownNameError):
        item_context("UpdateItem", {**KEY, "UpdateExpression": "SET #a = :a"})
