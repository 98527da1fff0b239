"""Vault's secret management (API 20180608), as strict as the service is known to be, and stricter where it is not.

Everything here happens under the service's lock, which the dispatcher holds for the length of a call.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.clock import SandboxClock
from sandbox.emulators.oci.details import Details
from sandbox.emulators.oci.errors import ApiError, invalid, missing, not_emulated, not_found
from sandbox.emulators.oci.ids import Ids
from sandbox.emulators.oci.secret import (
    Secret,
    SecretState,
    Versions,
    deletion_time,
    promoted,
    scheduled,
    uploaded,
)
from sandbox.emulators.oci.uploads import NAME, first_version, upload
from sandbox.emulators.oci.views import secret_view, version_view
from sandbox.emulators.oci.wire import Reply, json_reply

_CREATE_PERMISSIONS: Final = ("SECRET_CREATE", "VAULT_CREATE_SECRET", "KEY_ENCRYPT", "KEY_DECRYPT")


@dataclass(slots=True)
class VaultBehaviour:
    """Unconfirmed behaviour of the service, to be tried both ways, and its delays.

    Attributes:
        updating_for: How long after each change the secret is UPDATING (CREATING) and refuses others.
        read_lag: How long after a change the read side still shows what was before.
        purge_lateness: How long after its time a scheduled deletion takes place.
        replaced_pending: What becomes of a PENDING version when another is staged.
        lists_deleted: Whether a list shows secrets that are deleted or scheduled for deletion.
        busy_code: The code of the 409 that a secret which is not ACTIVE answers to changes.
        page_size: How many items a list holds where the caller names no limit.
    """

    updating_for: timedelta = timedelta()
    read_lag: timedelta = timedelta()
    purge_lateness: timedelta = timedelta()
    replaced_pending: Literal["DEPRECATED", "PENDING"] = "DEPRECATED"
    lists_deleted: bool = True
    busy_code: str = "IncorrectState"
    page_size: int = 25


@dataclass(slots=True)
class VaultService:
    """The secrets of all vaults."""

    clock: SandboxClock
    ids: Ids
    behaviour: VaultBehaviour = field(default_factory=VaultBehaviour)
    vaults: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _secrets: dict[str, Secret] = field(default_factory=dict, repr=False)

    @property
    def operations(self) -> dict[str, Callable[[Call], Reply]]:
        """What can be called, by the SDK's names."""
        return {
            "create_secret": self._create,
            "get_secret": self._get,
            "list_secrets": self._list,
            "update_secret": self._update,
            "list_secret_versions": self._list_versions,
            "schedule_secret_version_deletion": self._schedule_version_deletion,
            "schedule_secret_deletion": self._schedule_deletion,
            "cancel_secret_deletion": self._cancel_deletion,
        }

    def settled(self, ocid: str, now: datetime) -> Secret | None:
        """A secret after the deletions that are due; for the read side, which shares the lock."""
        secret = self._secrets.get(ocid)
        if secret is not None:
            self._purge(secret, now)
        return secret

    def named(self, name: str, vault_id: str) -> str | None:
        """The OCID of the secret of that name in a vault."""
        return next(
            (
                secret.ocid
                for secret in self._secrets.values()
                if secret.name == name and secret.vault_id == vault_id
            ),
            None,
        )

    def rotate_by_itself(self, name: str) -> None:
        """Switch Vault's own rotation of a secret on, as its console does."""
        secret = next(s for s in self._secrets.values() if s.name == name)
        secret.rotation = {"rotationInterval": "P30D", "isScheduledRotationEnabled": True}

    # ---- secrets

    def _create(self, call: Call) -> Reply:
        details = call.details()
        compartment_id, key_id = details.required_text("compartmentId"), details.required_text("keyId")
        if not call.may(*_CREATE_PERMISSIONS, resource=None, compartment=compartment_id):
            raise not_found()
        name, vault_id = details.required_text("secretName"), details.required_text("vaultId")
        if vault_id not in self.vaults:
            raise not_found()
        if not NAME.fullmatch(name):
            raise invalid("secretName may hold letters, digits, hyphens, underscores and periods")
        # A name stays taken while its secret is pending deletion, and after it was deleted.
        if self.named(name, vault_id) is not None:
            raise invalid("name already exists")
        now = self.clock.now()
        if "enableAutoGeneration" in details:
            raise not_emulated("content that the service makes up")
        first = first_version(details, now)
        secret = Secret(
            self.ids.ocid("vaultsecret"),
            name,
            vault_id,
            compartment_id,
            key_id,
            now,
        )
        state = SecretState("", "ACTIVE", "CREATING", now, (first,))
        self._publish(secret, _described(state, details), now, busy_as="CREATING")
        self._secrets[secret.ocid] = secret
        return self._reply(secret, now)

    def _get(self, call: Call) -> Reply:
        now = self.clock.now()
        return self._reply(self._secret(call, now, "SECRET_READ"), now)

    def _list(self, call: Call) -> Reply:
        query = call.request.query
        if "compartmentId" not in query:
            raise missing("compartmentId")
        if not call.may("SECRET_INSPECT", resource=None, compartment=query["compartmentId"]):
            raise not_found()
        if "sortBy" in query or "sortOrder" in query:
            raise not_emulated("the sorting of ListSecrets")
        now = self.clock.now()
        for secret in self._secrets.values():
            self._purge(secret, now)
        found = [
            secret
            for secret in self._secrets.values()
            if secret.compartment_id == query["compartmentId"]
            and query.get("name") in {None, secret.name}
            and query.get("vaultId") in {None, secret.vault_id}
            and _is_state(query.get("lifecycleState"), secret.state.lifecycle_at(now))
            and (self.behaviour.lists_deleted or secret.state.lifecycle == "ACTIVE")
        ]
        found.sort(key=lambda secret: secret.name)
        return self._paged(call, [secret_view(secret, now) for secret in found])

    def _update(self, call: Call) -> Reply:
        details = call.details()
        now = self.clock.now()
        secret = self._changeable(call, now, "SECRET_UPDATE")
        if sum(part in details for part in ("secretContent", "currentVersionNumber", "secretRules")) > 1:
            raise invalid("secretContent, currentVersionNumber and secretRules cannot be specified together")
        for part in ("secretRules", "rotationConfig", "replicationConfig", "enableAutoGeneration"):
            if part in details:
                raise not_emulated(f"{part} in UpdateSecret")
        state, number = secret.state, details.integer("currentVersionNumber")
        if (content := details.section("secretContent")) is not None:
            new = upload(content, secret.next_number, now)
            versions = uploaded(state.versions, new, replaced_pending=self.behaviour.replaced_pending)
            secret.next_number += 1
            state = replace(state, versions=versions)
        elif number is not None:
            state = replace(state, versions=promoted(state.versions, number))
        self._publish(secret, _described(state, details), now)
        return self._reply(secret, now)

    def _schedule_deletion(self, call: Call) -> Reply:
        now = self.clock.now()
        secret = self._changeable(call, now, "SECRET_DELETE")
        at = deletion_time(call.details().moment("timeOfDeletion"), now)
        self._publish(secret, replace(secret.state, lifecycle="PENDING_DELETION", time_of_deletion=at), now)
        return _empty(secret)

    def _cancel_deletion(self, call: Call) -> Reply:
        now = self.clock.now()
        secret = self._changeable(call, now, "SECRET_DELETE", lifecycle="PENDING_DELETION")
        self._publish(secret, replace(secret.state, lifecycle="ACTIVE", time_of_deletion=None), now)
        return _empty(secret)

    # ---- versions

    def _list_versions(self, call: Call) -> Reply:
        secret = self._secret(call, self.clock.now(), "SECRET_VERSION_INSPECT")
        versions = secret.state.versions
        ordered = versions if call.request.query.get("sortOrder") == "ASC" else reversed(versions)
        return self._paged(call, [version_view(secret, version) for version in ordered])

    def _schedule_version_deletion(self, call: Call) -> Reply:
        now = self.clock.now()
        secret = self._changeable(call, now, "SECRET_VERSION_DELETE", "SECRET_UPDATE")
        at = deletion_time(call.details().moment("timeOfDeletion"), now)
        versions = scheduled(secret.state.versions, _number(call), at)
        self._publish(secret, replace(secret.state, versions=versions), now)
        return _empty(secret)

    # ---- what they share

    def _secret(self, call: Call, now: datetime, *permissions: str) -> Secret:
        secret = self.settled(call.path["secret"], now)
        if secret is None or not call.may(
            *permissions, resource=secret.ocid, compartment=secret.compartment_id
        ):
            raise not_found()
        return secret

    def _changeable(self, call: Call, now: datetime, *permissions: str, lifecycle: str = "ACTIVE") -> Secret:
        secret = self._secret(call, now, *permissions)
        if call.headers.get("if-match", secret.state.etag) != secret.state.etag:
            raise ApiError(412, "NoEtagMatch", "The etag does not match the current etag of the secret.")
        if (state := secret.state.lifecycle_at(now)) != lifecycle:
            raise ApiError(409, self.behaviour.busy_code, f"The secret is {state}, not {lifecycle}.")
        return secret

    def _publish(
        self, secret: Secret, state: SecretState, now: datetime, *, busy_as: str = "UPDATING"
    ) -> None:
        state = replace(
            state, etag=self.ids.etag(), busy_as=busy_as, busy_until=now + self.behaviour.updating_for
        )
        secret.publish(state, visible_at=now + self.behaviour.read_lag)

    def _purge(self, secret: Secret, now: datetime) -> None:
        state, due = secret.state, now - self.behaviour.purge_lateness
        if state.lifecycle == "PENDING_DELETION" and state.time_of_deletion and state.time_of_deletion <= due:
            gone = replace(state, lifecycle="DELETED", versions=())
        elif any(version.time_of_deletion and version.time_of_deletion <= due for version in state.versions):
            gone = replace(state, versions=_kept(state.versions, due))
        else:
            return
        secret.publish(replace(gone, etag=self.ids.etag()), visible_at=now)

    def _reply(self, secret: Secret, now: datetime) -> Reply:
        return json_reply(secret_view(secret, now), {"etag": secret.state.etag})

    def _paged(self, call: Call, items: list[dict[str, object]]) -> Reply:
        return json_reply(*call.page_of(items, self.behaviour.page_size))


def _kept(versions: Versions, due: datetime) -> Versions:
    return tuple(
        version for version in versions if version.time_of_deletion is None or version.time_of_deletion > due
    )


def _described(state: SecretState, details: Details) -> SecretState:
    if "description" in details:
        state = replace(state, description=details.text("description"))
    if "metadata" in details:
        state = replace(state, metadata=details.mapping("metadata"))
    if "freeformTags" in details:
        state = replace(state, freeform_tags=details.mapping("freeformTags"))
    return state


def _number(call: Call) -> int:
    text = call.path["version"]
    if not text.isdecimal():
        raise invalid("secretVersionNumber must be an integer")
    return int(text)


def _is_state(asked_for: str | None, state: str) -> bool:
    # The service takes the states without underscores, against what the SDK documents (oracle/oci-cli issue 337).
    if asked_for is None:
        return True
    if "_" in asked_for:
        raise invalid("query param lifecycleState must be one of the states in camel case")
    return asked_for.upper() == state.replace("_", "")


def _empty(secret: Secret) -> Reply:
    return Reply(200, {"etag": secret.state.etag})
