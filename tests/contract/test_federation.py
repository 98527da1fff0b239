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
from datetime import timedelta
from functools import partial

import pytest
from msgspec import structs

from lockstep.aws.clients import botocore_session, translated
from lockstep.protocol.deadlines import CloudTimeouts, Timeouts
from lockstep.protocol.errors import STORE_ERRORS, LockstepError, StoreAccessDeniedError, described
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import OCI_ENDPOINT_VARIABLE
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.names import Trouble
from sandbox.emulators.oci.wire import Reply
from tests.contract.federated import CLIENT_ID, CLIENT_SECRET, GENERATE, OCI_FUNCTION, STANDBY, Federated

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


def test_a_domain_that_cannot_read_the_keys_of_aws_refuses(world: Federated) -> None:
    """The domain's answer is another one each time; none of them gives a session, and each names the side."""
    world.timeouts = HASTY
    for trouble in Trouble:
        world.aws.names.troubles[world.aws.web_identity.host] = trouble
        error, cause = refusal(world)
        assert error in {DENIED, UNREACHABLE}, trouble
        assert cause in {"DomainTokenRefusedError", "DomainUnreachableError", "EndpointUnreachableError"}


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
    "a lost reply": lambda o: o.faults.drop_reply(EXCHANGE),
    "a cut one": lambda o: o.faults.cut(EXCHANGE),
    "a slow one": lambda o: o.faults.trickle(EXCHANGE, seconds=0.03),
    "unavailable": lambda o: o.faults.refuse(EXCHANGE, status=503, code="temporarily_unavailable"),
}

REPLIES: dict[str, Reply] = {
    "a page of a proxy": Reply(200, {"content-type": "text/html"}, b"<html>Log in</html>"),
    "nothing": Reply(200, {}, b""),
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
    assert exchanges(world) == 1
    world.oci.domain.end_sessions()
    assert refusal(world, clouds)[0] == UNREACHABLE
    assert secrets(world, clouds) == []
    assert exchanges(world) == 2
    with world.oci.faults.drop_request(EXCHANGE, times=None):
        world.pass_(3600 - 30)
        assert secrets(world, clouds) == [], "where the domain is down a session lasts to its end"
        world.pass_(31)
        assert refusal(world, clouds)[0] == UNREACHABLE


def exchanges(world: Federated) -> int:
    return world.oci.calls.count(EXCHANGE)


# From OCI to AWS


def items(world: Federated, clouds: Clouds) -> list[object]:
    with translated(STORE_ERRORS, store="aws"):
        found: list[object] = clouds.aws("dynamodb", world.aws.region).scan(TableName="lockstep")["Items"]
        return found


def refusal_in_aws(world: Federated, clouds: Clouds | None = None) -> tuple[str, str]:
    with pytest.raises(LockstepError) as caught:
        items(world, clouds or world.from_oci())
    return type(caught.value).__name__, described(caught.value).name


def _trusts(world: Federated, **conditions: str) -> None:
    host = world.issuer.removeprefix("https://")
    trust = world.trusts_issuer(**{f"{host}:{key}": value for key, value in conditions.items()})
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **trust}]}
    world.aws.client("iam").update_assume_role_policy(RoleName=STANDBY, PolicyDocument=json.dumps(policy))


def test_what_aws_refuses_is_an_error_that_names_the_side(world: Federated) -> None:
    told = (DENIED, "IssuerTokenRefusedError")
    for conditions in ({"sub": "another"}, {"aud": "another"}):
        _trusts(world, **conditions)
        assert refusal_in_aws(world) == told, conditions
    _trusts(world)
    world.clock.ahead = timedelta(minutes=20)  # It is not valid yet.
    assert refusal_in_aws(world) == told
    world.clock.ahead = timedelta()
    assert items(world, world.from_oci()) == []
    world.aws.client("iam").delete_open_id_connect_provider(OpenIDConnectProviderArn=world.provider_arn)
    assert refusal_in_aws(world) == told


def test_documents_that_aws_cannot_read_are_an_error_that_names_the_side(world: Federated) -> None:
    # STS waits for a silent host longer than we wait for STS.
    told = {"IssuerUnreadableError", "EndpointUnreachableError"}
    world.timeouts = HASTY
    for trouble in Trouble:
        world.aws.names.troubles["objectstorage.eu-frankfurt-1.oraclecloud.com"] = trouble
        error, cause = refusal_in_aws(world)
        assert (error, cause in told) == (UNREACHABLE, True), (trouble, cause)
    world.aws.names.troubles.clear()
    assert items(world, world.from_oci()) == []


def test_a_key_that_does_not_sign_is_an_error_that_names_the_side(world: Federated) -> None:
    for state in ("DISABLED", "PENDING_DELETION"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.key, "state", state)
            assert refusal_in_aws(world) == (DENIED, "IssuerKeyRefusedError"), state
    assert items(world, world.from_oci()) == []
    world.oci.identity.forbid(OCI_FUNCTION, "KEY_SIGN")
    assert refusal_in_aws(world) == (DENIED, "IssuerKeyRefusedError")


def test_a_key_is_replaced_with_two_published_and_no_call_fails(world: Federated) -> None:
    first = world.key.current
    old = world.from_oci()
    assert items(world, old) == []
    second = world.new_version()
    world.publish(first.ocid, second.ocid)
    new = world.from_oci(
        to_aws=structs.replace(world.to_aws, key=structs.replace(world.to_aws.key, version=second.ocid))
    )
    for clouds in (old, new):
        world.pass_(900)
        assert items(world, clouds) == []
    world.publish(second.ocid)
    world.pass_(900)
    assert items(world, new) == []
    assert refusal_in_aws(world, old) == (UNREACHABLE, "IssuerUnreadableError")


def test_a_session_that_aws_has_ended_is_replaced_by_the_retry(world: Federated) -> None:
    """As where the process does not know how long it was frozen."""
    clouds = world.from_oci()
    assert items(world, clouds) == items(world, clouds) == []
    world.aws.guard.wall_clock = lambda: time.time() + 1000
    assert refusal_in_aws(world, clouds)[0] == UNREACHABLE
    world.aws.guard.wall_clock = time.time
    assert items(world, clouds) == []
    assert world.oci.calls.count("sign") == 2


# Both


def test_nothing_that_proves_an_identity_is_logged(
    world: Federated, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    clouds, standby = world.from_aws(), world.from_oci()
    secrets(world, clouds)
    items(world, standby)
    world.trust.client_claim_values = ("another",)
    _trusts(world, sub="another")
    refusal(world)
    refusal_in_aws(world)
    out, err = capfd.readouterr()
    told = "\n".join([caplog.text, out, err, *(str(vars(record)) for record in caplog.records)])
    assert told
    assert not JWT.search(told), JWT.search(told)
    assert CLIENT_SECRET not in told
    assert base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode() not in told
