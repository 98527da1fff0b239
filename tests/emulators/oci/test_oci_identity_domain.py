"""The exchange of an issuer's token: what is given, and every reason to give nothing."""

from datetime import timedelta
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandbox.emulators.oci.identity_domain import UPST, ServiceUser
from tests.emulators.oci.domain_case import (
    CLIENT,
    HOST,
    ISSUER,
    ROLE,
    SECRET,
    DomainCase,
    claims_of,
    curve_key,
    key_named,
    spki,
)
from tests.emulators.oci.oci_case import START

NOT_THE_CLIENT: Final = (401, "invalid_client")
NOT_THE_TOKEN: Final = (400, "invalid_grant")
NOT_THE_REQUEST: Final = (400, "invalid_request")
NOW: Final = int(START.timestamp())
IDENTITY: Final = "https://identity.oraclecloud.com/"
AS_A_USER: Final = {"requested_token_type": UPST, "res_type": None}


def test_a_resource_principals_token(domain: DomainCase) -> None:
    claims = claims_of(domain.token())
    assert (claims["sub"], claims["ptype"], claims["res_type"]) == (ROLE, "resource", "lockstep")
    assert (claims["iat"], claims["exp"]) == (NOW, NOW + 3600)
    assert jwt.PyJWK.from_json(claims["jwk"]).key == key_named("session").public_key()
    for asked in (900, 43_200):
        assert claims_of(domain.token(rpst_exp=str(asked)))["exp"] == NOW + asked
    for text in ("43201", "0", "-1", "1.5", ""):
        assert domain.refusal(rpst_exp=text) == NOT_THE_REQUEST


def test_a_users_token_does_not_outlive_the_subject_token(domain: DomainCase) -> None:
    domain.trust.impersonation_service_users = (
        ServiceUser("sub eq 'arn:aws:iam::123456789012:role/other'", "other"),
        ServiceUser(f"sub eq {ROLE}", "lockstep-aws"),
        ServiceUser("sub eq *", "last"),
    )
    user = domain.sandbox.identity.principal("lockstep-aws")
    for lives, ends in ((300, 300), (7200, 3600)):
        claims = claims_of(domain.token(**AS_A_USER, subject_token=domain.subject_token(exp=NOW + lives)))
        assert (claims["sub"], claims["ptype"], claims["exp"]) == (user.ocid, "user", NOW + ends)
    assert domain.refusal(requested_token_type=UPST) == NOT_THE_REQUEST
    assert domain.refusal(**AS_A_USER, rpst_exp="60") == NOT_THE_REQUEST
    domain.trust.impersonation_service_users = domain.trust.impersonation_service_users[:1]
    assert domain.refusal(**AS_A_USER) == NOT_THE_TOKEN


# ---- the client


def test_a_client_proves_itself_before_everything_else(domain: DomainCase) -> None:
    for basic in (None, f"{CLIENT}:wrong", f"{CLIENT}:", f"other:{SECRET}", CLIENT, f":{SECRET}"):
        domain.basic = basic
        assert domain.refusal(grant_type="password", subject_token="none") == NOT_THE_CLIENT


def test_a_client_is_active_named_by_an_active_trust_and_proves_itself_once(domain: DomainCase) -> None:
    assert domain.refusal(**domain.assertion()) == NOT_THE_REQUEST
    assert domain.refusal(grant_type="client_credentials") == (400, "unsupported_grant_type")
    domain.trust.is_active = False
    assert domain.refusal() == NOT_THE_TOKEN
    domain.trust.is_active = True
    domain.app.is_active = False
    assert domain.refusal() == NOT_THE_CLIENT
    domain.domain.new_app("other", secret=SECRET)
    domain.basic = f"other:{SECRET}"
    assert domain.refusal() == (400, "unauthorized_client")


@pytest.fixture
def asserting(domain: DomainCase) -> DomainCase:
    """A client that has no secret."""
    domain.basic = domain.app.secret = None
    return domain


def test_an_assertion_takes_the_place_of_the_secret_and_is_good_once(asserting: DomainCase) -> None:
    assert claims_of(asserting.token(**asserting.assertion()))["sub"] == ROLE
    assert asserting.refusal(**asserting.assertion()) == NOT_THE_CLIENT
    # A request that fails later uses it up.
    second = asserting.assertion(jti="second")
    assert asserting.refusal(**second, res_type="other") == NOT_THE_REQUEST
    assert asserting.refusal(**second) == NOT_THE_CLIENT


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        *({"sub": sub} for sub in ("other", None)),
        *({"aud": aud} for aud in (IDENTITY[:-1], [IDENTITY, ISSUER], None)),
        *({"jti": jti} for jti in (None, "")),
        *({"exp": exp} for exp in (None, NOW, NOW + 601)),
        *({"iat": iat} for iat in (None, NOW + 1)),
        {"nbf": NOW + 1},
        {"kid": "other"},
        {"key": key_named("other")},
        {"algorithm": "RS512"},
        {"algorithm": "none", "key": ""},
        {"algorithm": "ES384", "key": curve_key()},
    ],
    ids=" ".join,
)
def test_what_is_wrong_with_an_assertion(asserting: DomainCase, changes: dict[str, Any]) -> None:
    assert asserting.refusal(**asserting.assertion(**changes)) == NOT_THE_CLIENT


# ---- the request


@pytest.mark.parametrize(
    "changes",
    [
        {"grant_type": None},
        {"requested_token_type": None},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"subject_token_type": None},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        *({"res_type": resource} for resource in (None, "", "other", "Lockstep", "lockstep ")),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_request(domain: DomainCase, changes: dict[str, str | None]) -> None:
    assert domain.refusal(**changes) == NOT_THE_REQUEST


def test_the_session_key_is_a_long_rsa_key_as_der(domain: DomainCase) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
    pem = key_named("session").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for key in (None, "no key", spki(short.public_key()), pem.decode()):
        assert domain.refusal(public_key=key) == NOT_THE_REQUEST


# ---- the subject token


@pytest.mark.parametrize(
    "changes",
    [
        *({"iss": iss} for iss in ("https://other.example", None)),
        *({"aud": aud} for aud in ("other", None, ["other"])),
        *({"sub": sub} for sub in (None, "")),
        *({"exp": exp} for exp in (NOW, None, "soon", 1e300)),
        {"nbf": NOW + 1},
        *({"iat": iat} for iat in (NOW + 1, None)),
        {"by": "another"},
    ],
    ids=str,
)
def test_what_is_wrong_with_a_subject_token(domain: DomainCase, changes: dict[str, Any]) -> None:
    assert domain.refusal(subject_token=domain.subject_token(**changes)) == NOT_THE_TOKEN


def test_a_subject_token_is_signed_with_rs256(domain: DomainCase) -> None:
    right = domain.subject_token()
    claims, key = claims_of(right), key_named("one")
    for token in (
        jwt.encode(claims, "", algorithm="none", headers={"kid": "one"}),
        jwt.encode(claims, spki(key.public_key()), algorithm="HS256", headers={"kid": "one"}),
        jwt.encode(claims, key, algorithm="RS512", headers={"kid": "one"}),
        jwt.encode(claims, curve_key(), algorithm="ES384", headers={"kid": "curve"}),
        jwt.encode(claims, key, algorithm="RS256"),
        jwt.encode(claims, key, algorithm="RS256", headers={"kid": "one", "crit": ["b64"]}),
        right.rpartition(".")[0] + ".",
        *("no token", "", "a.b", "a.b.c", "bnVsbA.bnVsbA.AAAA", "e30=.e30=.AAAA"),
    ):
        assert domain.refusal(subject_token=token) == NOT_THE_TOKEN


# ---- the issuer's keys


def test_keys_are_read_once_an_hour_and_for_a_key_that_is_new(domain: DomainCase) -> None:
    for _ in range(3):
        domain.token()
    assert domain.reads == 1
    domain.published = ["one", "two"]
    assert domain.token(subject_token=domain.subject_token(kid="two"))
    assert domain.refusal(subject_token=domain.subject_token(kid="three")) == NOT_THE_TOKEN
    assert domain.reads == 3
    domain.sandbox.names.forget(HOST)
    assert domain.token()  # Those that were read go on without the issuer.
    domain.sandbox.clock.advance(timedelta(hours=1))
    assert domain.refusal() == NOT_THE_TOKEN
