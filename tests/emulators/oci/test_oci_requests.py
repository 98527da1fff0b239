"""Requests: their signatures, what a session token opens, calls of functions, and a call that hangs."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import jwt
import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from oci._vendor import requests  # type: ignore[import-untyped]  # the SDK ships no types

from sandbox.emulators.oci import OciSandbox, SandboxClock
from sandbox.emulators.oci.deployment import MAX_BODY_BYTES
from sandbox.oci_resources import create_secret
from tests.emulators.oci.domain_case import ROLE, DomainCase, claims_of, key_named
from tests.emulators.oci.oci_case import START, OciCase, Untyped, lost, refused

FUNCTION_ID = "ocid1.fnfunc.oc1..rotate"
SECONDS = 60
"""How long a test waits for another thread at most."""

Change = Callable[[Untyped], object]


def send(
    case: OciCase,
    change: Change | None = None,
    *,
    date: datetime | None = None,
    covered: tuple[str, ...] = ("date", "(request-target)", "host"),
    body_too: bool = True,
    **fields: str,
) -> int:
    """The status of a signed UpdateSecret that `change` alters after the signature."""
    secret = case.create(f"secret.{len(case.sandbox.calls.records)}")
    signer = oci.signer.Signer.from_config({**case.sandbox.config(), "key_file": None, **fields})
    body = ["content-length", "content-type", "x-content-sha256"]
    signer.create_signers(signer.api_key, signer.private_key, list(covered), body)
    request = requests.Request(
        "PUT",
        f"{case.sandbox.endpoint}/20180608/secrets/{secret}",
        data=b'{"description": "mine"}',
        headers={"content-type": "application/json"},
    ).prepare()
    if date is not None:
        request.headers["date"] = format_datetime(date, usegmt=True)
    (signer if body_too else signer.without_content_headers)(request)
    if change is not None:
        change(request)
    status: int = requests.Session().send(request, timeout=10).status_code
    return status


CHANGES: dict[str, Change] = {
    "no signature": lambda request: request.headers.pop("authorization"),
    "another body": lambda request: setattr(request, "body", b'{"description": "tamp"}'),
    "another path": lambda request: setattr(request, "url", f"{request.url}x"),
    "another algorithm": lambda request: request.headers.update(
        authorization=request.headers["authorization"].replace("rsa-sha256", "hmac-sha256")
    ),
}


def test_a_signature_is_by_the_users_key_and_covers_date_target_host_and_body(case: OciCase) -> None:
    assert send(case) == 200
    for name, change in CHANGES.items():
        assert send(case, change) == 401, name
    for covered in (("date", "(request-target)"), ("(request-target)", "host"), ("date", "host")):
        assert send(case, covered=covered) == 401
    assert send(case, body_too=False) == 401
    assert send(case, key_content=case.sandbox.new_api_key("other")["key_content"]) == 401
    # A date may be five minutes off.
    for minutes, status in ((-6, 401), (-4, 200), (4, 200), (6, 401)):
        assert send(case, date=datetime.now(UTC) + timedelta(minutes=minutes)) == status


def test_scheduling_a_version_deletion_needs_two_permissions(case: OciCase) -> None:
    secret = case.create()
    for name in ("g2", "g3"):
        case.upload(secret, name)
    details = oci.vault.models.ScheduleSecretVersionDeletionDetails()
    vaults, _, _ = case.clients(case.sandbox.new_api_key("rotator", "SECRET_VERSION_DELETE", resource=secret))
    with refused(404, "NotAuthorizedOrNotFound"):
        vaults.schedule_secret_version_deletion(secret, 1, details)
    case.sandbox.identity.permit("rotator", "SECRET_UPDATE", resource=secret)
    assert vaults.schedule_secret_version_deletion(secret, 1, details).status == 200


# ---- sessions


@pytest.fixture
def secret(domain: DomainCase) -> str:
    domain.sandbox.identity.permit(ROLE, "SECRET_READ")
    return create_secret(domain.sandbox, "mine", b"value")


def client(domain: DomainCase, token: str, key: rsa.RSAPrivateKey | None = None) -> Untyped:
    return oci.vault.VaultsClient(
        {"region": "eu-frankfurt-1"},
        signer=oci.auth.signers.SecurityTokenSigner(token, key or key_named("session")),
        service_endpoint=domain.sandbox.endpoint,
        retry_strategy=oci.retry.NoneRetryStrategy(),
        circuit_breaker_strategy=oci.circuit_breaker.NoCircuitBreakerStrategy(),
        timeout=(10, 10),
    )


def test_a_workload_is_not_the_user_of_its_name(domain: DomainCase, secret: str) -> None:
    domain.sandbox.identity.permit("administrator-of-secrets", "SECRET_READ")
    same = domain.subject_token(sub="administrator-of-secrets")
    with refused(404, "NotAuthorizedOrNotFound"):
        client(domain, domain.token(subject_token=same)).get_secret(secret)


def test_a_session_ends_by_the_clock_not_with_its_app_or_trust(domain: DomainCase, secret: str) -> None:
    session = client(domain, domain.token())
    domain.app.is_active = domain.trust.is_active = False
    assert domain.post().status == 401
    domain.sandbox.clock.advance(timedelta(seconds=3599))
    assert session.get_secret(secret).status == 200
    domain.sandbox.clock.advance(timedelta(seconds=1))
    with refused(401, "NotAuthenticated"):
        session.get_secret(secret)


def test_another_signers_token_and_another_key_open_nothing(domain: DomainCase, secret: str) -> None:
    token = domain.token()
    claims, headers = claims_of(token), jwt.get_unverified_header(token)
    forged = jwt.encode(claims, key_named("session"), algorithm="RS256", headers=headers)
    unsigned = jwt.encode(claims, "", algorithm="none")
    with OciSandbox(SandboxClock.fixed(START)) as other:
        of_another_domain = DomainCase(other).token()
    for wrong in (forged, unsigned, of_another_domain, domain.subject_token(), "", "x.y.z"):
        with refused(401, "NotAuthenticated"):
            client(domain, wrong).get_secret(secret)
    with refused(401, "NotAuthenticated"):
        client(domain, token, key_named("another")).get_secret(secret)


# ---- calls of functions


@pytest.fixture
def sandbox() -> Iterator[OciSandbox]:
    with OciSandbox() as sandbox:
        here = {"compartmentId": sandbox.own_compartment_id, "invokeEndpoint": sandbox.endpoint}
        sandbox.deployment.functions = [{"id": FUNCTION_ID, **here}]
        yield sandbox


@pytest.fixture
def slow(sandbox: OciSandbox) -> Iterator[list[bytes]]:
    """A function that ends with the test; what it was called with."""
    called, may_end = list[bytes](), threading.Event()

    def run(body: bytes) -> tuple[int, bytes]:
        called.append(body)
        return 200 if may_end.wait(SECONDS) else 504, b""

    sandbox.functions.code[FUNCTION_ID] = run
    yield called
    may_end.set()
    sandbox.functions.finish(seconds=SECONDS)


def invoke(
    sandbox: OciSandbox, body: bytes = b"{}", kind: str = "detached", config: dict[str, str] | None = None
) -> int:
    # The SDK's own method lets no other kind through.
    reply = sandbox.client(oci.functions.FunctionsInvokeClient, config).base_client.call_api(
        resource_path="/functions/{functionId}/actions/invoke",
        method="POST",
        path_params={"functionId": FUNCTION_ID},
        header_params={"fn-invoke-type": kind, "content-type": "application/octet-stream"},
        body=body,
    )
    return int(reply.status)


def test_what_the_service_refuses_is_refused(sandbox: OciSandbox, slow: list[bytes]) -> None:
    with refused(400, "InvalidParameter"):
        invoke(sandbox, kind="later")
    with refused(413, "RequestEntityTooLarge"):
        invoke(sandbox, b"x" * (MAX_BODY_BYTES + 1))
    reader = sandbox.new_api_key("other", "FN_FUNCTION_READ", compartment=sandbox.own_compartment_id)
    with refused(404, "NotAuthorizedOrNotFound"):
        invoke(sandbox, config=reader)
    assert slow == []
    assert {invoke(sandbox) for _ in range(sandbox.functions.most_waiting)} == {202}
    with refused(429, "TooManyRequests"):
        invoke(sandbox)


def test_a_hanging_call_never_takes_effect(case: OciCase) -> None:
    secret = case.create()
    impatient, _, _ = case.clients(timeout_seconds=1)
    details = oci.vault.models.UpdateSecretDetails(description="late")
    with case.sandbox.faults.hang("update_secret") as fault:
        with lost():
            impatient.update_secret(secret, details)
        # A busy server may take the call up when its client has left.
        assert fault.struck.wait(SECONDS)
    assert case.vaults.get_secret(secret).data.description is None
