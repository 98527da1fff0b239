from collections.abc import Iterator

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from sandbox.emulators.oci import CallRecord
from tests.emulators.oci.oci_case import OciCase, lost, refused

PATIENCE_SECONDS = 10


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


def test_a_refusal_repeats_as_often_as_asked(case: OciCase) -> None:
    secret = case.create()
    fault = case.sandbox.faults.refuse("get_secret", status=429, code="TooManyRequests", times=2)
    for _ in range(2):
        with refused(429, "TooManyRequests"):
            case.vaults.get_secret(secret)
    assert case.vaults.get_secret(secret).status == 200
    assert fault.hits == 2


def test_a_fault_affects_only_the_calls_that_it_matches(case: OciCase) -> None:
    one, two = case.create("one"), case.create("two")
    with case.sandbox.faults.refuse(service="secrets", resource=two, status=500, code="Oops", times=None):
        assert case.content(one) == "value g1"
        assert case.vaults.get_secret(two).status == 200
        with refused(500, "Oops"):
            case.content(two)
    assert case.content(two) == "value g1"


def test_a_dropped_request_has_no_effect(case: OciCase) -> None:
    secret = case.create()
    case.sandbox.faults.drop_request("update_secret")
    with lost():
        case.upload(secret, "g2", "PENDING")
    assert sorted(case.stages(secret)) == [1]
    case.upload(secret, "g2", "PENDING")


def test_a_dropped_reply_hides_an_effect(case: OciCase) -> None:
    secret = case.create()
    case.sandbox.faults.drop_reply("update_secret")
    with lost():
        case.upload(secret, "g2", "PENDING")
    assert case.stages(secret)[2] == ["PENDING", "LATEST"]
    with refused(400, "InvalidParameter"):
        case.upload(secret, "g2", "PENDING")


def test_a_hanging_call_never_takes_effect(case: OciCase) -> None:
    secret = case.create()
    impatient, _, _ = case.clients(timeout_seconds=1)
    details = oci.vault.models.UpdateSecretDetails(description="late")
    with case.sandbox.faults.hang("update_secret") as fault:
        with lost():
            impatient.update_secret(secret, details)
        # A busy server may take the call up when its client has left.
        assert fault.struck.wait(PATIENCE_SECONDS)
        assert fault.hits == 1
    assert case.vaults.get_secret(secret).data.description is None


def test_an_outage_affects_one_service(case: OciCase) -> None:
    secret = case.create()
    with case.sandbox.faults.outage("vault"):
        for _ in range(3):
            with lost():
                case.vaults.get_secret(secret)
        assert case.content(secret) == "value g1"
    assert case.vaults.get_secret(secret).status == 200


def test_calls_are_recorded_without_their_contents(case: OciCase) -> None:
    secret = case.create("ring.0")
    vaults, secrets, _ = case.clients(case.sandbox.new_api_key("reader", "SECRET_BUNDLE_READ"))
    secrets.get_secret_bundle(secret)
    with refused(404, "NotAuthorizedOrNotFound"):
        vaults.list_secret_versions(secret)
    case.sandbox.faults.drop_request("get_secret")
    with lost():
        case.vaults.get_secret(secret)
    case.create_bucket()
    case.put("aws/1.json")
    assert case.sandbox.calls.records == (
        CallRecord("vault", "create_secret", "ring.0", "administrator", 200),
        CallRecord("secrets", "get_secret_bundle", secret, "reader", 200),
        CallRecord("vault", "list_secret_versions", secret, "reader", 404),
        CallRecord("vault", "get_secret", secret, None, None),
        CallRecord("objectstorage", "create_bucket", "audit", "administrator", 200),
        CallRecord("objectstorage", "put_object", "audit/aws/1.json", "administrator", 200),
    )
    assert case.sandbox.calls.count(principal="reader") == 2
    assert case.sandbox.calls.count("get_secret_bundle", resource=secret) == 1
    case.sandbox.calls.clear()
    assert case.sandbox.calls.count() == 0


def test_the_hook_is_called_before_and_after_the_effect(case: OciCase) -> None:
    secret = case.create()
    calls: list[tuple[str, str, int]] = []
    peer, _, _ = case.clients()

    def hook(when: str, operation: str, resource: str) -> None:
        if operation == "update_secret" and resource == secret:
            calls.append((when, operation, len(peer.list_secret_versions(secret).data)))

    case.sandbox.on_call = hook
    case.upload(secret, "g2", "PENDING")
    assert calls == [("before", "update_secret", 1), ("after", "update_secret", 2)]


def test_a_restarted_sandbox_has_the_same_port_and_contents(case: OciCase) -> None:
    secret = case.create()
    case.sandbox.stop()
    with lost():
        case.vaults.get_secret(secret)
    case.sandbox.start()
    assert case.content(secret) == "value g1"
