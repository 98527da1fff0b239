"""The decision of policies about a call, by the evaluation logic of IAM."""

from typing import Any

import pytest

from sandbox.emulators.aws.policies import Call, UnknownConditionError, decide

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:multi-cloud/app_user-AbCdEf"
READ = Call(
    action="secretsmanager:GetSecretValue",
    resource=SECRET,
    context={
        "dynamodb:LeadingKeys": ("a", "b"),
        "kms:ViaService": ("x.amazonaws.com",),
        "size": ("1.1",),
        "aws:ResourceTag/lockstep:stack": ("one",),
        "aws:ResourceTag/twice": ("a",),
        "aws:ResourceTag/Twice": ("a",),
        "aws:SourceArn": ("arn:aws:events:eu-central-1:123456789012:rule/lockstep-app",),
    },
)


def statement(**fields: object) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": READ.action, "Resource": SECRET, **fields}


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([{}], True),
        ([{"Action": "secretsmanager:PutSecretValue"}], False),
        ([{"Action": "secretsmanager:getsecretvalue"}], True),
        ([{"Action": ["a:b", "*"]}], True),
        ([{"Resource": SECRET[:-1]}], False),
        ([{"Resource": SECRET[:-6] + "??????"}], True),
        ([{}, {"Effect": "Deny"}], False),
        ([{"Condition": {"Null": {"absent": "true", "kms:ViaService": "true"}}}], False),
    ],
    ids=str,
)
def test_actions_and_resources_have_wildcards_and_a_refusal_takes_precedence(
    statements: list[dict[str, Any]], *, allowed: bool
) -> None:
    assert decide(READ, [statement(**fields) for fields in statements]).allowed is allowed


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "holds"),
    [
        ("StringEquals", "kms:ViaService", "x.amazonaws.com", True),
        ("StringEquals", "kms:ViaService", "x.*", False),
        ("StringLike", "kms:ViaService", "x.*", True),
        ("ForAllValues:StringEquals", "dynamodb:LeadingKeys", ["a", "b", "c"], True),
        ("ForAllValues:StringEquals", "dynamodb:LeadingKeys", ["a"], False),
        ("ForAllValues:StringEquals", "absent", ["a"], True),
        ("ForAllValues:StringNotLike", "dynamodb:LeadingKeys", ["account#*"], True),
        ("ForAllValues:StringNotLike", "dynamodb:LeadingKeys", ["account#*", "b*"], False),
        ("ForAnyValue:StringEquals", "dynamodb:LeadingKeys", ["b"], True),
        ("ForAnyValue:StringEquals", "dynamodb:LeadingKeys", ["c"], False),
        ("ForAnyValue:StringEquals", "absent", ["c"], False),
        ("ForAnyValue:StringNotEquals", "dynamodb:LeadingKeys", ["b"], True),
        ("StringNotEquals", "kms:ViaService", "x.amazonaws.com", False),
        ("StringNotEquals", "absent", "x", True),
        ("StringEquals", "KMS:viaservice", "x.amazonaws.com", True),
        ("StringEquals", "aws:ResourceTag/Lockstep:Stack", "one", True),
        ("StringEquals", "aws:ResourceTag/lockstep:stack", "ONE", False),
        ("StringEquals", "aws:ResourceTag/twice", "a", False),
        ("ArnLike", "aws:SourceArn", "arn:aws:events:*:*:rule/lockstep-*", True),
        ("ArnLike", "aws:SourceArn", "arn:aws:events:*:rule/lockstep-*", False),
        ("Null", "absent", "true", True),
        ("Null", "kms:ViaService", "true", False),
        ("NumericLessThanEquals", "size", "1.1", True),
        ("NumericLessThanEquals", "size", "1.0", False),
        ("StringEqualsIfExists", "absent", "x", True),
        ("StringEqualsIfExists", "kms:ViaService", "y.amazonaws.com", False),
        ("ArnNotLike", "aws:SourceArn", "arn:aws:events:*:*:rule/lockstep-*", False),
        ("ArnNotLike", "aws:SourceArn", ["arn:aws:events:*:*:rule/other-*", "arn:aws:events:*:rule/*"], True),
    ],
)
def test_a_condition_holds_or_does_not(operator: str, key: str, wanted: object, *, holds: bool) -> None:
    assert decide(READ, [statement(Condition={operator: {key: wanted}})]).allowed is holds


@pytest.mark.parametrize(
    "fields",
    [
        {"Condition": {"DateLessThan": {"aws:CurrentTime": "2030-01-01"}}},
        {"Condition": {"DateLessThanIfExists": {"kms:ViaService": "x.amazonaws.com"}}},
        {"Condition": {"ForEach:StringEquals": {"kms:ViaService": "x.amazonaws.com"}}},
        {"Condition": {"StringEquals": {"kms:ViaService": "${aws:PrincipalTag/service}"}}},
        {"Condition": {"StringEquals": {"dynamodb:LeadingKeys": "a"}}},
        {"NotResource": "x"},
    ],
    ids=["operator", "if exists", "quantifier", "variable", "several values", "element"],
)
def test_what_is_not_known_is_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(UnknownConditionError):
        decide(READ, [statement(**fields)])
