"""What goes wrong on purpose."""

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from tests.emulators.oci.oci_case import OciCase, lost

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
