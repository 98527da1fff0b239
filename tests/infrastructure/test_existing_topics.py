"""Adopted topics: whether alarms reach them is asked before the deployment, as CloudWatch would be refused later."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sandbox.aws import AwsSandbox
from sandbox.aws.strict_alarms import refusal
from tests.infrastructure.existing_case import looked_at, refusing

ELSEWHERE = "arn:aws:sns:eu-central-1:999988887777:on-call"


@pytest.fixture(name="aws")
def _aws() -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        yield aws


def alarm(aws: AwsSandbox) -> str:
    return f"arn:aws:cloudwatch:{aws.region}:{aws.account_id}:alarm:lockstep-Stale"


def make_topic(aws: AwsSandbox, *, name: str = "on-call", **attributes: str) -> str:
    arn: str = aws.client("sns").create_topic(Name=name, Attributes=attributes)["TopicArn"]
    return arn


def set_policy(aws: AwsSandbox, topic: str, *statements: Mapping[str, Any]) -> None:
    policy = {"Version": "2012-10-17", "Statement": [{"Resource": topic, **s} for s in statements]}
    aws.client("sns").set_topic_attributes(
        TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy)
    )


def problems(aws: AwsSandbox, topic: str) -> tuple[str, ...]:
    return looked_at(aws, adopt={"topics": {"page": topic}}).problems


CLOUDWATCH = {
    "Effect": "Allow",
    "Principal": {"Service": "cloudwatch.amazonaws.com"},
    "Action": "sns:Publish",
}
OF_OTHERS = {"StringEquals": {"aws:SourceAccount": "999988887777"}}
POLICIES: Mapping[str, list[Mapping[str, Any]]] = {
    "for cloudwatch": [CLOUDWATCH],
    "for alarms of the stack": [
        {
            **CLOUDWATCH,
            "Condition": {
                "StringEquals": {"aws:SourceAccount": "123456789012"},
                "ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:lockstep-*"},
            },
        }
    ],
    "for everybody in the account": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": "SNS:*",
            "Condition": {"StringEquals": {"AWS:SourceOwner": "123456789012"}},
        }
    ],
    "tls only": [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sns:Publish",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ],
    "for a role": [{**CLOUDWATCH, "Principal": {"AWS": "arn:aws:iam::123456789012:role/on-call"}}],
    "for another service": [{**CLOUDWATCH, "Principal": {"Service": "events.amazonaws.com"}}],
    "for subscribers": [{**CLOUDWATCH, "Action": "sns:Subscribe"}],
    "for alarms of another account": [{**CLOUDWATCH, "Condition": OF_OTHERS}],
    "for other alarms": [
        {
            **CLOUDWATCH,
            "Condition": {
                "ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:estate-*"}
            },
        }
    ],
    "refused": [CLOUDWATCH, {**CLOUDWATCH, "Effect": "Deny", "Principal": "*"}],
}


@pytest.mark.parametrize("what", POLICIES)
def test_the_policy_of_an_adopted_topic_is_judged_as_cloudwatch_meets_it(aws: AwsSandbox, what: str) -> None:
    topic = make_topic(aws)
    set_policy(aws, topic, *POLICIES[what])
    found = problems(aws, topic)
    assert bool(found) == (refusal(alarm(aws), topic) is not None)
    for problem in found:
        assert "its policy does not let cloudwatch.amazonaws.com publish" in problem
        assert '"Action":"sns:Publish"' in problem


def test_the_statement_that_is_asked_for_is_enough(aws: AwsSandbox) -> None:
    topic = make_topic(aws)
    set_policy(aws, topic, *POLICIES["tls only"])
    (problem,) = problems(aws, topic)
    wanted = json.loads(problem[problem.index("{") :])
    set_policy(aws, topic, *POLICIES["tls only"], wanted)
    assert problems(aws, topic) == ()
    assert refusal(alarm(aws), topic) is None


def test_a_topic_begins_with_a_policy_that_lets_alarms_in(aws: AwsSandbox) -> None:
    assert problems(aws, make_topic(aws)) == ()


@pytest.mark.parametrize("named", ["id", "arn", "alias"])
def test_so_must_the_key_that_encrypts_it(aws: AwsSandbox, named: str) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/topics", TargetKeyId=key["KeyId"])
    names = {"id": key["KeyId"], "arn": key["Arn"], "alias": "alias/topics"}
    topic = make_topic(aws, KmsMasterKeyId=names[named])
    (problem,) = problems(aws, topic)
    assert refusal(alarm(aws), topic)
    assert "the policy of its key does not let cloudwatch.amazonaws.com use it" in problem
    policy = json.loads(kms.get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"])
    policy["Statement"].append(json.loads(problem[problem.index("{") :]))
    kms.put_key_policy(KeyId=key["KeyId"], PolicyName="default", Policy=json.dumps(policy))
    assert problems(aws, topic) == ()
    assert refusal(alarm(aws), topic) is None


def test_a_topic_of_another_account_that_cannot_be_looked_at_is_a_note(aws: AwsSandbox) -> None:
    """Its owner lets alarms publish, and hardly ever lets this account read its settings."""
    with refusing("GetTopicAttributes", code="AuthorizationError"):
        estate = looked_at(aws, adopt={"topics": {"page": ELSEWHERE, "ticket": ELSEWHERE}})
    assert estate.problems == ()
    note, _ = estate.notes
    assert f"adopt.topics.page: {ELSEWHERE} cannot be looked at from here" in note
    assert "aws cloudwatch set-alarm-state" in note


def test_a_topic_of_another_region_is_named_as_such(aws: AwsSandbox) -> None:
    (problem,) = problems(aws, ELSEWHERE.replace("eu-central-1", "us-east-1"))
    assert "is in us-east-1; an alarm publishes in its own region only" in problem


def test_an_adopted_topic_may_have_the_name_that_a_made_one_would_have(aws: AwsSandbox) -> None:
    topic = make_topic(aws, name="lockstep-page")
    assert problems(aws, topic) == ()
    make_topic(aws, name="lockstep-ticket")
    (problem,) = problems(aws, topic)
    assert "AWS::SNS::Topic lockstep-ticket exists" in problem
