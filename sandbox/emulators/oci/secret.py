"""A Vault secret: its versions and their stages, and the two caps that decide how often it can be rotated.

Stages (the SDK's `SecretVersion.stages`): the newest upload is LATEST; one version is CURRENT; the one before it
PREVIOUS; a staged one PENDING; all others DEPRECATED, and only those can be scheduled for deletion.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from sandbox.emulators.oci.clock import rfc3339
from sandbox.emulators.oci.errors import ApiError, invalid

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
