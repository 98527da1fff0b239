"""The event of an operator's order, in the form of OCSF 1.5 (see `lockstep.audit.event`).

Class Account Change (3001) has no activity for an order, so it is Other (99), with the order's name. The fields of the
order are in `unmapped.lockstep`. It holds names, numbers and digests, and no secret value (protocol I6).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lockstep import __version__
from lockstep.audit.event import CLASS_UID, PROFILES, SEVERITY_INFORMATIONAL, STATUS_SUCCESS

ACTIVITY_OTHER = 99


def event_of_order(
    name: str,
    details: Mapping[str, Any],
    *,
    entry_id: str,
    credential_id: str,
    stream: str,
    who: str,
    now: datetime,
) -> dict[str, Any]:
    """The event that records an order.

    Args:
        name: The order's name.
        details: Its fields.
        entry_id: The id of the order.
        credential_id: The credential that it is for.
        stream: `aws` or `oci`, the cloud in which it was recorded.
        who: The cloud's name of the identity that gave it.
        now: When it was given.
    """
    at = round(now.timestamp() * 1000)
    return {
        "activity_id": ACTIVITY_OTHER,
        "activity_name": f"Order: {name}",
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS_UID,
        "class_name": "Account Change",
        "type_uid": CLASS_UID * 100 + ACTIVITY_OTHER,
        "time": at,
        "severity_id": SEVERITY_INFORMATIONAL,
        "status_id": STATUS_SUCCESS,
        "status": "Success",
        "actor": {"app_name": "lockstep", "app_uid": "lockstep/cli", "user": {"name": who, "uid": who}},
        "user": {"name": credential_id, "uid": credential_id, "type": "System", "type_id": 3},
        "cloud": {"provider": stream.upper()},
        "metadata": {
            "version": "1.5.0",
            "uid": entry_id,
            "profiles": PROFILES,
            "product": {"name": "Lockstep", "vendor_name": "Lockstep", "version": __version__},
        },
        "unmapped": {"lockstep": {"order": name, **details}},
    }
