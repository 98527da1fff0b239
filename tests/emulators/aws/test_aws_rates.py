"""A service that takes so many calls a second."""

import pytest
from botocore.exceptions import ClientError

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.rates import Rate
from tests.emulators.aws.conftest import Clock

WRITES = frozenset({"PutSecretValue"})


def test_what_is_above_a_second_is_refused_until_time_passes(clock: Clock) -> None:
    rate = Rate(WRITES, 2, monotonic=clock)
    assert [rate.takes("PutSecretValue") for _ in range(3)] == [True, True, False]
    assert rate.takes("GetSecretValue")
    clock.now += 0.5
    assert [rate.takes("PutSecretValue") for _ in range(2)] == [True, False]
    clock.now += 60
    assert [rate.takes("PutSecretValue") for _ in range(3)] == [True, True, False]
    assert rate.refused == 3


def test_secrets_manager_answers_as_aws_does(aws: AwsSandbox, clock: Clock) -> None:
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="app", SecretString="0")
    rate = aws.rates["secretsmanager"] = Rate(WRITES, 1, monotonic=clock)
    secrets.put_secret_value(SecretId="app", SecretString="1")
    with pytest.raises(ClientError) as refused:
        secrets.put_secret_value(SecretId="app", SecretString="2")
    assert refused.value.response["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
    assert (rate.refused, secrets.get_secret_value(SecretId="app")["SecretString"]) == (1, "1")
