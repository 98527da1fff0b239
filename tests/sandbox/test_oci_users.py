from collections.abc import Iterator
from datetime import timedelta

import pytest

from sandbox.oci.identity import new_private_key, pem_of
from tests.sandbox.oci_case import START, OciCase, Untyped, refused


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


@pytest.fixture
def runner(case: OciCase) -> dict[str, str]:
    return case.sandbox.new_api_key("runner")


def iam(case: OciCase, config: dict[str, str] | None = None) -> Untyped:
    return case.client("identity.IdentityClient", config)


def test_keys_are_listed_with_their_age(case: OciCase, runner: dict[str, str]) -> None:
    case.sandbox.clock.advance(timedelta(days=1))
    private_key = new_private_key()
    case.sandbox.identity.new_api_key("runner", private_key)
    listed = iam(case).list_api_keys(runner["user"]).data
    assert [key.time_created for key in listed] == [START, START + timedelta(days=1)]
    assert (listed[0].fingerprint, listed[0].lifecycle_state) == (runner["fingerprint"], "ACTIVE")
    assert listed[1].key_value == pem_of(private_key.public_key())
    case.sandbox.identity.delete_api_key(runner)
    assert len(iam(case).list_api_keys(runner["user"]).data) == 1


def test_a_user_lists_the_own_keys_without_a_policy_and_those_of_others_with_one(
    case: OciCase, runner: dict[str, str]
) -> None:
    assert len(iam(case, runner).list_api_keys(runner["user"]).data) == 1
    clerk = case.sandbox.new_api_key("clerk")
    with refused(404, "NotAuthorizedOrNotFound"):
        iam(case, clerk).list_api_keys(runner["user"])
    case.sandbox.identity.permit("clerk", "USER_READ")
    assert len(iam(case, clerk).list_api_keys(runner["user"]).data) == 1


def test_a_user_that_is_not_there_is_not_found(case: OciCase) -> None:
    with refused(404, "NotAuthorizedOrNotFound"):
        iam(case).list_api_keys("ocid1.user.oc1..nobody")
