"""Sessions in the other cloud, made by the shipped code with the unmodified SDKs, and all that can be wrong there.

(protocol R19)
"""

import base64
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from lockstep.aws.clients import botocore_session, translated
from lockstep.oci.clients import OciIdentity
from lockstep.plan.file import parse_plan
from lockstep.plan.published import WholePlan
from lockstep.protocol import errors
from lockstep.protocol.deadlines import CloudTimeouts, Timeouts
from lockstep.protocol.model import Engine, Strategy
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.federation import read_document
from lockstep.runtime.identity import DEPLOYER, OCI_ENDPOINT_VARIABLE, OCI_RUNNER, Identity
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.names import Names, Trouble
from sandbox.emulators.oci.wire import Reply
from sandbox.estate import Settings, running_estate
from sandbox.fn import running_function
from sandbox.identities import OCI_FUNCTION, Way, make_identities
from sandbox.oci_resources import names_in
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE
from tests.proof.clock import JumpingClock
from tests.support.memory import make_plan
from tests.support.peer import peer

GENERATE, STANDBY = "lockstep-generate", "lockstep-oci-runner"


class Federated:
    """Both clouds, in which each trusts the workloads of the other one, and Lockstep's own clients.

    Attributes:
        clock: Of the processes that are made.
        timeouts: Of the same.
    """

    def __init__(self, aws: AwsSandbox, oci: OciSandbox) -> None:
        self.aws, self.oci, self.clock, self.timeouts = aws, oci, JumpingClock(), Timeouts()
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
        self.clock.jump(seconds)
        self.oci.identity_clock.advance(timedelta(seconds=seconds))
        self.aws.guard.wall_clock = lambda: self.clock.now().timestamp()

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
    with clients.translated(errors.STORE_ERRORS, store="oci"):
        return [s.secret_name for s in clients.vaults.list_secrets(world.oci.compartment_id).data]


def test_in_oci_no_identity_of_aws_is_looked_for(world: Federated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last place of botocore's search is an address that in OCI is that of OCI's own metadata."""
    botocore_session.cache_clear()
    sought = "lockstep.aws.clients._OfEnvironment._look"
    monkeypatch.setattr(sought, lambda _: pytest.fail("it is looked for"))
    assert items(world, world.from_oci()) == []


# From AWS to OCI


def refusal(
    world: Federated, clouds: Clouds | None = None, act: Callable[..., object] = secrets
) -> tuple[str, str]:
    """The error of a port, and what a person is told."""
    with pytest.raises(errors.LockstepError) as caught:
        act(world, clouds or world.from_aws())
    assert not JWT.search(f"{caught.value} {caught.value.__cause__}")
    return type(caught.value).__name__, errors.described(caught.value).name


DENIED, UNREACHABLE = "StoreAccessDeniedError", "StoreUnreachableError"
TOKEN, CLIENT = (DENIED, "DomainTokenRefusedError"), (DENIED, "DomainClientRefusedError")
BROKEN: dict[str, tuple[Callable[[Federated], object], str, object, tuple[str, str]]] = {
    "another audience": (lambda w: w.trust, "client_claim_values", ("another",), TOKEN),
    "it has expired": (lambda w: w.aws.web_identity, "clock_ahead_seconds", -600, TOKEN),
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
    with pytest.raises(errors.StoreAccessDeniedError) as caught:
        secrets(world, world.from_aws())
    assert "aws iam enable-outbound-web-identity-federation" in str(caught.value.__cause__)
    world.aws.client("iam").delete_role_policy(RoleName=GENERATE, PolicyName="lockstep")
    assert refusal(world) == (DENIED, "AwsActionDeniedError")


EXCHANGE = "exchange_token"
HASTY = Timeouts(cloud=CloudTimeouts(read_seconds=2.0))
FAULTS: dict[str, Callable[[OciSandbox], object]] = {
    "none": lambda o: o.faults.hang(EXCHANGE),
    "a cut one": lambda o: o.faults.cut(EXCHANGE),
    "a slow one": lambda o: o.faults.trickle(EXCHANGE, seconds=0.03),
    "unavailable": lambda o: o.faults.refuse(EXCHANGE, status=503, code="temporarily_unavailable"),
}
REPLIES: dict[str, Reply] = {
    "a page of a proxy": Reply(200, {"content-type": "text/html"}, b"<html>Log in</html>"),
    "a token without an end": Reply(200, {}, b'{"token": "e30.e30.e30"}'),
    "58 minutes": Reply(200, {}, b'{"token": "e30.eyJpYXQiOiAwLCAiZXhwIjogMzQ4MH0.e30"}'),
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
    with pytest.raises(errors.StoreAccessDeniedError) as caught:
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
    with translated(errors.STORE_ERRORS, store="aws"):
        found: list[object] = clouds.aws("dynamodb", world.aws.region).scan(TableName="lockstep")["Items"]
        return found


def refusal_in_aws(world: Federated) -> tuple[str, str]:
    return refusal(world, world.from_oci(), items)


def _trusts(world: Federated, key: str, value: str) -> None:
    iam = world.aws.client("iam")
    policy = iam.get_role(RoleName=STANDBY)["Role"]["AssumeRolePolicyDocument"]
    issuer = world.identities.section["oci"]["federation"]["issuer"].removeprefix("https://")
    policy["Statement"][0]["Condition"]["StringEquals"][f"{issuer}:{key}"] = value
    iam.update_assume_role_policy(RoleName=STANDBY, PolicyDocument=json.dumps(policy))


def test_what_aws_refuses_or_cannot_read_is_an_error_that_names_the_side(
    world: Federated, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = (DENIED, "IssuerTokenRefusedError")
    for key, own in (("sub", STANDBY), ("aud", "sts.amazonaws.com")):
        _trusts(world, key, "another")
        assert refusal_in_aws(world) == told, key
        _trusts(world, key, own)
    with monkeypatch.context() as patch:  # It is not valid yet.
        patch.setattr(world.clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=20))
        assert refusal_in_aws(world) == told
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


# How the issuer's documents are read: through the machine's proxy, and from nobody else; what bounds it, is above


def read(port: int) -> bytes:
    clouds = Clouds(WholePlan(make_plan().compiled), DEPLOYER, timeouts=HASTY)
    return read_document(f"https://localhost:{port}/o/jwks.json", clouds)


def test_what_a_verifier_would_not_take_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (OCI_ENDPOINT_VARIABLE, "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Names() as names:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(names.ca_file))
        names.serve("localhost", lambda _: Reply(200, body=b"x" * 5000))
        assert read(names.port) == b"x" * 5000
        for trouble, problem in {
            Trouble.SILENT: errors.Environment.ENDPOINT_UNREACHABLE,
            Trouble.WRONG_CERTIFICATE: errors.Environment.CERTIFICATE_REFUSED,
            Trouble.UNKNOWN_AUTHORITY: errors.Environment.CERTIFICATE_REFUSED,
            Trouble.REDIRECT: errors.Environment.ISSUER_NOT_PUBLIC,
        }.items():
            names.troubles["localhost"] = trouble
            with pytest.raises(errors.EnvironmentalError) as caught:
                read(names.port)
            assert caught.value.problem is problem, trouble
    # A proxy is asked for a way there, by its user.
    asked: list[bytes] = []
    with peer(lambda client: asked.append(client.recv(4096))) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:a%20word@127.0.0.1:{port}")
        with pytest.raises(errors.EnvironmentalError):
            read(443)
    [request] = asked
    assert request.startswith(b"CONNECT localhost:443 HTTP/1.")
    assert base64.b64encode(b"me:a word") in request


# Rotations by each way to prove an identity

CREDENTIAL = "multi-cloud/app"


@pytest.mark.parametrize("way", Way, ids=lambda way: way.name.lower())
def test_both_runners_rotate_however_they_prove_themselves(
    way: Way, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also by keys; and no token is on record anywhere."""
    caplog.set_level(logging.DEBUG)
    servers = {"orders": MariaDbServer(authority=CertificateAuthority(tmp_path / "ca"))}
    credential = plans.credential(CREDENTIAL, *servers, strategy=Strategy.DUAL_PASSWORD)
    settings = Settings(way=way, audit_tier="Standard")
    with running_estate([credential], servers, folder=tmp_path, settings=settings) as estate:
        execution = estate.rotate(CREDENTIAL, timeout_seconds=180)
        assert execution.status == "SUCCEEDED", execution.cause
        estate.outside.expire_schedule(CREDENTIAL)
        with running_function(estate.function_environment) as function:
            [result] = function.call({"credential_id": CREDENTIAL, "force": True}).body["results"]
            logs = function.log
        [planned] = estate.plan.credentials
        assert (result["generation"], estate.locked_out(planned)) == (2, [])
        assert "holder" not in estate.outside.lock_item(CREDENTIAL)
        assert all(v.problems == [] for v in estate.verify_now(planned))
        out, err = capfd.readouterr()
        client = estate.aws.client
        history = client("stepfunctions").get_execution_history(executionArn=execution.arn, maxResults=1000)
        s3, entries = client("s3"), client("s3").list_objects_v2(Bucket=AUDIT_BUCKET)["Contents"]
        seen = {
            "logs": f"{caplog.text} {[vars(r) for r in caplog.records]} {out} {err} {logs}",
            "history": str(history),
            "lock table": json.dumps(client("dynamodb").scan(TableName=LOCK_TABLE)["Items"]),
            "audit entries": str(
                [s3.get_object(Bucket=AUDIT_BUCKET, Key=e["Key"])["Body"].read() for e in entries]
            ),
        }
        basic = [
            base64.b64encode(f"lockstep_client:{text}".encode()).decode() for text in estate.confidential
        ]
        for place, text in seen.items():
            assert text.strip(), place
            assert not JWT.search(text), place
            assert [secret for secret in (*estate.confidential, *basic) if secret in text] == [], place
