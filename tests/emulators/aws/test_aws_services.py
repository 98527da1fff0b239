"""Secrets Manager, KMS, SNS, CloudWatch and CloudFormation in the sandbox refuse what AWS refuses."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.alarms import ALARM, NO_DATA, OK, EmbeddedMetricError, embedded, judge
from sandbox.emulators.aws.resources import create_digest_key, create_mac_key
from sandbox.emulators.aws.serving import Rate
from sandbox.watching import Subscriber
from tests.emulators.aws.conftest import policy, refused
from tests.support.aws import Clock

# Secrets Manager

NAME = "multi-cloud/app_user"


def token(generation: int) -> str:
    return f"00000000-0000-4000-8000-{generation:012d}"


class Secret:
    """A secret whose versions are named by numbers; it has 0."""

    def __init__(self, aws: AwsSandbox, clock: Clock) -> None:
        self.client, self.clock = aws.client("secretsmanager"), clock
        self.client.create_secret(Name=NAME, SecretString="value 0", ClientRequestToken=token(0))

    def stage(self, generation: int) -> None:
        given = {"ClientRequestToken": token(generation), "VersionStages": ["AWSPENDING"]}
        self.client.put_secret_value(SecretId=NAME, SecretString=f"value {generation}", **given)

    def move(self, label: str, *, to: int | None = None, off: int | None = None) -> None:
        versions = {"MoveToVersionId": to, "RemoveFromVersionId": off}
        given = {name: token(number) for name, number in versions.items() if number is not None}
        self.client.update_secret_version_stage(SecretId=NAME, VersionStage=label, **given)

    def rotate(self, to: int, *, every_seconds: float, after: int = 0) -> None:
        for generation in range(after + 1, to + 1):
            self.clock.now += every_seconds
            self.stage(generation)
            self.move("AWSCURRENT", to=generation, off=generation - 1)

    def listed(self, **choice: object) -> Any:  # noqa: ANN401 - boto3's reply
        return self.client.list_secret_version_ids(SecretId=NAME, **choice)

    @property
    def labels(self) -> dict[int, set[str]]:
        found = self.client.describe_secret(SecretId=NAME)["VersionIdsToStages"]
        return {int(version[-12:]): set(stages) for version, stages in found.items() if stages}


@pytest.fixture(name="secret")
def _secret(aws: AwsSandbox, clock: Clock) -> Secret:
    return Secret(aws, clock)


def test_a_label_is_moved_only_from_the_version_that_is_named(secret: Secret) -> None:
    secret.stage(1)
    secret.move("AWSCURRENT", to=1, off=0)
    secret.stage(2)
    before = secret.labels
    for label, to, off in (
        ("AWSCURRENT", 2, 0),
        ("AWSCURRENT", 2, None),
        ("AWSCURRENT", 9, 1),
        ("AWSCURRENT", None, 1),
        ("AWSPENDING", 0, None),
    ):
        assert refused(secret.move, label=label, to=to, off=off) == "InvalidParameterException"
        assert secret.labels == before
    secret.move("AWSPENDING", off=2)
    assert secret.labels == {0: {"AWSPREVIOUS"}, 1: {"AWSCURRENT"}}


def test_versions_without_labels_are_listed_on_request_in_pages_and_are_too_many_at_144_a_day(
    secret: Secret,
) -> None:
    secret.rotate(3, every_seconds=1200)
    assert {version["VersionId"] for version in secret.listed()["Versions"]} == {token(2), token(3)}
    first = secret.listed(IncludeDeprecated=True, MaxResults=3)
    rest = secret.listed(IncludeDeprecated=True, MaxResults=3, NextToken=first["NextToken"])
    listed = [*first["Versions"], *rest["Versions"]]
    assert [version["VersionId"] for version in listed] == [token(number) for number in range(4)]
    assert "NextToken" not in rest
    secret.rotate(250, every_seconds=20 * 60, after=3)
    assert 72 < len(secret.listed(IncludeDeprecated=True)["Versions"]) <= 100
    secret.clock.now += 2 * 86400
    assert refused(secret.rotate, to=394, every_seconds=10 * 60, after=250) == "LimitExceededException"


def test_what_is_above_a_rate_is_refused_until_time_passes(secret: Secret, aws: AwsSandbox) -> None:
    aws.rates["secretsmanager"] = Rate(frozenset({"PutSecretValue"}), 2, monotonic=secret.clock)
    put = {"SecretId": NAME, "SecretString": "1"}
    for passed, taken in ((0, 2), (0.5, 1), (60, 2)):
        secret.clock.now += passed
        for _ in range(taken):
            secret.client.put_secret_value(**put)
        assert refused(secret.client.put_secret_value, **put) == "ThrottlingException"
        secret.client.get_secret_value(SecretId=NAME)


# KMS

PKCS1 = "RSASSA_PKCS1_V1_5_SHA_256"
DIGEST = hashlib.sha256(b"header.claims").digest()
INVALID = "ValidationException"
EXCLUDED: list[tuple[dict[str, Any], str]] = [
    ({"Message": b"header.claims"}, INVALID),
    ({"Message": b"x" * 4097, "MessageType": "RAW"}, INVALID),
    ({"MessageType": "EXTERNAL_MU"}, INVALID),
    ({"SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_512"}, "UnsupportedOperationException"),
    ({"SigningAlgorithm": "ECDSA_SHA_256"}, "InvalidKeyUsageException"),
    ({"KeyId": "alias/none"}, "NotFoundException"),
    ({"KeyId": "alias/encrypts"}, "InvalidKeyUsageException"),
]


def test_keys_sign_and_make_macs_of_what_the_reference_allows_while_they_are_enabled(aws: AwsSandbox) -> None:
    kms = aws.client("kms")
    key, of_macs = create_digest_key(kms), create_mac_key(kms, "alias/mac")
    encrypts = kms.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/encrypts", TargetKeyId=encrypts)

    def sign(**changed: object) -> object:
        right = {"KeyId": key, "Message": DIGEST, "MessageType": "DIGEST", "SigningAlgorithm": PKCS1}
        return kms.sign(**{**right, **changed})

    def mac(**changed: object) -> bytes:
        right = {"KeyId": "alias/mac", "Message": b"m", "MacAlgorithm": "HMAC_SHA_256"}
        made: bytes = kms.generate_mac(**{**right, **changed})["Mac"]
        return made

    assert [refused(sign, **asked) for asked, _ in EXCLUDED] == [error for _, error in EXCLUDED]
    assert refused(mac, Message=b"x" * 4097) == INVALID
    assert refused(mac, MacAlgorithm="HMAC_SHA_512") == "InvalidKeyUsageException"
    asked = {"Message": b"m", "Mac": mac(), "MacAlgorithm": "HMAC_SHA_256"}
    assert kms.verify_mac(KeyId="alias/mac", **asked)["KeyId"] == of_macs
    ids = [arn.rpartition("/")[2] for arn in (key, of_macs)]
    calls: list[Callable[..., object]] = [sign, lambda: kms.get_public_key(KeyId=key), mac]
    assert all(call() for call in calls)
    for one in ids:
        kms.disable_key(KeyId=one)
    assert [refused(call) for call in calls] == ["DisabledException"] * 3
    for one in ids:
        kms.enable_key(KeyId=one)
        kms.schedule_key_deletion(KeyId=one, PendingWindowInDays=7)
    assert [refused(call) for call in calls] == ["KMSInvalidStateException"] * 3


# Alarms

BEFORE = "the state before"
MISSING_DATA = [
    # M, the newest data point last, then the state with missing, ignore, breaching, notBreaching; N is 3.
    (3, "0-X-X", OK, OK, OK, OK),
    (3, "-----", NO_DATA, BEFORE, ALARM, OK),
    (3, "0XX-X", ALARM, ALARM, ALARM, ALARM),
    (3, "--X--", ALARM, BEFORE, ALARM, OK),
    (2, "0-X-X", ALARM, ALARM, ALARM, ALARM),
    (2, "0-X--", OK, OK, ALARM, OK),
    (2, "----0", OK, OK, ALARM, OK),
    (2, "---X-", ALARM, BEFORE, ALARM, OK),
]


@pytest.mark.parametrize(("least", "points", "missing", "ignore", "breaching", "not_breaching"), MISSING_DATA)
def test_missing_data_is_treated_as_in_the_documentations_tables(
    least: int, points: str, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    found = [
        judge(
            [{"0": 0.0, "X": 1.0, "-": None}[point] for point in points],
            breaches=lambda value: value >= 1,
            evaluation_periods=3,
            datapoints_to_alarm=least,
            treat_missing_data=treatment,
            before=BEFORE,
        )
        for treatment in ("missing", "ignore", "breaching", "notBreaching")
    ]
    assert found == [missing, ignore, breaching, not_breaching]


def test_a_line_that_breaks_the_format_is_found() -> None:
    now = 1_800_000_000.0

    def line(*, at: float = now * 1000, directive: Mapping[str, object] = {}, **changes: object) -> str:
        right = {"Namespace": "N", "Dimensions": [["Stack"]], "Metrics": [{"Name": "Stale"}], **directive}
        told = {"_aws": {"Timestamp": int(at), "CloudWatchMetrics": [right]}, "Stack": "s", "Stale": 2}
        return json.dumps({**told, **changes})

    assert embedded(line(), now=now)
    for broken in (
        line(Stale="2"),
        line(Stack=5),
        line(directive={"Dimensions": []}),
        line(directive={"Metrics": [{"Name": "Another"}]}),
        line(at=now),
        line(at=(now + 3 * 3600) * 1000),
    ):
        with pytest.raises(EmbeddedMetricError):
            embedded(broken, now=now)


ONLY_TLS = {
    "Effect": "Deny",
    "Principal": {"AWS": "*"},
    "Action": "sns:Publish",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}
OWN_ACCOUNT = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
OTHER_ACCOUNT = {"StringEquals": {"aws:SourceAccount": "999999999999"}}
OWN_ALARMS = {"ArnLike": {"AWS:SourceArn": "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:lockstep-*"}}
OTHER_ALARMS = {"ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:*:*:alarm:other-*"}}
ROOT = {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*"}
USE = ["kms:Decrypt", "kms:GenerateDataKey*"]


def _may(condition: Mapping[str, object] | None = None, **changed: object) -> dict[str, Any]:
    alarms = {"Principal": {"Service": "cloudwatch.amazonaws.com"}, "Action": "sns:Publish"}
    return {**alarms, **({"Condition": condition} if condition else {}), **changed}


def test_an_alarm_acts_when_its_state_changes_where_the_policies_of_topic_and_key_allow_it(
    aws: AwsSandbox,
) -> None:
    alarms, sns = aws.client("cloudwatch"), aws.client("sns")
    topic = sns.create_topic(Name="page")["TopicArn"]
    subscriber = Subscriber.of(aws, topic)

    def put() -> None:
        metric = {"Namespace": "N", "MetricName": "Stale", "Statistic": "Maximum", "Period": 300}
        judged = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 1, "EvaluationPeriods": 3}
        alarms.put_metric_alarm(AlarmName="lockstep-Stale", **metric, **judged, AlarmActions=[topic])

    def to(state: str) -> list[str]:
        alarms.set_alarm_state(AlarmName="lockstep-Stale", StateValue=state, StateReason="a test")
        return [told["NewStateValue"] for told in subscriber.received()]

    put()
    assert [a["StateValue"] for a in alarms.describe_alarms()["MetricAlarms"]] == [NO_DATA]
    assert to(ALARM) == [ALARM]
    put()  # A deployment keeps the state.
    assert to(ALARM) == []
    for attribute, statements, arrives in (
        ("Policy", [], False),
        ("Policy", [_may(OTHER_ACCOUNT)], False),
        ("Policy", [_may(OTHER_ALARMS)], False),
        ("Policy", [_may()], True),
        ("Policy", [_may(OWN_ACCOUNT | OWN_ALARMS)], True),
        ("KmsMasterKeyId", [ROOT], False),
        ("KmsMasterKeyId", [ROOT, _may(Action=USE[1:])], False),
        ("KmsMasterKeyId", [ROOT, _may(Action=USE)], True),
    ):
        value = policy(*statements, ONLY_TLS)
        if attribute == "KmsMasterKeyId":
            value = aws.client("kms").create_key(Policy=policy(*statements))["KeyMetadata"]["Arn"]
        sns.set_topic_attributes(TopicArn=topic, AttributeName=attribute, AttributeValue=value)
        to(OK)
        assert to(ALARM) == [ALARM] * arrives, statements


def test_a_stack_with_an_unknown_type_or_boundary_fails(aws: AwsSandbox) -> None:
    boundary = {"PermissionsBoundary": f"arn:aws:iam::{aws.account_id}:policy/none"}
    role = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}, **boundary}}
    unknown = {"Type": "AWS::Nobody::KnowsThis", "Properties": {}}
    for resource, code in ((unknown, "ValidationError"), (role, "NoSuchEntity")):
        body = json.dumps({"Resources": {"It": resource}})
        assert refused(aws.client("cloudformation").create_stack, StackName=code, TemplateBody=body) == code
