"""The two limits of a secret: 30 versions in use, and 30 pending deletion."""

from collections.abc import Iterator

import pytest

from tests.emulators.oci.oci_case import OciCase, refused


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


def test_a_secret_has_at_most_30_versions_in_use(case: OciCase) -> None:
    secret = case.create()
    for number in range(2, 31):
        case.upload(secret, f"g{number}")
    with refused(400, "LimitExceeded"):
        case.upload(secret, "g31")
    case.schedule(secret, 1, None)
    case.upload(secret, "g31")


def test_a_secret_has_at_most_30_versions_pending_deletion(case: OciCase) -> None:
    secret = case.create()
    for number in range(2, 34):
        case.upload(secret, f"g{number}")
        if (deprecated := number - 3) > 0:
            case.schedule(secret, deprecated, None)
    case.upload(secret, "g34")
    with refused(400, "LimitExceeded"):
        case.schedule(secret, 31, None)
