import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandbox.emulators.oci import OciSandbox, SandboxClock
from sandbox.emulators.oci.jwts import jwk_of
from sandbox.emulators.oci.names import Answer, Trouble
from sandbox.emulators.oci.trusts import ServiceUser
from tests.emulators.oci.domain_case import (
    CLIENT,
    HOST,
    ISSUER,
    ROLE,
    SECRET,
    UPST,
    DomainCase,
    claims_of,
    curve_key,
    key_named,
    spki,
    with_hmac,
)
from tests.emulators.oci.oci_case import START

NOT_THE_CLIENT = (401, "invalid_client")
NOT_THE_TOKEN = (400, "invalid_grant")
NOT_THE_REQUEST = (400, "invalid_request")


@pytest.fixture
def case() -> Iterator[DomainCase]:
    with OciSandbox(SandboxClock.fixed(START)) as sandbox:
        yield DomainCase(sandbox)


class TestTheToken:
    def test_a_resource_principals(self, case: DomainCase) -> None:
        claims = claims_of(case.token())
        assert (claims["sub"], claims["ptype"], claims["res_type"]) == (ROLE, "resource", "lockstep")
        assert (claims["iat"], claims["exp"]) == (case.seconds(), case.seconds(3600))
        key = jwt.PyJWK.from_json(claims["jwk"]).key
        assert key == key_named("session").public_key()

    def test_a_users(self, case: DomainCase) -> None:
        case.trust.impersonation_service_users = (ServiceUser(f"sub eq {ROLE}", "lockstep-aws"),)
        claims = claims_of(case.token(requested_token_type=UPST, res_type=None))
        user = case.sandbox.identity.principal("lockstep-aws")
        assert (claims["sub"], claims["ptype"]) == (user.ocid, "user")

    def test_a_user_does_not_outlive_the_subject_token(self, case: DomainCase) -> None:
        case.trust.impersonation_service_users = (ServiceUser("sub eq *", "lockstep-aws"),)
        claims = claims_of(case.token(requested_token_type=UPST, res_type=None))
        assert claims["exp"] == case.seconds(300)
        long = case.subject_token(exp=case.seconds(7200))
        claims = claims_of(case.token(requested_token_type=UPST, res_type=None, subject_token=long))
        assert claims["exp"] == case.seconds(3600)

    def test_a_resource_principal_may_ask_for_a_time(self, case: DomainCase) -> None:
        assert claims_of(case.token(rpst_exp="900"))["exp"] == case.seconds(900)
        assert claims_of(case.token(rpst_exp="43200"))["exp"] == case.seconds(43_200)
        for text in ("43201", "0", "-1", "1.5", ""):
            assert case.refusal(rpst_exp=text) == NOT_THE_REQUEST


class TestTheClient:
    @pytest.mark.parametrize(
        "basic", [None, f"{CLIENT}:wrong", f"{CLIENT}:", f"other:{SECRET}", CLIENT, f":{SECRET}"]
    )
    def test_it_must_prove_itself(self, case: DomainCase, basic: str | None) -> None:
        case.basic = basic
        assert case.refusal() == NOT_THE_CLIENT

    def test_it_comes_before_everything_else(self, case: DomainCase) -> None:
        case.basic = f"{CLIENT}:wrong"
        assert case.refusal(grant_type="password", subject_token="none") == NOT_THE_CLIENT

    def test_an_inactive_app_is_none(self, case: DomainCase) -> None:
        case.app.is_active = False
        assert case.refusal() == NOT_THE_CLIENT

    def test_an_app_that_the_trust_does_not_name(self, case: DomainCase) -> None:
        case.domain.new_app("other", secret=SECRET)
        case.basic = f"other:{SECRET}"
        assert case.refusal() == (400, "unauthorized_client")

    def test_one_way_is_enough(self, case: DomainCase) -> None:
        assert case.refusal(**case.assertion()) == NOT_THE_REQUEST


class TestTheAssertion:
    @pytest.fixture(autouse=True)
    def no_secret(self, case: DomainCase) -> None:
        case.basic = case.app.secret = None

    def test_it_takes_the_place_of_the_secret(self, case: DomainCase) -> None:
        assert claims_of(case.token(**case.assertion()))["sub"] == ROLE

    def test_it_is_good_once(self, case: DomainCase) -> None:
        assert case.token(**case.assertion())
        assert case.refusal(**case.assertion()) == NOT_THE_CLIENT
        assert case.token(**case.assertion(jti="second"))

    def test_it_is_used_up_by_a_request_that_fails_later(self, case: DomainCase) -> None:
        assert case.refusal(**case.assertion(), res_type="other") == NOT_THE_REQUEST
        assert case.refusal(**case.assertion()) == NOT_THE_CLIENT

    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": "other"},
            {"sub": "other"},
            {"sub": None},
            {"aud": "https://identity.oraclecloud.com"},
            {"aud": ISSUER},
            {"aud": ["https://identity.oraclecloud.com/", ISSUER]},
            {"aud": None},
            {"jti": None},
            {"jti": ""},
            {"iat": None},
            {"exp": None},
            {"exp": int(START.timestamp())},
            {"exp": int(START.timestamp()) + 601},
            {"iat": int(START.timestamp()) + 1},
            {"nbf": int(START.timestamp()) + 1},
        ],
    )
    def test_its_claims(self, case: DomainCase, changes: dict[str, Any]) -> None:
        assert case.refusal(**case.assertion(**changes)) == NOT_THE_CLIENT

    def test_it_names_a_certificate_of_the_app(self, case: DomainCase) -> None:
        assert case.refusal(**case.assertion(kid="other")) == NOT_THE_CLIENT

    def test_it_is_signed_by_the_certificates_key(self, case: DomainCase) -> None:
        assert case.refusal(**case.assertion(key=key_named("other"))) == NOT_THE_CLIENT

    def test_it_is_signed_with_rs256(self, case: DomainCase) -> None:
        assert case.refusal(**case.assertion(algorithm="RS512")) == NOT_THE_CLIENT
        assert case.refusal(**case.assertion(algorithm="none", key="")) == NOT_THE_CLIENT
        assert case.refusal(**case.assertion(algorithm="ES384", key=curve_key())) == NOT_THE_CLIENT


class TestTheRequest:
    def test_the_grant(self, case: DomainCase) -> None:
        assert case.refusal(grant_type="client_credentials") == (400, "unsupported_grant_type")
        assert case.refusal(grant_type=None) == NOT_THE_REQUEST

    @pytest.mark.parametrize(
        "changes",
        [
            {"requested_token_type": None},
            {"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"},
            {"subject_token_type": None},
            {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
            {"public_key": None},
            {"public_key": "no key"},
        ],
    )
    def test_its_parameters(self, case: DomainCase, changes: dict[str, str | None]) -> None:
        assert case.refusal(**changes) == NOT_THE_REQUEST

    def test_the_session_key_is_a_long_rsa_key_as_der(self, case: DomainCase) -> None:
        short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
        curve = ec.generate_private_key(ec.SECP256R1()).public_key()
        form = PublicFormat.SubjectPublicKeyInfo
        session = key_named("session").public_key()
        for key in (
            spki(short.public_key()),
            base64.b64encode(curve.public_bytes(Encoding.DER, form)).decode(),
            session.public_bytes(Encoding.PEM, form).decode(),
            base64.b64encode(session.public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode(),
        ):
            assert case.refusal(public_key=key) == NOT_THE_REQUEST

    @pytest.mark.parametrize("resource", [None, "", "other", "Lockstep", "lockstep "])
    def test_the_resource_is_exactly_the_trusts(self, case: DomainCase, resource: str | None) -> None:
        assert case.refusal(res_type=resource) == NOT_THE_REQUEST

    def test_a_user_has_no_resource(self, case: DomainCase) -> None:
        case.trust.impersonation_service_users = (ServiceUser("sub eq *", "lockstep-aws"),)
        assert case.refusal(requested_token_type=UPST) == NOT_THE_REQUEST
        assert case.refusal(requested_token_type=UPST, res_type=None, rpst_exp="60") == NOT_THE_REQUEST


class TestTheSubjectToken:
    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": "https://other.example"},
            {"iss": None},
            {"aud": "other"},
            {"aud": None},
            {"aud": ["other"]},
            {"sub": None},
            {"sub": ""},
            {"exp": int(START.timestamp())},
            {"exp": None},
            {"exp": "soon"},
            {"exp": 1e300},
            {"nbf": int(START.timestamp()) + 1},
            {"iat": int(START.timestamp()) + 1},
            {"iat": None},
        ],
    )
    def test_its_claims(self, case: DomainCase, changes: dict[str, Any]) -> None:
        assert case.refusal(subject_token=case.subject_token(**changes)) == NOT_THE_TOKEN

    def test_one_of_several_audiences(self, case: DomainCase) -> None:
        assert case.token(subject_token=case.subject_token(aud=["other", "lockstep"]))

    def test_its_times_go_by_the_sandboxs_clock(self, case: DomainCase) -> None:
        token = case.subject_token()
        case.sandbox.clock.advance(timedelta(seconds=299))
        assert case.token(subject_token=token)
        case.sandbox.clock.advance(timedelta(seconds=1))
        assert case.refusal(subject_token=token) == NOT_THE_TOKEN

    def test_a_trust_may_allow_for_a_wrong_clock(self, case: DomainCase) -> None:
        early = case.subject_token(iat=case.seconds(30), nbf=case.seconds(30))
        late = case.subject_token(exp=case.seconds(-30))
        assert {case.refusal(subject_token=token) for token in (early, late)} == {NOT_THE_TOKEN}
        case.trust.clock_skew = timedelta(seconds=60)
        assert all(case.token(subject_token=token) for token in (early, late))

    def test_an_inactive_trust_is_none(self, case: DomainCase) -> None:
        case.trust.is_active = False
        assert case.refusal() == NOT_THE_TOKEN

    def test_it_is_signed_by_the_issuers_key(self, case: DomainCase) -> None:
        assert case.refusal(subject_token=case.subject_token(by="another")) == NOT_THE_TOKEN

    def test_it_is_signed_with_rs256(self, case: DomainCase) -> None:
        claims = claims_of(case.subject_token())
        public = key_named("one").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for token in (
            jwt.encode(claims, "", algorithm="none", headers={"kid": "one"}),
            with_hmac(claims, public, "one"),
            jwt.encode(claims, key_named("one"), algorithm="RS512", headers={"kid": "one"}),
            jwt.encode(claims, curve_key(), algorithm="ES384", headers={"kid": "curve"}),
            jwt.encode(claims, key_named("one"), algorithm="RS256"),
            jwt.encode(claims, key_named("one"), algorithm="RS256", headers={"kid": "one", "crit": ["b64"]}),
            _without_signature(case.subject_token()),
            "no token",
            "",
        ):
            assert case.refusal(subject_token=token) == NOT_THE_TOKEN

    def test_whom_a_user_becomes(self, case: DomainCase) -> None:
        case.trust.impersonation_service_users = (
            ServiceUser("sub eq 'arn:aws:iam::123456789012:role/other'", "other"),
            ServiceUser('sub co "role/lockstep/"', "lockstep-aws"),
            ServiceUser("sub eq *", "last"),
        )
        sub = claims_of(case.token(requested_token_type=UPST, res_type=None))["sub"]
        assert sub == case.sandbox.identity.principal("lockstep-aws").ocid
        case.trust.impersonation_service_users = case.trust.impersonation_service_users[:1]
        assert case.refusal(requested_token_type=UPST, res_type=None) == NOT_THE_TOKEN


class TestTheIssuersKeys:
    def test_they_are_read_once_an_hour(self, case: DomainCase) -> None:
        for _ in range(3):
            case.token()
        assert case.reads == 1
        case.sandbox.clock.advance(timedelta(hours=1))
        case.token()
        assert case.reads == 2

    def test_a_new_key_is_looked_for_once(self, case: DomainCase) -> None:
        case.token()
        case.published = ["one", "two"]
        assert case.token(subject_token=case.subject_token(kid="two"))
        assert case.reads == 2
        assert case.refusal(subject_token=case.subject_token(kid="three")) == NOT_THE_TOKEN
        assert case.reads == 3

    def test_a_key_of_another_kind_is_passed_over(self, case: DomainCase) -> None:
        case.published = []
        assert case.refusal() == NOT_THE_TOKEN

    @pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
    def test_they_are_long(self, case: DomainCase) -> None:
        short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
        self.publish(case, jwk_of(short.public_key(), "one"))
        token = jwt.encode(claims_of(case.subject_token()), short, algorithm="RS256", headers={"kid": "one"})
        assert case.refusal(subject_token=token) == NOT_THE_TOKEN

    @pytest.mark.parametrize("purpose", [{"use": "enc"}, {"alg": "RS512"}, {"kty": "oct"}])
    def test_they_are_for_such_signatures(self, case: DomainCase, purpose: dict[str, str]) -> None:
        self.publish(case, jwk_of(key_named("one").public_key(), "one") | purpose)
        assert case.refusal() == NOT_THE_TOKEN

    def publish(self, case: DomainCase, *keys: dict[str, Any]) -> None:
        document = json.dumps({"keys": keys}).encode()
        case.sandbox.names.serve(HOST, lambda _: Answer(200, document))

    @pytest.mark.parametrize(
        "trouble", [Trouble.REFUSED, Trouble.WRONG_CERTIFICATE, Trouble.CUT, Trouble.REDIRECT]
    )
    def test_they_must_be_reached_by_name(self, case: DomainCase, trouble: Trouble) -> None:
        case.sandbox.names.troubles[HOST] = trouble
        assert case.refusal() == NOT_THE_TOKEN
        del case.sandbox.names.troubles[HOST]
        assert case.token()

    def test_those_that_were_read_go_on_without_the_issuer(self, case: DomainCase) -> None:
        case.token()
        case.sandbox.names.forget(HOST)
        assert case.token()


class TestWhatIsNotConfirmed:
    def test_a_domain_may_want_a_secret_beside_an_exchange(self, case: DomainCase) -> None:
        case.domain.behaviour.takes_assertions = False
        assert case.token()
        case.basic = None
        assert case.refusal(**case.assertion()) == NOT_THE_CLIENT

    def test_a_domain_may_not_read_keys_of_several_kinds(self, case: DomainCase) -> None:
        case.domain.behaviour.reads_mixed_keys = False
        assert case.refusal() == NOT_THE_TOKEN


class TestTheClock:
    def test_it_is_real_time_whatever_the_archive_does(self) -> None:
        with OciSandbox() as sandbox:
            case = DomainCase(sandbox)
            token = case.token()
            sandbox.clock.advance(timedelta(days=1))
            assert sandbox.domain.session(token, "vault")
            assert case.token()
            sandbox.identity_clock.advance(timedelta(hours=1))
            assert sandbox.domain.session(token, "vault") is None

    def test_a_reply_is_dated_by_it(self, case: DomainCase) -> None:
        for wrong in (None, "other"):
            dated = parsedate_to_datetime(case.post(**({"res_type": wrong} if wrong else {})).headers["date"])
            assert dated == START


class TestFaults:
    def test_errors_have_oauths_form(self, case: DomainCase) -> None:
        for status in (429, 500):
            case.sandbox.faults.refuse("exchange_token", status=status, code="server_error")
            assert case.refusal() == (status, "server_error")
        assert case.token()

    def test_calls_are_counted_without_what_they_carry(self, case: DomainCase) -> None:
        case.token()
        [record] = case.sandbox.calls.records
        assert (record.service, record.operation, record.status) == ("identitydomain", "exchange_token", 200)


def _without_signature(token: str) -> str:
    return token.rpartition(".")[0] + "."
