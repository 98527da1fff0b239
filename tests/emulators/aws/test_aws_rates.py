"""A service that takes so many calls a second."""

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.rates import Rate
from tests.emulators.aws.conftest import refused
from tests.support.aws import Clock

WRITES = frozenset({"PutSecretValue"})


def test_what_is_above_a_second_is_refused_until_time_passes(aws: AwsSandbox, clock: Clock) -> None:
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="app", SecretString="0")
    rate = aws.rates["secretsmanager"] = Rate(WRITES, 2, monotonic=clock)
    put = {"SecretId": "app", "SecretString": "1"}
    for passed, taken in ((0, 2), (0.5, 1), (60, 2)):
        clock.now += passed
        for _ in range(taken):
            secrets.put_secret_value(**put)
        assert refused(secrets.put_secret_value, **put) == "ThrottlingException"
        secrets.get_secret_value(SecretId="app")
    assert rate.refused == 3
