"""Vault's secrets: their versions, their management (API 20180608) and their retrieval (API 20190301).

As strict as the service is known to be, and stricter where it is not. Stages (the SDK's `SecretVersion.stages`): the
newest upload is LATEST; one version is CURRENT; the one before it PREVIOUS; a staged one PENDING; all others
DEPRECATED, and only those can be scheduled for deletion. Two caps decide how often a secret can be rotated.

Everything here happens under the service's lock, which the dispatcher holds for the length of a call.
"""

import base64
import binascii
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.clock import Ids, SandboxClock, rfc3339
from sandbox.emulators.oci.errors import ApiError, invalid, missing, not_emulated, not_found
from sandbox.emulators.oci.wire import Details, Reply, json_reply

# A Vault secret: its versions and their stages, and the two caps that decide how often it can be rotated.
Stage = Literal["CURRENT", "PENDING", "PREVIOUS", "DEPRECATED"]

# "Secret Versions", Oracle's Secret Management documentation: 30 in active use and 30 pending deletion per secret.
MAX_IN_USE: Final = 30
MAX_PENDING_DELETION: Final = 30
SHORTEST_WAIT: Final = timedelta(days=1)
LONGEST_WAIT: Final = timedelta(days=30)

# The newest, and for stale reads the one before.
_KEPT_STATES: Final = 2
_ON_PROMOTION: Final[Mapping[Stage, Stage]] = {"CURRENT": "PREVIOUS", "PREVIOUS": "DEPRECATED"}


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `content` is base64, as it was uploaded, and is not shown."""

    number: int
    name: str | None
    content: str = field(repr=False)
    stage: Stage
    is_latest: bool
    time_created: datetime
    time_of_deletion: datetime | None = None

    @property
    def stages(self) -> list[str]:
        """All its stages, as the API lists them."""
        return [self.stage, "LATEST"] if self.is_latest else [self.stage]

    @property
    def is_pending_deletion(self) -> bool:
        """Whether its deletion is scheduled."""
        return self.time_of_deletion is not None


Versions = tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class SecretState:
    """All of a secret that changes.

    Attributes:
        etag: Another one after each change.
        lifecycle: Its state once `busy_until` has passed.
        busy_as: CREATING or UPDATING, until `busy_until`.
        versions: By number, ascending; those that were purged are gone.
    """

    etag: str
    lifecycle: str
    busy_as: str
    busy_until: datetime
    versions: Versions
    description: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    freeform_tags: Mapping[str, object] = field(default_factory=dict)
    time_of_deletion: datetime | None = None

    def lifecycle_at(self, now: datetime) -> str:
        """The lifecycle state that the API shows."""
        return self.busy_as if now < self.busy_until else self.lifecycle


@dataclass(slots=True)
class Secret:
    """A secret: its fixed properties, and the published state of those that change."""

    ocid: str
    name: str
    vault_id: str
    compartment_id: str
    key_id: str
    time_created: datetime
    next_number: int = 2
    rotation: Mapping[str, object] | None = None
    _published: list[tuple[datetime, SecretState]] = field(default_factory=list, repr=False)

    @property
    def state(self) -> SecretState:
        """What management shows."""
        return self._published[-1][1]

    def publish(self, state: SecretState, *, visible_at: datetime) -> None:
        """Change the secret now; the read side shows it from `visible_at` on, in the order of the changes."""
        if self._published:
            visible_at = max(visible_at, self._published[-1][0])
        self._published.append((visible_at, state))

    def seen(self, now: datetime) -> SecretState | None:
        """What the read side shows; None where it does not know the secret yet."""
        while len(self._published) > _KEPT_STATES and self._published[1][0] <= now:
            del self._published[0]
        return next((state for at, state in reversed(self._published) if at <= now), None)


def uploaded(versions: Versions, new: Version, *, replaced_pending: Stage) -> Versions:
    """The versions after an upload with stage CURRENT or PENDING.

    Args:
        versions: Those so far.
        new: The upload.
        replaced_pending: What becomes of a PENDING version when another is staged; not documented.
    """
    if new.name is not None and any(version.name == new.name for version in versions):
        raise invalid("name already exists")
    if sum(not version.is_pending_deletion for version in versions) >= MAX_IN_USE:
        raise ApiError(400, "LimitExceeded", f"a secret holds at most {MAX_IN_USE} versions in use")
    others = tuple(replace(version, is_latest=False) for version in versions)
    if new.stage == "CURRENT":
        others = tuple(_shifted(version) for version in others)
    else:
        others = tuple(
            replace(version, stage=replaced_pending) if version.stage == "PENDING" else version
            for version in others
        )
    return (*others, new)


def promoted(versions: Versions, number: int) -> Versions:
    """The versions after one of them was made current."""
    chosen = find(versions, number)
    if chosen is None or chosen.is_pending_deletion:
        raise invalid("currentVersionNumber names no version in use")
    if chosen.stage == "CURRENT":
        raise invalid("currentVersionNumber is current already")
    return tuple(
        replace(version, stage="CURRENT") if version is chosen else _shifted(version) for version in versions
    )


def scheduled(versions: Versions, number: int, at: datetime) -> Versions:
    """The versions after the deletion of a deprecated one was scheduled."""
    chosen = find(versions, number)
    if chosen is None or chosen.stage != "DEPRECATED":
        raise invalid("only a version marked DEPRECATED can be scheduled for deletion")
    if chosen.is_pending_deletion:
        raise ApiError(409, "IncorrectState", "the version is pending deletion already")
    if sum(version.is_pending_deletion for version in versions) >= MAX_PENDING_DELETION:
        raise ApiError(
            400, "LimitExceeded", f"a secret holds at most {MAX_PENDING_DELETION} pending deletion"
        )
    return tuple(
        replace(version, time_of_deletion=at) if version is chosen else version for version in versions
    )


def deletion_time(asked_for: datetime | None, now: datetime) -> datetime:
    """When a deletion takes place: 1 to 30 days ahead, 30 where none is asked for."""
    if asked_for is None:
        return now + LONGEST_WAIT
    if not now + SHORTEST_WAIT <= asked_for <= now + LONGEST_WAIT:
        raise invalid(
            f"timeOfDeletion must lie between {rfc3339(now + SHORTEST_WAIT)} and {rfc3339(now + LONGEST_WAIT)}"
        )
    return asked_for


def find(versions: Versions, number: int) -> Version | None:
    """The version of that number."""
    return next((version for version in versions if version.number == number), None)


def _shifted(version: Version) -> Version:
    stage = _ON_PROMOTION.get(version.stage)
    return version if stage is None else replace(version, stage=stage)


# What a caller uploads into a secret, checked.
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def first_version(details: Details, now: datetime) -> Version:
    """The version that a secret is created with; it is always current."""
    content = details.section("secretContent")
    if content is None:
        raise missing("secretContent")
    first = upload(content, 1, now)
    if first.stage != "CURRENT":
        raise invalid("stage must be CURRENT when a secret is created")
    return first


def upload(content: Details, number: int, now: datetime) -> Version:
    """The version that `secretContent` asks for."""
    if content.required_text("contentType") != "BASE64":
        raise invalid("contentType must be BASE64")
    text, name = content.required_text("content"), content.text("name")
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise invalid("content must be base64") from None
    if name is not None and not NAME.fullmatch(name):
        raise invalid("name may hold letters, digits, hyphens, underscores and periods")
    stage = content.text("stage") or "CURRENT"
    if stage not in {"CURRENT", "PENDING"}:
        raise invalid("stage must be CURRENT or PENDING")
    staged: Stage = "PENDING" if stage == "PENDING" else "CURRENT"
    return Version(number, name, text, staged, is_latest=True, time_created=now)


# How Vault's two APIs show secrets and versions as JSON; only a bundle holds content.
def secret_view(secret: Secret, now: datetime) -> dict[str, object]:
    """A secret as management shows it."""
    state = secret.state
    current = next((version.number for version in state.versions if version.stage == "CURRENT"), None)
    return {
        "id": secret.ocid,
        "secretName": secret.name,
        "compartmentId": secret.compartment_id,
        "vaultId": secret.vault_id,
        "keyId": secret.key_id,
        "currentVersionNumber": current,
        "description": state.description,
        "metadata": state.metadata,
        "rotationConfig": secret.rotation,
        "freeformTags": state.freeform_tags,
        "lifecycleState": state.lifecycle_at(now),
        "timeCreated": rfc3339(secret.time_created),
        "timeOfDeletion": state.time_of_deletion and rfc3339(state.time_of_deletion),
    }


def version_view(secret: Secret, version: Version) -> dict[str, object]:
    """A version as management shows it."""
    return {
        "secretId": secret.ocid,
        "versionNumber": version.number,
        "name": version.name,
        "contentType": "BASE64",
        "stages": version.stages,
        "timeCreated": rfc3339(version.time_created),
        "timeOfDeletion": version.time_of_deletion and rfc3339(version.time_of_deletion),
    }


def bundle_view(secret: Secret, state: SecretState, version: Version) -> dict[str, object]:
    """A version with its content."""
    shown = version_view(secret, version)
    name, _ = shown.pop("name"), shown.pop("contentType")
    return {
        **shown,
        "versionName": name,
        "metadata": state.metadata,
        "secretBundleContent": {"contentType": "BASE64", "content": version.content},
    }


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
        page_size: How many items a list holds where the caller names no limit.
    """

    updating_for: timedelta = timedelta()
    read_lag: timedelta = timedelta()
    purge_lateness: timedelta = timedelta()
    replaced_pending: Literal["DEPRECATED", "PENDING"] = "DEPRECATED"
    lists_deleted: bool = True
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

    def create_secret(self, call: Call) -> Reply:
        """Serve CreateSecret."""
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
        secret = Secret(self.ids.ocid("vaultsecret"), name, vault_id, compartment_id, key_id, now)
        state = SecretState("", "ACTIVE", "CREATING", now, (first,))
        self._publish(secret, _described(state, details), now, busy_as="CREATING")
        self._secrets[secret.ocid] = secret
        return self._reply(secret, now)

    def get_secret(self, call: Call) -> Reply:
        """Serve GetSecret."""
        now = self.clock.now()
        return self._reply(self._secret(call, now, "SECRET_READ"), now)

    def list_secrets(self, call: Call) -> Reply:
        """Serve ListSecrets."""
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

    def update_secret(self, call: Call) -> Reply:
        """Serve UpdateSecret."""
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

    def schedule_secret_deletion(self, call: Call) -> Reply:
        """Serve ScheduleSecretDeletion."""
        now = self.clock.now()
        secret = self._changeable(call, now, "SECRET_DELETE")
        at = deletion_time(call.details().moment("timeOfDeletion"), now)
        self._publish(secret, replace(secret.state, lifecycle="PENDING_DELETION", time_of_deletion=at), now)
        return _empty(secret)

    def cancel_secret_deletion(self, call: Call) -> Reply:
        """Serve CancelSecretDeletion."""
        now = self.clock.now()
        secret = self._changeable(call, now, "SECRET_DELETE", lifecycle="PENDING_DELETION")
        self._publish(secret, replace(secret.state, lifecycle="ACTIVE", time_of_deletion=None), now)
        return _empty(secret)

    # ---- versions

    def list_secret_versions(self, call: Call) -> Reply:
        """Serve ListSecretVersions."""
        secret = self._secret(call, self.clock.now(), "SECRET_VERSION_INSPECT")
        versions = secret.state.versions
        ordered = versions if call.request.query.get("sortOrder") == "ASC" else reversed(versions)
        return self._paged(call, [version_view(secret, version) for version in ordered])

    def schedule_secret_version_deletion(self, call: Call) -> Reply:
        """Serve ScheduleSecretVersionDeletion."""
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
            raise ApiError(409, "IncorrectState", f"The secret is {state}, not {lifecycle}.")
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


# Vault's secret retrieval (API 20190301): another service than management, and behind it in time.
_STAGES: Final = frozenset({"CURRENT", "PENDING", "LATEST", "PREVIOUS", "DEPRECATED"})
_CHOICES: Final = ("stage", "versionNumber", "secretVersionName")


@dataclass(frozen=True, slots=True)
class RetrievalService:
    """Reads what management has published, after its lag."""

    vault: VaultService

    def get_secret_bundle(self, call: Call) -> Reply:
        """Serve GetSecretBundle."""
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
