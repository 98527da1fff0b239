"""Vault's secret retrieval (API 20190301): another service than management, and behind it in time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.errors import invalid, not_found
from sandbox.emulators.oci.secret import Secret, SecretState, Version
from sandbox.emulators.oci.vault import VaultService
from sandbox.emulators.oci.views import bundle_view
from sandbox.emulators.oci.wire import Reply, json_reply

_STAGES: Final = frozenset({"CURRENT", "PENDING", "LATEST", "PREVIOUS", "DEPRECATED"})
_CHOICES: Final = ("stage", "versionNumber", "secretVersionName")


@dataclass(frozen=True, slots=True)
class RetrievalService:
    """Reads what management has published, after its lag."""

    vault: VaultService

    @property
    def operations(self) -> dict[str, Callable[[Call], Reply]]:
        """What can be called, by the SDK's names."""
        return {"get_secret_bundle": self._get}

    def _get(self, call: Call) -> Reply:
        secret, state = self._seen(call, call.path["secret"], self.vault.clock.now())
        wanted = _wanted(call)
        chosen = [v for v in state.versions if wanted(v) and not v.is_pending_deletion]
        if not chosen:
            raise not_found()
        return json_reply(bundle_view(secret, state, chosen[-1]), {"etag": state.etag})

    def _seen(self, call: Call, ocid: str, now: datetime) -> tuple[Secret, SecretState]:
        secret = self.vault.settled(ocid, now)
        if secret is None or not call.may(
            "SECRET_BUNDLE_READ", resource=ocid, compartment=secret.compartment_id
        ):
            raise not_found()
        state = secret.seen(now)
        # A secret that is pending deletion is gone for its readers at once.
        if state is None or state.lifecycle != "ACTIVE":
            raise not_found()
        return secret, state


def _wanted(call: Call) -> Callable[[Version], bool]:
    query = call.request.query
    choices = {name: query[name] for name in _CHOICES if name in query}
    if len(choices) > 1:
        raise invalid("stage, versionNumber and secretVersionName exclude each other")
    if "versionNumber" in choices:
        return lambda version: str(version.number) == choices["versionNumber"]
    if "secretVersionName" in choices:
        return lambda version: version.name == choices["secretVersionName"]
    stage = choices.get("stage", "CURRENT")
    if stage not in _STAGES:
        raise invalid(f"stage must be one of {', '.join(sorted(_STAGES))}")
    return lambda version: stage in version.stages
