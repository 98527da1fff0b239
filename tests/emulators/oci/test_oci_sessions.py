"""What a session token opens: requests that its own key signs, until it ends."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import jwt
import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.emulators.oci import OciSandbox, SandboxClock, identity_domain
from sandbox.emulators.oci.trusts import ServiceUser
from sandbox.oci_resources import create_secret
from tests.emulators.oci.domain_case import ROLE, UPST, DomainCase, claims_of, key_named
from tests.emulators.oci.oci_case import START, Untyped, refused


@pytest.fixture
def case() -> Iterator[DomainCase]:
    with OciSandbox(SandboxClock.fixed(START)) as sandbox:
        yield DomainCase(sandbox)


@pytest.fixture
def secret(case: DomainCase) -> str:
    case.sandbox.identity.permit(ROLE, "SECRET_READ")
    return create_secret(case.sandbox, "mine", b"value")


def client(case: DomainCase, token: str, key: rsa.RSAPrivateKey | None = None) -> Untyped:
    return oci.vault.VaultsClient(
        {"region": "eu-frankfurt-1"},
        signer=oci.auth.signers.SecurityTokenSigner(token, key or key_named("session")),
        service_endpoint=case.sandbox.endpoint,
        retry_strategy=oci.retry.NoneRetryStrategy(),
        circuit_breaker_strategy=oci.circuit_breaker.NoCircuitBreakerStrategy(),
        timeout=(10, 10),
    )


def test_a_role_may_do_what_policies_give_to_its_name(case: DomainCase, secret: str) -> None:
    session = client(case, case.token())
    assert session.get_secret(secret).data.id == secret
    with refused(404, "NotAuthorizedOrNotFound"):
        session.list_secrets(case.sandbox.compartment_id)
    case.sandbox.identity.forbid(ROLE, "SECRET_READ")
    with refused(404, "NotAuthorizedOrNotFound"):
        session.get_secret(secret)
    assert case.sandbox.calls.count(principal=ROLE) == 3


def test_the_first_tokens_of_a_process_are_of_one_key() -> None:
    """Functions that start at the same time ask for theirs at the same time."""
    identity_domain._key_of_sessions.cache_clear()
    with OciSandbox(SandboxClock.fixed(START)) as sandbox:
        case = DomainCase(sandbox)
        form = case.form()
        with ThreadPoolExecutor(4) as threads:
            tokens = list(threads.map(lambda _: case.token(**form), range(4)))
        assert [case.domain.session(token, "secrets") is not None for token in tokens] == [True] * 4


def test_a_workload_is_not_the_user_of_its_name(case: DomainCase, secret: str) -> None:
    case.sandbox.identity.permit("administrator-of-secrets", "SECRET_READ")
    same = case.subject_token(sub="administrator-of-secrets")
    with refused(404, "NotAuthorizedOrNotFound"):
        client(case, case.token(subject_token=same)).get_secret(secret)


def test_a_user_may_do_what_it_may_with_its_keys(case: DomainCase, secret: str) -> None:
    case.trust.impersonation_service_users = (ServiceUser("sub eq *", "lockstep-aws"),)
    session = client(case, case.token(requested_token_type=UPST, res_type=None))
    with refused(404, "NotAuthorizedOrNotFound"):
        session.get_secret(secret)
    case.sandbox.identity.permit("lockstep-aws", "SECRET_READ")
    assert session.get_secret(secret).data.id == secret


def test_only_the_key_of_the_exchange_signs(case: DomainCase, secret: str) -> None:
    token = case.token()
    with refused(401, "NotAuthenticated"):
        client(case, token, key_named("another")).get_secret(secret)


def test_a_session_ends_by_the_sandboxs_clock(case: DomainCase, secret: str) -> None:
    session = client(case, case.token())
    case.sandbox.clock.advance(timedelta(seconds=3599))
    assert session.get_secret(secret).status == 200
    case.sandbox.clock.advance(timedelta(seconds=1))
    with refused(401, "NotAuthenticated"):
        session.get_secret(secret)


@pytest.mark.parametrize("what", ["app", "trust"])
def test_a_session_outlives_its_app_and_its_trust(case: DomainCase, secret: str, what: str) -> None:
    session = client(case, case.token())
    if what == "app":
        case.app.is_active = False
    else:
        case.trust.is_active = False
    assert case.post().status in {400, 401}
    assert session.get_secret(secret).status == 200
    case.domain.end_sessions()
    with refused(401, "NotAuthenticated"):
        session.get_secret(secret)


def test_a_token_of_another_signer_opens_nothing(case: DomainCase, secret: str) -> None:
    token = case.token()
    claims, headers = claims_of(token), jwt.get_unverified_header(token)
    forged = jwt.encode(claims, key_named("session"), algorithm="RS256", headers=headers)
    unsigned = jwt.encode(claims, "", algorithm="none")
    for other in (forged, unsigned, case.subject_token(), "", "x.y.z"):
        with refused(401, "NotAuthenticated"):
            client(case, other).get_secret(secret)


def test_a_token_of_another_domain_opens_nothing(case: DomainCase, secret: str) -> None:
    with OciSandbox(SandboxClock.fixed(START)) as other:
        token = DomainCase(other).token()
    with refused(401, "NotAuthenticated"):
        client(case, token).get_secret(secret)


def test_a_service_may_not_take_a_resource_principals(case: DomainCase, secret: str) -> None:
    case.domain.behaviour.without_rpst = {"vault"}
    with refused(401, "NotAuthenticated"):
        client(case, case.token()).get_secret(secret)
    case.trust.impersonation_service_users = (ServiceUser("sub eq *", "lockstep-aws"),)
    case.sandbox.identity.permit("lockstep-aws", "SECRET_READ")
    assert client(case, case.token(requested_token_type=UPST, res_type=None)).get_secret(secret).status == 200
