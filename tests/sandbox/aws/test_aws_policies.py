"""The decision of policies about a call, by the evaluation logic of IAM."""

from typing import Any

import pytest

from sandbox.aws.policies import Call, UnknownConditionError, decide

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:multi-cloud/app_user-AbCdEf"
READ = Call(
    action="secretsmanager:GetSecretValue",
    resource=SECRET,
    context={"dynamodb:LeadingKeys": ("a", "b"), "kms:ViaService": ("x.amazonaws.com",), "size": ("1.1",)},
)


def statement(**fields: object) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": READ.action, "Resource": SECRET, **fields}


def test_a_call_without_a_matching_statement_is_refused() -> None:
    assert not decide(READ, []).allowed
    assert not decide(READ, [statement(Action="secretsmanager:PutSecretValue")]).allowed
    assert not decide(READ, [statement(Resource=SECRET[:-1])]).allowed


@pytest.mark.parametrize("action", ["secretsmanager:getsecretvalue", "secretsmanager:Get*", ["a:b", "*"]])
def test_an_action_has_wildcards_and_ignores_case(action: object) -> None:
    assert decide(READ, [statement(Action=action)]).allowed


@pytest.mark.parametrize(
    ("resource", "allowed"), [(SECRET[:-6] + "??????", True), (SECRET[:-6] + "?", False)]
)
def test_a_resource_has_wildcards(resource: str, *, allowed: bool) -> None:
    assert decide(READ, [statement(Resource=resource)]).allowed is allowed


def test_a_refusal_takes_precedence_over_every_permission() -> None:
    refused = decide(READ, [statement(), statement(Effect="Deny")])
    assert (refused.allowed, refused.statement) == (False, statement(Effect="Deny"))


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "holds"),
    [
        ("StringEquals", "kms:ViaService", "x.amazonaws.com", True),
        ("StringEquals", "kms:ViaService", "x.*", False),
        ("StringEquals", "absent", "x", False),
        ("StringLike", "kms:ViaService", "x.*", True),
        ("StringLike", "absent", "*", False),
        ("ForAllValues:StringEquals", "dynamodb:LeadingKeys", ["a", "b", "c"], True),
        ("ForAllValues:StringEquals", "dynamodb:LeadingKeys", ["a"], False),
        ("ForAllValues:StringEquals", "absent", ["a"], True),
        ("Null", "absent", "true", True),
        ("Null", "absent", "false", False),
        ("Null", "kms:ViaService", "true", False),
        ("NumericLessThan", "size", "1.2", True),
        ("NumericLessThan", "size", "1.1", False),
    ],
)
def test_a_condition_holds_or_does_not(operator: str, key: str, wanted: object, *, holds: bool) -> None:
    assert decide(READ, [statement(Condition={operator: {key: wanted}})]).allowed is holds


def test_every_condition_must_hold() -> None:
    both = {"StringEquals": {"kms:ViaService": "x.amazonaws.com"}, "Null": {"absent": "false"}}
    assert not decide(READ, [statement(Condition=both)]).allowed


def test_an_unknown_operator_is_an_error() -> None:
    with pytest.raises(UnknownConditionError):
        decide(READ, [statement(Condition={"DateLessThan": {"aws:CurrentTime": "2030-01-01"}})])
