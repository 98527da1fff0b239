from collections.abc import Iterator
from datetime import timedelta

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandbox.oci.identity import new_private_key, pem_of
from tests.sandbox.oci_case import START, OciCase, Untyped, refused

UPLOADS = [new_private_key() for _ in range(3)]


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


@pytest.fixture
def runner(case: OciCase) -> dict[str, str]:
    return case.sandbox.new_api_key("runner")


def iam(case: OciCase, config: dict[str, str] | None = None) -> Untyped:
    return case.client("identity.IdentityClient", config)


def upload(case: OciCase, user: str, pem: str, config: dict[str, str] | None = None) -> Untyped:
    details = oci.identity.models.CreateApiKeyDetails(key=pem)
    return iam(case, config).upload_api_key(user, details).data


def works(case: OciCase, config: dict[str, str]) -> bool:
    client = iam(case, config)
    try:
        client.list_api_keys(config["user"])
    except oci.exceptions.ServiceError as error:
        if error.code != "NotAuthenticated":
            raise
        return False
    return True


def config_with(case: OciCase, runner: dict[str, str], private_key: rsa.RSAPrivateKey) -> dict[str, str]:
    """The runner's config, as if it signed with another key of its."""
    other = case.sandbox.identity.new_api_key("elsewhere", private_key)
    return {**other, "user": runner["user"]}


def test_an_uploaded_key_signs_and_a_deleted_one_does_not(case: OciCase, runner: dict[str, str]) -> None:
    new = config_with(case, runner, UPLOADS[0])
    assert not works(case, new)
    case.sandbox.clock.advance(timedelta(days=1))
    shown = upload(case, runner["user"], pem_of(UPLOADS[0].public_key()))
    assert shown.fingerprint == new["fingerprint"]
    assert shown.key_id == "/".join(new[field] for field in ("tenancy", "user", "fingerprint"))
    assert (shown.lifecycle_state, shown.time_created) == ("ACTIVE", START + timedelta(days=1))
    assert works(case, new)
    assert works(case, runner)
    iam(case).delete_api_key(runner["user"], runner["fingerprint"])
    assert works(case, new)
    assert not works(case, runner)


def test_keys_are_listed_with_their_age_wherever_they_came_from(
    case: OciCase, runner: dict[str, str]
) -> None:
    case.sandbox.clock.advance(timedelta(days=1))
    upload(case, runner["user"], pem_of(UPLOADS[0].public_key()))
    listed = iam(case).list_api_keys(runner["user"]).data
    assert [key.time_created for key in listed] == [START, START + timedelta(days=1)]
    assert listed[0].fingerprint == runner["fingerprint"]
    assert listed[1].key_value == pem_of(UPLOADS[0].public_key())
    case.sandbox.identity.delete_api_key(runner)
    assert len(iam(case).list_api_keys(runner["user"]).data) == 1


def test_a_new_key_may_take_its_time(case: OciCase, runner: dict[str, str]) -> None:
    new = config_with(case, runner, UPLOADS[0])
    case.sandbox.clock.advance(timedelta(minutes=5))
    case.sandbox.identity.key_lag = timedelta(minutes=2)
    shown = upload(case, runner["user"], pem_of(UPLOADS[0].public_key()))
    assert (shown.lifecycle_state, works(case, new)) == ("CREATING", False)
    case.sandbox.clock.advance(timedelta(minutes=2))
    listed = iam(case).list_api_keys(runner["user"]).data
    assert ([key.lifecycle_state for key in listed], works(case, new)) == (["ACTIVE"] * 2, True)


def test_a_user_has_at_most_3_keys(case: OciCase, runner: dict[str, str]) -> None:
    first, second, third = (pem_of(key.public_key()) for key in UPLOADS)
    upload(case, runner["user"], first)
    upload(case, runner["user"], second)
    with refused(400, "LimitExceeded"):
        upload(case, runner["user"], third)
    iam(case).delete_api_key(runner["user"], runner["fingerprint"])
    assert upload(case, runner["user"], third).fingerprint


def test_a_key_is_uploaded_once(case: OciCase, runner: dict[str, str]) -> None:
    upload(case, runner["user"], pem_of(UPLOADS[0].public_key()))
    with refused(409, "ApiKeyAlreadyExists"):
        upload(case, runner["user"], pem_of(UPLOADS[0].public_key()))


SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505 - to be refused
CURVE = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.mark.parametrize(
    "pem",
    [
        "no key",
        pem_of(SHORT),
        CURVE.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    ],
)
def test_what_is_no_long_rsa_key_is_refused(case: OciCase, runner: dict[str, str], pem: str) -> None:
    with refused(400, "InvalidParameter"):
        upload(case, runner["user"], pem)


def test_a_user_manages_the_own_keys_without_a_policy(case: OciCase, runner: dict[str, str]) -> None:
    shown = upload(case, runner["user"], pem_of(UPLOADS[0].public_key()), runner)
    iam(case, runner).delete_api_key(runner["user"], shown.fingerprint)
    assert iam(case, runner).get_user(runner["user"]).data.name == "runner"


@pytest.mark.parametrize(
    ("needed", "call"),
    [
        (("USER_INSPECT",), "get_user"),
        (("USER_READ",), "list_api_keys"),
        (("USER_UPDATE", "USER_APIKEY_ADD"), "upload_api_key"),
        (("USER_UPDATE", "USER_APIKEY_REMOVE"), "delete_api_key"),
    ],
)
def test_the_keys_of_others_need_permissions(
    case: OciCase, runner: dict[str, str], needed: tuple[str, ...], call: str
) -> None:
    clerk = case.sandbox.new_api_key("clerk")
    more = {
        "upload_api_key": (oci.identity.models.CreateApiKeyDetails(key=pem_of(UPLOADS[0].public_key())),),
        "delete_api_key": (runner["fingerprint"],),
    }
    for permission in needed:
        with refused(404, "NotAuthorizedOrNotFound"):
            getattr(iam(case, clerk), call)(runner["user"], *more.get(call, ()))
        case.sandbox.identity.permit("clerk", permission)
    assert getattr(iam(case, clerk), call)(runner["user"], *more.get(call, ())).status in {200, 204}


def test_what_is_not_there_is_not_found(case: OciCase, runner: dict[str, str]) -> None:
    with refused(404, "NotAuthorizedOrNotFound"):
        iam(case).get_user("ocid1.user.oc1..nobody")
    with refused(404, "NotAuthorizedOrNotFound"):
        iam(case).delete_api_key(runner["user"], "00:00")
