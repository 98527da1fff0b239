"""What goes wrong on purpose, the log of calls, and the life of the server."""

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from sandbox.emulators.oci import CallRecord
from tests.emulators.oci.oci_case import OciCase, lost, refused

PATIENCE_SECONDS = 10


def test_a_hanging_call_never_takes_effect(case: OciCase) -> None:
    secret = case.create()
    impatient, _, _ = case.clients(timeout_seconds=1)
    details = oci.vault.models.UpdateSecretDetails(description="late")
    with case.sandbox.faults.hang("update_secret") as fault:
        with lost():
            impatient.update_secret(secret, details)
        # A busy server may take the call up when its client has left.
        assert fault.struck.wait(PATIENCE_SECONDS)
    assert case.vaults.get_secret(secret).data.description is None


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
