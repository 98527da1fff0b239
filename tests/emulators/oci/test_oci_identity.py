"""Who may ask: the domain's exchange of an issuer's token, sessions, signatures of requests, and names over HTTPS."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import jwt
import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
import urllib3
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from oci._vendor import requests  # type: ignore[import-untyped]  # the SDK ships no types

from sandbox.emulators.oci import OciSandbox, SandboxClock
from sandbox.emulators.oci.identity import new_private_key
from sandbox.emulators.oci.identity_domain import ASSERTION, EXCHANGE, RPST, UPST, ServiceUser
from sandbox.emulators.oci.names import LIMIT_BYTES, WITHIN_SECONDS, FetchError, Names, Trouble
from sandbox.emulators.oci.wire import Reply
from sandbox.oci_resources import create_secret
from tests.emulators.oci.conftest import NOT_AUTHENTICATED, NOT_FOUND, START, OciCase, Untyped, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

HOST: Final = "0f3c7b1a.tokens.sts.global.api.aws"
ISSUER: Final = f"https://{HOST}"
ROLE: Final = "arn:aws:iam::123456789012:role/lockstep/runner"
CLIENT, SECRET = "lockstep-client", "a-secret-of-the-client"
IDENTITY: Final = "https://identity.oraclecloud.com/"
NOW: Final = int(START.timestamp())
NOT_THE_CLIENT: Final = (401, "invalid_client")
NOT_THE_TOKEN: Final = (400, "invalid_grant")
NOT_THE_REQUEST: Final = (400, "invalid_request")
AS_A_USER: Final = {"requested_token_type": UPST, "res_type": None}


@cache
def key_named(_name: str) -> rsa.RSAPrivateKey:
    """A key pair, the same whenever it is asked for: making one takes long."""
    return new_private_key()


@cache
def curve_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def spki(key: rsa.RSAPrivateKey) -> str:
    """As `public_key` wants it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def signed(told: dict[str, Any]) -> str:
    """A token of what is told, which is its claims beside `kid`, `key`, `algorithm` and `headers`; None is left out."""
    told = {"algorithm": "RS256", "headers": {}, **told}
    headers = {"kid": told.pop("kid"), **told.pop("headers")}
    how = {"key": told.pop("key"), "algorithm": told.pop("algorithm")}
    claims, headers = ({k: v for k, v in part.items() if v is not None} for part in (told, headers))
    return jwt.encode(claims, **how, headers=headers)


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, without any proof."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


class Domain:
    """A domain that trusts an issuer of elsewhere, with a client that may exchange its tokens.

    A change to None leaves a claim, or a parameter of a request, out.
    """

    def __init__(self, sandbox: OciSandbox) -> None:
        self.sandbox = sandbox
        certificates = {"lockstep": key_named("client").public_key()}
        self.app = sandbox.domain.new_app(CLIENT, secret=SECRET, certificates=certificates)
        self.trust = sandbox.domain.new_trust(issuer=ISSUER, clients={CLIENT})
        self.published, self.reads = ["one"], 0
        sandbox.names.serve(HOST, self._jwks)
        self.basic: str | None = f"{CLIENT}:{SECRET}"

    def _jwks(self, target: str) -> Reply:
        if target != "/.well-known/jwks.json":
            return Reply(404)
        self.reads += 1
        curve = ECAlgorithm.to_jwk(curve_key().public_key(), as_dict=True) | {"kid": "curve"}
        own = [
            RSAAlgorithm.to_jwk(key_named(kid).public_key(), as_dict=True) | {"kid": kid, "alg": "RS256"}
            for kid in self.published
        ]
        keys = [{**key, "use": "sig"} for key in (curve, *own)]
        return Reply(200, body=json.dumps({"keys": keys}).encode())

    def subject_token(self, kid: str = "one", **changes: Any) -> str:  # noqa: ANN401 - claims
        """The issuer's token for the role."""
        now = int(self.sandbox.identity_clock.now().timestamp())
        times = {"iat": now, "nbf": now, "exp": now + 300}
        claims = {"iss": ISSUER, "sub": ROLE, "aud": "lockstep", "jti": "1", **times}
        return signed({"kid": kid, "key": key_named(kid), **claims, **changes})

    def assertion(self, **changes: Any) -> dict[str, str]:  # noqa: ANN401 - claims
        """What a client sends in place of its secret."""
        claims = {"iss": CLIENT, "sub": CLIENT, "aud": IDENTITY, "iat": NOW, "exp": NOW + 300, "jti": "first"}
        token = signed({"kid": "lockstep", "key": key_named("client"), **claims, **changes})
        return {"client_assertion_type": ASSERTION, "client_assertion": token}

    def _post(self, **changes: str | None) -> urllib3.BaseHTTPResponse:
        form = {
            "grant_type": EXCHANGE,
            "requested_token_type": RPST,
            "res_type": "lockstep",
            "subject_token_type": "jwt",
            "public_key": spki(key_named("session")),
            "subject_token": self.subject_token(),
            **changes,
        }
        headers = dict(urllib3.make_headers(basic_auth=self.basic)) if self.basic else {}
        return urllib3.request(
            "POST",
            f"{self.sandbox.endpoint}/oauth2/v1/token",
            body=urlencode({name: value for name, value in form.items() if value is not None}),
            headers={**headers, "content-type": "application/x-www-form-urlencoded"},
            timeout=10.0,
            retries=False,
        )

    def token(self, **changes: str | None) -> str:
        """A token that the domain gives."""
        reply = self._post(**changes)
        assert reply.status == 200, reply.data
        return str(reply.json()["token"])

    def refusal(self, **changes: str | None) -> tuple[int, str]:
        """The status and the code of a refusal, after a look at its form."""
        reply = self._post(**changes)
        assert set(reply.json()) == {"error", "error_description"}, reply.data
        return reply.status, str(reply.json()["error"])


@pytest.fixture
def domain(sandbox: OciSandbox) -> Domain:
    return Domain(sandbox)


def test_a_users_token_does_not_outlive_the_subject_token(domain: Domain) -> None:
    other = ServiceUser("sub eq 'arn:aws:iam::123456789012:role/other'", "other")
    users = (other, ServiceUser(f"sub eq {ROLE}", "lockstep-aws"), ServiceUser("sub eq *", "last"))
    domain.trust.impersonation_service_users = users
    user = domain.sandbox.identity.principal("lockstep-aws")
    claims = claims_of(domain.token(**AS_A_USER))
    assert (claims["sub"], claims["ptype"], claims["exp"]) == (user.ocid, "user", NOW + 300)
    assert domain.refusal(requested_token_type=UPST) == NOT_THE_REQUEST
    assert domain.refusal(**AS_A_USER, rpst_exp="60") == NOT_THE_REQUEST
    domain.trust.impersonation_service_users = (other,)
    assert domain.refusal(**AS_A_USER) == NOT_THE_TOKEN


def test_a_client_proves_itself_before_all_else_and_is_named_by_the_trust(domain: Domain) -> None:
    right = domain.basic
    for basic in (None, f"{CLIENT}:wrong", f"{CLIENT}:", f"other:{SECRET}", CLIENT, f":{SECRET}"):
        domain.basic = basic
        assert domain.refusal(grant_type="password", subject_token="none") == NOT_THE_CLIENT
    domain.basic = right
    assert domain.refusal(**domain.assertion()) == NOT_THE_REQUEST
    assert domain.refusal(grant_type="client_credentials") == (400, "unsupported_grant_type")
    domain.sandbox.domain.new_app("other", secret=SECRET)
    domain.basic = f"other:{SECRET}"
    assert domain.refusal() == (400, "unauthorized_client")


WRONG_ASSERTIONS: list[dict[str, Any]] = [
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
]


def test_an_assertion_takes_the_place_of_the_secret_and_is_good_once(domain: Domain) -> None:
    domain.basic = domain.app.secret = None
    for number, changes in enumerate(WRONG_ASSERTIONS):
        wrong = domain.assertion(**{"jti": f"wrong {number}", **changes})
        assert domain.refusal(**wrong) == NOT_THE_CLIENT, changes
    assert claims_of(domain.token(**domain.assertion()))["sub"] == ROLE
    assert domain.refusal(**domain.assertion()) == NOT_THE_CLIENT
    # A request that fails later uses it up.
    second = domain.assertion(jti="second")
    assert domain.refusal(**second, res_type="other") == NOT_THE_REQUEST
    assert domain.refusal(**second) == NOT_THE_CLIENT


def test_what_is_wrong_with_a_request(domain: Domain) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
    pem = key_named("session").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    wrong: list[dict[str, str | None]] = [
        {"grant_type": None},
        {"requested_token_type": None},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"subject_token_type": None},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        *({"res_type": resource} for resource in (None, "", "other", "Lockstep", "lockstep ")),
        # The session's key is a long RSA key as DER.
        *({"public_key": key} for key in (None, "no key", spki(short), pem.decode())),
    ]
    wrong += [{"rpst_exp": text} for text in ("43201", "0", "1.5", "")]
    for changes in wrong:
        assert domain.refusal(**changes) == NOT_THE_REQUEST, changes
    claims = claims_of(domain.token(rpst_exp="43200"))
    assert (claims["sub"], claims["ptype"], claims["exp"]) == (ROLE, "resource", NOW + 43_200)


WRONG_TOKENS: list[dict[str, Any]] = [
    *({"iss": iss} for iss in ("https://other.example", None)),
    *({"aud": aud} for aud in ("other", None, ["other"])),
    *({"sub": sub} for sub in (None, "")),
    *({"exp": exp} for exp in (NOW, None, "soon", 1e300)),
    {"nbf": NOW + 1},
    *({"iat": iat} for iat in (NOW + 1, None)),
    {"key": key_named("another")},
    {"key": "", "algorithm": "none"},
    {"key": spki(key_named("one")), "algorithm": "HS256"},
    {"algorithm": "RS512"},
    {"kid": "curve", "key": curve_key(), "algorithm": "ES384"},
    {"headers": {"kid": None}},
    {"headers": {"crit": ["b64"]}},
]


def test_what_is_wrong_with_a_subject_token(domain: Domain) -> None:
    unsigned = domain.subject_token().rpartition(".")[0] + "."
    broken = (unsigned, "no token", "", "a.b", "a.b.c", "bnVsbA.bnVsbA.AAAA", "e30=.e30=.AAAA")
    for token in (*(domain.subject_token(**changes) for changes in WRONG_TOKENS), *broken):
        assert domain.refusal(subject_token=token) == NOT_THE_TOKEN, token
    assert domain.token()


def test_keys_are_read_once_an_hour_and_for_a_key_that_is_new(domain: Domain) -> None:
    for _ in range(3):
        domain.token()
    assert domain.reads == 1
    domain.published = ["one", "two"]
    assert domain.token(subject_token=domain.subject_token("two"))
    assert domain.refusal(subject_token=domain.subject_token("three")) == NOT_THE_TOKEN
    assert domain.reads == 3
    domain.sandbox.names.forget(HOST)
    assert domain.token()  # Those that were read go on without the issuer.
    domain.sandbox.clock.advance(timedelta(hours=1))
    assert domain.refusal() == NOT_THE_TOKEN


# Sessions


def session_of(domain: Domain, token: str, key: str = "session") -> "Callable[[], Untyped]":
    """Reads a secret by a session."""
    domain.sandbox.identity.permit(ROLE, "SECRET_READ")
    secret = create_secret(domain.sandbox, f"secret.{len(domain.sandbox.calls.records)}", b"value")
    client = oci.vault.VaultsClient(
        {"region": "eu-frankfurt-1"},
        signer=oci.auth.signers.SecurityTokenSigner(token, key_named(key)),
        service_endpoint=domain.sandbox.endpoint,
        retry_strategy=oci.retry.NoneRetryStrategy(),
        timeout=(10, 10),
    )
    return lambda: client.get_secret(secret)


def test_another_signers_token_and_another_key_open_nothing_and_a_workload_is_not_the_user_of_its_name(
    domain: Domain,
) -> None:
    token = domain.token()
    claims, headers = claims_of(token), jwt.get_unverified_header(token)
    forged = jwt.encode(claims, key_named("session"), algorithm="RS256", headers=headers)
    unsigned = jwt.encode(claims, "", algorithm="none")
    with OciSandbox(SandboxClock.fixed(START)) as other:
        theirs = Domain(other)
        _, of_another_domain = theirs.token(), theirs.token()  # Ids are alike: the first has that of ours.
    for wrong in (forged, unsigned, of_another_domain, domain.subject_token(), "", "x.y.z"):
        assert refusal(session_of(domain, wrong)) == NOT_AUTHENTICATED
    assert session_of(domain, token)()
    assert refusal(session_of(domain, token, "another")) == NOT_AUTHENTICATED
    domain.sandbox.identity.permit("administrator-of-secrets", "SECRET_READ")
    same = domain.token(subject_token=domain.subject_token(sub="administrator-of-secrets"))
    assert refusal(session_of(domain, same)) == NOT_FOUND


# Signatures

CHANGES: "dict[str, Callable[[Untyped], object]]" = {
    "no signature": lambda request: request.headers.pop("authorization"),
    "another body": lambda request: setattr(request, "body", b'{"description": "tamp"}'),
    "another path": lambda request: setattr(request, "url", f"{request.url}x"),
    "another algorithm": lambda request: request.headers.update(
        authorization=request.headers["authorization"].replace("rsa-sha256", "hmac-sha256")
    ),
}
COVERED = ("date", "(request-target)", "host")


def test_a_signature_is_by_the_users_key_and_covers_date_target_host_and_body(case: OciCase) -> None:
    def send(change: str = "", without: str = "", minutes: int = 0, **of: str) -> int:
        """The status of a signed UpdateSecret that is changed after the signature, which leaves a part out."""
        secret = case.create(f"secret.{len(case.sandbox.calls.records)}")
        signer = oci.signer.Signer.from_config({**case.sandbox.config(), "key_file": None, **of})
        covered = [name for name in COVERED if name != without]
        of_body = ["content-length", "content-type", "x-content-sha256"]
        signer.create_signers(signer.api_key, signer.private_key, covered, of_body)
        url, headers = (
            f"{case.sandbox.endpoint}/20180608/secrets/{secret}",
            {"content-type": "application/json"},
        )
        request = requests.Request("PUT", url, headers, data=b'{"description": "mine"}').prepare()
        date = datetime.now(UTC) + timedelta(minutes=minutes)
        request.headers["date"] = format_datetime(date, usegmt=True)
        (signer.without_content_headers if without == "body" else signer)(request)
        if change:
            CHANGES[change](request)
        status: int = requests.Session().send(request, timeout=10).status_code
        return status

    assert [send(), *map(send, CHANGES)] == [200, 401, 401, 401, 401]
    assert {send(without=part) for part in (*COVERED, "body")} == {401}
    assert send(key_content=case.sandbox.new_api_key("other")["key_content"]) == 401
    # A date may be five minutes off.
    assert [send(minutes=minutes) for minutes in (-6, -4, 4, 6)] == [401, 200, 200, 401]


# Names with HTTPS servers of their own, and the reader that reaches nothing else

NAME, OTHER = "issuer.example.com", "other.example.com"
SECONDS_OF_THE_SLOW = 3.5
"""A name that trickles takes longer than that for its answer, and one that is silent too."""
TROUBLES = {
    Trouble.REFUSED: "could not be read",
    Trouble.SILENT: "did not answer within 0.3 s",
    Trouble.SLOW: "did not answer within 0.3 s",
    Trouble.CUT: "could not be read: IncompleteRead",
    Trouble.HUGE: "more than",
    Trouble.WRONG_CERTIFICATE: f"certificate of {NAME} is not valid: Hostname mismatch",
    Trouble.EXPIRED_CERTIFICATE: "is not valid: certificate has expired",
    Trouble.UNKNOWN_AUTHORITY: "is not valid: unable to get local issuer",
    Trouble.REDIRECT: "status 302",
    Trouble.NOT_FOUND: "status 404",
}
UNREADABLE = (
    "https://localhost/",
    "https://[::1]/",
    f"https://{OTHER}/",
    f"http://{NAME}/",
    f"https://{NAME}:443/",
)


def test_only_names_that_are_served_are_read_and_each_trouble_is_told_in_time() -> None:
    with Names() as names:
        names.serve(NAME, lambda target: Reply(200, body=b"x" * int(target[1:])))
        for trouble, text in TROUBLES.items():
            names.troubles[NAME] = trouble
            start = time.monotonic()
            within = 0.3 if trouble in {Trouble.SILENT, Trouble.SLOW} else WITHIN_SECONDS
            with pytest.raises(FetchError, match=text):
                names.fetch(f"https://{NAME}/1", within_seconds=within)
            assert time.monotonic() - start < SECONDS_OF_THE_SLOW - 0.5
            del names.troubles[NAME]
        assert len(names.fetch(f"https://{NAME}/{LIMIT_BYTES}")) == LIMIT_BYTES
        for url in (*UNREADABLE, f"https://{NAME}/{LIMIT_BYTES + 1}"):
            with pytest.raises(FetchError, match=r"does not resolve|URL|more than"):
                names.fetch(url)
