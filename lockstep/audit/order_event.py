"""The event of an operator's order, in the form of OCSF 1.5 (see `lockstep.audit.event`).

The fields of the order are in `unmapped.lockstep`. It holds no secret value (protocol I6).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lockstep.audit.event import other_event


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
    return other_event(
        f"Order: {name}",
        {"order": name, **details},
        entry_id=entry_id,
        credential_id=credential_id,
        stream=stream,
        actor={"app_name": "lockstep", "app_uid": "lockstep/cli", "user": {"name": who, "uid": who}},
        now=now,
    )
