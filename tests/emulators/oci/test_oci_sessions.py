"""What a session token opens: requests that its own key signs, until it ends."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import jwt
import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.emulators.oci import OciSandbox, SandboxClock, identity_domain
from sandbox.oci_resources import create_secret
from tests.emulators.oci.domain_case import ROLE, DomainCase, claims_of, key_named
from tests.emulators.oci.oci_case import START, Untyped, refused


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


def test_the_first_tokens_of_a_process_are_of_one_key() -> None:
    """Functions that start at the same time ask for theirs at the same time."""
    identity_domain._key_of_sessions.cache_clear()
    with OciSandbox(SandboxClock.fixed(START)) as sandbox:
        case = DomainCase(sandbox)
        form = case.form()
        with ThreadPoolExecutor(4) as threads:
            tokens = list(threads.map(lambda _: case.token(**form), range(4)))
        assert all(case.domain.session(token) is not None for token in tokens)


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
