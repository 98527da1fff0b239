from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.emulators.oci.oci_case import START, OciCase, refused


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


@pytest.fixture
def secret(case: OciCase) -> str:
    """A secret whose versions are: 1 deprecated, 2 deprecated, 3 previous, 4 current, 5 pending."""
    secret = case.create("ring.0")
    for name, stage in (("g2", "CURRENT"), ("g3", "CURRENT"), ("g4", "CURRENT"), ("g5", "PENDING")):
        case.upload(secret, name, stage)
    return secret


@pytest.mark.parametrize(
    ("choice", "content"),
    [
        ({}, "value g4"),
        ({"stage": "CURRENT"}, "value g4"),
        ({"stage": "PENDING"}, "value g5"),
        ({"stage": "LATEST"}, "value g5"),
        ({"stage": "PREVIOUS"}, "value g3"),
        ({"stage": "DEPRECATED"}, "value g2"),
        ({"version_number": 1}, "value g1"),
        ({"secret_version_name": "g5"}, "value g5"),
    ],
)
def test_a_bundle_by_stage_number_or_name(
    case: OciCase, secret: str, choice: dict[str, str | int], content: str
) -> None:
    assert case.content(secret, **choice) == content


def test_a_bundle_by_the_name_of_the_secret(case: OciCase, secret: str) -> None:
    vault = case.sandbox.vault_id
    reply = case.secrets.get_secret_bundle_by_name("ring.0", vault, stage="PREVIOUS")
    assert (reply.data.version_name, reply.data.secret_id) == ("g3", secret)
    for name, where in (("ring.1", vault), ("ring.0", "ocid1.vault.oc1.eu.other")):
        with refused(404, "NotAuthorizedOrNotFound"):
            case.secrets.get_secret_bundle_by_name(name, where)
    _, secrets, _ = case.clients(case.sandbox.new_api_key("nobody", "SECRET_INSPECT"))
    with refused(404, "NotAuthorizedOrNotFound"):
        secrets.get_secret_bundle_by_name("ring.0", vault)


@pytest.mark.parametrize("choice", [{"version_number": 9}, {"secret_version_name": "g9"}])
def test_a_version_that_does_not_exist(case: OciCase, secret: str, choice: dict[str, str | int]) -> None:
    with refused(404, "NotAuthorizedOrNotFound"):
        case.content(secret, **choice)


def test_a_version_that_is_scheduled_for_deletion_cannot_be_read(case: OciCase, secret: str) -> None:
    case.schedule(secret, 1, START + timedelta(days=1))
    with refused(404, "NotAuthorizedOrNotFound"):
        case.content(secret, version_number=1)


def test_reads_lag_behind_management(case: OciCase, secret: str) -> None:
    case.sandbox.vault.behaviour.read_lag = timedelta(seconds=10)
    case.promote(secret, 5)
    case.sandbox.clock.advance(timedelta(seconds=4))
    case.upload(secret, "g6", "PENDING")
    assert case.vaults.get_secret(secret).data.current_version_number == 5
    assert case.content(secret) == "value g4"
    case.sandbox.clock.advance(timedelta(seconds=6))
    assert case.content(secret) == "value g5"
    with refused(404, "NotAuthorizedOrNotFound"):
        case.content(secret, stage="PENDING")
    case.sandbox.clock.advance(timedelta(seconds=4))
    assert case.content(secret, stage="PENDING") == "value g6"


def test_a_new_secret_is_not_readable_at_once(case: OciCase) -> None:
    case.sandbox.vault.behaviour.read_lag = timedelta(seconds=10)
    secret = case.create("ring.1")
    with refused(404, "NotAuthorizedOrNotFound"):
        case.content(secret)
    case.sandbox.clock.advance(timedelta(seconds=10))
    assert case.content(secret) == "value g1"
