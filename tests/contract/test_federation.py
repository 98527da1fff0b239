"""Sessions in the other cloud, made by the shipped code with the unmodified SDKs, and all that can be wrong there.

(protocol R19)
"""

import base64
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from lockstep.aws.clients import botocore_session, translated
from lockstep.oci.clients import OciIdentity
from lockstep.plan.file import parse_plan
from lockstep.plan.published import WholePlan
from lockstep.protocol.deadlines import CloudTimeouts, Timeouts
from lockstep.protocol.errors import STORE_ERRORS, LockstepError, StoreAccessDeniedError, described
from lockstep.protocol.model import Engine
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import OCI_ENDPOINT_VARIABLE, OCI_RUNNER, Identity
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.names import Trouble
from sandbox.emulators.oci.wire import Reply
from sandbox.identities import OCI_FUNCTION, Way, make_identities
from sandbox.oci_resources import names_in

GENERATE, STANDBY = "lockstep-generate", "lockstep-oci-runner"


@dataclass
class Clock:
    """The machine's time, which a test can set."""

    ahead: timedelta = timedelta()
    passed: float = 0.0

    def __hash__(self) -> int:
        return id(self)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return datetime.now(UTC).timestamp() + self.passed

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


class Federated:
    """Both clouds, in which each trusts the workloads of the other one, and Lockstep's own clients.

    Attributes:
        clock: Of the processes that are made.
        timeouts: Of the same.
    """

    def __init__(self, aws: AwsSandbox, oci: OciSandbox) -> None:
        self.aws, self.oci, self.clock, self.timeouts = aws, oci, Clock(), Timeouts()
        self.identities = make_identities(aws, oci, Way.SESSIONS)
        [(name, self.client_secret)] = self.identities.in_aws.items()
        aws.client("secretsmanager").create_secret(Name=name, SecretString=self.client_secret)
        create_lock_table(aws.client("dynamodb"), "lockstep")
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL)],
            [plans.credential("multi-cloud/app_user", "orders")],
            region=aws.region,
            oci=names_in(oci),
            runners=self.identities.section,
        )
        self.plan = WholePlan(parse_plan(json.dumps(document), base=Path()).compiled)
        [self.app], [self.trust] = oci.domain.apps.values(), oci.domain.trusts.values()
        self.key = oci.keys.key(self.identities.section["oci"]["federation"]["key"]["id"])

    def pass_(self, seconds: float) -> None:
        """Let time pass everywhere."""
        self.clock.passed += seconds
        self.oci.identity_clock.advance(timedelta(seconds=seconds))
        self.aws.guard.wall_clock = lambda: time.time() + self.clock.passed

    def from_aws(self) -> Clouds:
        """A process of a function in AWS."""
        identity = self.identities.of_functions["generate"]
        return Clouds(self.plan, identity, timeouts=self.timeouts, clock=self.clock)

    def from_oci(self) -> Clouds:
        """A process of the function in OCI."""
        own = OciIdentity(config=dict(self.identities.function_key))
        identity = Identity(home="oci", aws=OCI_RUNNER.aws, oci=lambda _reach: own)
        return Clouds(self.plan, identity, timeouts=self.timeouts, clock=self.clock)


JWT = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
REGION = "eu-frankfurt-1"


@pytest.fixture(name="world")
def _world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Federated]:
    with AwsSandbox() as aws, OciSandbox(names=aws.names) as oci:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        monkeypatch.setenv(OCI_ENDPOINT_VARIABLE, oci.endpoint)
        yield Federated(aws, oci)


def secrets(world: Federated, clouds: Clouds) -> list[str]:
    clients = clouds.oci(REGION)
    with clients.translated(STORE_ERRORS, store="oci"):
        return [s.secret_name for s in clients.vaults.list_secrets(world.oci.compartment_id).data]


def test_in_oci_no_identity_of_aws_is_looked_for(world: Federated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last place of botocore's search is an address that in OCI is that of OCI's own metadata."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    botocore_session.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as metadata:
        metadata.settimeout(0)
        address = f"http://127.0.0.1:{metadata.getsockname()[1]}"
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
        assert items(world, world.from_oci()) == []
        with pytest.raises(BlockingIOError):
            metadata.accept()
    botocore_session.cache_clear()


# From AWS to OCI


def refusal(world: Federated, clouds: Clouds | None = None) -> tuple[str, str]:
    """The error of a port, and what a person is told."""
    with pytest.raises(LockstepError) as caught:
        secrets(world, clouds or world.from_aws())
    return type(caught.value).__name__, described(caught.value).name


DENIED, UNREACHABLE = "StoreAccessDeniedError", "StoreUnreachableError"
TOKEN, CLIENT = (DENIED, "DomainTokenRefusedError"), (DENIED, "DomainClientRefusedError")
BROKEN: dict[str, tuple[Callable[[Federated], object], str, object, tuple[str, str]]] = {
    "another audience": (lambda w: w.trust, "client_claim_values", ("another",), TOKEN),
    "it has expired": (lambda w: w.aws.web_identity, "clock_ahead_seconds", -600, TOKEN),
    "the trust is inactive": (lambda w: w.trust, "is_active", False, TOKEN),
    "the application is inactive": (lambda w: w.app, "is_active", False, CLIENT),
    "the application has another secret": (lambda w: w.app, "secret", "another", CLIENT),
}


def test_what_the_domain_refuses_is_an_error_that_names_the_side(world: Federated) -> None:
    for name, (of, attribute, value, told) in BROKEN.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(of(world), attribute, value)
            assert refusal(world) == told, name
    assert secrets(world, world.from_aws()) == []
    # AWS signs with a key that its document does not show (yet).
    host = world.aws.web_identity.host
    old = world.aws.names.fetch(f"https://{host}/.well-known/jwks.json")
    world.aws.web_identity.rotate_key()
    world.aws.names.serve(host, lambda _: Reply(200, body=old))
    assert refusal(world) == TOKEN


def test_what_keeps_aws_from_making_a_token_is_named(world: Federated) -> None:
    clouds = world.from_aws()
    for code, error in (
        ("Throttling", "StoreThrottledError"),
        ("SessionDurationEscalationException", UNREACHABLE),
    ):
        world.aws.web_identity.refusals["GetWebIdentityToken"] = code
        assert refusal(world, clouds)[0] == error
    world.aws.web_identity.refusals.clear()
    assert secrets(world, clouds) == []
    world.aws.web_identity.disable()
    with pytest.raises(StoreAccessDeniedError) as caught:
        secrets(world, world.from_aws())
    assert "aws iam enable-outbound-web-identity-federation" in str(caught.value.__cause__)
    world.aws.client("iam").delete_role_policy(RoleName=GENERATE, PolicyName="lockstep")
    assert refusal(world) == (DENIED, "AwsActionDeniedError")


EXCHANGE = "exchange_token"
HASTY = Timeouts(cloud=CloudTimeouts(read_seconds=2.0))
FAULTS: dict[str, Callable[[OciSandbox], object]] = {
    "none": lambda o: o.faults.hang(EXCHANGE),
    "a lost request": lambda o: o.faults.drop_request(EXCHANGE),
    "a cut one": lambda o: o.faults.cut(EXCHANGE),
    "a slow one": lambda o: o.faults.trickle(EXCHANGE, seconds=0.03),
    "unavailable": lambda o: o.faults.refuse(EXCHANGE, status=503, code="temporarily_unavailable"),
}
REPLIES: dict[str, Reply] = {
    "a page of a proxy": Reply(200, {"content-type": "text/html"}, b"<html>Log in</html>"),
    "no JWT": Reply(200, {}, b'{"token": "a.b.c"}'),
    "a token without an end": Reply(200, {}, b'{"token": "e30.e30.e30"}'),
    "60 hours, of who took the seconds for minutes": Reply(
        200, {}, b'{"token": "e30.eyJpYXQiOiAwLCAiZXhwIjogMjE2MDAwfQ.e30"}'
    ),
    "58 minutes": Reply(200, {}, b'{"token": "e30.eyJpYXQiOiAwLCAiZXhwIjogMzQ4MH0.e30"}'),
    "nested": Reply(200, {}, b"[" * 60000),
    "huge": Reply(200, {}, b'{"token": "' + b"a" * 10_000_000 + b'"}'),
    "another place": Reply(302, {"location": "http://127.0.0.1:9/oauth2/v1/token"}, b""),
}


def test_whatever_the_domain_answers_is_bounded_and_can_be_asked_again(world: Federated) -> None:
    for name in (*FAULTS, *REPLIES):
        world.timeouts = HASTY if name in {"none", "a slow one"} else Timeouts()
        clouds = world.from_aws()
        if name in FAULTS:
            FAULTS[name](world.oci)
        else:
            world.oci.faults.replace(EXCHANGE, reply=REPLIES[name])
        began = time.monotonic()
        assert refusal(world, clouds)[0] == UNREACHABLE, name
        assert time.monotonic() - began < 30.0, name
        assert secrets(world, clouds) == [], name


def test_what_a_domain_says_beyond_the_known_codes_is_shown_nowhere(world: Federated) -> None:
    said = {"error": "hunter2-hunter2", "error_description": "hunter2"}
    world.oci.faults.replace(EXCHANGE, reply=Reply(400, {}, json.dumps(said).encode()))
    with pytest.raises(StoreAccessDeniedError) as caught:
        secrets(world, world.from_aws())
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"
    for date in ("", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"):
        reply = Reply(400, {"date": date}, b'{"error": "invalid_grant"}')
        world.oci.faults.replace(EXCHANGE, reply=reply)
        assert refusal(world) == TOKEN


def test_a_session_is_made_once_and_again_where_it_ended_or_the_service_ended_it(world: Federated) -> None:
    """When it is renewed, and for whom, is in tests/unit/test_sessions.py."""
    clouds = world.from_aws()
    at_the_same_time([partial(secrets, world, clouds)] * 8)
    assert world.oci.calls.count(EXCHANGE) == 1
    world.oci.domain.end_sessions()
    assert refusal(world, clouds)[0] == UNREACHABLE
    assert secrets(world, clouds) == []
    assert world.oci.calls.count(EXCHANGE) == 2
    with world.oci.faults.drop_request(EXCHANGE, times=None):
        world.pass_(3600 - 30)
        assert secrets(world, clouds) == [], "where the domain is down a session lasts to its end"
        world.pass_(31)
        assert refusal(world, clouds)[0] == UNREACHABLE


# From OCI to AWS


def items(world: Federated, clouds: Clouds) -> list[object]:
    with translated(STORE_ERRORS, store="aws"):
        found: list[object] = clouds.aws("dynamodb", world.aws.region).scan(TableName="lockstep")["Items"]
        return found


def refusal_in_aws(world: Federated, clouds: Clouds | None = None) -> tuple[str, str]:
    with pytest.raises(LockstepError) as caught:
        items(world, clouds or world.from_oci())
    return type(caught.value).__name__, described(caught.value).name


def _trusts(world: Federated, key: str, value: str) -> None:
    iam = world.aws.client("iam")
    policy = iam.get_role(RoleName=STANDBY)["Role"]["AssumeRolePolicyDocument"]
    issuer = world.identities.section["oci"]["federation"]["issuer"].removeprefix("https://")
    policy["Statement"][0]["Condition"]["StringEquals"][f"{issuer}:{key}"] = value
    iam.update_assume_role_policy(RoleName=STANDBY, PolicyDocument=json.dumps(policy))


def test_what_aws_refuses_or_cannot_read_is_an_error_that_names_the_side(world: Federated) -> None:
    told = (DENIED, "IssuerTokenRefusedError")
    for key, own in (("sub", STANDBY), ("aud", "sts.amazonaws.com")):
        _trusts(world, key, "another")
        assert refusal_in_aws(world) == told, key
        _trusts(world, key, own)
    world.clock.ahead = timedelta(minutes=20)  # It is not valid yet.
    assert refusal_in_aws(world) == told
    world.clock.ahead = timedelta()
    host = "objectstorage.eu-frankfurt-1.oraclecloud.com"
    for trouble, cause in (
        (Trouble.NOT_FOUND, "IssuerUnreadableError"),
        (Trouble.SILENT, "EndpointUnreachableError"),
    ):
        world.timeouts = HASTY  # STS waits for a silent host longer than we wait for STS.
        world.aws.names.troubles[host] = trouble
        assert refusal_in_aws(world) == (UNREACHABLE, cause)
    world.aws.names.troubles.clear()
    assert items(world, world.from_oci()) == []
    iam = world.aws.client("iam")
    [provider] = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider["Arn"])
    assert refusal_in_aws(world) == told


def test_a_key_that_does_not_sign_is_an_error_that_names_the_side(world: Federated) -> None:
    for state in ("DISABLED", "PENDING_DELETION"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.key, "state", state)
            assert refusal_in_aws(world) == (DENIED, "IssuerKeyRefusedError"), state
    assert items(world, world.from_oci()) == []
    world.oci.identity.forbid(OCI_FUNCTION, "KEY_SIGN")
    assert refusal_in_aws(world) == (DENIED, "IssuerKeyRefusedError")


# Both


def test_nothing_that_proves_an_identity_is_logged(
    world: Federated, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    clouds, standby = world.from_aws(), world.from_oci()
    secrets(world, clouds)
    items(world, standby)
    world.trust.client_claim_values = ("another",)
    _trusts(world, "sub", "another")
    refusal(world)
    refusal_in_aws(world)
    out, err = capfd.readouterr()
    told = "\n".join([caplog.text, out, err, *(str(vars(record)) for record in caplog.records)])
    assert told
    assert not JWT.search(told), JWT.search(told)
    assert world.client_secret not in told
    basic = base64.b64encode(f"lockstep_client:{world.client_secret}".encode()).decode()
    assert basic not in told
