"""The event of an audit entry, in the form of OCSF 1.5, which security lakes and SIEMs read without conversion.

Class Account Change (3001), activity Password Change (3); https://schema.ocsf.io/1.5.0/classes/account_change.
Fields without an OCSF attribute are in `unmapped.lockstep`. The event holds names, numbers and outcomes, and no secret
value (protocol I6).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lockstep import __version__
from lockstep.messages import FailedRun, Run

CLASS_UID = 3001
ACTIVITY_PASSWORD_CHANGE, ACTIVITY_OTHER = 3, 99
STATUS_SUCCESS, STATUS_FAILURE = 1, 2
SEVERITY_INFORMATIONAL, SEVERITY_HIGH = 1, 4
PROFILES = ["cloud"]
"""An event has the attribute `cloud` by this profile; https://schema.ocsf.io/1.5.0/profiles/cloud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The fingerprint of the value that is current now.

    Attributes:
        fingerprint: None for a failed run, and where the first store does not hold the value any more.
        key: The signing key that the fingerprint's key follows from; None where it is a MAC of the entry's own key.
    """

    fingerprint: str | None = None
    key: str | None = None


NO_MARK = Mark()


def event_of(request: Run, *, usernames: tuple[str, ...], mark: Mark, now: datetime) -> dict[str, Any]:
    """The event that records one run.

    Args:
        request: What the steps reported.
        usernames: The logins that the credential uses in databases.
        mark: The value's fingerprint.
        now: The time at which the run ended.
    """
    rotation, failed = request.rotation, isinstance(request, FailedRun)
    started_ms, ended_ms = milliseconds(rotation.started_at), milliseconds(now)
    return {
        "activity_id": ACTIVITY_PASSWORD_CHANGE,
        "activity_name": "Password Change",
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS_UID,
        "class_name": "Account Change",
        "type_uid": CLASS_UID * 100 + ACTIVITY_PASSWORD_CHANGE,
        "time": ended_ms,
        "start_time": started_ms,
        "end_time": ended_ms,
        "severity_id": SEVERITY_HIGH if failed else SEVERITY_INFORMATIONAL,
        "status_id": STATUS_FAILURE if failed else STATUS_SUCCESS,
        "status": "Failure" if failed else "Success",
        **({"status_code": request.error} if isinstance(request, FailedRun) else {}),
        "actor": {"app_name": "lockstep", "app_uid": f"lockstep/{rotation.runner}"},
        "user": {
            "name": rotation.credential_id,
            "uid": rotation.credential_id,
            "type": "System",
            "type_id": 3,
        },
        "cloud": {"provider": rotation.runner.upper()},
        "metadata": {
            "version": "1.5.0",
            "uid": rotation.rotation_id,
            "profiles": PROFILES,
            "product": {"name": "Lockstep", "vendor_name": "Lockstep", "version": __version__},
        },
        "unmapped": {"lockstep": _details(request, usernames, mark)},
    }


def other_event(
    activity: str,
    details: Mapping[str, Any],
    *,
    entry_id: str,
    credential_id: str,
    stream: str,
    actor: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """An event of something that is no run: Account Change has no activity for it, so it is Other (99), with a name.

    Args:
        activity: The name.
        details: What Lockstep says of it.
        entry_id: The id of the entry.
        credential_id: The credential that it is about.
        stream: `aws` or `oci`, the cloud in which it is recorded.
        actor: The OCSF actor.
        now: When it was done.
    """
    return {
        "activity_id": ACTIVITY_OTHER,
        "activity_name": activity,
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS_UID,
        "class_name": "Account Change",
        "type_uid": CLASS_UID * 100 + ACTIVITY_OTHER,
        "time": milliseconds(now),
        "severity_id": SEVERITY_INFORMATIONAL,
        "status_id": STATUS_SUCCESS,
        "status": "Success",
        "actor": dict(actor),
        "user": {"name": credential_id, "uid": credential_id, "type": "System", "type_id": 3},
        "cloud": {"provider": stream.upper()},
        "metadata": {
            "version": "1.5.0",
            "uid": entry_id,
            "profiles": PROFILES,
            "product": {"name": "Lockstep", "vendor_name": "Lockstep", "version": __version__},
        },
        "unmapped": {"lockstep": dict(details)},
    }


def _details(request: Run, usernames: tuple[str, ...], mark: Mark) -> dict[str, Any]:
    rotation, claim = request.rotation, request.claim
    return {
        "trigger": rotation.trigger,
        "forced": rotation.force,
        "fence": rotation.fence,
        "kind": claim.kind.value if claim else None,
        "generation": claim.generation if claim else None,
        "base_generation": claim.base_generation if claim else None,
        "adopted_from": request.adopted_from,
        "plan": rotation.plan,
        "revoked_on_purpose": sorted({dead.generation for r in request.revoked for dead in r.dead}),
        "fingerprint": mark.fingerprint,
        "fingerprint_key": mark.key,
        "usernames": list(usernames),
        "databases": {
            d.database: {
                "outcome": d.outcome.value,
                "dead": {str(dead.generation): dead.death.value for dead in d.dead},
                "enrolled": d.enrolled,
                "plaintext": d.plaintext,
            }
            for d in request.databases
        },
        "stores": {s.store: s.version for s in request.stores},
    }


def milliseconds(moment: datetime) -> int:
    """Since the epoch."""
    return round(moment.timestamp() * 1000)
